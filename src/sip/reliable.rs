//! Provisional answers that arrive for certain (RFC 3262), as the one who gives them and the one who gets them.

use std::collections::VecDeque;
use std::time::Duration;

use sipx_sip::rel::{MAX_FIRST_RSEQ, Numbering, OPTION_TAG, Offered, RAck, RSeq};
use sipx_sip::{HeaderName, Request, Response, TransactionKey};

use super::config::SipTimers;
use super::dialog::{Out, Timer};
use super::message;
use super::session::Dice;
use crate::trunk::Reliable;

/// The provisional answers of one INVITE that came in.
#[derive(Debug)]
pub(super) struct Chain {
    peer: Offered,
    policy: Reliable,
    numbers: Numbering,
    unacked: Option<Unacked>,
    /// Told by the gateway, waiting for the PRACK of the one before.
    waiting: VecDeque<(u16, Option<String>)>,
}

#[derive(Debug)]
struct Unacked {
    response: Response,
    /// Until the next repetition.
    interval: Duration,
}

impl Chain {
    pub(super) fn new(invite: &Request, dice: &mut Dice) -> Chain {
        let first = u32::try_from(1 + dice.below(u64::from(MAX_FIRST_RSEQ / 2))).unwrap_or(1);
        Chain {
            peer: Offered::in_request(invite),
            policy: Reliable::default(),
            numbers: Numbering::starting_at(first),
            unacked: None,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn set_policy(&mut self, policy: Reliable) {
        self.policy = policy;
    }

    /// Whether a provisional answer has to, or shall, arrive for certain. RFC 3262 §3: all do when the caller requires it.
    pub(super) fn is_reliable(&self, has_sdp: bool) -> bool {
        self.peer.required || (self.peer.supported && has_sdp && self.policy != Reliable::Off)
    }

    /// Whether one is out that has not been acknowledged.
    pub(super) fn is_waiting(&self) -> bool {
        self.unacked.is_some()
    }

    /// Whether a 2xx has to wait. By RFC 3262 §3 only a description before it must have arrived; but a PRACK that crosses
    /// the 2xx meets callers who take the two answers for the wrong requests, and waiting costs one round trip.
    pub(super) fn holds_answer(&self) -> bool {
        self.is_waiting()
    }

    /// Keeps what the gateway wants said until the one before has arrived. When there are too many, the oldest is stale.
    pub(super) fn queue(&mut self, status: u16, sdp: Option<String>) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((status, sdp));
    }

    pub(super) fn next(&mut self) -> Option<(u16, Option<String>)> {
        if self.unacked.is_some() { None } else { self.waiting.pop_front() }
    }

    /// Numbers a provisional answer, sends it, and repeats it until its PRACK comes.
    pub(super) fn send(
        &mut self,
        key: &TransactionKey,
        mut response: Response,
        timers: &SipTimers,
        out: &mut Vec<Out>,
    ) {
        let Some(number) = self.numbers.allocate() else { return };
        message::put(&mut response.headers, HeaderName::Require, OPTION_TAG);
        message::put(&mut response.headers, HeaderName::RSeq, number.to_string());
        out.push(Out::Respond(key.clone(), response.clone()));
        out.extend([Out::Arm(Timer::Chase, timers.t1), Out::Arm(Timer::ChaseEnd, timers.patience())]);
        self.unacked = Some(Unacked { response, interval: timers.t1 });
    }

    /// RFC 3262 §3: repeated after T1, 2·T1, 4·T1 and so on, without an upper bound but the end.
    pub(super) fn repeat(&mut self, key: &TransactionKey, out: &mut Vec<Out>) {
        if let Some(unacked) = &mut self.unacked {
            out.push(Out::Respond(key.clone(), unacked.response.clone()));
            unacked.interval = unacked.interval.saturating_mul(2);
            out.push(Out::Arm(Timer::Chase, unacked.interval));
        }
    }

    /// Whether this PRACK is for the answer that waits for it; it waits no longer then.
    pub(super) fn acknowledge(&mut self, prack: &Request, invite: &Request, out: &mut Vec<Out>) -> bool {
        let Some(Ok(ack)) = prack.headers.typed::<RAck>() else { return false };
        let is_ours = self.numbers.acknowledge(&ack, message::cseq(&invite.headers).unwrap_or(0), b"INVITE");
        if is_ours {
            self.stop(out);
        }
        is_ours
    }

    /// A final answer goes out: nothing is repeated any more.
    pub(super) fn stop(&mut self, out: &mut Vec<Out>) {
        if self.unacked.take().is_some() {
            out.extend([Out::Disarm(Timer::Chase), Out::Disarm(Timer::ChaseEnd)]);
        }
    }
}

/// The number of a provisional answer that wants a PRACK.
pub(super) fn rseq(response: &Response) -> Option<u32> {
    let is_reliable = message::names_option(&response.headers, &HeaderName::Require, OPTION_TAG);
    let number = response.headers.typed::<RSeq>()?.ok()?;
    is_reliable.then_some(number.0)
}

/// More than a gateway has to say while a caller waits.
const WAITING_MAX: usize = 4;
