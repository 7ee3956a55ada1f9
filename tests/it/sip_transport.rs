//! How messages travel: connections, transactions, and peers that misbehave on them.

use std::net::SocketAddr;
use std::time::Duration;

use ringback::model::Pii;
use ringback::sip::{By, Dial, DialogId, SipCommand, SipConfig, SipEvent, Transport};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};

use crate::sip_probe::{Gateway, Line, Peer, SDP, Wire, until};

async fn dial(gateway: &Gateway, to: String) -> DialogId {
    let dialog = gateway.sip.new_dialog();
    let dial = Dial { to, sdp: SDP.to_owned(), from_user: Pii::new("ada".to_owned()), ..Dial::default() };
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(dial))).await;
    dialog
}

/// Nothing of the past is kept.
async fn forgotten(gateway: &Gateway) {
    until("no transaction is left", || gateway.sip.counters().transactions == 0).await;
    until("no connection is left", || gateway.sip.counters().connections == 0).await;
}

#[tokio::test]
async fn a_call_to_our_own_address_comes_in_as_a_call() {
    for transport in ["udp", "tcp"] {
        let mut gateway = Gateway::hasty(50).await;
        let at = if transport == "udp" { gateway.udp } else { gateway.tcp };

        let ours = dial(&gateway, format!("sip:desk@{at};transport={transport}")).await;
        let SipEvent::Invited { dialog: theirs, invite } = gateway.event().await else { panic!() };
        assert_eq!(invite.called_user, "desk");
        gateway.sip.send(theirs, SipCommand::Answer { sdp: SDP.to_owned() }).await;
        let mut seen = [gateway.event().await, gateway.event().await];
        seen.sort_by_key(|event| matches!(event, SipEvent::Confirmed { .. }));
        let [SipEvent::Answered { dialog: answered, .. }, SipEvent::Confirmed { dialog: confirmed, .. }] = seen else {
            panic!("{transport}: {seen:?}")
        };
        assert_eq!((answered, confirmed), (ours, theirs), "{transport}");

        gateway.sip.send(ours, SipCommand::HangUp { cause: None }).await;
        let mut ends = Vec::new();
        for _ in 0..2 {
            let SipEvent::Ended { dialog, by, .. } = gateway.event().await else { panic!() };
            ends.push((dialog, by));
        }
        ends.sort_by_key(|(dialog, _)| *dialog);

        assert_eq!(ends, [(ours, By::Us), (theirs, By::Them)], "{transport}");
        until("no transaction is left", || gateway.sip.counters().transactions == 0).await;
        assert_eq!(gateway.sip.counters().stray_responses, 0);
    }
}

#[tokio::test]
async fn nothing_is_kept_after_the_last_message() {
    let mut gateway = Gateway::hasty(10).await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);
    // A call that is answered, one that is refused, one that nobody answers, and a question.
    peer.send(line.invite()).await;
    let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!() };
    gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
    line.learn(&peer.find("SIP/2.0 200").await);
    peer.send(line.ack()).await;
    peer.send(line.request("BYE", 2, "z9hG4bKbye", "", "")).await;
    let refused = Line::new(peer.at, gateway.udp);
    peer.send(refused.request("INVITE", 1, "z9hG4bKrefused", "", SDP)).await;
    dial(&gateway, format!("sip:bob@{}", peer.at)).await;
    let mut wire = Wire::to(gateway.tcp).await;
    let on_tcp = Line { transport: "TCP", ..Line::new(wire.stream.local_addr().unwrap(), gateway.tcp) };
    wire.send(on_tcp.request("OPTIONS", 1, "z9hG4bKoptions", "", "")).await;
    wire.expect("SIP/2.0 200").await;
    assert_eq!(gateway.sip.counters().connections, 1);
    drop(wire);

    let mut dialogs = Vec::new();
    while dialogs.len() < 4 {
        let event = gateway.event().await;
        if let SipEvent::Invited { dialog, .. } = event {
            gateway
                .sip
                .send(dialog, SipCommand::Reject { status: 486, reason: None, retry_after_s: None, warning: None })
                .await;
        }
        dialogs.push(event);
    }

    forgotten(&gateway).await;
    until("no dialog is left", || gateway.sip.counters().dialogs == 0).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_own_connection_only() {
    let mut gateway = Gateway::new().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = socket.connect(gateway.tcp).await.unwrap();
    let deaf_line = Line { transport: "TCP", ..Line::new(deaf.local_addr().unwrap(), gateway.tcp) };
    let filler = format!("X-Odd: {}\r\n", "x".repeat(100));
    // It asks and asks, and reads no answer, until the gateway has had enough.
    let ask = async {
        for cseq in 0..200_000 {
            let request = deaf_line.request("OPTIONS", cseq, &format!("z9hG4bK{cseq}"), &filler, "");
            if deaf.write_all(request.as_bytes()).await.is_err() {
                return;
            }
        }
        panic!("it is served for ever");
    };
    let call = async {
        let mut wire = Wire::to(gateway.tcp).await;
        let at = wire.stream.local_addr().unwrap();
        for cseq in 1..200 {
            let line = Line { transport: "TCP", ..Line::new(at, gateway.tcp) };
            wire.send(line.request("OPTIONS", cseq, &format!("z9hG4bKgood{cseq}"), "", "")).await;
            wire.expect("SIP/2.0 200").await;
        }
        let line = Line { transport: "TCP", ..Line::new(at, gateway.tcp) };
        wire.send(line.invite()).await;
        wire.expect("SIP/2.0 100").await;
        wire
    };

    let ((), _wire) = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(ask, call) }).await.unwrap();

    assert!(matches!(gateway.event().await, SipEvent::Invited { .. }));
    assert!(gateway.sip.counters().send_failures > 0);
    until("only the one that reads is left", || gateway.sip.counters().connections == 1).await;
}

#[tokio::test]
async fn a_ping_is_answered_and_we_ping_where_we_opened_the_connection() {
    let gateway = Gateway::with(SipConfig { keep_alive: Duration::from_millis(50), ..SipConfig::default() }).await;
    let mut wire = Wire::to(gateway.tcp).await;
    wire.send("\r\n\r\n").await;
    wire.expect_line_ends(1).await;
    wire.send("\r\n\r\n").await;
    wire.expect_line_ends(2).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    dial(&gateway, format!("sip:bob@{};transport=tcp", listener.local_addr().unwrap())).await;
    let mut wire = Wire::accept(&listener).await;
    wire.expect("INVITE").await;

    wire.expect_line_ends(4).await;
}

#[tokio::test]
async fn half_a_message_and_silence_is_not_waited_for() {
    let gateway = Gateway::with(SipConfig { arrival: Duration::from_millis(200), ..SipConfig::default() }).await;
    let mut halves = [Wire::to(gateway.tcp).await, Wire::to(gateway.tcp).await];
    let line = Line { transport: "TCP", ..Line::new(halves[0].stream.local_addr().unwrap(), gateway.tcp) };
    let whole = line.request("OPTIONS", 1, "z9hG4bKwhole", "", "");
    halves[0].send(&whole[..whole.len() / 2]).await;
    // The second one has been heard before.
    halves[1].send(&whole).await;
    halves[1].expect("SIP/2.0 200").await;
    halves[1].send(&whole[..whole.len() / 2]).await;

    halves[0].assert_closed().await;
    halves[1].assert_closed().await;

    until("no connection is left", || gateway.sip.counters().connections == 0).await;
}

#[tokio::test]
async fn a_long_message_is_taken_on_tcp_and_one_without_end_is_not() {
    let mut gateway = Gateway::new().await;
    let mut wire = Wire::to(gateway.tcp).await;
    let line = Line { transport: "TCP", ..Line::new(wire.stream.local_addr().unwrap(), gateway.tcp) };
    let filler = |lines: usize| format!("X-Long: {}\r\n", "x".repeat(4000)).repeat(lines);

    wire.send(line.request("INVITE", 1, "z9hG4bKlong", &filler(15), SDP)).await;
    wire.expect("SIP/2.0 100").await;
    assert!(matches!(gateway.event().await, SipEvent::Invited { .. }));
    wire.send(line.request("OPTIONS", 2, "z9hG4bKlonger", &filler(20), "")).await;
    wire.expect("SIP/2.0 513").await;
    let _ = wire.stream.write_all(line.request("OPTIONS", 3, "z9hG4bKlongest", &filler(60), "").as_bytes()).await;

    wire.assert_closed().await;
    assert_eq!(gateway.sip.counters().garbage, 1);
}

#[tokio::test]
async fn each_listener_answers_for_itself() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let elsewhere: SocketAddr = "127.0.0.5:0".parse().unwrap();
    let mut gateway = Gateway::with(SipConfig { udp: vec![any, any, elsewhere], ..SipConfig::default() }).await;
    let of_kind = gateway.sip.local_addrs().into_iter().filter(|(_, transport)| *transport == Transport::Udp);
    let listeners: Vec<SocketAddr> = of_kind.map(|(at, _)| at).collect();
    assert_eq!(listeners.len(), 3);

    for at in listeners {
        let peer = Peer::of(at).await;
        let mut line = Line::new(peer.at, at);
        // The socket is asked whence it came, too: a NAT lets nothing else in.
        peer.socket.connect(at).await.unwrap();
        peer.socket.send(line.invite().as_bytes()).await.unwrap();
        let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!("no call") };
        gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
        let ok = peer.find("SIP/2.0 200").await;
        assert_eq!(ok.uri("contact"), format!("sip:ringback@{at}"));
        line.learn(&ok);
        peer.socket.send(line.ack().as_bytes()).await.unwrap();
        assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));
        gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
        let bye = peer.expect("BYE").await;
        assert!(bye.header("via").starts_with(&format!("SIP/2.0/UDP {at};")), "{}", bye.text);
        peer.socket.send(bye.response("200 OK", "", "", "").as_bytes()).await.unwrap();
        assert!(matches!(gateway.event().await, SipEvent::Ended { .. }));
    }
}

#[tokio::test]
async fn an_advertised_address_stands_wherever_others_read_it() {
    for (advertised, written) in [("198.51.100.7", "198.51.100.7"), ("sbc.example.net", "sbc.example.net")] {
        let advertised = Some(advertised.to_owned());
        let mut gateway = Gateway::with(SipConfig { advertised, ..SipConfig::default() }).await;
        let (peer, port) = (Peer::of(gateway.udp).await, gateway.udp.port());

        peer.send(Line::new(peer.at, gateway.udp).invite()).await;
        let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!("no call") };
        gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
        let ok = peer.find("SIP/2.0 200").await;
        let callee = Peer::of(gateway.udp).await;
        dial(&gateway, format!("sip:bob@{}", callee.at)).await;
        let invite = callee.expect("INVITE").await;
        callee.send(invite.response("486 Busy Here", "bob", "", "")).await;
        callee.expect("ACK").await;

        assert_eq!(ok.uri("contact"), format!("sip:ringback@{written}:{port}"));
        assert_eq!(invite.uri("contact"), format!("sip:ringback@{written}:{port}"));
        assert!(invite.header("via").starts_with(&format!("SIP/2.0/UDP {written}:{port};rport;")), "{}", invite.text);
        assert!(invite.header("from").contains(&format!("@{written}>")), "{}", invite.text);
        assert!(
            !invite.text.contains(&gateway.udp.to_string()),
            "nothing tells the address behind it: {}",
            invite.text
        );
    }
}

#[tokio::test]
async fn sources_that_are_shut_out_meet_silence() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    gateway.sip.filter_sources(|source| !source.is_loopback());

    peer.send(Line::new(peer.at, gateway.udp).request("OPTIONS", 1, "z9hG4bKshut", "", "")).await;
    let mut wire = Wire::to(gateway.tcp).await;
    wire.assert_closed().await;

    until("both were counted", || {
        let counters = gateway.sip.counters();
        (counters.sources_refused, counters.connections_refused, counters.requests) == (1, 1, 0)
    })
    .await;
    gateway.sip.filter_sources(|_| true);
    peer.send(Line::new(peer.at, gateway.udp).request("OPTIONS", 2, "z9hG4bKopen", "", "")).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.header("cseq"), "2 OPTIONS");
}

#[tokio::test]
async fn an_answer_whose_connection_is_gone_takes_a_new_one() {
    let mut gateway = Gateway::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut wire = Wire::to(gateway.tcp).await;
    // Its Via names where it listens, as RFC 3261 §18.1.1 wants.
    let line = Line { transport: "TCP", ..Line::new(listener.local_addr().unwrap(), gateway.tcp) };
    wire.send(line.invite().replace(";rport", "")).await;
    wire.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!() };
    drop(wire);
    until("the connection is gone", || gateway.sip.counters().connections == 0).await;

    gateway.sip.send(dialog, SipCommand::Ring).await;

    Wire::accept(&listener).await.expect("SIP/2.0 180").await;
}
