//! What an agent says, from bursts to one frame every 20 ms, with every sample accounted to its item.
//!
//! The queue is elastic: vendors send a whole answer at once. It never drops what is wanted; when two minutes wait,
//! [`Playout::has_room`] says no and the worker leaves the rest in the channel. Samples are the vendor's own, at its
//! own rate: what was heard is counted in them, whatever becomes of them on the way to the listener.

use std::collections::VecDeque;

use super::sample::{Sample, fade_out};
use crate::model::limits::AGENT_AUDIO_MAX;
use crate::model::{FRAME_MS, Heard, ItemId};

/// The mouth of one agent, whose samples are µ-law octets or linear.
#[derive(Debug)]
pub(super) struct Playout<S> {
    /// Samples in a millisecond.
    per_ms: usize,
    queue: VecDeque<Segment<S>>,
    /// Samples in the queue.
    queued: usize,
    /// Audio of earlier epochs is unwanted.
    epoch: u32,
    /// The item whose samples go out.
    current: Option<Current>,
    /// The last 5 ms of what was stopped, already faded.
    tail: Option<Vec<S>>,
    /// What went out last was audible: the last sample of it.
    last: Option<S>,
    /// Ticks since the audio ran dry with less than a frame left.
    starved: u32,
    /// Ticks, counted by [`Playout::pull`].
    ticks: u64,
    /// When the audio ran dry in the middle of an item.
    dry: VecDeque<u64>,
    /// How much has to be there before an item that ran dry goes on.
    rebuffer: usize,
    underruns: u64,
}

impl<S: Sample> Playout<S> {
    /// A mouth that speaks at a rate, in samples a second.
    pub(super) fn new(rate: u32) -> Playout<S> {
        Playout {
            per_ms: (rate / 1000) as usize,
            queue: VecDeque::new(),
            queued: 0,
            epoch: 0,
            current: None,
            tail: None,
            last: None,
            starved: 0,
            ticks: 0,
            dry: VecDeque::new(),
            rebuffer: 0,
            underruns: 0,
        }
    }

    /// Whether more speech is taken: less than [`AGENT_AUDIO_MAX`] waits.
    pub(super) fn has_room(&self) -> bool {
        self.queued < AGENT_AUDIO_MAX.as_millis() as usize * self.per_ms && self.queue.len() < SEGMENTS_MAX
    }

    /// Samples waiting to be heard.
    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Times the audio ran dry in the middle of an item.
    pub(super) fn underruns(&self) -> u64 {
        self.underruns
    }

    /// Takes a piece of speech; returns whether it is still wanted. It is never refused here, only dropped when its
    /// epoch is over: ask [`Playout::has_room`] first.
    pub(super) fn offer(&mut self, piece: Piece<S>) -> bool {
        if piece.epoch < self.epoch {
            return false;
        }
        self.queued += piece.audio.len();
        let Piece { epoch, item, audio, last } = piece;
        self.queue.push_back(Segment { epoch, item, audio, at: 0, last });
        true
    }

    /// Falls silent within one frame: everything of earlier epochs is dropped, except 5 ms that fade out if audio
    /// was going out just now. Those count as heard.
    pub(super) fn stop(&mut self, epoch: u32) -> Heard {
        self.epoch = self.epoch.max(epoch);
        let wanted = self.epoch;
        let interrupted = self.current.take_if(|current| current.epoch < wanted);
        let mut heard = interrupted.map(|current| (current.item, current.samples));
        if let (Some((item, samples)), true) = (&mut heard, self.last.is_some()) {
            let mut tail = vec![S::SILENCE; self.fade()];
            let taken = self.take_from(item, &mut tail);
            fade_out(&mut tail);
            self.tail = Some(tail);
            *samples += taken as u64;
        }
        self.queue.retain(|segment| segment.epoch >= wanted);
        self.queued = self.queue.iter().map(|segment| segment.audio.len() - segment.at).sum();
        (self.rebuffer, self.starved) = (0, 0);
        match heard {
            Some((item, samples)) => Heard::Stopped { item: Some(item), heard_ms: self.ms(samples) },
            None => Heard::Stopped { item: None, heard_ms: 0 },
        }
    }

    /// The next 20 ms, silence when there is nothing to say. Returns whether the agent speaks in it. Items whose last
    /// sample is in the frame are reported finished.
    pub(super) fn pull(&mut self, frame: &mut [S], heard: &mut Vec<Heard>) -> bool {
        debug_assert_eq!(frame.len(), self.frame(), "20 ms at the mouth's own rate");
        self.ticks += 1;
        frame.fill(S::SILENCE);
        if let Some(tail) = self.tail.take() {
            frame[..tail.len()].copy_from_slice(&tail);
            self.last = None;
            return true;
        }
        self.settle(heard);
        if !self.may_speak() {
            return self.run_dry(frame);
        }
        (self.starved, self.rebuffer) = (0, 0);
        let mut filled = 0;
        while filled < frame.len() && !self.queue.is_empty() {
            filled += self.take(&mut frame[filled..]);
            self.settle(heard);
        }
        let (said, rest) = frame.split_at_mut(filled);
        self.last = said.last().copied();
        if !rest.is_empty() {
            self.break_off(rest);
        }
        true
    }

    /// Whether the next frame only fades out what was stopped.
    #[cfg(test)]
    pub(super) fn is_fading(&self) -> bool {
        self.tail.is_some()
    }

    /// Nobody listens in this tick: what comes next does not join what went out before.
    pub(super) fn pause(&mut self) {
        (self.tail, self.last) = (None, None);
    }

    /// Reports what is over without a sample of it left to send.
    fn settle(&mut self, heard: &mut Vec<Heard>) {
        while let Some(segment) = self.queue.front() {
            if segment.at < segment.audio.len() {
                return;
            }
            let done = self.queue.pop_front().expect("there is a front because it was just looked at");
            if done.last {
                let samples = match self.current.take_if(|current| current.item == done.item) {
                    Some(current) => current.samples,
                    None => 0,
                };
                heard.push(Heard::Finished { item: done.item, heard_ms: self.ms(samples) });
            }
        }
    }

    /// A whole frame is there, or all there will be: the item is complete, or nothing came for two ticks.
    fn may_speak(&self) -> bool {
        if self.queued == 0 {
            return false;
        }
        let enough = self.rebuffer.max(self.frame());
        self.queued >= enough || self.starved >= self.patience() || self.queue.iter().any(|segment| segment.last)
    }

    /// Ticks that less than enough audio waits for more.
    fn patience(&self) -> u32 {
        PATIENCE + (self.rebuffer / self.frame()) as u32
    }

    /// Nothing to say in this tick.
    fn run_dry(&mut self, frame: &mut [S]) -> bool {
        self.starved = if self.queued > 0 { self.starved + 1 } else { 0 };
        self.break_off(frame)
    }

    /// In the middle of an item what was audible fades within 5 ms instead of breaking off, and the next start waits
    /// a little longer the more often this happened lately. Returns whether anything was audible.
    fn break_off(&mut self, rest: &mut [S]) -> bool {
        let (Some(last), Some(_)) = (self.last.take(), &self.current) else { return false };
        let len = rest.len().min(self.fade());
        rest[..len].fill(last);
        fade_out(&mut rest[..len]);
        let now = self.ticks;
        self.dry.retain(|at| now - at < DRY_WINDOW_TICKS);
        self.dry.push_back(now);
        self.underruns += 1;
        self.rebuffer = self.dry.len().min(REBUFFER_MAX) * self.frame();
        true
    }

    /// Moves samples of the front segment out and counts them.
    fn take(&mut self, out: &mut [S]) -> usize {
        let Some(segment) = self.queue.front_mut() else { return 0 };
        let rest = &segment.audio[segment.at..];
        let taken = rest.len().min(out.len());
        out[..taken].copy_from_slice(&rest[..taken]);
        segment.at += taken;
        self.queued -= taken;
        match &mut self.current {
            Some(current) if current.item == segment.item && current.epoch == segment.epoch => {
                current.samples += taken as u64;
            }
            current => {
                let (item, epoch) = (segment.item.clone(), segment.epoch);
                *current = Some(Current { item, epoch, samples: taken as u64 });
            }
        }
        taken
    }

    /// Moves samples out as long as they are of one item, without counting them.
    fn take_from(&mut self, item: &ItemId, out: &mut [S]) -> usize {
        let mut taken = 0;
        for segment in self.queue.iter().take_while(|segment| segment.item == *item) {
            let rest = &segment.audio[segment.at..];
            let now = rest.len().min(out.len() - taken);
            out[taken..taken + now].copy_from_slice(&rest[..now]);
            taken += now;
        }
        taken
    }

    /// Samples in 20 ms.
    fn frame(&self) -> usize {
        self.per_ms * FRAME_MS as usize
    }

    /// Samples in which what breaks off fades.
    fn fade(&self) -> usize {
        self.per_ms * FADE_MS
    }

    fn ms(&self, samples: u64) -> u64 {
        samples / self.per_ms as u64
    }
}

/// A piece of speech with its audio in the mouth's own samples.
#[derive(Debug)]
pub(super) struct Piece<S> {
    pub(super) epoch: u32,
    pub(super) item: ItemId,
    pub(super) audio: Vec<S>,
    pub(super) last: bool,
}

#[derive(Debug)]
struct Segment<S> {
    epoch: u32,
    item: ItemId,
    audio: Vec<S>,
    at: usize,
    last: bool,
}

#[derive(Debug)]
struct Current {
    item: ItemId,
    epoch: u32,
    samples: u64,
}

/// Empty pieces take no audio room; this many 20 ms pieces make the two minutes.
const SEGMENTS_MAX: usize = AGENT_AUDIO_MAX.as_millis() as usize / FRAME_MS as usize;
const FADE_MS: usize = 5;
const PATIENCE: u32 = 2;
/// In frames.
const REBUFFER_MAX: usize = 4;
const DRY_WINDOW_TICKS: u64 = 10_000 / FRAME_MS as u64;
