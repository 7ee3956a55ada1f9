//! What goes wrong outside, and what everybody is told of it: the status on the wire, the line in the log, the count.
//! Against the real binary, one row for each provocation.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::caller::Caller;
use crate::rig::{Gateway, Rig, SORRY, shared};

/// A provocation and all that must come of it.
struct Row {
    what: &'static str,
    called: &'static str,
    /// Media lines of the offer, or with `v=` a whole description.
    offer: &'static str,
    status: u16,
    /// A header of the answer, and words in it.
    header: Option<(&'static str, &'static str)>,
    /// Words of one line of the log; none where anybody could fill the log with such lines.
    log: &'static [&'static str],
    counted: (&'static str, &'static str),
}

const G711: &str = "m=audio 40000 RTP/AVP 0\r\n";

const ROWS: &[Row] = &[
    Row {
        what: "a number nobody has",
        called: "999",
        offer: G711,
        status: 404,
        header: None,
        log: &[],
        counted: ("ringback_invites_total", "taken"),
    },
    Row {
        what: "a description that is none",
        called: "102",
        offer: "v=0\r\nthis is no description\r\n",
        status: 400,
        header: Some(("Warning", "description")),
        log: &["WARN", "a call is refused", "bad_sdp"],
        counted: ("ringback_invites_total", "bad_sdp"),
    },
    Row {
        what: "codecs that nobody here speaks",
        called: "102",
        offer: "m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n",
        status: 488,
        header: Some(("Warning", "PCMU")),
        log: &["WARN", "a call is refused", "no_media"],
        counted: ("ringback_calls_total", "no_media"),
    },
    Row {
        what: "a call without audio",
        called: "102",
        offer: "m=video 40000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
        status: 488,
        header: Some(("Warning", "PCMU")),
        log: &["WARN", "a call is refused", "no_media"],
        counted: ("ringback_calls_total", "no_media"),
    },
    Row {
        what: "a number that is always busy",
        called: "486",
        offer: G711,
        status: 486,
        header: None,
        log: &[],
        counted: ("ringback_invites_total", "taken"),
    },
];

#[test]
fn bad_input_gets_a_clear_status_a_line_and_a_count() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    for row in ROWS {
        let mut caller = Caller::new(gateway.udp, row.called);
        let offer = if row.offer.starts_with("v=") { row.offer.to_owned() } else { caller.offer_with(row.offer) };

        caller.invite_with(&offer);

        let answer = caller.expect(&row.status.to_string());
        caller.ack();
        if let Some((name, words)) = row.header {
            assert!(answer.header(name).contains(words), "{}: {}", row.what, answer.text);
        }
        gateway.assert_counted(row.counted.0, row.counted.1, 1.0);
        if !row.log.is_empty() {
            logged(&gateway, row.log);
        }
        println!("{:<34} {} {:?} {:?}", row.what, row.status, row.log, row.counted);
    }
    gateway.assert_well();
}

#[test]
fn requests_that_the_door_refuses_are_counted_by_status() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let uri = |uri: &str| (format!("INVITE {uri} SIP/2.0"), "");
    let desk = "sip:desk@127.0.0.1";
    let cases = [
        (uri("http://127.0.0.1/"), 416, "416"),
        ((format!("INVITE {desk} SIP/2.0"), "Require: teleport\r\n"), 420, "420"),
        ((format!("PUBLISH {desk} SIP/2.0"), ""), 405, "405"),
        ((format!("INVITE {desk} SIP/2.0"), "Content-Type: text/plain\r\n"), 415, "415"),
    ];
    for (number, ((start, header), status, label)) in cases.into_iter().enumerate() {
        let mut caller = Caller::new(gateway.udp, "desk");
        let at = caller.socket.local_addr().unwrap();
        caller.send(request(&start, at, number, header).as_bytes());

        caller.expect(&status.to_string());

        gateway.assert_counted("ringback_sip_refused_total", label, 1.0);
    }
    gateway.assert_well();
}

#[test]
fn a_name_without_an_address_is_told_and_the_transfer_goes_on() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let workflow = rig.path().join("sip-config/workflows/switchboard.toml");
    let astray =
        std::fs::read_to_string(&workflow).unwrap().replace("sip:desk@127.0.0.1:9", "sip:desk@nowhere.invalid");
    std::fs::write(workflow, astray).unwrap();
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(Duration::from_secs(5), &[]);

    assert!(heard.has_tone(SORRY, 500), "the caller hears that nobody is there");
    logged(&gateway, &["WARN", "cannot be placed", "the host name has no address"]);
    gateway.assert_well();
}

fn request(start: &str, at: SocketAddr, number: usize, header: &str) -> String {
    let method = start.split(' ').next().unwrap();
    let body = if header.starts_with("Content-Type") { "hello" } else { "" };
    format!(
        "{start}\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKbad{number};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:ada@example.com>;tag=bad\r\nTo: <sip:desk@example.net>\r\nCall-ID: bad{number}@{at}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:ada@{at}>\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Some line of the log holds all these words, or will in a moment.
#[allow(clippy::disallowed_methods, reason = "a real program is waited for by the real clock")]
fn logged(gateway: &Gateway, words: &[&str]) {
    let until = Instant::now() + Duration::from_secs(5);
    while !gateway.log().lines().any(|line| words.iter().all(|word| line.contains(word))) {
        assert!(Instant::now() < until, "no line with {words:?} in:\n{}", gateway.log());
        std::thread::yield_now();
    }
}
