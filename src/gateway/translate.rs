//! Between SIP's language and the call's. Nobody else speaks both.

use crate::call::{Cause, Event, Invitation, ReferNews};
use crate::media::{PIPED, RtpPeer};
use crate::model::{Codec, LegId, OpusTerms, Pii, Verification};
use crate::sip::{self, By, Failure, Invite, Loss, SipEvent};
use crate::trunk::{Arrival, ReferSend, Shown, Trunk};
use crate::webrtc::{Claims, Settled};

use super::arms::Came;
use super::keys;
use super::mailbox::Post;

/// What a dialog's event means to the call it belongs to; `None` for what a call need not know.
pub(super) fn post(leg: LegId, event: SipEvent) -> Option<Post> {
    let event = match event {
        SipEvent::Canceled { elsewhere: true, .. } => Event::HungUp { leg, cause: Cause::AnsweredElsewhere },
        SipEvent::Canceled { elsewhere: false, .. } => Event::HungUp { leg, cause: Cause::Canceled },
        SipEvent::AckMissing { .. } => Event::HungUp { leg, cause: Cause::NotAcknowledged },
        SipEvent::Ringing { sdp: Some(sdp), .. } => return Some(Post::Early { leg, sdp }),
        SipEvent::Ringing { sdp: None, .. } => Event::LegRinging { leg },
        SipEvent::Info { content_type, body, .. } => {
            return keys::in_info(&content_type, body.reveal()).map(|digit| Post::Key { leg, digit });
        }
        SipEvent::Ended { by: By::Them, cause, .. } => Event::HungUp { leg, cause: Cause::of_goodbye(cause) },
        SipEvent::Failed { failure, .. } => return Some(Post::NotPlaced { leg, failure }),
        SipEvent::Answered { sdp, .. } => return Some(Post::Answered { leg, sdp }),
        SipEvent::Confirmed { sdp: Some(sdp), .. } => {
            return Some(Post::Described { leg, sdp, answer: None, offer: None });
        }
        SipEvent::Confirmed { sdp: None, .. } => return Some(Post::Acknowledged { leg }),
        SipEvent::Reinvited { sdp: Some(sdp), answer, offer, .. } => {
            return Some(Post::Described { leg, sdp, answer, offer });
        }
        SipEvent::Lost { loss: Loss::Expired | Loss::Unanswered, .. } => Event::HungUp { leg, cause: Cause::Timeout },
        SipEvent::Lost { loss: Loss::Unknown, .. } => Event::HungUp { leg, cause: Cause::ServerFailure },
        SipEvent::Refer { news: sip::ReferNews::Asked(refer), .. } => return Some(Post::Referred { leg, refer }),
        SipEvent::Refer { news, .. } => Event::ReferNews { leg, news: refer_news(&news)? },
        // Our own BYE, a refresh.
        SipEvent::Reinvited { sdp: None, .. }
        | SipEvent::ReofferFailed { .. }
        | SipEvent::Ended { by: By::Us, .. }
        | SipEvent::Invited { .. } => return None,
    };
    Some(Post::Event(event))
}

/// What the other side says of a referral of ours.
fn refer_news(news: &sip::ReferNews) -> Option<ReferNews> {
    Some(match news {
        sip::ReferNews::Asked(_) => return None,
        sip::ReferNews::Accepted => ReferNews::Accepted,
        sip::ReferNews::Progress(_) => ReferNews::Ringing,
        sip::ReferNews::Refused(status) => ReferNews::Refused(status.map_or(Cause::Timeout, Cause::from_status)),
        sip::ReferNews::Ended(status) => match status.map_or(Cause::ServerFailure, Cause::from_status) {
            Cause::Normal => ReferNews::Done,
            cause => ReferNews::Failed(cause),
        },
    })
}

/// What it means to a call that an INVITE of ours came to nothing.
pub(super) fn cause(failure: &Failure) -> Cause {
    match failure {
        Failure::Refused { status, .. } => Cause::from_status(*status),
        Failure::Timeout | Failure::Silent => Cause::Timeout,
        // Neither the caller nor the callee can do anything about our password.
        Failure::Transport | Failure::Unresolved | Failure::Unauthorized { .. } => Cause::ServerFailure,
        Failure::BadRequest => Cause::NotFound,
        Failure::NoSdp => Cause::NoMedia,
    }
}

/// What an INVITE shows, in the words of the trunk room.
pub(super) fn shows(invite: &Invite) -> Shown<'_> {
    Shown {
        called: &invite.called_user,
        from_user: invite.from.user.reveal(),
        from_display: invite.from.display.reveal(),
        from_uri: invite.from.uri.reveal(),
        headers: &invite.headers,
    }
}

/// The call's view of an INVITE that came by a trunk.
pub(super) fn invitation(
    arrival: Arrival,
    trunk: &Trunk,
    codec: Option<Codec>,
    identity: Option<Verification>,
) -> Invitation {
    Invitation {
        caller: arrival.caller,
        called: arrival.called,
        trunk: trunk.id.clone(),
        headers: arrival.variables,
        codec,
        refer_first: trunk.transfer.sends == ReferSend::First,
        identity,
    }
}

/// The call's view of a browser that calls. It cannot be referred to others.
pub(super) fn browser_invitation(arrival: Arrival, trunk: &Trunk, settled: &Settled) -> Invitation {
    Invitation { refer_first: false, ..invitation(arrival, trunk, Some(settled.codec), None) }
}

/// What a browser shows, in the words of the trunk room.
pub(super) fn browser_shows<'a>(called: &'a str, claims: &'a Claims) -> Shown<'a> {
    let word = |claim: &'a Option<Pii<String>>| claim.as_ref().map_or("", |claim| claim.reveal());
    let (from_user, from_display) = (word(&claims.sub), word(&claims.name));
    // A caller of whom nothing is known is as one who hides.
    let from_user = if from_user.is_empty() && from_display.is_empty() { "anonymous" } else { from_user };
    Shown { called, from_user, from_display, from_uri: "", headers: &[] }
}

/// What a browser's answer means to the media worker.
pub(super) fn browser_media(settled: &Settled) -> RtpPeer {
    RtpPeer {
        dtmf_out: settled.dtmf,
        dtmf_in: settled.dtmf,
        dtmf_clock: settled.codec.clock(),
        opus: OpusTerms { fec: true, ..OpusTerms::default() },
        is_held: !settled.listens,
        ..RtpPeer::new(settled.codec, settled.payload_type, PIPED)
    }
}

/// When it may be tried again, when they said so.
pub(super) fn retry_after_s(failure: &Failure) -> Option<u32> {
    match failure {
        Failure::Refused { retry_after_s, .. } => *retry_after_s,
        // Whoever says nothing says nothing of later either.
        _ => None,
    }
}

/// What a call that is passed on keeps of how it came.
pub(super) fn came(invite: &Invite) -> Came {
    let all = |wanted: &str| {
        let found = invite.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.clone()).collect()
    };
    Came { max_forwards: invite.max_forwards, diversions: all("diversion"), history: all("history-info") }
}
