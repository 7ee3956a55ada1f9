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
    /// Transactions alive now, of both directions. None is left 64·T1 after its last message.
    pub transactions: u64,
    /// Connections alive now, whoever opened them.
    pub connections: u64,
    /// Connections that were not let in: too many, or from a source that is shut out.
    pub connections_refused: u64,
    /// Connections on which TLS or WebSocket could not be agreed on, whoever opened them.
    pub handshakes_failed: u64,
    /// Datagrams of sources that are shut out.
    pub sources_refused: u64,
    /// Requests that belonged to nothing, by what the guard thought of them.
    pub judged: BTreeMap<&'static str, u64>,
    /// Requests within dialogs that came from where the dialog's other side is not.
    pub misplaced: u64,
    /// Sources that the guard remembers.
    pub sources_known: u64,
}

/// Where it is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) stray_responses: AtomicU64,
    pub(super) send_failures: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) sources_refused: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) misplaced: AtomicU64,
    transactions: AtomicU64,
    connections: AtomicU64,
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

    pub(super) fn add_some(counter: &AtomicU64, some: usize) {
        counter.fetch_add(some as u64, Ordering::Relaxed);
    }

    pub(super) fn gauge_network(&self, transactions: usize, connections: usize) {
        self.transactions.store(transactions as u64, Ordering::Relaxed);
        self.connections.store(connections as u64, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, status: u16) {
        let mut refused = self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *refused.entry(status).or_default() += 1;
    }

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
            requests: read(&self.requests),
            garbage: read(&self.garbage),
            repeated: read(&self.repeated),
            stray_responses: read(&self.stray_responses),
            send_failures: read(&self.send_failures),
            transactions: read(&self.transactions),
            connections: read(&self.connections),
            connections_refused: read(&self.connections_refused),
            sources_refused: read(&self.sources_refused),
            handshakes_failed: read(&self.handshakes_failed),
            misplaced: read(&self.misplaced),
            ..SipCounters::default()
        }
    }
}
