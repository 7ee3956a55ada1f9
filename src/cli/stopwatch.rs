//! The stopwatch of those who stand outside and measure: the test phone and the demonstration.

use std::time::Duration;

use tokio::time::Instant;

/// Now.
pub(super) fn now() -> Instant {
    Instant::now()
}

/// How long ago something was.
pub(super) fn since(then: Instant) -> Duration {
    then.elapsed()
}

/// Whole milliseconds, rounded down.
pub(super) fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
