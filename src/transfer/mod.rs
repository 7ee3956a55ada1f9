//! Moving a caller to somebody else, as a transaction: ordered targets, waiting, fallback, give back.
//!
//! The caller is moved only when somebody has answered; until then any failure leads to the next target or back to
//! where the caller came from. What a target's network plays before the answer is heard instead of our ringing tone, but
//! not instead of music that somebody chose, unless the action says otherwise. Never knows about SIP syntax or sockets: it returns steps, the call carries them out.
//! Start at [`Transfer`].

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::actions::{Failure, Fallback, Target, TransferMethod, TransferTo};
use crate::model::LegId;

/// One transfer under way. It ends with exactly one [`Step::Joined`], [`Step::Moved`] or [`Step::GaveUp`].
#[derive(Clone, Debug)]
pub struct Transfer {
    to: Arc<TransferTo>,
    waiting: VecDeque<Target>,
    ringing: Option<LegId>,
    last: Failure,
    /// Fallback targets are rung once each, or a loop of them would ring for ever.
    used: Vec<Failure>,
    method: TransferMethod,
    /// The target that the caller's network was asked to move the caller to.
    referring: Option<Target>,
    /// The message is being said, and nobody is moved in the middle of it.
    waits_for_message: bool,
    is_saying: bool,
    /// The leg that rings can be heard, and may be.
    sounds: bool,
    over: bool,
}

/// What a transfer wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Say the message to the caller, once.
    SayMessage,
    /// Let the caller hear the waiting sound until told otherwise.
    Wait,
    /// Let the caller hear this leg, which rings, instead.
    Hear(LegId),
    /// Ring this target; answer with [`Transfer::dialled`], or [`Transfer::refused`] when it is no address.
    Ring(Target),
    /// Ask the caller's network to move the caller to this target; answer with [`Transfer::referred`],
    /// [`Transfer::refer_failed`] or [`Transfer::refer_refused`], or with [`Transfer::refused`] when it is no address.
    Refer(Target),
    /// Stop ringing this leg.
    HangUp(LegId),
    /// The caller's network has moved the caller.
    Moved,
    /// This leg has the caller now.
    Joined(LegId),
    /// Nobody was found; the caller goes back.
    GaveUp(Failure),
}

impl Transfer {
    /// A transfer, and its first steps. `usual` is how it is done where it does not say.
    pub fn start(to: Arc<TransferTo>, usual: TransferMethod) -> (Transfer, Vec<Step>) {
        let mut steps = Vec::new();
        let has_message = !to.message.is_empty();
        let waiting = to.targets.iter().cloned().collect();
        let method = to.method.unwrap_or(usual);
        let mut transfer = Transfer {
            to,
            waiting,
            ringing: None,
            last: Failure::InvalidNumber,
            used: Vec::new(),
            method,
            referring: None,
            waits_for_message: has_message && refers(method),
            is_saying: has_message,
            sounds: false,
            over: false,
        };
        steps.push(if has_message { Step::SayMessage } else { Step::Wait });
        if !transfer.waits_for_message {
            transfer.try_next(&mut steps);
        }
        (transfer, steps)
    }

    /// What was asked for.
    pub fn to(&self) -> &TransferTo {
        &self.to
    }

    /// The message was heard to its end.
    pub fn message_heard(&mut self) -> Vec<Step> {
        if self.over {
            return Vec::new();
        }
        self.is_saying = false;
        let mut steps = vec![self.heard().map_or(Step::Wait, Step::Hear)];
        if std::mem::take(&mut self.waits_for_message) {
            self.try_next(&mut steps);
        }
        steps
    }

    /// How it is done.
    pub fn method(&self) -> TransferMethod {
        self.method
    }

    /// Whether the caller's network has been asked and has not said how it ended.
    pub fn is_referring(&self) -> bool {
        self.referring.is_some()
    }

    /// The caller's network has moved the caller.
    pub fn referred(&mut self) -> Vec<Step> {
        if self.over {
            return Vec::new();
        }
        self.over = true;
        let mut steps: Vec<Step> = self.ringing.take().map(Step::HangUp).into_iter().collect();
        steps.push(Step::Moved);
        steps
    }

    /// The caller's network tried, and the target ended it like this.
    pub fn refer_failed(&mut self, failure: Failure) -> Vec<Step> {
        match failure {
            // That is the target's doing, and ringing it once more would find the same.
            Failure::Busy | Failure::NoAnswer if self.referring.take().is_some() => self.next_after(failure),
            _ => self.refer_refused(failure),
        }
    }

    /// The caller's network does not move anybody, or not there.
    pub fn refer_refused(&mut self, failure: Failure) -> Vec<Step> {
        let Some(target) = self.referring.take().filter(|_| !self.over) else { return Vec::new() };
        if self.method == TransferMethod::ReferThenBridge {
            self.method = TransferMethod::Bridge;
            return vec![Step::Ring(target)];
        }
        self.next_after(failure)
    }

    /// The target of the last [`Step::Ring`] rings as this leg.
    pub fn dialled(&mut self, leg: LegId) {
        self.ringing = Some(leg);
    }

    /// The target of the last [`Step::Ring`] could not be dialled at all.
    pub fn refused(&mut self, failure: Failure) -> Vec<Step> {
        self.next_after(failure)
    }

    /// The leg that rings.
    pub fn ringing(&self) -> Option<LegId> {
        self.ringing
    }

    /// The leg can be heard before it answers.
    pub fn sounded(&mut self, leg: LegId) -> Vec<Step> {
        if self.over || self.ringing != Some(leg) || !self.to.lets_target_be_heard() {
            return Vec::new();
        }
        self.sounds = true;
        self.heard().map(Step::Hear).into_iter().collect()
    }

    /// The leg that the caller hears while it waits; `None` while it hears the message or our waiting sound.
    pub fn heard(&self) -> Option<LegId> {
        self.ringing.filter(|_| self.sounds && !self.is_saying && !self.over)
    }

    /// The leg answered.
    pub fn answered(&mut self, leg: LegId) -> Vec<Step> {
        if self.over || self.ringing != Some(leg) {
            return Vec::new();
        }
        self.over = true;
        vec![Step::Joined(leg)]
    }

    /// The leg failed by itself.
    pub fn failed(&mut self, leg: LegId, failure: Failure) -> Vec<Step> {
        if self.over || self.ringing != Some(leg) {
            return Vec::new();
        }
        self.next_after(failure)
    }

    /// The leg rang long enough.
    pub fn rang_out(&mut self, leg: LegId) -> Vec<Step> {
        if self.over || self.ringing != Some(leg) {
            return Vec::new();
        }
        let mut steps = vec![Step::HangUp(leg)];
        steps.extend(self.next_after(Failure::NoAnswer));
        steps
    }

    fn next_after(&mut self, failure: Failure) -> Vec<Step> {
        let mut steps = Vec::new();
        let was_heard = self.heard().is_some();
        self.sounds = false;
        self.ringing = None;
        self.referring = None;
        self.last = failure;
        match self.to.fallback.get(&failure) {
            Some(Fallback::Back) => self.waiting.clear(),
            Some(Fallback::Ring(target)) if !self.used.contains(&failure) => {
                self.used.push(failure);
                self.waiting.push_front(target.clone());
            }
            Some(Fallback::Ring(_) | Fallback::Next) | None => {}
        }
        self.try_next(&mut steps);
        if was_heard && !self.over {
            steps.insert(0, Step::Wait);
        }
        steps
    }

    fn try_next(&mut self, steps: &mut Vec<Step>) {
        match self.waiting.pop_front() {
            Some(target) if refers(self.method) => {
                self.referring = Some(target.clone());
                steps.push(Step::Refer(target));
            }
            Some(target) => steps.push(Step::Ring(target)),
            None => {
                self.over = true;
                steps.push(Step::GaveUp(self.last));
            }
        }
    }
}

/// Whether the caller's network is asked first.
fn refers(method: TransferMethod) -> bool {
    matches!(method, TransferMethod::Refer | TransferMethod::ReferThenBridge)
}

/// The clip that is not a file: ringing tone, made by the gateway.
pub const RINGING_TONE: &str = "@ringing";
