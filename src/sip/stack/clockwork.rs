//! All timers of the stack, in one ordered map.

use std::collections::BTreeMap;
use std::time::Duration;

use sipx_sip::TransactionKey;
use sipx_sip::transaction::Timer;
use tokio::time::Instant;

use super::errands::ErrandId;

/// What is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    /// A timer of RFC 3261 §17 of a transaction of ours.
    Asked(TransactionKey, Timer),
    /// The same of one of theirs.
    Served(TransactionKey, Timer),
    /// A request that the dialogs never answered is given up, so that nothing is kept for ever.
    Abandon(TransactionKey),
    /// The first target has been silent for so long that the next one is tried.
    Silence(ErrandId),
    /// A listener that could not accept tries again.
    Listen(usize),
    /// Addresses that we found for ourselves are forgotten: routes change.
    Routes,
}

/// When something is due, and which of the things that are due then.
pub(super) type Ring = (Instant, u64);

#[derive(Debug, Default)]
pub(super) struct Clockwork {
    due: BTreeMap<Ring, Alarm>,
    last: u64,
}

impl Clockwork {
    pub(super) fn set(&mut self, now: Instant, after: Duration, alarm: Alarm) -> Ring {
        self.last += 1;
        let ring = (now + after, self.last);
        self.due.insert(ring, alarm);
        ring
    }

    pub(super) fn clear(&mut self, ring: Option<Ring>) {
        ring.map(|ring| self.due.remove(&ring));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    /// Takes one thing that is due, the oldest first.
    pub(super) fn take(&mut self, now: Instant) -> Option<Alarm> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_order_and_what_was_cleared_does_not() {
        let mut clockwork = Clockwork::default();
        let now = Instant::now();
        clockwork.set(now, Duration::from_secs(2), Alarm::Listen(2));
        let gone = clockwork.set(now, Duration::from_secs(1), Alarm::Listen(9));
        clockwork.set(now, Duration::from_secs(1), Alarm::Listen(1));
        clockwork.clear(Some(gone));

        assert_eq!(clockwork.take(now), None);
        assert_eq!(clockwork.take(now + Duration::from_secs(3)), Some(Alarm::Listen(1)));
        assert_eq!(clockwork.take(now + Duration::from_secs(3)), Some(Alarm::Listen(2)));
        assert_eq!(clockwork.next(), None);
    }
}
