//! The record of a call: what the store keeps, the event tells, and an operator reads (rule R14 of the feature table).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::actions::RunResult;
use crate::call::{Blame, Cause, ConsentResult, Consented, Outcome, Speaker, Status};
use crate::model::{Attestation, CallId, Pii, Time, Verification};

/// What is known when a call begins, written while it rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOpen {
    /// The call.
    pub id: CallId,
    /// Wall clock at the call's [`Time::ZERO`].
    pub began_unix_ms: i64,
    /// Which way it goes.
    pub direction: Direction,
    /// The agent of its route, if it led to one.
    pub agent: Option<String>,
    /// Who calls, or whom we call: E.164 where the trunk gives it; `None` when anonymous.
    pub phone: Option<Pii<String>>,
    /// The number that was called, as the trunk gave it.
    pub called: Pii<String>,
    /// The trunk it came over.
    pub trunk: Option<String>,
    /// Where its journal lies.
    pub journal: Option<String>,
    /// The configuration it runs on.
    pub revision: String,
    /// Whether the caller is who it says; `None` when nobody looked.
    pub identity: Option<Verification>,
}

/// Which way a call goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Direction {
    /// Somebody calls us.
    #[default]
    Inbound,
    /// We call somebody.
    Outbound,
}

/// The record of a call that is over. Written in clear, because it is the record; never printed by `Debug`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRecord {
    #[allow(missing_docs)]
    pub id: CallId,
    /// The agent of its route.
    pub agent_id: Option<String>,
    /// Who called, or was called; `null` when anonymous.
    pub phone: Option<String>,
    #[allow(missing_docs)]
    #[serde(rename = "type")]
    pub direction: Direction,
    /// Whole seconds from answer to end, rounded down; 0 when it was not answered.
    pub duration: u64,
    /// When it began to ring: UTC, whole seconds, as all times that are written out.
    pub start_time: String,
    /// When it ended.
    pub end_time: String,
    /// When the record's call came into being; the same as `start_time`.
    pub created: String,
    /// The caller asked not to be known.
    pub anonymous: bool,
    /// There is a recording.
    pub recorded: bool,
    #[allow(missing_docs)]
    pub status: Status,
    /// What was to be extracted; nothing extracts yet.
    pub extractors: Vec<Value>,
    /// What was extracted.
    pub extracted_data: Map<String, Value>,
    /// What was to be classified; nothing classifies yet.
    pub classifiers: Vec<Value>,
    /// How it was classified.
    pub classification_data: Map<String, Value>,
    /// The call's variables at its end, by dotted name.
    pub context: Map<String, Value>,
    /// What it was about; nobody writes one yet.
    pub summary: Option<String>,

    /// The number that was called.
    pub called: String,
    /// The trunk it came over.
    pub trunk: Option<String>,
    /// The label of its cause.
    pub end_reason: String,
    /// Who ended it.
    pub ended_by: Blame,
    /// When we answered, in milliseconds since it began.
    pub answered_at: Option<u64>,
    /// How long it rang.
    pub ring_ms: u64,
    /// Who took the caller, if somebody did.
    pub transferred_to: Option<String>,
    /// Every action that was run.
    pub runs: Vec<RecordedRun>,
    /// What was said, as far as it is known in words.
    pub transcript: Vec<RecordedTurn>,
    /// Where the recording lies.
    pub recording: Option<String>,
    /// What came of telling the caller of the recording, or asking; `null` when that was not done.
    #[serde(default)]
    pub consent: Option<RecordedConsent>,
    /// Where the journal lies.
    pub journal: Option<String>,
    /// The configuration it ran on.
    pub revision: String,
    /// Whether the caller is who it says; `null` when nobody looked.
    #[serde(default)]
    pub identity: Option<RecordedIdentity>,
}

/// What came of telling a caller of the recording, or asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedConsent {
    /// What.
    pub result: ConsentResult,
    /// Milliseconds since the call began.
    pub at: u64,
}

impl RecordedConsent {
    fn new(consent: Consented) -> RecordedConsent {
        RecordedConsent { result: consent.result, at: consent.at.as_ms() }
    }
}

/// Whether the caller is who it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedIdentity {
    /// `passed`, `failed`, `none` or `unknown`.
    pub outcome: String,
    /// Why it did not pass, in one word.
    pub reason: Option<String>,
    /// `A`, `B` or `C` (RFC 8588 §4).
    pub attestation: Option<Attestation>,
    /// Who put the call into the network, opaque.
    pub origid: Option<String>,
    /// Who checked: `identity` is we, `verstat` the trunk.
    pub via: String,
}

/// One action that was run on a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRun {
    /// Its number on the call.
    pub run: u32,
    /// The action's or step's id.
    pub action: String,
    /// The kind of action.
    pub kind: String,
    /// Milliseconds since the call began.
    pub began_at: u64,
    /// Milliseconds since the call began.
    pub ended_at: u64,
    /// How it ended.
    pub result: RunResult,
    /// More exactly.
    pub code: String,
}

/// Something that was said on a call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedTurn {
    /// Milliseconds since the call began.
    pub at: u64,
    /// By whom.
    pub who: Speaker,
    /// In words.
    pub text: String,
    /// It was cut off; the words are those that were heard.
    pub interrupted: bool,
}

impl CallRecord {
    /// The record of a call that ended like this.
    pub fn new(open: &CallOpen, recording: Option<String>, outcome: &Outcome) -> CallRecord {
        let ended = outcome.ended;
        CallRecord {
            duration: outcome.answered.map_or(0, |answered| (ended - answered).as_secs()),
            status: outcome.status,
            context: context(outcome),
            end_reason: outcome.cause.label().to_owned(),
            ended_by: outcome.ended_by,
            answered_at: outcome.answered.map(Time::as_ms),
            ring_ms: outcome.answered.unwrap_or(ended).as_ms(),
            transferred_to: outcome.transferred_to.as_ref().map(|to| to.reveal().as_str().to_owned()),
            runs: outcome.runs.iter().map(RecordedRun::new).collect(),
            transcript: outcome.turns.iter().map(RecordedTurn::new).collect(),
            recorded: recording.is_some(),
            recording,
            consent: outcome.consent.map(RecordedConsent::new),
            ..CallRecord::bare(open, open.began_unix_ms.saturating_add_unsigned(ended.as_ms()))
        }
    }

    /// The record of a call whose process died. Nothing is known of how it went, only that it can no longer be up, and
    /// what was recorded of it.
    pub fn crashed(open: &CallOpen, recording: Option<String>, now_unix_ms: i64) -> CallRecord {
        CallRecord { recorded: recording.is_some(), recording, ..CallRecord::bare(open, now_unix_ms) }
    }

    fn bare(open: &CallOpen, ended_unix_ms: i64) -> CallRecord {
        let start = written(open.began_unix_ms);
        CallRecord {
            id: open.id,
            agent_id: open.agent.clone(),
            phone: open.phone.as_ref().map(|phone| phone.reveal().clone()),
            direction: open.direction,
            duration: 0,
            start_time: start.clone(),
            end_time: written(ended_unix_ms.max(open.began_unix_ms)),
            created: start,
            anonymous: open.phone.is_none(),
            recorded: false,
            status: Status::Failed,
            extractors: Vec::new(),
            extracted_data: Map::new(),
            classifiers: Vec::new(),
            classification_data: Map::new(),
            context: Map::new(),
            summary: None,
            called: open.called.reveal().clone(),
            trunk: open.trunk.clone(),
            end_reason: Cause::Internal.label().to_owned(),
            ended_by: Blame::Us,
            answered_at: None,
            ring_ms: 0,
            transferred_to: None,
            runs: Vec::new(),
            transcript: Vec::new(),
            recording: None,
            consent: None,
            journal: open.journal.clone(),
            revision: open.revision.clone(),
            identity: open.identity.as_ref().map(RecordedIdentity::new),
        }
    }
}

impl RecordedIdentity {
    fn new(identity: &Verification) -> RecordedIdentity {
        RecordedIdentity {
            outcome: identity.verdict.label().to_owned(),
            reason: identity.reason().map(str::to_owned),
            attestation: identity.attestation,
            origid: identity.origination_id.clone(),
            via: identity.via.label().to_owned(),
        }
    }
}

impl RecordedRun {
    fn new(run: &crate::call::RunRecord) -> RecordedRun {
        RecordedRun {
            run: run.run.0,
            action: run.action.clone(),
            kind: run.kind.to_string(),
            began_at: run.began.as_ms(),
            ended_at: run.ended.as_ms(),
            result: run.outcome.result,
            code: run.outcome.code.to_string(),
        }
    }
}

impl RecordedTurn {
    fn new(turn: &crate::call::Turn) -> RecordedTurn {
        RecordedTurn {
            at: turn.at.as_ms(),
            who: turn.who,
            text: turn.text.reveal().clone(),
            interrupted: turn.interrupted,
        }
    }
}

impl fmt::Debug for CallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallRecord")
            .field("id", &self.id)
            .field("status", &self.status)
            .field("end_reason", &self.end_reason)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RecordedTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedTurn").field("at", &self.at).field("who", &self.who).finish_non_exhaustive()
    }
}

fn context(outcome: &Outcome) -> Map<String, Value> {
    let known = outcome.vars.names().filter_map(|name| Some((name.to_owned(), outcome.vars.get(name)?.clone())));
    known.collect()
}

/// `2026-11-20T11:04:41Z`: UTC, whole seconds, rounded down. A time outside the calendar is its nearest end.
pub(super) fn written(unix_ms: i64) -> String {
    let nearest = if unix_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let time = Timestamp::from_second(unix_ms.div_euclid(1000)).unwrap_or(nearest);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
