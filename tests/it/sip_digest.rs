//! Proving who we are to peers that ask, over real sockets. Proofs are checked by a formula written out here.

use std::time::Duration;

use ringback::model::{Pii, Secret};
use ringback::sip::{By, Denial, Dial, DialogId, Failure, Login, SipCommand, SipEvent};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use crate::sip_probe::{Gateway, Msg, Peer, SDP, Wire};

#[tokio::test]
async fn a_challenged_invite_is_sent_again_with_a_proof() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let dialog = dial(&gateway, format!("sip:bob@{}", peer.at), Some(login("open sesame"))).await;
    let first = peer.expect("INVITE").await;
    assert!(first.all("authorization").is_empty());

    peer.send(first.response("401 Unauthorized", "p", &challenge("WWW-Authenticate", "n1", ""), "")).await;
    let ack = peer.expect("ACK").await;
    let second = peer.expect("INVITE").await;
    peer.send(second.response("200 OK", "bob", &format!("Contact: <sip:bob@{}>\r\n", peer.at), SDP)).await;
    let confirmed = peer.expect("ACK").await;

    assert_eq!(ack.header("via"), first.header("via"), "the refusal is acknowledged within its transaction");
    assert_ne!(second.header("via"), first.header("via"));
    for same in ["call-id", "from", "to", "contact"] {
        assert_eq!(second.header(same), first.header(same));
    }
    assert_eq!((second.header("cseq"), second.body.as_str()), ("2 INVITE", SDP));
    assert_proven(&second, "authorization", "INVITE", 1);
    assert_eq!(confirmed.header("cseq"), "2 ACK");
    // RFC 3261 §22.1: an ACK cannot be challenged, so it bears the INVITE's proof.
    assert_eq!(confirmed.header("authorization"), second.header("authorization"));
    assert!(matches!(gateway.event().await, SipEvent::Answered { dialog: answered, .. } if answered == dialog));
}

#[tokio::test]
async fn a_proxy_and_the_peer_behind_it_are_both_answered() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    dial(&gateway, format!("sip:bob@{}", peer.at), Some(login("open sesame"))).await;
    let first = peer.expect("INVITE").await;

    peer.send(first.response("407 Proxy", "p", &challenge("Proxy-Authenticate", "p1", ""), "")).await;
    let second = peer.find("INVITE").await;
    peer.send(second.response("401 Unauthorized", "q", &challenge("WWW-Authenticate", "n1", ""), "")).await;
    let third = peer.find("INVITE").await;

    assert_proven(&second, "proxy-authorization", "INVITE", 1);
    assert_proven(&third, "proxy-authorization", "INVITE", 2);
    assert_proven(&third, "authorization", "INVITE", 1);
    assert_eq!(third.header("cseq"), "3 INVITE");
}

#[tokio::test]
async fn a_stale_nonce_is_replaced_and_a_wrong_password_is_not_repeated() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    dial(&gateway, format!("sip:bob@{}", peer.at), Some(login("open sesame"))).await;
    let mut invite = peer.expect("INVITE").await;

    for (nonce, stale) in [("n1", ""), ("n2", ", stale=true"), ("n3", ", stale=true")] {
        peer.send(invite.response("401 Unauthorized", nonce, &challenge("WWW-Authenticate", nonce, stale), "")).await;
        invite = peer.find("INVITE").await;
        assert_proven(&invite, "authorization", "INVITE", 1);
        assert!(invite.header("authorization").contains(nonce));
    }
    peer.send(invite.response("401 Unauthorized", "z", &challenge("WWW-Authenticate", "n4", ""), "")).await;

    let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
    assert_eq!(failure, Failure::Unauthorized { denial: Denial::WrongLogin, realm: "ring".to_owned() });
    assert!(!failure.to_string().contains("sesame"), "{failure}");
    peer.expect("ACK").await;
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn without_a_login_a_challenge_says_what_is_missing() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    dial(&gateway, format!("sip:bob@{}", peer.at), None).await;
    let invite = peer.expect("INVITE").await;

    peer.send(invite.response("401 Unauthorized", "p", &challenge("WWW-Authenticate", "n1", ""), "")).await;

    let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
    assert_eq!(failure, Failure::Unauthorized { denial: Denial::NoLogin, realm: "ring".to_owned() });
    assert!(!failure.is_worth_another_way(false));
}

#[tokio::test]
async fn a_challenge_that_crosses_our_cancel_is_left_alone() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let dialog = dial(&gateway, format!("sip:bob@{}", peer.at), Some(login("open sesame"))).await;
    let invite = peer.expect("INVITE").await;
    peer.send(invite.response("100 Trying", "", "", "")).await;
    peer.send(invite.response("180 Ringing", "bob", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ringing { .. }));

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
    let cancel = peer.expect("CANCEL").await;
    peer.send(invite.response("401 Unauthorized", "p", &challenge("WWW-Authenticate", "n1", ""), "")).await;
    peer.expect("ACK").await;
    peer.send(cancel.response("481 Gone", "p", "", "")).await;

    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, .. }));
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_call_that_was_challenged_can_still_be_canceled() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let dialog = dial(&gateway, format!("sip:bob@{}", peer.at), Some(login("open sesame"))).await;
    let first = peer.expect("INVITE").await;
    peer.send(first.response("401 Unauthorized", "p", &challenge("WWW-Authenticate", "n1", ""), "")).await;
    let second = peer.find("INVITE").await;
    peer.send(second.response("180 Ringing", "bob", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ringing { .. }));

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
    let cancel = peer.expect("CANCEL").await;

    assert_eq!(cancel.header("via"), second.header("via"), "the INVITE that counts is canceled");
    assert_eq!(cancel.header("cseq"), "2 CANCEL");
}

#[tokio::test]
async fn over_tcp_the_end_of_the_challenged_invite_is_not_the_end_of_the_call() {
    let mut gateway = Gateway::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    dial(&gateway, format!("sip:bob@{at};transport=tcp"), Some(login("open sesame"))).await;
    let mut wire = Wire::accept(&listener).await;
    let first = wire.expect("INVITE").await;

    // RFC 3261 §17.1.1.2: timer D is zero here, so the first transaction ends at once.
    wire.send(first.response("401 Unauthorized", "p", &challenge("WWW-Authenticate", "n1", ""), "")).await;
    wire.expect("ACK").await;
    let second = wire.expect("INVITE").await;
    wire.send(second.response("200 OK", "bob", &format!("Contact: <sip:bob@{at};transport=tcp>\r\n"), SDP)).await;
    wire.expect("ACK").await;

    assert!(matches!(gateway.event().await, SipEvent::Answered { .. }));
}

#[tokio::test]
async fn a_peer_that_keeps_silent_is_given_up_and_its_late_answer_hung_up() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let dialog = gateway.sip.new_dialog();
    let silence = Some(Duration::from_millis(50));
    let call = Dial { silence, ..call(format!("sip:bob@{}", peer.at), None) };
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(call))).await;
    let invite = peer.expect("INVITE").await;

    let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
    peer.send(invite.response("200 OK", "bob", &format!("Contact: <sip:bob@{}>\r\n", peer.at), SDP)).await;
    peer.expect("ACK").await;
    let bye = peer.expect("BYE").await;
    peer.send(bye.response("200 OK", "", "", "")).await;

    assert_eq!(failure, Failure::Silent);
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_peer_that_keeps_silent_and_then_rings_is_canceled() {
    let mut gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let dialog = gateway.sip.new_dialog();
    let silence = Some(Duration::from_millis(50));
    let call = Dial { silence, ..call(format!("sip:bob@{}", peer.at), None) };
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(call))).await;
    let invite = peer.expect("INVITE").await;
    assert!(matches!(gateway.event().await, SipEvent::Failed { failure: Failure::Silent, .. }));

    peer.send(invite.response("180 Ringing", "bob", "", "")).await;
    let cancel = peer.expect("CANCEL").await;
    peer.send(cancel.response("200 OK", "bob", "", "")).await;
    peer.send(invite.response("487 Terminated", "bob", "", "")).await;
    peer.expect("ACK").await;

    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_preloaded_route_is_where_the_invite_goes() {
    let gateway = Gateway::new().await;
    let proxy = Peer::of(gateway.udp).await;
    let route = vec![format!("sip:{};lr", proxy.at), "sip:core.example;lr".to_owned()];
    let call = Dial { route: route.clone(), ..call("sip:bob@carrier.invalid".to_owned(), None) };
    gateway.sip.send(gateway.sip.new_dialog(), SipCommand::Dial(Box::new(call))).await;

    let invite = proxy.expect("INVITE sip:bob@carrier.invalid SIP/2.0").await;

    assert_eq!(invite.all("route"), route.iter().map(|uri| format!("<{uri}>")).collect::<Vec<_>>());
}

pub(crate) fn login(password: &str) -> Login {
    Login { username: "alice".to_owned(), password: Secret::new(password), realm: Some("ring".to_owned()) }
}

fn call(to: String, credentials: Option<Login>) -> Dial {
    Dial { to, from_user: Pii::new("4420".to_owned()), sdp: SDP.to_owned(), credentials, ..Dial::default() }
}

async fn dial(gateway: &Gateway, to: String, credentials: Option<Login>) -> DialogId {
    let dialog = gateway.sip.new_dialog();
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(call(to, credentials)))).await;
    dialog
}

/// A header that asks for a proof.
pub(crate) fn challenge(header: &str, nonce: &str, more: &str) -> String {
    format!(
        "{header}: Digest realm=\"ring\", nonce=\"{nonce}\", qop=\"auth\", algorithm=SHA-256, opaque=\"o\"{more}\r\n"
    )
}

/// Whether a request proves that we know the password, by RFC 7616 §3.4.1, and the nonce was counted up to here.
pub(crate) fn assert_proven(request: &Msg, header: &str, method: &str, count: u32) {
    let proof = request.header(header);
    let value = |name: &str| {
        let rest = proof.split(&format!(" {name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {proof}"));
        let rest = rest.strip_prefix('"').map_or_else(|| rest.split(',').next(), |quoted| quoted.split('"').next());
        rest.expect("there is a first part").to_owned()
    };
    let hash = |text: String| Sha256::digest(text.as_bytes()).iter().map(|o| format!("{o:02x}")).collect::<String>();
    let uri = request.start.split(' ').nth(1).expect("a request line");
    let (nc, nonce, cnonce) = (value("nc"), value("nonce"), value("cnonce"));
    let secret = hash("alice:ring:open sesame".to_owned());
    let wanted = hash(format!("{secret}:{nonce}:{nc}:{cnonce}:auth:{}", hash(format!("{method}:{uri}"))));
    assert_eq!(value("response"), wanted, "{proof}");
    assert_eq!((value("uri").as_str(), value("opaque").as_str()), (uri, "o"));
    assert_eq!(nc, format!("{count:08x}"));
}
