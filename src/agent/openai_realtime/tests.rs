use std::fmt::Write as _;

use super::tools::CUT_MARK;
use super::*;
use crate::agent::ToolSpec;
use crate::model::limits::{TOOL_ARGUMENTS_MAX, TOOL_RESULT_MAX};
use crate::model::{Mouth, Secret};

#[test]
fn a_turn_is_greeted_heard_and_answered() {
    play("turn");
}

#[test]
fn barging_in_truncates_what_was_heard_and_deletes_what_was_not() {
    let agent = play("barge-in");

    // One of audio and one of text, one of an utterance that had not begun, two endings.
    assert_eq!(agent.tally.late_deltas, 5);
}

#[test]
fn results_of_several_calls_are_answered_by_one_response() {
    play("tools");
}

#[test]
fn errors_do_not_end_the_conversation() {
    let agent = play("errors");

    assert_eq!(agent.tally.unknown_messages, 1);
    assert_eq!(agent.tally.malformed_messages, 3);
}

#[test]
fn a_digit_silences_the_agent_and_the_caller_is_never_talked_over() {
    play("interrupt");
}

#[test]
fn a_caller_answered_before_the_session_stands_is_kept_and_greeted() {
    let mut agent = OpenAiRealtime::new(spec());
    let mut out = Vec::new();
    assert_eq!(agent.ear(), Ear::Deaf);

    agent.on_command(AgentCommand::Start, &mut out);
    assert_eq!((agent.ear(), out.len()), (Ear::Holding, 0));
    agent.on_text(r#"{"type":"session.updated","session":{"type":"realtime"}}"#, &mut out);

    assert_eq!(agent.ear(), Ear::Open);
    assert!(matches!(&out[0], Act::Tell(AgentEvent::Ready)));
    assert!(matches!(&out[1], Act::Send(text) if text.contains("response.create")));
}

#[test]
fn a_session_in_another_format_is_refused_before_anybody_hears_it() {
    let mut agent = OpenAiRealtime::new(spec());
    let mut out = Vec::new();

    let updated = r#"{"type":"session.updated","session":{"audio":{"output":{"format":{"type":"audio/pcm"}}}}}"#;
    agent.on_text(updated, &mut out);

    assert!(matches!(&out[..], [Act::Fail(FailedKind::BadAnswer, why)] if why.contains("output")));
}

#[test]
fn a_refused_session_says_which_setting_and_repeats_no_text() {
    let mut agent = OpenAiRealtime::new(spec());
    let mut out = Vec::new();

    let error = json!({ "type": "error", "event_id": "e", "error": { "type": "invalid_request_error",
        "code": "invalid_value", "message": "voice 'Ada Lovelace' …", "param": "session.audio.output.voice" } });
    agent.on_text(&error.to_string(), &mut out);

    assert!(matches!(&out[..], [Act::Fail(FailedKind::SessionRefused, why)]
        if why == "invalid_value at session.audio.output.voice"));
}

#[test]
fn ten_unreadable_messages_in_a_row_end_it_and_nine_do_not() {
    let mut agent = OpenAiRealtime::new(spec());
    let mut out = Vec::new();
    for _ in 0..9 {
        agent.on_text("?", &mut out);
    }
    agent.on_text(r#"{"type":"session.created"}"#, &mut out);
    for _ in 0..9 {
        agent.on_text("?", &mut out);
    }
    assert!(!out.iter().any(|act| matches!(act, Act::Leave(_))));

    agent.on_text("?", &mut out);

    assert!(matches!(out.last(), Some(Act::Leave(_))));
}

#[test]
fn every_message_cut_at_any_byte_is_survived() {
    for name in ["turn", "barge-in", "tools", "errors", "interrupt"] {
        for line in recording(name).iter().filter_map(|line| line.get("vendor")) {
            let text = line.to_string();
            for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
                let mut agent = OpenAiRealtime::new(spec());
                agent.on_text(&text[..end], &mut Vec::new());
            }
        }
    }
}

#[test]
fn a_result_that_is_too_long_is_cut_and_says_so() {
    let mut agent = talking();
    let mut out = Vec::new();
    ask(&mut agent, "call_1", "{}", &mut out);
    out.clear();

    let output = Pii::new("ü".repeat(TOOL_RESULT_MAX));
    agent.on_command(AgentCommand::Result { tool_call_id: "call_1".into(), output, respond: false }, &mut out);

    let [Act::Send(text)] = &out[..] else { panic!("one message, got {out:?}") };
    let sent: Value = serde_json::from_str(text).unwrap();
    let output = sent["item"]["output"].as_str().unwrap();
    assert!(output.len() <= TOOL_RESULT_MAX && output.ends_with(CUT_MARK));
}

#[test]
fn arguments_that_are_too_long_never_reach_the_call() {
    let mut agent = talking();
    let mut out = Vec::new();

    let arguments = json!({ "text": "x".repeat(TOOL_ARGUMENTS_MAX) }).to_string();
    ask(&mut agent, "call_1", &arguments, &mut out);

    assert!(!out.iter().any(|act| matches!(act, Act::Tell(AgentEvent::Asked { .. }))));
    assert!(out.iter().any(|act| matches!(act, Act::Send(text) if text.contains("arguments_too_long"))));
}

#[test]
fn what_waits_to_be_said_is_bounded() {
    let mut agent = OpenAiRealtime::new(spec());
    let mut out = Vec::new();

    for _ in 0..=AGENT_WANTS_MAX {
        agent.on_command(AgentCommand::Say { text: Pii::new("hello".into()) }, &mut out);
    }

    assert_eq!(agent.wants.len(), AGENT_WANTS_MAX);
    assert!(matches!(&out[..], [Act::Tell(AgentEvent::Fault { code, .. })] if code == "too_much_to_say"));
}

#[test]
fn a_vendor_told_not_to_interrupt_is_cancelled_by_us() {
    let mut spec = spec();
    spec.settings = json!({ "turn_detection": { "type": "semantic_vad", "interrupt_response": false } });
    let mut agent = OpenAiRealtime::new(spec);
    let mut out = Vec::new();
    agent.on_text(r#"{"type":"session.updated","session":{}}"#, &mut out);
    agent.on_text(r#"{"type":"response.created","response":{"id":"resp_1"}}"#, &mut out);
    out.clear();

    agent.on_text(r#"{"type":"input_audio_buffer.speech_started","audio_start_ms":0,"item_id":"i"}"#, &mut out);

    assert!(out.iter().any(|act| matches!(act, Act::Send(text) if text.contains("response.cancel"))));
}

#[test]
fn an_answer_that_ends_as_the_caller_speaks_is_not_cut() {
    let mut agent = talking();
    let mut out = Vec::new();
    let of = r#""response_id":"resp_0","item_id":"item_1","output_index":0,"content_index":0"#;
    let delta = BASE64.encode([0xff; 800]);
    agent.on_text(&format!(r#"{{"type":"response.output_audio.delta",{of},"delta":"{delta}"}}"#), &mut out);
    agent.on_text(&format!(r#"{{"type":"response.output_audio.done",{of}}}"#), &mut out);
    agent.on_text(&format!(r#"{{"type":"response.output_audio_transcript.done",{of},"transcript":"Yes."}}"#), &mut out);
    agent.on_text(r#"{"type":"input_audio_buffer.speech_started","audio_start_ms":0,"item_id":"i"}"#, &mut out);
    out.clear();

    agent.on_stopped(Some("item_1".into()), 100, &mut out);

    assert!(matches!(&out[..], [Act::Tell(AgentEvent::Said { interrupted: false, .. })]), "{out:?}");
}

#[test]
fn words_that_come_after_the_caller_spoke_do_not_hold_up_the_transcript() {
    let mut agent = talking();
    let mut out = Vec::new();
    let say = |agent: &mut OpenAiRealtime, item: &str, words: &str, out: &mut Vec<Act>| {
        let of = format!(r#""response_id":"r_{item}","item_id":"{item}""#);
        let delta = BASE64.encode([0xff; 800]);
        agent.on_text(&format!(r#"{{"type":"response.output_audio.delta",{of},"delta":"{delta}"}}"#), out);
        agent.on_text(&format!(r#"{{"type":"response.output_audio_transcript.delta",{of},"delta":"{words}"}}"#), out);
        agent.on_text(&format!(r#"{{"type":"response.output_audio.done",{of}}}"#), out);
    };
    say(&mut agent, "item_1", "First.", &mut out);
    agent.on_finished(&"item_1".into(), 0, &mut out);
    agent.on_text(r#"{"type":"input_audio_buffer.speech_started","audio_start_ms":0,"item_id":"i"}"#, &mut out);
    out.clear();

    agent.on_stopped(None, 0, &mut out);

    let [Act::Tell(AgentEvent::Said { text, interrupted: false, .. })] = &out[..] else { panic!("{out:?}") };
    assert_eq!(text.reveal(), "First.");
    assert!(agent.utterances.is_empty());
}

#[test]
fn a_stop_the_worker_never_answered_does_not_shift_the_next() {
    let mut agent = talking();
    let mut out = Vec::new();
    agent.on_command(AgentCommand::Interrupt, &mut out);
    let delta = BASE64.encode([0xff; 800]);
    agent.on_text(
        &format!(r#"{{"type":"response.output_audio.delta","response_id":"r","item_id":"item_1","delta":"{delta}"}}"#),
        &mut out,
    );
    agent.on_command(AgentCommand::Interrupt, &mut out);
    out.clear();

    agent.on_stopped(Some("item_1".into()), 40, &mut out);

    assert!(matches!(&out[..], [Act::Send(text)] if text.contains("conversation.item.truncate")), "{out:?}");
    assert!(agent.stops.is_empty());
}

#[test]
fn what_a_lookup_found_while_it_rang_is_in_the_prompt_and_the_first_words() {
    let mut agent = OpenAiRealtime::new(spec());
    let mut out = Vec::new();
    agent.on_text(r#"{"type":"session.updated","session":{}}"#, &mut out);
    out.clear();

    let instructions = Some(Pii::new("The caller is Ada.".to_owned()));
    let first_words = Some(FirstWords::Agent(Pii::new("Good morning, Ada.".to_owned())));
    agent.on_command(AgentCommand::Update { instructions, first_words }, &mut out);
    agent.on_text(r#"{"type":"session.updated","session":{}}"#, &mut out);
    agent.on_command(AgentCommand::Start, &mut out);

    let [Act::Send(update), Act::Send(create)] = &out[..] else { panic!("two messages, got {out:?}") };
    assert!(update.contains("session.update") && update.contains("The caller is Ada."));
    assert!(create.contains("response.create") && create.contains("Good morning, Ada."));
}

#[test]
fn a_lost_wish_is_given_up_and_the_next_is_granted() {
    let mut agent = talking();
    let mut out = Vec::new();
    agent.on_command(AgentCommand::Say { text: Pii::new("one".into()) }, &mut out);
    agent.on_command(AgentCommand::Say { text: Pii::new("two".into()) }, &mut out);
    out.clear();

    for _ in 0..ASK_FRAMES {
        agent.on_frame(&mut out);
    }

    assert!(matches!(&out[..], [Act::Tell(AgentEvent::Fault { .. }), Act::Send(text)] if text.contains("two")));
}

#[test]
fn only_whole_words_that_were_heard_are_reported() {
    let mut utterance = Utterance::new("item", "resp", 0);
    utterance.samples = 8 * 1000;
    utterance.text = "Schöne Grüße aus Köln".to_owned();

    assert_eq!(utterance.text_heard(0), "");
    assert_eq!(utterance.text_heard(300), "Schöne");
    assert_eq!(utterance.text_heard(500), "Schöne");
    assert_eq!(utterance.text_heard(600), "Schöne Grüße");
    assert_eq!(utterance.text_heard(5000), "Schöne Grüße aus Köln");
    assert_eq!(Utterance::new("item", "resp", 0).text_heard(0), "");
}

#[test]
fn a_frame_is_appended_as_216_letters_of_base64() {
    let Message::Text(text) = OpenAiRealtime::new(spec()).append(&[0xff; 160]) else { panic!("it is text") };
    let message: Value = serde_json::from_str(&text).unwrap();

    assert_eq!(message["type"], "input_audio_buffer.append");
    assert_eq!(message["audio"].as_str().map(str::len), Some(216));
}

#[test]
fn the_right_settings_are_right() {
    let settings = json!({
        "url": "ws://127.0.0.1:9000/v1/realtime", "model": "gpt-realtime-2.1-mini", "voice": { "id": "voice_1" },
        "speed": 1.1, "turn_detection": { "type": "semantic_vad", "eagerness": "high", "interrupt_response": false },
        "transcription": { "language": "de", "keywords": ["Brezel"] }, "noise_reduction": "off",
        "max_output_tokens": 500, "reasoning_effort": "low", "parallel_tool_calls": false, "tool_choice": "auto",
        "truncation": "auto", "connect_timeout_ms": 2000,
    });

    assert_eq!(check(&settings), []);
    assert_eq!(check(&Value::Null), []);
}

#[test]
fn every_wrong_setting_is_named_at_once() {
    let settings = json!({
        "url": "ws://example.com/v1/realtime", "model": "a b", "voice": 7, "speed": 9, "temperature": 0.8,
        "turn_detection": { "type": "server_vad", "eagerness": "high", "create_response": false }, "voiec": "marin",
    });

    let errors = check(&settings);

    let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
    let expected = [
        "/url",
        "/model",
        "/voice",
        "/speed",
        "/turn_detection/create_response",
        "/temperature",
        "/voiec",
        "/turn_detection/eagerness",
    ];
    assert_eq!(pointers, expected);
    assert!(errors.iter().all(|error| !error.message.is_empty() && !error.hint.is_empty()));
}

#[test]
fn an_address_that_would_carry_the_key_in_the_clear_is_refused() {
    for (url, is_right) in [
        ("wss://api.openai.com/v1/realtime", true),
        ("wss://eu.example.com/v1/realtime?api-version=1", true),
        ("ws://localhost:1/", true),
        ("ws://[::1]:1/", true),
        ("ws://10.0.0.1/", false),
        ("ws://localhost.example.com/", false),
        ("ws://127.0.0.1@example.com/", false),
        ("https://api.openai.com/v1/realtime", false),
        ("wss://", false),
        ("wss://example.com/?model=other", false),
        ("wss://example.com/ x", false),
    ] {
        assert_eq!(check(&json!({ "url": url })).is_empty(), is_right, "{url}");
    }
}

#[test]
fn the_model_stands_in_the_address_and_the_key_does_not() {
    let connect = options::connect(&spec());

    assert_eq!(connect.url, "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1");
    assert_eq!(connect.bearer, Some(Secret::new("sk-test")));
}

fn spec() -> AgentSpec {
    AgentSpec {
        connector: NAME.to_owned(),
        settings: json!({ "voice": "marin" }),
        secret: Some(Secret::new("sk-test")),
        instructions: Pii::new("You answer for the bakery.".to_owned()),
        first_words: FirstWords::Agent(Pii::new("Good morning, \"Crust & Co\".".to_owned())),
        tools: vec![ToolSpec {
            name: "order_status".to_owned(),
            description: "Where an order is.".to_owned(),
            parameters: json!({ "type": "object", "properties": { "number": { "type": "string" } } }),
        }],
    }
}

/// A conversation in which the greeting is over.
fn talking() -> OpenAiRealtime {
    let mut agent = OpenAiRealtime::new(AgentSpec { first_words: FirstWords::Caller, ..spec() });
    agent.on_text(r#"{"type":"session.updated","session":{}}"#, &mut Vec::new());
    agent.on_command(AgentCommand::Start, &mut Vec::new());
    agent
}

fn ask(agent: &mut OpenAiRealtime, call_id: &str, arguments: &str, out: &mut Vec<Act>) {
    let call = json!({ "id": "item", "type": "function_call", "status": "completed", "call_id": call_id,
        "name": "order_status", "arguments": arguments });
    let done = json!({ "type": "response.done", "event_id": "e",
        "response": { "id": "resp_0", "status": "completed", "output": [call] } });
    agent.on_text(&done.to_string(), out);
}

fn recording(name: &str) -> Vec<Value> {
    let path = format!("{}/tests/agents/{NAME}-{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("reading {path}: {error}"));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Plays a recorded conversation; see `tests/agents/README.md` for its form.
fn play(name: &str) -> OpenAiRealtime {
    let mut agent = OpenAiRealtime::new(spec());
    let mut acts = Vec::new();
    agent.open(&mut acts);
    let mut done: VecDeque<Value> = acts.iter().map(shown).collect();
    let mut ask = String::new();
    for (at, line) in recording(name).iter().enumerate() {
        let at = at + 1;
        if line.get("note").is_some() {
            continue;
        }
        if ["sends", "tells", "speaks", "hushes"].iter().any(|key| line.get(key).is_some()) {
            let next = done.pop_front().unwrap_or_else(|| panic!("{name}:{at}: nothing was done, expected {line}"));
            assert!(holds(&next, line), "{name}:{at}:\n  did      {next}\n  expected {line}");
            if next["sends"]["type"] == "response.create" {
                ask = next["sends"]["event_id"].as_str().unwrap_or_default().to_owned();
            }
            continue;
        }
        assert!(done.is_empty(), "{name}:{at}: done before this line, but not expected: {done:?}");
        let mut acts = Vec::new();
        feed(&mut agent, line, &ask, &mut acts);
        done.extend(acts.iter().map(shown));
    }
    assert!(done.is_empty(), "{name}: done at the end, but not expected: {done:?}");
    agent
}

fn feed(agent: &mut OpenAiRealtime, line: &Value, ask: &str, out: &mut Vec<Act>) {
    let text = |value: &Value| Pii::new(value.as_str().expect("a text in this line").to_owned());
    if let Some(message) = line.get("vendor") {
        let mut message = message.clone();
        if let Some(ms) = message["delta"].as_str().and_then(|it| it.strip_prefix('@')?.strip_suffix("ms")) {
            let ms: usize = ms.parse().expect("a number of ms");
            message["delta"] = BASE64.encode(vec![0xff; ms * 8]).into();
        }
        agent.on_text(&message.to_string().replace("$ask", ask), out);
    } else if let Some(raw) = line.get("raw") {
        agent.on_text(raw.as_str().expect("a text"), out);
    } else if let Some(worker) = line.get("worker") {
        if let Some(frames) = worker["frames"].as_u64() {
            (0..frames).for_each(|_| agent.on_frame(out));
        } else if let Some(item) = worker["finished"].as_str() {
            agent.on_finished(&item.into(), 0, out);
        } else {
            let heard_ms = worker["heard_ms"].as_u64().expect("heard_ms");
            agent.on_stopped(worker["stopped"].as_str().map(ItemId::from), heard_ms, out);
        }
    } else if let Some(call) = line.get("call") {
        let respond = call["respond"].as_bool().unwrap_or(false);
        match call.as_str() {
            Some("start") => agent.on_command(AgentCommand::Start, out),
            Some("interrupt") => agent.on_command(AgentCommand::Interrupt, out),
            Some("gone") => agent.on_gone(out),
            _ if call.get("say").is_some() => agent.on_command(AgentCommand::Say { text: text(&call["say"]) }, out),
            _ if call.get("inform").is_some() => {
                agent.on_command(AgentCommand::Inform { text: text(&call["inform"]), respond }, out)
            }
            _ => {
                let tool_call_id = text(&call["result"]).into_inner();
                let output = text(&call["output"]);
                agent.on_command(AgentCommand::Result { tool_call_id, output, respond }, out);
            }
        }
    } else {
        panic!("a line of no known kind: {line}");
    }
}

/// What we did, in the words of the recording.
fn shown(act: &Act) -> Value {
    match act {
        Act::Send(text) => {
            json!({ "sends": serde_json::from_str::<Value>(text).expect("what we send is JSON") })
        }
        Act::Tell(event) => json!({ "tells": told(event) }),
        Act::Speak(speech) => json!({ "speaks": { "item": &*speech.item, "epoch": speech.epoch,
            "ms": speech.voice.len() / 8, "last": speech.last } }),
        Act::Hush(Mouth::Stop { epoch }) => json!({ "hushes": epoch }),
        Act::Fail(kind, why) => json!({ "fails": format!("{kind:?}"), "why": why }),
        Act::Leave(why) => json!({ "leaves": why }),
    }
}

fn told(event: &AgentEvent) -> Value {
    match event {
        AgentEvent::Ready => json!("ready"),
        AgentEvent::SpeechStarted => json!("speech_started"),
        AgentEvent::SpeechStopped => json!("speech_stopped"),
        AgentEvent::BargedIn { item, heard_ms } => json!({ "barged_in": &**item, "heard_ms": heard_ms }),
        AgentEvent::Said { who, text, interrupted } => {
            let mut name = String::new();
            let _ = write!(name, "{who:?}");
            json!({ "said": name.to_lowercase(), "text": text.reveal(), "interrupted": interrupted })
        }
        AgentEvent::Asked { tool_call_id, name, arguments } => {
            json!({ "asked": name, "id": tool_call_id, "arguments": arguments.reveal() })
        }
        AgentEvent::Fault { code, .. } => json!({ "fault": code }),
        AgentEvent::Usage(it) => json!({ "usage": [it.input_tokens, it.input_cached_tokens, it.input_audio_tokens,
            it.output_tokens, it.output_audio_tokens] }),
        AgentEvent::Failed { .. } | AgentEvent::Left { .. } | AgentEvent::Speaking | AgentEvent::Quiet { .. } => {
            json!("the driver's word")
        }
    }
}

/// Whether everything in `expected` stands in `actual` too.
fn holds(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| actual.get(key).is_some_and(|actual| holds(actual, value)))
        }
        _ => actual == expected,
    }
}
