//! Time as a call sees it.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since the call began. Strictly increasing from event to event; the gateway's clock sees to that.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    /// The moment the call began.
    pub const ZERO: Time = Time(0);

    /// Whole milliseconds since the call began, rounded down.
    pub fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The moment `ms` milliseconds after the call began.
    pub fn from_ms(ms: u64) -> Time {
        Time(ms.saturating_mul(1_000_000))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    // Saturating: 584 years into a call nothing is due any more.
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// How long ago `earlier` was; zero when it is not earlier.
    fn sub(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.as_ms() / 1000, self.as_ms() % 1000)
    }
}
