//! OpenAI Realtime in its general-availability form: PCMU both ways, the vendor hears when the caller speaks.
//!
//! Three things are kept straight here. *Who speaks*: one response at a time, none while the caller talks; what must be
//! said waits in `wants`. *What was heard*: audio comes faster than it is played, so an interruption truncates the
//! vendor's memory at the millisecond the worker reports and deletes what nobody heard. *What is still true*: deltas of
//! an interrupted response arrive late and go nowhere.

mod heard;
mod messages;
mod options;
mod tools;

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use self::heard::Utterance;
use self::messages::{Failure, Head, Malformed, Response};
use self::tools::ToolCall;
use super::words::{Act, Connect, Ear, Message, Tally, Words};
use super::{AgentCommand, AgentEvent, AgentSpec, FailedKind, FirstWords, Usage, Who};
use crate::model::limits::{AGENT_FAULT_MAX, AGENT_MALFORMED_MAX, AGENT_TRANSCRIPT_MAX, AGENT_WANTS_MAX};
use crate::model::{FRAME_MS, Frame, ItemId, Pii};

pub(super) use self::options::check;

/// The connector's name in the configuration.
pub(super) const NAME: &str = "openai-realtime";

/// One conversation with the vendor.
pub(super) struct OpenAiRealtime {
    spec: AgentSpec,
    phase: Phase,
    turn: Turn,
    /// The response that is being generated.
    active: Option<String>,
    /// The response we asked for and have not seen yet.
    asked: Option<Ask>,
    wants: VecDeque<Want>,
    /// Responses that were interrupted; what still comes of them is late.
    cut: VecDeque<String>,
    utterances: VecDeque<Utterance>,
    /// Stops the worker has not answered yet, oldest first.
    stops: VecDeque<Stop>,
    epoch: u32,
    calls: Vec<ToolCall>,
    /// Results the vendor has not put into its conversation yet, by call id.
    unacknowledged: Vec<String>,
    /// Frames since the media leg began.
    ticks: u64,
    ids: u64,
    malformed_in_a_row: u32,
    tally: Tally,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// `session.update` is on its way; `answered` when the caller already is.
    Opening { answered: bool },
    /// The session stands; the phone still rings.
    Ready,
    /// The caller is answered.
    Talking,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nobody has claimed it.
    Free,
    /// The caller speaks.
    Caller,
    /// The caller has paused and the vendor will answer by itself; given up after this many frames.
    Owed { frames: u32 },
}

/// A `response.create` under way.
struct Ask {
    event_id: String,
    /// `None` when the call has silenced the agent since: the response may come, but must not be heard.
    want: Option<Want>,
    /// Frames left until we stop believing in an answer.
    frames: u32,
}

/// Something for which the agent must take the turn.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Want {
    /// These exact words.
    Say(Pii<String>),
    /// Whatever follows from a tool's result. A response that the vendor starts by itself serves as well.
    AnswerResult,
    /// Whatever follows from news.
    AnswerNews,
}

struct Stop {
    epoch: u32,
    by_caller: bool,
}

impl OpenAiRealtime {
    /// A conversation that has not begun. The settings have been checked.
    pub(super) fn new(spec: AgentSpec) -> OpenAiRealtime {
        OpenAiRealtime {
            spec,
            phase: Phase::Opening { answered: false },
            turn: Turn::Free,
            active: None,
            asked: None,
            wants: VecDeque::new(),
            cut: VecDeque::new(),
            utterances: VecDeque::new(),
            stops: VecDeque::new(),
            epoch: 0,
            calls: Vec::new(),
            unacknowledged: Vec::new(),
            ticks: 0,
            ids: 0,
            malformed_in_a_row: 0,
            tally: Tally::default(),
        }
    }
}

impl Words for OpenAiRealtime {
    fn connect(&self) -> Connect {
        options::connect(&self.spec)
    }

    fn open(&mut self, out: &mut Vec<Act>) {
        // Sent without waiting for `session.created`: it saves a round trip while the phone rings.
        let session = options::session(&self.spec);
        out.push(send(json!({ "type": "session.update", "event_id": SESSION_EVENT, "session": session })));
    }

    fn on_text(&mut self, text: &str, out: &mut Vec<Act>) {
        match self.read(text, out) {
            Ok(()) => self.malformed_in_a_row = 0,
            Err(Malformed(why)) => {
                self.tally.malformed_messages += 1;
                self.malformed_in_a_row += 1;
                out.push(fault("malformed_message", &why));
                if self.malformed_in_a_row >= AGENT_MALFORMED_MAX {
                    out.push(Act::Leave(format!("{AGENT_MALFORMED_MAX} unreadable messages in a row")));
                }
            }
        }
    }

    // This vendor's sound is in its text messages.
    fn on_binary(&mut self, _octets: &[u8], _out: &mut Vec<Act>) {
        self.tally.unknown_messages += 1;
    }

    fn on_command(&mut self, command: AgentCommand, out: &mut Vec<Act>) {
        match command {
            AgentCommand::Update { instructions, first_words } => {
                if let Some(first_words) = first_words {
                    self.spec.first_words = first_words;
                }
                if let Some(instructions) = instructions {
                    let session = json!({ "type": "realtime", "instructions": instructions.reveal() });
                    self.send("session.update", json!({ "session": session }), out);
                }
            }
            AgentCommand::Start => self.on_start(out),
            AgentCommand::Result { tool_call_id, output, respond } => {
                self.on_result(tool_call_id, output, respond, out)
            }
            AgentCommand::Say { text } => self.want(Want::Say(text), out),
            AgentCommand::Inform { text, respond } => {
                let content = json!([{ "type": "input_text", "text": text.reveal() }]);
                let item = json!({ "type": "message", "role": "system", "content": content });
                self.send("conversation.item.create", json!({ "item": item }), out);
                if respond {
                    self.want(Want::AnswerNews, out);
                }
            }
            AgentCommand::Interrupt => self.hush(false, out),
            // The driver ends the conversation through `on_gone`.
            AgentCommand::Close => {}
        }
    }

    fn on_frame(&mut self, out: &mut Vec<Act>) {
        self.ticks += 1;
        if let Turn::Owed { frames } = &mut self.turn {
            *frames = frames.saturating_sub(1);
            if *frames == 0 {
                self.turn = Turn::Free;
                self.pump(out);
            }
        }
        if let Some(ask) = &mut self.asked {
            ask.frames = ask.frames.saturating_sub(1);
            if ask.frames == 0 && self.active.is_none() {
                self.asked = None;
                out.push(fault("response_missing", "a response was asked for and never came"));
                self.pump(out);
            }
        }
    }

    fn on_stopped(&mut self, item: Option<ItemId>, heard_ms: u64, out: &mut Vec<Act>) {
        self.on_silenced(item, heard_ms, out);
    }

    fn on_finished(&mut self, item: &ItemId, _heard_ms: u64, out: &mut Vec<Act>) {
        self.on_heard_out(item, out);
    }

    fn on_gone(&mut self, out: &mut Vec<Act>) {
        self.report_the_rest(out);
    }

    fn ear(&self) -> Ear {
        match self.phase {
            Phase::Opening { answered: true } => Ear::Holding,
            Phase::Opening { answered: false } | Phase::Ready => Ear::Deaf,
            Phase::Talking => Ear::Open,
        }
    }

    fn append(&self, frame: &Frame) -> Message {
        // Base64 needs no escaping, and this is the one message that is made fifty times a second.
        let mut message = String::with_capacity(280);
        message.push_str(r#"{"type":"input_audio_buffer.append","audio":""#);
        BASE64.encode_string(frame, &mut message);
        message.push_str(r#""}"#);
        Message::Text(message)
    }

    fn is_speaking(&self) -> bool {
        let about_to = self.active.is_some() || self.asked.is_some() || !self.wants.is_empty();
        self.phase == Phase::Talking && (about_to || self.utterances.iter().any(|it| !it.is_heard))
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

/// What the vendor says.
impl OpenAiRealtime {
    fn read(&mut self, text: &str, out: &mut Vec<Act>) -> Result<(), Malformed> {
        let head: Head<'_> = messages::read(text)?;
        match &*head.kind {
            "response.output_audio.delta" => self.on_audio(messages::read(text)?, out)?,
            "response.output_audio.done" => self.on_audio_done(&messages::read(text)?, out),
            "response.output_audio_transcript.delta" => self.on_words(&messages::read(text)?),
            "response.output_audio_transcript.done" => self.on_words_done(messages::read(text)?, out),
            "input_audio_buffer.speech_started" => self.on_speech_started(out),
            "input_audio_buffer.speech_stopped" => self.on_speech_stopped(out),
            "conversation.item.input_audio_transcription.completed" => {
                let heard: messages::Transcribed = messages::read(text)?;
                let text = cut_to(heard.transcript.trim(), AGENT_TRANSCRIPT_MAX).to_owned();
                if !text.is_empty() {
                    let text = Pii::new(text);
                    out.push(Act::Tell(AgentEvent::Said { who: Who::Caller, text, interrupted: false }));
                }
            }
            "conversation.item.input_audio_transcription.failed" => {
                out.push(fault("transcription_failed", "the caller's words could not be written down"));
            }
            "response.created" => self.on_created(messages::read::<messages::OfResponse>(text)?.response, out),
            "response.done" => self.on_response_done(messages::read::<messages::OfResponse>(text)?.response, out),
            "conversation.item.added" | "conversation.item.created" | "conversation.item.done" => {
                self.on_item(&messages::read::<messages::OfItem>(text)?.item);
            }
            "session.updated" => self.on_session_updated(&messages::read(text)?, out),
            "error" => self.on_error(messages::read::<messages::OfFailure>(text)?.error, out),
            kind if messages::NEEDLESS.contains(&kind) => {}
            // The vendor adds words all the time; none may break a call.
            _ => self.tally.unknown_messages += 1,
        }
        Ok(())
    }

    fn on_session_updated(&mut self, message: &messages::OfSession, out: &mut Vec<Act>) {
        let Phase::Opening { answered } = self.phase else { return };
        // Any other format would be noise in the caller's ear, or in the agent's.
        for side in ["input", "output"] {
            let format = message.session.pointer(&format!("/audio/{side}/format/type")).and_then(Value::as_str);
            if format.is_some_and(|format| format != "audio/pcmu") {
                return out.push(Act::Fail(FailedKind::BadAnswer, format!("{side} audio is not audio/pcmu")));
            }
        }
        self.phase = Phase::Ready;
        out.push(Act::Tell(AgentEvent::Ready));
        if answered {
            self.on_start(out);
        }
    }

    fn on_error(&mut self, error: Failure, out: &mut Vec<Act>) {
        let code = error.code();
        let is_of_session = error.event_id.as_deref().is_none_or(|id| id == SESSION_EVENT);
        if matches!(self.phase, Phase::Opening { .. }) && is_of_session {
            let kind = match code.as_str() {
                "invalid_api_key" | "authentication_error" | "permission_denied" => FailedKind::AuthRefused,
                "insufficient_quota" | "rate_limit_exceeded" | "server_error" => FailedKind::Busy,
                _ => FailedKind::SessionRefused,
            };
            return out.push(Act::Fail(kind, error.place()));
        }
        let is_collision = code == "conversation_already_has_active_response";
        // A collision can only be about our one wish, also when it does not say so.
        let is_of_ask = |ask: &mut Ask| error.event_id.as_ref().map_or(is_collision, |id| *id == ask.event_id);
        if let Some(ask) = self.asked.take_if(is_of_ask)
            && is_collision
        {
            if let Some(want) = ask.want {
                self.wants.push_front(want);
            }
            if self.active.is_none() && self.turn == Turn::Free {
                // It began one that we have not heard of yet.
                self.turn = Turn::Owed { frames: OWED_FRAMES };
            }
            return;
        }
        // The response ended while our cancel was on its way: what we wanted is so.
        if code != "response_cancel_not_active" {
            out.push(fault(&code, &error.message));
        }
        self.pump(out);
    }
}

/// Who speaks.
impl OpenAiRealtime {
    fn on_start(&mut self, out: &mut Vec<Act>) {
        match self.phase {
            Phase::Opening { .. } => self.phase = Phase::Opening { answered: true },
            Phase::Ready => {
                self.phase = Phase::Talking;
                if let FirstWords::Agent(text) = &self.spec.first_words {
                    self.wants.push_front(Want::Say(text.clone()));
                }
                self.pump(out);
            }
            // A caller is answered once.
            Phase::Talking => {}
        }
    }

    fn on_speech_started(&mut self, out: &mut Vec<Act>) {
        self.turn = Turn::Caller;
        // Silence first: everything else may be late, this may not.
        self.hush(true, out);
        out.push(Act::Tell(AgentEvent::SpeechStarted));
    }

    fn on_speech_stopped(&mut self, out: &mut Vec<Act>) {
        // The vendor answers by itself now; asking too would collide with it.
        self.turn = Turn::Owed { frames: OWED_FRAMES };
        out.push(Act::Tell(AgentEvent::SpeechStopped));
    }

    fn hush(&mut self, by_caller: bool, out: &mut Vec<Act>) {
        self.epoch += 1;
        out.push(Act::hush(self.epoch));
        if self.stops.len() < STOPS_MAX {
            self.stops.push_back(Stop { epoch: self.epoch, by_caller });
        }
        if let Some(ask) = self.asked.as_mut().filter(|_| !by_caller) {
            // Nothing to cancel yet: it is cancelled as it comes.
            ask.want = None;
        }
        if let Some(active) = self.active.clone() {
            let is_cut_already = self.cut.contains(&active);
            // For the caller's voice the vendor has cancelled it already, unless it was told not to.
            let is_cancelled = is_cut_already || (by_caller && options::vendor_interrupts(&self.spec));
            if !is_cancelled {
                self.send("response.cancel", json!({ "response_id": active }), out);
            }
            self.cut_response(active);
        }
    }

    fn cut_response(&mut self, id: String) {
        if !self.cut.contains(&id) {
            self.cut.push_back(id);
        }
        if self.cut.len() > CUT_MAX {
            self.cut.pop_front();
        }
    }

    fn want(&mut self, want: Want, out: &mut Vec<Act>) {
        match want {
            // One response answers all that is new.
            Want::AnswerResult | Want::AnswerNews if self.wants.contains(&want) => {}
            _ if self.wants.len() >= AGENT_WANTS_MAX => {
                out.push(fault("too_much_to_say", "the agent has too much to say already; dropped"));
            }
            _ => self.wants.push_back(want),
        }
        self.pump(out);
    }

    /// Takes the turn for the next want, when it is to be had.
    fn pump(&mut self, out: &mut Vec<Act>) {
        let is_free =
            self.phase == Phase::Talking && self.turn == Turn::Free && self.active.is_none() && self.asked.is_none();
        if !is_free {
            return;
        }
        let Some(want) = self.wants.pop_front() else { return };
        let event_id = self.event_id();
        // The metadata comes back in `response.created`, which tells our response from one the vendor began by itself.
        let metadata = json!({ "ask": event_id });
        let response = match &want {
            Want::Say(text) => json!({
                "instructions": format!("{SAY_EXACTLY}{}", Value::from(text.reveal().as_str())),
                "tool_choice": "none",
                "metadata": metadata,
            }),
            Want::AnswerResult | Want::AnswerNews => json!({ "metadata": metadata }),
        };
        out.push(send(json!({ "type": "response.create", "event_id": event_id, "response": response })));
        self.asked = Some(Ask { event_id, want: Some(want), frames: ASK_FRAMES });
    }

    fn on_created(&mut self, response: Response, out: &mut Vec<Act>) {
        let name = response.metadata.get("ask").and_then(Value::as_str);
        let ours = self.asked.take_if(|ask| name == Some(&ask.event_id));
        self.active = Some(response.id.clone());
        match ours {
            // Silenced while our wish was on its way. If by the caller: listen first, say it afterwards.
            Some(ask) if ask.want.is_none() || self.turn == Turn::Caller => {
                self.send("response.cancel", json!({ "response_id": response.id }), out);
                self.cut_response(response.id);
                if let Some(want) = ask.want {
                    self.wants.push_front(want);
                }
            }
            Some(_) => {}
            None => {
                if matches!(self.turn, Turn::Owed { .. }) {
                    self.turn = Turn::Free;
                }
                // It has read the results already, so it answers them.
                if self.unacknowledged.is_empty() {
                    self.wants.retain(|want| *want != Want::AnswerResult);
                }
            }
        }
    }

    fn on_response_done(&mut self, response: Response, out: &mut Vec<Act>) {
        if self.active.as_ref() == Some(&response.id) {
            self.active = None;
        }
        self.close_utterances(&response.id, out);
        let completed = response.status == "completed";
        match response.status.as_str() {
            "failed" => out.push(fault(&response.reason("response_failed"), &response.detail())),
            "incomplete" => out.push(fault(&response.reason("response_incomplete"), &response.detail())),
            // Completed, or cancelled because somebody wanted it so.
            _ => {}
        }
        if let Some(usage) = &response.usage {
            out.push(Act::Tell(AgentEvent::Usage(Usage::from(usage))));
        }
        for item in response.output {
            // A cancelled response also shows its half-made calls; running one would act on half a sentence.
            if item.kind == "function_call" && (completed && item.status != "incomplete" || item.status == "completed")
            {
                self.on_call(&response.id, item, out);
            }
        }
        self.answer_calls(&response.id, out);
        self.pump(out);
    }
}

/// Sending.
impl OpenAiRealtime {
    fn event_id(&mut self) -> String {
        self.ids += 1;
        format!("rb_{}", self.ids)
    }

    fn send(&mut self, kind: &str, mut message: Value, out: &mut Vec<Act>) {
        message["type"] = kind.into();
        message["event_id"] = self.event_id().into();
        out.push(send(message));
    }
}

fn send(message: Value) -> Act {
    Act::Send(message.to_string())
}

fn fault(code: &str, message: &str) -> Act {
    let message = Pii::new(cut_to(message, AGENT_FAULT_MAX).to_owned());
    Act::Tell(AgentEvent::Fault { code: code.to_owned(), message })
}

fn tell_said(text: String, interrupted: bool, out: &mut Vec<Act>) {
    if !text.trim().is_empty() {
        out.push(Act::Tell(AgentEvent::Said { who: Who::Agent, text: Pii::new(text), interrupted }));
    }
}

/// The longest beginning of at most this many bytes that ends between characters.
fn cut_to(text: &str, len_max: usize) -> &str {
    &text[..text.floor_char_boundary(len_max)]
}

const SESSION_EVENT: &str = "rb_session";
const SAY_EXACTLY: &str = "Say exactly the following words to the caller, and nothing before or after them: ";
/// The vendor begins its answer within some 10 ms of the caller's pause; a second later it will not.
const OWED_FRAMES: u32 = 1000 / FRAME_MS;
/// A wish for a response is answered or refused within a round trip; after 5 s it is lost.
const ASK_FRAMES: u32 = 5000 / FRAME_MS;
/// Interrupted responses to remember: late deltas come within a second, and a caller cannot interrupt this often in one.
const CUT_MAX: usize = 16;
/// Stops the worker may owe an answer for; it answers each within a frame.
const STOPS_MAX: usize = 64;

#[cfg(test)]
mod tests;
