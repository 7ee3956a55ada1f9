//! Calls that the plan passes on to another trunk: the callee is rung at once, and its ringing, its early sound and its
//! answer are the caller's.

use super::leg::{LegState, Role};
use super::machine::{Call, Phase};
use super::{Blame, Cause, Command, Commands, Destination, Timer, Wiring};
use crate::actions::{Forward, Place};
use crate::model::{Address, LegId, Pii, limits};

impl Call {
    pub(super) fn pass_on(&mut self, forward: &Forward, called: &Pii<String>, out: &mut Commands) {
        let to = match &forward.to {
            Some(template) => template.render(&self.vars, Place::Text),
            None => called.clone(),
        };
        let Ok(address) = to.reveal().parse::<Address>() else {
            return self.refuse(Cause::NotFound.status(), Cause::NotFound, None, Blame::Caller, out);
        };
        let to = Pii::new(address);
        let leg = self.legs.add(Role::Target(to.clone()));
        self.passed_to = Some(leg);
        self.timers.set(Timer::RingTime(leg), self.now + forward.ring);
        out.push(Command::Dial { leg, to: Destination::Trunk { trunk: forward.trunk.clone(), to } });
    }

    /// The caller hears of ringing when somebody's telephone rings, and not before.
    pub(super) fn on_passed_call_rings(&mut self, out: &mut Commands) {
        out.push(Command::Ring);
    }

    /// The callee's network speaks to the caller before the answer. The callee hears nothing until then: what is said
    /// before the answer is not paid for, and fraud knows it.
    pub(super) fn on_passed_call_sounds(&mut self, leg: LegId, out: &mut Commands) {
        out.push(Command::Progress);
        out.push(Command::Wire(Wiring::listening(self.caller, leg)));
    }

    pub(super) fn on_passed_call_answered(&mut self, leg: LegId, out: &mut Commands) {
        self.timers.clear(Timer::RingTime(leg));
        self.phase = Phase::Talking;
        self.answered = Some(self.now);
        self.legs.set(LegId::CALLER, LegState::Up);
        self.joined = Some(leg);
        self.transferred_to = self.address_of(leg);
        self.timers.set(Timer::Duration, self.now + limits::TRANSFERRED_DURATION_MAX);
        out.push(Command::Answer);
        out.push(Command::Wire(Wiring::between(self.caller, leg)));
    }

    /// The callee's refusal is the caller's.
    pub(super) fn on_passed_call_failed(
        &mut self,
        leg: LegId,
        cause: Cause,
        retry_after_s: Option<u32>,
        out: &mut Commands,
    ) {
        self.timers.clear(Timer::RingTime(leg));
        let cause = cause.passed_on();
        let retry_after_s = retry_after_s.or((cause == Cause::Overload).then_some(RETRY_AFTER_S));
        // It is their overload, or their fault, and not ours.
        let by = if cause.blame() == Blame::Us { Blame::Carrier } else { cause.blame() };
        self.refuse(cause.status(), cause, retry_after_s, by, out);
    }

    pub(super) fn on_passed_call_rang_out(&mut self, leg: LegId, out: &mut Commands) {
        self.legs.set(leg, LegState::Gone);
        out.push(Command::HangUp { leg, cause: Cause::NoAnswer });
        self.refuse(Cause::NoAnswer.status(), Cause::NoAnswer, None, Blame::Callee, out);
    }

    /// Where a leg was dialled; `None` for whoever was not.
    pub(super) fn address_of(&self, leg: LegId) -> Option<Pii<Address>> {
        self.legs.get(leg).and_then(|leg| match &leg.role {
            Role::Target(address) => Some(address.clone()),
            Role::Caller | Role::Agent => None,
        })
    }
}

/// A callee's network that is too busy and does not say for how long.
const RETRY_AFTER_S: u32 = 5;
