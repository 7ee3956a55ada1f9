//! What an operator may choose about a session, and the session it makes.

use serde_json::{Map, Value, json};

use super::super::settings::{self, Field, Form, SettingsError, may, must};
use super::super::words::Connect;
use super::super::{AgentSpec, ToolSpec};
use crate::model::limits::AGENT_CONNECT_MAX;

/// All mistakes in these settings.
pub(in super::super) fn check(settings: &Value) -> Vec<SettingsError> {
    let mut errors = settings::check(settings, FIELDS);
    let detection = &settings["turn_detection"];
    let kind = detection["type"].as_str();
    for (key, belongs_to) in [
        ("threshold", SERVER_VAD),
        ("prefix_padding_ms", SERVER_VAD),
        ("silence_duration_ms", SERVER_VAD),
        ("idle_timeout_ms", SERVER_VAD),
        ("eagerness", SEMANTIC_VAD),
    ] {
        if kind.is_some_and(|kind| kind != belongs_to) && !detection[key].is_null() {
            errors.push(SettingsError {
                pointer: format!("/turn_detection/{key}"),
                message: format!("`{key}` means nothing to this type of turn detection"),
                hint: format!("only with type = {belongs_to:?}"),
            });
        }
    }
    errors
}

/// Where the vendor is reached.
pub(super) fn connect(spec: &AgentSpec) -> Connect {
    let url = spec.settings["url"].as_str().unwrap_or(URL);
    let model = spec.settings["model"].as_str().unwrap_or(MODEL);
    let sign = if url.contains('?') { '&' } else { '?' };
    let timeout_ms = spec.settings["connect_timeout_ms"].as_u64();
    Connect {
        url: format!("{url}{sign}model={model}"),
        bearer: spec.secret.clone(),
        subprotocol: None,
        timeout_ms: timeout_ms.unwrap_or_else(|| u64::try_from(AGENT_CONNECT_MAX.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// Whether the vendor cancels its response when the caller speaks, so that we need not.
pub(super) fn vendor_interrupts(spec: &AgentSpec) -> bool {
    spec.settings["turn_detection"]["interrupt_response"].as_bool().unwrap_or(true)
}

/// The session as `session.update` wants it. Only what is chosen is sent; the rest is the vendor's default.
pub(super) fn session(spec: &AgentSpec) -> Value {
    let chosen = &spec.settings;
    let mut detection = match &chosen["turn_detection"] {
        Value::Object(detection) => detection.clone(),
        _ => Map::from_iter([("type".to_owned(), SERVER_VAD.into())]),
    };
    detection.insert("create_response".to_owned(), true.into());
    detection.insert("interrupt_response".to_owned(), vendor_interrupts(spec).into());

    let mut transcription = chosen["transcription"].as_object().cloned().unwrap_or_default();
    transcription.entry("model").or_insert_with(|| TRANSCRIPTION_MODEL.into());

    let mut input = json!({
        "format": { "type": "audio/pcmu" },
        "transcription": transcription,
        "turn_detection": detection,
    });
    match chosen["noise_reduction"].as_str() {
        Some("off") => input["noise_reduction"] = Value::Null,
        Some(kind) => input["noise_reduction"] = json!({ "type": kind }),
        None => {}
    }
    let mut output = json!({ "format": { "type": "audio/pcmu" } });
    copy(chosen, &["voice", "speed"], &mut output);

    let mut session = json!({
        "type": "realtime",
        "instructions": spec.instructions.reveal(),
        "output_modalities": ["audio"],
        "audio": { "input": input, "output": output },
        "tools": spec.tools.iter().map(tool).collect::<Vec<_>>(),
    });
    copy(chosen, &["max_output_tokens", "tool_choice", "parallel_tool_calls", "truncation"], &mut session);
    if let Some(effort) = chosen["reasoning_effort"].as_str() {
        session["reasoning"] = json!({ "effort": effort });
    }
    session
}

fn copy(from: &Value, keys: &[&str], to: &mut Value) {
    for key in keys {
        if !from[*key].is_null() {
            to[*key] = from[*key].clone();
        }
    }
}

fn tool(tool: &ToolSpec) -> Value {
    json!({
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    })
}

fn url(value: &Value) -> Result<(), (String, String)> {
    settings::socket_url(value, URL)?;
    let query = value.as_str().and_then(|url| url.split_once('?'));
    if query.is_some_and(|(_, query)| query.split('&').any(|pair| pair.starts_with("model="))) {
        return Err((
            "the model has a setting of its own, `model`".to_owned(),
            format!("a WebSocket address such as {URL}"),
        ));
    }
    Ok(())
}

fn model(value: &Value) -> Result<(), (String, String)> {
    // It goes into the address as it is.
    let is_right = value.as_str().is_some_and(|name| {
        (1..=128).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte))
    });
    let message = || ("this is no name of a model".to_owned(), format!("letters, digits and - . _ : / as in {MODEL}"));
    if is_right { Ok(()) } else { Err(message()) }
}

fn voice(value: &Value) -> Result<(), (String, String)> {
    let is_name = |value: &Value| value.as_str().is_some_and(|name| (1..=128).contains(&name.trim().len()));
    let is_own = value.as_object().is_some_and(|own| own.len() == 1 && own.get("id").is_some_and(is_name));
    if is_name(value) || is_own {
        return Ok(());
    }
    Err(("this is no voice".to_owned(), "a built-in name such as \"marin\", or { id = \"voice_…\" }".to_owned()))
}

const FIELDS: &[Field] = &[
    may("url", Form::Special(url)),
    may("model", Form::Special(model)),
    may("voice", Form::Special(voice)),
    may("speed", Form::Number(0.25, 1.5)),
    may("turn_detection", Form::Table(TURN_DETECTION)),
    may("transcription", Form::Table(TRANSCRIPTION)),
    may("noise_reduction", Form::OneOf(&["near_field", "far_field", "off"])),
    may("max_output_tokens", Form::Whole(1, 4096)),
    may("reasoning_effort", Form::OneOf(&["minimal", "low", "medium", "high"])),
    may("parallel_tool_calls", Form::Flag),
    may("tool_choice", Form::OneOf(&["auto", "required", "none"])),
    may("truncation", Form::OneOf(&["auto", "disabled"])),
    may("connect_timeout_ms", Form::Whole(100, 10_000)),
    may("temperature", Form::Gone("the vendor no longer takes a temperature; leave it out")),
    may("modalities", Form::Gone("an agent on the telephone always speaks; leave it out")),
    may("input_audio_format", Form::Gone("audio is always PCMU; leave it out")),
    may("output_audio_format", Form::Gone("audio is always PCMU; leave it out")),
    may("max_response_output_tokens", Form::Gone("now called `max_output_tokens`")),
    may("input_audio_transcription", Form::Gone("now called `transcription`")),
];

const TURN_DETECTION: &[Field] = &[
    must("type", Form::OneOf(&[SERVER_VAD, SEMANTIC_VAD])),
    may("threshold", Form::Number(0.0, 1.0)),
    may("prefix_padding_ms", Form::Whole(0, 5000)),
    may("silence_duration_ms", Form::Whole(100, 10_000)),
    may("idle_timeout_ms", Form::Whole(5000, 30_000)),
    may("eagerness", Form::OneOf(&["low", "medium", "high", "auto"])),
    may("interrupt_response", Form::Flag),
];

const TRANSCRIPTION: &[Field] = &[
    may("model", Form::Text(64)),
    may("language", Form::Text(16)),
    may("prompt", Form::Text(1024)),
    may("keywords", Form::Texts(100)),
];

const URL: &str = "wss://api.openai.com/v1/realtime";
const MODEL: &str = "gpt-realtime-2.1";
const TRANSCRIPTION_MODEL: &str = "gpt-transcribe";
const SERVER_VAD: &str = "server_vad";
const SEMANTIC_VAD: &str = "semantic_vad";
