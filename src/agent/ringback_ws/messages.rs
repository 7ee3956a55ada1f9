//! The words of the protocol, version 1. Their comments are what the writer of an agent reads in the JSON Schema.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From Ringback to the agent. Binary messages beside these are the caller's sound: 20 ms each, as `audio` in `start`
/// says, from `answered` on.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToAgent<'a> {
    /// The first message. The phone may still ring; nothing that the agent says now would be heard.
    Start {
        /// Of these words: 1.
        version: u32,
        /// How sound is written, both ways.
        audio: Audio,
        /// What the agent shall be. May be empty, and follow as `instructions`.
        instructions: &'a str,
        /// What the agent may ask for with `tool`.
        tools: Vec<Tool<'a>>,
    },
    /// Be this from now on, in place of what was told before.
    Instructions {
        /// The whole prompt.
        text: &'a str,
    },
    /// The caller is there. Their sound follows.
    Answered {
        /// Say this first. The caller speaks first when it is missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        first_words: Option<&'a str>,
    },
    /// What came of a `tool`.
    ToolResult {
        /// The one of `tool`.
        id: &'a str,
        /// At best JSON.
        output: &'a str,
        /// Whether to speak to it.
        respond: bool,
    },
    /// Say exactly this.
    Say {
        /// The words.
        text: &'a str,
    },
    /// Know this: the caller pressed a key, a transfer failed.
    Inform {
        /// For you, not for the caller's ear.
        text: &'a str,
        /// Whether to say something to it, in your own words.
        respond: bool,
    },
    /// Stop speaking: something else happens. `cleared` follows.
    Interrupt,
    /// The utterance went out to its last sample.
    Finished {
        /// The one of `speech_start`, or a name of ours for sound that came without one.
        item: &'a str,
        /// Its length.
        heard_ms: u64,
    },
    /// All that was waiting is dropped, after `clear` or `interrupt`.
    Cleared {
        /// What was being heard; missing when nothing was.
        #[serde(skip_serializing_if = "Option::is_none")]
        item: Option<&'a str>,
        /// How much of it went out.
        heard_ms: u64,
    },
}

/// How sound is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Audio {
    /// `pcmu`: ITU-T G.711 µ-law, one octet a sample.
    pub encoding: &'static str,
    /// Samples in a second.
    pub rate: u32,
    /// Milliseconds in each message of ours. The agent's may have any length.
    pub frame_ms: u32,
}

impl Audio {
    pub(super) const PCMU: Audio =
        Audio { encoding: "pcmu", rate: crate::model::SAMPLE_RATE, frame_ms: crate::model::FRAME_MS };
}

/// Something that an agent may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Tool<'a> {
    /// Letters, digits, `_` and `-`.
    pub name: &'a str,
    /// What it does and when to use it.
    pub description: &'a str,
    /// JSON Schema of its arguments.
    pub parameters: &'a Value,
}

/// From the agent to Ringback. Binary messages beside these are the agent's sound, of any length.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromAgent<'a> {
    /// The agent can take the call. Until then the caller is not answered.
    Ready,
    /// The sound that follows is one utterance.
    SpeechStart {
        /// Your name for it, up to 128 octets; it comes back in `finished` and `cleared`.
        #[serde(borrow)]
        item: Cow<'a, str>,
    },
    /// The utterance is complete.
    SpeechEnd,
    /// Drop what waits and be silent at once: the caller interrupted. `cleared` says what was heard.
    Clear,
    /// Words for the transcript.
    Said {
        /// Whose they are.
        who: Who,
        /// The words.
        #[serde(borrow)]
        text: Cow<'a, str>,
        /// There was more to say.
        #[serde(default)]
        interrupted: bool,
    },
    /// Something of `tools` shall be done. `tool_result` answers.
    Tool {
        /// Names the question.
        #[serde(borrow)]
        id: Cow<'a, str>,
        /// One of `tools`.
        #[serde(borrow)]
        name: Cow<'a, str>,
        /// An object, by the tool's schema.
        #[serde(default)]
        arguments: Value,
    },
    /// Something went wrong.
    Error {
        /// A word to count by.
        #[serde(borrow)]
        code: Cow<'a, str>,
        /// For a person; it stands in no log.
        #[serde(borrow, default)]
        message: Cow<'a, str>,
        /// The conversation cannot go on.
        #[serde(default)]
        fatal: bool,
    },
    /// Any other kind is passed over.
    #[serde(other)]
    Unknown,
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Who {
    /// The human at the other end.
    Caller,
    /// The agent.
    Agent,
}
