use std::path::Path;

use serde_json::json;

use super::*;
use crate::agent::ToolSpec;
use crate::model::Mouth;

#[test]
fn the_caller_is_answered_when_the_agent_is_ready_and_greeted_when_answered() {
    let mut agent = agent();
    let mut out = Vec::new();

    agent.open(&mut out);
    agent.on_text(r#"{"type":"ready"}"#, &mut out);
    assert_eq!(agent.ear(), Ear::Deaf, "the phone still rings");
    agent.on_command(AgentCommand::Start, &mut out);

    assert_eq!(agent.ear(), Ear::Open);
    assert_eq!(
        sent(&out),
        [
            json!({ "type": "start", "version": 1, "audio": { "encoding": "pcmu", "rate": 8000, "frame_ms": 20 },
                    "instructions": "Help.", "tools": [{ "name": "order", "description": "Orders.",
                                                         "parameters": { "type": "object" } }] }),
            json!({ "type": "answered", "first_words": "Hello." }),
        ]
    );
    assert!(matches!(out[1], Act::Tell(AgentEvent::Ready)), "{out:?}");
}

#[test]
fn a_caller_answered_before_the_agent_is_ready_is_kept_and_told() {
    let mut agent = agent();
    let mut out = Vec::new();

    agent.on_command(AgentCommand::Start, &mut out);
    assert_eq!((agent.ear(), out.len()), (Ear::Holding, 0));
    agent.on_text(r#"{"type":"ready"}"#, &mut out);

    assert_eq!(sent(&out)[0]["type"], "answered");
}

#[test]
fn sound_is_passed_on_as_it_is_under_its_utterance() {
    let mut agent = talking();
    let mut out = Vec::new();

    agent.on_binary(&[1, 2, 3], &mut out);
    agent.on_text(r#"{"type":"speech_start","item":"a"}"#, &mut out);
    agent.on_binary(&[4], &mut out);
    agent.on_text(r#"{"type":"speech_end"}"#, &mut out);

    assert_eq!(
        spoken(&out),
        [("speech-1", vec![1, 2, 3], false), ("speech-1", vec![], true), ("a", vec![4], false), ("a", vec![], true)]
    );
    assert!(agent.is_speaking());
    assert_eq!(agent.append(&[0x55; 160]), Message::Binary(vec![0x55; 160]));
}

#[test]
fn clear_silences_and_both_endings_say_how_much_was_heard() {
    let mut agent = talking();
    let mut out = Vec::new();
    agent.on_binary(&[1; 160], &mut out);

    agent.on_text(r#"{"type":"clear"}"#, &mut out);
    assert!(matches!(out.last(), Some(Act::Hush(Mouth::Stop { epoch: 1 }))), "{out:?}");
    agent.on_stopped(Some("speech-1".into()), 15, &mut out);
    assert!(!agent.is_speaking());
    out.clear();
    agent.on_binary(&[2; 160], &mut out);
    assert!(matches!(&out[0], Act::Speak(speech) if speech.epoch == 1 && &*speech.item == "speech-2"));
    agent.on_finished(&"speech-2".into(), 20, &mut out);

    assert_eq!(sent(&out), [json!({ "type": "finished", "item": "speech-2", "heard_ms": 20 })]);
    assert!(!agent.is_speaking());
}

#[test]
fn tools_words_and_errors_are_told() {
    let mut agent = talking();
    let mut out = Vec::new();

    agent.on_text(r#"{"type":"tool","id":"7","name":"order","arguments":{"n":1}}"#, &mut out);
    agent.on_text(r#"{"type":"said","who":"caller","text":" H\u00e9llo "}"#, &mut out);
    agent.on_text(r#"{"type":"error","code":"too slow\n","message":"m"}"#, &mut out);
    agent.on_text(r#"{"type":"weather","is":"fine"}"#, &mut out);

    let told: Vec<&AgentEvent> = out.iter().map(told).collect();
    assert!(matches!(told[0], AgentEvent::Asked { name, arguments, .. }
        if name == "order" && arguments.reveal() == r#"{"n":1}"#));
    assert!(matches!(told[1], AgentEvent::Said { who: Who::Caller, text, interrupted: false }
        if text.reveal() == "H\u{e9}llo"));
    assert!(matches!(told[2], AgentEvent::Fault { code, .. } if code == "too_slow_"));
    assert_eq!((told.len(), agent.tally.unknown_messages), (3, 1));
}

#[test]
fn an_agent_that_talks_nonsense_is_left_and_one_that_refuses_is_believed() {
    let mut agent = talking();
    let mut out = Vec::new();
    for _ in 0..AGENT_MALFORMED_MAX {
        agent.on_text("{", &mut out);
    }
    assert!(matches!(out.last(), Some(Act::Leave(_))));

    let (mut refusing, mut out) = (RingbackWs::new(spec()), Vec::new());
    refusing.on_text(r#"{"type":"error","code":"no_such_agent","fatal":true}"#, &mut out);
    assert!(matches!(&out[0], Act::Fail(FailedKind::SessionRefused, code) if code == "no_such_agent"));
}

#[test]
fn what_is_said_before_the_caller_is_there_is_not_heard() {
    let mut agent = agent();
    let mut out = Vec::new();

    agent.on_binary(&[1; 160], &mut out);

    assert!(out.is_empty());
}

#[test]
fn an_address_is_needed_and_it_keeps_what_is_said_private() {
    assert_eq!(check(&json!({ "url": "ws://127.0.0.1:9000/voice" })), []);
    assert_eq!(check(&json!({ "url": "wss://agent.example.com/voice", "connect_timeout_ms": 500 })), []);
    for (settings, at) in [
        (json!({}), ""),
        (json!({ "url": "ws://agent.example.com/" }), "/url"),
        (json!({ "url": "wss://me:secret@agent.example.com/" }), "/url"),
    ] {
        assert_eq!(check(&settings).first().map(|error| error.pointer.as_str()), Some(at), "{settings}");
    }
}

/// With `RINGBACK_BLESS` set, the file is written.
#[test]
fn the_published_schema_is_that_of_the_words() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/agent/ringback_ws/protocol.v1.schema.json");
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ringback.v1",
        "description": "Text messages of the WebSocket subprotocol ringback.v1. Binary messages are sound.",
        "$defs": { "to_agent": schemars::schema_for!(ToAgent<'_>), "from_agent": schemars::schema_for!(FromAgent<'_>) },
        "anyOf": [{ "$ref": "#/$defs/to_agent" }, { "$ref": "#/$defs/from_agent" }],
    });
    let current = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("RINGBACK_BLESS").is_some() {
        std::fs::write(&path, &current).unwrap();
    }

    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), current, "run it again with RINGBACK_BLESS=1");
}

fn spec() -> AgentSpec {
    AgentSpec {
        connector: NAME.to_owned(),
        settings: json!({ "url": "ws://127.0.0.1:1/" }),
        secret: None,
        instructions: "Help.".to_owned().into(),
        first_words: FirstWords::Agent("Hello.".to_owned().into()),
        tools: vec![ToolSpec {
            name: "order".to_owned(),
            description: "Orders.".to_owned(),
            parameters: json!({ "type": "object" }),
        }],
    }
}

fn agent() -> RingbackWs {
    RingbackWs::new(spec())
}

fn talking() -> RingbackWs {
    let mut agent = agent();
    agent.on_text(r#"{"type":"ready"}"#, &mut Vec::new());
    agent.on_command(AgentCommand::Start, &mut Vec::new());
    agent
}

fn sent(out: &[Act]) -> Vec<Value> {
    let texts = out.iter().filter_map(|act| match act {
        Act::Send(text) => Some(serde_json::from_str(text).unwrap()),
        _ => None,
    });
    texts.collect()
}

fn spoken(out: &[Act]) -> Vec<(&str, Vec<u8>, bool)> {
    let speech = out.iter().filter_map(|act| match act {
        Act::Speak(Speech { item, voice: Voice::Ulaw(sound), last, .. }) => Some((&**item, sound.clone(), *last)),
        _ => None,
    });
    speech.collect()
}

fn told(act: &Act) -> &AgentEvent {
    match act {
        Act::Tell(event) => event,
        other => panic!("{other:?} is not told"),
    }
}
