//! Parties that move: REFER in both directions, and Replaces, through the whole gateway; every end is written by hand.

use ringback::call::Status;

use crate::house::{Crm, House};
use crate::sip_forward::Passage;
use crate::sip_probe::{Line, Msg, Peer, SDP};

const MAY_REFER: &str = "[outbound.allow]\nhosts = [\"127.0.0.1\"]\n[transfer]\naccept_refer = true\n";

fn refer_to(line: &Line, cseq: u32, to: &str) -> String {
    let headers = format!("Refer-To: <{to}>\r\nReferred-By: <sip:ada@127.0.0.1>\r\n");
    line.request("REFER", cseq, &format!("z9hG4bKrefer{cseq}"), &headers, "")
}

/// The next NOTIFY of a referral, answered; its fragment must begin like this.
async fn notified(peer: &Peer, fragment: &str) -> Msg {
    let notify = peer.expect("NOTIFY").await;
    assert!(notify.header("event").starts_with("refer"), "{}", notify.text);
    assert_eq!(notify.header("content-type"), "message/sipfrag;version=2.0");
    assert!(notify.body.starts_with(fragment), "wanted {fragment}, got {}", notify.body);
    peer.send(notify.response("200 OK", "", "", "")).await;
    notify
}

async fn said_bye(peer: &Peer) {
    let bye = peer.expect("BYE").await;
    peer.send(bye.response("200 OK", "", "", "")).await;
}

fn bye(line: &Line, cseq: u32) -> String {
    line.request("BYE", cseq, &format!("z9hG4bKbye{cseq}"), "", "")
}

#[tokio::test]
async fn a_caller_moves_whom_it_talks_to_and_hears_how_that_goes() {
    let mut passage = Passage::with(MAY_REFER).await;
    passage.answered().await;
    let carol = Peer::of(passage.caller.gateway).await;

    passage.caller.send(refer_to(&passage.line, 2, &format!("sip:carol@{}", carol.at))).await;
    passage.caller.expect("SIP/2.0 202").await;
    let first = notified(&passage.caller, "SIP/2.0 100").await;
    let invite = carol.expect("INVITE").await;
    let contact = format!("Contact: <sip:carol@{}>\r\n", carol.at);
    carol.send(invite.response("180 Ringing", "carol", &contact, "")).await;
    notified(&passage.caller, "SIP/2.0 180").await;
    carol.send(invite.response("200 OK", "carol", &contact, SDP)).await;
    carol.expect("ACK").await;
    let last = notified(&passage.caller, "SIP/2.0 200").await;
    passage.caller.send(bye(&passage.line, 3)).await;
    passage.caller.expect("SIP/2.0 200").await;
    // The two who are left talk on, until one of them has enough.
    let line =
        Line { to_tag: invite.tag("from"), call_id: invite.header("call-id").to_owned(), ..passage.line.clone() };
    carol.send(bye(&Line { from: invite.header("to").to_owned(), ..line }, 1).replace("tag=ada", "tag=carol")).await;
    carol.expect("SIP/2.0 200").await;
    said_bye(&passage.callee).await;

    assert!(first.header("subscription-state").starts_with("active"));
    assert_eq!(last.header("subscription-state"), "terminated;reason=noresource");
    assert_eq!(invite.header("referred-by"), "<sip:ada@127.0.0.1>");
    assert_eq!(passage.house.record().await.status, Status::Transferred);
}

#[tokio::test]
async fn a_move_that_fails_is_told_with_its_status_and_the_call_goes_on() {
    let mut passage = Passage::with(MAY_REFER).await;
    passage.answered().await;
    let carol = Peer::of(passage.caller.gateway).await;

    passage.caller.send(refer_to(&passage.line, 2, &format!("sip:carol@{}", carol.at))).await;
    passage.caller.expect("SIP/2.0 202").await;
    notified(&passage.caller, "SIP/2.0 100").await;
    passage.caller.send(refer_to(&passage.line, 3, "sip:dave@127.0.0.1")).await;
    passage.caller.expect("SIP/2.0 491").await;
    let invite = carol.expect("INVITE").await;
    carol.send(invite.response("486 Busy Here", "carol", "", "")).await;
    carol.expect("ACK").await;
    notified(&passage.caller, "SIP/2.0 486").await;
    // Once that is over, the next may be asked for; it bears its number.
    passage.caller.send(refer_to(&passage.line, 4, &format!("sip:carol@{}", carol.at))).await;
    passage.caller.expect("SIP/2.0 202").await;
    let second = notified(&passage.caller, "SIP/2.0 100").await;
    carol.expect("INVITE").await;
    // The call ends meanwhile: the last news come before the BYE.
    let ending = async {
        notified(&passage.caller, "SIP/2.0 487").await;
        said_bye(&passage.caller).await;
        said_bye(&passage.callee).await;
    };
    tokio::join!(passage.house.gateway.drain(std::time::Duration::ZERO), ending);

    assert_eq!(second.header("event"), "refer;id=4");
}

#[tokio::test]
async fn what_makes_no_sense_or_has_no_leave_is_refused() {
    let mut passage = Passage::with(MAY_REFER).await;
    passage.answered().await;
    let peer = &passage.caller;

    for (n, (headers, status)) in [
        ("", "400"),
        ("Refer-To: <sip:a@127.0.0.1>\r\nRefer-To: <sip:b@127.0.0.1>\r\n", "400"),
        ("Refer-To: <<<\r\n", "400"),
        ("Refer-To: <http://127.0.0.1/>\r\n", "416"),
        ("Refer-To: <sip:a@127.0.0.1;method=BYE>\r\n", "603"),
    ]
    .into_iter()
    .enumerate()
    {
        let cseq = 2 + u32::try_from(n).unwrap();
        peer.send(passage.line.request("REFER", cseq, &format!("z9hG4bKodd{n}"), headers, "")).await;
        peer.expect(&format!("SIP/2.0 {status}")).await;
    }
    let stranger = Line::new(peer.at, peer.gateway);
    peer.send(refer_to(&stranger, 1, "sip:a@127.0.0.1")).await;
    peer.expect("SIP/2.0 403").await;
    peer.send(passage.line.request("NOTIFY", 10, "z9hG4bKnews", "Event: refer\r\n", "")).await;
    peer.expect("SIP/2.0 481").await;

    let mut strict = Passage::open().await;
    strict.answered().await;
    strict.caller.send(refer_to(&strict.line, 2, "sip:a@127.0.0.1")).await;
    strict.caller.expect("SIP/2.0 603").await;
    strict.caller.send(bye(&strict.line, 3)).await;
    strict.caller.expect("SIP/2.0 200").await;
    said_bye(&strict.callee).await;
    strict.house.record().await;
}

#[tokio::test]
async fn nobody_is_told_who_does_not_want_to_be() {
    let mut passage = Passage::with(MAY_REFER).await;
    passage.answered().await;
    let carol = Peer::of(passage.caller.gateway).await;

    let headers = format!("Refer-To: <sip:carol@{}>\r\nRefer-Sub: false\r\nSupported: norefersub\r\n", carol.at);
    passage.caller.send(passage.line.request("REFER", 2, "z9hG4bKquiet", &headers, "")).await;
    let accepted = passage.caller.expect("SIP/2.0 202").await;
    let invite = carol.expect("INVITE").await;
    carol.send(invite.response("200 OK", "carol", &format!("Contact: <sip:carol@{}>\r\n", carol.at), SDP)).await;
    carol.expect("ACK").await;
    // No NOTIFY comes: the next is our BYE to a referrer that stays.
    said_bye(&passage.caller).await;

    assert_eq!(accepted.header("refer-sub"), "false");
}

#[tokio::test]
async fn another_telephone_takes_the_place_of_the_caller() {
    let mut passage = Passage::open().await;
    passage.answered().await;
    let new = Peer::of(passage.caller.gateway).await;
    let gateway = passage.caller.gateway;
    let tag = passage.line.to_tag.clone().unwrap();
    let invite = |replaces: &str| {
        Line::new(new.at, gateway).request("INVITE", 1, &format!("z9hG4bK{}", replaces.len()), replaces, SDP)
    };
    let named =
        |to_tag: &str, tail: &str| format!("Replaces: {};to-tag={to_tag};from-tag=ada{tail}\r\n", passage.line.call_id);

    for (replaces, status) in [
        (named("nobody", ""), "481"),
        (named(&tag, ";early-only"), "486"),
        (named(&tag, "").repeat(2), "400"),
        ("Replaces: nonsense\r\n".to_owned(), "400"),
    ] {
        new.send(invite(&replaces)).await;
        new.find(&format!("SIP/2.0 {status}")).await;
    }
    let line = Line::new(new.at, gateway);
    new.send(line.request("INVITE", 1, "z9hG4bKtake", &format!("Require: replaces\r\n{}", named(&tag, "")), SDP)).await;
    let ok = new.find("SIP/2.0 200").await;
    let line = Line { to_tag: ok.tag("to"), ..line };
    new.send(line.ack()).await;
    said_bye(&passage.caller).await;
    new.send(bye(&line, 2)).await;
    new.expect("SIP/2.0 200").await;
    said_bye(&passage.callee).await;

    assert_eq!(passage.house.record().await.status, Status::Transferred);
}

#[tokio::test]
async fn two_calls_of_one_telephone_become_one_call_of_the_others() {
    let mut passage = Passage::with(MAY_REFER).await;
    passage.answered().await;
    // The same telephone calls somebody else to ask; then both calls are connected.
    let mut second = Line::new(passage.caller.at, passage.caller.gateway);
    passage.caller.send(second.request("INVITE", 1, "z9hG4bKsecond", "", SDP)).await;
    passage.caller.expect("SIP/2.0 100").await;
    let consulted = passage.callee.expect("INVITE").await;
    passage.callee.send(consulted.response("200 OK", "carol", &passage.contact(), SDP)).await;
    passage.callee.expect("ACK").await;
    let ok = passage.caller.expect("SIP/2.0 200").await;
    second.learn(&ok);
    passage.caller.send(second.request("ACK", 1, "z9hG4bKsecondack", "", "")).await;

    let replaces = format!(
        "{}%3Bto-tag%3D{}%3Bfrom-tag%3Dada",
        second.call_id.replace('@', "%40"),
        second.to_tag.as_ref().unwrap()
    );
    let target = format!("sip:desk@{}?Replaces={replaces}", passage.caller.gateway);
    passage.caller.send(refer_to(&passage.line, 2, &target)).await;
    passage.caller.expect("SIP/2.0 202").await;
    let mut notices = Vec::new();
    let mut byes = 0;
    // The second call's BYE and the news cross.
    while byes == 0 || !notices.iter().any(|body: &String| body.starts_with("SIP/2.0 200")) {
        let message = passage.caller.recv().await;
        passage.caller.send(message.response("200 OK", "", "", "")).await;
        byes += usize::from(message.start.starts_with("BYE"));
        if message.start.starts_with("NOTIFY") {
            notices.push(message.body);
        }
    }
    passage.caller.send(bye(&passage.line, 3)).await;
    passage.caller.expect("SIP/2.0 200").await;
    // The two who are left are both at one address here; one hangs up, and the other is hung up on.
    let line = Line {
        call_id: consulted.header("call-id").to_owned(),
        to_tag: consulted.tag("from"),
        from: consulted.header("to").to_owned(),
        ..Line::new(passage.callee.at, passage.callee.gateway)
    };
    passage.callee.send(bye(&line, 1).replace("tag=ada", "tag=carol")).await;
    passage.callee.expect("SIP/2.0 200").await;
    said_bye(&passage.callee).await;

    assert!(notices[0].starts_with("SIP/2.0 100"), "{notices:?}");
    passage.house.gateway.drain(std::time::Duration::from_secs(10)).await;
    assert_eq!(passage.house.gateway.store().calls(10).await.unwrap().len(), 2);
}

const AGENT: &str =
    "version = 1\ntitle = \"Desk\"\nconnector = \"flow\"\nring_budget_ms = 500\n[flow]\nworkflow = \"desk\"\n";

/// A gateway whose only agent gives every caller to this target at once.
async fn transferring(target: &Peer, tail: &str) -> (House, Peer, Line) {
    let workflow = format!(
        "version = 1\ntitle = \"Desk\"\n[[step]]\nid = \"move\"\n[step.transfer]\n\
         targets = [{{ to = \"sip:bob@{}\", ring_s = 3 }}]\n",
        target.at
    );
    let carrier = format!(
        "version = 1\ntitle = \"Carrier\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n[transfer]\n\
         send_refer = \"first\"\n{tail}"
    );
    let routes = "version = 1\n[[route]]\ncalled = \"*\"\nagent = \"desk\"\n".to_owned();
    let files = [
        ("agents/desk.toml", AGENT.to_owned()),
        ("workflows/desk.toml", workflow),
        ("trunks/carrier.toml", carrier),
        ("routes.toml", routes),
    ];
    let house = House::open(Crm::open(&[]).await, &files).await;
    let (gateway, _) = house.gateway.sip_addrs()[0];
    let caller = Peer::of(gateway).await;
    let mut line = Line::new(caller.at, gateway);
    caller.send(line.invite()).await;
    let ok = caller.find("SIP/2.0 200").await;
    line.learn(&ok);
    caller.send(line.ack()).await;
    (house, caller, line)
}

fn news(line: &Line, cseq: u32, state: &str, fragment: &str) -> String {
    let headers =
        format!("Event: refer\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag;version=2.0\r\n");
    line.request("NOTIFY", cseq, &format!("z9hG4bKnews{cseq}"), &headers, fragment)
}

#[tokio::test]
async fn a_network_that_moves_its_caller_takes_us_out_of_the_call() {
    let target = Peer::of("127.0.0.1:9".parse().unwrap()).await;
    let (house, caller, line) = transferring(&target, "").await;

    let refer = caller.expect("REFER").await;
    caller.send(refer.response("202 Accepted", "", "", "")).await;
    caller.send(news(&line, 2, "active;expires=60", "SIP/2.0 100 Trying\r\n")).await;
    caller.expect("SIP/2.0 200").await;
    caller.send(news(&line, 3, "active;expires=60", "SIP/2.0 180 Ringing\r\n")).await;
    caller.expect("SIP/2.0 200").await;
    caller.send(news(&line, 4, "terminated;reason=noresource", "SIP/2.0 200 OK\r\n")).await;
    caller.expect("SIP/2.0 200").await;
    said_bye(&caller).await;

    assert_eq!(refer.header("refer-to"), format!("<sip:bob@{}>", target.at));
    assert!(refer.header("referred-by").starts_with("<sip:desk@"), "{}", refer.text);
    let record = house.record().await;
    assert_eq!(record.status, Status::Transferred);
    assert_eq!(record.transferred_to.unwrap(), format!("sip:bob@{}", target.at));
}

#[tokio::test]
async fn a_network_that_does_not_move_anybody_is_not_needed() {
    for how in ["405 Method Not Allowed", "603 Decline", "202 Accepted"] {
        let target = Peer::of("127.0.0.1:9".parse().unwrap()).await;
        let (house, caller, line) = transferring(&target, "").await;
        let target = Peer { gateway: caller.gateway, ..target };

        let refer = caller.expect("REFER").await;
        caller.send(refer.response(how, "", "", "")).await;
        if how.starts_with("202") {
            caller.send(news(&line, 2, "terminated;reason=noresource", "SIP/2.0 503 Service Unavailable\r\n")).await;
            caller.expect("SIP/2.0 200").await;
        }
        let invite = target.expect("INVITE").await;
        target.send(invite.response("200 OK", "bob", &format!("Contact: <sip:bob@{}>\r\n", target.at), SDP)).await;
        target.expect("ACK").await;
        caller.send(bye(&line, 5)).await;
        caller.expect("SIP/2.0 200").await;
        said_bye(&target).await;

        assert_eq!(house.record().await.status, Status::Transferred, "{how}");
    }
}
