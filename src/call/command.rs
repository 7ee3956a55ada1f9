//! What a call wants done. Imperative; the gateway has one arm per command and decides nothing.

use serde::{Deserialize, Serialize};

use super::{Cause, ConsentResult, Outcome, Wiring};
use crate::actions::{HttpRequest, Playing, SetRecording};
use crate::model::{Address, LegId, Pii, PlayId, RunId};

/// Everything one event led to, in order.
pub type Commands = Vec<Command>;

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Tell the caller's side that it rings.
    Ring,
    /// Let the caller hear, before the answer, whom it is wired to.
    Progress,
    /// Take the call.
    Answer,
    /// Refuse the call. The only final answer besides [`Command::Answer`], and never after it.
    Reject {
        /// The SIP status.
        status: u16,
        #[allow(missing_docs)]
        cause: Cause,
        /// Seconds after which to try again.
        retry_after_s: Option<u32>,
    },
    /// Bring somebody in.
    Dial {
        /// Its name on this call.
        leg: LegId,
        /// Who.
        to: Destination,
    },
    /// Let somebody go, whatever state the leg is in.
    HangUp {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        cause: Cause,
    },
    /// Let a party's network move it to somebody else; answered by [`super::Event::ReferNews`].
    Refer {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        to: Pii<Address>,
        /// Our place with this leg is to be taken, rather than a new call placed.
        replacing: Option<LegId>,
    },
    /// Carry out what a party asked for in [`super::Event::Referred`].
    TakeReferral {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// Do not.
    RefuseReferral {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        cause: Cause,
    },
    /// Tell a party how its referral goes. After [`Command::TakeReferral`] the last is never [`ReferProgress::Ringing`].
    ReferProgress {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        progress: ReferProgress,
    },
    /// Answer whoever came with [`super::Event::Replacing`]; it is a leg like one that was dialled.
    TakeIn {
        /// Its name on this call.
        leg: LegId,
    },
    /// Refuse it.
    TurnAway {
        #[allow(missing_docs)]
        cause: Cause,
    },
    /// Who hears whom from now on.
    Wire(Wiring),
    /// Play something to a leg instead of what it hears, and instead of what was played before.
    Play {
        #[allow(missing_docs)]
        leg: LegId,
        /// Named in [`super::Event::Played`].
        play: PlayId,
        #[allow(missing_docs)]
        what: Playing,
    },
    /// Let a leg hear again whom it is wired to.
    StopPlaying {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// Record the call: this leg left, what it hears right.
    Record {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// Change the recording that runs.
    SetRecording {
        #[allow(missing_docs)]
        to: SetRecording,
    },
    /// Remember what came of telling the caller of the recording, or asking.
    NoteConsent {
        #[allow(missing_docs)]
        result: ConsentResult,
    },
    /// Say something to an agent.
    TellAgent {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        what: Told,
    },
    /// Ask the outside world; answered by [`super::Event::ActionDone`].
    Run {
        #[allow(missing_docs)]
        run: RunId,
        #[allow(missing_docs)]
        request: HttpRequest,
    },
    /// Forget a [`Command::Run`]; its answer is no longer wanted.
    StopRun {
        #[allow(missing_docs)]
        run: RunId,
    },
    /// The call is over. Always the last command, and exactly one.
    Finish(Box<Outcome>),
}

/// How a referral goes that we carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferProgress {
    /// The new party rings.
    Ringing,
    /// The new party answered.
    Done,
    /// It came to nothing.
    Failed(Cause),
}

/// Whom to bring in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// The agent of the call's plan.
    Agent,
    /// Somebody with a number or a SIP URI, by the trunk of the caller.
    Address(Pii<Address>),
    /// Somebody with a number or a SIP URI, by another trunk: the call is passed on.
    Trunk {
        /// The trunk's id.
        trunk: String,
        #[allow(missing_docs)]
        to: Pii<Address>,
    },
    /// Somebody whom a party named when it referred us, by that party's trunk.
    Referred {
        /// The party.
        by: LegId,
        #[allow(missing_docs)]
        to: Pii<Address>,
    },
}

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The caller is there.
    Start {
        /// Who it is and what it should do.
        instructions: Pii<String>,
        /// What it should say first; `None` waits for the caller.
        first_words: Option<Pii<String>>,
    },
    /// The result of what it asked for.
    Result {
        /// The vendor's id of the request.
        id: String,
        /// JSON.
        output: Pii<String>,
        /// Whether it shall say something to it; not when it has just said good-bye.
        respond: bool,
    },
    /// Say this now.
    Say(Pii<String>),
    /// The caller pressed a key.
    Digit(Pii<crate::model::Digit>),
}
