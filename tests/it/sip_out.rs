//! Calls that we place, over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use ringback::model::Pii;
use ringback::sip::{By, Dial, DialogId, Failure, SipCommand, SipEvent, Transport};
use tokio::net::TcpListener;

use crate::sip_probe::{Gateway, Line, Msg, Peer, SDP, Wire};

fn call(to: String) -> Dial {
    Dial {
        to,
        from_user: Pii::new("+44 20".to_owned()),
        from_display: Pii::new("Ring \"back\"".to_owned()),
        sdp: SDP.to_owned(),
        headers: vec![
            ("X-Call".to_owned(), Pii::new("42".to_owned())),
            ("Via".to_owned(), Pii::new("SIP/2.0/UDP evil".to_owned())),
            ("X-Evil".to_owned(), Pii::new("1\r\nX-Worse: 2".to_owned())),
        ],
        ..Dial::default()
    }
}

async fn dial(gateway: &Gateway, to: String) -> DialogId {
    let dialog = gateway.sip.new_dialog();
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(call(to)))).await;
    dialog
}

/// A call placed to a peer, and its INVITE.
async fn calling(gateway: &Gateway) -> (Peer, DialogId, Msg) {
    let peer = Peer::of(gateway.udp).await;
    let dialog = dial(gateway, format!("sip:bob@{}", peer.at)).await;
    let invite = peer.expect("INVITE").await;
    (peer, dialog, invite)
}

fn contact(peer: &Peer) -> String {
    format!("Contact: <sip:bob@{}>\r\n", peer.at)
}

async fn hang_up(gateway: &Gateway, dialog: DialogId) {
    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
}

#[tokio::test]
async fn a_call_is_placed_answered_and_hung_up() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = calling(&gateway).await;
    assert_eq!(invite.start, format!("INVITE sip:bob@{} SIP/2.0", peer.at));
    assert!(invite.header("from").starts_with("\"Ring \\\"back\\\"\" <sip:+44%2020@127.0.0.1>;tag="));
    assert_eq!(invite.header("x-call"), "42");
    assert_eq!(invite.all("via").len(), 1);
    assert!(invite.all("x-evil").is_empty() && invite.all("x-worse").is_empty());
    assert_eq!(invite.body, SDP);

    peer.send(invite.response("100 Trying", "", "", "")).await;
    peer.send(invite.response("180 Ringing", "bob", &contact(&peer), "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ringing { status: 180, sdp: None, .. }));
    peer.send(invite.response("183 Progress", "bob", &contact(&peer), SDP)).await;
    assert!(matches!(gateway.event().await, SipEvent::Ringing { status: 183, sdp: Some(_), .. }));
    let ok = invite.response("200 OK", "bob", &contact(&peer), SDP);
    peer.send(&ok).await;
    let ack = peer.expect(&format!("ACK sip:bob@{}", peer.at)).await;
    assert_eq!(ack.tag("to").as_deref(), Some("bob"));
    assert_eq!(ack.header("cseq"), "1 ACK");
    assert_ne!(ack.header("via"), invite.header("via"));
    let SipEvent::Answered { dialog: answered, sdp } = gateway.event().await else { panic!() };
    assert_eq!((answered, sdp.as_slice()), (dialog, SDP.as_bytes()));

    // Its ACK was lost.
    peer.send(&ok).await;
    peer.expect("ACK").await;
    gateway.sip.send(dialog, SipCommand::HangUp { cause: Some(16) }).await;
    let bye = peer.expect("BYE").await;
    assert_eq!((bye.header("cseq"), bye.header("reason")), ("2 BYE", "Q.850;cause=16"));
    peer.send(bye.response("200 OK", "", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, .. }));
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_call_is_placed_over_tcp() {
    let mut gateway = Gateway::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let dialog = dial(&gateway, format!("sip:bob@{at};transport=tcp")).await;
    let mut wire = Wire::accept(&listener).await;
    let invite = wire.expect("INVITE").await;
    assert!(invite.header("via").starts_with("SIP/2.0/TCP "));
    assert!(invite.uri("contact").ends_with(";transport=tcp"));

    wire.send(invite.response("200 OK", "bob", &format!("Contact: <sip:bob@{at};transport=tcp>\r\n"), SDP)).await;
    wire.expect("ACK").await;
    assert!(matches!(gateway.event().await, SipEvent::Answered { .. }));
    hang_up(&gateway, dialog).await;

    let bye = wire.expect("BYE").await;
    wire.send(bye.response("200 OK", "", "", "")).await;
}

#[tokio::test]
async fn a_large_invite_goes_by_tcp_and_falls_back_to_udp() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let dialog = gateway.sip.new_dialog();
    let headers = vec![("X-Long".to_owned(), Pii::new("x".repeat(2000)))];
    let large = Dial { headers, ..call(format!("sip:bob@{}", peer.at)) };

    // Nobody listens for TCP there, so the UDP socket gets it in the end.
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(large))).await;

    assert!(peer.expect("INVITE").await.header("via").starts_with("SIP/2.0/UDP "));
}

#[tokio::test]
async fn nobody_there_is_a_timeout() {
    let mut gateway = Gateway::hasty(10).await;
    let (peer, dialog, _) = calling(&gateway).await;

    let SipEvent::Failed { dialog: failed, failure } = gateway.event().await else { panic!() };

    assert_eq!((failed, failure), (dialog, Failure::Timeout));
    peer.expect("INVITE").await;
}

#[tokio::test]
async fn a_closed_door_is_told_from_a_silent_one() {
    let mut gateway = Gateway::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);

    dial(&gateway, format!("sip:bob@{at};transport=tcp")).await;

    let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
    assert_eq!(failure, Failure::Transport);
}

#[tokio::test]
async fn hanging_up_waits_for_a_sign_of_life_before_cancel() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = calling(&gateway).await;

    hang_up(&gateway, dialog).await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, .. }));
    peer.assert_silent(Duration::from_millis(200)).await;
    peer.send(invite.response("180 Ringing", "bob", &contact(&peer), "")).await;

    let cancel = peer.find("CANCEL").await;
    assert_eq!(cancel.start, invite.start.replace("INVITE", "CANCEL"));
    assert_eq!(cancel.header("via"), invite.header("via"));
    assert_eq!(cancel.header("cseq"), "1 CANCEL");
    assert_eq!(cancel.tag("to"), None);
    peer.send(cancel.response("200 OK", "bob", "", "")).await;
    peer.send(invite.response("487 Request Terminated", "bob", "", "")).await;
    let ack = peer.find("ACK").await;
    assert_eq!(ack.header("via"), invite.header("via"));
    gateway.assert_quiet(&peer).await;
    assert_eq!(gateway.sip.counters().dialogs, 0);
}

#[tokio::test]
async fn a_ringing_call_is_canceled_with_its_cause() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = calling(&gateway).await;
    peer.send(invite.response("180 Ringing", "bob", &contact(&peer), "")).await;
    gateway.event().await;

    gateway.sip.send(dialog, SipCommand::HangUp { cause: Some(19) }).await;

    assert_eq!(peer.expect("CANCEL").await.header("reason"), "Q.850;cause=19");
}

#[tokio::test]
async fn an_answer_that_crosses_cancel_is_acknowledged_and_hung_up() {
    for hang_up_first in [true, false] {
        let mut gateway = Gateway::new().await;
        let (peer, dialog, invite) = calling(&gateway).await;
        if !hang_up_first {
            peer.send(invite.response("180 Ringing", "bob", &contact(&peer), "")).await;
            gateway.event().await;
        }
        hang_up(&gateway, dialog).await;
        assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, .. }));
        if !hang_up_first {
            let cancel = peer.expect("CANCEL").await;
            peer.send(cancel.response("200 OK", "bob", "", "")).await;
        }

        let ok = invite.response("200 OK", "bob", &contact(&peer), SDP);
        peer.send(&ok).await;

        assert_eq!(peer.expect("ACK").await.tag("to").as_deref(), Some("bob"));
        let bye = peer.expect("BYE").await;
        peer.send(bye.response("200 OK", "", "", "")).await;
        peer.send(&ok).await;
        peer.expect("ACK").await;
        gateway.assert_quiet(&peer).await;
    }
}

#[tokio::test]
async fn a_second_fork_that_answers_is_sent_home() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = calling(&gateway).await;
    peer.send(invite.response("200 OK", "desk", &contact(&peer), SDP)).await;
    assert_eq!(peer.expect("ACK").await.tag("to").as_deref(), Some("desk"));

    peer.send(invite.response("200 OK", "mobile", &contact(&peer), SDP)).await;

    assert_eq!(peer.expect("ACK").await.tag("to").as_deref(), Some("mobile"));
    let bye = peer.expect("BYE").await;
    assert_eq!(bye.tag("to").as_deref(), Some("mobile"));
    peer.send(bye.response("200 OK", "", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Answered { .. }));
    hang_up(&gateway, dialog).await;
    assert_eq!(peer.expect("BYE").await.tag("to").as_deref(), Some("desk"));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let mut gateway = Gateway::new().await;
    let cases = [
        ("486 Busy Here", "Reason: Q.850;cause=17\r\n", None, Some(17)),
        ("404 Not Found", "", None, None),
        ("503 Service Unavailable", "Retry-After: 120 (busy)\r\n", Some(120), None),
        ("302 Moved", "Contact: <sip:x@192.0.2.1>\r\n", None, None),
        ("603 Decline", "", None, None),
    ];
    for (line, extra, retry_after, q850) in cases {
        let (peer, _, invite) = calling(&gateway).await;

        peer.send(invite.response(line, "bob", extra, "")).await;

        peer.expect("ACK").await;
        let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
        let Failure::Refused { status, reason, retry_after_s, cause, contact } = failure else { panic!() };
        assert_eq!(format!("{status} {reason}"), line);
        assert_eq!((retry_after_s, cause), (retry_after, q850));
        let redirected = contact.map(|contact| contact.reveal().clone());
        assert_eq!(redirected.as_deref(), (status == 302).then_some("sip:x@192.0.2.1"));
    }
    assert_eq!(gateway.sip.counters().dialogs, 0);
}

#[tokio::test]
async fn an_answer_without_description_is_hung_up() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = calling(&gateway).await;

    peer.send(invite.response("200 OK", "bob", &contact(&peer), "")).await;

    peer.expect("ACK").await;
    peer.expect("BYE").await;
    let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
    assert_eq!(failure, Failure::NoSdp);
}

#[tokio::test]
async fn names_are_looked_up() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    dial(&gateway, format!("sip:bob@localhost:{}", peer.at.port())).await;
    peer.expect(&format!("INVITE sip:bob@localhost:{} SIP/2.0", peer.at.port())).await;

    let dialog = dial(&gateway, "sip:bob@no-such-host.invalid".to_owned()).await;

    let SipEvent::Failed { dialog: failed, failure } = gateway.event().await else { panic!() };
    assert_eq!((failed, failure), (dialog, Failure::Unresolved));
}

#[tokio::test]
async fn what_cannot_be_dialled_fails_at_once() {
    let mut gateway = Gateway::new().await;
    for (to, wanted) in [
        ("sip:", None),
        ("tel:+4412", None),
        ("sips:bob@127.0.0.1;transport=udp", None),
        ("sips:bob@127.0.0.1:9", Some(Failure::Transport)),
        ("sip:bob@127.0.0.1;transport=ws", None),
        ("sip:bob@127.0.0.1?Subject=x", None),
        ("sip:bob@127.0.0.1\r\nX-Evil: 1", None),
        ("sip:a>b@127.0.0.1", None),
        ("sip:bob@[::1]:5070", Some(Failure::Transport)),
    ] {
        dial(&gateway, to.to_owned()).await;

        let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!("{to}") };
        assert_eq!(failure, wanted.unwrap_or(Failure::BadRequest), "{to}");
    }
}

#[tokio::test]
async fn an_outbound_proxy_gets_the_call_in_place_of_the_uri() {
    let mut gateway = Gateway::new().await;
    let proxy = Peer::of(gateway.udp).await;
    let to = "sip:bob@carrier.example".to_owned();
    let through = Dial { target: Some((proxy.at, Transport::Udp)), ..call(to) };
    let dialog = gateway.sip.new_dialog();
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(through))).await;
    let invite = proxy.expect("INVITE sip:bob@carrier.example SIP/2.0").await;

    // Answered from afar, with two proxies that stay in the path; the one next to us comes last.
    let routes = format!("Record-Route: <sip:192.0.2.7;lr>, <sip:{};lr>\r\n", proxy.at);
    let extra = format!("{routes}Contact: <sip:bob@192.0.2.9>\r\n");
    proxy.send(invite.response("200 OK", "bob", &extra, SDP)).await;

    let ack = proxy.expect("ACK sip:bob@192.0.2.9 SIP/2.0").await;
    assert_eq!(ack.all("route"), [format!("<sip:{};lr>", proxy.at), "<sip:192.0.2.7;lr>".to_owned()]);
    gateway.event().await;
}

#[tokio::test]
async fn the_callee_may_refresh_and_hang_up() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = calling(&gateway).await;
    peer.send(invite.response("180 Ringing", "bob", &contact(&peer), "")).await;
    gateway.event().await;
    // The callee's side of the dialog.
    let mut line = Line::new(peer.at, gateway.udp);
    line.call_id = invite.header("call-id").to_owned();
    line.to_tag = invite.tag("from");
    let theirs =
        |method, cseq, branch, body| line.request(method, cseq, branch, "", body).replace("tag=ada", "tag=bob");
    peer.send(theirs("INVITE", 1, "z9hG4bKr1", SDP)).await;
    peer.expect("SIP/2.0 491").await;
    peer.send(theirs("ACK", 1, "z9hG4bKr1", "")).await;
    peer.send(invite.response("200 OK", "bob", &contact(&peer), SDP)).await;
    peer.expect("ACK").await;
    gateway.event().await;

    peer.send(theirs("INVITE", 2, "z9hG4bKr2", SDP)).await;
    // Our answer names what we offered; nothing has changed on our side.
    assert!(peer.expect("SIP/2.0 200").await.body.contains("m=audio 40000 RTP/AVP 0 101"));
    peer.send(theirs("ACK", 2, "z9hG4bKr2a", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { sdp: Some(_), .. }));
    peer.send(theirs("BYE", 3, "z9hG4bKr3", "")).await;

    peer.expect("SIP/2.0 200").await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Them, cause: None, .. }));
    peer.send(theirs("INFO", 4, "z9hG4bKr4", "")).await;
    peer.expect("SIP/2.0 481").await;
}

#[tokio::test]
async fn a_flood_of_provisional_answers_disturbs_nobody() {
    let mut gateway = Gateway::new().await;
    let (flooder, _, invite) = calling(&gateway).await;
    for _ in 0..500 {
        flooder.send(invite.response("180 Ringing", "bob", &contact(&flooder), "")).await;
    }

    let (peer, dialog, second) = calling(&gateway).await;
    peer.send(second.response("486 Busy Here", "bob", "", "")).await;

    let mut rings = 0;
    loop {
        match gateway.event().await {
            SipEvent::Ringing { .. } => rings += 1,
            SipEvent::Failed { dialog: failed, .. } => break assert_eq!(failed, dialog),
            other => panic!("{other:?}"),
        }
    }
    assert!(rings <= 32, "{rings}");
}

#[tokio::test]
async fn ipv6_peers_are_reached() {
    let six: SocketAddr = "[::1]:0".parse().unwrap();
    let Ok(socket) = tokio::net::UdpSocket::bind(six).await else { return };
    let four: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let config = ringback::sip::SipConfig { udp: vec![four, six], ..Default::default() };
    let gateway = Gateway::with(config).await;
    let at = socket.local_addr().unwrap();
    let own = gateway.sip.local_addrs()[1].0;
    let peer = Peer { socket, at, gateway: own };

    dial(&gateway, format!("sip:bob@{at}")).await;

    let invite = peer.expect(&format!("INVITE sip:bob@{at} SIP/2.0")).await;
    assert_eq!(invite.uri("contact"), format!("sip:ringback@{own}"));
    assert!(invite.header("via").starts_with(&format!("SIP/2.0/UDP {own};")));
}

/// RFC 5118 §4.5: `received` comes with brackets and without.
#[tokio::test]
async fn answers_may_say_in_both_ways_where_they_saw_us() {
    let mut gateway = Gateway::new().await;
    for received in ["2001:db8::9:255", "[2001:db8::9:255]"] {
        let (peer, _, invite) = calling(&gateway).await;
        let busy = invite.response("486 Busy Here", "bob", "", "").replacen(
            ";rport",
            &format!(";rport=5060;received={received}"),
            1,
        );

        peer.send(busy).await;

        assert!(matches!(
            gateway.event().await,
            SipEvent::Failed { failure: Failure::Refused { status: 486, .. }, .. }
        ));
    }
}
