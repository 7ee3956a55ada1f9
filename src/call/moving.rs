//! Transfers on a call: the transaction's steps carried out on legs, wiring and timers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::leg::{LegState, Role};
use super::machine::{Call, Phase};
use super::{Blame, Cause, Command, Commands, Destination, ReferNews, Timer, Wiring};
use crate::actions::{Failure, Input, Place, Playing, RunOutcome, Target, TransferMethod, TransferTo};
use crate::model::{Address, LegId, Pii, RunId, limits};
use crate::transfer::{RINGING_TONE, Step, Transfer};

/// A transfer under way, and the run it is done for.
#[derive(Clone, Debug)]
pub(super) struct Moving {
    pub(super) run: RunId,
    transfer: Transfer,
    /// Whom the caller's network was asked to move the caller to.
    referred_to: Option<Pii<Address>>,
    /// The caller's network does it.
    is_accepted: bool,
}

impl Call {
    pub(super) fn begin_transfer(&mut self, run: RunId, to: Arc<TransferTo>, out: &mut Commands) {
        if self.moving.is_some() || self.joined.is_some() || self.referral.is_some() {
            // Without the `sorry`, which would silence the first one's music.
            return self.finish_run(run, RunOutcome::error("transfer_under_way"), out);
        }
        self.typed.clear();
        // The caller hears the agent's last words, but nobody hears the caller until somebody answers.
        let hears =
            self.agent.filter(|leg| self.flow.is_none() && self.legs.is_up(*leg)).map(|agent| (self.caller, agent));
        out.push(Command::Wire(Wiring { hears: hears.into_iter().collect() }));
        let usual = if self.refer_first { TransferMethod::ReferThenBridge } else { TransferMethod::Bridge };
        let (transfer, steps) = Transfer::start(to, usual);
        self.moving = Some(Moving { run, transfer, referred_to: None, is_accepted: false });
        self.take_steps(steps, out);
    }

    pub(super) fn on_message_heard(&mut self, out: &mut Commands) {
        self.move_on(|transfer| transfer.message_heard(), out);
    }

    /// The target can be heard before it answers.
    pub(super) fn on_target_sounds(&mut self, leg: LegId, out: &mut Commands) {
        self.move_on(|transfer| transfer.sounded(leg), out);
    }

    /// The target that the caller listens to while it waits.
    pub(super) fn heard_target(&self) -> Option<LegId> {
        self.moving.as_ref().and_then(|moving| moving.transfer.heard())
    }

    pub(super) fn on_target_answered(&mut self, leg: LegId, out: &mut Commands) {
        self.move_on(|transfer| transfer.answered(leg), out);
    }

    pub(super) fn on_target_failed(&mut self, leg: LegId, cause: Cause, out: &mut Commands) {
        self.timers.clear(Timer::RingTime(leg));
        // Rule R12 of the feature table: 408 after ringing is a person who did not come, before it a server.
        let failure = match cause {
            Cause::Timeout if self.legs.has_rung(leg) => Failure::NoAnswer,
            other => other.as_failure(),
        };
        self.move_on(|transfer| transfer.failed(leg, failure), out);
    }

    pub(super) fn on_target_rang_out(&mut self, leg: LegId, out: &mut Commands) {
        self.move_on(|transfer| transfer.rang_out(leg), out);
    }

    /// The call is being ended: nobody shall be brought in to hear the goodbye and be left alone.
    pub(super) fn stop_moving(&mut self, out: &mut Commands) {
        let Some(moving) = self.moving.take() else { return };
        self.timers.clear(Timer::Refer);
        self.stop_playing_for(moving.run, out);
        if let Some(leg) = moving.transfer.ringing().filter(|leg| self.legs.set(*leg, LegState::Gone)) {
            self.timers.clear(Timer::RingTime(leg));
            out.push(Command::HangUp { leg, cause: Cause::Normal });
        }
    }

    fn move_on(&mut self, advance: impl FnOnce(&mut Transfer) -> Vec<Step>, out: &mut Commands) {
        let steps = self.moving.as_mut().map(|moving| advance(&mut moving.transfer));
        self.take_steps(steps.unwrap_or_default(), out);
    }

    fn take_steps(&mut self, steps: Vec<Step>, out: &mut Commands) {
        let mut steps = VecDeque::from(steps);
        while let (Some(step), Some(moving)) = (steps.pop_front(), self.moving.as_mut()) {
            let run = moving.run;
            match step {
                Step::SayMessage => {
                    let message = moving.transfer.to().message.render(&self.vars);
                    self.play(run, message, out);
                }
                Step::Wait => {
                    let music = moving.transfer.to().music.as_ref();
                    let clip =
                        music.map_or_else(|| Pii::new(RINGING_TONE.to_owned()), |m| m.render(&self.vars, Place::Text));
                    self.play(run, Playing::music(clip), out);
                }
                Step::Hear(leg) => {
                    self.stop_playing_for(run, out);
                    out.push(Command::Wire(Wiring::listening(self.caller, leg)));
                }
                Step::Ring(target) => steps.extend(self.ring(&target, out)),
                Step::Refer(target) => steps.extend(self.refer(&target, out)),
                Step::HangUp(leg) => {
                    self.timers.clear(Timer::RingTime(leg));
                    self.legs.set(leg, LegState::Gone);
                    out.push(Command::HangUp { leg, cause: Cause::NoAnswer });
                }
                Step::Moved => self.moved(out),
                Step::Joined(leg) => self.join(run, leg, out),
                Step::GaveUp(failure) => self.give_back(run, failure, out),
            }
        }
    }

    /// Rings a target; returns the transfer's next steps when it cannot be dialled at all.
    fn ring(&mut self, target: &Target, out: &mut Commands) -> Vec<Step> {
        let address = target.to.render(&self.vars, Place::Text).reveal().parse::<Address>();
        let Some(moving) = &mut self.moving else { return Vec::new() };
        let Ok(address) = address else { return moving.transfer.refused(Failure::InvalidNumber) };
        if self.legs.len() >= limits::LEGS_MAX {
            return moving.transfer.refused(Failure::Unreachable);
        }
        let address = Pii::new(address);
        let leg = self.legs.add(Role::Target(address.clone()));
        moving.transfer.dialled(leg);
        self.timers.set(Timer::RingTime(leg), self.now + target.ring);
        out.push(Command::Dial { leg, to: Destination::Address(address) });
        Vec::new()
    }

    /// Asks the caller's network to move the caller; returns the transfer's next steps when there is nowhere to.
    fn refer(&mut self, target: &Target, out: &mut Commands) -> Vec<Step> {
        let address = target.to.render(&self.vars, Place::Text).reveal().parse::<Address>();
        let Some(moving) = &mut self.moving else { return Vec::new() };
        let Ok(address) = address else { return moving.transfer.refused(Failure::InvalidNumber) };
        let to = Pii::new(address);
        moving.referred_to = Some(to.clone());
        moving.is_accepted = false;
        self.timers.set(Timer::Refer, self.now + target.ring + REFER_MARGIN);
        out.push(Command::Refer { leg: self.caller, to, replacing: None });
        Vec::new()
    }

    pub(super) fn on_refer_news(&mut self, leg: LegId, news: ReferNews, out: &mut Commands) {
        if leg != self.caller || self.phase != Phase::Talking {
            return;
        }
        if self.is_releasing {
            match news {
                // They talk to each other now, and no longer through us.
                ReferNews::Done => self.end(Cause::Replaced, Blame::Us, out),
                ReferNews::Failed(_) | ReferNews::Refused(_) => self.is_releasing = false,
                ReferNews::Accepted | ReferNews::Ringing => {}
            }
            return;
        }
        let Some(moving) = self.moving.as_mut().filter(|moving| moving.referred_to.is_some()) else { return };
        match news {
            ReferNews::Accepted => moving.is_accepted = true,
            ReferNews::Ringing => {}
            ReferNews::Done => self.move_on(Transfer::referred, out),
            ReferNews::Failed(cause) if moving.transfer.is_referring() => {
                self.timers.clear(Timer::Refer);
                self.move_on(|transfer| transfer.refer_failed(cause.as_failure()), out);
            }
            ReferNews::Refused(cause) if moving.transfer.is_referring() => {
                self.timers.clear(Timer::Refer);
                self.move_on(|transfer| transfer.refer_refused(cause.as_failure()), out);
            }
            // We have waited long enough, and ring the target ourselves.
            ReferNews::Failed(_) | ReferNews::Refused(_) => {}
        }
    }

    /// The caller's network does not say how it went. It may have moved nobody, and the caller still waits.
    pub(super) fn on_refer_unanswered(&mut self, out: &mut Commands) {
        self.move_on(|transfer| transfer.refer_refused(Failure::NoAnswer), out);
    }

    /// Whether a caller who leaves now has been moved: networks that took our REFER often say so by their BYE alone.
    pub(super) fn is_being_moved(&self) -> bool {
        self.moving.as_ref().is_some_and(|moving| moving.is_accepted && moving.transfer.is_referring())
    }

    /// The caller's network has moved the caller, and we are out of it.
    pub(super) fn moved(&mut self, out: &mut Commands) {
        let Some(moving) = self.moving.take() else { return };
        self.timers.clear(Timer::Refer);
        self.flow = None;
        self.transferred_to = moving.referred_to;
        self.quieten_tools(Some(moving.run), out);
        self.stop_playing_for(moving.run, out);
        self.finish_run_silently(moving.run, RunOutcome::success("transferred"), out);
        self.end(Cause::Replaced, Blame::Us, out);
    }

    fn join(&mut self, run: RunId, leg: LegId, out: &mut Commands) {
        let moving = self.moving.as_ref();
        let is_released = moving.is_some_and(|moving| moving.transfer.method() == TransferMethod::BridgeThenRefer);
        self.timers.clear(Timer::RingTime(leg));
        self.moving = None;
        self.flow = None;
        self.joined = Some(leg);
        self.timers.set(Timer::Duration, self.now + limits::TRANSFERRED_DURATION_MAX);
        self.transferred_to = self.address_of(leg);
        self.quieten_tools(Some(run), out);
        self.stop_playing_for(run, out);
        out.push(Command::Wire(Wiring::between(self.caller, leg)));
        self.dismiss_agent(Cause::Replaced, out);
        self.feed(run, Input::Transferred(Ok(())), out);
        if let (true, Some(to)) = (is_released, self.transferred_to.clone()) {
            self.is_releasing = true;
            out.push(Command::Refer { leg: self.caller, to, replacing: Some(leg) });
        }
    }

    fn give_back(&mut self, run: RunId, failure: Failure, out: &mut Commands) {
        self.moving = None;
        self.stop_playing_for(run, out);
        let back = self.agent.filter(|leg| self.legs.is_up(*leg) && self.flow.is_none());
        out.push(Command::Wire(back.map_or_else(Wiring::apart, |agent| Wiring::between(self.caller, agent))));
        self.feed(run, Input::Transferred(Err(failure)), out);
    }
}

/// A target's ring time is for the target; the caller's network needs some more to find it, and to tell us.
const REFER_MARGIN: Duration = Duration::from_secs(5);
