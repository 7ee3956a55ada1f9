//! What this room and the rest of the house say to each other. All of it is plain data.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::digest::Login;
use crate::model::{Address, Codec, Pii};
use crate::trunk::SessionRules;

/// SIP's idea of one leg, inbound or outbound. Given by us and unique in the process; the network never sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialogId(pub(super) u64);

impl fmt::Display for DialogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dialog {}", self.0)
    }
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// One message per datagram, repeated until answered.
    Udp,
    /// A byte stream.
    Tcp,
    /// A byte stream within TLS.
    Tls,
    /// Messages of a WebSocket (RFC 7118).
    Ws,
    /// The same within TLS.
    Wss,
}

impl Transport {
    /// Whether messages travel on connections, so that none is lost without our hearing of it.
    pub fn is_stream(self) -> bool {
        self != Transport::Udp
    }

    /// The name in a Via header.
    pub(super) fn via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        })
    }
}

/// What happened on the wire.
///
/// A dialog speaks until its last event. For an inbound one that is `Canceled`, `AckMissing`, `Lost` or `Ended`, or
/// nothing at all after [`SipCommand::Reject`]; for an outbound one it is `Failed`, `Lost` or `Ended`.
#[derive(Clone, Debug)]
pub enum SipEvent {
    /// Somebody calls. 100 Trying has gone out; ring, answer or reject.
    Invited {
        /// The new dialog.
        dialog: DialogId,
        /// What they said.
        invite: Box<Invite>,
    },
    /// An inbound call was given up before it was answered. Its final answer has been sent.
    Canceled {
        /// Which.
        dialog: DialogId,
        /// The call was answered by somebody else (`Reason: SIP;cause=200`, RFC 3326): not a missed call.
        elsewhere: bool,
    },
    /// Our answer to an inbound call was acknowledged.
    Confirmed {
        /// Which.
        dialog: DialogId,
        /// Their description, when they had sent none in the INVITE and ours was the offer.
        sdp: Option<Vec<u8>>,
    },
    /// Our answer was never acknowledged, for 64·T1 (RFC 3261 §13.3.1.4). BYE has been sent; the dialog is over.
    AckMissing {
        /// Which.
        dialog: DialogId,
    },
    /// A call that we placed rings, or plays something before the answer.
    Ringing {
        /// Which.
        dialog: DialogId,
        /// 180, 183 and their like.
        status: u16,
        /// Their description, when early audio may come.
        sdp: Option<Vec<u8>>,
    },
    /// A call that we placed is answered. ACK has been sent.
    Answered {
        /// Which.
        dialog: DialogId,
        /// Their description.
        sdp: Vec<u8>,
    },
    /// A call that we placed came to nothing.
    Failed {
        /// Which.
        dialog: DialogId,
        /// Why.
        failure: Failure,
    },
    /// The dialog is over. After [`SipCommand::HangUp`] it comes at once, without waiting for the other side.
    Ended {
        /// Which.
        dialog: DialogId,
        /// Who hung up.
        by: By,
        /// Q.850 cause, when one was given (RFC 3326).
        cause: Option<u8>,
    },
    /// Something about a referral on an answered dialog.
    Refer {
        /// Which.
        dialog: DialogId,
        /// What.
        news: ReferNews,
    },
    /// An INFO request, already answered with 200: mostly keys pressed on old equipment.
    Info {
        /// Which.
        dialog: DialogId,
        /// Its content type in lower case, without parameters.
        content_type: String,
        /// Its body.
        body: Pii<Vec<u8>>,
    },
    /// The other side changed or refreshed its description and has got its answer; or it answered an offer of ours.
    Reinvited {
        /// Which.
        dialog: DialogId,
        /// Their new description. `None` for a mere refresh without one; when their ACK then brings one, it is told in a
        /// second event.
        sdp: Option<Vec<u8>>,
        /// The answer they got; `None` for a refresh without a description, and when theirs is the answer.
        answer: Option<String>,
        /// Our offer, when their description is the answer to it.
        offer: Option<String>,
    },
    /// A [`SipCommand::Reoffer`] was refused, or could not be brought. What was agreed before stands.
    ReofferFailed {
        /// Which.
        dialog: DialogId,
        /// The refusal; 408 when there was none.
        status: u16,
    },
    /// The other side has gone without a word. BYE has been sent; the dialog is over.
    Lost {
        /// Which.
        dialog: DialogId,
        /// How we know.
        loss: Loss,
    },
}

/// How we know that the other side is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The session timer ran out (RFC 4028 §10).
    Expired,
    /// A request within the dialog got no answer.
    Unanswered,
    /// They know nothing of the dialog (481).
    Unknown,
}

impl SipEvent {
    /// The dialog it is about.
    pub fn dialog(&self) -> DialogId {
        match self {
            SipEvent::Invited { dialog, .. }
            | SipEvent::Canceled { dialog, .. }
            | SipEvent::Confirmed { dialog, .. }
            | SipEvent::AckMissing { dialog }
            | SipEvent::Ringing { dialog, .. }
            | SipEvent::Answered { dialog, .. }
            | SipEvent::Failed { dialog, .. }
            | SipEvent::Ended { dialog, .. }
            | SipEvent::Refer { dialog, .. }
            | SipEvent::Info { dialog, .. }
            | SipEvent::Reinvited { dialog, .. }
            | SipEvent::ReofferFailed { dialog, .. }
            | SipEvent::Lost { dialog, .. } => *dialog,
        }
    }
}

/// Who hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The other side.
    Them,
    /// We did.
    Us,
}

/// A call as its INVITE describes it. Everything in it was written by a stranger.
#[derive(Clone, Debug)]
pub struct Invite {
    /// The From header: who they say they are.
    pub from: Caller,
    /// The To header: whom they meant to call, before any forwarding.
    pub to: Caller,
    /// The caller asked not to be known: `Privacy` other than `none` (RFC 3323), or an anonymous From.
    pub anonymous: bool,
    /// The request line's URI.
    pub request_uri: String,
    /// Its user part, unescaped: the number that was called. Empty when there is none.
    pub called_user: String,
    /// Where the request came from, as the socket saw it.
    pub source: SocketAddr,
    /// How it came.
    pub transport: Transport,
    /// The trunk it is of, as the guard recognised it; `None` where everybody is let in.
    pub trunk: Option<String>,
    /// How many more hops it may take (RFC 3261 §20.22).
    pub max_forwards: u8,
    /// The host names that the peer proved with its TLS certificate; empty when it showed none.
    pub tls_names: Vec<String>,
    /// It wants to take the place of a call that is up (RFC 3891): which, or the status that refuses it.
    pub replaces: Option<Result<DialogId, u16>>,
    /// Call-ID, for logs and traces.
    pub call_id: String,
    /// The headers that do not steer SIP itself, in order, at most [`crate::model::limits::SIP_HEADERS_MAX`] of them.
    pub headers: Vec<(String, Pii<String>)>,
    /// Their description. `None` when they want ours first.
    pub sdp: Option<Vec<u8>>,
    /// The session interval that they ask for, when they know session timers (RFC 4028).
    pub expires: Option<Duration>,
}

impl Invite {
    /// The status with which these rules refuse the call (422), if they do. [`SipCommand::Adopt`] the rules first, so
    /// that the refusal can name what would do.
    pub fn objection(&self, rules: &SessionRules) -> Option<u16> {
        self.expires.is_some_and(|expires| expires < rules.expires_min).then_some(422)
    }
}

/// What the other side wants of a referral, or says of ours.
#[derive(Clone, Debug)]
pub enum ReferNews {
    /// They want us to call somebody; [`ReferOrder::Take`] it or [`ReferOrder::Refuse`] it.
    Asked(Box<Refer>),
    /// They do what we asked.
    Accepted,
    /// They said how it goes: a provisional status.
    Progress(u16),
    /// They do not do it; `None` when they did not even answer.
    Refused(Option<u16>),
    /// They did it, and this is how it ended; `None` when they did not say.
    Ended(Option<u16>),
}

/// A REFER (RFC 3515). Everything in it was written by a stranger.
#[derive(Clone, Debug)]
pub struct Refer {
    /// Whom to call.
    pub to: Pii<Address>,
    /// The call that the new one is to take the place of.
    pub replaces: Option<Replaces>,
    /// Who refers, as it wants to be shown to the new party.
    pub referred_by: Option<Pii<String>>,
    /// Further headers for the INVITE, of those that may be chosen by a stranger.
    pub headers: Vec<(String, Pii<String>)>,
}

/// A dialog as its other side names it (RFC 3891).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Its Call-ID.
    pub call_id: String,
    /// The tag of whoever gets the INVITE.
    pub to_tag: String,
    /// The tag of the one who is to be replaced.
    pub from_tag: String,
    /// Only while it rings.
    pub early_only: bool,
    /// The dialog here that it names, if it is one of ours that is answered.
    pub dialog: Option<DialogId>,
}

/// What becomes of a referral.
#[derive(Clone, Debug)]
pub enum ReferOrder {
    /// Theirs is carried out: 202.
    Take,
    /// Theirs is not.
    Refuse {
        /// 400 to 699.
        status: u16,
    },
    /// Whom they named rings.
    Rings,
    /// Theirs has ended like this; the last of it.
    Ended {
        /// 200 to 699.
        status: u16,
    },
    /// They shall call somebody.
    Send {
        /// The value of Refer-To. Ignored when somebody is to be replaced.
        to: String,
        /// A dialog of ours in which they shall take our place.
        replacing: Option<DialogId>,
    },
}

/// Somebody's name and address in a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The URI as written.
    pub uri: Pii<String>,
    /// Its user part, unescaped; the number in a `tel:` URI. Empty when there is none.
    pub user: Pii<String>,
    /// The name beside it; empty when there is none. Latin-1 names are read as such.
    pub display: Pii<String>,
}

/// What to do with a dialog. A command that no longer fits is dropped: what made it late is on its way as an event.
#[derive(Clone, Debug)]
pub enum SipCommand {
    /// What is agreed with the trunk of an inbound call; before anything else is said on it.
    Adopt(Box<Terms>),
    /// Tells an inbound caller that it rings (180).
    Ring,
    /// Tells an inbound caller how it goes on (183 and its like). With a description it is early media: what is sent
    /// from then on can be heard before the answer, which then has to bear the same description.
    Progress {
        /// 101 to 199; anything else becomes 183.
        status: u16,
        /// Our description.
        sdp: Option<String>,
    },
    /// Offers another description in the middle of a dialog. It is told as [`SipEvent::Reinvited`] with `offer`, or as
    /// [`SipEvent::ReofferFailed`]. Session and version of the text are made to follow what was said before.
    Reoffer {
        /// Our description.
        sdp: String,
    },
    /// Answers an inbound call (200).
    Answer {
        /// Our description: the answer to theirs, or an offer when they had none.
        sdp: String,
    },
    /// Refuses an inbound call.
    Reject {
        /// 300 to 699; anything else becomes 500.
        status: u16,
        /// The words beside it; the usual ones when `None`.
        reason: Option<String>,
        /// `Retry-After`, in seconds.
        retry_after_s: Option<u32>,
        /// A sentence for whoever reads the other side's log, as `Warning: 399`.
        warning: Option<String>,
    },
    /// Places a call. The id comes from [`super::Sip::new_dialog`].
    Dial(Box<Dial>),
    /// Something about a referral on an answered dialog.
    Refer(ReferOrder),
    /// Ends the dialog in whatever way fits: CANCEL, BYE, or 480.
    HangUp {
        /// Q.850 cause to tell them (RFC 3326).
        cause: Option<u8>,
    },
}

/// What is agreed on an inbound call.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Session timer and reliable provisional answers.
    pub rules: SessionRules,
    /// What we can speak, so that a later offer may choose another codec than the first answer.
    pub codecs: Vec<Codec>,
    /// Our description, for a provisional answer that has to bear one (RFC 3262 §5); the first answer, unless
    /// [`SipCommand::Answer`] comes earlier.
    pub sdp: Option<String>,
    /// Who we are when a request of ours within the dialog is challenged.
    pub credentials: Option<Login>,
}

/// A call to place.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    /// Whom, as a SIP URI; `;transport=tcp` is heeded.
    pub to: String,
    /// User part of our From; may be empty.
    pub from_user: Pii<String>,
    /// Name in our From; may be empty.
    pub from_display: Pii<String>,
    /// Host part of our From. Our own address when `None`.
    pub from_host: Option<String>,
    /// Our offer.
    pub sdp: String,
    /// Further headers. Those that steer SIP itself are left out.
    pub headers: Vec<(String, Pii<String>)>,
    /// A call that came in and is passed on: the user part that was called before. It becomes the topmost Diversion
    /// (RFC 5806 §3).
    pub diverted_from: Option<Pii<String>>,
    /// How many hops it may take; the usual 70 when `None`. A call that is passed on has one less than it came with
    /// (RFC 7332 §4).
    pub max_forwards: Option<u8>,
    /// The referral that it carries out: who refers, and whose place is to be taken.
    pub referred: Option<Box<Refer>>,
    /// Where to send it instead of where the URI leads: an outbound proxy.
    pub target: Option<(SocketAddr, Transport)>,
    /// What is agreed with the trunk on dialogs.
    pub rules: SessionRules,
    /// Routes that the INVITE begins with, as a registrar gave them (RFC 3608 §6.1); the first is where it goes.
    pub route: Vec<String>,
    /// Who we are when challenged, now or later in the dialog.
    pub credentials: Option<Login>,
    /// How long the other side may keep silent, not even saying 100; then [`Failure::Silent`]. `None`: 64·T1.
    pub silence: Option<Duration>,
}

/// Why a call that we placed came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// They said no, or a redirection that we do not follow.
    Refused {
        /// 300 to 699.
        status: u16,
        /// The words beside it.
        reason: String,
        /// `Retry-After`, in seconds.
        retry_after_s: Option<u32>,
        /// Q.850 cause, when one was given.
        cause: Option<u8>,
        /// Where to try instead, when they redirect us (3xx): the first Contact.
        contact: Option<Pii<String>>,
    },
    /// They asked for a proof that we cannot give.
    Unauthorized {
        /// Why not.
        denial: Denial,
        /// The protection domain that asked; empty when it has no name.
        realm: String,
    },
    /// Nobody answered at all within 64·T1.
    Timeout,
    /// Nobody said a word within [`Dial::silence`]. Should an answer come all the same, it is hung up.
    Silent,
    /// It could not be sent: connection refused, no route.
    Transport,
    /// The name has no address.
    Unresolved,
    /// The URI, a header or our own description cannot be put into a message.
    BadRequest,
    /// It was answered without a description, so there is nothing to talk over. It has been hung up.
    NoSdp,
}

/// Why a challenge is not answered (RFC 3261 §22). Each says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// Nobody told us who we are.
    NoLogin,
    /// The proof was not accepted.
    WrongLogin,
    /// Another protection domain asked than the one that the password is for.
    OtherRealm,
    /// No scheme, algorithm or quality of protection that we speak.
    Unsupported,
    /// Challenge upon challenge.
    Endless,
}

impl Denial {
    /// The name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Denial::NoLogin => "no_login",
            Denial::WrongLogin => "wrong_login",
            Denial::OtherRealm => "other_realm",
            Denial::Unsupported => "unsupported",
            Denial::Endless => "endless",
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denial::NoLogin => "no login is configured; add one, or have our address allowed there",
            Denial::WrongLogin => "user name or password is wrong; correct the login",
            Denial::OtherRealm => "the login is for another realm; correct its `realm`, or leave it out",
            Denial::Unsupported => {
                "it asks for no Digest with MD5, SHA-256 or SHA-512-256 and qop=auth; have it offer one"
            }
            Denial::Endless => "it never stops asking; have the other side looked at",
        })
    }
}

impl Failure {
    /// Whether another way to the same callee may do better: nobody was reached, so nobody said no.
    ///
    /// A server that is overloaded or broken (500, 502, 503, 504) counts so only while nothing rang (`rang`: a 18x came),
    /// for a second INVITE would ring the callee again. What the callee or its network decided (4xx, 6xx) stands.
    pub fn is_worth_another_way(&self, rang: bool) -> bool {
        match self {
            Failure::Refused { status, .. } => !rang && matches!(status, 500 | 502 | 503 | 504),
            Failure::Timeout | Failure::Silent | Failure::Transport | Failure::Unresolved => !rang,
            // The next one would get the same words, or the same password.
            Failure::Unauthorized { .. } | Failure::BadRequest | Failure::NoSdp => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused { status, .. } => write!(f, "refused with {status}"),
            Failure::Unauthorized { denial, realm } => write!(f, "challenged for realm {realm:?}: {denial}"),
            Failure::Timeout => f.write_str("nobody answered the INVITE"),
            Failure::Silent => f.write_str("not a word came in time"),
            Failure::Transport => f.write_str("the INVITE could not be sent"),
            Failure::Unresolved => f.write_str("the host name has no address"),
            Failure::BadRequest => f.write_str("the call cannot be written as a SIP request"),
            Failure::NoSdp => f.write_str("the answer carried no session description"),
        }
    }
}
