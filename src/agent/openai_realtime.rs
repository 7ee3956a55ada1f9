//! OpenAI Realtime in its general-availability form: PCMU both ways, the vendor hears when the caller speaks.
//!
//! Three things are kept straight here. *Who speaks*: one response at a time, none while the caller talks; what must be
//! said waits in `wants`. *What was heard*: audio comes faster than it is played, so an interruption truncates the
//! vendor's memory at the millisecond the worker reports and deletes what nobody heard. *What is still true*: deltas of
//! an interrupted response arrive late and go nowhere.

mod messages;
mod options;

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use self::messages::{Delta, Failure, Head, Item, Malformed, Response};
use super::words::{Act, Connect, Ear, Tally, Words};
use super::{AgentCommand, AgentEvent, AgentSpec, FailedKind, FirstWords, Usage, Who};
use crate::model::limits::{
    AGENT_FAULT_MAX, AGENT_ITEMS_MAX, AGENT_MALFORMED_MAX, AGENT_TRANSCRIPT_MAX, AGENT_WANTS_MAX, RUNS_AT_ONCE_MAX,
    TOOL_ARGUMENTS_MAX, TOOL_RESULT_MAX,
};
use crate::model::{FRAME_MS, Frame, ItemId, Pii, SAMPLE_RATE, Speech};

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
    want: Want,
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

/// Sound of the agent that is not fully heard.
struct Utterance {
    id: ItemId,
    response: String,
    epoch: u32,
    samples: u64,
    text: String,
    is_text_whole: bool,
    is_audio_whole: bool,
    is_heard: bool,
    /// The tick at which the worker began to play it, as far as we can tell.
    began: Option<u64>,
}

struct Stop {
    epoch: u32,
    by_caller: bool,
}

struct ToolCall {
    id: String,
    response: String,
    /// A result that was already given wants the agent to speak, once all calls of this response are answered.
    state: CallState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CallState {
    Open,
    Answered { respond: bool },
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
        if let Some(item) = &item {
            self.forget_stops_before(item);
        }
        let Some(stop) = self.stops.pop_front() else { return };
        let speaking = item.and_then(|item| {
            let at = self.utterances.iter().position(|it| it.id == item && it.epoch < stop.epoch && !it.is_heard)?;
            Some((at, item))
        });
        if let Some((at, item)) = speaking {
            // What came before it was heard, whether or not the worker said so.
            for earlier in self.utterances.iter_mut().take(at) {
                earlier.is_heard = true;
            }
            self.cut_off(at, item, heard_ms, stop.by_caller, out);
        }
        // Everything else of that time was never heard: the model must not believe it said so.
        let unheard = |it: &Utterance| it.epoch < stop.epoch && !it.is_heard;
        let ids: Vec<ItemId> = self.utterances.iter().filter(|it| unheard(it)).map(|it| it.id.clone()).collect();
        self.utterances.retain(|it| !unheard(it));
        for id in ids {
            self.send("conversation.item.delete", json!({ "item_id": &*id }), out);
        }
        self.report(out);
        self.begin_next();
    }

    fn on_finished(&mut self, item: &ItemId, out: &mut Vec<Act>) {
        self.forget_stops_before(item);
        if let Some(utterance) = self.utterances.iter_mut().find(|it| it.id == *item) {
            utterance.is_heard = true;
        }
        self.report(out);
        self.begin_next();
    }

    fn on_gone(&mut self, out: &mut Vec<Act>) {
        self.report(out);
        // The worker cannot be asked any more; our own clock says how far it must have come.
        for utterance in std::mem::take(&mut self.utterances) {
            let Some(began) = utterance.began else { continue };
            let heard_ms = (self.ticks - began) * u64::from(FRAME_MS);
            let (text, interrupted) = match utterance.is_heard {
                true => (utterance.text.clone(), false),
                false => (utterance.text_heard(heard_ms), !utterance.is_complete_at(heard_ms)),
            };
            tell_said(text, interrupted, out);
        }
    }

    fn ear(&self) -> Ear {
        match self.phase {
            Phase::Opening { answered: true } => Ear::Holding,
            Phase::Opening { answered: false } | Phase::Ready => Ear::Deaf,
            Phase::Talking => Ear::Open,
        }
    }

    fn append(&self, frame: &Frame) -> String {
        // Base64 needs no escaping, and this is the one message that is made fifty times a second.
        let mut message = String::with_capacity(280);
        message.push_str(r#"{"type":"input_audio_buffer.append","audio":""#);
        BASE64.encode_string(frame, &mut message);
        message.push_str(r#""}"#);
        message
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
        if self.asked.as_ref().is_some_and(|ask| error.event_id.as_deref() == Some(&ask.event_id)) {
            let ask = self.asked.take();
            if code == "conversation_already_has_active_response" {
                self.wants.extend(ask.map(|ask| ask.want));
                self.wants.rotate_right(1);
                if self.active.is_none() && self.turn == Turn::Free {
                    // It began one that we have not heard of yet.
                    self.turn = Turn::Owed { frames: OWED_FRAMES };
                }
                return;
            }
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

    /// A worker that speaks this has obeyed every stop before it, also if it answered several at once.
    fn forget_stops_before(&mut self, item: &ItemId) {
        if let Some(epoch) = self.utterances.iter().find(|it| it.id == *item).map(|it| it.epoch) {
            self.stops.retain(|stop| stop.epoch > epoch);
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
        self.asked = Some(Ask { event_id, want, frames: ASK_FRAMES });
    }

    fn on_created(&mut self, response: Response, out: &mut Vec<Act>) {
        let name = response.metadata.get("ask").and_then(Value::as_str);
        let ours = self.asked.take_if(|ask| name == Some(&ask.event_id));
        self.active = Some(response.id.clone());
        match ours {
            // The caller began to speak while our wish was on its way: listen first, say it afterwards.
            Some(ask) if self.turn == Turn::Caller => {
                self.send("response.cancel", json!({ "response_id": response.id }), out);
                self.cut_response(response.id);
                self.wants.push_front(ask.want);
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

/// What was heard.
impl OpenAiRealtime {
    fn on_audio(&mut self, delta: Delta<'_>, out: &mut Vec<Act>) -> Result<(), Malformed> {
        let Some(at) = self.utterance(&delta) else { return Ok(()) };
        let ulaw = BASE64.decode(&*delta.delta).map_err(|_| Malformed("audio is not base64".to_owned()))?;
        if !ulaw.is_empty() {
            let utterance = &mut self.utterances[at];
            utterance.samples += ulaw.len() as u64;
            let (epoch, item) = (utterance.epoch, utterance.id.clone());
            out.push(Act::Speak(Speech { epoch, item, ulaw, last: false }));
            self.begin_next();
        }
        Ok(())
    }

    fn on_audio_done(&mut self, message: &Delta<'_>, out: &mut Vec<Act>) {
        if let Some(at) = self.utterance(message) {
            self.utterances[at].close_audio(out);
        }
    }

    fn on_words(&mut self, delta: &Delta<'_>) {
        if let Some(at) = self.utterance(delta) {
            let text = &mut self.utterances[at].text;
            text.push_str(cut_to(&delta.delta, AGENT_TRANSCRIPT_MAX.saturating_sub(text.len())));
        }
    }

    fn on_words_done(&mut self, message: Delta<'_>, out: &mut Vec<Act>) {
        if let Some(at) = self.utterance(&message) {
            let utterance = &mut self.utterances[at];
            if !message.transcript.is_empty() {
                utterance.text = cut_to(&message.transcript, AGENT_TRANSCRIPT_MAX).to_owned();
            }
            utterance.is_text_whole = true;
        }
        self.report(out);
    }

    /// The utterance a delta belongs to, made when it is the first; `None` when it is late.
    fn utterance(&mut self, delta: &Delta<'_>) -> Option<usize> {
        let known = self.utterances.iter().position(|it| *it.id == *delta.item_id);
        let is_late = self.cut.iter().any(|id| *id == delta.response_id)
            || known.is_some_and(|at| self.utterances[at].epoch < self.epoch);
        if is_late {
            self.tally.late_deltas += 1;
            return None;
        }
        if known.is_none() {
            if self.utterances.len() >= AGENT_ITEMS_MAX {
                self.utterances.pop_front();
            }
            self.utterances.push_back(Utterance::new(&delta.item_id, &delta.response_id, self.epoch));
        }
        known.or(self.utterances.len().checked_sub(1))
    }

    /// The response is over: nothing more comes for its utterances.
    fn close_utterances(&mut self, response: &str, out: &mut Vec<Act>) {
        let epoch = self.epoch;
        self.utterances.retain(|it| it.response != response || it.epoch < epoch || it.samples > 0);
        for utterance in &mut self.utterances {
            if utterance.response == response && utterance.epoch == epoch {
                utterance.close_audio(out);
                utterance.is_text_whole = true;
            }
        }
        self.report(out);
    }

    /// The utterance at `at` was interrupted.
    fn cut_off(&mut self, at: usize, item: ItemId, heard_ms: u64, by_caller: bool, out: &mut Vec<Act>) {
        let utterance = &mut self.utterances[at];
        if utterance.is_complete_at(heard_ms) {
            // The caller spoke into the last moment; nothing was lost.
            utterance.is_heard = true;
            utterance.is_text_whole = true;
            return;
        }
        // More than was generated is an error to the vendor, and the worker may round differently.
        let heard_ms = heard_ms.min(utterance.length_ms());
        let text = utterance.text_heard(heard_ms);
        self.utterances.remove(at);
        let cut = json!({ "item_id": &*item, "content_index": 0, "audio_end_ms": heard_ms });
        self.send("conversation.item.truncate", cut, out);
        if by_caller {
            out.push(Act::Tell(AgentEvent::BargedIn { item, heard_ms }));
        }
        self.report(out);
        tell_said(text, true, out);
    }

    /// Tells the words of every utterance that is heard to its end, in order.
    fn report(&mut self, out: &mut Vec<Act>) {
        while self.utterances.front().is_some_and(|it| it.is_heard && it.is_text_whole) {
            let utterance = self.utterances.pop_front().map(|it| it.text).unwrap_or_default();
            tell_said(utterance, false, out);
        }
    }

    /// The worker plays one utterance after the other: the first that is not heard is the one being played.
    fn begin_next(&mut self) {
        let ticks = self.ticks;
        if let Some(next) = self.utterances.iter_mut().find(|it| !it.is_heard && it.samples > 0) {
            next.began.get_or_insert(ticks);
        }
    }
}

/// What it asks for.
impl OpenAiRealtime {
    fn on_call(&mut self, response: &str, item: Item, out: &mut Vec<Act>) {
        if item.call_id.is_empty() || self.calls.iter().any(|call| call.id == item.call_id) {
            return out.push(fault("tool_call_id", "a tool call without an id of its own; ignored"));
        }
        let arguments = if item.arguments.trim().is_empty() { "{}".to_owned() } else { item.arguments };
        let open = self.calls.iter().filter(|call| call.state == CallState::Open).count();
        let refusal = if arguments.len() > TOOL_ARGUMENTS_MAX {
            Some("arguments_too_long")
        } else if serde_json::from_str::<serde_json::Map<String, Value>>(&arguments).is_err() {
            Some("arguments_are_no_json_object")
        } else if item.name.is_empty() || item.name.len() > TOOL_NAME_MAX {
            Some("no_such_function")
        } else if open >= RUNS_AT_ONCE_MAX {
            Some("too_many_calls_at_once")
        } else {
            None
        };
        let call = ToolCall { id: item.call_id.clone(), response: response.to_owned(), state: CallState::Open };
        self.calls.push(call);
        match refusal {
            Some(code) => {
                out.push(fault(code, &format!("a call of {}", cut_to(&item.name, TOOL_NAME_MAX))));
                self.answer(item.call_id, &json!({ "error": code }).to_string(), true, out);
            }
            None => out.push(Act::Tell(AgentEvent::Asked {
                tool_call_id: item.call_id,
                name: item.name,
                arguments: Pii::new(arguments),
            })),
        }
    }

    fn on_result(&mut self, id: String, output: Pii<String>, respond: bool, out: &mut Vec<Act>) {
        let is_open = |call: &&ToolCall| call.id == id && call.state == CallState::Open;
        let Some(response) = self.calls.iter().find(is_open).map(|call| call.response.clone()) else {
            return out.push(fault("tool_call_id", "a result for a question that is not open"));
        };
        let whole = output.reveal();
        let kept = cut_to(whole, TOOL_RESULT_MAX - CUT_MARK.len());
        let output = if kept.len() < whole.len() { format!("{kept}{CUT_MARK}") } else { kept.to_owned() };
        self.answer(id, &output, respond, out);
        self.answer_calls(&response, out);
    }

    fn answer(&mut self, id: String, output: &str, respond: bool, out: &mut Vec<Act>) {
        let item = json!({ "type": "function_call_output", "call_id": id, "output": output });
        self.send("conversation.item.create", json!({ "item": item }), out);
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == id) {
            call.state = CallState::Answered { respond };
        }
        self.unacknowledged.push(id);
        if self.unacknowledged.len() > UNACKNOWLEDGED_MAX {
            self.unacknowledged.remove(0);
        }
    }

    /// Once every call of a response is answered, the agent goes on: one response for all of them.
    fn answer_calls(&mut self, response: &str, out: &mut Vec<Act>) {
        let of_it = |call: &&ToolCall| call.response == response;
        if self.calls.iter().filter(of_it).any(|call| call.state == CallState::Open) {
            return;
        }
        let respond = self.calls.iter().filter(of_it).any(|call| call.state == CallState::Answered { respond: true });
        self.calls.retain(|call| call.response != response);
        if respond {
            self.want(Want::AnswerResult, out);
        }
    }

    fn on_item(&mut self, item: &Item) {
        if item.kind == "function_call_output" {
            self.unacknowledged.retain(|id| *id != item.call_id);
        }
    }

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

impl Utterance {
    fn new(id: &str, response: &str, epoch: u32) -> Utterance {
        Utterance {
            id: id.into(),
            response: response.to_owned(),
            epoch,
            samples: 0,
            text: String::new(),
            is_text_whole: false,
            is_audio_whole: false,
            is_heard: false,
            began: None,
        }
    }

    fn length_ms(&self) -> u64 {
        self.samples * 1000 / u64::from(SAMPLE_RATE)
    }

    fn is_complete_at(&self, heard_ms: u64) -> bool {
        self.is_audio_whole && heard_ms >= self.length_ms()
    }

    fn close_audio(&mut self, out: &mut Vec<Act>) {
        if !self.is_audio_whole {
            self.is_audio_whole = true;
            out.push(Act::Speak(Speech { epoch: self.epoch, item: self.id.clone(), ulaw: Vec::new(), last: true }));
        }
    }

    /// The words that fit into the first `heard_ms`, as if they were spoken evenly; a word that was cut is not counted.
    fn text_heard(&self, heard_ms: u64) -> String {
        let length_ms = self.length_ms();
        if heard_ms >= length_ms {
            return self.text.clone();
        }
        // Both are bounded (64 kB of text, the audio of one answer), so the product fits.
        let chars = self.text.chars().count() as u64 * heard_ms / length_ms;
        let end = self.text.char_indices().nth(usize::try_from(chars).unwrap_or(usize::MAX));
        let heard = end.map_or(self.text.as_str(), |(at, _)| &self.text[..at]);
        let is_mid_word = !self.text[heard.len()..].starts_with(char::is_whitespace);
        let whole_words = if is_mid_word { heard.rfind(char::is_whitespace).unwrap_or(0) } else { heard.len() };
        heard[..whole_words].trim_end().to_owned()
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
const CUT_MARK: &str = " … (cut off, too long)";
/// The vendor begins its answer within some 10 ms of the caller's pause; a second later it will not.
const OWED_FRAMES: u32 = 1000 / FRAME_MS;
/// A wish for a response is answered or refused within a round trip; after 5 s it is lost.
const ASK_FRAMES: u32 = 5000 / FRAME_MS;
/// Interrupted responses to remember: late deltas come within a second, and a caller cannot interrupt this often in one.
const CUT_MAX: usize = 16;
/// Stops the worker may owe an answer for; it answers each within a frame.
const STOPS_MAX: usize = 64;
/// Results to remember until the vendor shows them; only decides whether to ask for one response more.
const UNACKNOWLEDGED_MAX: usize = 2 * RUNS_AT_ONCE_MAX;
/// The vendor allows 64 characters.
const TOOL_NAME_MAX: usize = 64;

#[cfg(test)]
mod tests;
