//! What every call must keep, whatever happens to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Cause, Command, Destination, Outcome, Status, Timer, Wiring};
use crate::model::{LegId, RunId};

/// Watches the commands of one call.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    final_responses: usize,
    finishes: usize,
    up: BTreeMap<LegId, bool>,
    runs: BTreeSet<RunId>,
    /// Everybody who was dialled by an address.
    targets: BTreeSet<LegId>,
    /// The target that talks to the caller.
    joined: Option<LegId>,
    caller_answered: bool,
    broken: Vec<String>,
}

impl Watch {
    /// Takes one command.
    pub fn see(&mut self, command: &Command) {
        if self.finishes > 0 {
            self.broken.push(format!("{command:?} after Finish"));
        }
        match command {
            Command::Answer => {
                self.final_responses += 1;
                self.caller_answered = true;
                self.up.entry(LegId::CALLER).or_insert(true);
            }
            Command::Reject { status, retry_after_s, .. } => {
                self.final_responses += 1;
                if *status == 503 && retry_after_s.is_none() {
                    self.broken.push("503 without Retry-After".to_owned());
                }
            }
            Command::Dial { leg, to } => {
                if !matches!(to, Destination::Agent) {
                    self.targets.insert(*leg);
                }
                if self.up.insert(*leg, true).is_some() {
                    self.broken.push(format!("{leg} is dialled twice"));
                }
            }
            Command::HangUp { leg, .. } => {
                let known = self.up.insert(*leg, false);
                if known == Some(false) || (known.is_none() && *leg != LegId::CALLER) {
                    self.broken.push(format!("{leg} is let go, and is not there"));
                }
            }
            Command::Run { run, .. } => {
                if !self.runs.insert(*run) {
                    self.broken.push(format!("{run:?} asks twice"));
                }
            }
            Command::StopRun { run } => {
                if !self.runs.remove(run) {
                    self.broken.push(format!("{run:?} is stopped, and asked nothing"));
                }
            }
            Command::Wire(Wiring { hears }) => {
                for (listener, source) in hears {
                    for leg in [listener, source] {
                        if *leg != LegId::CALLER && self.up.get(leg) != Some(&true) {
                            self.broken.push(format!("{leg} is wired, and is not there"));
                        }
                    }
                }
                let heard = hears.iter().find(|(listener, _)| *listener == LegId::CALLER);
                self.joined = heard.map(|(_, source)| *source).filter(|source| self.targets.contains(source));
            }
            Command::Play { .. } if self.joined.is_some() => {
                self.broken.push("something is played over two people who talk".to_owned());
            }
            Command::Play { leg, .. } | Command::StopPlaying { leg } | Command::Record { leg } => {
                if *leg == LegId::CALLER && !self.caller_answered {
                    self.broken.push("the caller hears something before the answer".to_owned());
                }
            }
            Command::TellAgent { leg, .. } => {
                if self.up.get(leg) != Some(&true) {
                    self.broken.push(format!("{leg} is told something, and is not there"));
                }
            }
            Command::Finish(outcome) => {
                self.finishes += 1;
                self.check_sum(outcome);
            }
            Command::Ring => {
                if self.final_responses > 0 {
                    self.broken.push("it rings after the final response".to_owned());
                }
            }
        }
    }

    fn check_sum(&mut self, outcome: &Outcome) {
        let canceled = outcome.cause == Cause::Canceled;
        let wanted = self.caller_answered && !canceled;
        if outcome.answered.is_some() != wanted {
            self.broken.push(format!("the record says answered: {}", !wanted));
        }
        if canceled != (outcome.status == Status::Canceled) {
            self.broken.push(format!("{:?} for {:?}", outcome.status, outcome.cause));
        }
        if outcome.transferred_to.is_some() != self.joined.is_some() {
            self.broken.push("the record is wrong about who took the caller".to_owned());
        }
    }

    /// A leg left by itself.
    pub fn left(&mut self, leg: LegId) {
        self.up.insert(leg, false);
    }

    /// A call that is over still waits for the clock.
    pub fn left_set(&mut self, timer: Timer) {
        self.broken.push(format!("{timer:?} is left set"));
    }

    /// A request was answered.
    pub fn replied(&mut self, run: RunId) {
        self.runs.remove(&run);
    }

    /// The promises that were broken, once the call is over. A caller who gave up gets the final response from the
    /// SIP room (487), so none is wanted of the call.
    pub fn verdict(mut self, caller_gave_up: bool) -> Vec<String> {
        let wanted = usize::from(!caller_gave_up);
        if self.final_responses != wanted {
            self.broken.push(format!("{} final responses instead of {wanted}", self.final_responses));
        }
        if self.finishes != 1 {
            self.broken.push(format!("{} times Finish", self.finishes));
        }
        for (leg, up) in &self.up {
            if *up {
                self.broken.push(format!("{leg} is left behind"));
            }
        }
        for run in &self.runs {
            self.broken.push(format!("{run:?} is left waiting"));
        }
        self.broken
    }
}
