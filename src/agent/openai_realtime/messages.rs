//! The vendor's messages, as far as we read them. Fields we do not need are not named, so new ones do no harm.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::super::Usage;

/// A message that cannot be read. The text may repeat parts of it.
pub(super) struct Malformed(pub String);

pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    serde_json::from_str(text).map_err(|error| Malformed(error.to_string()))
}

/// Known messages that tell us nothing we need.
pub(super) const NEEDLESS: &[&str] = &[
    "session.created",
    "conversation.created",
    "conversation.item.deleted",
    "conversation.item.retrieved",
    "conversation.item.truncated",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.segment",
    "input_audio_buffer.committed",
    "input_audio_buffer.cleared",
    "input_audio_buffer.timeout_triggered",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.function_call_arguments.delta",
    // Also sent for interrupted calls; `response.done` says which are whole.
    "response.function_call_arguments.done",
    "rate_limits.updated",
];

#[derive(Deserialize)]
pub(super) struct Head<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
}

/// Any `response.output_audio…` message.
#[derive(Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub response_id: Cow<'a, str>,
    #[serde(borrow)]
    pub item_id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub delta: Cow<'a, str>,
    #[serde(borrow, default)]
    pub transcript: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct Transcribed {
    pub transcript: String,
}

#[derive(Deserialize)]
pub(super) struct OfSession {
    pub session: Value,
}

#[derive(Deserialize)]
pub(super) struct OfItem {
    pub item: Item,
}

/// A conversation item; only function calls and their outputs matter here.
#[derive(Deserialize)]
pub(super) struct Item {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    #[serde(default, deserialize_with = "or_default")]
    pub call_id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    #[serde(default, deserialize_with = "or_default")]
    pub arguments: String,
}

#[derive(Deserialize)]
pub(super) struct OfResponse {
    pub response: Response,
}

#[derive(Deserialize)]
pub(super) struct Response {
    pub id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    #[serde(default)]
    pub metadata: Value,
    #[serde(default)]
    pub status_details: Value,
    #[serde(default, deserialize_with = "or_default")]
    pub output: Vec<Item>,
    #[serde(default)]
    pub usage: Option<Tokens>,
}

impl Response {
    /// The vendor's word for why it did not complete.
    pub(super) fn reason(&self, otherwise: &str) -> String {
        ["/error/code", "/error/type", "/reason"]
            .iter()
            .find_map(|at| self.status_details.pointer(at).and_then(Value::as_str))
            .map_or_else(|| otherwise.to_owned(), word)
    }

    pub(super) fn detail(&self) -> String {
        self.status_details.pointer("/error/message").and_then(Value::as_str).unwrap_or("").to_owned()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(deserialize_with = "or_default")]
    input_token_details: Details,
    #[serde(deserialize_with = "or_default")]
    output_token_details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    audio_tokens: u64,
    cached_tokens: u64,
}

impl From<&Tokens> for Usage {
    fn from(tokens: &Tokens) -> Usage {
        Usage {
            input_tokens: tokens.input_tokens,
            input_cached_tokens: tokens.input_token_details.cached_tokens,
            input_audio_tokens: tokens.input_token_details.audio_tokens,
            output_tokens: tokens.output_tokens,
            output_audio_tokens: tokens.output_token_details.audio_tokens,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct OfFailure {
    pub error: Failure,
}

#[derive(Deserialize)]
pub(super) struct Failure {
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    #[serde(default)]
    param: Option<String>,
    /// The message of ours that it answers.
    #[serde(default)]
    pub event_id: Option<String>,
}

impl Failure {
    pub(super) fn code(&self) -> String {
        let code = self.code.as_deref().filter(|code| !code.is_empty()).unwrap_or(&self.kind);
        if code.is_empty() { "error".to_owned() } else { word(code) }
    }

    /// The code and the field it is about; without the message, which may repeat what we sent.
    pub(super) fn place(&self) -> String {
        match &self.param {
            Some(param) => format!("{} at {}", self.code(), word(param)),
            None => self.code(),
        }
    }
}

/// A vendor's word as it may stand in a log: short, and nothing that could pass for more.
fn word(text: &str) -> String {
    text.chars().take(64).map(|char| if char.is_ascii_graphic() { char } else { '_' }).collect()
}

/// `null` counts as left out.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
