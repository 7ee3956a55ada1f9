//! What happens within a dialog, over real sockets: session timers, holds, offers of ours, and requests that collide.

use std::time::Duration;

use ringback::model::Codec;
use ringback::sip::{By, Dial, DialogId, Loss, SipCommand, SipEvent, Terms};
use ringback::trunk::SessionRules;

use crate::sip_probe::{Gateway, Line, Msg, Peer, SDP};

pub(crate) const OURS: &str = "v=0\r\no=- 5 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 30000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
    a=ptime:20\r\na=sendrecv\r\n";
const TIMER: &str = "Supported: timer\r\nAllow: INVITE, ACK, BYE, UPDATE\r\n";
const NO_UPDATE: &str = "Supported: timer\r\nAllow: INVITE, ACK, BYE\r\n";

#[tokio::test]
async fn we_refresh_by_update_at_half_the_interval() {
    let mut gateway = Gateway::new().await;
    let asks = format!("{TIMER}Session-Expires: 2;refresher=uas\r\n");
    let (peer, _, _, ok) = talking(&mut gateway, &asks, rules(None, 1)).await;
    assert_eq!((ok.header("session-expires"), ok.header("require")), ("2;refresher=uas", "timer"));

    for _ in 0..3 {
        let update = peer.expect("UPDATE").await;
        assert_eq!((update.header("session-expires"), update.body.as_str()), ("2;refresher=uac", ""));
        let grants = format!("{}Require: timer\r\nSession-Expires: 2;refresher=uac\r\n", contact(&peer));
        peer.send(update.response("200 OK", "", &grants, "")).await;
    }

    assert!(gateway.events.try_recv().is_err());
}

#[tokio::test]
async fn we_refresh_by_an_unchanged_invite_where_update_is_not_allowed() {
    let mut gateway = Gateway::new().await;
    let asks = format!("{NO_UPDATE}Session-Expires: 2;refresher=uas\r\n");
    let (peer, ..) = talking(&mut gateway, &asks, rules(None, 1)).await;

    for _ in 0..2 {
        let reinvite = peer.expect("INVITE").await;
        assert_eq!((reinvite.header("session-expires"), reinvite.body.as_str()), ("2;refresher=uac", OURS));
        let grants = format!("{}Session-Expires: 2;refresher=uac\r\n", contact(&peer));
        let ok = reinvite.response("200 OK", "", &grants, SDP);
        peer.send(&ok).await;
        let ack = peer.expect("ACK").await;
        assert_eq!(ack.header("cseq").split(' ').next(), reinvite.header("cseq").split(' ').next());
        // Their copy of the ACK was lost.
        peer.send(&ok).await;
        peer.expect("ACK").await;
        assert!(matches!(gateway.event().await, SipEvent::Reinvited { offer: Some(offer), .. } if offer == OURS));
    }
}

#[tokio::test]
async fn a_session_that_they_do_not_refresh_ends_before_its_time_is_over() {
    let mut gateway = Gateway::new().await;
    let asks = format!("{TIMER}Session-Expires: 3;refresher=uac\r\n");
    let (peer, line, _, ok) = talking(&mut gateway, &asks, rules(None, 1)).await;
    assert_eq!(ok.header("session-expires"), "3;refresher=uac");

    // Once they do; the refresher stays who it was, though they do not say so.
    let again = format!("{TIMER}Session-Expires: 3\r\n");
    peer.send(line.request("UPDATE", 2, "z9hG4bKu", &again, "")).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.header("session-expires"), "3;refresher=uac");
    let begun = tokio::time::Instant::now();

    let bye = peer.expect("BYE").await;
    let after = begun.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_millis(2800)).contains(&after), "{after:?}");
    assert!(bye.all("reason").iter().any(|reason| reason.contains("Session timer expired")), "{}", bye.text);
    assert!(matches!(gateway.event().await, SipEvent::Lost { loss: Loss::Expired, .. }));
    peer.send(bye.response("200 OK", "", "", "")).await;
    gateway.assert_quiet(&peer).await;
}

#[tokio::test]
async fn an_interval_too_small_is_refused_with_what_would_do() {
    let mut gateway = Gateway::new().await;
    let (peer, line, dialog) = invited(&mut gateway, &format!("{TIMER}Session-Expires: 60\r\n"), SDP).await;
    adopt(&gateway, dialog, SessionRules::default()).await;
    let refusal = SipCommand::Reject { status: 422, reason: None, retry_after_s: None, warning: None };
    gateway.sip.send(dialog, refusal).await;
    assert_eq!(peer.expect("SIP/2.0 422").await.header("min-se"), "90");
    peer.send(line.request("ACK", 1, "z9hG4bKinvite1", "", "")).await;

    // Within a dialog it is for us alone to refuse, and the dialog goes on.
    let (peer, line, _, ok) = talking(&mut gateway, TIMER, SessionRules::default()).await;
    assert_eq!(ok.header("session-expires"), "1800;refresher=uas");
    peer.send(line.request("UPDATE", 2, "z9hG4bKu", &format!("{TIMER}Session-Expires: 60\r\n"), "")).await;
    assert_eq!(peer.expect("SIP/2.0 422").await.header("min-se"), "90");
    peer.send(line.request("OPTIONS", 3, "z9hG4bKo", "", "")).await;
    peer.expect("SIP/2.0 200").await;
}

#[tokio::test]
async fn a_call_refused_for_its_interval_is_placed_again_with_a_longer_one() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = calling(&gateway, rules(Some(100), 90)).await;
    assert_eq!((invite.header("session-expires"), invite.header("min-se")), ("100", "90"));
    assert_eq!(invite.header("supported"), "100rel, timer, replaces, norefersub");

    peer.send(invite.response("422 Session Interval Too Small", "x", "Min-SE: 500\r\n", "")).await;
    peer.expect("ACK").await;
    let again = peer.expect("INVITE").await;

    assert_eq!((again.header("session-expires"), again.header("min-se")), ("500", "500"));
    assert_eq!((again.header("call-id"), again.header("cseq")), (invite.header("call-id"), "2 INVITE"));
    assert_eq!((again.tag("from"), again.tag("to")), (invite.tag("from"), None));
    let grants = format!("{}Session-Expires: 500;refresher=uas\r\nRequire: timer\r\n", contact(&peer));
    peer.send(again.response("200 OK", "bob", &grants, SDP)).await;
    assert_eq!(peer.expect("ACK").await.header("cseq"), "2 ACK");
    assert!(matches!(gateway.event().await, SipEvent::Answered { .. }));
}

#[tokio::test]
async fn a_callee_that_knows_no_timers_is_refreshed_by_us_alone() {
    let mut gateway = Gateway::new().await;
    let (peer, _, invite) = calling(&gateway, rules(Some(2), 1)).await;
    peer.send(invite.response("200 OK", "bob", &contact(&peer), SDP)).await;
    peer.expect("ACK").await;
    assert!(matches!(gateway.event().await, SipEvent::Answered { .. }));

    let refresh = peer.expect("INVITE").await;
    assert_eq!(refresh.body, SDP, "to the letter what we said before");
    // Not a word comes back that would keep it: the dialog is unknown there.
    peer.send(refresh.response("481 Call/Transaction Does Not Exist", "", "", "")).await;

    peer.expect("ACK").await;
    peer.expect("BYE").await;
    assert!(matches!(gateway.event().await, SipEvent::Lost { loss: Loss::Unknown, .. }));
}

#[tokio::test]
async fn a_hold_a_codec_change_and_a_new_address_are_answered_with_one_version_each() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _, _) = talking(&mut gateway, "", SessionRules::default()).await;
    let steps = [
        (SDP.replace("sendrecv", "sendonly"), "a=recvonly", "o=- 5 2 IN"),
        (SDP.replace("sendrecv", "sendonly"), "a=recvonly", "o=- 5 2 IN"),
        (SDP.replace("c=IN IP4 127.0.0.1", "c=IN IP4 0.0.0.0"), "a=inactive", "o=- 5 3 IN"),
        (SDP.replace("sendrecv", "inactive"), "a=inactive", "o=- 5 3 IN"),
        (SDP.to_owned(), "a=sendrecv", "o=- 5 4 IN"),
        (SDP.replace("RTP/AVP 0", "RTP/AVP 8").replace(":0 PCMU", ":8 PCMA"), "a=rtpmap:8 PCMA", "o=- 5 5 IN"),
        (SDP.replace("40000", "41000").replace("127.0.0.1\r\ns", "127.0.0.2\r\ns"), "a=rtpmap:0 PCMU", "o=- 5 6 IN"),
    ];
    for (cseq, (offer, has, version)) in (2..).zip(steps) {
        peer.send(line.request("INVITE", cseq, &format!("z9hG4bK{cseq}"), "", &offer)).await;
        let ok = peer.expect("SIP/2.0 200").await;
        assert!(ok.body.contains(has) && ok.body.contains(version) && ok.body.contains("m=audio 30000"), "{}", ok.body);
        peer.send(line.request("ACK", cseq, &format!("z9hG4bK{cseq}a"), "", "")).await;
        assert!(matches!(gateway.event().await, SipEvent::Reinvited { answer: Some(answer), .. } if answer == ok.body));
    }
}

#[tokio::test]
async fn an_offer_of_ours_is_made_again_after_a_collision() {
    let mut gateway = Gateway::new().await;
    let (peer, _, dialog, _) = talking(&mut gateway, "", SessionRules::default()).await;
    gateway.sip.send(dialog, SipCommand::Reoffer { sdp: OURS.replace("sendrecv", "sendonly") }).await;
    let first = peer.expect("INVITE").await;
    assert!(first.body.contains("o=- 5 2 IN") && first.body.contains("a=sendonly"), "{}", first.body);

    let begun = tokio::time::Instant::now();
    peer.send(first.response("491 Request Pending", "", "", "")).await;
    peer.expect("ACK").await;
    let second = peer.expect("INVITE").await;

    // The Call-ID is theirs, so we wait no longer than two seconds.
    assert!(begun.elapsed() < Duration::from_millis(2500));
    assert_eq!((second.body.as_str(), second.header("cseq")), (first.body.as_str(), "2 INVITE"));
    peer.send(second.response("200 OK", "", &contact(&peer), &SDP.replace("sendrecv", "recvonly"))).await;
    peer.expect("ACK").await;
    let SipEvent::Reinvited { offer, sdp: Some(_), answer: None, .. } = gateway.event().await else { panic!() };
    assert_eq!(offer.as_deref(), Some(second.body.as_str()));
}

#[tokio::test]
async fn a_refused_offer_leaves_all_as_it_was() {
    let mut gateway = Gateway::new().await;
    let (peer, line, dialog, _) = talking(&mut gateway, "", SessionRules::default()).await;
    gateway.sip.send(dialog, SipCommand::Reoffer { sdp: OURS.replace("30000", "30002") }).await;
    let offer = peer.expect("INVITE").await;

    // While it is in the air, theirs has to wait.
    peer.send(line.request("INVITE", 2, "z9hG4bKx", "", SDP)).await;
    peer.expect("SIP/2.0 491").await;
    peer.send(line.request("ACK", 2, "z9hG4bKx", "", "")).await;
    peer.send(offer.response("488 Not Acceptable Here", "", "", "")).await;
    peer.expect("ACK").await;

    assert!(matches!(gateway.event().await, SipEvent::ReofferFailed { status: 488, .. }));
    peer.send(line.request("INVITE", 3, "z9hG4bK3", "", SDP)).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.body, OURS);
}

#[tokio::test]
async fn hanging_up_over_an_offer_of_ours_leaves_nothing_behind() {
    let mut gateway = Gateway::new().await;
    let (peer, _, dialog, _) = talking(&mut gateway, "", SessionRules::default()).await;
    gateway.sip.send(dialog, SipCommand::Reoffer { sdp: OURS.replace("30000", "30002") }).await;
    let offer = peer.expect("INVITE").await;

    gateway.sip.send(dialog, SipCommand::HangUp { cause: Some(16) }).await;
    let bye = peer.expect("BYE").await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Us, .. }));
    // Their answer crossed: it wants its ACK all the same.
    peer.send(offer.response("200 OK", "", &contact(&peer), SDP)).await;
    peer.expect("ACK").await;
    peer.send(bye.response("200 OK", "", "", "")).await;

    gateway.assert_quiet(&peer).await;
    assert_eq!(gateway.sip.counters().dialogs, 0);
}

#[tokio::test]
async fn their_goodbye_over_an_offer_of_ours_ends_the_call() {
    let mut gateway = Gateway::new().await;
    let (peer, line, dialog, _) = talking(&mut gateway, "", SessionRules::default()).await;
    gateway.sip.send(dialog, SipCommand::Reoffer { sdp: OURS.replace("30000", "30002") }).await;
    let offer = peer.expect("INVITE").await;

    peer.send(line.request("BYE", 2, "z9hG4bKb", "", "")).await;
    peer.expect("SIP/2.0 200").await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Them, .. }));
    peer.send(offer.response("487 Request Terminated", "", "", "")).await;
    peer.expect("ACK").await;

    gateway.assert_quiet(&peer).await;
    assert_eq!(gateway.sip.counters().dialogs, 0);
}

#[tokio::test]
async fn an_offer_that_nobody_answers_ends_the_call() {
    let mut gateway = Gateway::hasty(10).await;
    let (peer, _, dialog, _) = talking(&mut gateway, "", SessionRules::default()).await;
    gateway.sip.send(dialog, SipCommand::Reoffer { sdp: OURS.replace("30000", "30002") }).await;
    peer.expect("INVITE").await;

    peer.find("BYE").await;

    assert!(matches!(gateway.event().await, SipEvent::Lost { loss: Loss::Unanswered, .. }));
}

#[tokio::test]
async fn a_cancel_of_a_later_invite_comes_too_late() {
    let mut gateway = Gateway::new().await;
    let (peer, line, _, _) = talking(&mut gateway, "", SessionRules::default()).await;
    peer.send(line.request("INVITE", 2, "z9hG4bK2", "", SDP)).await;
    peer.expect("SIP/2.0 200").await;

    peer.send(line.request("CANCEL", 2, "z9hG4bK2", "", "")).await;

    assert_eq!(peer.expect("SIP/2.0 200").await.header("cseq"), "2 CANCEL");
    assert!(matches!(gateway.event().await, SipEvent::Reinvited { .. }));
    peer.send(line.request("ACK", 2, "z9hG4bK2a", "", "")).await;
    peer.send(line.request("BYE", 3, "z9hG4bK3", "", "")).await;
    assert_eq!(peer.expect("SIP/2.0 200").await.header("cseq"), "3 BYE");
}

pub(crate) fn contact(peer: &Peer) -> String {
    format!("Contact: <sip:bob@{}>\r\n", peer.at)
}

/// Rules below what a configuration may say, so that a test sees several refreshes.
pub(crate) fn rules(expires_s: Option<u64>, least_s: u64) -> SessionRules {
    SessionRules {
        expires: expires_s.map(Duration::from_secs),
        expires_min: Duration::from_secs(least_s),
        ..SessionRules::default()
    }
}

pub(crate) async fn adopt(gateway: &Gateway, dialog: DialogId, rules: SessionRules) {
    let terms = Terms { rules, codecs: vec![Codec::Pcmu, Codec::Pcma], sdp: Some(OURS.to_owned()), credentials: None };
    gateway.sip.send(dialog, SipCommand::Adopt(Box::new(terms))).await;
}

/// A call that has been let in, with these headers and this body, and has got its 100.
pub(crate) async fn invited(gateway: &mut Gateway, extra: &str, body: &str) -> (Peer, Line, DialogId) {
    let peer = Peer::of(gateway.udp).await;
    let line = Line::new(peer.at, gateway.udp);
    peer.send(line.request("INVITE", 1, "z9hG4bKinvite1", extra, body)).await;
    peer.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!("no call") };
    (peer, line, dialog)
}

/// A call that has been answered and acknowledged, and its 200.
pub(crate) async fn talking(gateway: &mut Gateway, extra: &str, rules: SessionRules) -> (Peer, Line, DialogId, Msg) {
    let (peer, mut line, dialog) = invited(gateway, extra, SDP).await;
    adopt(gateway, dialog, rules).await;
    gateway.sip.send(dialog, SipCommand::Answer { sdp: OURS.to_owned() }).await;
    let ok = peer.expect("SIP/2.0 200").await;
    line.learn(&ok);
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { sdp: None, .. }));
    (peer, line, dialog, ok)
}

/// A call of ours that has reached a peer.
pub(crate) async fn calling(gateway: &Gateway, rules: SessionRules) -> (Peer, DialogId, Msg) {
    let peer = Peer::of(gateway.udp).await;
    let dialog = gateway.sip.new_dialog();
    let dial = Dial { to: format!("sip:bob@{}", peer.at), sdp: SDP.to_owned(), rules, ..Dial::default() };
    gateway.sip.send(dialog, SipCommand::Dial(Box::new(dial))).await;
    let invite = peer.expect("INVITE").await;
    (peer, dialog, invite)
}
