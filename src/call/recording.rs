//! The recording of a call: when it may begin, and what actions make of it.
//!
//! Where the plan wants the caller told or asked, that comes before the first word of anybody else, and nothing is
//! recorded before it was heard or answered.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::machine::{Call, Phase};
use super::runs::Owner;
use super::{Command, Commands};
use crate::actions::{Consent, DESTROYED_BEFORE, Input, NO_CONSENT, Reception, Say, SetRecording, Verb};
use crate::model::{LegId, RunId, Time};

/// How a recording stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Recording {
    state: State,
    /// What came of telling or asking the caller.
    pub(super) consent: Option<Consented>,
    /// That is under way.
    is_asking: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Off,
    On,
    /// It runs on as silence.
    Paused,
    Destroyed,
}

/// What came of telling a caller of the recording, or asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consented {
    /// What.
    pub result: ConsentResult,
    /// When.
    pub at: Time,
}

/// How it ended that a caller was told or asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentResult {
    /// The announcement was heard to its end.
    Announced,
    /// The caller agreed.
    Given,
    /// The caller did not, or said nothing.
    Refused,
    /// The caller agreed at first, or was told, and does not want it any more.
    Withdrawn,
    /// The announcement or the question could not be heard.
    NotHeard,
}

impl ConsentResult {
    /// Whether it may be recorded.
    pub fn allows(self) -> bool {
        matches!(self, ConsentResult::Announced | ConsentResult::Given)
    }
}

impl Call {
    /// The caller was answered: begins the recording, or what must come before it.
    pub(super) fn begin_recording(&mut self, out: &mut Commands) {
        let plan = Arc::clone(&self.plan);
        let Reception::Agent(agent) = &plan.reception else { return };
        if !agent.record {
            return;
        }
        let verb: Verb = match &agent.consent {
            Consent::None => return self.record(out),
            Consent::Announce(prompt) => Say { prompt: prompt.clone(), interruptible: false }.into(),
            Consent::Ask(menu) => menu.clone().into(),
        };
        self.recording.is_asking = true;
        self.begin(Owner::Consent, "consent", verb, out);
    }

    /// Whether the caller is being told or asked: nobody else speaks meanwhile.
    pub(super) fn is_asking_consent(&self) -> bool {
        self.recording.is_asking
    }

    /// The caller was told or asked, and the conversation begins.
    pub(super) fn on_consent(&mut self, is_heard: bool, code: &str, out: &mut Commands) {
        self.recording.is_asking = false;
        let plan = Arc::clone(&self.plan);
        let Reception::Agent(agent) = &plan.reception else { return };
        let result = match &agent.consent {
            // Whoever did not hear the question has not agreed to anything.
            _ if !is_heard => ConsentResult::NotHeard,
            Consent::Announce(_) => ConsentResult::Announced,
            Consent::Ask(menu) if menu.options.first().is_some_and(|agreed| code == agreed.code()) => {
                ConsentResult::Given
            }
            Consent::Ask(_) | Consent::None => ConsentResult::Refused,
        };
        self.note_consent(result, out);
        if result.allows() {
            self.record(out);
        }
        self.start_agent(out);
    }

    /// An action wants something of the recording.
    pub(super) fn set_recording(&mut self, run: RunId, to: SetRecording, out: &mut Commands) {
        let done = match (self.recording.state, to) {
            (State::Destroyed, SetRecording::On) => Err(DESTROYED_BEFORE),
            (State::Off, SetRecording::On) => {
                let wants = matches!(&self.plan.reception, Reception::Agent(agent) if !agent.consent.is_none());
                if wants && !self.recording.consent.is_some_and(|consent| consent.result.allows()) {
                    Err(NO_CONSENT)
                } else {
                    self.record(out);
                    Ok(())
                }
            }
            (State::Paused, SetRecording::On) => {
                self.recording.state = State::On;
                out.push(Command::SetRecording { to });
                Ok(())
            }
            (State::On, SetRecording::Off) => {
                self.recording.state = State::Paused;
                out.push(Command::SetRecording { to });
                Ok(())
            }
            (state, SetRecording::Destroyed) => {
                if matches!(state, State::On | State::Paused) {
                    out.push(Command::SetRecording { to });
                    self.note_consent(ConsentResult::Withdrawn, out);
                }
                self.recording.state = State::Destroyed;
                Ok(())
            }
            (State::On, SetRecording::On) | (State::Off | State::Paused | State::Destroyed, SetRecording::Off) => {
                Ok(())
            }
        };
        self.feed(run, Input::Recorded(done), out);
    }

    fn record(&mut self, out: &mut Commands) {
        if self.phase == Phase::Talking {
            self.recording.state = State::On;
            out.push(Command::Record { leg: LegId::CALLER });
        }
    }

    fn note_consent(&mut self, result: ConsentResult, out: &mut Commands) {
        self.recording.consent = Some(Consented { result, at: self.now });
        out.push(Command::NoteConsent { result });
    }
}
