//! Calls that come in, over real sockets.

use std::time::Duration;

use ringback::sip::{By, DialogId, SipCommand, SipConfig, SipEvent};

use crate::sip_probe::{Gateway, Line, Peer, SDP, Wire};

const OURS: &str = "v=0\r\no=- 5 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0 101\r\n\
    a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n";

fn answer() -> SipCommand {
    SipCommand::Answer { sdp: OURS.to_owned() }
}

fn reject(status: u16) -> SipCommand {
    SipCommand::Reject { status, reason: None, retry_after_s: None, warning: None }
}

/// A call that has been let in and has got its 100.
async fn ringing(gateway: &mut Gateway) -> (Peer, Line, DialogId) {
    let peer = Peer::of(gateway.udp).await;
    let line = Line::new(peer.at, gateway.udp);
    peer.send(line.invite()).await;
    peer.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!("no call") };
    (peer, line, dialog)
}

/// A call that has been answered and acknowledged.
async fn talking(gateway: &mut Gateway) -> (Peer, Line, DialogId) {
    let (peer, mut line, dialog) = ringing(gateway).await;
    gateway.sip.send(dialog, answer()).await;
    line.learn(&peer.expect("SIP/2.0 200").await);
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { sdp: None, .. }));
    (peer, line, dialog)
}

#[tokio::test]
async fn a_call_rings_is_answered_and_ends() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);

    peer.send(line.request("INVITE", 1, "z9hG4bKa", "X-Route: 7\r\nP-Asserted-Identity: <tel:+4499>\r\n", SDP)).await;
    let SipEvent::Invited { dialog, invite } = gateway.event().await else { panic!() };
    assert_eq!(invite.from.user.reveal(), "+441234");
    assert_eq!(invite.from.display.reveal(), "Ada");
    assert_eq!(invite.called_user, "desk");
    assert!(
        invite.headers.iter().any(|(name, value)| name == "P-Asserted-Identity" && value.reveal() == "<tel:+4499>")
    );
    assert_eq!(invite.source, peer.at);
    assert_eq!(invite.sdp.as_deref(), Some(SDP.as_bytes()));
    assert!(invite.headers.iter().any(|(name, value)| name == "X-Route" && value.reveal() == "7"));
    assert!(!invite.anonymous);

    // Left to itself the stack says 100 only after 200 ms, and not at all when a 180 comes first.
    gateway.sip.send(dialog, SipCommand::Ring).await;
    assert_eq!(peer.expect("SIP/2.0 100 Trying").await.tag("to"), None);
    let rings = peer.expect("SIP/2.0 180").await;
    assert!(rings.tag("to").is_some());
    gateway.sip.send(dialog, answer()).await;
    let ok = peer.expect("SIP/2.0 200").await;
    assert_eq!(ok.tag("to"), rings.tag("to"));
    assert_eq!(ok.body, OURS);
    assert_eq!(ok.uri("contact"), format!("sip:ringback@{}", gateway.udp));
    line.learn(&ok);
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { sdp: None, .. }));

    let bye = line.request("BYE", 2, "z9hG4bKbye", "Reason: Q.850;cause=16;text=\"bye\"\r\n", "");
    peer.send(&bye).await;
    peer.expect("SIP/2.0 200").await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Them, cause: Some(16), .. }));
    peer.send(&bye).await;
    peer.expect("SIP/2.0 200").await;
    gateway.assert_quiet(&peer).await;
    assert_eq!(gateway.sip.counters().dialogs, 0);
}

#[tokio::test]
async fn a_repeated_invite_gets_the_180_again() {
    let mut gateway = Gateway::new().await;
    let (peer, line, dialog) = ringing(&mut gateway).await;
    gateway.sip.send(dialog, SipCommand::Ring).await;
    peer.expect("SIP/2.0 180").await;

    peer.send(line.invite()).await;

    peer.expect("SIP/2.0 180").await;
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn an_answer_without_ack_is_repeated_and_then_hung_up() {
    let mut gateway = Gateway::hasty(20).await;
    let (peer, _, dialog) = ringing(&mut gateway).await;
    gateway.sip.send(dialog, answer()).await;

    peer.expect("SIP/2.0 200").await;
    let mut gaps = Vec::new();
    let mut last = tokio::time::Instant::now();
    let bye = loop {
        let message = peer.recv().await;
        if message.start.starts_with("BYE") {
            break message;
        }
        assert_eq!(message.status(), 200);
        gaps.push(last.elapsed());
        last = tokio::time::Instant::now();
    };

    // T1, 2·T1, then T2 = 4·T1: about 1.28 s hold some seventeen.
    assert!((8..=20).contains(&gaps.len()), "{gaps:?}");
    assert!(gaps[2] > gaps[0], "{gaps:?}");
    peer.send(bye.response("200 OK", "", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::AckMissing { .. }));
    assert!(gateway.sip.counters().answers_repeated >= 8);
}

#[tokio::test]
async fn a_lost_ack_is_made_up_for_by_the_next() {
    let mut gateway = Gateway::hasty(40).await;
    let (peer, mut line, dialog) = ringing(&mut gateway).await;
    gateway.sip.send(dialog, answer()).await;
    line.learn(&peer.expect("SIP/2.0 200").await);

    peer.expect("SIP/2.0 200").await;
    peer.send(line.ack()).await;
    peer.send(line.ack()).await;

    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));
    peer.send(line.request("OPTIONS", 2, "z9hG4bKo", "", "")).await;
    let options = loop {
        let message = peer.recv().await;
        if message.header("cseq") == "2 OPTIONS" {
            break message;
        }
    };
    assert_eq!(options.status(), 200);
    assert!(gateway.events.try_recv().is_err());
}

#[tokio::test]
async fn a_canceled_call_gets_487_until_it_is_acknowledged() {
    let mut gateway = Gateway::hasty(50).await;
    let (peer, mut line, _) = ringing(&mut gateway).await;

    let reason = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";
    peer.send(line.request("CANCEL", 1, "z9hG4bKinvite1", reason, "")).await;

    let ok = peer.expect("SIP/2.0 200").await;
    assert_eq!(ok.header("cseq"), "1 CANCEL");
    let terminated = peer.expect("SIP/2.0 487").await;
    assert_eq!(terminated.header("cseq"), "1 INVITE");
    assert_eq!(ok.tag("to"), terminated.tag("to"));
    peer.expect("SIP/2.0 487").await;
    line.learn(&terminated);
    peer.send(line.request("ACK", 1, "z9hG4bKinvite1", "", "")).await;
    peer.assert_silent(Duration::from_millis(250)).await;
    assert!(matches!(gateway.event().await, SipEvent::Canceled { elsewhere: true, .. }));
}

#[tokio::test]
async fn a_cancel_that_crosses_the_answer_changes_nothing() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = ringing(&mut gateway).await;
    gateway.sip.send(dialog, answer()).await;
    let ok = peer.expect("SIP/2.0 200").await;

    peer.send(line.request("CANCEL", 1, "z9hG4bKinvite1", "", "")).await;

    assert_eq!(peer.expect("SIP/2.0 200").await.header("cseq"), "1 CANCEL");
    line.learn(&ok);
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));
    peer.send(line.request("BYE", 2, "z9hG4bKb", "", "")).await;
    peer.expect("SIP/2.0 200").await;
}

#[tokio::test]
async fn a_bye_before_the_answer_ends_the_call() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = ringing(&mut gateway).await;
    gateway.sip.send(dialog, SipCommand::Ring).await;
    line.learn(&peer.expect("SIP/2.0 180").await);

    peer.send(line.request("BYE", 2, "z9hG4bKb", "", "")).await;

    assert_eq!(peer.expect("SIP/2.0 200").await.header("cseq"), "2 BYE");
    peer.expect("SIP/2.0 487").await;
    assert!(matches!(gateway.event().await, SipEvent::Canceled { elsewhere: false, .. }));
}

#[tokio::test]
async fn sequence_numbers_may_jump_but_not_go_back() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _) = talking(&mut gateway).await;

    peer.send(line.request("OPTIONS", 9, "z9hG4bK9", "", "")).await;
    peer.expect("SIP/2.0 200").await;
    peer.send(line.request("OPTIONS", 8, "z9hG4bK8", "", "")).await;
    peer.expect("SIP/2.0 500").await;
    peer.send(line.request("BYE", 40, "z9hG4bK40", "", "")).await;
    peer.expect("SIP/2.0 200").await;
}

#[tokio::test]
async fn small_talk_within_a_call_is_answered() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _) = talking(&mut gateway).await;

    peer.send(line.request("OPTIONS", 2, "z9hG4bK2", "", "")).await;
    let options = peer.expect("SIP/2.0 200").await;
    assert!(options.header("allow").contains("UPDATE"));
    let keys = "Signal=5\r\nDuration=160\r\n";
    peer.send(line.request("INFO", 3, "z9hG4bK3", "Content-Type: application/dtmf-relay\r\n", keys)).await;
    peer.expect("SIP/2.0 200").await;
    let SipEvent::Info { content_type, body, .. } = gateway.event().await else { panic!() };
    assert_eq!((content_type.as_str(), body.reveal().as_slice()), ("application/dtmf-relay", keys.as_bytes()));
    peer.send(line.request("UPDATE", 4, "z9hG4bK4", "", "")).await;
    assert!(peer.expect("SIP/2.0 200").await.uri("contact").starts_with("sip:ringback@"));
    peer.send(line.request("MESSAGE", 5, "z9hG4bK5", "", "")).await;
    assert!(peer.expect("SIP/2.0 405").await.header("allow").contains("INVITE"));
}

#[tokio::test]
async fn a_refresh_gets_the_same_description_again() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _) = talking(&mut gateway).await;

    peer.send(line.request("INVITE", 2, "z9hG4bK2", "", SDP)).await;

    assert_eq!(peer.expect("SIP/2.0 200").await.body, OURS);
    peer.send(line.request("ACK", 2, "z9hG4bK2a", "", "")).await;
    let SipEvent::Reinvited { sdp, answer, .. } = gateway.event().await else { panic!() };
    assert_eq!(sdp.as_deref(), Some(SDP.as_bytes()));
    assert_eq!(answer.as_deref(), Some(OURS));
    peer.assert_silent(Duration::from_millis(700)).await;
}

#[tokio::test]
async fn a_hold_is_answered_as_one_and_a_foreign_codec_changes_nothing() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _) = talking(&mut gateway).await;

    let hold = SDP.replace("sendrecv", "sendonly");
    peer.send(line.request("INVITE", 2, "z9hG4bK2", "", &hold)).await;
    let held = peer.expect("SIP/2.0 200").await;
    assert!(held.body.contains("a=recvonly") && held.body.contains("o=- 5 2 IN"), "{}", held.body);
    peer.send(line.request("ACK", 2, "z9hG4bK2a", "", "")).await;
    let SipEvent::Reinvited { answer: Some(text), .. } = gateway.event().await else { panic!() };
    assert_eq!(text, held.body);

    let foreign = SDP.replace("RTP/AVP 0 101", "RTP/AVP 18");
    peer.send(line.request("INVITE", 3, "z9hG4bK3", "", &foreign)).await;
    let refusal = peer.expect("SIP/2.0 488").await;
    assert!(refusal.header("warning").starts_with("399 ringback \""));
    peer.send(line.request("ACK", 3, "z9hG4bK3", "", "")).await;
    peer.send(line.request("BYE", 4, "z9hG4bK4", "", "")).await;
    peer.expect("SIP/2.0 200").await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Them, .. }));
}

#[tokio::test]
async fn a_refresh_without_offer_gets_ours_and_reports_their_answer() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _) = talking(&mut gateway).await;

    peer.send(line.request("INVITE", 2, "z9hG4bK2", "", "")).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.body, OURS);
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { sdp: None, answer: None, .. }));
    peer.send(line.request("ACK", 2, "z9hG4bK2a", "", SDP)).await;

    assert!(matches!(gateway.event().await, SipEvent::Reinvited { sdp: Some(_), answer: None, .. }));
}

#[tokio::test]
async fn one_exchange_at_a_time() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = ringing(&mut gateway).await;
    gateway.sip.send(dialog, SipCommand::Ring).await;
    line.learn(&peer.expect("SIP/2.0 180").await);

    // RFC 3261 §14.2: before the final answer, 500 with Retry-After.
    peer.send(line.request("INVITE", 2, "z9hG4bK2", "", SDP)).await;
    let later = peer.expect("SIP/2.0 500").await;
    assert!((0..=10).contains(&later.header("retry-after").parse::<u32>().unwrap()), "{}", later.text);
    peer.send(line.request("ACK", 2, "z9hG4bK2", "", "")).await;
    gateway.sip.send(dialog, answer()).await;
    peer.expect("SIP/2.0 200").await;
    // Between our 200 and its ACK, 491.
    peer.send(line.request("INVITE", 3, "z9hG4bK3", "", SDP)).await;
    peer.expect("SIP/2.0 491").await;
}

#[tokio::test]
async fn refusals_say_what_they_were_told_to_say() {
    let mut gateway = Gateway::new().await;
    for status in [404, 480, 486, 488, 503, 603] {
        let (peer, mut line, dialog) = ringing(&mut gateway).await;

        let command = SipCommand::Reject {
            status,
            reason: (status == 486).then(|| "Off to lunch\r\nX-Evil: 1".to_owned()),
            retry_after_s: (status == 503).then_some(30),
            warning: (status == 488).then(|| "no \"common\" codec".to_owned()),
        };
        gateway.sip.send(dialog, command).await;

        let refusal = peer.recv().await;
        assert_eq!(refusal.status(), status);
        assert!(refusal.tag("to").is_some());
        match status {
            486 => {
                assert_eq!(refusal.start, "SIP/2.0 486 Off to lunchX-Evil: 1");
                assert!(refusal.all("x-evil").is_empty());
            }
            488 => assert_eq!(refusal.header("warning"), "399 ringback \"no \\\"common\\\" codec\""),
            503 => assert_eq!(refusal.header("retry-after"), "30"),
            _ => {}
        }
        line.learn(&refusal);
        peer.send(line.request("ACK", 1, "z9hG4bKinvite1", "", "")).await;
        gateway.assert_quiet(&peer).await;
    }
}

#[tokio::test]
async fn our_goodbye_follows_the_recorded_route() {
    let mut gateway = Gateway::new().await;
    let proxy = Peer::of(gateway.udp).await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);
    let routes = format!("Record-Route: <sip:{};lr>, <sip:192.0.2.1;lr>\r\n", proxy.at);
    peer.send(line.request("INVITE", 1, "z9hG4bKinvite1", &routes, SDP)).await;
    peer.expect("SIP/2.0 100").await;
    let dialog = gateway.event().await.dialog();
    gateway.sip.send(dialog, SipCommand::Ring).await;
    assert!(peer.expect("SIP/2.0 180").await.header("record-route").contains(&proxy.at.to_string()));
    gateway.sip.send(dialog, answer()).await;
    let ok = peer.expect("SIP/2.0 200").await;
    assert!(ok.header("record-route").contains(&proxy.at.to_string()));
    line.learn(&ok);
    peer.send(line.ack()).await;
    gateway.event().await;

    gateway.sip.send(dialog, SipCommand::HangUp { cause: Some(16) }).await;

    let bye = proxy.expect(&format!("BYE sip:ada@{} SIP/2.0", peer.at)).await;
    assert_eq!(bye.all("route"), [format!("<sip:{};lr>", proxy.at), "<sip:192.0.2.1;lr>".to_owned()]);
    assert_eq!(bye.header("reason"), "Q.850;cause=16");
    assert_eq!(bye.tag("to").as_deref(), Some("ada"));
    assert_eq!(bye.tag("from"), line.to_tag);
    proxy.send(bye.response("200 OK", "", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, cause: Some(16), .. }));
}

#[tokio::test]
async fn a_strict_router_becomes_the_request_uri() {
    let mut gateway = Gateway::new().await;
    let proxy = Peer::of(gateway.udp).await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);
    let routes = format!("Record-Route: <sip:{}>\r\n", proxy.at);
    peer.send(line.request("INVITE", 1, "z9hG4bKinvite1", &routes, SDP)).await;
    peer.expect("SIP/2.0 100").await;
    let dialog = gateway.event().await.dialog();
    gateway.sip.send(dialog, answer()).await;
    line.learn(&peer.expect("SIP/2.0 200").await);
    peer.send(line.ack()).await;
    gateway.event().await;

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;

    let bye = proxy.expect(&format!("BYE sip:{} SIP/2.0", proxy.at)).await;
    assert_eq!(bye.all("route"), [format!("<sip:ada@{}>", peer.at)]);
}

#[tokio::test]
async fn a_caller_behind_a_nat_is_reached_where_it_was_met() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);
    peer.send(line.request("INVITE", 1, "z9hG4bKinvite1", "Contact: <sip:ada@10.9.8.7:5060>\r\n", SDP)).await;
    peer.expect("SIP/2.0 100").await;
    let dialog = gateway.event().await.dialog();
    gateway.sip.send(dialog, answer()).await;
    line.learn(&peer.expect("SIP/2.0 200").await);
    peer.send(line.ack()).await;
    gateway.event().await;

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;

    peer.expect("BYE sip:ada@10.9.8.7:5060 SIP/2.0").await;
}

#[tokio::test]
async fn hanging_up_before_the_ack_waits_for_it() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = ringing(&mut gateway).await;
    gateway.sip.send(dialog, answer()).await;
    line.learn(&peer.expect("SIP/2.0 200").await);

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, .. }));
    peer.assert_silent(Duration::from_millis(200)).await;
    peer.send(line.ack()).await;

    let bye = peer.find("BYE").await;
    peer.send(bye.response("200 OK", "", "", "")).await;
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_socket_bound_to_every_address_names_the_one_the_peer_can_reach() {
    let config = SipConfig { udp: vec!["0.0.0.0:0".parse().unwrap()], ..SipConfig::default() };
    let mut gateway = Gateway::with(config).await;
    gateway.udp.set_ip("127.0.0.1".parse().unwrap());
    let (peer, _, dialog) = ringing(&mut gateway).await;

    gateway.sip.send(dialog, answer()).await;

    assert_eq!(peer.expect("SIP/2.0 200").await.uri("contact"), format!("sip:ringback@{}", gateway.udp));
}

#[tokio::test]
async fn a_latin_1_name_is_read_and_answered() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let text = Line::new(peer.at, gateway.udp).invite().replace("\"Ada\"", "\"J\u{1}rg\"");
    let octets: Vec<u8> = text.bytes().map(|octet| if octet == 1 { 0xf6 } else { octet }).collect();

    peer.send(octets).await;

    peer.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, invite } = gateway.event().await else { panic!() };
    assert_eq!(invite.from.display.reveal(), "Jörg");
    gateway.sip.send(dialog, answer()).await;
    peer.expect("SIP/2.0 200").await;
}

#[tokio::test]
async fn a_caller_who_wants_our_offer_first_gets_it() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);
    peer.send(line.request("INVITE", 1, "z9hG4bKinvite1", "Privacy: id\r\n", "")).await;
    peer.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, invite } = gateway.event().await else { panic!() };
    assert!(invite.sdp.is_none() && invite.anonymous);

    gateway.sip.send(dialog, answer()).await;
    line.learn(&peer.expect("SIP/2.0 200").await);
    peer.send(line.request("ACK", 1, "z9hG4bKa", "", SDP)).await;

    let SipEvent::Confirmed { sdp, .. } = gateway.event().await else { panic!() };
    assert_eq!(sdp.as_deref(), Some(SDP.as_bytes()));
}

#[tokio::test]
async fn a_call_over_tcp_ends_on_the_connection_it_came_by() {
    let mut gateway = Gateway::new().await;
    let mut wire = Wire::to(gateway.tcp).await;
    let at = wire.stream.local_addr().unwrap();
    // Nobody listens at the Contact, as with any phone behind a NAT.
    let mut line = Line { transport: "TCP", ..Line::new(at, gateway.tcp) };
    let contact = "Contact: <sip:ada@127.0.0.1:9;transport=tcp>\r\n";
    // A keep-alive before, one in between, and the request in small pieces.
    wire.send("\r\n\r\n").await;
    for piece in line.request("INVITE", 1, "z9hG4bKinvite1", contact, SDP).as_bytes().chunks(97) {
        wire.send(piece).await;
    }
    wire.expect("SIP/2.0 100").await;
    let dialog = gateway.event().await.dialog();
    gateway.sip.send(dialog, answer()).await;
    let ok = wire.expect("SIP/2.0 200").await;
    assert_eq!(ok.uri("contact"), format!("sip:ringback@{};transport=tcp", gateway.tcp));
    line.learn(&ok);
    wire.send(format!("\r\n\r\n{}", line.ack())).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;

    let bye = wire.expect("BYE").await;
    wire.send(bye.response("200 OK", "", "", "")).await;
}

#[tokio::test]
async fn a_gateway_that_does_not_listen_gets_no_further_calls_and_loses_no_ending() {
    let mut gateway = Gateway::with(SipConfig { events: 1, ..SipConfig::default() }).await;
    let peer = Peer::of(gateway.udp).await;
    let line = Line::new(peer.at, gateway.udp);
    peer.send(line.invite()).await;
    peer.expect("SIP/2.0 100").await;

    let second = Line::new(peer.at, gateway.udp);
    peer.send(second.request("INVITE", 1, "z9hG4bKsecond", "", SDP)).await;
    let refusal = peer.expect("SIP/2.0 503").await;
    assert_eq!(refusal.header("retry-after"), "5");
    peer.send(line.request("CANCEL", 1, "z9hG4bKinvite1", "", "")).await;
    peer.expect("SIP/2.0 200").await;
    peer.expect("SIP/2.0 487").await;

    assert!(matches!(gateway.event().await, SipEvent::Invited { .. }));
    assert!(matches!(gateway.event().await, SipEvent::Canceled { .. }));
    assert_eq!(gateway.sip.counters().shed, 1);
}

#[tokio::test]
async fn a_late_command_is_harmless() {
    let mut gateway = Gateway::new().await;
    let (peer, line, dialog) = ringing(&mut gateway).await;
    peer.send(line.request("CANCEL", 1, "z9hG4bKinvite1", "", "")).await;
    peer.expect("SIP/2.0 200").await;
    peer.expect("SIP/2.0 487").await;

    for command in [SipCommand::Ring, answer(), reject(486), SipCommand::HangUp { cause: None }] {
        gateway.sip.send(dialog, command).await;
    }

    assert!(matches!(gateway.event().await, SipEvent::Canceled { .. }));
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn closing_down_says_goodbye() {
    let mut gateway = Gateway::hasty(100).await;
    let (talker, _, _) = talking(&mut gateway).await;
    let (waiter, _, _) = ringing(&mut gateway).await;

    let sip = gateway.sip.clone();
    let closing = async move { sip.shutdown().await };
    let peers = async {
        let bye = talker.find("BYE").await;
        talker.send(bye.response("200 OK", "", "", "")).await;
        waiter.find("SIP/2.0 503").await;
    };
    tokio::join!(closing, peers);
}
