//! `transfer`: give the caller to somebody else. What it means is here; how it is done is the room `transfer`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::run::{Effect, Input, RunOutcome};
use super::{Prompt, Template};
use crate::model::{Address, Vars};

/// Rings targets in order until one answers. Its outcome code is `transferred`, or the last [`Failure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferTo {
    /// At least one, rung in order.
    pub targets: Vec<Target>,
    /// What to do when a target fails, by how it failed; otherwise the next target is rung.
    pub fallback: BTreeMap<Failure, Fallback>,
    /// Said first; the target rings meanwhile.
    pub message: Prompt,
    /// A clip repeated until somebody answers or the transfer fails. Without it the caller hears ringing tone.
    pub music: Option<Template>,
    /// Said to the caller when nobody was found, before the agent or the flow goes on.
    pub sorry: Prompt,
    /// How it is done; `None`: as the caller's trunk likes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<TransferMethod>,
    /// Whether the caller hears what a target's network plays before the answer, instead of the waiting sound; `None`:
    /// unless there is music.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_media: Option<bool>,
}

/// How a caller is given to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferMethod {
    /// We ring the target and join both: the call stays with us to its end.
    Bridge,
    /// The caller's network is asked to move the call (SIP REFER), and we are out of it.
    Refer,
    /// The same; when the network does not do it, we ring the target ourselves.
    ReferThenBridge,
    /// We ring the target and join both; once they talk, the caller's network is asked to connect them without us. When
    /// it does not, the call stays with us.
    BridgeThenRefer,
}

/// Somebody to ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A number or SIP URI, with variables.
    pub to: Template,
    /// How long it may ring.
    pub ring: Duration,
}

/// What to do when a target fails in a certain way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Ring the next target, as without a fallback.
    Next,
    /// Ring this one instead.
    Ring(Target),
    /// Give the caller back at once.
    Back,
}

/// How a target failed (rule R12 of the feature table).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// On another call (486, 600).
    Busy,
    /// Rang, and nobody came (480, 408 after ringing, ring time over).
    NoAnswer,
    /// Refused (403, 603, 607, 608).
    Declined,
    /// No such number (404, 410, 484, 604), or not a number at all.
    InvalidNumber,
    /// Nothing there that answers (5xx, transport, no provisional response).
    Unreachable,
    /// No common media (488).
    MediaError,
}

impl Failure {
    /// The outcome code.
    pub fn code(self) -> &'static str {
        match self {
            Failure::Busy => "busy",
            Failure::NoAnswer => "no_answer",
            Failure::Declined => "declined",
            Failure::InvalidNumber => "invalid_number",
            Failure::Unreachable => "unreachable",
            Failure::MediaError => "media_error",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TransferTo {
    /// Whether a target may be heard before it answers.
    pub fn lets_target_be_heard(&self) -> bool {
        self.early_media.unwrap_or(self.music.is_none())
    }

    /// Whether an admin wrote this very address as one of the targets, without variables.
    pub fn names(&self, address: &Address) -> bool {
        let fallbacks = self.fallback.values().filter_map(|fallback| match fallback {
            Fallback::Ring(target) => Some(target),
            Fallback::Next | Fallback::Back => None,
        });
        let mut written =
            self.targets.iter().chain(fallbacks).map(|target| &target.to).filter(|to| to.variables().next().is_none());
        written.any(|to| to.source().parse().is_ok_and(|written: Address| written == *address))
    }

    pub(super) fn handle(
        self: &Arc<TransferTo>,
        state: &mut Option<RunOutcome>,
        input: &Input<'_>,
        vars: &Vars,
        out: &mut Vec<Effect>,
    ) {
        match input {
            Input::Started => out.push(Effect::Transfer(Arc::clone(self))),
            Input::Transferred(Ok(())) => out.push(Effect::Done(RunOutcome::success("transferred"))),
            Input::Transferred(Err(failure)) if self.sorry.is_empty() => {
                out.push(Effect::Done(RunOutcome::error(failure.code())));
            }
            Input::Transferred(Err(failure)) => {
                *state = Some(RunOutcome::error(failure.code()));
                out.push(Effect::Play(self.sorry.render(vars)));
            }
            Input::Played => out.extend(state.take().map(Effect::Done)),
            // While targets ring, keys and clocks are the transfer's own affair.
            Input::Digit(_) | Input::Interrupted | Input::Waited | Input::Replied(_) | Input::Recorded(_) => {}
        }
    }
}
