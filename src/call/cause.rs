//! Why something ended: one table of SIP status, Q.850, metric label, and who is to blame.

use serde::{Deserialize, Serialize};

use crate::actions::Failure;

/// Why a leg or a call ended. Each cause has one row in the table below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody hung up a talk that was going on.
    Normal,
    /// The caller gave up while it rang.
    Canceled,
    /// On another call.
    Busy,
    /// Rang and was not taken.
    NoAnswer,
    /// Refused by a person or a policy.
    Declined,
    /// Somebody we take no calls from.
    Forbidden,
    /// No such number.
    NotFound,
    /// Known, and not reachable now.
    Unavailable,
    /// A server or its network failed.
    ServerFailure,
    /// Nobody answered our request at all.
    Timeout,
    /// No common codec, or a media description that cannot be met.
    NoMedia,
    /// The request made no sense.
    BadRequest,
    /// Too much work; later it may be possible.
    Overload,
    /// Our answer was never acknowledged.
    NotAcknowledged,
    /// The agent's connection failed or was lost.
    AgentLost,
    /// The call reached its longest duration.
    TooLong,
    /// Another leg took the call's place.
    Replaced,
    /// We broke.
    Internal,
    /// Our own rules forbid to dial it: toll fraud, a quota, a loop.
    NotAllowed,
    /// A signed identity is wanted, and there is none.
    NoIdentity,
    /// The certificate of a signed identity cannot be had.
    NoCertificate,
    /// The certificate of a signed identity is not good for it.
    BadCertificate,
    /// A signed identity is not about this call, or does not hold.
    BadIdentity,
    /// A signed identity is too old.
    StaleIdentity,
    /// The caller's side took the call back because somebody else answered it: not a missed call.
    AnsweredElsewhere,
}

/// Who is to blame for an ending, or simply who ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The one who called.
    Caller,
    /// The one who was called.
    Callee,
    /// The networks between.
    Carrier,
    /// The voice agent or its vendor.
    Agent,
    /// This gateway.
    Us,
}

struct Row {
    cause: Cause,
    /// What we answer or send when this is our reason (RFC 3261 §21).
    status: u16,
    /// ITU-T Q.850 §2.2.7, for the Reason header (RFC 3326).
    q850: u8,
    label: &'static str,
    blame: Blame,
}

const fn row(cause: Cause, status: u16, q850: u8, label: &'static str, blame: Blame) -> Row {
    Row { cause, status, q850, label, blame }
}

// In the order of the enum, which a test holds it to.
const TABLE: [Row; 25] = [
    row(Cause::Normal, 200, 16, "normal", Blame::Caller),
    row(Cause::Canceled, 487, 16, "canceled", Blame::Caller),
    row(Cause::Busy, 486, 17, "busy", Blame::Callee),
    row(Cause::NoAnswer, 480, 19, "no_answer", Blame::Callee),
    row(Cause::Declined, 603, 21, "declined", Blame::Callee),
    row(Cause::Forbidden, 403, 21, "forbidden", Blame::Caller),
    row(Cause::NotFound, 404, 1, "not_found", Blame::Caller),
    row(Cause::Unavailable, 480, 20, "unavailable", Blame::Callee),
    row(Cause::ServerFailure, 500, 41, "server_failure", Blame::Carrier),
    row(Cause::Timeout, 408, 102, "timeout", Blame::Carrier),
    row(Cause::NoMedia, 488, 65, "no_media", Blame::Carrier),
    row(Cause::BadRequest, 400, 96, "bad_request", Blame::Carrier),
    row(Cause::Overload, 503, 42, "overload", Blame::Us),
    row(Cause::NotAcknowledged, 408, 102, "not_acknowledged", Blame::Carrier),
    row(Cause::AgentLost, 480, 41, "agent_lost", Blame::Agent),
    row(Cause::TooLong, 480, 16, "too_long", Blame::Us),
    row(Cause::Replaced, 200, 16, "replaced", Blame::Us),
    row(Cause::Internal, 500, 41, "internal", Blame::Us),
    row(Cause::NotAllowed, 403, 21, "not_allowed", Blame::Us),
    // RFC 8224 §6.2.2.
    row(Cause::NoIdentity, 428, 21, "no_identity", Blame::Carrier),
    row(Cause::NoCertificate, 436, 21, "no_certificate", Blame::Carrier),
    row(Cause::BadCertificate, 437, 21, "bad_certificate", Blame::Carrier),
    row(Cause::BadIdentity, 438, 21, "bad_identity", Blame::Carrier),
    row(Cause::StaleIdentity, 403, 21, "stale_identity", Blame::Carrier),
    // Q.850 has had 26 for it since 2018: non-selected user clearing.
    row(Cause::AnsweredElsewhere, 487, 26, "answered_elsewhere", Blame::Caller),
];

impl Cause {
    fn row(self) -> &'static Row {
        let row = &TABLE[self as usize];
        debug_assert_eq!(row.cause, self, "the table is in the order of the enum");
        row
    }

    /// The SIP status with which we refuse a call for this reason.
    pub fn status(self) -> u16 {
        self.row().status
    }

    /// The Q.850 cause we put into the Reason header of a BYE or CANCEL.
    pub fn q850(self) -> u8 {
        self.row().q850
    }

    /// The name in records and metrics.
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// Whose doing it is when nothing more is known.
    pub fn blame(self) -> Blame {
        self.row().blame
    }

    /// What a SIP final response to our INVITE means.
    pub fn from_status(status: u16) -> Cause {
        match status {
            200..300 => Cause::Normal,
            486 | 600 => Cause::Busy,
            480 => Cause::NoAnswer,
            408 => Cause::Timeout,
            404 | 410 | 484 | 485 | 604 => Cause::NotFound,
            403 => Cause::Forbidden,
            401 | 407 | 603 | 607 | 608 => Cause::Declined,
            487 => Cause::Canceled,
            428 => Cause::NoIdentity,
            436 => Cause::NoCertificate,
            437 => Cause::BadCertificate,
            438 => Cause::BadIdentity,
            415 | 488 | 606 => Cause::NoMedia,
            503 => Cause::Overload,
            400..500 => Cause::BadRequest,
            _ => Cause::ServerFailure,
        }
    }

    /// What a goodbye means that gives this Q.850 cause (RFC 3326): a network that broke down under a talk says so.
    pub fn of_goodbye(q850: Option<u8>) -> Cause {
        match q850 {
            // Destination out of order, no circuit, network out of order, temporary failure, congestion, channel or
            // resource not available, recovery on timer expiry, protocol error.
            Some(27 | 34 | 38 | 41 | 42 | 44 | 47 | 102 | 111) => Cause::ServerFailure,
            _ => Cause::Normal,
        }
    }

    /// Whether the caller's side took the call back while it rang.
    pub fn is_canceled(self) -> bool {
        matches!(self, Cause::Canceled | Cause::AnsweredElsewhere)
    }

    /// The cause of a route's refusal, for the record.
    pub fn of_refusal(status: u16) -> Cause {
        match status {
            480 => Cause::Unavailable,
            other => Cause::from_status(other),
        }
    }

    /// What a caller is told whose call was passed on and ended like this before it was answered. A callee that merely
    /// left, or says that we gave up, has told nothing of the caller.
    pub fn passed_on(self) -> Cause {
        match self {
            Cause::Normal | Cause::Canceled | Cause::AnsweredElsewhere | Cause::Replaced => Cause::Unavailable,
            other => other,
        }
    }

    /// The transfer's name for a target that ended like this (rule R12 of the feature table).
    pub fn as_failure(self) -> Failure {
        match self {
            Cause::Busy => Failure::Busy,
            Cause::NoAnswer | Cause::Unavailable | Cause::Canceled | Cause::AnsweredElsewhere | Cause::TooLong => {
                Failure::NoAnswer
            }
            Cause::Declined | Cause::Forbidden | Cause::NotAllowed => Failure::Declined,
            Cause::NotFound => Failure::InvalidNumber,
            Cause::NoMedia => Failure::MediaError,
            Cause::Normal
            | Cause::ServerFailure
            | Cause::Timeout
            | Cause::BadRequest
            | Cause::Overload
            | Cause::NotAcknowledged
            | Cause::AgentLost
            | Cause::Replaced
            | Cause::Internal
            | Cause::NoIdentity
            | Cause::NoCertificate
            | Cause::BadCertificate
            | Cause::BadIdentity
            | Cause::StaleIdentity => Failure::Unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_finds_its_own_row() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.cause as usize, at, "{:?}", row.cause);
        }
    }

    #[test]
    fn a_goodbye_of_a_network_is_no_persons_goodbye() {
        assert_eq!(Cause::of_goodbye(None), Cause::Normal);
        assert_eq!(Cause::of_goodbye(Some(16)), Cause::Normal);
        assert_eq!(Cause::of_goodbye(Some(38)), Cause::ServerFailure);
        assert_eq!(Cause::of_goodbye(Some(38)).blame(), Blame::Carrier);
    }

    #[test]
    fn statuses_that_transfers_tell_apart_stay_apart() {
        let failure = |status| Cause::from_status(status).as_failure();

        assert_eq!(failure(486), Failure::Busy);
        assert_eq!(failure(480), Failure::NoAnswer);
        assert_eq!(failure(603), Failure::Declined);
        assert_eq!(failure(404), Failure::InvalidNumber);
        assert_eq!(failure(503), Failure::Unreachable);
        assert_eq!(failure(488), Failure::MediaError);
    }
}
