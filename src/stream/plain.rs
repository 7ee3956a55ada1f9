//! Our own language, version 1: texts in JSON for control, binary messages for audio.
//!
//! The other side begins with `start`, which names the version and the form of audio; from then on each binary message is
//! audio in that form, of any length up to a second, both ways. Its sub-protocol is [`Plain::PROTOCOL`].

use std::collections::BTreeMap;

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};

use super::{AudioForm, Comer, Fault, Patience, Said, kept, variables};
use crate::model::{Digit, Pii, limits};

/// One stream of our own.
#[derive(Debug, Default)]
pub struct Plain {
    /// `None` before `start`.
    form: Option<AudioForm>,
    patience: Patience,
    is_over: bool,
}

/// What the other side writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Control {
    /// Somebody calls. Always the first message.
    Start {
        /// The version of this language: 1.
        version: u32,
        /// How audio is written, both ways.
        #[serde(default)]
        audio: AudioForm,
        /// The other side's name of the call; it stands in the record.
        #[serde(default)]
        call: String,
        /// Who calls: a number in E.164, or whatever stands for one.
        #[serde(default)]
        from: String,
        /// What was dialled; the routes decide by it.
        #[serde(default)]
        to: String,
        /// What else is known. They become variables of the call.
        #[serde(default)]
        variables: BTreeMap<String, String>,
    },
    /// A key was pressed.
    Key {
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: String,
    },
    /// All audio before the mark of this name was heard, or dropped.
    Mark {
        /// As it was given.
        name: String,
    },
    /// The caller hung up.
    Stop {},
}

/// What we write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// The call was taken.
    Taken {
        /// The version of this language: 1.
        version: u32,
        /// Our name of the call, as in its record.
        call: String,
    },
    /// Somebody answers; audio before that is what is heard while it rings.
    Answered {},
    /// A key was pressed towards the caller.
    Key {
        /// `0` to `9`, `*`, `#`, `A` to `D`.
        digit: String,
    },
    /// Tell when all audio until here was heard.
    Mark {
        /// To be given back.
        name: String,
    },
    /// Drop all audio that is not heard yet.
    Clear {},
    /// The call is over; nothing follows.
    Ended {
        /// Why, in one word, as in the record.
        cause: String,
    },
}

impl Plain {
    /// The name of the language in `Sec-WebSocket-Protocol`.
    pub const PROTOCOL: &str = "stream.ringback.v1";

    /// Takes a text.
    ///
    /// # Errors
    /// When the socket is to be closed.
    pub fn hear(&mut self, text: &str) -> Result<Said, Fault> {
        if text.len() > limits::STREAM_MESSAGE_MAX {
            return Err(Fault::TooLong);
        }
        let message = serde_json::from_str::<Control>(text);
        match (message, self.form) {
            _ if self.is_over => self.patience.ignore(),
            (Ok(Control::Start { version: 1, audio, call, from, to, variables: given }), None) => {
                self.form = Some(audio);
                Ok(Said::Begins(Comer {
                    call: Pii::new(kept(&call)),
                    from: Pii::new(kept(&from)),
                    to: Pii::new(kept(&to)),
                    variables: variables(given.iter()),
                    form: audio,
                }))
            }
            (Ok(Control::Start { .. }), None) => Err(Fault::Unsupported),
            (_, None) => Err(Fault::NoBeginning),
            (Ok(Control::Key { digit }), Some(_)) => {
                let mut keys = digit.chars();
                match (keys.next().and_then(Digit::from_char), keys.next()) {
                    (Some(digit), None) => Ok(Said::Key(Pii::new(digit))),
                    _ => self.patience.ignore(),
                }
            }
            (Ok(Control::Mark { name }), Some(_)) => Ok(Said::Heard(kept(&name))),
            (Ok(Control::Stop {}), Some(_)) => {
                self.is_over = true;
                Ok(Said::Ends)
            }
            (Ok(Control::Start { .. }) | Err(_), Some(_)) => self.patience.ignore(),
        }
    }

    /// Takes a binary message.
    ///
    /// # Errors
    /// When the socket is to be closed.
    pub fn hear_audio(&mut self, octets: &[u8]) -> Result<Said, Fault> {
        let Some(form) = self.form else { return Err(Fault::NoBeginning) };
        match form.read(octets).filter(|_| !self.is_over) {
            Some(audio) => Ok(Said::Audio(audio)),
            None => self.patience.ignore(),
        }
    }
}

impl Report {
    /// The text to send.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a report is plain data with text keys")
    }
}

/// The schema of all messages: those of the other side under `control`, ours under `report`.
pub fn schema() -> serde_json::Value {
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": Plain::PROTOCOL,
        "description": "Texts of a caller's WebSocket. Binary messages are audio in the form that `start` names, both ways.",
        "$defs": { "control": schema_for!(Control), "report": schema_for!(Report) },
        "oneOf": [{ "$ref": "#/$defs/control" }, { "$ref": "#/$defs/report" }],
    })
}
