//! What happens before the answer, over real sockets: reliable provisional answers, early media, UPDATE, forks, and
//! requests that come at the wrong time.

use std::time::Duration;

use ringback::sip::{By, Failure, SipCommand, SipEvent};
use ringback::trunk::{Reliable, SessionRules};

use crate::sip_dialogs::{OURS, adopt, calling, contact, invited, talking};
use crate::sip_probe::{Gateway, Msg, Peer, SDP};

const REQUIRES: &str = "Require: 100rel\r\nAllow: INVITE, ACK, BYE, PRACK, UPDATE\r\n";
const SUPPORTS: &str = "Supported: 100rel, timer\r\nAllow: INVITE, ACK, BYE, PRACK, UPDATE\r\n";

#[tokio::test]
async fn whoever_requires_it_gets_every_provisional_answer_for_certain() {
    let mut gateway = Gateway::hasty(40).await;
    let (peer, mut line, dialog) = invited(&mut gateway, REQUIRES, SDP).await;
    adopt(&gateway, dialog, SessionRules { reliable: Reliable::Off, ..SessionRules::default() }).await;
    gateway.sip.send(dialog, SipCommand::Ring).await;

    let ring = peer.expect("SIP/2.0 180").await;
    assert_eq!(ring.header("require"), "100rel");
    let number = rseq(&ring);
    line.learn(&ring);
    // Repeated until its PRACK comes, ever more slowly.
    assert_eq!(rseq(&peer.expect("SIP/2.0 180").await), number);
    assert_eq!(rseq(&peer.expect("SIP/2.0 180").await), number);
    peer.send(line.request("PRACK", 2, "z9hG4bKp0", &format!("RAck: {} 1 INVITE\r\n", number + 1), "")).await;
    assert_eq!(peer.find("SIP/2.0 481").await.header("cseq"), "2 PRACK");
    peer.send(line.request("PRACK", 3, "z9hG4bKp1", &format!("RAck: {number} 1 INVITE\r\n"), "")).await;
    assert_eq!(peer.find("SIP/2.0 200").await.header("cseq"), "3 PRACK");
    peer.assert_silent(Duration::from_millis(400)).await;

    gateway.sip.send(dialog, SipCommand::Answer { sdp: OURS.to_owned() }).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.body, OURS);
}

#[tokio::test]
async fn a_prack_is_answered_once_and_before_the_call() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = invited(&mut gateway, REQUIRES, SDP).await;
    adopt(&gateway, dialog, SessionRules::default()).await;
    gateway.sip.send(dialog, SipCommand::Ring).await;
    let ring = peer.expect("SIP/2.0 180").await;
    line.learn(&ring);
    gateway.sip.send(dialog, SipCommand::Answer { sdp: OURS.to_owned() }).await;

    for (cseq, status) in [(2, 200), (3, 481)] {
        let rack = format!("RAck: {} 1 INVITE\r\n", rseq(&ring));
        peer.send(line.request("PRACK", cseq, &format!("z9hG4bKp{cseq}"), &rack, "")).await;
        let answer = loop {
            let answer = peer.recv().await;
            // The ring is said again until its PRACK has come, and the call is answered behind that.
            if answer.header("cseq").ends_with("PRACK") {
                break answer;
            }
            assert!(answer.status() == 180 || cseq == 3, "the call is answered too early");
        };
        assert_eq!(answer.status(), status);
    }
}

#[tokio::test]
async fn a_call_whose_ring_is_never_acknowledged_is_given_up() {
    let mut gateway = Gateway::hasty(10).await;
    let (peer, _, dialog) = invited(&mut gateway, REQUIRES, SDP).await;
    gateway.sip.send(dialog, SipCommand::Ring).await;

    let refusal = loop {
        let message = peer.recv().await;
        if message.status() != 180 {
            break message;
        }
    };

    assert_eq!(refusal.status(), 504);
    assert!(matches!(gateway.event().await, SipEvent::AckMissing { .. }));
}

#[tokio::test]
async fn the_answer_waits_for_the_prack_of_a_description_and_does_not_repeat_it() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = invited(&mut gateway, SUPPORTS, SDP).await;
    adopt(&gateway, dialog, SessionRules::default()).await;
    // Nothing to say, so nothing that has to arrive.
    gateway.sip.send(dialog, SipCommand::Ring).await;
    assert!(peer.expect("SIP/2.0 180").await.all("rseq").is_empty());
    gateway.sip.send(dialog, SipCommand::Progress { status: 183, sdp: Some(OURS.to_owned()) }).await;
    gateway.sip.send(dialog, SipCommand::Answer { sdp: OURS.to_owned() }).await;

    let progress = peer.expect("SIP/2.0 183").await;
    assert_eq!(progress.body, OURS);
    line.learn(&progress);
    peer.assert_silent(Duration::from_millis(200)).await;
    // Too early for an UPDATE: its 183 may not have arrived.
    peer.send(line.request("PRACK", 2, "z9hG4bKp", &format!("RAck: {} 1 INVITE\r\n", rseq(&progress)), "")).await;

    assert_eq!(peer.expect("SIP/2.0 200").await.header("cseq"), "2 PRACK");
    let ok = peer.expect("SIP/2.0 200").await;
    assert_eq!((ok.header("cseq"), ok.body.as_str()), ("1 INVITE", ""));
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { sdp: None, .. }));
}

#[tokio::test]
async fn an_offer_in_a_prack_and_an_early_update_are_answered() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = invited(&mut gateway, SUPPORTS, SDP).await;
    adopt(&gateway, dialog, SessionRules::default()).await;

    gateway.sip.send(dialog, SipCommand::Ring).await;
    line.learn(&peer.expect("SIP/2.0 180").await);
    // We owe the first answer still.
    peer.send(line.request("UPDATE", 2, "z9hG4bKu2", "", SDP)).await;
    let later = peer.expect("SIP/2.0 500").await;
    assert!(later.header("retry-after").parse::<u32>().unwrap() <= 10);
    gateway.sip.send(dialog, SipCommand::Progress { status: 183, sdp: Some(OURS.to_owned()) }).await;
    let number = rseq(&peer.expect("SIP/2.0 183").await);
    let held = SDP.replace("sendrecv", "sendonly");
    peer.send(line.request("PRACK", 3, "z9hG4bKp3", &format!("RAck: {number} 1 INVITE\r\n"), &held)).await;
    let answer = peer.expect("SIP/2.0 200").await;
    assert!(answer.body.contains("a=recvonly"), "{}", answer.body);
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { answer: Some(_), .. }));
    peer.send(line.request("UPDATE", 4, "z9hG4bKu4", "", SDP)).await;
    assert!(peer.expect("SIP/2.0 200").await.body.contains("a=sendrecv"));
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { answer: Some(_), .. }));

    // And one of ours, in the same early dialog.
    gateway.sip.send(dialog, SipCommand::Reoffer { sdp: OURS.replace("30000", "30002") }).await;
    let update = peer.expect("UPDATE").await;
    assert!(update.body.contains("o=- 5 4 IN") && update.body.contains("m=audio 30002"), "{}", update.body);
    peer.send(line.request("UPDATE", 5, "z9hG4bKu5", "", SDP)).await;
    peer.expect("SIP/2.0 491").await;
    peer.send(update.response("200 OK", "", &contact(&peer), SDP)).await;
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { offer: Some(_), .. }));
    gateway.sip.send(dialog, SipCommand::Answer { sdp: OURS.to_owned() }).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.body, "");
}

#[tokio::test]
async fn a_late_offer_goes_out_with_the_first_reliable_answer() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = invited(&mut gateway, REQUIRES, "").await;
    adopt(&gateway, dialog, SessionRules::default()).await;
    gateway.sip.send(dialog, SipCommand::Ring).await;

    let ring = peer.expect("SIP/2.0 180").await;
    assert_eq!(ring.body, OURS);
    line.learn(&ring);
    peer.send(line.request("PRACK", 2, "z9hG4bKp", &format!("RAck: {} 1 INVITE\r\n", rseq(&ring)), SDP)).await;
    peer.expect("SIP/2.0 200").await;
    let SipEvent::Reinvited { sdp, offer, answer: None, .. } = gateway.event().await else { panic!() };
    assert_eq!((sdp.as_deref(), offer.as_deref()), (Some(SDP.as_bytes()), Some(OURS)));

    gateway.sip.send(dialog, SipCommand::Answer { sdp: OURS.to_owned() }).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.body, "");
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { sdp: None, .. }));
}

#[tokio::test]
async fn each_reliable_answer_is_acknowledged_once_and_in_order() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = calling(&gateway, SessionRules::default()).await;
    let ring = |number: u32, status: &str, body: &str| {
        let extra = format!("{}Require: 100rel\r\nRSeq: {number}\r\nAllow: INVITE, UPDATE\r\n", contact(&peer));
        invite.response(status, "bob", &extra, body)
    };

    peer.send(ring(71, "180 Ringing", "")).await;
    let prack = peer.expect("PRACK").await;
    assert_eq!((prack.header("rack"), prack.header("cseq")), ("71 1 INVITE", "2 PRACK"));
    assert_eq!(prack.tag("to").as_deref(), Some("bob"));
    peer.send(prack.response("200 OK", "", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ringing { status: 180, .. }));
    peer.send(ring(71, "180 Ringing", "")).await;
    peer.send(ring(73, "183 Session Progress", SDP)).await;
    peer.send(ring(72, "183 Session Progress", SDP)).await;
    let prack = peer.expect("PRACK").await;
    assert_eq!(prack.header("rack"), "72 1 INVITE");
    peer.send(prack.response("200 OK", "", "", "")).await;
    let SipEvent::Ringing { status: 183, sdp: Some(_), .. } = gateway.event().await else { panic!() };

    // The description has been settled: the 200 needs none.
    peer.send(invite.response("200 OK", "bob", &contact(&peer), "")).await;
    let ack = peer.expect("ACK").await;
    assert_eq!(ack.header("cseq"), "1 ACK");
    let SipEvent::Answered { sdp, .. } = gateway.event().await else { panic!() };
    assert_eq!(sdp, SDP.as_bytes());
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_trunk_may_demand_reliable_answers_and_may_do_without() {
    let gateway = Gateway::new().await;
    let demanding = SessionRules { reliable: Reliable::Required, ..SessionRules::default() };
    let (_, _, invite) = calling(&gateway, demanding).await;
    assert_eq!(
        (invite.header("require"), invite.header("supported")),
        ("100rel", "100rel, timer, replaces, norefersub")
    );
    let simple = SessionRules { reliable: Reliable::Off, ..SessionRules::default() };
    let (_, _, invite) = calling(&gateway, simple).await;
    assert_eq!((invite.all("require").len(), invite.header("supported")), (0, "timer, replaces, norefersub"));
}

#[tokio::test]
async fn forks_ring_apart_and_the_first_to_answer_has_the_call() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = calling(&gateway, SessionRules::default()).await;
    let ring = |tag: &str, number: u32| {
        let extra = format!("{}Require: 100rel\r\nRSeq: {number}\r\nAllow: INVITE, UPDATE\r\n", contact(&peer));
        invite.response("183 Session Progress", tag, &extra, SDP)
    };

    // Each has numbers of its own.
    for (tag, number) in [("bob", 5), ("eve", 5), ("eve", 6), ("bob", 6)] {
        peer.send(ring(tag, number)).await;
        let prack = peer.expect("PRACK").await;
        assert_eq!(prack.tag("to").as_deref(), Some(tag));
        assert_eq!(prack.header("cseq"), format!("{} PRACK", number - 3));
        peer.send(prack.response("200 OK", "", "", "")).await;
        assert!(matches!(gateway.event().await, SipEvent::Ringing { .. }));
    }
    peer.send(from_callee(&invite, "eve", "UPDATE", 1, &SDP.replace("sendrecv", "sendonly"))).await;
    assert!(peer.expect("SIP/2.0 200").await.body.contains("a=recvonly"));
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { answer: Some(_), .. }));

    peer.send(invite.response("200 OK", "eve", &contact(&peer), "")).await;
    assert_eq!(peer.expect("ACK").await.tag("to").as_deref(), Some("eve"));
    let SipEvent::Answered { sdp, .. } = gateway.event().await else { panic!() };
    assert!(String::from_utf8(sdp).unwrap().contains("sendonly"), "what eve said last counts");
    // The other one was too late, and says so twice.
    for _ in 0..2 {
        peer.send(invite.response("200 OK", "bob", &contact(&peer), SDP)).await;
        assert_eq!(peer.expect("ACK").await.tag("to").as_deref(), Some("bob"));
        if let Some(bye) = peer.next_within(Duration::from_millis(150)).await {
            assert_eq!((bye.start.split(' ').next(), bye.tag("to").as_deref()), (Some("BYE"), Some("bob")));
            peer.send(bye.response("200 OK", "", "", "")).await;
        }
    }

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
    let bye = peer.expect("BYE").await;
    // INVITE was 1, and two PRACKs followed in this dialog.
    assert_eq!((bye.tag("to").as_deref(), bye.header("cseq")), (Some("eve"), "4 BYE"));
    peer.send(bye.response("200 OK", "", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, .. }));
}

#[tokio::test]
async fn an_answer_that_opens_no_dialog_is_acknowledged_all_the_same() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = calling(&gateway, SessionRules::default()).await;
    let broken = invite.response("200 OK", "bob", "Record-Route: <sip:[::1>\r\nContact: <sip:b@127.0.0.1>\r\n", SDP);

    peer.send(broken.replace("sip:b@127.0.0.1", &format!("sip:b@{}", peer.at))).await;

    peer.expect("ACK").await;
    peer.expect("BYE").await;
    let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
    assert_eq!(failure, Failure::BadRequest);
}

#[tokio::test]
async fn what_we_do_not_do_is_refused_by_its_name() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _, ok) = talking(&mut gateway, "", SessionRules::default()).await;
    for word in ["PRACK", "UPDATE", "INFO", "OPTIONS", "CANCEL", "BYE", "ACK"] {
        assert!(ok.header("allow").contains(word), "{word}");
    }
    assert!(ok.header("supported").contains("timer"));

    for (cseq, method) in (2..).zip(["MESSAGE", "SUBSCRIBE", "PUBLISH"]) {
        peer.send(line.request(method, cseq, &format!("z9hG4bK{method}"), "Event: x\r\n", "")).await;
        assert!(peer.expect("SIP/2.0 405").await.header("allow").contains("INVITE"), "{method}");
    }
    peer.send(line.request("INFO", 9, "z9hG4bK9", "Info-Package: nonsense\r\nContent-Type: x/y\r\n", "z")).await;
    assert_eq!(peer.expect("SIP/2.0 469").await.header("recv-info"), "");
    peer.send(line.request("PRACK", 10, "z9hG4bK10", "RAck: 1 1 INVITE\r\n", "")).await;
    peer.expect("SIP/2.0 481").await;
    peer.send(line.request("OPTIONS", 11, "z9hG4bK11", "Require: 100rel, timer\r\n", "")).await;
    peer.expect("SIP/2.0 200").await;
    assert!(gateway.events.try_recv().is_err());
}

#[tokio::test]
async fn a_description_among_other_parts_is_found() {
    let mut gateway = Gateway::new().await;
    let parts = format!(
        "--b\r\nContent-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\nxx\r\n\
         --b\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--b--\r\n"
    );
    let peer = Peer::of(gateway.udp).await;
    let line = crate::sip_probe::Line::new(peer.at, gateway.udp);

    peer.send(line.request("INVITE", 1, "z9hG4bKm", "Content-Type: multipart/mixed;boundary=b\r\n", &parts)).await;

    let SipEvent::Invited { invite, .. } = gateway.event().await else { panic!() };
    assert_eq!(invite.sdp.as_deref(), Some(SDP.as_bytes()));
}

#[tokio::test]
async fn our_own_invite_that_comes_back_is_a_loop() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = calling(&gateway, SessionRules::default()).await;
    let via = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKproxy;rport\r\n", peer.at);
    let (first, rest) = invite.text.split_once("\r\n").unwrap();

    peer.send(format!("{first}\r\n{via}{rest}")).await;
    peer.expect("SIP/2.0 482").await;

    // Sent on to another address, it is a call like any other.
    let elsewhere = first.replace("bob", "desk");
    let via = via.replace("proxy", "spiral");
    peer.send(format!("{elsewhere}\r\n{via}{rest}")).await;
    peer.find("SIP/2.0 100").await;
    assert!(matches!(gateway.event().await, SipEvent::Invited { .. }));
}

fn rseq(response: &Msg) -> u32 {
    response.header("rseq").parse().unwrap()
}

/// A request of the callee in an early dialog of ours.
fn from_callee(invite: &Msg, tag: &str, method: &str, cseq: u32, body: &str) -> String {
    let to = invite.uri("contact");
    format!(
        "{method} {to} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bK{method}{tag}{cseq};rport\r\n\
         Max-Forwards: 70\r\nFrom: {};tag={tag}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:bob@{}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        invite.header("to"),
        invite.header("from"),
        invite.header("call-id"),
        invite.start.split('@').nth(1).unwrap().split(' ').next().unwrap(),
        body.len()
    )
}
