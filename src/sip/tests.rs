mod orders;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use sipx_sip::{Limits, Message, Method, Request, Response, TransactionKey, Uri, parse_datagram};

use super::config::SipTimers;
use super::dialog::{Out, Timer};
use super::event::{By, Dial, DialogId, Failure, SipCommand, SipEvent, Transport};
use super::message::{self, Own};
use super::net::{self, Hop, Name, Way};
use super::session::Dice;
use super::uac::{Beginning, Uac};
use super::uas::{Birth, Uas};
use crate::model::{Pii, limits};
use crate::trunk::SessionRules;

#[test]
fn a_waiting_call_is_told_every_minute_that_it_still_waits() {
    let (mut uas, out) = invited();
    assert_eq!(statuses(&out), [100]);
    assert_eq!(armed(&out, Timer::Ring), Some(Duration::from_secs(60)));

    let mut out = Vec::new();
    uas.on_timer(Timer::Ring, &mut out);
    assert_eq!(statuses(&out), [100]);
    uas.on_command(SipCommand::Ring, &mut out);
    out.clear();
    uas.on_timer(Timer::Ring, &mut out);

    assert_eq!(statuses(&out), [180]);
    assert_eq!(armed(&out, Timer::Ring), Some(limits::SIP_RING_REPEAT));
}

#[test]
fn a_status_that_refuses_nothing_becomes_a_server_error() {
    for status in [0, 100, 200, 299, 700] {
        let (mut uas, _) = invited();
        let mut out = Vec::new();
        let command = SipCommand::Reject { status, reason: None, retry_after_s: None, warning: None };
        uas.on_command(command, &mut out);

        assert_eq!(statuses(&out), [500]);
    }
}

#[test]
fn a_refused_call_is_remembered_for_a_while_and_then_forgotten() {
    let (mut uas, _) = invited();
    let mut out = Vec::new();
    uas.on_command(SipCommand::HangUp { cause: Some(21) }, &mut out);
    assert_eq!(statuses(&out), [480]);
    assert_eq!(armed(&out, Timer::Linger), Some(Duration::from_secs(32)));
    assert!(matches!(told(&out)[..], [SipEvent::Ended { by: By::Us, cause: Some(21), .. }]));

    out.clear();
    uas.on_command(SipCommand::Answer { sdp: SDP.to_owned() }, &mut out);
    uas.on_command(SipCommand::HangUp { cause: None }, &mut out);
    assert!(out.is_empty());
    uas.on_timer(Timer::Linger, &mut out);

    assert!(matches!(out[..], [Out::Over]));
}

#[test]
fn every_state_of_a_call_survives_every_timer_and_command() {
    // Nothing may be told twice, whatever comes in whatever order.
    for script in 0..4_usize.pow(6) {
        let (mut uas, _) = invited();
        let mut out = Vec::new();
        for step in 0..6 {
            match script / 4_usize.pow(step) % 4 {
                0 => uas.on_command(SipCommand::Answer { sdp: SDP.to_owned() }, &mut out),
                1 => uas.on_command(SipCommand::HangUp { cause: None }, &mut out),
                2 => uas.on_timer(Timer::Patience, &mut out),
                _ => {
                    let ack = request(&INVITE.replace("INVITE", "ACK"));
                    uas.on_ack(&ack, &mut out);
                }
            }
        }
        let last = told(&out).iter().filter(|event| !matches!(event, SipEvent::Confirmed { .. })).count();
        assert!(last <= 1, "script {script}: {out:?}");
        let finals = statuses(&out).iter().filter(|status| **status >= 200).count();
        assert!(finals <= 1, "script {script}");
    }
}

#[test]
fn a_canceled_call_that_gets_no_answer_is_given_up() {
    let (mut uac, invite) = dialled();
    let mut out = Vec::new();
    uac.on_response(&answer(&invite, 180, "bob"), &mut out);
    uac.on_command(SipCommand::HangUp { cause: None }, &mut out);
    assert!(out.iter().any(|out| matches!(out, Out::Cancel(None))));
    assert_eq!(armed(&out, Timer::Patience), Some(Duration::from_secs(32)));

    out.clear();
    uac.on_timer(Timer::Patience, &mut out);

    assert!(matches!(out[..], [Out::Over]));
}

#[test]
fn a_call_that_was_hung_up_fails_in_silence() {
    for failure in [Failure::Timeout, Failure::Transport] {
        let (mut uac, _) = dialled();
        let mut out = Vec::new();
        uac.on_command(SipCommand::HangUp { cause: None }, &mut out);
        uac.on_command(SipCommand::HangUp { cause: None }, &mut out);
        uac.on_failure(failure, &mut out);
        uac.on_invite_over(&mut out);

        assert!(matches!(told(&out)[..], [SipEvent::Ended { by: By::Us, .. }]));
        assert_eq!(out.iter().filter(|out| matches!(out, Out::Over)).count(), 1);
    }
}

#[test]
fn surplus_answers_are_sent_home_up_to_a_bound() {
    let (mut uac, invite) = dialled();
    let mut out = Vec::new();
    for n in 0..100 {
        uac.on_response(&answer(&invite, 200, &format!("fork{n}")), &mut out);
    }

    let goodbyes = goodbyes(&out);
    assert_eq!(goodbyes, limits::SIP_FORKS_MAX);
}

#[test]
fn every_order_of_answers_and_commands_tells_one_ending() {
    for script in 0..5_usize.pow(6) {
        let (mut uac, invite) = dialled();
        let mut out = Vec::new();
        for step in 0..6 {
            match script / 5_usize.pow(step) % 5 {
                0 => uac.on_response(&answer(&invite, 180, "bob"), &mut out),
                1 => uac.on_response(&answer(&invite, 200, "bob"), &mut out),
                2 => uac.on_response(&answer(&invite, 486, "bob"), &mut out),
                3 => uac.on_command(SipCommand::HangUp { cause: None }, &mut out),
                _ => uac.on_invite_over(&mut out),
            }
        }
        let ends =
            told(&out).iter().filter(|event| matches!(event, SipEvent::Failed { .. } | SipEvent::Ended { .. })).count();
        assert!(ends <= 1, "script {script}: {out:?}");
        assert!(out.iter().filter(|out| matches!(out, Out::Cancel(_))).count() <= 1, "script {script}");
        assert!(goodbyes(&out) <= 1, "script {script}");
    }
}

#[test]
fn uris_lead_somewhere_or_nowhere() {
    let way = |text: &str| net::way(&Uri::parse(text.to_owned().into_bytes().into()).unwrap(), Transport::Udp);
    let known = |addr: &str, transport| Way::Known(Hop::new(addr.parse().unwrap(), transport));

    assert_eq!(way("sip:a@192.0.2.1"), known("192.0.2.1:5060", Transport::Udp));
    assert_eq!(way("sip:192.0.2.1:5070;transport=TCP;lr"), known("192.0.2.1:5070", Transport::Tcp));
    assert_eq!(way("sip:a@[2001:db8::1]"), known("[2001:db8::1]:5060", Transport::Udp));
    assert_eq!(way("sip:a@192.0.2.1;transport=tls"), known("192.0.2.1:5061", Transport::Tls));
    assert_eq!(way("sips:a@192.0.2.1;transport=tcp"), known("192.0.2.1:5061", Transport::Tls));
    let name = |transport, is_secure| {
        let host = "carrier.example".to_owned();
        Way::Named(Name { host, port: None, transport, default: Transport::Udp, is_secure })
    };
    assert_eq!(way("sip:a@Carrier.Example;transport=udp"), name(Some(Transport::Udp), false));
    assert_eq!(way("sip:a@carrier.example"), name(None, false));
    assert_eq!(way("sips:a@carrier.example"), name(Some(Transport::Tls), true));
    for text in [
        "sips:a@192.0.2.1;transport=udp",
        "sip:a@192.0.2.1;transport=ws",
        "sip:a@192.0.2.1;transport=sctp",
        "tel:+4412",
    ] {
        assert_eq!(way(text), Way::Nowhere, "{text}");
    }
}

#[test]
fn an_address_is_hidden_only_behind_a_nat() {
    let hidden = |named: &str, met: &str| net::is_hidden(ip(named), ip(met));

    assert!(hidden("192.168.1.20", "198.51.100.7"));
    assert!(hidden("10.0.0.1", "127.0.0.1"));
    assert!(hidden("fd00::1", "2001:db8::1"));
    assert!(!hidden("10.0.0.9", "10.0.0.5"));
    assert!(!hidden("198.51.100.9", "198.51.100.7"));
    assert!(!hidden("127.0.0.1", "127.0.0.1"));
}

#[test]
fn large_requests_try_tcp_first() {
    let hop = Hop::new("192.0.2.1:5060".parse().unwrap(), Transport::Udp);
    let small = request(INVITE);
    let large = request(&INVITE.replace("Max-Forwards", &format!("X-Long: {}\r\nMax-Forwards", "x".repeat(1300))));

    assert_eq!(net::hops(&small, hop.clone()), vec![hop.clone()]);
    assert_eq!(net::hops(&large, hop.clone()), [Hop { transport: Transport::Tcp, ..hop.clone() }, hop]);
}

#[test]
fn causes_and_delays_are_read_where_they_stand() {
    let with = |line: &str| request(&INVITE.replace("Max-Forwards: 70", line)).headers;

    assert_eq!(message::q850(&with("Reason: SIP;cause=480, Q.850;cause=19;text=\"no, sir\"")), Some(19));
    assert_eq!(message::q850(&with("Reason: Q.850;cause=300")), None);
    assert_eq!(message::q850(&with("Reason: nonsense")), None);
    assert!(message::answered_elsewhere(&with("Reason: SIP;cause=200;text=\"elsewhere\"")));
    assert_eq!(message::retry_after_s(&with("Retry-After: 18000;duration=3600")), Some(18000));
    assert_eq!(message::retry_after_s(&with("Retry-After: soon")), None);
    assert_eq!(message::retry_after_s(&with("Retry-After: 99999999999")), None);
}

#[test]
fn a_caller_is_read_from_whatever_the_trunk_writes() {
    let read = |from: &str, more: &str| {
        let text = INVITE.replace("<sip:ada@example.com>", from).replace("Max-Forwards: 70", more);
        message::invite(&request(&text), "192.0.2.1:5060".parse().unwrap(), Transport::Udp)
    };

    let plain = read("sip:+4412@example.com", "X-A: 1");
    assert_eq!((plain.from.user.reveal().as_str(), plain.anonymous), ("+4412", false));
    let tel = read("<tel:+44-12;phone-context=x>", "X-A: 1");
    assert_eq!(tel.from.user.reveal(), "+44-12");
    let escaped = read("\"A \\\"B\\\"\" <sip:%2B4412@example.com>", "X-A: 1");
    assert_eq!((escaped.from.user.reveal().as_str(), escaped.from.display.reveal().as_str()), ("+4412", "A \"B\""));
    assert!(read("\"Anonymous\" <sip:anonymous@anonymous.invalid>", "X-A: 1").anonymous);
    assert!(read("<sip:ada@example.com>", "Privacy: user;id").anonymous);
    assert!(!read("<sip:ada@example.com>", "Privacy: none").anonymous);
    let long = read("<sip:ada@example.com>", &format!("X-Long: {}\r\nX-Short: 1", "x".repeat(5000)));
    assert_eq!(long.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["X-Short"]);
    assert!(!format!("{long:?}").contains("ada@"), "a caller shows in a log");
}

proptest! {
    /// Whatever the stack can read, the door judges and a call can be made of, without a panic.
    #[test]
    fn nothing_readable_breaks_the_door(cuts in proptest::collection::vec((0..700usize, any::<u8>(), 0..3u8), 1..5)) {
        if let Ok(Message::Request(request)) = parse_datagram(mutilated(INVITE.as_bytes(), cuts).into(), &Limits::datagram()) {
            let _ = super::door::judge(&request, "tag");
            let _ = super::door::is_aimed(&request, ip("192.0.2.1"));
            let source: SocketAddr = "192.0.2.1:5060".parse().unwrap();
            let _ = message::invite(&request, source, Transport::Udp);
            let mut out = Vec::new();
            if let Some(mut uas) = Uas::invited(birth(), request, &mut out) {
                uas.on_command(SipCommand::Answer { sdp: SDP.to_owned() }, &mut out);
                uas.on_timer(Timer::Patience, &mut out);
            }
        }
    }

    #[test]
    fn nothing_readable_breaks_a_call_of_ours(
        status in 100..700u16,
        cuts in proptest::collection::vec((0..500usize, any::<u8>(), 0..3u8), 0..5),
    ) {
        let (mut uac, invite) = dialled();
        let octets = Message::Response(answer(&invite, status, "bob")).to_bytes();
        if let Ok(Message::Response(response)) = parse_datagram(mutilated(&octets, cuts).into(), &Limits::datagram()) {
            let mut out = Vec::new();
            uac.on_response(&response, &mut out);
            uac.on_response(&response, &mut out);
            uac.on_command(SipCommand::HangUp { cause: None }, &mut out);
            uac.on_response(&response, &mut out);
            let ends = told(&out).iter().filter(|e| matches!(e, SipEvent::Failed { .. } | SipEvent::Ended { .. })).count();
            prop_assert_eq!(ends, 1);
        }
    }

    #[test]
    fn nothing_that_we_dial_smuggles_a_header(to in "[ -~\r\n]{0,40}", user in "\\PC{0,12}", name in "[ -~\r\n]{0,20}", value in "\\PC{0,20}") {
        let dial = Dial {
            to: format!("sip:{to}"),
            from_user: Pii::new(user.clone()),
            from_display: Pii::new(value.clone()),
            headers: vec![(name, Pii::new(value))],
            ..dial()
        };
        if let Some(invite) = message::dial(&dial, "id@host", "tag", &own()) {
            let octets = Message::Request(invite).to_bytes();
            let Ok(Message::Request(read)) = parse_datagram(octets, &Limits::datagram()) else { panic!("unreadable") };
            prop_assert!(read.headers.len() <= 11);
            prop_assert_eq!(read.body().len(), SDP.len());
        }
    }
}

/// Octets replaced, inserted and taken away.
fn mutilated(octets: &[u8], cuts: Vec<(usize, u8, u8)>) -> Vec<u8> {
    let mut octets = octets.to_vec();
    for (at, octet, how) in cuts {
        let at = at % octets.len();
        match how {
            0 => octets[at] = octet,
            1 => octets.insert(at, octet),
            _ => drop(octets.remove(at)),
        }
    }
    octets
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(text: &str) -> Request {
    match parse_datagram(text.to_owned().into_bytes().into(), &Limits::datagram()).unwrap() {
        Message::Request(request) => request,
        Message::Response(_) => panic!("not a request"),
    }
}

fn invited() -> (Uas, Vec<Out>) {
    let mut out = Vec::new();
    let uas = Uas::invited(birth(), request(INVITE), &mut out).unwrap();
    (uas, out)
}

fn birth() -> Birth {
    let key = TransactionKey::from_request(&request(INVITE)).unwrap();
    Birth { id: DialogId(1), key, tag: "ours".to_owned(), own: own(), timers: SipTimers::default(), dice: Dice(1) }
}

fn own() -> Own {
    Own {
        sent_by: "192.0.2.9:5060".to_owned(),
        host: "192.0.2.9".to_owned(),
        contact: "<sip:ringback@192.0.2.9:5060>".to_owned(),
        agent: "ringback/1".to_owned(),
    }
}

fn dial() -> Dial {
    Dial {
        to: "sip:bob@192.0.2.5".to_owned(),
        from_user: Pii::new("desk".to_owned()),
        sdp: SDP.to_owned(),
        ..Dial::default()
    }
}

fn dialled() -> (Uac, Request) {
    let invite = message::dial(&dial(), "id@host", "ours", &own()).unwrap();
    let mut out = Vec::new();
    let (id, timers, rules) = (DialogId(2), SipTimers::default(), SessionRules::default());
    let uac = Uac::dial(Beginning { id, own: own(), timers, rules, dice: Dice(2) }, invite, SDP.to_owned(), &mut out);
    let [Out::Invite(invite)] = &out[..] else { panic!("{out:?}") };
    (uac, invite.clone())
}

fn answer(invite: &Request, status: u16, tag: &str) -> Response {
    let mut response = message::respond(invite, status, Some(tag));
    message::put_body(&mut response.headers, message::SDP, SDP.as_bytes());
    response.set_body(SDP.as_bytes().to_vec().into());
    response
}

fn statuses(out: &[Out]) -> Vec<u16> {
    out.iter()
        .filter_map(|out| match out {
            Out::Respond(_, response) => Some(response.status.code()),
            _ => None,
        })
        .collect()
}

fn goodbyes(out: &[Out]) -> usize {
    out.iter().filter(|out| matches!(out, Out::Ask(_, letter) if letter.request.method == Method::Bye)).count()
}

fn told(out: &[Out]) -> Vec<&SipEvent> {
    out.iter()
        .filter_map(|out| match out {
            Out::Tell(event) => Some(event),
            _ => None,
        })
        .collect()
}

fn armed(out: &[Out], wanted: Timer) -> Option<Duration> {
    out.iter().rev().find_map(|out| match out {
        Out::Arm(timer, after) if *timer == wanted => Some(*after),
        _ => None,
    })
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
const INVITE: &str = "INVITE sip:desk@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1;rport\r\n\
    From: <sip:ada@example.com>;tag=theirs\r\nTo: <sip:desk@192.0.2.9>\r\nCall-ID: 1@192.0.2.1\r\nCSeq: 1 INVITE\r\n\
    Contact: <sip:ada@192.0.2.1>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: 12\r\n\r\nv=0\r\nnothing";
