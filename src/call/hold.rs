//! A party that holds the call: it hears nothing until it comes back.
//!
//! The media plane pauses what is on its way to the party, prompts and agents alike, so nothing is lost; here only the
//! clocks stop that wait for the party to have heard something.

use super::Timer;
use super::machine::{Call, Closing};
use super::talk::{Playback, SPEECH_MAX};
use crate::model::LegId;

impl Call {
    pub(super) fn on_held(&mut self, leg: LegId) {
        if leg == self.caller {
            self.is_held = true;
            self.timers.clear(Timer::Speech);
        }
    }

    pub(super) fn on_resumed(&mut self, leg: LegId) {
        if leg != self.caller || !self.is_held {
            return;
        }
        self.is_held = false;
        if matches!(self.playback, Some(Playback::Words { .. })) || self.closing == Closing::LastWords {
            self.await_speech();
        }
    }

    /// Gives the agent its time to say something; on a held line it has all the time there is.
    pub(super) fn await_speech(&mut self) {
        if !self.is_held {
            self.timers.set(Timer::Speech, self.now + SPEECH_MAX);
        }
    }
}
