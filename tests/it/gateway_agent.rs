//! Whole calls with a vendor's agent: a real caller over SIP and RTP, the whole gateway, and a strict vendor.

use std::net::SocketAddr;
use std::time::Duration;

use ringback::call::Status;
use ringback::cli::phone::{Manner, Outgoing, Phone};
use ringback::media::load_clip;
use serde_json::Value;

use crate::house::{Answer, Crm, House, soon};
use crate::realtime_server::{KEY, Options, RealtimeServer};

#[tokio::test]
async fn an_agent_greets_by_the_name_that_was_looked_up_while_it_rang() {
    let vendor = RealtimeServer::start_with(Options { speaks_ms: Some(600), ..Options::default() }).await;
    let crm = Crm::open(&[("/contacts", Answer::Says(200, r#"{"name": "Ada"}"#))]).await;
    let house = House::open(crm, &desk(&vendor)).await;
    let mut line = phone().await.call(outgoing(&house)).await.unwrap();

    let session = vendor.session().await;
    assert!(line.until(soon(), |now| now.first_sound_ms.is_some()).await, "the agent is heard");
    let greeting = session.next("response.create").await;
    session.wait("the caller's audio", |state| state.appends > 10).await;
    assert!(line.until(soon(), |now| now.quiet_ms() > 200).await, "the greeting ends");
    line.hang_up().await;
    let report = line.over().await;
    let record = house.record().await;

    let words = greeting["response"]["instructions"].as_str().unwrap_or_default();
    assert!(words.ends_with("\"Hello Ada.\""), "{words}");
    assert_eq!(house.crm.asked(), ["/contacts?number=%2B441632960001"]);
    assert_eq!(record.status, Status::Completed);
    assert!(report.moments.ringing_ms.unwrap() < 1_000);
    assert_eq!(record.transcript[0].text, "Hello Ada.");
    session.assert_no_errors();
    let journal = house.replayed(record.id).await;
    assert!(!journal.entries.iter().any(|entry| entry.event.to_string().contains("441632960001")));
}

#[tokio::test]
async fn an_interruption_is_truncated_at_what_was_really_heard() {
    let vendor = RealtimeServer::start().await;
    let crm = Crm::open(&[("/contacts", Answer::Says(200, "{}"))]).await;
    let house = House::open(crm, &desk(&vendor)).await;
    let mut line = phone().await.call(outgoing(&house)).await.unwrap();
    let session = vendor.session().await;
    session.next("response.create").await;
    // Ten seconds arrive at once; the caller interrupts after about one.
    session.speak("item_long", 10_000, "One, two, three, four, five, six, seven, eight, nine, ten.").await;
    session.end_response().await;
    assert!(line.until(soon(), |now| now.first_sound_ms.is_some_and(|first| now.now_ms > first + 1_000)).await);

    let before = line.moments();
    session.speech_started(None).await;
    let truncate = session.next("conversation.item.truncate").await;
    assert!(line.until(soon(), |now| now.quiet_ms() > 300).await, "the agent falls silent");
    let after = line.moments();
    line.hang_up().await;
    let report = line.over().await;
    let record = house.record().await;

    let heard_ms = truncate["audio_end_ms"].as_u64().unwrap();
    let sound_ms = after.last_sound_ms.unwrap() - after.first_sound_ms.unwrap();
    assert!(heard_ms.abs_diff(sound_ms) <= 60, "told {heard_ms} ms, the caller heard {sound_ms} ms");
    let to_silence = after.last_sound_ms.unwrap().saturating_sub(before.now_ms);
    assert!(to_silence <= 200, "silent {to_silence} ms after the interruption");
    let said = record.transcript.iter().find(|turn| turn.interrupted).expect("the cut words are in the record");
    assert!(said.text.starts_with("One") && !said.text.contains("ten"), "{}", said.text);
    session.assert_no_errors();
    drop(report);
}

#[tokio::test]
async fn a_tool_runs_and_its_result_goes_back() {
    let vendor = RealtimeServer::start().await;
    let crm = Crm::open(&[
        ("/contacts", Answer::Says(200, "{}")),
        ("/orders/42", Answer::Says(200, r#"{"status": "shipped"}"#)),
    ])
    .await;
    let house = House::open(crm, &desk(&vendor)).await;
    let line = phone().await.call(outgoing(&house)).await.unwrap();
    let session = vendor.session().await;
    session.next("response.create").await;
    session.end_response().await;
    session.begin_response().await;
    session.call_function("call_1", "order_status", r#"{"order": "42"}"#).await;
    session.end_response().await;

    let output = session.next("conversation.item.create").await;
    session.begin_response().await;
    session.call_function("call_2", "order_status", r#"{"order": 42}"#).await;
    session.call_function("call_3", "launch_missiles", "{}").await;
    session.end_response().await;
    let wrong_type = session.next("conversation.item.create").await;
    let unknown = session.next("conversation.item.create").await;
    session.fail("rate_limit_exceeded").await;
    session.wait("the call goes on after an error", |state| state.appends > 20).await;
    line.hang_up().await;
    line.over().await;
    let record = house.record().await;

    let told = |item: &Value| item["item"]["output"].as_str().unwrap_or_default().to_owned();
    assert!(told(&output).contains(r#""answer":{"status":"shipped"}"#), "{}", told(&output));
    assert!(told(&wrong_type).contains("must be a string"), "{}", told(&wrong_type));
    assert!(told(&unknown).contains("no such tool"), "{}", told(&unknown));
    assert!(house.crm.asked().contains(&"/orders/42".to_owned()));
    assert_eq!(record.status, Status::Completed);
    session.assert_no_errors();
}

#[tokio::test]
async fn an_agent_transfers_and_gets_the_caller_back_when_nobody_answers() {
    let vendor = RealtimeServer::start().await;
    let crm = Crm::open(&[("/contacts", Answer::Says(200, "{}"))]).await;
    let busy = phone().await;
    let mut files = desk(&vendor);
    files.push(transfer_action(&[busy.address()]));
    let _busy = busy.serve(Manner::Refuse { status: 486 }).await.unwrap();
    let house = House::open(crm, &files).await;
    let line = phone().await.call(outgoing(&house)).await.unwrap();
    let session = vendor.session().await;
    session.next("response.create").await;
    session.end_response().await;
    session.begin_response().await;
    session.call_function("call_1", "colleague", "{}").await;
    session.end_response().await;

    let output = session.next("conversation.item.create").await;
    line.hang_up().await;
    line.over().await;
    let record = house.record().await;

    assert!(output["item"]["output"].as_str().unwrap().contains(r#""code":"busy""#), "{output}");
    assert_eq!(record.status, Status::Completed);
    session.assert_no_errors();
}

#[tokio::test]
async fn an_agent_transfers_to_whoever_answers() {
    let vendor = RealtimeServer::start().await;
    let crm = Crm::open(&[("/contacts", Answer::Says(200, "{}"))]).await;
    let (busy, free) = (phone().await, phone().await);
    let mut files = desk(&vendor);
    files.push(transfer_action(&[busy.address(), free.address()]));
    let _busy = busy.serve(Manner::Refuse { status: 486 }).await.unwrap();
    let say = Some(load_clip(&fixture("colleague.wav")).unwrap());
    let manner = Manner::Answer { after: Duration::from_millis(300), say, hang_up_after: None };
    let mut free = free.serve(manner).await.unwrap();
    let house = House::open(crm, &files).await;
    let say = Some(load_clip(&fixture("caller.wav")).unwrap());
    let mut line = phone().await.call(Outgoing { say, ..outgoing(&house) }).await.unwrap();
    let session = vendor.session().await;
    session.next("response.create").await;
    session.end_response().await;
    session.begin_response().await;
    session.call_function("call_1", "colleague", "{}").await;
    session.end_response().await;

    assert!(free.until(soon(), |bell| bell.answered == 1).await, "the second target answers");
    session.wait("the agent is let go", |state| state.is_gone).await;
    let joined = line.moments();
    assert!(line.until(soon(), |now| now.last_sound_ms > Some(joined.now_ms + 500)).await, "the colleague is heard");
    line.hang_up().await;
    line.over().await;
    let colleague = free.report().await.expect("the colleague's call is over");
    let record = house.record().await;

    assert_eq!(record.status, Status::Transferred);
    assert!(colleague.moments.first_packet_ms.is_some(), "the colleague hears the caller");
    assert!(session.state().is_closed_politely);
    house.replayed(record.id).await;
}

#[tokio::test]
async fn an_agent_that_hangs_up_is_heard_to_its_last_word() {
    let vendor = RealtimeServer::start().await;
    let crm = Crm::open(&[("/contacts", Answer::Says(200, "{}"))]).await;
    let house = House::open(crm, &desk(&vendor)).await;
    let mut line = phone().await.call(outgoing(&house)).await.unwrap();
    let session = vendor.session().await;
    session.next("response.create").await;
    session.speak("item_bye", 1_500, "Good-bye and thank you for calling.").await;
    session.call_function("call_1", "goodbye", "{}").await;
    session.end_response().await;

    assert!(line.until(soon(), |now| now.ended_ms.is_some()).await, "the gateway hangs up");
    let report = line.over().await;
    let record = house.record().await;

    let heard = report.moments.last_sound_ms.unwrap() - report.moments.first_sound_ms.unwrap();
    assert!((1_440..=1_560).contains(&heard), "{heard} ms of 1500 were heard");
    assert_eq!(record.status, Status::Completed);
    session.assert_no_errors();
}

#[tokio::test]
async fn a_lookup_that_hangs_does_not_keep_the_caller_waiting() {
    let vendor = RealtimeServer::start_with(Options { speaks_ms: Some(600), ..Options::default() }).await;
    let crm = Crm::open(&[("/contacts", Answer::Hangs)]).await;
    let house = House::open(crm, &desk(&vendor)).await;
    let mut line = phone().await.call(outgoing(&house)).await.unwrap();

    let session = vendor.session().await;
    assert!(line.until(soon(), |now| now.first_sound_ms.is_some()).await, "the agent is heard");
    let greeting = session.next("response.create").await;
    line.hang_up().await;
    let report = line.over().await;
    let record = house.record().await;

    let words = greeting["response"]["instructions"].as_str().unwrap_or_default();
    assert!(words.ends_with("\"Hello there.\""), "{words}");
    let answered_ms = report.moments.answered_ms.unwrap();
    assert!((1_450..2_500).contains(&answered_ms), "answered after {answered_ms} ms");
    assert_eq!(record.runs[0].code, "timeout");
}

#[tokio::test]
async fn a_lost_agent_is_replaced_by_the_fallback() {
    let vendor = RealtimeServer::start().await;
    let crm = Crm::open(&[("/contacts", Answer::Says(200, "{}"))]).await;
    let house = House::open(crm, &desk(&vendor)).await;
    let mut line = phone().await.call(outgoing(&house)).await.unwrap();
    let session = vendor.session().await;
    session.next("response.create").await;

    session.drop_socket().await;

    assert!(line.until(soon(), |now| now.first_sound_ms.is_some()).await, "the fallback speaks");
    assert!(line.until(soon(), |now| now.ended_ms.is_some()).await, "and says good-bye");
    line.over().await;
    let record = house.record().await;
    assert_eq!(record.runs.iter().map(|run| run.action.as_str()).collect::<Vec<_>>(), ["lookup", "sorry", "bye"]);
}

fn desk(vendor: &RealtimeServer) -> Vec<(&'static str, String)> {
    let agent = format!(
        r#"version = 1
title = "Desk"
connector = "openai-realtime"
secret = {{ file = "secrets/vendor" }}
instructions = {{ text = "Help {{{{customer.name | the caller}}}}." }}
first_words = "Hello {{{{customer.name | there}}}}."
during = ["order_status", "colleague", "goodbye"]
fallback = "lost"
[settings]
url = "{}"
[[before]]
action = "lookup"
"#,
        vendor.url()
    );
    let crm_of = |path: &str| format!("http://CRM{path}");
    let lookup = format!(
        r#"version = 1
title = "Look up"
phase = "before"
[api]
url = "{}?number={{{{caller.number}}}}"
save = {{ "customer.name" = "$.name" }}
"#,
        crm_of("/contacts")
    );
    let order = format!(
        r#"version = 1
title = "Order status"
when_to_use = "When the caller asks about an order."
phase = "during"
[[parameters]]
name = "order"
type = "string"
description = "The order's number."
required = true
[api]
url = "{}/{{{{order}}}}"
save = {{ "order.status" = "$.status" }}
"#,
        crm_of("/orders")
    );
    vec![
        ("agents/desk.toml", agent),
        ("secrets/vendor", KEY.to_owned()),
        ("actions/lookup.toml", lookup),
        ("actions/order_status.toml", order),
        transfer_action(&["127.0.0.1:9".parse().unwrap()]),
        ("actions/goodbye.toml", GOODBYE.to_owned()),
        ("workflows/lost.toml", LOST.to_owned()),
    ]
}

fn transfer_action(targets: &[SocketAddr]) -> (&'static str, String) {
    let targets: Vec<String> = targets.iter().map(|to| format!("{{ to = \"sip:desk@{to}\", ring_s = 10 }}")).collect();
    let text = format!(
        r#"version = 1
title = "Colleague"
when_to_use = "When the caller wants a person."
phase = "during"
[transfer]
targets = [{}]
message = {{ clips = ["transfer.wav"] }}
music = "music.wav"
"#,
        targets.join(", ")
    );
    ("actions/colleague.toml", text)
}

const GOODBYE: &str = r#"version = 1
title = "Hang up"
when_to_use = "When all is said."
phase = "during"
[hang_up]
"#;

const LOST: &str = r#"version = 1
title = "The agent is lost"
[[step]]
id = "sorry"
say = { prompt = { clips = ["sorry.wav"] } }
[[step]]
id = "bye"
[step.hang_up]
"#;

async fn phone() -> Phone {
    Phone::open("127.0.0.1:0".parse().unwrap()).await.expect("a telephone")
}

fn outgoing(house: &House) -> Outgoing {
    Outgoing { to: house.uri("100"), from: "+441632960001".to_owned().into(), ..Outgoing::default() }
}

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("audio-fixtures").join(name)
}
