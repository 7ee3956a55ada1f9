//! SIP within TLS, certificates asked for on both sides: baresip as the softphone, Kamailio as the proxy.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::caller::Caller;
use crate::interop_baresip::Baresip;
use crate::interop_kamailio::Kamailio;
use crate::interop_sipp::Sipp;
use crate::rig::{GREETING, Gateway, Rig, free_port, shared};

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

#[test]
fn interop_baresip_is_called_over_tls() {
    let _machine = shared();
    let cards = Cards::issue(&["gateway", "ada"]);
    let mut phone = Baresip::start_with_tls(&cards.path("ada.both"), &cards.path("ca.pem"));
    let rig = Rig::new(&[]);
    let workflow = rig.path().join("sip-config/workflows/switchboard.toml");
    let to_phone = format!("sip:ada@{};transport=tls", phone.tls_address());
    let text = fs::read_to_string(&workflow).unwrap().replace("sip:desk@127.0.0.1:9", &to_phone);
    fs::write(workflow, text).unwrap();
    let (mut gateway, _) = gateway(&rig, &cards);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(secs(5), &[]);
    caller.hang_up();

    assert!(heard.has_tone(GREETING, 800));
    phone.event("CALL_CLOSED", secs(10));
    assert_eq!(rig.mock.event().json()["data"]["status"], "TRANSFERRED");
    gateway.assert_well();
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
