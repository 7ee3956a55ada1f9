//! What the agent said, and how much of it was heard.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::super::AgentEvent;
use super::super::words::Act;
use super::messages::{Delta, Malformed};
use super::{OpenAiRealtime, cut_to, tell_said};
use crate::model::limits::{AGENT_ITEMS_MAX, AGENT_TRANSCRIPT_MAX};
use crate::model::{FRAME_MS, ItemId, SAMPLE_RATE, Speech, Voice};

/// Sound of the agent that is not fully heard.
pub(super) struct Utterance {
    pub(super) id: ItemId,
    pub(super) response: String,
    pub(super) epoch: u32,
    pub(super) samples: u64,
    pub(super) text: String,
    pub(super) is_text_whole: bool,
    pub(super) is_audio_whole: bool,
    pub(super) is_heard: bool,
    /// The tick at which the worker began to play it, as far as we can tell.
    pub(super) began: Option<u64>,
}

impl OpenAiRealtime {
    pub(super) fn on_audio(&mut self, delta: Delta<'_>, out: &mut Vec<Act>) -> Result<(), Malformed> {
        let Some(at) = self.utterance(&delta) else { return Ok(()) };
        let ulaw = BASE64.decode(&*delta.delta).map_err(|_| Malformed("audio is not base64".to_owned()))?;
        if !ulaw.is_empty() {
            let utterance = &mut self.utterances[at];
            utterance.samples += ulaw.len() as u64;
            let (epoch, item) = (utterance.epoch, utterance.id.clone());
            out.push(Act::Speak(Speech { epoch, item, voice: Voice::Ulaw(ulaw), last: false }));
            self.begin_next();
        }
        Ok(())
    }

    pub(super) fn on_audio_done(&mut self, message: &Delta<'_>, out: &mut Vec<Act>) {
        if let Some(at) = self.utterance(message) {
            self.utterances[at].close_audio(out);
        }
    }

    pub(super) fn on_words(&mut self, delta: &Delta<'_>) {
        if let Some(at) = self.utterance(delta) {
            let text = &mut self.utterances[at].text;
            text.push_str(cut_to(&delta.delta, AGENT_TRANSCRIPT_MAX.saturating_sub(text.len())));
        }
    }

    pub(super) fn on_words_done(&mut self, message: Delta<'_>, out: &mut Vec<Act>) {
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

    /// The worker is silent; this much was heard of this.
    pub(super) fn on_silenced(&mut self, item: Option<ItemId>, heard_ms: u64, out: &mut Vec<Act>) {
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
                (earlier.is_heard, earlier.is_text_whole) = (true, true);
            }
            self.cut_off(at, item, heard_ms, stop.by_caller, out);
        }
        // Everything else of that time was never heard: the model must not believe it said so.
        let unheard = |it: &Utterance| it.epoch < stop.epoch && !it.is_heard;
        // Words that are still on their way for what was heard would be late.
        self.utterances.iter_mut().filter(|it| it.epoch < stop.epoch).for_each(|it| it.is_text_whole = true);
        let ids: Vec<ItemId> = self.utterances.iter().filter(|it| unheard(it)).map(|it| it.id.clone()).collect();
        self.utterances.retain(|it| !unheard(it));
        for id in ids {
            self.send("conversation.item.delete", json!({ "item_id": &*id }), out);
        }
        self.report(out);
        self.begin_next();
    }

    /// The worker has played this to its end.
    pub(super) fn on_heard_out(&mut self, item: &ItemId, out: &mut Vec<Act>) {
        self.forget_stops_before(item);
        if let Some(utterance) = self.utterances.iter_mut().find(|it| it.id == *item) {
            utterance.is_heard = true;
            utterance.is_text_whole |= utterance.epoch < self.epoch;
        }
        self.report(out);
        self.begin_next();
    }

    /// Nobody can be asked any more.
    pub(super) fn report_the_rest(&mut self, out: &mut Vec<Act>) {
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

    /// A worker that speaks this has obeyed every stop before it, also if it answered several at once.
    fn forget_stops_before(&mut self, item: &ItemId) {
        if let Some(epoch) = self.utterances.iter().find(|it| it.id == *item).map(|it| it.epoch) {
            self.stops.retain(|stop| stop.epoch > epoch);
        }
    }

    /// The response is over: nothing more comes for its utterances.
    pub(super) fn close_utterances(&mut self, response: &str, out: &mut Vec<Act>) {
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

impl Utterance {
    pub(super) fn new(id: &str, response: &str, epoch: u32) -> Utterance {
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
            out.push(Act::Speak(Speech {
                epoch: self.epoch,
                item: self.id.clone(),
                voice: Voice::Ulaw(Vec::new()),
                last: true,
            }));
        }
    }

    /// The words that fit into the first `heard_ms`, as if they were spoken evenly; a word that was cut is not counted.
    pub(super) fn text_heard(&self, heard_ms: u64) -> String {
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
