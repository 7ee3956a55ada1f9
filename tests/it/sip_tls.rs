//! SIP within TLS, from both ends, with certificates of every kind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use ringback::guard::{Access, Contacts, InForce, Protection, Strangers};
use ringback::model::{Pii, Secret};
use ringback::sip::{
    ClientCertificates, Dial, Failure, SipCommand, SipConfig, SipEvent, SipTls, TlsError, TlsIdentity, Transport, Trust,
};
use ringback::trunk::Inbound;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::sip_guard::trunk;
use crate::sip_names::Zone;
use crate::sip_probe::{Gateway, Line, SDP, Wire, until};

/// Somebody who signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Card {
    certificate: String,
    key: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let pair = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&pair).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, pair) }
    }

    pub(crate) fn card(&self, names: &[&str]) -> Card {
        self.card_until(names, 2100)
    }

    fn card_until(&self, names: &[&str], year: i32) -> Card {
        let pair = KeyPair::generate().unwrap();
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.starts_with("sip:"));
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&pair, &self.issuer).unwrap().pem();
        Card { certificate, key: pair.serialize_pem() }
    }

    pub(crate) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        store
    }
}

impl Card {
    pub(crate) fn identity(&self) -> TlsIdentity {
        TlsIdentity { certificate: self.certificate.clone().into_bytes(), key: Secret::new(self.key.clone()) }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

type ClientEnd = Wire<client::TlsStream<TcpStream>>;

/// A gateway with one TLS listener.
async fn listening(tls: SipTls) -> (Gateway, SocketAddr) {
    listening_to(tls, Access::open()).await
}

/// As [`listening`], to these peers only.
async fn listening_to(tls: SipTls, access: Access) -> (Gateway, SocketAddr) {
    ringback::services::tls::install();
    let listen_tls = vec!["127.0.0.1:0".parse().unwrap()];
    let access = InForce::new(access);
    let gateway = Gateway::with(SipConfig { listen_tls, tls, access, ..SipConfig::default() }).await;
    let at = gateway.at(Transport::Tls);
    (gateway, at)
}

/// A client that believes this authority and shows this card.
async fn connect(at: SocketAddr, believes: &Authority, shows: Option<&Card>) -> std::io::Result<ClientEnd> {
    let builder = ClientConfig::builder().with_root_certificates(believes.store());
    let config = match shows {
        Some(card) => builder.with_client_auth_cert(card.chain(), card.key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("gateway.test").unwrap();
    Ok(Wire::over(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

fn line(at: SocketAddr) -> Line {
    Line { transport: "TLS", ..Line::new("192.0.2.7:5061".parse().unwrap(), at) }
}

/// Whether the client is served; in TLS 1.3 a refusal shows with the first answer only.
async fn is_served(at: SocketAddr, believes: &Authority, shows: Option<&Card>) -> bool {
    let Ok(mut wire) = connect(at, believes, shows).await else { return false };
    let options = line(at).request("OPTIONS", 1, "z9hG4bKserved", "", "");
    if tokio::io::AsyncWriteExt::write_all(&mut wire.stream, options.as_bytes()).await.is_err() {
        return false;
    }
    wire.next().await.is_some_and(|answer| answer.status() == 200)
}

#[tokio::test]
async fn a_call_over_mutual_tls_brings_the_names_of_the_peer() {
    let authority = Authority::new();
    let (mut gateway, at) = listening(SipTls {
        identity: Some(authority.card(&["gateway.test"]).identity()),
        client_certificates: ClientCertificates::Require,
        client_ca: Some(authority.pem.clone().into_bytes()),
        ..SipTls::default()
    })
    .await;
    let card = authority.card(&["PBX.example", "sip:carrier.example", "sip:ada@example.com"]);
    let mut wire = connect(at, &authority, Some(&card)).await.unwrap();
    let mut caller = line(at);

    wire.send(caller.invite()).await;
    wire.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, invite } = gateway.event().await else { panic!() };
    assert_eq!(invite.transport, Transport::Tls);
    assert_eq!(invite.tls_names, ["pbx.example", "carrier.example"]);
    gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
    let ok = wire.expect("SIP/2.0 200").await;
    assert_eq!(ok.uri("contact"), format!("sip:ringback@{at};transport=tls"));
    caller.learn(&ok);
    wire.send(caller.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;

    let bye = wire.expect("BYE").await;
    assert!(bye.header("via").starts_with("SIP/2.0/TLS "));
    wire.send(bye.response("200 OK", "", "", "")).await;
}

#[tokio::test]
async fn a_trunk_is_known_by_the_name_in_its_certificate() {
    let authority = Authority::new();
    let tls = SipTls {
        identity: Some(authority.card(&["gateway.test"]).identity()),
        client_certificates: ClientCertificates::Request,
        client_ca: Some(authority.pem.clone().into_bytes()),
        ..SipTls::default()
    };
    let inbound = Inbound { tls_names: vec!["pbx.example".into()], ..Inbound::default() };
    let rules = Protection { strangers: Strangers::Forbidden, ..Protection::default() };
    let access = Access::new(&[trunk("pbx", inbound)], |_| None, rules, Contacts::default());
    let (mut gateway, at) = listening_to(tls, access).await;

    for (n, stranger) in [None, Some(authority.card(&["other.example"]))].into_iter().enumerate() {
        let mut wire = connect(at, &authority, stranger.as_ref()).await.unwrap();
        wire.send(line(at).request("INVITE", 1, &format!("z9hG4bKstranger{n}"), "", SDP)).await;
        wire.expect("SIP/2.0 403").await;
    }
    let mut wire = connect(at, &authority, Some(&authority.card(&["PBX.example"]))).await.unwrap();
    wire.send(line(at).invite()).await;
    wire.expect("SIP/2.0 100").await;
    let SipEvent::Invited { invite, .. } = gateway.event().await else { panic!() };

    assert_eq!(invite.trunk.as_deref(), Some("pbx"));
}

#[tokio::test]
async fn a_secure_call_is_answered_with_a_secure_contact() {
    let authority = Authority::new();
    let identity = Some(authority.card(&["gateway.test"]).identity());
    let (mut gateway, at) = listening(SipTls { identity, ..SipTls::default() }).await;
    let mut wire = connect(at, &authority, None).await.unwrap();

    wire.send(line(at).invite().replacen("INVITE sip:", "INVITE sips:", 1)).await;
    let SipEvent::Invited { dialog, invite } = gateway.event().await else { panic!() };
    assert!(invite.tls_names.is_empty());
    gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;

    wire.expect("SIP/2.0 100").await;
    assert_eq!(wire.expect("SIP/2.0 200").await.uri("contact"), format!("sips:ringback@{at}"));
}

#[tokio::test]
async fn client_certificates_are_judged_as_configured() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (right, wrong) = (ours.card(&["pbx.example"]), theirs.card(&["pbx.example"]));
    let expired = ours.card_until(&["pbx.example"], 2001);
    let cards = [Some(&right), None, Some(&wrong), Some(&expired)];
    for (policy, wanted) in [
        (ClientCertificates::Off, [true, true, true, true]),
        (ClientCertificates::Request, [true, true, false, false]),
        (ClientCertificates::Require, [true, false, false, false]),
    ] {
        let (gateway, at) = listening(SipTls {
            identity: Some(ours.card(&["gateway.test"]).identity()),
            client_certificates: policy,
            client_ca: Some(ours.pem.clone().into_bytes()),
            ..SipTls::default()
        })
        .await;

        for (card, wanted) in cards.iter().zip(wanted) {
            assert_eq!(is_served(at, &ours, *card).await, wanted, "{policy:?}");
        }
        let refused = wanted.iter().filter(|wanted| !**wanted).count() as u64;
        until("every refusal is counted", || gateway.sip.counters().handshakes_failed == refused).await;
    }
}

#[tokio::test]
async fn certificates_change_under_an_open_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = |authority: &Authority| SipTls {
        identity: Some(authority.card(&["gateway.test"]).identity()),
        ..SipTls::default()
    };
    let (gateway, at) = listening(tls(&old)).await;
    let mut wire = connect(at, &old, None).await.unwrap();

    gateway.sip.reload_tls(tls(&new)).unwrap();

    assert!(is_served(at, &new, None).await);
    assert!(!is_served(at, &old, None).await);
    wire.send(line(at).request("OPTIONS", 1, "z9hG4bKopen", "", "")).await;
    wire.expect("SIP/2.0 200").await;
    // What is of no use changes nothing.
    let broken = SipTls {
        identity: Some(TlsIdentity {
            key: Secret::new(old.card(&["x"]).key),
            ..new.card(&["gateway.test"]).identity()
        }),
        ..SipTls::default()
    };
    assert!(matches!(gateway.sip.reload_tls(broken), Err(TlsError::Identity(_))));
    assert!(is_served(at, &new, None).await);
}

#[tokio::test]
async fn we_call_servers_that_prove_the_name_that_was_dialled() {
    ringback::services::tls::install();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let zone = Zone::serve(&[("sbc.carrier.test A", "127.0.0.1")]).await;
    let ok = Ok(());
    let no = Err(Failure::Transport);
    for (host, card, wildcards, wanted) in [
        ("127.0.0.1", ours.card(&["127.0.0.1"]), false, ok.clone()),
        ("sbc.carrier.test", ours.card(&["sbc.carrier.test"]), false, ok.clone()),
        ("sbc.carrier.test", ours.card(&["sip:sbc.carrier.test"]), false, ok.clone()),
        ("sbc.carrier.test", ours.card(&["*.carrier.test"]), false, no.clone()),
        ("sbc.carrier.test", ours.card(&["*.carrier.test"]), true, ok),
        ("sbc.carrier.test", ours.card(&["127.0.0.1", "other.test"]), false, no.clone()),
        ("sbc.carrier.test", theirs.card(&["sbc.carrier.test"]), false, no.clone()),
        ("sbc.carrier.test", ours.card_until(&["sbc.carrier.test"], 2001), false, no),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = SipTls {
            identity: Some(ours.card(&["gateway.test"]).identity()),
            trust: Trust::Pem(ours.pem.clone().into_bytes()),
            wildcards,
            ..SipTls::default()
        };
        let config = SipConfig { tls, nameservers: Some(vec![zone.at]), ..SipConfig::default() };
        let mut gateway = Gateway::with(config).await;
        let dial = Dial {
            to: format!("sips:bob@{host}:{port}"),
            sdp: SDP.to_owned(),
            from_user: Pii::new("ada".to_owned()),
            ..Dial::default()
        };
        gateway.sip.send(gateway.sip.new_dialog(), SipCommand::Dial(Box::new(dial))).await;

        let accepted = accept(&listener, &card, &ours).await;

        let got = match accepted {
            Some(mut wire) => {
                let invite = wire.expect(&format!("INVITE sips:bob@{host}:{port}")).await;
                assert!(invite.header("via").starts_with("SIP/2.0/TLS "));
                assert!(invite.uri("contact").starts_with("sips:ringback@"));
                let shown = wire.stream.get_ref().1.peer_certificates().map(<[_]>::len);
                assert_eq!(shown, Some(1), "we show our certificate when asked");
                Ok(())
            }
            None => match gateway.event().await {
                SipEvent::Failed { failure, .. } => Err(failure),
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(got, wanted, "{host}, wildcards {wildcards}");
    }
}

/// A server that asks for a certificate. `None` when the client wants nothing of ours.
async fn accept(listener: &TcpListener, card: &Card, roots: &Authority) -> Option<Wire<server::TlsStream<TcpStream>>> {
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots.store())).build().unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = config.with_single_cert(card.chain(), card.key()).unwrap();
    let (stream, _) = timeout(Duration::from_secs(10), listener.accept()).await.unwrap().unwrap();
    TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok().map(Wire::over)
}

#[tokio::test]
async fn what_cannot_be_spoken_is_told_at_the_start() {
    let authority = Authority::new();
    let identity = Some(authority.card(&["gateway.test"]).identity());
    let wrong_key = TlsIdentity { key: Secret::new(authority.card(&["x"]).key), ..identity.clone().unwrap() };
    let no_key = TlsIdentity { key: Secret::new("hunter2"), ..identity.clone().unwrap() };
    let asks = ClientCertificates::Require;
    for (tls, wanted) in [
        (SipTls::default(), "needs a certificate"),
        (SipTls { identity: Some(wrong_key), ..SipTls::default() }, "cannot use our certificate"),
        (SipTls { identity: Some(no_key), ..SipTls::default() }, "no PEM private key"),
        (SipTls { identity: identity.clone(), client_certificates: asks, ..SipTls::default() }, "no CA for them"),
        (SipTls { identity, trust: Trust::Pem(b"nothing".to_vec()), ..SipTls::default() }, "holds no certificate"),
    ] {
        let listen_tls = vec!["127.0.0.1:0".parse().unwrap()];

        let refused = ringback::sip::Sip::bind(SipConfig { listen_tls, tls, ..SipConfig::default() }).await;

        let error = refused.expect_err("a refusal").to_string();
        assert!(error.contains(wanted) && !error.contains("hunter2"), "{error}");
    }
}
