//! One party's audio on its way to another whose codec differs: decoded frames, waiting for the ticks in which they
//! are encoded again.
//!
//! Frames come as the network gives them and leave one per tick, so two of them wait before the first leaves. Running
//! dry adds one more to wait for; a second in which more than that were never needed takes one out again. So the
//! difference between the parties' clocks costs a frame now and then and never grows.

use std::collections::VecDeque;

use super::sample::{Sample, fade_out, level};
use crate::model::limits::RELAY_MAX;
use crate::model::{FRAME_MS, Sound};

#[derive(Debug)]
pub(super) struct Relay {
    frames: VecDeque<Sound>,
    /// Frames that have to wait before the first leaves.
    target: usize,
    is_flowing: bool,
    /// What left last, until it has faded.
    last: Option<Sound>,
    /// The fewest that stayed behind a pull in this second.
    least: usize,
    pulls: u32,
    /// Seconds in a row without running dry.
    calm: u32,
}

impl Relay {
    pub(super) fn new() -> Relay {
        Relay {
            frames: VecDeque::with_capacity(FRAMES_MAX),
            target: TARGET_MIN,
            is_flowing: false,
            last: None,
            least: 0,
            pulls: 0,
            calm: 0,
        }
    }

    /// Takes a frame; when [`RELAY_MAX`] waits, the oldest goes.
    pub(super) fn hear(&mut self, frame: &Sound) {
        if self.frames.len() == FRAMES_MAX {
            self.frames.pop_front();
        }
        self.frames.push_back(*frame);
    }

    /// The next 20 ms; `None` before the first, and while it has run dry.
    pub(super) fn pull(&mut self) -> Option<Sound> {
        if !self.is_flowing && self.frames.len() < self.target {
            return None;
        }
        let Some(frame) = self.frames.pop_front() else { return self.run_dry() };
        self.is_flowing = true;
        self.last = Some(frame);
        self.catch_up();
        Some(frame)
    }

    fn run_dry(&mut self) -> Option<Sound> {
        (self.is_flowing, self.pulls, self.calm) = (false, 0, 0);
        self.target = (self.target + 1).min(TARGET_MAX);
        // What was audible fades instead of breaking off.
        let mut rest = self.last.take()?;
        match &mut rest {
            Sound::Narrow(ulaw) => trail_off(ulaw),
            Sound::Wide(wide) => trail_off(wide),
        }
        Some(rest)
    }

    fn catch_up(&mut self) {
        self.least = if self.pulls == 0 { self.frames.len() } else { self.least.min(self.frames.len()) };
        self.pulls += 1;
        if self.pulls < 1000 / FRAME_MS {
            return;
        }
        (self.pulls, self.calm) = (0, self.calm + 1);
        if self.calm.is_multiple_of(CALM_SECS) {
            self.target = (self.target - 1).max(TARGET_MIN);
        }
        if self.least >= self.target {
            self.leave_out_quietest();
        }
    }

    fn leave_out_quietest(&mut self) {
        let quietest = self.frames.iter().enumerate().min_by_key(|(_, frame)| level(frame)).map(|(at, _)| at);
        quietest.and_then(|at| self.frames.remove(at));
    }
}

/// Continues the last sample of a frame into a fade of 5 ms.
fn trail_off<S: Sample>(frame: &mut [S]) {
    let Some(last) = frame.last().copied() else { return };
    let (fade, silence) = frame.split_at_mut(frame.len() / 4);
    fade.fill(last);
    fade_out(fade);
    silence.fill(S::SILENCE);
}

const FRAMES_MAX: usize = RELAY_MAX.as_millis() as usize / FRAME_MS as usize;
/// 40 ms.
const TARGET_MIN: usize = 2;
/// 160 ms.
const TARGET_MAX: usize = 8;
const CALM_SECS: u32 = 10;
