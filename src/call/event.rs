//! What happens to a call. Past tense, and already in our words: SIP, WebRTC and WebSocket callers look the same here.

use serde::{Deserialize, Serialize};

use super::{Cause, Speaker, Timer};
use crate::actions::HttpReply;
use crate::model::{Address, Codec, Digit, LegId, Party, Pii, PlayId, RunId, Verification};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody calls. Always the first event, and only the first.
    Invited(Invitation),
    /// A leg we dialled rings.
    LegRinging {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// A leg we dialled lets something be heard before it answers: an announcement, or its network's ringing tone.
    LegSounded {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// A leg we dialled is there.
    LegAnswered {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// A leg we dialled will not come.
    LegFailed {
        #[allow(missing_docs)]
        leg: LegId,
        /// Why not.
        cause: Cause,
        /// Seconds after which it may be tried again, when the other side said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_s: Option<u32>,
    },
    /// A party left; the caller too, also while it rings.
    HungUp {
        #[allow(missing_docs)]
        leg: LegId,
        /// [`Cause::Normal`] for somebody who hung up.
        cause: Cause,
    },
    /// A party wants whom it talks to moved to somebody else, and itself out of the way (REFER).
    Referred {
        #[allow(missing_docs)]
        leg: LegId,
        /// To whom.
        to: Pii<Address>,
        /// Its trunk may refer at all.
        allowed: bool,
    },
    /// Somebody at the door wants to take a party's place (Replaces).
    Replacing {
        /// Whose place.
        leg: LegId,
    },
    /// What became of our wish that a party be moved ([`super::Command::Refer`]).
    ReferNews {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        news: ReferNews,
    },
    /// A party put us on hold: it hears nothing until it comes back, and what it would have heard waits.
    Held {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// A party on hold is back.
    Resumed {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// A key was pressed.
    DigitPressed {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        digit: Pii<Digit>,
    },
    /// Something played came to its end. What was stopped or replaced is not reported.
    Played {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        play: PlayId,
    },
    /// Something that was to be played cannot be; the leg heard nothing.
    NotPlayed {
        #[allow(missing_docs)]
        leg: LegId,
        #[allow(missing_docs)]
        play: PlayId,
    },
    /// The agent began to speak.
    AgentSpoke {
        #[allow(missing_docs)]
        leg: LegId,
    },
    /// All the agent had to say so far went out to the caller, or was dropped.
    AgentQuiet {
        #[allow(missing_docs)]
        leg: LegId,
        /// How many sentences it had been given to say by then ([`super::Told::Say`]); unknown in old journals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        says: Option<u32>,
    },
    /// The caller cut the agent off.
    BargedIn {
        #[allow(missing_docs)]
        leg: LegId,
        /// Milliseconds of the utterance that were heard.
        heard_ms: u64,
    },
    /// The agent knows in words what was said.
    Said {
        /// By whom.
        who: Speaker,
        /// What.
        text: Pii<String>,
        /// It was cut off.
        interrupted: bool,
    },
    /// The agent wants an action done.
    AgentAsked(ToolCall),
    /// The agent's vendor reported something that does not end the call.
    AgentFault {
        #[allow(missing_docs)]
        leg: LegId,
        /// The vendor's code.
        code: String,
    },
    /// The outside world answered a [`super::Command::Run`].
    ActionDone {
        #[allow(missing_docs)]
        run: RunId,
        #[allow(missing_docs)]
        reply: HttpReply,
    },
    /// A time that [`super::Call::deadline`] gave has come.
    TimerFired(Timer),
    /// An operator or a shutdown wants the call ended.
    EndAsked {
        #[allow(missing_docs)]
        cause: Cause,
    },
}

/// What becomes of a wish that a party be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferNews {
    /// Its network tries; that is no success yet.
    Accepted,
    /// The new party rings.
    Ringing,
    /// The party talks to somebody else now.
    Done,
    /// The network tried, and this is how it ended.
    Failed(Cause),
    /// The network does not do that.
    Refused(Cause),
}

/// A caller at the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Who calls.
    pub caller: Party,
    /// What was dialled: the user part of the request.
    pub called: Pii<String>,
    /// The trunk it came by.
    pub trunk: String,
    /// Header values that the trunk maps to variables, by variable name.
    pub headers: Vec<(String, Pii<String>)>,
    /// The codec we agree on; `None` when the offer holds nothing for us.
    pub codec: Option<Codec>,
    /// Transfers of this caller are tried by REFER first, where an action does not say how.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refer_first: bool,
    /// Whether the caller is who it says; `None` when nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Verification>,
}

/// An agent's request for an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Whose agent.
    pub leg: LegId,
    /// The vendor's id of the request; the answer carries it.
    pub id: String,
    /// The action.
    pub name: String,
    /// The arguments as the model wrote them: JSON text, not checked.
    pub arguments: Pii<String>,
}
