//! Legs without a network: an agent's socket, and the built-in echo.

use std::collections::VecDeque;

use super::g711::{ULAW_SILENCE, energy};
use crate::model::limits::ECHO_MAX;
use crate::model::{FRAME_MS, Frame};

/// Says what it hears.
#[derive(Debug, Default)]
pub(super) struct Echo {
    frames: VecDeque<Frame>,
    /// The fewest that stayed behind a pull in this second.
    least: usize,
    pulls: u32,
}

impl Echo {
    /// Takes a frame; beyond two seconds the oldest goes.
    pub(super) fn hear(&mut self, frame: &Frame) {
        if self.frames.len() == FRAMES_MAX {
            self.frames.pop_front();
        }
        self.frames.push_back(*frame);
    }

    /// The next frame to say; returns whether there was one.
    pub(super) fn pull(&mut self, frame: &mut Frame) -> bool {
        let is_there = match self.frames.pop_front() {
            Some(heard) => {
                *frame = heard;
                true
            }
            None => {
                frame.fill(ULAW_SILENCE);
                false
            }
        };
        self.catch_up();
        is_there && energy(frame) > 0
    }

    /// A burst after a pause of the network leaves the echo late for good; a frame that waited for a whole second
    /// was not needed.
    fn catch_up(&mut self) {
        self.least = if self.pulls == 0 { self.frames.len() } else { self.least.min(self.frames.len()) };
        self.pulls += 1;
        if self.pulls == 1000 / FRAME_MS {
            if self.least > 1 {
                self.frames.pop_front();
            }
            self.pulls = 0;
        }
    }
}

const FRAMES_MAX: usize = ECHO_MAX.as_millis() as usize / FRAME_MS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_is_said_in_order() {
        let mut echo = Echo::default();
        echo.hear(&[1; 160]);
        echo.hear(&[2; 160]);

        let mut frame = [0; 160];
        assert!(echo.pull(&mut frame) && frame == [1; 160]);
        assert!(echo.pull(&mut frame) && frame == [2; 160]);
        assert!(!echo.pull(&mut frame) && frame == [ULAW_SILENCE; 160]);
    }

    #[test]
    fn an_echo_that_is_behind_catches_up_and_one_nobody_hears_stays_bounded() {
        let mut echo = Echo::default();
        for _ in 0..1000 {
            echo.hear(&[1; 160]);
        }
        assert_eq!(echo.frames.len(), FRAMES_MAX);

        for _ in 0..50 * 120 {
            echo.hear(&[1; 160]);
            echo.pull(&mut [0; 160]);
        }

        assert!(echo.frames.len() <= 2, "{}", echo.frames.len());
    }
}
