//! What every call must keep, whatever happens to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Command, Wiring};
use crate::model::{LegId, RunId};

/// Watches the commands of one call.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    final_responses: usize,
    finishes: usize,
    up: BTreeMap<LegId, bool>,
    runs: BTreeSet<RunId>,
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
            }
            Command::Reject { .. } => self.final_responses += 1,
            Command::Dial { leg, .. } => {
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
            Command::Finish(_) => self.finishes += 1,
            Command::Ring => {
                if self.final_responses > 0 {
                    self.broken.push("it rings after the final response".to_owned());
                }
            }
        }
    }

    /// A leg left by itself.
    pub fn left(&mut self, leg: LegId) {
        self.up.insert(leg, false);
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
