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

/// Lets a thread rest that makes a load at its own pace.
#[allow(
    clippy::disallowed_methods,
    reason = "the load of the bench keeps time for others, as a caller's telephone does"
)]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Whole milliseconds, rounded down.
pub(super) fn as_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
