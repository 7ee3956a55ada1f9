//! Requests of ours within a dialog that are challenged: each is repeated with a proof, once for every fresh challenge.

use ringback::sip::{Dial, DialogId, Login, ReferNews, ReferOrder, SipCommand, SipEvent, Terms};
use ringback::trunk::{Reliable, SessionRules};

use crate::sip_dialogs::{OURS, contact, invited};
use crate::sip_digest::{assert_proven, challenge, login};
use crate::sip_probe::{Gateway, Msg, Peer, SDP};

/// Challenges a request, and returns the one that proves.
async fn proven(peer: &Peer, method: &str, nonce: &str) -> Msg {
    let first = peer.find(method).await;
    peer.send(first.response("401 Unauthorized", "", &challenge("WWW-Authenticate", nonce, ""), "")).await;
    let second = peer.expect(method).await;
    assert_proven(&second, "authorization", method, 1);
    assert!(second.header("authorization").contains(nonce));
    assert_eq!(cseq(&second), cseq(&first) + 1);
    assert_ne!(second.header("via"), first.header("via"));
    for same in ["call-id", "from", "to"] {
        assert_eq!(second.header(same), first.header(same));
    }
    assert_eq!(second.body, first.body);
    second
}

fn cseq(message: &Msg) -> u32 {
    message.header("cseq").split(' ').next().unwrap().parse().unwrap()
}

/// A call of ours that the peer has answered with 180 under this tag, reliably.
async fn called(gateway: &Gateway, login: Option<Login>) -> (Peer, DialogId, Msg) {
    let peer = Peer::of(gateway.udp).await;
    let dialog = gateway.sip.new_dialog();
    let rules = SessionRules { reliable: Reliable::Supported, ..SessionRules::default() };
    let to = format!("sip:bob@{}", peer.at);
    let call = Dial { to, sdp: SDP.to_owned(), credentials: login, rules, ..Dial::default() };
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(call))).await;
    let invite = peer.expect("INVITE").await;
    (peer, dialog, invite)
}

async fn answered(gateway: &mut Gateway, peer: &Peer, invite: &Msg) {
    peer.send(invite.response("200 OK", "bob", &contact(peer), SDP)).await;
    peer.find("ACK").await;
    while !matches!(gateway.event().await, SipEvent::Answered { .. }) {}
}

#[tokio::test]
async fn a_challenged_prack_and_bye_are_sent_again() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = called(&gateway, Some(login("open sesame"))).await;
    let reliable = format!("{}Require: 100rel\r\nRSeq: 9\r\n", contact(&peer));
    peer.send(invite.response("180 Ringing", "bob", &reliable, "")).await;

    let prack = proven(&peer, "PRACK", "n1").await;
    assert_eq!(prack.header("rack"), "9 1 INVITE");
    peer.send(prack.response("200 OK", "", "", "")).await;
    answered(&mut gateway, &peer, &invite).await;
    gateway.sip.send(dialog, SipCommand::HangUp { cause: Some(16) }).await;
    // The nonce of the PRACK serves the BYE; this one has become too old.
    let bye = peer.expect("BYE").await;
    assert_proven(&bye, "authorization", "BYE", 2);
    let stale = challenge("WWW-Authenticate", "n2", ", stale=true");
    peer.send(bye.response("401 Unauthorized", "", &stale, "")).await;
    let again = peer.expect("BYE").await;
    peer.send(again.response("200 OK", "", "", "")).await;

    assert_proven(&again, "authorization", "BYE", 1);
    assert_eq!(again.header("reason"), bye.header("reason"));
    assert!(matches!(gateway.event().await, SipEvent::Ended { .. }));
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_bye_whose_proof_is_refused_is_not_repeated_for_ever() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = called(&gateway, Some(login("open sesame"))).await;
    answered(&mut gateway, &peer, &invite).await;

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
    let second = proven(&peer, "BYE", "n1").await;
    peer.send(second.response("401 Unauthorized", "", &challenge("WWW-Authenticate", "n2", ""), "")).await;

    assert!(matches!(gateway.event().await, SipEvent::Ended { .. }));
    gateway.assert_quiet(&peer).await;
    assert_eq!(gateway.sip.counters().dialogs, 0, "the dialog is forgotten all the same");
}

#[tokio::test]
async fn a_challenged_goodbye_to_a_second_fork_is_sent_again() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = called(&gateway, Some(login("open sesame"))).await;
    answered(&mut gateway, &peer, &invite).await;

    peer.send(invite.response("200 OK", "eve", &contact(&peer), SDP)).await;
    peer.expect("ACK").await;
    let bye = proven(&peer, "BYE", "n1").await;
    peer.send(bye.response("200 OK", "", "", "")).await;

    assert_eq!(bye.tag("to").as_deref(), Some("eve"));
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn a_challenged_referral_and_its_notices_are_sent_again() {
    let mut gateway = Gateway::new().await;
    let (peer, dialog, invite) = called(&gateway, Some(login("open sesame"))).await;
    answered(&mut gateway, &peer, &invite).await;

    let order = ReferOrder::Send { to: "<sip:carol@127.0.0.1>".to_owned(), replacing: None };
    gateway.sip.send(dialog, SipCommand::Refer(order)).await;
    let refer = proven(&peer, "REFER", "n1").await;
    assert_eq!(refer.header("refer-to"), "<sip:carol@127.0.0.1>");
    peer.send(refer.response("202 Accepted", "", &contact(&peer), "")).await;

    let SipEvent::Refer { news: ReferNews::Accepted, .. } = gateway.event().await else { panic!() };
}

#[tokio::test]
async fn a_trunk_may_challenge_us_in_its_own_calls() {
    let mut gateway = Gateway::new().await;
    let (peer, mut line, dialog) = invited(&mut gateway, "Allow: INVITE, ACK, BYE, UPDATE\r\n", SDP).await;
    let terms = Terms {
        codecs: vec![ringback::model::Codec::Pcmu],
        credentials: Some(login("open sesame")),
        ..Terms::default()
    };
    gateway.sip.send(dialog, SipCommand::Adopt(Box::new(terms))).await;
    gateway.sip.send(dialog, SipCommand::Answer { sdp: OURS.to_owned() }).await;
    line.learn(&peer.expect("SIP/2.0 200").await);
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));

    gateway.sip.send(dialog, SipCommand::Reoffer { sdp: OURS.replace("30000", "30002") }).await;
    let reinvite = peer.expect("INVITE").await;
    peer.send(reinvite.response("407 Proxy", "", &challenge("Proxy-Authenticate", "p1", ""), "")).await;
    let again = peer.find("INVITE").await;
    assert_proven(&again, "proxy-authorization", "INVITE", 1);
    assert_eq!(again.body, reinvite.body);
    peer.send(again.response("200 OK", "", &contact(&peer), SDP)).await;
    peer.find("ACK").await;
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { offer: Some(_), .. }));
    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
    let bye = proven(&peer, "BYE", "n2").await;
    peer.send(bye.response("200 OK", "", "", "")).await;

    assert!(matches!(gateway.event().await, SipEvent::Ended { .. }));
    gateway.assert_quiet(&peer).await;
}
