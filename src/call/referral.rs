//! Parties whose place is taken by somebody else: by their own wish (REFER), or because somebody comes with Replaces.
//!
//! Whoever refers wants whom it talks to moved, and itself out of the way. So the new party takes the referrer's place,
//! whether that is the caller's or the target's, and everybody else on the call stays where they are.

use std::time::Duration;

use super::leg::{LegState, Role};
use super::machine::{Call, Closing, Phase};
use super::talk::Playback;
use super::{Blame, Cause, Command, Commands, Destination, ReferProgress, Timer, Wiring};
use crate::actions::Playing;
use crate::model::{Address, LegId, Pii, PlayId, limits};
use crate::transfer::RINGING_TONE;

/// A place that is being taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referral {
    /// Whose.
    by: LegId,
    /// By whom.
    new: LegId,
    /// The one who gives it up referred us, and hears how it goes.
    is_told: bool,
    /// The one who stays hears ringing tone.
    rings: bool,
}

impl Call {
    /// A party refers us.
    pub(super) fn on_referred(&mut self, leg: LegId, to: Pii<Address>, allowed: bool, out: &mut Commands) {
        if !self.legs.is_up(leg) {
            // It has left; nobody waits for an answer.
            return;
        }
        let other = self.across(leg);
        // A workflow is nobody who could be moved, and one move at a time is enough.
        let is_free = self.moving.is_none() && self.flow.is_none() && !self.is_releasing && self.may_be_replaced();
        let Some(other) = other.filter(|_| allowed && is_free) else {
            out.push(Command::RefuseReferral { leg, cause: Cause::Declined });
            return;
        };
        let new = self.legs.add(Role::Target(to.clone()));
        let rings = self.agent != Some(other);
        self.referral = Some(Referral { by: leg, new, is_told: true, rings });
        out.push(Command::TakeReferral { leg });
        out.push(Command::Wire(Wiring::apart()));
        if rings {
            self.plays += 1;
            let what = Playing::music(Pii::new(RINGING_TONE.to_owned()));
            out.push(Command::Play { leg: other, play: PlayId(self.plays), what });
        }
        self.timers.set(Timer::RingTime(new), self.now + RING);
        out.push(Command::Dial { leg: new, to: Destination::Referred { by: leg, to } });
    }

    /// Somebody comes to take a party's place. It is answered at once, and then is a leg that was answered.
    pub(super) fn on_replacing(&mut self, leg: LegId, out: &mut Commands) {
        let is_party = leg == self.caller || self.joined == Some(leg);
        if !is_party || !self.legs.is_up(leg) || !self.may_be_replaced() {
            out.push(Command::TurnAway { cause: Cause::Declined });
            return;
        }
        let role = self.legs.get(leg).map_or(Role::Caller, |leg| leg.role.clone());
        let new = self.legs.add(role);
        self.referral = Some(Referral { by: leg, new, is_told: false, rings: false });
        self.timers.set(Timer::RingTime(new), self.now + RING);
        out.push(Command::TakeIn { leg: new });
    }

    fn may_be_replaced(&self) -> bool {
        // Whoever is being asked something must answer it in person.
        let is_calm = self.phase == Phase::Talking && self.closing == Closing::No && !self.is_asking_consent();
        is_calm && self.referral.is_none() && self.legs.len() < limits::LEGS_MAX
    }

    /// Whom a party talks to, if that could be moved.
    fn across(&self, leg: LegId) -> Option<LegId> {
        let other = if self.joined == Some(leg) {
            Some(self.caller)
        } else if leg == self.caller {
            self.joined.or(self.agent)
        } else {
            None
        };
        other.filter(|other| self.legs.is_up(*other))
    }

    /// Whether this leg is to take somebody's place.
    pub(super) fn is_taking(&self, leg: LegId) -> bool {
        self.referral.is_some_and(|referral| referral.new == leg)
    }

    /// Whether somebody is to take this leg's place.
    pub(super) fn is_being_replaced(&self, leg: LegId) -> bool {
        self.referral.is_some_and(|referral| referral.by == leg)
    }

    pub(super) fn on_new_party_rings(&mut self, out: &mut Commands) {
        if let Some(referral) = self.referral {
            self.tell_referrer(referral, ReferProgress::Ringing, out);
        }
    }

    /// The new party can be heard before it answers: whoever waits with our ringing tone hears it instead.
    pub(super) fn on_new_party_sounds(&mut self, leg: LegId, out: &mut Commands) {
        let Some(other) = self.referral.filter(|referral| referral.rings).and_then(|referral| self.across(referral.by))
        else {
            return;
        };
        if let Some(referral) = &mut self.referral {
            referral.rings = false;
        }
        out.push(Command::StopPlaying { leg: other });
        out.push(Command::Wire(Wiring::listening(other, leg)));
    }

    /// The new party is there.
    pub(super) fn take_place(&mut self, out: &mut Commands) {
        let Some(referral) = self.referral.take() else { return };
        let Referral { by, new, is_told, rings } = referral;
        self.timers.clear(Timer::RingTime(new));
        let other = self.across(by);
        let mut heard = None;
        if self.joined == Some(by) {
            self.joined = Some(new);
            self.transferred_to = self.address_of(new).or(self.transferred_to.take());
        } else {
            self.caller = new;
            // Most telephones hold whom they refer; whoever comes does not.
            self.on_resumed(new);
            // What the former caller was listening to counts as heard.
            if let Some(Playback::Clips { run, .. }) = self.playback {
                self.playback = None;
                heard = Some(run);
            }
        }
        if let Some(other) = other.filter(|_| rings) {
            out.push(Command::StopPlaying { leg: other });
        }
        // While somebody rings, or a workflow speaks, the caller's place is wired to nobody.
        let is_alone = self.moving.is_some() || self.flow.is_some();
        out.push(Command::Wire(match other.filter(|_| !is_alone) {
            Some(other) => Wiring::between(new, other),
            None => self.heard_target().map_or_else(Wiring::apart, |target| Wiring::listening(new, target)),
        }));
        if is_told {
            self.tell_referrer(referral, ReferProgress::Done, out);
            // RFC 5589 §6.1: the referrer hangs up when it has heard of the success; some never do.
            self.timers.set(Timer::Farewell(by), self.now + FAREWELL);
        } else if self.legs.set(by, LegState::Gone) {
            out.push(Command::HangUp { leg: by, cause: Cause::Replaced });
        }
        if let Some(run) = heard {
            self.heard(run, out);
        }
    }

    pub(super) fn on_farewell_over(&mut self, leg: LegId, out: &mut Commands) {
        if self.legs.set(leg, LegState::Gone) {
            out.push(Command::HangUp { leg, cause: Cause::Replaced });
        }
    }

    pub(super) fn on_new_party_rang_out(&mut self, leg: LegId, out: &mut Commands) {
        self.legs.set(leg, LegState::Gone);
        out.push(Command::HangUp { leg, cause: Cause::NoAnswer });
        self.on_referral_failed(Cause::NoAnswer, out);
    }

    /// Nobody takes the place: all is as before, if the one who wanted to leave is still there.
    pub(super) fn on_referral_failed(&mut self, cause: Cause, out: &mut Commands) {
        let Some(referral) = self.referral.take() else { return };
        self.timers.clear(Timer::RingTime(referral.new));
        if !self.legs.is_up(referral.by) {
            let by = if self.joined == Some(referral.by) { Blame::Callee } else { Blame::Caller };
            return self.end(Cause::Normal, by, out);
        }
        self.tell_referrer(referral, ReferProgress::Failed(cause.passed_on()), out);
        let Some(other) = self.across(referral.by).filter(|_| referral.is_told) else { return };
        if referral.rings {
            out.push(Command::StopPlaying { leg: other });
        }
        out.push(Command::Wire(Wiring::between(referral.by, other)));
    }

    /// The agent that was to be moved is lost.
    pub(super) fn give_up_referral(&mut self, out: &mut Commands) {
        let Some(referral) = self.referral.filter(|referral| referral.is_told && self.joined.is_none()) else { return };
        if self.legs.set(referral.new, LegState::Gone) {
            out.push(Command::HangUp { leg: referral.new, cause: Cause::Normal });
        }
        self.on_referral_failed(Cause::AgentLost, out);
    }

    /// The call ends: whoever waits for news of its referral gets the last.
    pub(super) fn tell_referrer_of_the_end(&mut self, out: &mut Commands) {
        if let Some(referral) = self.referral.take() {
            self.tell_referrer(referral, ReferProgress::Failed(Cause::Canceled), out);
        }
    }

    fn tell_referrer(&self, referral: Referral, progress: ReferProgress, out: &mut Commands) {
        if referral.is_told && self.legs.is_up(referral.by) {
            out.push(Command::ReferProgress { leg: referral.by, progress });
        }
    }
}

/// How long whoever was named in a referral may ring.
const RING: Duration = Duration::from_secs(60);
/// From the news of success until we hang up on a referrer that does not.
const FAREWELL: Duration = Duration::from_secs(3);
