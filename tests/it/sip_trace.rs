//! The SIP messages of calls, as a whole gateway keeps them.

use crate::sip_forward::Passage;

#[tokio::test]
async fn the_messages_of_a_call_that_failed_are_kept_from_both_legs() {
    let mut passage = Passage::open().await;

    let invite = passage.ringing().await;
    passage.callee.send(invite.response("404 No", "bob", "", "")).await;
    passage.callee.expect("ACK").await;
    passage.caller.expect("SIP/2.0 404").await;
    passage.caller.send(passage.line.ack()).await;
    let record = passage.house.record().await;
    let trace = passage.house.gateway.store().trace(record.id).await.unwrap().expect("a trace");

    let told: Vec<(u32, bool, &str)> = trace
        .messages
        .iter()
        .map(|message| {
            let first = message.text.lines().next().unwrap();
            let what = first.strip_prefix("SIP/2.0 ").unwrap_or(first).split(' ').next().unwrap();
            (message.leg, message.received, what)
        })
        .collect();
    let target = trace.messages.iter().map(|message| message.leg).max().unwrap();
    for wanted in [
        (0, true, "INVITE"),
        (0, false, "100"),
        (0, false, "180"),
        (target, false, "INVITE"),
        (target, true, "180"),
        (target, true, "404"),
        (0, false, "404"),
    ] {
        assert!(told.contains(&wanted), "{wanted:?} not in {told:?}");
    }
    assert_eq!(told[0], (0, true, "INVITE"));
    assert_eq!(trace.messages[0].peer, passage.caller.at.to_string());
    assert!(trace.messages.iter().all(|message| message.at < 20_000) && trace.left_out == 0);
}

#[tokio::test]
async fn the_messages_of_a_call_that_went_well_are_not_kept() {
    let mut passage = Passage::open().await;

    passage.answered().await;
    passage.caller.send(passage.line.request("BYE", 2, "z9hG4bKbye", "", "")).await;
    passage.caller.expect("SIP/2.0 200").await;
    let bye = passage.callee.expect("BYE").await;
    passage.callee.send(bye.response("200 OK", "", "", "")).await;
    let record = passage.house.record().await;

    assert_eq!(passage.house.gateway.store().trace(record.id).await.unwrap(), None);
}
