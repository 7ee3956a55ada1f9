//! Signed callers at the door of a whole gateway; their certificates come from a web server of the test.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};
use ringback::gateway::unix_ms;
use ringback::model::{Attestation, Secret, Verdict};
use ringback::stir::{Names, Presented, SigningKey, Statement, Trust, credential, read, read_date, sign};
use ringback::store::{CallRecord, RecordedIdentity};

use crate::house::{Answer, Crm, House};
use crate::sip_probe::{Line, Msg, Peer, SDP};

#[tokio::test]
async fn a_signed_caller_is_noted_in_variables_and_record() {
    let signer = Signer::new();
    let crm = Crm::open(&[("/signer.pem", signer.served())]).await;
    let house = open(crm, &signer, "verify = \"note\"").await;

    let record = take_call(&house, &signer.header(&house, "+441234", "100")).await;

    assert_eq!(
        record.identity,
        Some(RecordedIdentity {
            outcome: "passed".to_owned(),
            reason: None,
            attestation: Some(Attestation::A),
            origid: Some(ORIGIN.to_owned()),
            via: "identity".to_owned(),
        })
    );
    assert_eq!(record.context["identity.outcome"], "passed");
    assert_eq!(record.context["identity.attestation"], "A");
    assert_eq!(house.crm.asked(), ["/signer.pem"]);
}

#[tokio::test]
async fn a_forged_caller_is_refused_with_the_status_for_it() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let crm = Crm::open(&[
        ("/signer.pem", signer.served()),
        ("/stranger.pem", stranger.served()),
        ("/none.pem", Answer::Says(200, "<html></html>")),
    ])
    .await;
    let house = open(crm, &signer, "verify = \"refuse_bad\"").await;
    let now = unix_ms() / 1000;
    let good = |path: &str, caller: &str| signer.header_at(&house, path, caller, "100", now);
    let by_stranger = stranger.header_at(&house, "/stranger.pem", "+441234", "100", now);
    let forged = good("/signer.pem", "+441234").replacen("Identity: ", "Identity: e", 1);
    let old = signer.header_at(&house, "/signer.pem", "+441234", "100", now - 90);
    let cases = [
        ("403 Stale Date", old),
        ("438 Invalid Identity Header", good("/signer.pem", "+449999")),
        ("438 Invalid Identity Header", signer.header_at(&house, "/signer.pem", "+441234", "200", now)),
        ("438 Invalid Identity Header", forged),
        ("436 Bad Identity Info", good("/missing.pem", "+441234")),
        ("437 Unsupported Credential", good("/none.pem", "+441234")),
        ("437 Unsupported Credential", by_stranger),
    ];

    for (status, header) in cases {
        let refused = refused(&house, &header).await;

        assert!(refused.start.ends_with(status), "wanted {status}, got {}", refused.start);
        assert!(refused.header("warning").contains("Identity: "), "{}", refused.text);
    }
    // One without is taken under this rule, and no call was left behind by the others.
    let record = take_call(&house, "").await;
    assert_eq!(record.identity.unwrap().outcome, "none");
}

#[tokio::test]
async fn a_trunk_that_requires_an_identity_refuses_a_call_without() {
    let signer = Signer::new();
    let crm = Crm::open(&[("/signer.pem", signer.served())]).await;
    let house = open(crm, &signer, "verify = \"require\"").await;

    let without = refused(&house, "").await;
    let record = take_call(&house, &signer.header(&house, "+441234", "100")).await;

    assert!(without.start.ends_with("428 Use Identity Header"), "{}", without.start);
    assert_eq!(record.identity.unwrap().outcome, "passed");
}

#[tokio::test]
async fn one_certificate_is_fetched_once_for_many_callers() {
    let signer = Signer::new();
    let crm = Crm::open(&[("/signer.pem", signer.served())]).await;
    let house = open(crm, &signer, "verify = \"refuse_bad\"").await;
    let header = signer.header(&house, "+441234", "100");
    let mut peers = Vec::new();

    for _ in 0..5 {
        let peer = peer(&house).await;
        let line = Line::new(peer.at, peer.gateway);
        peer.send(invite(&line, &header)).await;
        peers.push((peer, line));
    }
    for (peer, line) in &mut peers {
        line.learn(&peer.find("SIP/2.0 200").await);
        hang_up(peer, line).await;
    }

    assert_eq!(house.crm.asked(), ["/signer.pem"]);
}

#[tokio::test]
async fn a_slow_certificate_holds_a_caller_for_a_second_and_no_longer() {
    let signer = Signer::new();
    let crm = Crm::open(&[("/signer.pem", Answer::Hangs)]).await;
    let house = open(crm, &signer, "verify = \"refuse_bad\"").await;
    let header = signer.header(&house, "+441234", "100");

    let began = unix_ms();
    let record = take_call(&house, &header).await;

    assert!((900..4_000).contains(&(unix_ms() - began)), "{} ms", unix_ms() - began);
    let identity = record.identity.unwrap();
    assert_eq!((identity.outcome.as_str(), identity.reason.as_deref()), ("unknown", Some("timeout")));
}

#[tokio::test]
async fn a_caller_who_gives_up_meanwhile_leaves_nothing_behind() {
    let signer = Signer::new();
    let crm = Crm::open(&[("/signer.pem", Answer::Hangs)]).await;
    let house = open(crm, &signer, "verify = \"refuse_bad\"").await;
    let peer = peer(&house).await;
    let line = Line::new(peer.at, peer.gateway);

    peer.send(invite(&line, &signer.header(&house, "+441234", "100"))).await;
    peer.find("SIP/2.0 100").await;
    peer.send(line.request("CANCEL", 1, "z9hG4bKinvite1", "", "").replace("sip:desk@", "sip:100@")).await;
    peer.find("SIP/2.0 487").await;
    house.gateway.drain(Duration::from_secs(10)).await;

    assert_eq!(house.gateway.calls(), 0);
    assert_eq!(house.gateway.store().calls(10).await.unwrap(), []);
}

#[tokio::test]
async fn what_a_trunk_found_out_counts_when_it_is_trusted_only() {
    let extra = "P-Asserted-Identity: <sip:+447700900000;verstat=TN-Validation-Passed@carrier.example;user=phone>\r\n\
                 P-Attestation-Indicator: B\r\n";
    let signer = Signer::new();
    let trusted = open(Crm::open(&[]).await, &signer, "verify = \"require\"").await;
    let strange = {
        let files = files(&signer, "verify = \"note\"", false);
        House::open(Crm::open(&[]).await, &files).await
    };

    let believed = take_call(&trusted, extra).await.identity.unwrap();
    let ignored = take_call(&strange, extra).await.identity.unwrap();

    assert_eq!((believed.outcome.as_str(), believed.via.as_str()), ("passed", "verstat"));
    assert_eq!(believed.attestation, Some(Attestation::B));
    assert_eq!((ignored.outcome.as_str(), ignored.via.as_str()), ("none", "identity"));
}

#[tokio::test]
async fn a_signature_is_judged_about_the_number_that_is_shown() {
    let signer = Signer::new();
    let crm = Crm::open(&[("/signer.pem", signer.served())]).await;
    let house = open(crm, &signer, "verify = \"refuse_bad\"").await;
    // A name before the number, in one header or in two: the number is shown.
    let two = "P-Asserted-Identity: <sip:bob@carrier.example>\r\nP-Asserted-Identity: <tel:+447700900123>\r\n";
    // Shown because the trunk is trusted, though no RFC signs it.
    let party = "Remote-Party-ID: \"Bob\" <sip:+447700900123@carrier.example>\r\n";

    for shows in [two, party] {
        // A signature for From, which anybody can write, is about somebody else.
        let refused = refused(&house, &(shows.to_owned() + &signer.header(&house, "+441234", "100"))).await;
        assert!(refused.start.ends_with("438 Invalid Identity Header"), "{shows}: {}", refused.start);
    }
    let header = signer.header(&house, "+447700900123", "100");
    let record = take_call(&house, &(two.to_owned() + &header)).await;

    assert_eq!(record.identity.unwrap().outcome, "passed");
    assert_eq!(record.phone.as_deref().unwrap(), "+447700900123");
}

#[tokio::test]
async fn what_a_trunk_found_out_about_another_number_does_not_count() {
    let signer = Signer::new();
    let house = open(Crm::open(&[]).await, &signer, "verify = \"note\"").await;
    let extra = "P-Asserted-Identity: <sip:+449999;verstat=TN-Validation-Passed@carrier.example>, \
                 <sip:bob;verstat=TN-Validation-Passed@carrier.example>\r\n\
                 Remote-Party-ID: <sip:+449999@carrier.example>\r\n";
    let other = extra.replacen("+449999;verstat=TN-Validation-Passed", "+447700900123", 1);

    let shown = take_call(&house, extra).await;
    let another = {
        let house = open(Crm::open(&[]).await, &signer, "verify = \"note\"").await;
        take_call(&house, &other).await
    };

    assert_eq!((shown.phone.as_deref().unwrap(), shown.identity.unwrap().outcome.as_str()), ("+449999", "passed"));
    assert_eq!(another.phone.as_deref().unwrap(), "+447700900123");
    assert_eq!(another.identity.unwrap().outcome, "none");
}

#[tokio::test]
async fn calls_that_we_place_bear_our_signature() {
    let signer = Signer::new();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let trunk = format!(
        r#"version = 1
title = "Out"
country = "US"
[outbound]
uri = "sip:{at}"
caller_id = "+12155551212"
[identity.sign]
key = {{ file = "secrets/shaken.pem" }}
certificate_url = "{CERTIFICATE}"
attestation = "B"
origination_id = "{ORIGIN}"
"#
    );
    let routes = "version = 1\n[[route]]\ncalled = \"100\"\nforward = { trunk = \"out\", to = \"+12155551213\" }\n\
                  [[route]]\ncalled = \"*\"\nreject = \"not_found\"\n";
    let files =
        [("routes.toml", routes.to_owned()), ("trunks/out.toml", trunk), ("secrets/shaken.pem", signer.pem.clone())];
    let house = House::open(Crm::open(&[]).await, &files).await;
    let (caller, (gateway, _)) = (peer(&house).await, house.gateway.sip_addrs()[0]);
    let callee = Peer { socket, at, gateway };
    let line = Line::new(caller.at, caller.gateway);

    caller.send(invite(&line, "")).await;
    let invite = callee.find("INVITE").await;
    callee.send(invite.response("486 Busy Here", "bob", "", "")).await;
    callee.find("ACK").await;
    caller.find("SIP/2.0 486").await;

    let trust = Trust::from_pem(signer.root.as_bytes()).unwrap();
    let now = unix_ms() / 1000;
    let credential = Arc::new(credential(signer.certificate.as_bytes(), &trust, now).unwrap());
    let presented = Presented {
        identities: vec![invite.header("identity")],
        caller: Names::new([invite.uri("from")]),
        called: Names::new(["+12155551213"]),
    };
    let claim = read(&presented, now).unwrap();
    let judged = claim.judge(|_| Ok(Arc::clone(&credential)), now);

    assert_eq!((judged.verdict, judged.attestation), (Verdict::Passed, Some(Attestation::B)));
    assert_eq!(claim.certificates(), [CERTIFICATE]);
    let dated = read_date(invite.header("date")).unwrap();
    assert!(now.abs_diff(dated) <= 5, "{dated}");
}

const CERTIFICATE: &str = "https://certificates.example/ours.pem";
const ORIGIN: &str = "6c1a8e6c-6d3d-4a3f-8d2a-3f1a2b3c4d5e";

async fn open(crm: Crm, signer: &Signer, rule: &str) -> House {
    House::open(crm, &files(signer, rule, true)).await
}

fn files(signer: &Signer, rule: &str, is_trusted: bool) -> Vec<(&'static str, String)> {
    let trunk = format!(
        "version = 1\ntitle = \"Carrier\"\ntrusted = {is_trusted}\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n\
         [identity]\n{rule}\n"
    );
    let agent = "version = 1\ntitle = \"Desk\"\nconnector = \"echo\"\n".to_owned();
    vec![("signers.pem", signer.root.clone()), ("trunks/carrier.toml", trunk), ("agents/desk.toml", agent)]
}

async fn peer(house: &House) -> Peer {
    let (gateway, _) = house.gateway.sip_addrs()[0];
    Peer::of(gateway).await
}

fn invite(line: &Line, extra: &str) -> String {
    line.request("INVITE", 1, "z9hG4bKinvite1", extra, SDP).replace("sip:desk@", "sip:100@")
}

/// The final answer to a call that is refused.
async fn refused(house: &House, extra: &str) -> Msg {
    let peer = peer(house).await;
    let mut line = Line::new(peer.at, peer.gateway);
    peer.send(invite(&line, extra)).await;
    let answer = peer.find("SIP/2.0 4").await;
    line.learn(&answer);
    peer.send(line.request("ACK", 1, "z9hG4bKinvite1", "", "").replace("sip:desk@", "sip:100@")).await;
    answer
}

/// A call that is answered and hung up, and its record.
async fn take_call(house: &House, extra: &str) -> CallRecord {
    let peer = peer(house).await;
    let mut line = Line::new(peer.at, peer.gateway);
    peer.send(invite(&line, extra)).await;
    line.learn(&peer.find("SIP/2.0 200").await);
    hang_up(&peer, &line).await;
    house.record().await
}

async fn hang_up(peer: &Peer, line: &Line) {
    peer.send(line.ack().replace("sip:desk@", "sip:100@")).await;
    peer.send(line.request("BYE", 2, "z9hG4bKbye", "", "").replace("sip:desk@", "sip:100@")).await;
    peer.find("SIP/2.0 200").await;
}

/// A signer, its certificate, and the root that vouches for it.
struct Signer {
    key: SigningKey,
    pem: String,
    certificate: String,
    root: String,
}

impl Signer {
    fn new() -> Signer {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(Vec::new()).unwrap();
        // SEQUENCE { [0] "1234" }: all numbers of provider 1234 (RFC 8226 §9).
        let list = vec![0x30, 8, 0xA0, 6, 0x16, 4, b'1', b'2', b'3', b'4'];
        leaf.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], list));
        let certificate = leaf.signed_by(&key, &issuer).unwrap().pem();
        let pem = key.serialize_pem();
        let key = SigningKey::from_pem(&Secret::new(pem.clone())).unwrap();
        Signer { key, pem, certificate, root: root_pem }
    }

    fn served(&self) -> Answer {
        Answer::Says(200, self.certificate.clone().leak())
    }

    fn header(&self, house: &House, caller: &str, called: &str) -> String {
        self.header_at(house, "/signer.pem", caller, called, unix_ms() / 1000)
    }

    fn header_at(&self, house: &House, path: &str, caller: &str, called: &str, issued: i64) -> String {
        let url = format!("http://{}{path}", house.crm.address);
        let statement = Statement {
            caller,
            called,
            attestation: Attestation::A,
            origination_id: ORIGIN,
            certificate_url: &url,
            issued,
        };
        let [_, (_, identity)] = sign(&self.key, &statement).unwrap();
        format!("Identity: {identity}\r\n")
    }
}
