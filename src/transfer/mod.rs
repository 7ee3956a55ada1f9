//! Moving a caller to somebody else, as a transaction: ordered targets, waiting, fallback, give back.
//!
//! The caller is moved only when somebody has answered; until then any failure leads to the next target or back to
//! where the caller came from. Never knows about SIP syntax or sockets: it returns steps, the call carries them out.
//! Start at [`Transfer`].

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::actions::{Failure, Fallback, Target, TransferTo};
use crate::model::LegId;

/// One transfer under way. It ends with exactly one [`Step::Joined`] or [`Step::GaveUp`].
#[derive(Clone, Debug)]
pub struct Transfer {
    to: Arc<TransferTo>,
    waiting: VecDeque<Target>,
    ringing: Option<LegId>,
    last: Failure,
    /// Fallback targets are rung once each, or a loop of them would ring for ever.
    used: Vec<Failure>,
    over: bool,
}

/// What a transfer wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Say the message to the caller, once.
    SayMessage,
    /// Let the caller hear the waiting sound until told otherwise.
    Wait,
    /// Ring this target; answer with [`Transfer::dialled`], or [`Transfer::refused`] when it is no address.
    Ring(Target),
    /// Stop ringing this leg.
    HangUp(LegId),
    /// This leg has the caller now.
    Joined(LegId),
    /// Nobody was found; the caller goes back.
    GaveUp(Failure),
}

impl Transfer {
    /// A transfer, and its first steps.
    pub fn start(to: Arc<TransferTo>) -> (Transfer, Vec<Step>) {
        let mut steps = Vec::new();
        let has_message = !to.message.is_empty();
        let waiting = to.targets.iter().cloned().collect();
        let mut transfer =
            Transfer { to, waiting, ringing: None, last: Failure::InvalidNumber, used: Vec::new(), over: false };
        steps.push(if has_message { Step::SayMessage } else { Step::Wait });
        transfer.ring_next(&mut steps);
        (transfer, steps)
    }

    /// What was asked for.
    pub fn to(&self) -> &TransferTo {
        &self.to
    }

    /// The message was heard to its end.
    pub fn message_heard(&mut self) -> Vec<Step> {
        if self.over { Vec::new() } else { vec![Step::Wait] }
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
        self.ringing = None;
        self.last = failure;
        match self.to.fallback.get(&failure) {
            Some(Fallback::Back) => self.waiting.clear(),
            Some(Fallback::Ring(target)) if !self.used.contains(&failure) => {
                self.used.push(failure);
                self.waiting.push_front(target.clone());
            }
            Some(Fallback::Ring(_) | Fallback::Next) | None => {}
        }
        self.ring_next(&mut steps);
        steps
    }

    fn ring_next(&mut self, steps: &mut Vec<Step>) {
        match self.waiting.pop_front() {
            Some(target) => steps.push(Step::Ring(target)),
            None => {
                self.over = true;
                steps.push(Step::GaveUp(self.last));
            }
        }
    }
}

/// The clip that is not a file: ringing tone, made by the gateway.
pub const RINGING_TONE: &str = "@ringing";
