//! What is left of a call when it is over.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Blame, Cause, Consented};
use crate::actions::RunOutcome;
use crate::model::{Address, Pii, RunId, Time, Vars};

/// The sum of a call: the last thing it says, and the base of its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The record's status.
    pub status: Status,
    /// Why it ended.
    pub cause: Cause,
    /// Who ended it.
    pub ended_by: Blame,
    /// When we answered, if we did.
    pub answered: Option<Time>,
    /// When it ended.
    pub ended: Time,
    /// Who took the caller, if somebody did.
    pub transferred_to: Option<Pii<Address>>,
    /// What was known at the end.
    pub vars: Vars,
    /// Every action that was run, in the order they began.
    pub runs: Vec<RunRecord>,
    /// What was said, as far as it is known in words.
    pub turns: Vec<Turn>,
    /// Workflows to run now, in order, without repetition.
    pub after: Vec<String>,
    /// What came of telling the caller of the recording, or asking; `None` when that was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consented>,
}

/// The record's status (rule R14 of the feature table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Still going on; only in the store, for calls that are up.
    InProgress,
    /// Answered, and ended by somebody.
    Completed,
    /// The caller gave up while it rang.
    Canceled,
    /// We rang somebody, and nobody came.
    NoAnswer,
    /// Given to somebody else, and talked there.
    Transferred,
    /// Refused or broken.
    Failed,
}

/// One action that was run (rule R3 of the feature table).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its number on this call.
    pub run: RunId,
    /// The action's or the step's id.
    pub action: String,
    /// The kind of action.
    pub kind: Cow<'static, str>,
    /// When it began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// How it ended.
    pub outcome: RunOutcome,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// When it was finished.
    pub at: Time,
    /// By whom.
    pub who: Speaker,
    /// In words.
    pub text: Pii<String>,
    /// It was cut off by the other side; the words are those that were heard.
    pub interrupted: bool,
}

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The caller.
    Caller,
    /// The agent.
    Agent,
}
