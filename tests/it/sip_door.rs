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
    assert_eq!(options.header("supported"), "100rel, timer");
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

/// Messages in the manner of RFC 4475, by its section numbers; the words are ours.
#[tokio::test]
async fn tortured_messages_get_their_defined_answers() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let at = peer.at;
    let mut number = 0;
    // A request of these lines, with Via, To, From, Call-ID and CSeq unless a line brings its own.
    let mut odd = |start: &str, lines: &[&str], body: &str| {
        number += 1;
        let method = start.split(' ').next().unwrap();
        let mut out = format!("{start}\r\n");
        let has = |name: &str| lines.iter().any(|line| line.to_lowercase().starts_with(name));
        let usual = [
            ("via:", format!("Via: SIP/2.0/UDP {at};branch=z9hG4bKodd{number};rport")),
            ("max-forwards:", "Max-Forwards: 70".to_owned()),
            ("from:", format!("From: <sip:odd@example.com>;tag=odd{number}")),
            ("to:", "To: <sip:desk@example.net>".to_owned()),
            ("call-id:", format!("Call-ID: odd{number}@probe")),
            ("cseq:", format!("CSeq: {number} {method}")),
            ("contact:", format!("Contact: <sip:odd@{at}>")),
            ("content-length:", format!("Content-Length: {}", body.len())),
        ];
        for (name, line) in usual {
            if !has(name) {
                out += &format!("{line}\r\n");
            }
        }
        for line in lines.iter().filter(|line| !line.ends_with(':')) {
            out += &format!("{}\r\n", line.replace("{at}", &at.to_string()));
        }
        format!("{out}\r\n{body}").into_bytes()
    };
    let sdp = "Content-Type: application/sdp";
    let invite = "INVITE sip:desk@example.net SIP/2.0";
    let options = "OPTIONS sip:desk@example.net SIP/2.0";
    let long = format!("X-Long: {}", "odd".repeat(2000));
    let long_name = format!("From: \"{}\" <sip:odd@example.com>;tag=l", "odd ".repeat(200));
    let tail = odd(invite, &[sdp], SDP);
    let mut double = odd(options, &[], "");
    double.extend_from_slice(&tail);
    let folded = [
        "To:",
        "TO :\r\n sip:vivekg@chair-dnrc.example.com ;   x = odd",
        "f: \"odd \\\"quoted\\\"\"\r\n       <sip:odd@example.com>\r\n  ;\r\n  tag = 98asjd8",
        "From:",
        "Max-Forwards: 0068",
        "Call-ID:",
        "i: wsinv.odd@probe",
        "cseq: 0009\r\n  INVITE",
        "Via:",
        "v:  SIP  / 2.0  / UDP\r\n  {at} ;branch=z9hG4bKoddws ;rport",
        "s :",
        "NewFangledHeader:   newfangled value\r\n continued newfangled value",
        "Contact:",
        "m:\"Quoted string \\\"\\\"\" <sip:odd@{at}> ; newparam = newvalue",
        "c: application/sdp",
        "Content-Length:",
        "l: 0",
    ];

    let cases: Vec<(&str, Vec<u8>, &[Fate])> = vec![
        ("3.1.1.1 folding and blanks", odd(invite, &folded, ""), &[Call]),
        ("3.1.1.2 method of symbols", odd("!odd-Method01_*+`.%indeed'~ sip:a@b SIP/2.0", &[], ""), &[Status(405)]),
        (
            "3.1.1.3 escapes in user",
            odd("INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0", &[sdp], SDP),
            &[Call],
        ),
        ("3.1.1.4 escaped null", odd("INVITE sip:null-%00-null@example.com SIP/2.0", &[sdp], SDP), &[Call]),
        ("3.1.1.5 percent is no escape in methods", odd("RE%47IST%45R sip:a@b SIP/2.0", &[], ""), &[Status(405)]),
        ("3.1.1.6 no blank before <", odd(options, &["From: odd<sip:odd@example.com>;tag=323"], ""), &[Status(200)]),
        ("3.1.1.7 long values", odd(invite, &[&long, &long_name, sdp], SDP), &[Call]),
        ("3.1.1.8 octets behind the body", double, &[Status(200)]),
        (
            "3.1.1.9 semicolon in user",
            odd("OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0", &[], ""),
            &[Status(200)],
        ),
        (
            "3.1.1.10 transports nobody knows",
            odd(
                options,
                &[
                    "Via: SIP/2.0/UDP {at};branch=z9hG4bKoddtr;rport",
                    "Via: SIP/2.0/SCTP odd.example.com;branch=z9hG4bKa",
                    "Via: SIP/2.0/UNKNOWN odd.example.com;branch=z9hG4bKb",
                ],
                "",
            ),
            &[Status(200)],
        ),
        (
            "3.1.1.11 many parts",
            odd(invite, &["Content-Type: multipart/mixed;boundary=odd"], "--odd\r\n\r\nx\r\n--odd--\r\n"),
            &[Status(415)],
        ),
        ("3.1.1.12 an answer in UTF-8", odd("SIP/2.0 200 = 2**3 * 5**2 но", &["CSeq: 1 INVITE"], ""), &[Silence]),
        ("3.1.1.13 an answer without words", odd("SIP/2.0 100 ", &["CSeq: 1 INVITE"], ""), &[Silence]),
        (
            "3.1.2.1 separators without meaning",
            odd(invite, &["Via: SIP/2.0/UDP 192.0.2.15;;,;,,", "Contact: \"Joe\" <sip:joe@example.org>;;;;"], ""),
            &[Silence, Status(400)],
        ),
        ("3.1.2.2 length beyond the end", odd(invite, &[sdp, "Content-Length: 9999"], SDP), &[Silence, Status(400)]),
        ("3.1.2.3 negative length", odd(invite, &[sdp, "Content-Length: -999"], SDP), &[Silence, Status(400)]),
        ("3.1.2.4 number too large", odd(invite, &["CSeq: 36893488147419103232 INVITE"], ""), &[Status(400)]),
        ("3.1.2.4 hops too many", odd(options, &["Max-Forwards: 300"], ""), &[Status(400)]),
        (
            "3.1.2.5 an answer with numbers too large",
            odd("SIP/2.0 503 No", &["CSeq: 9292394834772304023312 INVITE"], ""),
            &[Silence],
        ),
        ("3.1.2.6 quote left open", odd(invite, &["To: \"Mr. J. User <sip:odd@example.com>"], ""), &[Status(400)]),
        (
            "3.1.2.7 brackets around the URI",
            odd("INVITE <sip:user@example.com> SIP/2.0", &[], ""),
            &[Silence, Status(400)],
        ),
        ("3.1.2.8 blanks in the URI", odd("INVITE sip:user@example.com; lr SIP/2.0", &[], ""), &[Silence, Status(400)]),
        (
            "3.1.2.9 blanks in the first line",
            odd("INVITE  sip:user@example.com  SIP/2.0", &[], ""),
            &[Silence, Status(400)],
        ),
        (
            "3.1.2.10 blanks behind the first line",
            odd("OPTIONS sip:user@example.com SIP/2.0  ", &[], ""),
            &[Silence, Status(400)],
        ),
        (
            "3.1.2.11 headers in the URI",
            odd("INVITE sip:user@example.com?Route=%3Csip:x%3E SIP/2.0", &[], ""),
            &[Status(400)],
        ),
        ("3.1.2.12 a date elsewhere", odd(invite, &["Date: Fri, 01 Jan 2010 16:00:00 EST", sdp], SDP), &[Call]),
        (
            "3.1.2.13 bare question mark in Contact",
            odd("REGISTER sip:example.com SIP/2.0", &["Contact: sip:u@e.com?Route=x"], ""),
            &[Status(405)],
        ),
        (
            "3.1.2.14 blanks in an address",
            odd(options, &["To: \"Watson, Thomas\" < t.watson@example.org >"], ""),
            &[Status(400)],
        ),
        (
            "3.1.2.15 comma in a bare name",
            odd(options, &["From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43"], ""),
            &[Status(400)],
        ),
        ("3.1.2.16 version of the future", odd("OPTIONS sip:t.watson@example.org SIP/7.0", &[], ""), &[Status(505)]),
        ("3.1.2.17 methods differ", odd(options, &["CSeq: 8 INVITE"], ""), &[Status(400)]),
        (
            "3.1.2.18 unknown methods differ",
            odd("NEWMETHOD sip:user@example.com SIP/2.0", &["CSeq: 8 INVITE"], ""),
            &[Status(400)],
        ),
        (
            "3.1.2.19 a code beyond all codes",
            odd("SIP/2.0 4294967301 better not break", &["CSeq: 1 INVITE"], ""),
            &[Silence],
        ),
        (
            "3.2.1 branch without substance",
            odd(options, &["Via: SIP/2.0/UDP {at};branch=z9hG4bK;rport"], ""),
            &[Status(200)],
        ),
        (
            "3.3.1 nothing but Via and CSeq",
            odd(invite, &["From:", "To:", "Call-ID:", "Contact:", "Max-Forwards:"], ""),
            &[Status(400)],
        ),
        (
            "3.3.2 scheme nobody knows",
            odd("OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0", &[], ""),
            &[Status(416)],
        ),
        (
            "3.3.3 scheme of something else",
            odd("OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0", &[], ""),
            &[Status(416)],
        ),
        (
            "3.3.4 schemes in To and From",
            odd(invite, &["From: <http://www.example.com>;tag=h", "To: <isbn:2983792873>", sdp], SDP),
            &[Call],
        ),
        (
            "3.3.5 extension in OPTIONS",
            odd(options, &["Require: nothingSupportsThis, nothingSupportsThisEither"], ""),
            &[Status(420)],
        ),
        (
            "3.3.6 content nobody knows",
            odd(invite, &["Content-Type: application/unknownformat"], "<audio/>"),
            &[Status(415)],
        ),
        (
            "3.3.7 authorization nobody knows",
            odd("REGISTER sip:example.com SIP/2.0", &["Authorization: NoOneKnowsThisScheme opaque-data=here"], ""),
            &[Status(405)],
        ),
        (
            "3.3.8 twice what may stand once",
            odd(options, &["CSeq: 5 OPTIONS", "CSeq: 59 OPTIONS", "Max-Forwards: 5", "Max-Forwards: 70"], ""),
            &[Status(400)],
        ),
        (
            "3.3.9 two lengths",
            odd(options, &["Content-Length: 13", "Content-Length: 5"], "There's no way"),
            &[Silence, Status(400)],
        ),
        (
            "3.3.10 an answer for everybody",
            odd("SIP/2.0 200 OK", &["Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx", "CSeq: 1 INVITE"], ""),
            &[Silence],
        ),
        ("3.3.11 no hops left for OPTIONS", odd(options, &["Max-Forwards: 0"], ""), &[Status(200)]),
        ("3.3.15 takes no SDP", odd(invite, &["Accept: text/nobodyKnowsThis", sdp], SDP), &[Status(406)]),
        (
            "3.4.1 a call of the old RFC",
            odd(
                invite,
                &[
                    "Via: SIP/2.0/UDP {at}",
                    "From: <sip:+13035551111@example.net;user=phone>",
                    "Contact:",
                    "Max-Forwards:",
                    sdp,
                ],
                SDP,
            ),
            &[Call],
        ),
    ];
    for (name, message, wanted) in cases {
        let got = fate(&mut gateway, &peer, &message).await;
        assert!(wanted.contains(&got), "{name}: {got:?}, wanted {wanted:?}");
    }
}

/// Messages in the manner of RFC 5118: addresses of IP version 6 in every place.
#[tokio::test]
async fn addresses_of_version_6_are_read() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let line = || Line::new(peer.at, peer.gateway);
    let to_six = |text: String| text.replacen(&format!("sip:desk@{}", peer.gateway), "sip:desk@[2001:db8::10]:5070", 1);
    let via_six = |text: String| {
        text.replacen(&format!("UDP {};", peer.at), &format!("UDP [2001:db8::9:1]:{};", peer.at.port()), 1)
    };
    let six = SDP.replace("IP4 127.0.0.1", "IP6 2001:db8::20");
    let cases = [
        ("4.1 in the request line", to_six(line().request("INVITE", 1, "z9hG4bK61", "", &six)), Call),
        ("4.1 in Via", via_six(line().request("OPTIONS", 1, "z9hG4bK62", "", "")), Status(200)),
        (
            "4.9 one address within another",
            to_six(line().request("OPTIONS", 1, "z9hG4bK65", "Contact: <sip:odd@[::ffff:192.0.2.10]:19823>\r\n", "")),
            Status(200),
        ),
        (
            "4.2 without brackets",
            line().request("OPTIONS", 1, "z9hG4bK66", "", "").replacen(
                &format!("sip:desk@{}", peer.gateway),
                "sip:2001:db8::10",
                1,
            ),
            Silence,
        ),
    ];
    for (name, message, wanted) in cases {
        assert_eq!(fate(&mut gateway, &peer, message.as_bytes()).await, wanted, "{name}");
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
