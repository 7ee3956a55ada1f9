//! What an agent says, from bursts to one frame every 20 ms, with every sample accounted to its item.
//!
//! The queue is elastic: vendors send a whole answer at once. It never drops what is wanted; when two minutes wait,
//! [`Playout::has_room`] says no and the worker leaves the rest in the channel.

use std::collections::VecDeque;

use super::g711::{ULAW_SILENCE, fade_out};
use crate::model::limits::AGENT_AUDIO_MAX;
use crate::model::{FRAME_MS, FRAME_SAMPLES, Frame, Heard, ItemId, SAMPLE_RATE, Speech};

/// The mouth of one agent.
#[derive(Debug, Default)]
pub struct Playout {
    queue: VecDeque<Segment>,
    /// Samples in the queue.
    queued: usize,
    /// Audio of earlier epochs is unwanted.
    epoch: u32,
    /// The item whose samples go out.
    current: Option<Current>,
    /// The last 5 ms of what was stopped, already faded.
    tail: Option<[u8; FADE]>,
    /// What went out last was audible: the last sample of it.
    last: Option<u8>,
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

impl Playout {
    /// Whether more speech is taken: less than [`AGENT_AUDIO_MAX`] waits.
    pub fn has_room(&self) -> bool {
        self.queued < QUEUE_MAX && self.queue.len() < SEGMENTS_MAX
    }

    /// Samples waiting to be heard.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Times the audio ran dry in the middle of an item.
    pub fn underruns(&self) -> u64 {
        self.underruns
    }

    /// Takes a piece of speech; returns whether it is still wanted. It is never refused here, only dropped when its
    /// epoch is over: ask [`Playout::has_room`] first.
    pub fn offer(&mut self, speech: Speech) -> bool {
        if speech.epoch < self.epoch {
            return false;
        }
        self.queued += speech.ulaw.len();
        let Speech { epoch, item, ulaw, last } = speech;
        self.queue.push_back(Segment { epoch, item, ulaw, at: 0, last });
        true
    }

    /// Falls silent within one frame: everything of earlier epochs is dropped, except 5 ms that fade out if audio
    /// was going out just now. Those count as heard.
    pub fn stop(&mut self, epoch: u32) -> Heard {
        self.epoch = self.epoch.max(epoch);
        let wanted = self.epoch;
        let interrupted = self.current.take_if(|current| current.epoch < wanted);
        let mut heard = interrupted.map(|current| (current.item, current.samples));
        if let (Some((item, samples)), true) = (&mut heard, self.last.is_some()) {
            let mut tail = [ULAW_SILENCE; FADE];
            let taken = self.take_from(item, &mut tail);
            fade_out(&mut tail);
            self.tail = Some(tail);
            *samples += taken as u64;
        }
        self.queue.retain(|segment| segment.epoch >= wanted);
        self.queued = self.queue.iter().map(|segment| segment.ulaw.len() - segment.at).sum();
        (self.rebuffer, self.starved) = (0, 0);
        match heard {
            Some((item, samples)) => Heard::Stopped { item: Some(item), heard_ms: ms(samples) },
            None => Heard::Stopped { item: None, heard_ms: 0 },
        }
    }

    /// The next 20 ms, silence when there is nothing to say. Returns whether the agent speaks in it. Items whose last
    /// sample is in the frame are reported finished.
    pub fn pull(&mut self, frame: &mut Frame, heard: &mut Vec<Heard>) -> bool {
        self.ticks += 1;
        frame.fill(ULAW_SILENCE);
        if let Some(tail) = self.tail.take() {
            frame[..FADE].copy_from_slice(&tail);
            self.last = None;
            return true;
        }
        self.settle(heard);
        if !self.may_speak() {
            return self.run_dry(frame);
        }
        (self.starved, self.rebuffer) = (0, 0);
        let mut filled = 0;
        while filled < FRAME_SAMPLES && !self.queue.is_empty() {
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
    pub fn pause(&mut self) {
        (self.tail, self.last) = (None, None);
    }

    /// Reports what is over without a sample of it left to send.
    fn settle(&mut self, heard: &mut Vec<Heard>) {
        while let Some(segment) = self.queue.front() {
            if segment.at < segment.ulaw.len() {
                return;
            }
            let done = self.queue.pop_front().expect("there is a front because it was just looked at");
            if done.last {
                let samples = match self.current.take_if(|current| current.item == done.item) {
                    Some(current) => current.samples,
                    None => 0,
                };
                heard.push(Heard::Finished { item: done.item, heard_ms: ms(samples) });
            }
        }
    }

    /// A whole frame is there, or all there will be: the item is complete, or nothing came for two ticks.
    fn may_speak(&self) -> bool {
        if self.queued == 0 {
            return false;
        }
        let enough = self.rebuffer.max(FRAME_SAMPLES);
        self.queued >= enough || self.starved >= self.patience() || self.queue.iter().any(|segment| segment.last)
    }

    /// Ticks that less than enough audio waits for more.
    fn patience(&self) -> u32 {
        PATIENCE + (self.rebuffer / FRAME_SAMPLES) as u32
    }

    /// Nothing to say in this tick.
    fn run_dry(&mut self, frame: &mut Frame) -> bool {
        self.starved = if self.queued > 0 { self.starved + 1 } else { 0 };
        self.break_off(frame)
    }

    /// In the middle of an item what was audible fades within 5 ms instead of breaking off, and the next start waits
    /// a little longer the more often this happened lately. Returns whether anything was audible.
    fn break_off(&mut self, rest: &mut [u8]) -> bool {
        let (Some(last), Some(_)) = (self.last.take(), &self.current) else { return false };
        let len = rest.len().min(FADE);
        rest[..len].fill(last);
        fade_out(&mut rest[..len]);
        let now = self.ticks;
        self.dry.retain(|at| now - at < DRY_WINDOW_TICKS);
        self.dry.push_back(now);
        self.underruns += 1;
        self.rebuffer = (self.dry.len() * FRAME_SAMPLES).min(REBUFFER_MAX);
        true
    }

    /// Moves samples of the front segment out and counts them.
    fn take(&mut self, out: &mut [u8]) -> usize {
        let Some(segment) = self.queue.front_mut() else { return 0 };
        let rest = &segment.ulaw[segment.at..];
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
    fn take_from(&mut self, item: &ItemId, out: &mut [u8]) -> usize {
        let mut taken = 0;
        for segment in self.queue.iter().take_while(|segment| segment.item == *item) {
            let rest = &segment.ulaw[segment.at..];
            let now = rest.len().min(out.len() - taken);
            out[taken..taken + now].copy_from_slice(&rest[..now]);
            taken += now;
        }
        taken
    }
}

#[derive(Debug)]
struct Segment {
    epoch: u32,
    item: ItemId,
    ulaw: Vec<u8>,
    at: usize,
    last: bool,
}

#[derive(Debug)]
struct Current {
    item: ItemId,
    epoch: u32,
    samples: u64,
}

fn ms(samples: u64) -> u64 {
    samples * 1000 / u64::from(SAMPLE_RATE)
}

const QUEUE_MAX: usize = AGENT_AUDIO_MAX.as_secs() as usize * SAMPLE_RATE as usize;
/// Empty pieces take no audio room; this many 20 ms pieces make the two minutes.
const SEGMENTS_MAX: usize = QUEUE_MAX / FRAME_SAMPLES;
/// 5 ms.
const FADE: usize = 40;
const PATIENCE: u32 = 2;
const REBUFFER_MAX: usize = 4 * FRAME_SAMPLES;
const DRY_WINDOW_TICKS: u64 = 10_000 / FRAME_MS as u64;
