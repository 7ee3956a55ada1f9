//! What goes wrong outside, and what everybody is told of it: the status on the wire, the line in the log, the count, and
//! what `ringback doctor` says that helps. Against the real binary, one row for each provocation.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::caller::Caller;
use crate::interop_tls::{Cards, tls_gateway};
use crate::rig::{Gateway, Rig, SORRY, WEBHOOK_SECRET, binary, shared};

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
    /// Words of a remedy of the doctor's; none where nobody has anything to mend.
    remedy: &'static str,
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
        remedy: "",
    },
    Row {
        what: "a description that is none",
        called: "102",
        offer: "v=0\r\nthis is no description\r\n",
        status: 400,
        header: Some(("Warning", "description")),
        log: &["WARN", "a call is refused", "bad_sdp"],
        counted: ("ringback_invites_total", "bad_sdp"),
        remedy: "its sender must mend it",
    },
    Row {
        what: "codecs that nobody here speaks",
        called: "102",
        offer: "m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n",
        status: 488,
        header: Some(("Warning", "PCMU")),
        log: &["WARN", "a call is refused", "no_media"],
        counted: ("ringback_calls_total", "no_media"),
        remedy: "compare the trunk's codecs",
    },
    Row {
        what: "audio that is encrypted, where that is not spoken",
        called: "102",
        offer: "m=audio 40000 RTP/SAVP 0\r\n",
        status: 488,
        header: Some(("Warning", "another profile than RTP/AVP")),
        log: &["WARN", "a call is refused", "no_media", "another profile"],
        counted: ("ringback_calls_total", "no_media"),
        remedy: "compare the trunk's codecs",
    },
    Row {
        what: "audio for the other IP version",
        called: "102",
        offer: "v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n",
        status: 488,
        header: Some(("Warning", "to an IPv4 address")),
        log: &["WARN", "a call is refused", "no_media", "other IP version"],
        counted: ("ringback_calls_total", "no_media"),
        remedy: "compare the trunk's codecs",
    },
    Row {
        what: "a call without audio",
        called: "102",
        offer: "m=video 40000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
        status: 488,
        header: Some(("Warning", "PCMU")),
        log: &["WARN", "a call is refused", "no_media"],
        counted: ("ringback_calls_total", "no_media"),
        remedy: "compare the trunk's codecs",
    },
    Row {
        what: "a number that is always busy",
        called: "486",
        offer: G711,
        status: 486,
        header: None,
        log: &[],
        counted: ("ringback_invites_total", "taken"),
        remedy: "",
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
    let found = doctor(&rig, &gateway, &[]);
    for row in ROWS {
        assert!(found.iter().any(|remedy| remedy.contains(row.remedy)), "{}: {found:#?}", row.what);
    }
    gateway.assert_well();
}

#[test]
fn requests_that_the_door_refuses_are_counted_by_status_and_told() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let uri = |uri: &str| (format!("INVITE {uri} SIP/2.0"), "");
    let desk = "sip:desk@127.0.0.1";
    let cases = [
        (uri("http://127.0.0.1/"), 416, "dial sip:, sips: or tel:"),
        (uri("mailto:ada@example.com"), 416, "dial sip:, sips: or tel:"),
        ((format!("INVITE {desk} SIP/2.0"), "Require: teleport\r\n"), 420, "Unsupported header"),
        ((format!("PUBLISH {desk} SIP/2.0"), ""), 405, ""),
        ((format!("INVITE {desk} SIP/2.0"), "Content-Type: text/plain\r\n"), 415, ""),
    ];
    for (number, ((start, header), status, _)) in cases.iter().enumerate() {
        let mut caller = Caller::new(gateway.udp, "desk");
        let at = caller.socket.local_addr().unwrap();
        caller.send(request(start, at, number, header).as_bytes());

        caller.expect(&status.to_string());

        let status = status.to_string();
        gateway.assert_counted("ringback_sip_refused_total", &status, 1.0);
        if start.starts_with("INVITE") {
            logged(&gateway, &["WARN", "refused at the door", "carrier", &status]);
        }
    }
    let found = doctor(&rig, &gateway, &[]);
    for (_, status, remedy) in cases {
        assert!(found.iter().any(|told| told.contains(remedy)), "{status}: {found:#?}");
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

#[test]
fn a_wrong_password_is_refused_told_and_counted() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/carrier.toml",
        "version = 1\ntitle = \"Carrier\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n[inbound.login]\n\
         username = \"alice\"\npassword = { file = \"secrets/carrier\" }\n",
    );
    rig.write("secrets/carrier", "sesame\n");
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.invite();
    let asked = caller.expect("401");
    caller.ack();
    let within = |name: &str| {
        let rest = asked.header("WWW-Authenticate").split_once(&format!("{name}=\"")).unwrap().1;
        rest.split('"').next().unwrap().to_owned()
    };
    let mut again = Caller::new(gateway.udp, "102");
    again.extra = format!(
        "Authorization: Digest username=\"alice\", realm=\"{}\", nonce=\"{}\", uri=\"sip:102@{}\", \
         response=\"{}\", algorithm=SHA-256, qop=auth, nc=00000001, cnonce=\"c\"\r\n",
        within("realm"),
        within("nonce"),
        gateway.udp,
        "0".repeat(64),
    );

    again.invite();

    again.expect("401");
    again.ack();
    logged(&gateway, &["WARN", "was not let in", "wrong_password", "[inbound.login]"]);
    gateway.assert_counted("ringback_guard_judged_total", "reason=\"wrong_password\"", 1.0);
    let found = doctor(&rig, &gateway, &[]);
    assert!(found.iter().any(|remedy| remedy.contains("[inbound.login]")), "{found:#?}");
    assert!(!gateway.log().contains("sesame"));
    gateway.assert_well();
}

#[test]
fn a_caller_of_no_trunk_is_refused_told_and_counted() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/carrier.toml",
        "version = 1\ntitle = \"Elsewhere\"\n[inbound]\nallowed_addresses = [\"192.0.2.0/24\"]\n",
    );
    let gateway_toml = rig.path().join("sip-config/gateway.toml");
    let text = std::fs::read_to_string(&gateway_toml).unwrap();
    rig.write("gateway.toml", &(text + "[protection]\nunknown_sources = \"forbidden\"\n"));
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");

    caller.invite();

    caller.expect("403");
    caller.ack();
    logged(&gateway, &["WARN", "was not let in", "127.0.0.1", "stranger", "allowed_addresses"]);
    gateway.assert_counted("ringback_guard_judged_total", "reason=\"stranger\"", 1.0);
    let found = doctor(&rig, &gateway, &[]);
    assert!(found.iter().any(|remedy| remedy.contains("allowed_addresses")), "{found:#?}");
    gateway.assert_well();
}

#[test]
fn a_peer_with_an_expired_certificate_is_refused_told_and_counted() {
    let _machine = shared();
    let cards = Cards::issue_until(&["gateway"], &["late"]);
    let rig = Rig::new(&[]);
    let (mut gateway, at) = tls_gateway(&rig, &cards);
    let pem = |name: &str| std::fs::read(cards.path(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem("ca.pem")).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&pem("late.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&pem("late.key")).unwrap();
    ringback::services::tls::install();
    let config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut peer = StreamOwned::new(connection, TcpStream::connect(at).unwrap());

    // In TLS 1.3 the refusal comes with the first answer.
    let _ = peer.write_all(b"OPTIONS sip:gateway SIP/2.0\r\n\r\n");
    let refused = peer.read(&mut [0; 64]).expect_err("nobody is served");

    assert!(refused.to_string().contains("CertificateExpired"), "{refused}");
    logged(&gateway, &["WARN", "could not be agreed on", "127.0.0.1", "xpired"]);
    gateway.assert_counted("ringback_sip_handshakes_failed_total", "", 1.0);
    let found = doctor(&rig, &gateway, &[]);
    assert!(found.iter().any(|remedy| remedy.contains("a certificate that has expired")), "{found:#?}");
    gateway.assert_well();
}

#[test]
fn a_certificate_of_ours_that_has_expired_is_told_before_the_start() {
    let cards = Cards::issue_until(&[], &["gateway"]);
    let rig = Rig::new(&[]);
    crate::interop_tls::with_tls(&rig, &cards);

    let run = ringback(&rig, &["run"]);
    let doctor = ringback(&rig, &["doctor", "--json"]);

    assert_eq!((run.0, doctor.0), (78, 78), "{}", run.1);
    assert!(run.1.contains("has expired"), "{}", run.1);
    let told: Value = serde_json::from_str(&doctor.1).unwrap();
    let finding = &told["findings"][0];
    assert!(finding["says"].as_str().unwrap().contains("has expired"), "{told}");
    assert!(finding["remedy"].as_str().unwrap().contains("renew"), "{told}");
}

#[test]
fn a_trunk_whose_name_has_no_address_is_told_and_counted() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/carrier.toml",
        "version = 1\ntitle = \"Lost\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n[outbound]\n\
         gateways = [\"sip:nowhere.invalid\"]\n",
    );
    let workflow = rig.path().join("sip-config/workflows/switchboard.toml");
    let out = std::fs::read_to_string(&workflow).unwrap().replace("sip:desk@127.0.0.1:9", "+390212345678");
    std::fs::write(workflow, out).unwrap();
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(Duration::from_secs(5), &[]);

    assert!(heard.has_tone(SORRY, 500), "the caller hears that nobody is there");
    logged(&gateway, &["WARN", "cannot be placed", "carrier", "the host name has no address"]);
    gateway.assert_counted("ringback_trunk_calls_total", "cause=\"server_failure\"", 1.0);
    let found = doctor(&rig, &gateway, &["--online"]);
    assert!(found.iter().any(|remedy| remedy.contains("/etc/resolv.conf")), "{found:#?}");
    assert!(found.iter().any(|remedy| remedy.contains("`--online` asks the gateways")), "{found:#?}");
    gateway.assert_well();
}

/// What helps, in the doctor's eyes, beside a gateway that runs.
fn doctor(rig: &Rig, gateway: &Gateway, more: &[&str]) -> Vec<String> {
    let admin = gateway.admin.to_string();
    let (code, said) = ringback(rig, &[&["doctor", "--json", "--admin", &admin], more].concat());
    let told: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let findings = told["findings"].as_array().unwrap();
    let is_ill = findings.iter().any(|finding| finding["verdict"] == "error");
    assert_eq!((code, told["ok"].as_bool()), (i32::from(is_ill), Some(!is_ill)), "{said}");
    findings.iter().filter_map(|finding| finding["remedy"].as_str().map(str::to_owned)).collect()
}

/// A subcommand on this tree: its exit code, and all that it said.
fn ringback(rig: &Rig, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(binary())
        .args(arguments)
        .arg("--config-dir")
        .arg(rig.path().join("sip-config"))
        .env("RINGBACK_TEST_WEBHOOK_SECRET", WEBHOOK_SECRET)
        .current_dir(rig.path())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    let said = if arguments.contains(&"--json") { said[0].clone() } else { said.concat() };
    (output.status.code().unwrap(), said)
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
