//! Our own protocol for agents that speak WebSocket: binary messages are sound, text messages are JSON.
//!
//! The caller's sound goes out as it came from the telephone, 20 ms of µ-law in a message, without a header and without
//! being written anew; the agent's sound comes in messages of any length. Sound belongs to the utterance that
//! `speech_start` has opened; without one it opens an utterance of its own. `speech_end`, the next `speech_start` and
//! `clear` end it. How much of each was heard is told with `finished` and `cleared`, so that the agent's memory can be
//! true. The words are in `messages.rs`, and as JSON Schema in `protocol.v1.schema.json` beside it.
//!
//! Version 1 is the WebSocket subprotocol `ringback.v1`. A message of a kind that we do not know is passed over, so a
//! version can learn new words; what would break an agent needs a new one.

mod messages;

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use self::messages::{Audio, FromAgent, ToAgent, Tool};
use super::settings::{self, Field, Form, SettingsError, may, must};
use super::words::{Act, Connect, Ear, Message, Tally, Words};
use super::{AgentCommand, AgentEvent, AgentSpec, FailedKind, FirstWords, Who};
use crate::model::limits::{
    AGENT_CONNECT_MAX, AGENT_FAULT_MAX, AGENT_ITEMS_MAX, AGENT_MALFORMED_MAX, AGENT_TRANSCRIPT_MAX, TOOL_ARGUMENTS_MAX,
    TOOL_RESULT_MAX, VENDOR_WORD_MAX,
};
use crate::model::{Frame, ItemId, Pii, Speech, Voice};

/// The connector's name in the configuration.
pub(super) const NAME: &str = "ringback-ws";
/// The subprotocol of version 1; the other side must take it.
pub(super) const SUBPROTOCOL: &str = "ringback.v1";

/// One conversation.
pub(super) struct RingbackWs {
    spec: AgentSpec,
    phase: Phase,
    epoch: u32,
    /// The utterance that sound belongs to now.
    open: Option<ItemId>,
    /// Utterances with sound that was not heard to its end, in order.
    unheard: VecDeque<(ItemId, u32)>,
    /// Utterances that had no name of their own.
    unnamed: u64,
    malformed_in_a_row: u32,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The agent has not said that it is ready; `answered` when the caller already is.
    Opening { answered: bool },
    /// It is, and the phone still rings.
    Ready,
    /// The caller is answered.
    Talking,
}

/// All mistakes in these settings.
pub(super) fn check(settings: &Value) -> Vec<SettingsError> {
    settings::check(settings, FIELDS)
}

impl RingbackWs {
    /// A conversation that has not begun. The settings have been checked.
    pub(super) fn new(spec: AgentSpec) -> RingbackWs {
        RingbackWs {
            spec,
            phase: Phase::Opening { answered: false },
            epoch: 0,
            open: None,
            unheard: VecDeque::new(),
            unnamed: 0,
            malformed_in_a_row: 0,
            tally: Tally::default(),
        }
    }

    fn on_start(&mut self, out: &mut Vec<Act>) {
        match self.phase {
            Phase::Opening { .. } => self.phase = Phase::Opening { answered: true },
            Phase::Ready => {
                self.phase = Phase::Talking;
                let first_words = match &self.spec.first_words {
                    FirstWords::Agent(text) => Some(text.reveal().as_str()),
                    FirstWords::Caller => None,
                };
                send(&ToAgent::Answered { first_words }, out);
            }
            // A caller is answered once.
            Phase::Talking => {}
        }
    }

    fn on_message(&mut self, message: FromAgent<'_>, out: &mut Vec<Act>) {
        match message {
            FromAgent::Ready => {
                if let Phase::Opening { answered } = self.phase {
                    self.phase = Phase::Ready;
                    out.push(Act::Tell(AgentEvent::Ready));
                    if answered {
                        self.on_start(out);
                    }
                }
            }
            FromAgent::SpeechStart { item } => {
                self.end_speech(out);
                self.begin(Arc::from(cut_to(&item, VENDOR_WORD_MAX)));
            }
            FromAgent::SpeechEnd => self.end_speech(out),
            FromAgent::Clear => self.hush(out),
            FromAgent::Said { who, text, interrupted } => {
                let who = match who {
                    messages::Who::Caller => Who::Caller,
                    messages::Who::Agent => Who::Agent,
                };
                let text = Pii::new(cut_to(text.trim(), AGENT_TRANSCRIPT_MAX).to_owned());
                if !text.reveal().is_empty() {
                    out.push(Act::Tell(AgentEvent::Said { who, text, interrupted }));
                }
            }
            FromAgent::Tool { id, name, arguments } => {
                let arguments = arguments.to_string();
                if arguments.len() > TOOL_ARGUMENTS_MAX {
                    return out.push(fault("arguments_too_long", "a tool was asked for with too much to say"));
                }
                let arguments = Pii::new(arguments);
                out.push(Act::Tell(AgentEvent::Asked {
                    tool_call_id: id.into_owned(),
                    name: name.into_owned(),
                    arguments,
                }));
            }
            FromAgent::Error { code, message, fatal: true } => {
                let code = word(&code);
                match self.phase {
                    Phase::Opening { .. } => out.push(Act::Fail(FailedKind::SessionRefused, code)),
                    Phase::Ready | Phase::Talking => {
                        out.push(fault(&code, &message));
                        out.push(Act::Leave(code));
                    }
                }
            }
            FromAgent::Error { code, message, fatal: false } => out.push(fault(&word(&code), &message)),
            FromAgent::Unknown => self.tally.unknown_messages += 1,
        }
    }

    /// What follows belongs to this utterance.
    fn begin(&mut self, item: ItemId) {
        if self.unheard.len() >= AGENT_ITEMS_MAX {
            self.unheard.pop_front();
        }
        self.unheard.push_back((item.clone(), self.epoch));
        self.open = Some(item);
    }

    fn end_speech(&mut self, out: &mut Vec<Act>) {
        if let Some(item) = self.open.take() {
            out.push(Act::Speak(Speech { epoch: self.epoch, item, voice: Voice::Ulaw(Vec::new()), last: true }));
        }
    }

    /// Silence within a frame; the worker says what was heard.
    fn hush(&mut self, out: &mut Vec<Act>) {
        self.epoch += 1;
        self.open = None;
        out.push(Act::hush(self.epoch));
    }

    fn malformed(&mut self, why: &str, out: &mut Vec<Act>) {
        self.tally.malformed_messages += 1;
        self.malformed_in_a_row += 1;
        out.push(fault("malformed_message", why));
        if self.malformed_in_a_row >= AGENT_MALFORMED_MAX {
            out.push(Act::Leave(format!("{AGENT_MALFORMED_MAX} unreadable messages in a row")));
        }
    }
}

impl Words for RingbackWs {
    fn connect(&self) -> Connect {
        let timeout_ms = self.spec.settings["connect_timeout_ms"].as_u64();
        Connect {
            url: self.spec.settings["url"].as_str().unwrap_or_default().to_owned(),
            bearer: self.spec.secret.clone(),
            subprotocol: Some(SUBPROTOCOL),
            timeout_ms: timeout_ms.unwrap_or_else(|| u64::try_from(AGENT_CONNECT_MAX.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn open(&mut self, out: &mut Vec<Act>) {
        let tools = self.spec.tools.iter().map(|tool| Tool {
            name: &tool.name,
            description: &tool.description,
            parameters: &tool.parameters,
        });
        let start = ToAgent::Start {
            version: 1,
            audio: Audio::PCMU,
            instructions: self.spec.instructions.reveal(),
            tools: tools.collect(),
        };
        send(&start, out);
    }

    fn on_text(&mut self, text: &str, out: &mut Vec<Act>) {
        match serde_json::from_str(text) {
            Ok(message) => {
                self.malformed_in_a_row = 0;
                self.on_message(message, out);
            }
            Err(error) => self.malformed(&error.to_string(), out),
        }
    }

    fn on_binary(&mut self, sound: &[u8], out: &mut Vec<Act>) {
        // What is said before the caller is there would be their greeting, late.
        if sound.is_empty() || self.phase != Phase::Talking {
            return;
        }
        if self.open.is_none() {
            self.unnamed += 1;
            self.begin(format!("speech-{}", self.unnamed).into());
        }
        if let Some(item) = &self.open {
            out.push(Act::Speak(Speech {
                epoch: self.epoch,
                item: item.clone(),
                voice: Voice::Ulaw(sound.to_vec()),
                last: false,
            }));
        }
    }

    fn on_command(&mut self, command: AgentCommand, out: &mut Vec<Act>) {
        match command {
            AgentCommand::Update { instructions, first_words } => {
                if let Some(first_words) = first_words {
                    self.spec.first_words = first_words;
                }
                if let Some(instructions) = instructions {
                    send(&ToAgent::Instructions { text: instructions.reveal() }, out);
                }
            }
            AgentCommand::Start => self.on_start(out),
            AgentCommand::Result { tool_call_id, output, respond } => {
                let output = cut_to(output.reveal(), TOOL_RESULT_MAX);
                send(&ToAgent::ToolResult { id: &tool_call_id, output, respond }, out);
            }
            AgentCommand::Say { text } => send(&ToAgent::Say { text: text.reveal() }, out),
            AgentCommand::Inform { text, respond } => send(&ToAgent::Inform { text: text.reveal(), respond }, out),
            AgentCommand::Interrupt => {
                self.hush(out);
                send(&ToAgent::Interrupt, out);
            }
            // The driver ends the conversation through `on_gone`.
            AgentCommand::Close => {}
        }
    }

    fn on_frame(&mut self, _out: &mut Vec<Act>) {}

    fn on_stopped(&mut self, item: Option<ItemId>, heard_ms: u64, out: &mut Vec<Act>) {
        let epoch = self.epoch;
        self.unheard.retain(|(_, of)| *of >= epoch);
        send(&ToAgent::Cleared { item: item.as_deref(), heard_ms }, out);
    }

    fn on_finished(&mut self, item: &ItemId, heard_ms: u64, out: &mut Vec<Act>) {
        self.unheard.retain(|(unheard, _)| unheard != item);
        send(&ToAgent::Finished { item, heard_ms }, out);
    }

    // The agent tells what was said; there is nothing that only we know.
    fn on_gone(&mut self, _out: &mut Vec<Act>) {}

    fn ear(&self) -> Ear {
        match self.phase {
            Phase::Opening { answered: true } => Ear::Holding,
            Phase::Opening { answered: false } | Phase::Ready => Ear::Deaf,
            Phase::Talking => Ear::Open,
        }
    }

    fn append(&self, frame: &Frame) -> Message {
        Message::Binary(frame.to_vec())
    }

    fn is_speaking(&self) -> bool {
        self.phase == Phase::Talking && !self.unheard.is_empty()
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

fn send(message: &ToAgent<'_>, out: &mut Vec<Act>) {
    out.push(Act::Send(serde_json::to_string(message).expect("a message is plain data with text keys")));
}

fn fault(code: &str, message: &str) -> Act {
    let message = Pii::new(cut_to(message, AGENT_FAULT_MAX).to_owned());
    Act::Tell(AgentEvent::Fault { code: code.to_owned(), message })
}

/// The agent's word as it may stand in a log.
fn word(text: &str) -> String {
    text.chars().take(VENDOR_WORD_MAX).map(|char| if char.is_ascii_graphic() { char } else { '_' }).collect()
}

/// The longest beginning of at most this many bytes that ends between characters.
fn cut_to(text: &str, len_max: usize) -> &str {
    &text[..text.floor_char_boundary(len_max)]
}

fn url(value: &Value) -> Result<(), (String, String)> {
    settings::socket_url(value, "wss://agent.example.com/voice")
}

const FIELDS: &[Field] = &[must("url", Form::Special(url)), may("connect_timeout_ms", Form::Whole(100, 10_000))];

#[cfg(test)]
mod tests;
