//! Voice agents: one file per vendor, its words and ours.
//!
//! A vendor's file turns its messages into [`AgentEvent`]s and our [`AgentCommand`]s into its messages; it is pure, so
//! a recorded conversation is its test. `wire` is the one WebSocket driver and decides nothing. `flow` and `echo` need
//! no socket: the gateway runs the first and the media worker the second; here they only have names and settings.
//! Knows nothing of SIP or of how a call decides. No vendor is named outside this room.
//! Start at [`AgentCommand`] and [`AgentEvent`]; then `words.rs`, then a vendor.

// The driver is the only user of a vendor's words, and belongs to the shell.
#[cfg_attr(not(feature = "shell"), allow(dead_code))]
mod openai_realtime;
#[cfg_attr(not(feature = "shell"), allow(dead_code))]
mod ringback_ws;
mod settings;
#[cfg(feature = "shell")]
mod wire;
#[cfg_attr(not(feature = "shell"), allow(dead_code))]
mod words;

use serde_json::Value;

use crate::model::{ItemId, Pii, Secret};

pub use settings::SettingsError;
#[cfg(feature = "shell")]
pub use wire::{Audio, dial};
pub use words::Tally;

/// Whom to connect, and as what it shall act.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    /// One of [`kinds`].
    pub connector: String,
    /// The connector's own settings, free of mistakes by [`check_settings`].
    pub settings: Value,
    /// What the vendor knows us by. `None` sends no credential, for a server of one's own.
    pub secret: Option<Secret>,
    /// The prompt, rendered with the call's variables.
    pub instructions: Pii<String>,
    /// Who speaks first.
    pub first_words: FirstWords,
    /// What the agent may ask for.
    pub tools: Vec<ToolSpec>,
}

/// Who speaks first after the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstWords {
    /// The agent, with this text.
    Agent(Pii<String>),
    /// The caller; the agent waits.
    Caller,
}

/// Something an agent may ask for while it talks.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Letters, digits, `_` and `-`, at most 64 of them.
    pub name: String,
    /// What it does and when to use it, for the model.
    pub description: String,
    /// JSON Schema of its arguments, of type `object`.
    pub parameters: Value,
}

/// What the call wants of its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentCommand {
    /// Act as this from now on: a lookup that ran while it rang has changed the prompt or the first words.
    Update {
        /// The whole prompt, in place of the one before.
        instructions: Option<Pii<String>>,
        /// Who speaks first; of no use after `Start`.
        first_words: Option<FirstWords>,
    },
    /// The caller is answered: listen, and say the first words if they are the agent's.
    Start,
    /// The answer to [`AgentEvent::Asked`]. One answer per question; an answer nobody waits for is a `Fault`.
    Result {
        /// Of the question.
        tool_call_id: String,
        /// What the model is told, at best JSON. Cut to [`crate::model::limits::TOOL_RESULT_MAX`].
        output: Pii<String>,
        /// Whether the agent shall speak to it. With several questions open it speaks once, after the last answer.
        respond: bool,
    },
    /// Say exactly this as soon as nobody else speaks: a waiting phrase, a goodbye.
    Say {
        /// The words.
        text: Pii<String>,
    },
    /// Know this: "transfer failed: busy", "the caller pressed 3".
    Inform {
        /// For the model, not for the caller's ear.
        text: Pii<String>,
        /// Whether the agent shall say something to it, in its own words.
        respond: bool,
    },
    /// Stop speaking now, for example because a digit was pressed.
    Interrupt,
    /// Say good-bye to the vendor. What was said but not yet reported still follows, then [`dial`] returns.
    Close,
}

/// What an agent did.
///
/// [`AgentEvent::Failed`] (before `Ready`) and [`AgentEvent::Left`] (after it) end the conversation; neither comes
/// after [`AgentCommand::Close`].
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEvent {
    /// The vendor has accepted the session; the agent will speak at [`AgentCommand::Start`].
    Ready,
    /// There will be no conversation.
    Failed {
        /// What to do about it.
        kind: FailedKind,
        /// For an operator; holds no secret and nothing personal.
        detail: String,
    },
    /// The agent says something, or is about to.
    Speaking,
    /// Everything the agent had to say went out to the caller, or was dropped.
    Quiet {
        /// How many [`AgentCommand::Say`] had been taken by then: one that crossed with this is not among them.
        says: u32,
    },
    /// The caller began to speak.
    SpeechStarted,
    /// The caller paused; the agent's turn.
    SpeechStopped,
    /// The caller spoke over the agent, who is silent since.
    BargedIn {
        /// What was being said.
        item: ItemId,
        /// Milliseconds of it that went out to the caller.
        heard_ms: u64,
    },
    /// Words for the transcript. An agent's come when they were heard, not when they were generated.
    Said {
        /// Whose words.
        who: Who,
        /// The words; of an interrupted agent only those that were heard, as far as its tempo tells.
        text: Pii<String>,
        /// There was more to say.
        interrupted: bool,
    },
    /// The agent asks for something to be done. Answer with [`AgentCommand::Result`], also when the name is unknown.
    Asked {
        /// Names the question.
        tool_call_id: String,
        /// What to do; a name of [`ToolSpec`] unless the model made one up.
        name: String,
        /// A JSON object, at most [`crate::model::limits::TOOL_ARGUMENTS_MAX`] long; not checked against the schema.
        arguments: Pii<String>,
    },
    /// Something went wrong that does not end the conversation.
    Fault {
        /// The vendor's or our word for it, stable enough to count by.
        code: String,
        /// May repeat what was said.
        message: Pii<String>,
    },
    /// What one response cost.
    Usage(Usage),
    /// The socket is gone.
    Left {
        /// For an operator; holds no secret and nothing personal.
        reason: String,
    },
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The human at the other end.
    Caller,
    /// The agent.
    Agent,
}

/// Why a conversation did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedKind {
    /// Nobody there: name not found, connection refused or broken, TLS failed.
    ConnectRefused,
    /// The credential is missing, wrong or not allowed (HTTP 401, 403).
    AuthRefused,
    /// The vendor has no room for us now (HTTP 429, 503).
    Busy,
    /// Not ready within `connect_timeout_ms`.
    Timeout,
    /// The vendor refused the session as we asked for it; the settings are at fault.
    SessionRefused,
    /// What answered does not speak this protocol.
    BadAnswer,
}

/// Tokens of one response, as the vendor counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Everything the model read.
    pub input_tokens: u64,
    /// Of these, already known from before and cheaper.
    pub input_cached_tokens: u64,
    /// Of these, sound.
    pub input_audio_tokens: u64,
    /// Everything the model wrote.
    pub output_tokens: u64,
    /// Of these, sound.
    pub output_audio_tokens: u64,
}

/// Every connector there is.
pub fn kinds() -> &'static [&'static str] {
    &["flow", "echo", openai_realtime::NAME, ringback_ws::NAME]
}

/// Whether there is a connector of this name.
pub fn is_known(connector: &str) -> bool {
    kinds().contains(&connector)
}

/// Whether this connector needs [`dial`]; the others live inside the gateway.
pub fn needs_socket(connector: &str) -> bool {
    [openai_realtime::NAME, ringback_ws::NAME].contains(&connector)
}

/// All mistakes in an agent's settings, in the order of the fields. An unknown connector is one mistake.
pub fn check_settings(connector: &str, settings: &Value) -> Vec<SettingsError> {
    match connector {
        openai_realtime::NAME => openai_realtime::check(settings),
        ringback_ws::NAME => ringback_ws::check(settings),
        // Both are complete without settings: an echo has nothing to choose, and a flow's workflow is the agent's.
        "echo" | "flow" => settings::check(settings, &[]),
        _ => vec![SettingsError {
            pointer: String::new(),
            message: format!("there is no connector {connector:?}"),
            hint: format!("one of: {}", kinds().join(", ")),
        }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_connector_is_known_and_right_with_what_it_must_have() {
        for kind in kinds() {
            assert!(is_known(kind));
            let must = if *kind == ringback_ws::NAME { json!({ "url": "wss://a.example/" }) } else { Value::Null };
            assert_eq!(check_settings(kind, &must), [], "{kind}");
        }
        assert!(!is_known("telepathy"));
    }

    #[test]
    fn an_unknown_setting_is_a_mistake_for_every_connector() {
        for kind in kinds() {
            let errors = check_settings(kind, &json!({ "a/b~c": 1, "url": "wss://a.example/" }));
            // Those without a socket have no address either.
            let errors: Vec<_> = errors.into_iter().filter(|error| error.pointer != "/url").collect();

            assert_eq!(errors.len(), 1, "{kind}");
            assert_eq!(errors[0].pointer, "/a~1b~0c");
        }
    }

    #[test]
    fn an_unknown_connector_is_told_which_there_are() {
        let errors = check_settings("telepathy", &json!({}));

        assert!(errors[0].hint.contains("flow, echo, openai-realtime, ringback-ws"));
    }

    #[test]
    fn what_an_agent_is_told_and_says_shows_in_no_log() {
        let said =
            AgentEvent::Said { who: Who::Caller, text: Pii::new("my PIN is 1234".to_owned()), interrupted: false };
        let told = AgentCommand::Inform { text: Pii::new("the PIN is 1234".to_owned()), respond: false };

        assert!(!format!("{said:?} {told:?}").contains("1234"));
    }
}
