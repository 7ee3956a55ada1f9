//! What is counted at the door and on the wire.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since birth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SipCounters {
    /// Requests that arrived and could be read, repetitions included.
    pub requests: u64,
    /// Datagrams and streams that were no SIP at all, or too large to read.
    pub garbage: u64,
    /// Requests answered by the front door, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Requests not worth an answer: broken ACKs, ACKs of nothing.
    pub dropped: u64,
    /// Copies of an INVITE that came by another way (482).
    pub merged: u64,
    /// INVITEs refused because we were busy with others (503), by us or by the stack.
    pub shed: u64,
    /// 2xx sent again because no ACK came.
    pub answers_repeated: u64,
    /// Other messages sent again by transactions.
    pub repeated: u64,
    /// Answers that belong to no request of ours.
    pub stray_responses: u64,
    /// Messages that could not be sent.
    pub send_failures: u64,
    /// Dialogs alive now.
    pub dialogs: u64,
}

/// The part of it that we count ourselves.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) dropped: AtomicU64,
    pub(super) merged: AtomicU64,
    pub(super) shed: AtomicU64,
    pub(super) answers_repeated: AtomicU64,
    pub(super) dialogs: AtomicU64,
    refused: Mutex<BTreeMap<u16, u64>>,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, status: u16) {
        let mut refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *refused.entry(status).or_default() += 1;
    }

    /// Our own part; the rest stays zero.
    pub(super) fn snapshot(&self) -> SipCounters {
        let refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SipCounters {
            refused,
            dropped: read(&self.dropped),
            merged: read(&self.merged),
            shed: read(&self.shed),
            answers_repeated: read(&self.answers_repeated),
            dialogs: read(&self.dialogs),
            ..SipCounters::default()
        }
    }
}
