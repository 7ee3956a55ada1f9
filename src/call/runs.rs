//! Actions on a call: beginning them, carrying out their effects, ending them.

use std::sync::Arc;

use serde_json::json;

use super::machine::{Call, Closing, Phase};
use super::talk::Playback;
use super::{Blame, Cause, Command, Commands, RunRecord, Timer, Told, ToolCall};
use crate::actions::{Effect, HttpReply, Input, Reception, Run, RunOutcome, RunResult, Verb};
use crate::model::{Pii, RunId, Time, limits};

/// An action that runs.
#[derive(Clone, Debug)]
pub(super) struct Active {
    pub(super) id: RunId,
    pub(super) run: Run,
    pub(super) owner: Owner,
    name: String,
    began: Time,
    /// A request is out, and its answer is wanted.
    asked: bool,
    /// Another run took the caller's ear: what this one still plays counts as heard.
    pub(super) muted: bool,
    /// Something that it wanted to be heard was not.
    pub(super) unheard: bool,
}

/// On whose behalf an action runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Before the call, by its place in the plan.
    Before(usize),
    /// A step of the live workflow.
    Step(usize),
    /// The apology for a step that failed with nowhere to go.
    Apology(usize),
    /// An agent's request, by the vendor's id.
    Tool(String),
    /// The caller's consent to be recorded.
    Consent,
}

/// Where an action that runs before the call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeforeState {
    Waiting,
    Running,
    Done,
}

impl Call {
    /// Begins every action before the call that waits for none.
    pub(super) fn begin_before(&mut self, out: &mut Commands) {
        self.before = vec![BeforeState::Waiting; self.reception().map_or(0, |agent| agent.before.len())];
        self.go_on_before(out);
    }

    /// Begins the actions before the call whose predecessors are done, however those ended.
    fn go_on_before(&mut self, out: &mut Commands) {
        let plan = Arc::clone(&self.plan);
        let Reception::Agent(agent) = &plan.reception else { return };
        // Starting one may finish it on the spot and free others: go round until nothing moves.
        while let Some(at) = agent.before.iter().enumerate().position(|(at, before)| {
            self.before[at] == BeforeState::Waiting
                && before.after.iter().all(|needed| {
                    let needed = agent.before.iter().position(|other| other.action.id == *needed);
                    needed.is_none_or(|needed| self.before[needed] == BeforeState::Done)
                })
        }) {
            self.before[at] = BeforeState::Running;
            let action = &agent.before[at].action;
            let by_number = matches!(&action.verb, Verb::Api(api) if api.needs("caller.number"));
            if by_number && self.vars.get("caller.number").is_none() {
                // Whoever withholds the number is not looked up by it.
                let skipped = RunOutcome { result: RunResult::Skipped, ..RunOutcome::success("caller_anonymous") };
                self.note(&action.id, action.verb.kind(), skipped);
                self.before[at] = BeforeState::Done;
            } else {
                self.begin(Owner::Before(at), &action.id, action.verb.clone(), out);
            }
        }
    }

    pub(super) fn before_is_done(&self) -> bool {
        self.before.iter().all(|state| *state == BeforeState::Done)
    }

    /// The caller is answered: what has not come is no longer waited for.
    pub(super) fn give_up_before(&mut self, out: &mut Commands) {
        while let Some(at) = self.runs.iter().position(|active| matches!(active.owner, Owner::Before(_))) {
            let active = self.runs.remove(at);
            self.close(active, RunOutcome::timeout(), out);
        }
        self.before.fill(BeforeState::Done);
    }

    /// Begins an action.
    pub(super) fn begin(&mut self, owner: Owner, name: &str, verb: Verb, out: &mut Commands) {
        if usize::try_from(self.runs_begun).is_ok_and(|begun| begun >= limits::RUNS_MAX) {
            return self.end(Cause::Internal, Blame::Us, out);
        }
        self.runs_begun += 1;
        let id = RunId(self.runs_begun);
        if matches!(verb, Verb::HangUp(_)) {
            self.closing = Closing::Goodbye;
            self.stop_moving(out);
        }
        let run = Run::new(verb);
        let takes_digits = run.takes_digits();
        self.runs.push(Active {
            id,
            run,
            owner,
            name: name.to_owned(),
            began: self.now,
            asked: false,
            muted: false,
            unheard: false,
        });
        self.feed(id, Input::Started, out);
        // Keys that were pressed ahead of the question answer it.
        while takes_digits && self.runs.iter().any(|active| active.id == id) {
            let Some(digit) = self.typed.pop_front() else { break };
            self.feed(id, Input::Digit(digit), out);
        }
    }

    /// Tells a run what happened, and carries out what it wants.
    pub(super) fn feed(&mut self, id: RunId, input: Input<'_>, out: &mut Commands) {
        let mut effects = Vec::new();
        if let Some(active) = self.runs.iter_mut().find(|active| active.id == id) {
            active.run.handle(input, &self.vars, &mut effects);
        }
        for effect in effects {
            if self.phase == Phase::Over {
                return;
            }
            self.carry_out(id, effect, out);
        }
    }

    fn carry_out(&mut self, id: RunId, effect: Effect, out: &mut Commands) {
        match effect {
            Effect::Play(what) => self.play(id, what, out),
            Effect::StopPlaying => self.stop_playing_for(id, out),
            Effect::Request(request) => {
                if let Some(active) = self.runs.iter_mut().find(|active| active.id == id) {
                    active.asked = true;
                    out.push(Command::Run { run: id, request });
                }
            }
            Effect::Wait(Some(time)) => self.timers.set(Timer::Run(id), self.now + time),
            Effect::Wait(None) => self.timers.clear(Timer::Run(id)),
            Effect::Transfer(to) => self.begin_transfer(id, to, out),
            Effect::HangUp { workflow } => {
                if let Some(workflow) = workflow {
                    self.run_after(&workflow);
                }
                self.close_line(out);
            }
            Effect::Record(to) => self.set_recording(id, to, out),
            Effect::Set(name, value) => {
                self.vars.set(&name, value);
            }
            Effect::Done(outcome) => self.finish_run(id, outcome, out),
        }
    }

    pub(super) fn on_action_done(&mut self, id: RunId, reply: &HttpReply, out: &mut Commands) {
        if let Some(active) = self.runs.iter_mut().find(|active| active.id == id) {
            active.asked = false;
            self.feed(id, Input::Replied(reply), out);
        }
    }

    pub(super) fn wake_run(&mut self, id: RunId, out: &mut Commands) {
        self.feed(id, Input::Waited, out);
    }

    pub(super) fn finish_run(&mut self, id: RunId, outcome: RunOutcome, out: &mut Commands) {
        let Some(at) = self.runs.iter().position(|active| active.id == id) else { return };
        let active = self.runs.remove(at);
        let (owner, unheard) = (active.owner.clone(), active.unheard);
        let (is_success, code) = (outcome.is_success(), outcome.code.clone());
        let told = matches!(owner, Owner::Tool(_)).then(|| told_to_agent(&outcome));
        self.close(active, outcome, out);
        match owner {
            Owner::Before(at) => {
                self.before[at] = BeforeState::Done;
                self.go_on_before(out);
                self.answer_when_ready(out);
            }
            Owner::Step(step) => self.step_done(step, is_success, &code, out),
            Owner::Apology(step) => self.go_to_step(step + 1, out),
            Owner::Consent => self.on_consent(is_success && !unheard, &code, out),
            Owner::Tool(tool_call) => self.answer_agent(tool_call, told.unwrap_or_default(), out),
        }
    }

    /// Ends a run whose owner has no use for the result any more.
    pub(super) fn finish_run_silently(&mut self, id: RunId, outcome: RunOutcome, out: &mut Commands) {
        if let Some(at) = self.runs.iter().position(|active| active.id == id) {
            let active = self.runs.remove(at);
            self.close(active, outcome, out);
        }
    }

    /// Writes a run down and lets go of everything it held.
    fn close(&mut self, active: Active, outcome: RunOutcome, out: &mut Commands) {
        if active.asked {
            out.push(Command::StopRun { run: active.id });
        }
        self.timers.clear(Timer::Run(active.id));
        self.stop_playing_for(active.id, out);
        self.history.push(RunRecord {
            run: active.id,
            action: active.name,
            kind: active.run.kind().into(),
            began: active.began,
            ended: self.now,
            // What an agent was told may be a whole API answer, and nobody asks for it again.
            outcome: RunOutcome { told: Pii::default(), ..outcome },
        });
    }

    fn note(&mut self, action: &str, kind: &'static str, outcome: RunOutcome) {
        self.runs_begun += 1;
        self.history.push(RunRecord {
            run: RunId(self.runs_begun),
            action: action.to_owned(),
            kind: kind.into(),
            began: self.now,
            ended: self.now,
            outcome,
        });
    }

    /// Somebody else has the caller's ear and keys: what the agent asked for is no longer heard, but for one run. A
    /// request that is out is left to its end, for it may be writing something down.
    pub(super) fn quieten_tools(&mut self, but: Option<RunId>, out: &mut Commands) {
        let tools = self.runs.iter().filter(|run| matches!(run.owner, Owner::Tool(_)) && Some(run.id) != but);
        let tools: Vec<(RunId, bool)> = tools.map(|run| (run.id, run.asked)).collect();
        for (id, is_asking) in tools {
            let Some(at) = self.runs.iter().position(|active| active.id == id) else { continue };
            if is_asking {
                self.runs[at].muted = true;
                self.timers.clear(Timer::Run(id));
                self.stop_playing_for(id, out);
                self.feed(id, Input::Played, out);
            } else {
                let active = self.runs.remove(at);
                self.close(active, RunOutcome::cancelled(), out);
            }
        }
    }

    /// The call ends: nothing that runs is wanted any more.
    pub(super) fn cancel_runs(&mut self, out: &mut Commands) {
        self.flow = None;
        self.moving = None;
        // The caller is gone; there is nobody to be silent for.
        self.playback = None;
        for active in std::mem::take(&mut self.runs) {
            self.close(active, RunOutcome::cancelled(), out);
        }
    }

    pub(super) fn on_agent_asked(&mut self, asked: ToolCall, out: &mut Commands) {
        let plan = Arc::clone(&self.plan);
        let (Phase::Talking, Some(leg), Reception::Agent(agent)) = (self.phase, self.agent, &plan.reception) else {
            return;
        };
        if asked.leg != leg {
            return;
        }
        let answer = |what: &str| json!({"result": "error", "message": what}).to_string();
        let refusal = match agent.during.iter().find(|action| action.id == asked.name) {
            None => Err(answer("there is no such tool")),
            Some(_) if self.closing != Closing::No => Err(answer("the call is ending")),
            Some(_) if self.runs.len() >= limits::RUNS_AT_ONCE_MAX => Err(answer("too many tools at once; wait")),
            Some(_) if asked.arguments.reveal().len() > limits::TOOL_ARGUMENTS_MAX => {
                Err(answer("the arguments are too long"))
            }
            Some(action) => match serde_json::from_str::<serde_json::Value>(asked.arguments.reveal()) {
                Err(_) => Err(answer("the arguments are not JSON")),
                Ok(arguments) => match action.check_arguments(&arguments) {
                    Err(what) => Err(answer(&what)),
                    Ok(()) => Ok((action, arguments)),
                },
            },
        };
        match refusal {
            Err(output) => {
                let respond = self.closing == Closing::No;
                out.push(Command::TellAgent {
                    leg,
                    what: Told::Result { id: asked.id, output: Pii::new(output), respond },
                });
            }
            Ok((action, arguments)) => {
                for (name, value) in arguments.as_object().into_iter().flatten() {
                    self.vars.set(name, value.clone());
                }
                self.begin(Owner::Tool(asked.id), &action.id, action.verb.clone(), out);
            }
        }
    }

    fn answer_agent(&mut self, tool_call: String, output: String, out: &mut Commands) {
        // Let go after a transfer, it has no use for the answer; lost while somebody rang, it is missed only now.
        let Some(leg) = self.agent else { return self.on_agent_lost(out) };
        let respond = self.closing == Closing::No;
        out.push(Command::TellAgent { leg, what: Told::Result { id: tool_call, output: Pii::new(output), respond } });
    }

    /// The run whose playing the caller hears.
    pub(super) fn heard_run(&self) -> Option<RunId> {
        self.playback.as_ref().map(|playback| match playback {
            Playback::Clips { run, .. } | Playback::Words { run } => *run,
        })
    }

    pub(super) fn digit_taker(&self) -> Option<RunId> {
        self.runs.iter().rev().find(|active| active.run.takes_digits()).map(|active| active.id)
    }
}

/// An outcome as a tool's result: JSON, cut to what an agent is given.
fn told_to_agent(outcome: &RunOutcome) -> String {
    let mut output = json!({"result": outcome.result, "code": outcome.code});
    if !outcome.told.reveal().is_null() {
        output["answer"] = outcome.told.reveal().clone();
    }
    let mut output = output.to_string();
    if output.len() > limits::TOOL_RESULT_MAX {
        output.truncate(output.floor_char_boundary(limits::TOOL_RESULT_MAX));
        output.push_str(" … (cut off)");
    }
    output
}
