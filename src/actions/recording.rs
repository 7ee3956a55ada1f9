//! `recording`: go on recording, leave something out, or destroy what there is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::run::{Effect, Input, RunOutcome};
use super::{Menu, Prompt};

/// What becomes of the call's recording from here on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SetRecording {
    /// It begins, or goes on; never without the consent that the agent's file asks for.
    #[default]
    On,
    /// What is said and heard from now on is not in it: its time is filled with silence.
    Off,
    /// It is destroyed, and does not begin again: the caller does not want it.
    Destroyed,
}

impl SetRecording {
    pub(super) fn handle(self, input: &Input<'_>, out: &mut Vec<Effect>) {
        match input {
            Input::Started => out.push(Effect::Record(self)),
            Input::Recorded(Ok(())) => out.push(Effect::Done(RunOutcome::success(self.code()))),
            Input::Recorded(Err(code)) => out.push(Effect::Done(RunOutcome::error(*code))),
            // It asks nobody and speaks to nobody.
            Input::Played
            | Input::Digit(_)
            | Input::Interrupted
            | Input::Waited
            | Input::Replied(_)
            | Input::Transferred(_) => {}
        }
    }

    /// The outcome code of success, and the word for it in journals.
    pub fn code(self) -> &'static str {
        match self {
            SetRecording::On => "on",
            SetRecording::Off => "off",
            SetRecording::Destroyed => "destroyed",
        }
    }

    /// Outcome codes of both kinds.
    pub const CODES: [&str; 5] = ["on", "off", "destroyed", NO_CONSENT, DESTROYED_BEFORE];
}

/// The caller was asked, or was to be told, and did not agree or did not hear it.
pub const NO_CONSENT: &str = "no_consent";
/// The recording was destroyed on this call.
pub const DESTROYED_BEFORE: &str = "was_destroyed";

/// What a caller learns before a recording begins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Nothing from us.
    #[default]
    None,
    /// That it begins; it does when this was heard to its end.
    Announce(Prompt),
    /// Whether it may; it does when the first option was chosen.
    Ask(Menu),
}

impl Consent {
    /// Whether nothing is asked for.
    pub fn is_none(&self) -> bool {
        *self == Consent::None
    }
}
