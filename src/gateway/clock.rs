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
