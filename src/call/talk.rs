//! Who speaks to the caller: the live workflow, the agent, and what is played.

use std::sync::Arc;
use std::time::Duration;

use super::leg::LegState;
use super::machine::{Call, Closing, Phase};
use super::runs::{Active, Owner};
use super::{Blame, Cause, Command, Commands, Speaker, Timer, Told, Turn, Wiring};
use crate::actions::{Connector, Goto, Input, Place, Playing, Reception, Say, Verb};
use crate::model::{Digit, LegId, Pii, PlayId, RunId, limits};

/// A workflow that runs live on the call.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    workflow: String,
}

/// What the caller hears instead of the other party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Playback {
    /// Clips.
    Clips { run: RunId, play: PlayId },
    /// The agent's voice, saying what a run wants said.
    Words { run: RunId },
}

impl Call {
    /// The caller is answered, and the agent, if it is there, begins.
    pub(super) fn start_agent(&mut self, out: &mut Commands) {
        let plan = Arc::clone(&self.plan);
        let Reception::Agent(reception) = &plan.reception else { return };
        if self.is_asking_consent() {
            return;
        }
        if self.flow.is_some() {
            return self.go_to_step(0, out);
        }
        let Some(leg) = self.agent.filter(|leg| self.legs.is_up(*leg)) else { return };
        match &reception.connector {
            Connector::Flow(workflow) => self.start_flow(workflow, out),
            Connector::Echo => out.push(Command::Wire(Wiring::between(self.caller, leg))),
            Connector::Vendor { instructions, first_words, .. } => {
                out.push(Command::Wire(Wiring::between(self.caller, leg)));
                let what = Told::Start {
                    instructions: instructions.render(&self.vars, Place::Text),
                    first_words: first_words.as_ref().map(|words| words.render(&self.vars, Place::Text)),
                };
                out.push(Command::TellAgent { leg, what });
            }
        }
    }

    fn start_flow(&mut self, workflow: &str, out: &mut Commands) {
        self.flow = Some(Flow { workflow: workflow.to_owned() });
        self.go_to_step(0, out);
    }

    /// The agent's leg is gone. What the plan has for that case goes on; else the call ends.
    pub(super) fn on_agent_lost(&mut self, out: &mut Commands) {
        self.agent_speaks = false;
        if self.closing == Closing::LastWords {
            return self.end(Cause::Normal, Blame::Agent, out);
        }
        if let Some(Playback::Words { run }) = self.playback {
            // Nobody is there to say it.
            self.playback = None;
            self.feed(run, Input::Played, out);
        }
        // A transfer under way, or a goodbye, does not need the agent.
        let busy = self.moving.is_some() || self.joined.is_some() || self.closing != Closing::No;
        if busy || self.flow.is_some() || self.phase == Phase::Over {
            return;
        }
        self.fall_back(out);
    }

    fn fall_back(&mut self, out: &mut Commands) {
        let fallback = self.reception().and_then(|agent| agent.fallback.clone());
        match (self.phase, fallback) {
            (Phase::Ringing, Some(workflow)) => {
                self.flow = Some(Flow { workflow });
                self.answer_when_ready(out);
            }
            (Phase::Talking, Some(workflow)) => {
                self.quieten_tools(None, out);
                out.push(Command::Wire(Wiring::apart()));
                self.flow = Some(Flow { workflow });
                self.start_agent(out);
            }
            (_, None) => self.end(Cause::AgentLost, Blame::Agent, out),
            (Phase::New | Phase::Over, Some(_)) => {}
        }
    }

    pub(super) fn go_to_step(&mut self, index: usize, out: &mut Commands) {
        if self.joined.is_some() || self.closing != Closing::No {
            return;
        }
        let Some(flow) = &self.flow else { return };
        self.steps += 1;
        if self.steps > limits::STEPS_WITHOUT_WAITING_MAX {
            return self.end(Cause::Internal, Blame::Us, out);
        }
        let plan = Arc::clone(&self.plan);
        match plan.workflows.get(&flow.workflow).and_then(|workflow| workflow.steps.get(index)) {
            Some(step) => self.begin(Owner::Step(index), &step.id, step.verb.clone(), out),
            None => self.part(out),
        }
    }

    /// A step is done: the branch of its code, then of its result, then the next step.
    pub(super) fn step_done(&mut self, index: usize, is_success: bool, code: &str, out: &mut Commands) {
        let plan = Arc::clone(&self.plan);
        let workflow = self.flow.as_ref().and_then(|flow| plan.workflows.get(&flow.workflow));
        let Some(step) = workflow.and_then(|workflow| workflow.steps.get(index)) else { return };
        let by_result = if is_success { step.on_success } else { step.on_error };
        match step.on.get(code).copied().or(by_result) {
            Some(Goto::Step(next)) => self.go_to_step(next, out),
            Some(Goto::End) => self.part(out),
            None => {
                let sorry = self.reception().map(|agent| agent.went_wrong.clone()).unwrap_or_default();
                if !is_success && step.on_success.is_some() && !sorry.is_empty() {
                    let say = Verb::from(Say { prompt: sorry, interruptible: true });
                    self.begin(Owner::Apology(index), "went_wrong", say, out);
                } else {
                    self.go_to_step(index + 1, out);
                }
            }
        }
    }

    /// Plays something for a run.
    pub(super) fn play(&mut self, run: RunId, what: Playing, out: &mut Commands) {
        let muted =
            self.runs.iter().any(|active| active.id == run && (active.muted || self.is_drowned_by_goodbye(active)));
        let speaker = self.speaking_agent();
        // Who has left while somebody takes the place hears nothing.
        if self.phase != Phase::Talking
            || !self.legs.is_up(self.caller)
            || muted
            || (what.clips.is_empty() && speaker.is_none())
        {
            return self.heard_at_once(run, &what, out);
        }
        self.displace(run, out);
        if self.phase == Phase::Over {
            return;
        }
        match (what.clips.is_empty(), &what.text, speaker) {
            (true, Some(text), Some(leg)) => {
                self.playback = Some(Playback::Words { run });
                self.says += 1;
                self.await_speech();
                out.push(Command::TellAgent { leg, what: Told::Say(text.clone()) });
            }
            (true, _, _) => self.heard_at_once(run, &what, out),
            (false, _, _) => {
                self.plays += 1;
                let play = PlayId(self.plays);
                self.playback = Some(Playback::Clips { run, play });
                out.push(Command::Play { leg: self.caller, play, what });
            }
        }
    }

    /// Once a goodbye is being said, nothing else is.
    fn is_drowned_by_goodbye(&self, active: &Active) -> bool {
        self.closing != Closing::No && active.run.kind() != "hang_up"
    }

    fn heard_at_once(&mut self, run: RunId, what: &Playing, out: &mut Commands) {
        self.not_heard(run);
        // Music that nobody hears has no end to wait for.
        if !what.repeat {
            self.feed(run, Input::Played, out);
        }
    }

    /// Takes the caller's ear from the run that had it, which goes on as if it had been heard.
    fn displace(&mut self, by: RunId, out: &mut Commands) {
        let Some(former) = self.heard_run().filter(|former| *former != by) else { return };
        self.playback = None;
        if let Some(active) = self.runs.iter_mut().find(|active| active.id == former) {
            active.muted = true;
        }
        self.not_heard(former);
        self.feed(former, Input::Played, out);
    }

    pub(super) fn stop_playing_for(&mut self, run: RunId, out: &mut Commands) {
        match self.playback {
            Some(Playback::Clips { run: of, .. }) if of == run => {
                self.playback = None;
                out.push(Command::StopPlaying { leg: self.caller });
            }
            Some(Playback::Words { run: of }) if of == run => {
                self.playback = None;
                self.timers.clear(Timer::Speech);
            }
            _ => {}
        }
    }

    pub(super) fn on_played(&mut self, leg: LegId, play: PlayId, out: &mut Commands) {
        match self.playback {
            Some(Playback::Clips { run, play: current }) if leg == self.caller && current == play => {
                self.playback = None;
                self.heard(run, out);
            }
            // An old play's end, crossing with what replaced it.
            _ => {}
        }
    }

    /// What was to be played cannot be: it goes on as if it had been, but is not counted as heard.
    pub(super) fn on_not_played(&mut self, leg: LegId, play: PlayId, out: &mut Commands) {
        if let Some(run) = self.heard_run() {
            self.not_heard(run);
        }
        self.on_played(leg, play, out);
    }

    fn not_heard(&mut self, run: RunId) {
        if let Some(active) = self.runs.iter_mut().find(|active| active.id == run) {
            active.unheard = true;
        }
    }

    pub(super) fn heard(&mut self, run: RunId, out: &mut Commands) {
        if self.moving.as_ref().is_some_and(|moving| moving.run == run) {
            self.on_message_heard(out);
        } else {
            self.feed(run, Input::Played, out);
        }
    }

    /// The vendor's agent that could say something now.
    fn speaking_agent(&self) -> Option<LegId> {
        let vendor = self.reception().is_some_and(|agent| matches!(agent.connector, Connector::Vendor { .. }));
        self.agent.filter(|leg| vendor && self.flow.is_none() && self.legs.is_up(*leg))
    }

    pub(super) fn on_agent_spoke(&mut self, leg: LegId) {
        if self.agent == Some(leg) {
            self.agent_speaks = true;
        }
    }

    pub(super) fn on_agent_quiet(&mut self, leg: LegId, says: Option<u32>, out: &mut Commands) {
        if self.agent != Some(leg) {
            return;
        }
        self.agent_speaks = false;
        // It was on its way already when the agent was given something to say, and is about what was said before.
        let is_stale = says.is_some_and(|says| says < self.says);
        if !(is_stale && matches!(self.playback, Some(Playback::Words { .. }))) {
            self.on_speech_over(out);
        }
    }

    /// The agent has finished speaking, or has had its time to.
    pub(super) fn on_speech_over(&mut self, out: &mut Commands) {
        self.timers.clear(Timer::Speech);
        if self.closing == Closing::LastWords {
            return self.part(out);
        }
        if let Some(Playback::Words { run }) = self.playback {
            self.playback = None;
            self.heard(run, out);
        }
    }

    /// A `hang_up` was executed. An agent in the middle of a sentence may end it.
    pub(super) fn close_line(&mut self, out: &mut Commands) {
        if self.agent_speaks && self.joined.is_none() {
            self.closing = Closing::LastWords;
            self.await_speech();
        } else {
            self.part(out);
        }
    }

    /// Ends the call, once its last words have been heard: what went out is still in the far end's jitter buffer, and a
    /// BYE would cut it off.
    fn part(&mut self, out: &mut Commands) {
        if self.phase != Phase::Talking || self.joined.is_some() {
            return self.end(Cause::Normal, Blame::Agent, out);
        }
        self.closing = Closing::Parting;
        self.timers.set(Timer::Parting, self.now + PARTING);
    }

    pub(super) fn on_said(&mut self, who: Speaker, text: Pii<String>, interrupted: bool) {
        self.turns_len += text.reveal().len();
        if self.turns.len() < TURNS_MAX && self.turns_len <= limits::TRANSCRIPT_MAX {
            self.turns.push(Turn { at: self.now, who, text, interrupted });
        }
    }

    pub(super) fn on_digit(&mut self, leg: LegId, digit: Digit, out: &mut Commands) {
        // Two people who talk exchange keys over the media plane; a call that is ending takes none.
        if leg != self.caller || self.joined.is_some() || self.closing != Closing::No {
            return;
        }
        if let Some(run) = self.digit_taker() {
            return self.feed(run, Input::Digit(digit), out);
        }
        if let Some(leg) = self.speaking_agent() {
            out.push(Command::TellAgent { leg, what: Told::Digit(Pii::new(digit)) });
            return;
        }
        // Whoever waits for somebody to be fetched answers no question that has yet to be asked.
        if self.moving.is_none() && self.typed.len() < TYPED_MAX {
            self.typed.push_back(digit);
        }
        if let Some(run) = self.heard_run() {
            self.feed(run, Input::Interrupted, out);
        }
    }

    /// Lets the agent go: somebody else has the caller.
    pub(super) fn dismiss_agent(&mut self, cause: Cause, out: &mut Commands) {
        self.agent_speaks = false;
        if let Some(leg) = self.agent.take() {
            self.legs.set(leg, LegState::Gone);
            out.push(Command::HangUp { leg, cause });
        }
    }
}

/// An agent that was asked to say a sentence has this long; then the call goes on without it.
pub(super) const SPEECH_MAX: Duration = Duration::from_secs(15);
/// A far end plays what it has received some 40 to 200 ms later; baresip lost 140 ms of a goodbye without this.
const PARTING: Duration = Duration::from_millis(250);
/// Keys pressed ahead; nobody types more before a menu has spoken. Further keys are dropped.
const TYPED_MAX: usize = 32;
/// Turns kept for the record: the last call of a long evening has a few hundred. Further ones are not kept.
const TURNS_MAX: usize = 2_000;
