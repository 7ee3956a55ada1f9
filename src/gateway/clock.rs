//! The clock of the house. Nobody else reads one, but the media workers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::model::Time;

/// Milliseconds since 1970, by the wall clock.
#[allow(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Now, for counting calls by the second.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Lets some time go by, for a store that is busy.
pub(super) async fn pause(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

/// The time of the house: since it opened. Trunks live by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HouseClock {
    began: Instant,
    began_unix_ms: i64,
}

impl HouseClock {
    pub(super) fn start() -> HouseClock {
        HouseClock { began: Instant::now(), began_unix_ms: unix_ms() }
    }

    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// When a time of the house comes.
    pub(super) fn instant(&self, at: Time) -> Instant {
        // Beyond what the system can count, a day from now is as good as never.
        let after = Duration::from_nanos(at.0);
        self.began.checked_add(after).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }

    /// The same in milliseconds since 1970.
    pub(super) fn unix_ms(&self, at: Time) -> i64 {
        self.began_unix_ms.saturating_add(i64::try_from(at.as_ms()).unwrap_or(i64::MAX))
    }
}

/// The time of one call: strictly increasing, from zero.
#[derive(Debug)]
pub(super) struct CallClock {
    began: Instant,
    last: Time,
}

impl CallClock {
    pub(super) fn start() -> CallClock {
        CallClock { began: Instant::now(), last: Time::ZERO }
    }

    /// Now, later than ever before.
    pub(super) fn now(&mut self) -> Time {
        let elapsed = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last = Time(elapsed.max(self.last.0 + 1));
        self.last
    }

    /// When a time of this call comes.
    pub(super) fn instant(&self, at: Time) -> Instant {
        self.began + Duration::from_nanos(at.0)
    }
}
