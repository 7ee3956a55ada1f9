//! SIP within TLS, certificates asked for on both sides: baresip and Linphone as softphones, Kamailio as the proxy.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::caller::Caller;
use crate::interop_baresip::Baresip;
use crate::interop_kamailio::Kamailio;
use crate::interop_sipp::Sipp;
use crate::rig::{CALLER, GREETING, Gateway, Program, Rig, free_port, shared};

/// Certificates of one authority, in files: `ca.pem`, and for each name its certificate and key, also in one.
pub(crate) struct Cards {
    folder: TempDir,
}

impl Cards {
    fn issue(names: &[&str]) -> Cards {
        let folder = tempfile::tempdir().unwrap();
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "The authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(folder.path().join("ca.pem"), params.self_signed(&pair).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, pair);
        for name in names {
            let pair = KeyPair::generate().unwrap();
            // Everybody is on one machine, which is what they call each other by.
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, *name);
            let certificate = params.signed_by(&pair, &issuer).unwrap().pem();
            let write =
                |ending: &str, text: &str| fs::write(folder.path().join(format!("{name}{ending}")), text).unwrap();
            write(".pem", &certificate);
            write(".key", &pair.serialize_pem());
            write(".both", &format!("{certificate}{}", pair.serialize_pem()));
        }
        Cards { folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// A gateway that takes nobody on TLS without a certificate, and shows its own where it calls.
fn gateway(rig: &Rig, cards: &Cards) -> (Gateway, SocketAddr) {
    let path = rig.path().join("sip-config/gateway.toml");
    let text = fs::read_to_string(path).unwrap();
    let tls = format!(
        "[sip.tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"{}\"\nkey = {{ file = \"secrets/tls.key\" }}\n\
         client_certificates = \"require\"\nclient_ca = \"{ca}\"\ntrust = \"{ca}\"\n",
        cards.path("gateway.pem"),
        ca = cards.path("ca.pem"),
    );
    let secrets = rig.path().join("sip-config/secrets");
    fs::create_dir_all(&secrets).unwrap();
    fs::copy(cards.path("gateway.key"), secrets.join("tls.key")).unwrap();
    rig.write("gateway.toml", &text.replace("[media]\n", &format!("{tls}[media]\n")));
    let gateway = Gateway::start(rig);
    let at = gateway.address("tls");
    (gateway, at)
}

/// A trunk whose telephones may move their calls to anybody on this machine.
const TELEPHONES: &str = "version = 1\ntitle = \"Telephones\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n\
    [outbound]\nuri = \"sip:127.0.0.1:9\"\n[outbound.allow]\nhosts = [\"127.0.0.1\"]\n[transfer]\naccept_refer = true\n";

#[test]
fn interop_baresip_is_called_over_tls_holds_and_passes_the_caller_on() {
    let _machine = shared();
    let cards = Cards::issue(&["gateway", "ada"]);
    let mut phone = Baresip::start_with_tls(&cards.path("ada.both"), &cards.path("ca.pem"));
    let rig = Rig::new(&[]);
    rig.write("trunks/carrier.toml", TELEPHONES);
    let workflow = rig.path().join("sip-config/workflows/switchboard.toml");
    let to_phone = format!("sip:ada@{};transport=tls", phone.tls_address());
    let text = fs::read_to_string(&workflow).unwrap().replace("sip:desk@127.0.0.1:9", &to_phone);
    fs::write(workflow, text).unwrap();
    let (mut gateway, _) = gateway(&rig, &cards);
    let bob = free_port();
    let answers = Sipp::target("uas_answer.xml", bob);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(secs(4), &[]);
    let spoken = caller.talk(secs(1), &[]);
    phone.order("hold", "");
    phone.says("a=recvonly", secs(10));
    let held = caller.talk(secs(1), &[]);
    phone.order("resume", "");
    phone.says("a=sendrecv", secs(10));
    let resumed = caller.talk(Duration::from_millis(1500), &[]);
    phone.order("transfer", &format!("sip:bob@{bob}"));
    let closed = phone.event("CALL_CLOSED", secs(10));
    caller.hang_up();

    assert!(heard.has_tone(GREETING, 800));
    assert!(spoken.has_tone(CALLER, 700) && resumed.has_tone(CALLER, 700), "the phone's microphone");
    assert!(!held.has_tone(CALLER, 300), "nothing of a phone that holds");
    assert_eq!(closed["param"], "Call transfered", "{closed}");
    answers.succeeds(secs(20));
    let event = rig.mock.event().json();
    assert_eq!(event["data"]["status"], "TRANSFERRED");
    assert!(event["data"]["transferredTo"].as_str().unwrap().contains(&bob.to_string()), "{event}");
    gateway.assert_well();
}

#[test]
fn interop_baresip_calls_over_tls_holds_and_passes_the_agent_on() {
    let _machine = shared();
    let cards = Cards::issue(&["gateway", "ada"]);
    let mut phone = Baresip::start_with_tls(&cards.path("ada.both"), &cards.path("ca.pem"));
    let rig = Rig::new(&[]);
    rig.write("trunks/carrier.toml", TELEPHONES);
    let (mut gateway, at) = gateway(&rig, &cards);
    let bob = free_port();
    let leaves = Sipp::target_with("uas_leaves.xml", bob, &["-d", "1000"]);

    // Its account bears the transport, and it adds that to whatever is dialled: twice is none (RFC 3261 §19.1.1).
    phone.order("dial", &format!("sip:102@{at};transport=tls"));
    let refused = phone.event("CALL_CLOSED", secs(10));
    phone.order("dial", &format!("sip:102@{at}"));
    phone.event("CALL_ESTABLISHED", secs(10));
    phone.order("hold", "");
    phone.says("a=recvonly", secs(10));
    phone.order("resume", "");
    phone.says("a=sendrecv", secs(10));
    phone.order("transfer", &format!("sip:bob@{bob}"));
    let closed = phone.event("CALL_CLOSED", secs(10));
    leaves.succeeds(secs(20));

    assert!(refused["param"].as_str().unwrap().contains("400"), "{refused}");
    assert_eq!(closed["param"], "Call transfered", "{closed}");
    assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    gateway.assert_counted("ringback_sip_garbage_total", "", 1.0);
    assert!(gateway.log().contains("a peer sent what cannot be read"));
    gateway.assert_well();
}

#[test]
fn interop_linphone_connects_its_two_calls_over_tls() {
    let _machine = shared();
    let cards = Cards::issue(&["gateway", "ada"]);
    let rig = Rig::new(&[]);
    let bob = free_port();
    rig.write("trunks/carrier.toml", TELEPHONES);
    let routes = rig.path().join("sip-config/routes.toml");
    let to_bob = format!(
        "version = 1\n[[route]]\ncalled = \"301\"\nforward = {{ trunk = \"carrier\", to = \"sip:bob@{bob}\" }}\n"
    );
    let text = fs::read_to_string(&routes).unwrap().replacen("version = 1\n", &to_bob, 1);
    fs::write(routes, text).unwrap();
    // Linphone describes its audio with this machine's own address, whatever its signalling is bound to.
    let text = fs::read_to_string(rig.path().join("sip-config/gateway.toml")).unwrap();
    rig.write("gateway.toml", &text.replace("loopback_only = true\n", ""));
    let (mut gateway, at) = gateway(&rig, &cards);
    let leaves = Sipp::target_with("uas_leaves.xml", bob, &["-d", "8000"]);
    let mut phone = linphone(&cards, rig.path());
    // It knows no addresses in certificates.
    let dial = |number: &str| format!("call sip:{number}@localhost:{};transport=tls", at.port());

    phone.order(&dial("301"));
    phone.says("Media streams established", secs(20));
    phone.order("pause");
    phone.says("is now paused", secs(10));
    phone.order(&dial("102"));
    phone.says("Media streams established", secs(10));
    phone.order("transfer 1 --to-call 2");
    phone.says("has been transfered", secs(10));
    leaves.succeeds(secs(30));
    phone.order("quit");

    // Bob's own call, and the one that was made to ask, which bob took over.
    let ends: Vec<_> = [rig.mock.event().json(), rig.mock.event().json()].into();
    assert!(ends.iter().any(|event| event["data"]["status"] == "TRANSFERRED"), "{ends:?}");
    gateway.assert_counted("ringback_rtp_packets_total", "", 100.0);
    gateway.assert_well();
}

/// A softphone that can connect two calls of its own (RFC 5589 §7), which baresip cannot.
fn linphone(cards: &Cards, folder: &Path) -> Program {
    let home = folder.join("linphone");
    fs::create_dir_all(home.join(".local/share/linphone")).unwrap();
    let [udp, tcp, tls] = std::array::from_fn(|_| free_port().port());
    let settings = format!(
        "[sip]\nsip_port={udp}\nsip_tcp_port={tcp}\nsip_tls_port={tls}\nbind_address=127.0.0.1\nroot_ca={}\n\
         verify_server_certs=1\nverify_server_cn=1\nclient_cert_chain={}\nclient_cert_key={}\nguess_hostname=0\n\
         contact=\"Ada\" <sip:ada@127.0.0.1>\nauto_net_state_mon=0\nmedia_encryption=none\n\
         [rtp]\naudio_rtp_port=15700-15798\n[video]\nenabled=0\ncapture=0\ndisplay=0\nautomatically_initiate=0\n\
         automatically_accept=0\n",
        cards.path("ca.pem"),
        cards.path("ada.pem"),
        cards.path("ada.key"),
    );
    fs::write(home.join("settings"), settings).unwrap();
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "linphonec", "-c"]).arg(home.join("settings")).current_dir(&home);
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(name, &home);
    }
    let mut phone = Program::start_obedient(command);
    phone.order("soundcard use files");
    phone.order("ipv6 disable");
    phone.says("ipv6 use disabled", secs(20));
    phone
}

#[test]
fn interop_kamailio_passes_calls_over_mutual_tls() {
    let _machine = shared();
    let cards = Cards::issue(&["gateway", "proxy"]);
    let proxy = free_port();
    let rig = Rig::new(&[]);
    let (mut gateway, at) = gateway(&rig, &cards);
    let mut kamailio = Kamailio::start_with_tls(proxy, &format!("sip:{at};transport=tls"), free_port(), &cards);

    Sipp::caller("uac_routed.xml", proxy, "102", &["-m", "5", "-r", "5"]).succeeds(secs(60));

    for _ in 0..5 {
        assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    }
    kamailio.passed("within BYE");
    gateway.assert_well();
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
