//! What a call waits for by the clock.

use serde::{Deserialize, Serialize};

use crate::model::{LegId, RunId, Time};

/// A timer, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// The caller has rung long enough and is answered with what is there.
    RingBudget,
    /// The call is as long as it may get.
    Duration,
    /// A run asked to be woken.
    Run(RunId),
    /// A transfer's target rang long enough.
    RingTime(LegId),
    /// An agent that should speak for a run, or finish its sentence, has had its time.
    Speech,
    /// A party's network that was asked to move it has not said how that went.
    Refer,
    /// A party whose place was taken had time to leave by itself.
    Farewell(LegId),
    /// What we said last has reached the caller's ear, through network and jitter buffer.
    Parting,
}

/// The timers that are set, each at most once.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    set: Vec<(Time, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Time) {
        self.clear(timer);
        self.set.push((at, timer));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.set.retain(|(_, other)| *other != timer);
    }

    pub(super) fn clear_all(&mut self) {
        self.set.clear();
    }

    /// The first that is due.
    pub(super) fn next(&self) -> Option<(Time, Timer)> {
        self.set.iter().min().copied()
    }

    /// Takes a timer that has come; `false` when it is not set or not due, as after a race with what cleared it.
    pub(super) fn take(&mut self, timer: Timer, now: Time) -> bool {
        let due = self.set.iter().any(|(at, other)| *other == timer && *at <= now);
        if due {
            self.clear(timer);
        }
        due
    }
}
