//! The front door, over real sockets: every request gets its defined answer or none, and nothing else notices.

use ringback::sip::{SipCommand, SipEvent};

use crate::sip_probe::{Gateway, Line, Peer, SDP, Wire};

/// What becomes of a message.
#[derive(Debug, PartialEq)]
enum Fate {
    /// It gets this answer.
    Status(u16),
    /// It becomes a call.
    Call,
    /// Nothing comes back.
    Silence,
}

use Fate::{Call, Silence, Status};

/// Sends one message and a barrier behind it, and sees what came back first.
async fn fate(gateway: &mut Gateway, peer: &Peer, message: &[u8]) -> Fate {
    peer.send(message).await;
    let barrier = Line::new(peer.at, peer.gateway);
    let branch = format!("z9hG4bK{}", barrier.call_id.replace('@', ""));
    peer.send(barrier.request("OPTIONS", 77, &branch, "", "")).await;
    let mut fate = Silence;
    loop {
        let answer = peer.recv().await;
        if answer.headers.iter().any(|(name, value)| name == "call-id" && *value == barrier.call_id) {
            return fate;
        }
        if answer.status() == 100 {
            // A call; it is sent away so that nothing is left over for the next case.
            let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!() };
            let refusal = SipCommand::Reject { status: 404, reason: None, retry_after_s: None, warning: None };
            gateway.sip.send(dialog, refusal).await;
            fate = Call;
        } else if fate != Call {
            fate = Status(answer.status());
        }
    }
}

#[tokio::test]
async fn each_objection_has_its_status() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let line = || Line::new(peer.at, peer.gateway);
    let text = "Content-Type: text/plain\r\n";
    let cases = [
        ("unknown method", line().request("FROBNICATE", 1, "z9hG4bKa1", "", ""), Status(405)),
        ("register", line().request("REGISTER", 1, "z9hG4bKa2", "", ""), Status(405)),
        ("in no dialog", line().request("BYE", 1, "z9hG4bKa3", "", ""), Status(481)),
        ("in no dialog", line().request("INFO", 1, "z9hG4bKa4", "", ""), Status(481)),
        ("cancels nothing", line().request("CANCEL", 1, "z9hG4bKa5", "", ""), Status(481)),
        ("extension", line().request("INVITE", 1, "z9hG4bKa6", "Require: 100rel, foo\r\n", SDP), Status(420)),
        ("text body", line().request("INVITE", 1, "z9hG4bKa7", text, "hello"), Status(415)),
        ("zipped", line().request("INVITE", 1, "z9hG4bKa8", "Content-Encoding: gzip\r\n", SDP), Status(415)),
        (
            "no hops",
            line().request("INVITE", 1, "z9hG4bKac", "", SDP).replace("Forwards: 70", "Forwards: 0"),
            Status(483),
        ),
        ("huge offer", line().request("INVITE", 1, "z9hG4bKa9", "", &"a=x\r\n".repeat(4000)), Status(413)),
        (
            "other dialog",
            Line { to_tag: Some("x".into()), ..line() }.request("INVITE", 1, "z9hG4bKad", "", SDP),
            Status(481),
        ),
        ("tel", line().request("INVITE", 1, "z9hG4bKae", "", SDP).replacen("sip:desk@", "tel:+44123;x=", 1), Call),
        ("ping", line().request("OPTIONS", 1, "z9hG4bKaa", "", ""), Status(200)),
        ("ack of nothing", line().request("ACK", 1, "z9hG4bKab", "", ""), Silence),
        ("garbage", "hello, is this SIP?\r\n\r\n".to_owned(), Silence),
        ("empty", "\r\n\r\n".to_owned(), Silence),
    ];
    for (name, message, wanted) in cases {
        assert_eq!(fate(&mut gateway, &peer, message.as_bytes()).await, wanted, "{name}");
    }
    let counted = gateway.sip.counters();
    assert!(counted.garbage >= 1, "{counted:?}");
    assert_eq!(counted.refused.get(&405), Some(&2), "{counted:?}");
    assert_eq!(counted.refused.get(&481), Some(&4), "{counted:?}");
    assert_eq!(counted.dropped, 1, "{counted:?}");
}

#[tokio::test]
async fn refusals_say_what_would_have_been_taken() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let line = || Line::new(peer.at, peer.gateway);

    peer.send(line().request("PUBLISH", 1, "z9hG4bK1", "", "")).await;
    assert!(peer.expect("SIP/2.0 405").await.header("allow").contains("INVITE, ACK, CANCEL, BYE"));
    peer.send(line().request("INVITE", 1, "z9hG4bK2", "Require: foo\r\nRequire: bar\r\n", SDP)).await;
    assert_eq!(peer.expect("SIP/2.0 420").await.header("unsupported"), "foo, bar");
    peer.send(line().request("INVITE", 1, "z9hG4bK3", "Content-Type: text/plain\r\n", "x")).await;
    assert_eq!(peer.expect("SIP/2.0 415").await.header("accept"), "application/sdp");
    peer.send(line().request("OPTIONS", 1, "z9hG4bK4", "", "")).await;
    let options = peer.expect("SIP/2.0 200").await;
    assert_eq!(options.header("accept"), "application/sdp");
    assert_eq!(options.header("supported"), "100rel, timer, replaces, norefersub");
    assert!(options.tag("to").is_some());
}

#[tokio::test]
async fn a_call_that_comes_by_two_ways_is_taken_once() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let line = Line::new(peer.at, gateway.udp);
    peer.send(line.request("INVITE", 1, "z9hG4bKone", "", SDP)).await;
    peer.expect("SIP/2.0 100").await;

    peer.send(line.request("INVITE", 1, "z9hG4bKtwo", "", SDP)).await;

    peer.expect("SIP/2.0 482").await;
    gateway.event().await;
    gateway.assert_quiet(&peer).await;
    assert_eq!(gateway.sip.counters().merged, 1);
}

#[tokio::test]
async fn a_message_too_long_is_refused_and_one_much_too_long_is_cut_off() {
    let gateway = Gateway::new().await;
    let mut wire = Wire::to(gateway.tcp).await;
    let at = wire.stream.local_addr().unwrap();
    let line = || Line { transport: "TCP", ..Line::new(at, gateway.tcp) };

    let long = "Content-Type: text/plain\r\n";
    wire.send(line().request("OPTIONS", 1, "z9hG4bK1", long, &"x".repeat(70_000))).await;
    wire.expect("SIP/2.0 513").await;
    wire.send(line().request("OPTIONS", 1, "z9hG4bK2", "", "")).await;
    wire.expect("SIP/2.0 200").await;
    wire.send("INVITE sip:a@b SIP/2.0\r\nContent-Length: 1000000000000000000\r\n\r\n").await;
    wire.assert_closed().await;

    let mut next = Wire::to(gateway.tcp).await;
    next.send(line().request("OPTIONS", 1, "z9hG4bK3", "", "")).await;
    next.expect("SIP/2.0 200").await;
    assert_eq!(gateway.sip.counters().garbage, 1);
}

#[tokio::test]
async fn many_requests_in_one_segment_are_all_answered() {
    let gateway = Gateway::new().await;
    let mut wire = Wire::to(gateway.tcp).await;
    let at = wire.stream.local_addr().unwrap();
    let burst: String = (0..20)
        .map(|n| {
            Line { transport: "TCP", ..Line::new(at, gateway.tcp) }.request(
                "OPTIONS",
                n,
                &format!("z9hG4bKp{n}"),
                "",
                "",
            )
        })
        .collect();

    wire.send(burst).await;

    for n in 0..20 {
        assert_eq!(wire.expect("SIP/2.0 200").await.header("cseq"), format!("{n} OPTIONS"));
    }
}

/// RFC 3261 §18.2.2 sends answers where `received` and `maddr` say; a stranger must not choose a victim that way.
#[tokio::test]
async fn answers_cannot_be_aimed_at_somebody_else() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let victim = Peer::of(gateway.udp).await;
    for forged in ["received=127.0.0.2", "maddr=127.0.0.2", "received=2001:db8::9:255"] {
        let line = Line::new(peer.at, gateway.udp);
        let aimed = format!("UDP 127.0.0.1:{};{forged};", victim.at.port());
        let message = line
            .request("OPTIONS", 1, &format!("z9hG4bK{}", forged.len()), "", "")
            .replace(&format!("UDP {};", peer.at), &aimed);

        assert_eq!(fate(&mut gateway, &peer, message.as_bytes()).await, Silence, "{forged}");
    }
    assert_eq!(gateway.sip.counters().dropped, 3);
}

/// Whatever is broken in an INVITE, the door stands.
#[tokio::test]
async fn mutilated_calls_break_nothing() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let seed = 0x5eed_u64;
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut random = move |below: usize| {
        // xorshift64: enough to break things with.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let quiet = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for round in 0..3000 {
        let line = Line::new(quiet.local_addr().unwrap(), gateway.udp);
        let mut octets = line.request("INVITE", 1, &format!("z9hG4bKm{round}"), "", SDP).into_bytes();
        for _ in 0..=random(4) {
            let at = random(octets.len());
            match random(3) {
                0 => octets[at] = u8::try_from(random(256)).unwrap(),
                1 => drop(octets.drain(at..(at + 1 + random(20)).min(octets.len()))),
                _ => octets.insert(at, b"\r\n<>;:,@\"\0= "[random(12)]),
            }
            if octets.is_empty() {
                octets.push(b'x');
            }
        }
        quiet.send_to(&octets, gateway.udp).await.unwrap();
        if round % 16 == 0 {
            while let Ok(event) = gateway.events.try_recv() {
                gateway.sip.send(event.dialog(), SipCommand::HangUp { cause: None }).await;
            }
            tokio::task::yield_now().await;
        }
    }

    peer.send(Line::new(peer.at, gateway.udp).request("OPTIONS", 1, "z9hG4bKend", "", "")).await;
    peer.expect("SIP/2.0 200").await;
}
