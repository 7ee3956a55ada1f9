//! One call: what happened goes in, what to do comes out.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;

use super::leg::{LegState, Legs, Role};
use super::moving::Moving;
use super::recording::Recording;
use super::referral::Referral;
use super::runs::{Active, BeforeState};
use super::talk::{Flow, Playback};
use super::timers::Timers;
use super::{Blame, Cause, Command, Commands, Destination, Event, Invitation, Outcome, RunRecord, Status, Timer, Turn};
use crate::actions::{Agent, Plan, Reception};
use crate::model::{Address, Attestation, Digit, LegId, Pii, Time, Vars};

/// One call as a state machine.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) plan: Arc<Plan>,
    pub(super) now: Time,
    pub(super) phase: Phase,
    pub(super) legs: Legs,
    pub(super) vars: Vars,
    pub(super) timers: Timers,
    /// Who is in the caller's place: the one who called, until somebody else takes it.
    pub(super) caller: LegId,
    /// Transfers of the caller are tried by REFER first.
    pub(super) refer_first: bool,
    /// A party whose place is being taken.
    pub(super) referral: Option<Referral>,
    /// Both ends talk, and were asked to do so without us.
    pub(super) release: super::moving::Release,
    /// Whoever answers for us, while there.
    pub(super) agent: Option<LegId>,
    /// The workflow that runs live, when that is who answers.
    pub(super) flow: Option<Flow>,
    /// The transfer under way.
    pub(super) moving: Option<Moving>,
    /// Who took the caller.
    pub(super) joined: Option<LegId>,
    pub(super) transferred_to: Option<Pii<Address>>,
    /// Whom the call is being passed on to, by the plan, until that one answers.
    pub(super) passed_to: Option<LegId>,
    /// What the caller hears played, and for which run.
    pub(super) playback: Option<Playback>,
    pub(super) plays: u32,
    /// Keys pressed before somebody asked for them.
    pub(super) typed: VecDeque<Digit>,
    /// Sentences the agent was given to say.
    pub(super) says: u32,
    pub(super) runs: Vec<Active>,
    pub(super) runs_begun: u32,
    pub(super) before: Vec<BeforeState>,
    /// Steps a workflow took within this event.
    pub(super) steps: usize,
    /// The agent has words on their way to the caller.
    pub(super) agent_speaks: bool,
    /// A `hang_up` was executed; the first wins.
    pub(super) closing: Closing,
    /// The caller put us on hold.
    pub(super) is_held: bool,
    pub(super) answered: Option<Time>,
    pub(super) history: Vec<RunRecord>,
    pub(super) turns: Vec<Turn>,
    /// Octets of text in all turns so far.
    pub(super) turns_len: usize,
    pub(super) after: Vec<String>,
    pub(super) recording: Recording,
}

/// Where in its life a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody called yet.
    New,
    /// The caller rings, and what runs before a call runs.
    Ringing,
    /// The caller is answered.
    Talking,
    /// `Finish` was said.
    Over,
}

/// How far a deliberate ending is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    No,
    /// The goodbye is being said.
    Goodbye,
    /// The agent finishes its sentence.
    LastWords,
    /// All was said; the last of it is on its way to the caller's ear.
    Parting,
}

impl Call {
    /// A call that follows this plan. Its first event is [`Event::Invited`].
    pub fn new(plan: Arc<Plan>) -> Call {
        Call {
            plan,
            now: Time::ZERO,
            phase: Phase::New,
            legs: Legs::default(),
            vars: Vars::default(),
            timers: Timers::default(),
            caller: LegId::CALLER,
            refer_first: false,
            referral: None,
            release: super::moving::Release::default(),
            agent: None,
            flow: None,
            moving: None,
            joined: None,
            transferred_to: None,
            passed_to: None,
            playback: None,
            plays: 0,
            typed: VecDeque::new(),
            says: 0,
            runs: Vec::new(),
            runs_begun: 0,
            before: Vec::new(),
            steps: 0,
            agent_speaks: false,
            closing: Closing::No,
            is_held: false,
            answered: None,
            history: Vec::new(),
            turns: Vec::new(),
            turns_len: 0,
            after: Vec::new(),
            recording: Recording::default(),
        }
    }

    /// Takes what happened, returns what to do. The last command of every call is [`Command::Finish`]; after it,
    /// nothing more is said, whatever comes.
    pub fn handle(&mut self, now: Time, event: Event) -> Commands {
        let mut out = Commands::new();
        self.now = now.max(self.now);
        self.steps = 0;
        match (self.phase, event) {
            // The network repeats itself: a call that is over has nothing left to say.
            (Phase::Over, _) => {}
            (Phase::New, Event::Invited(invitation)) => self.arrive(invitation, &mut out),
            // Nothing can happen to a call that nobody made, and nobody calls twice on one call.
            (Phase::New, _) | (_, Event::Invited(_)) => {}
            (_, Event::LegRinging { leg }) => self.on_leg_ringing(leg, &mut out),
            (_, Event::LegSounded { leg }) => self.on_leg_sounded(leg, &mut out),
            (_, Event::LegAnswered { leg }) => self.on_leg_answered(leg, &mut out),
            (_, Event::LegFailed { leg, cause, retry_after_s }) => {
                self.on_leg_gone(leg, cause, retry_after_s, &mut out)
            }
            (_, Event::HungUp { leg, cause }) => self.on_leg_gone(leg, cause, None, &mut out),
            (_, Event::Referred { leg, to, allowed }) => self.on_referred(leg, to, allowed, &mut out),
            (_, Event::Replacing { leg }) => self.on_replacing(leg, &mut out),
            (_, Event::ReferNews { leg, news }) => self.on_refer_news(leg, news, &mut out),
            (Phase::Talking, Event::DigitPressed { leg, digit }) => self.on_digit(leg, *digit.reveal(), &mut out),
            // Keys pressed while it rings cannot be meant for us.
            (Phase::Ringing, Event::DigitPressed { .. }) => {}
            (_, Event::Held { leg }) => self.on_held(leg),
            (_, Event::Resumed { leg }) => self.on_resumed(leg),
            (_, Event::Played { leg, play }) => self.on_played(leg, play, &mut out),
            (_, Event::NotPlayed { leg, play }) => self.on_not_played(leg, play, &mut out),
            (_, Event::AgentSpoke { leg }) => self.on_agent_spoke(leg),
            (_, Event::AgentQuiet { leg, says }) => self.on_agent_quiet(leg, says, &mut out),
            // The media plane has acted on it already; it stands in the journal.
            (_, Event::BargedIn { .. } | Event::AgentFault { .. }) => {}
            (_, Event::Said { who, text, interrupted }) => self.on_said(who, text, interrupted),
            (_, Event::AgentAsked(asked)) => self.on_agent_asked(asked, &mut out),
            (_, Event::ActionDone { run, reply }) => self.on_action_done(run, &reply, &mut out),
            (_, Event::TimerFired(timer)) => {
                if self.timers.take(timer, self.now) {
                    self.on_timer(timer, &mut out);
                }
            }
            (_, Event::EndAsked { cause }) => self.end(cause, Blame::Us, &mut out),
        }
        out
    }

    /// When `handle` must be called again with [`Event::TimerFired`], and why.
    pub fn deadline(&self) -> Option<(Time, Timer)> {
        self.timers.next()
    }

    /// What is known so far.
    pub fn vars(&self) -> &Vars {
        &self.vars
    }

    /// Whether [`Command::Finish`] was said.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// The agent that answers this call, when the plan has one.
    pub(super) fn reception(&self) -> Option<&Agent> {
        match &self.plan.reception {
            Reception::Agent(agent) => Some(agent),
            Reception::Forward(_) | Reception::Refuse { .. } => None,
        }
    }

    fn arrive(&mut self, invitation: Invitation, out: &mut Commands) {
        self.legs.add(Role::Caller);
        self.phase = Phase::Ringing;
        self.refer_first = invitation.refer_first;
        self.remember(&invitation);
        let plan = Arc::clone(&self.plan);
        if let Reception::Refuse { status, retry_after_s, .. } = &plan.reception {
            return self.refuse(*status, Cause::of_refusal(*status), *retry_after_s, Blame::Us, out);
        }
        if invitation.codec.is_none() {
            return self.refuse(Cause::NoMedia.status(), Cause::NoMedia, None, Blame::Carrier, out);
        }
        let agent = match &plan.reception {
            Reception::Agent(agent) => agent,
            Reception::Forward(forward) => return self.pass_on(forward, &invitation.called, out),
            Reception::Refuse { .. } => return,
        };
        out.push(Command::Ring);
        self.timers.set(Timer::RingBudget, self.now + agent.ring_budget);
        let leg = self.legs.add(Role::Agent);
        self.agent = Some(leg);
        out.push(Command::Dial { leg, to: Destination::Agent });
        self.begin_before(out);
        self.answer_when_ready(out);
    }

    fn remember(&mut self, invitation: &Invitation) {
        let caller = &invitation.caller;
        let known = [
            ("caller.anonymous", Value::Bool(caller.anonymous)),
            ("caller.name", text(&caller.display)),
            ("called.number", text(&invitation.called)),
            ("call.trunk", Value::String(invitation.trunk.clone())),
        ];
        for (name, value) in known {
            self.vars.set(name, value);
        }
        if !caller.anonymous {
            self.vars.set("caller.number", text(&caller.user));
        }
        for (name, value) in &invitation.headers {
            self.vars.set(&format!("sip.{name}"), text(value));
        }
        if let Some(identity) = &invitation.identity {
            let known = [
                ("identity.outcome", Some(identity.verdict.label())),
                ("identity.reason", identity.reason()),
                ("identity.attestation", identity.attestation.map(Attestation::label)),
                ("identity.origid", identity.origination_id.as_deref()),
                ("identity.via", Some(identity.via.label())),
            ];
            for (name, value) in known {
                if let Some(value) = value {
                    self.vars.set(name, Value::from(value));
                }
            }
        }
    }

    fn on_leg_ringing(&mut self, leg: LegId, out: &mut Commands) {
        if !self.legs.ring(leg) {
            return;
        }
        if self.is_taking(leg) {
            self.on_new_party_rings(out);
        } else if self.passed_to == Some(leg) {
            self.on_passed_call_rings(out);
        }
    }

    /// Whoever waits for this leg hears it from now on, unless something else was meant for it.
    fn on_leg_sounded(&mut self, leg: LegId, out: &mut Commands) {
        let rings = self.legs.ring(leg);
        if !self.legs.sound(leg) {
            return;
        }
        if self.is_taking(leg) {
            if rings {
                self.on_new_party_rings(out);
            }
            self.on_new_party_sounds(leg, out);
        } else if self.passed_to == Some(leg) {
            self.on_passed_call_sounds(leg, out);
        } else {
            self.on_target_sounds(leg, out);
        }
    }

    fn on_leg_answered(&mut self, leg: LegId, out: &mut Commands) {
        // The network repeats itself; an agent that is there does not begin again.
        if self.legs.is_up(leg) || !self.legs.set(leg, LegState::Up) {
            return;
        }
        if self.agent == Some(leg) {
            match self.phase {
                Phase::Ringing => self.answer_when_ready(out),
                Phase::Talking => self.start_agent(out),
                Phase::New | Phase::Over => {}
            }
        } else if self.is_taking(leg) {
            self.take_place(out);
        } else if self.passed_to == Some(leg) {
            self.on_passed_call_answered(leg, out);
        } else {
            self.on_target_answered(leg, out);
        }
    }

    fn on_leg_gone(&mut self, leg: LegId, cause: Cause, retry_after_s: Option<u32>, out: &mut Commands) {
        if !self.legs.set(leg, LegState::Gone) {
            return;
        }
        self.timers.clear(Timer::Farewell(leg));
        if self.is_taking(leg) {
            self.on_referral_failed(cause, out);
        } else if self.is_being_replaced(leg) {
            // Many leave as soon as they have been heard; whom they talked to is moved all the same.
        } else if leg == self.caller && self.is_being_moved() {
            self.moved(out);
        } else if self.is_being_released() && (leg == self.caller || self.joined == Some(leg)) {
            self.released(out);
        } else if leg == self.caller {
            let cause = if self.phase == Phase::Ringing && cause == Cause::Normal { Cause::Canceled } else { cause };
            let by = cause.blame();
            self.end(cause, by, out);
        } else if self.agent == Some(leg) {
            self.agent = None;
            self.give_up_referral(out);
            self.on_agent_lost(out);
        } else if self.joined == Some(leg) {
            self.end(Cause::Normal, Blame::Callee, out);
        } else if self.passed_to == Some(leg) {
            self.on_passed_call_failed(leg, cause, retry_after_s, out);
        } else {
            self.on_target_failed(leg, cause, out);
        }
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Commands) {
        match timer {
            Timer::RingBudget => self.answer(out),
            Timer::Duration => self.end(Cause::TooLong, Blame::Us, out),
            Timer::Run(run) => self.wake_run(run, out),
            Timer::RingTime(leg) if self.is_taking(leg) => self.on_new_party_rang_out(leg, out),
            Timer::RingTime(leg) if self.passed_to == Some(leg) => self.on_passed_call_rang_out(leg, out),
            Timer::RingTime(leg) => self.on_target_rang_out(leg, out),
            Timer::Speech => self.on_speech_over(out),
            Timer::Refer => self.on_refer_unanswered(out),
            Timer::Farewell(leg) => self.on_farewell_over(leg, out),
            Timer::Parting => self.end(Cause::Normal, Blame::Agent, out),
        }
    }

    /// Answers once everything that the caller should hear of is there, and the agent too.
    pub(super) fn answer_when_ready(&mut self, out: &mut Commands) {
        let agent_there = self.flow.is_some() || self.agent.is_some_and(|leg| self.legs.is_up(leg));
        if self.phase == Phase::Ringing && agent_there && self.before_is_done() {
            self.answer(out);
        }
    }

    fn answer(&mut self, out: &mut Commands) {
        let plan = Arc::clone(&self.plan);
        let Reception::Agent(agent) = &plan.reception else { return };
        self.phase = Phase::Talking;
        self.answered = Some(self.now);
        self.legs.set(LegId::CALLER, LegState::Up);
        self.timers.clear(Timer::RingBudget);
        self.timers.set(Timer::Duration, self.now + agent.duration_max);
        out.push(Command::Answer);
        self.begin_recording(out);
        self.give_up_before(out);
        self.start_agent(out);
    }

    pub(super) fn refuse(
        &mut self,
        status: u16,
        cause: Cause,
        retry_after_s: Option<u32>,
        by: Blame,
        out: &mut Commands,
    ) {
        out.push(Command::Reject { status, cause, retry_after_s });
        self.legs.set(LegId::CALLER, LegState::Gone);
        self.end(cause, by, out);
    }

    /// Ends the call, whatever it is doing: everybody is let go, everything that runs is stopped, and the sum is drawn.
    pub(super) fn end(&mut self, cause: Cause, by: Blame, out: &mut Commands) {
        if self.phase == Phase::Over {
            return;
        }
        let caller_waits = self.phase == Phase::Ringing && self.legs.present().any(|leg| leg == LegId::CALLER);
        if caller_waits {
            let retry_after_s = (cause == Cause::Overload).then_some(RETRY_AFTER_S);
            out.push(Command::Reject { status: cause.status(), cause, retry_after_s });
            self.legs.set(LegId::CALLER, LegState::Gone);
        }
        self.tell_referrer_of_the_end(out);
        let present: Vec<LegId> = self.legs.present().collect();
        for leg in present {
            out.push(Command::HangUp { leg, cause });
            self.legs.set(leg, LegState::Gone);
        }
        self.cancel_runs(out);
        self.timers.clear_all();
        self.phase = Phase::Over;
        out.push(Command::Finish(Box::new(self.sum_up(cause, by))));
    }

    fn sum_up(&mut self, cause: Cause, by: Blame) -> Outcome {
        // RFC 3261 §9.2: a CANCEL only succeeds before the final answer, so ours crossed it and was never sent.
        let answered = self.answered.filter(|_| !cause.is_canceled());
        let status = match (answered, cause) {
            (_, Cause::Canceled | Cause::AnsweredElsewhere) => Status::Canceled,
            (None, Cause::NoAnswer) if self.passed_to.is_some() => Status::NoAnswer,
            (None, _) | (_, Cause::Internal | Cause::AgentLost | Cause::NotAcknowledged | Cause::NoMedia) => {
                Status::Failed
            }
            (Some(_), _) if self.transferred_to.is_some() => Status::Transferred,
            (Some(_), _) => Status::Completed,
        };
        let plan = Arc::clone(&self.plan);
        if let Reception::Agent(agent) = &plan.reception {
            for after in &agent.after {
                self.run_after(&after.workflow);
            }
        }
        Outcome {
            status,
            cause,
            ended_by: by,
            answered,
            ended: self.now,
            transferred_to: self.transferred_to.take(),
            vars: std::mem::take(&mut self.vars),
            runs: std::mem::take(&mut self.history),
            turns: std::mem::take(&mut self.turns),
            after: std::mem::take(&mut self.after),
            consent: self.recording.consent,
        }
    }

    /// Notes a workflow to run when the call is over; each runs once.
    pub(super) fn run_after(&mut self, workflow: &str) {
        if !self.after.iter().any(|noted| noted == workflow) {
            self.after.push(workflow.to_owned());
        }
    }
}

fn text(value: &Pii<String>) -> Value {
    Value::String(value.reveal().clone())
}

/// A caller who rang while we shut down is told to come back when another gateway has taken over.
const RETRY_AFTER_S: u32 = 5;
