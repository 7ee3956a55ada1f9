//! What every call must keep, whatever happens to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::call::{Command, ConsentResult, Destination, Outcome, ReferProgress, Status, Timer, Wiring};
use crate::model::{LegId, RunId};

/// Watches the commands of one call.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    final_responses: usize,
    finishes: usize,
    up: BTreeMap<LegId, bool>,
    runs: BTreeSet<RunId>,
    /// Agents of ours; everybody else is at a telephone.
    agents: BTreeSet<LegId>,
    /// Two telephones are wired to each other.
    is_joined: bool,
    /// And were at some time.
    was_joined: bool,
    /// The caller's network was asked to move it.
    is_referred: bool,
    /// Whoever referred us and has not heard the end of it.
    referrers: BTreeSet<LegId>,
    caller_answered: bool,
    /// What the caller said to a recording, as far as it was asked.
    consent: Option<ConsentResult>,
    is_recording: bool,
    /// The caller may be let hear something.
    caller_hears: bool,
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
                self.caller_hears = true;
                self.up.entry(LegId::CALLER).or_insert(true);
            }
            Command::Reject { status, retry_after_s, .. } => {
                self.final_responses += 1;
                if *status == 503 && retry_after_s.is_none() {
                    self.broken.push("503 without Retry-After".to_owned());
                }
            }
            Command::Dial { leg, to } => {
                if matches!(to, Destination::Agent) {
                    self.agents.insert(*leg);
                }
                if self.up.insert(*leg, true).is_some() {
                    self.broken.push(format!("{leg} is dialled twice"));
                }
            }
            Command::TakeIn { leg } => {
                if self.up.insert(*leg, true).is_some() {
                    self.broken.push(format!("{leg} is taken in twice"));
                }
            }
            Command::Refer { leg, .. } => {
                self.is_referred = true;
                self.must_be_there(*leg, "is moved");
            }
            Command::TakeReferral { leg } => {
                self.must_be_there(*leg, "may refer");
                if !self.referrers.insert(*leg) {
                    self.broken.push(format!("{leg} refers twice at once"));
                }
            }
            Command::RefuseReferral { leg, .. } => self.must_be_there(*leg, "may not refer"),
            Command::ReferProgress { leg, progress } => {
                self.must_be_there(*leg, "hears of its referral");
                let is_last = *progress != ReferProgress::Ringing;
                let is_known = if is_last { self.referrers.remove(leg) } else { self.referrers.contains(leg) };
                if !is_known {
                    self.broken.push(format!("{leg} hears of a referral that is over"));
                }
            }
            Command::TurnAway { .. } => {}
            Command::HangUp { leg, .. } => {
                if self.referrers.remove(leg) {
                    self.broken.push(format!("{leg} is let go before it heard the end of its referral"));
                }
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
                let is_agent = |leg: &LegId| self.agents.contains(leg);
                let talk = |(one, other): &(LegId, LegId)| {
                    !is_agent(one) && !is_agent(other) && hears.contains(&(*other, *one))
                };
                self.is_joined = hears.iter().any(talk);
                if !self.caller_hears && hears.iter().any(|(listener, _)| *listener == LegId::CALLER) {
                    self.broken.push("the caller is wired before it may hear anything".to_owned());
                }
                self.was_joined |= self.is_joined;
            }
            Command::Play { .. } if self.is_joined => {
                self.broken.push("something is played over two people who talk".to_owned());
            }
            Command::Play { leg, .. } | Command::StopPlaying { leg } | Command::Record { leg } => {
                if matches!(command, Command::Record { .. }) {
                    if std::mem::replace(&mut self.is_recording, true) {
                        self.broken.push("it is recorded twice".to_owned());
                    }
                    if self.consent.is_some_and(|result| !result.allows()) {
                        self.broken.push("it is recorded against the caller's will".to_owned());
                    }
                }
                if *leg == LegId::CALLER && !self.caller_answered {
                    self.broken.push("the caller hears something before the answer".to_owned());
                }
            }
            Command::SetRecording { .. } => {
                if !self.is_recording {
                    self.broken.push("a recording is changed, and there is none".to_owned());
                }
            }
            Command::NoteConsent { result } => self.consent = Some(*result),
            Command::TellAgent { leg, .. } => {
                if self.up.get(leg) != Some(&true) {
                    self.broken.push(format!("{leg} is told something, and is not there"));
                }
            }
            Command::Finish(outcome) => {
                self.finishes += 1;
                self.check_sum(outcome);
            }
            Command::Ring | Command::Progress => {
                self.caller_hears |= *command == Command::Progress;
                if self.final_responses > 0 {
                    self.broken.push("it rings after the final response".to_owned());
                }
            }
        }
    }

    fn check_sum(&mut self, outcome: &Outcome) {
        let canceled = outcome.cause.is_canceled();
        let wanted = self.caller_answered && !canceled;
        if outcome.answered.is_some() != wanted {
            self.broken.push(format!("the record says answered: {}", !wanted));
        }
        if canceled != (outcome.status == Status::Canceled) {
            self.broken.push(format!("{:?} for {:?}", outcome.status, outcome.cause));
        }
        // Whoever was moved by its own network was never wired to anybody; and whoever refers may leave two in the air.
        let may_be = self.is_joined || self.is_referred || self.was_joined;
        if (self.is_joined && outcome.transferred_to.is_none()) || (outcome.transferred_to.is_some() && !may_be) {
            self.broken.push("the record is wrong about who took the caller".to_owned());
        }
    }

    fn must_be_there(&mut self, leg: LegId, what: &str) {
        if leg != LegId::CALLER && self.up.get(&leg) != Some(&true) {
            self.broken.push(format!("{leg} {what}, and is not there"));
        }
    }

    /// A leg left by itself.
    pub fn left(&mut self, leg: LegId) {
        self.referrers.remove(&leg);
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
        for leg in &self.referrers {
            self.broken.push(format!("{leg} never hears the end of its referral"));
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
