//! Whether one more call is taken.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// Counts calls by the second.
#[derive(Debug)]
pub(super) struct Admission {
    second: Instant,
    taken: u32,
    pub(super) draining: bool,
}

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Draining,
    TooMany,
    TooFast,
    Late,
}

impl Refusal {
    pub(super) fn label(self) -> &'static str {
        match self {
            Refusal::Draining => "draining",
            Refusal::TooMany => "max_calls",
            Refusal::TooFast => "max_calls_per_second",
            Refusal::Late => "media_late",
        }
    }

    /// When to try again, in seconds.
    pub(super) fn retry_after_s(self) -> u32 {
        match self {
            Refusal::TooFast => 1,
            Refusal::Draining | Refusal::TooMany | Refusal::Late => 5,
        }
    }
}

impl Admission {
    pub(super) fn new(now: Instant) -> Admission {
        Admission { second: now, taken: 0, draining: false }
    }

    /// Takes a call, or says why not. Work is judged by how late the media workers are, not by processor time: that is
    /// what a caller would hear.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        up: usize,
        lateness: Duration,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.taken = 0;
        }
        let too_many = usize::try_from(limits.max_calls).is_ok_and(|most| up >= most);
        match () {
            () if self.draining => Err(Refusal::Draining),
            () if too_many => Err(Refusal::TooMany),
            () if self.taken >= limits.max_calls_per_second => Err(Refusal::TooFast),
            () if lateness > LATENESS_MAX => Err(Refusal::Late),
            () => {
                self.taken += 1;
                Ok(())
            }
        }
    }
}

/// Beyond this the 20 ms grid is visibly missed and everybody's audio suffers.
const LATENESS_MAX: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_the_limits_are_refused_with_the_reason() {
        let limits = Limits { max_calls: 10, max_calls_per_second: 2 };
        let now = Instant::now();
        let mut admission = Admission::new(now);
        let mut admit = |up, after_ms, late_ms| {
            admission.admit(now + Duration::from_millis(after_ms), up, Duration::from_millis(late_ms), &limits)
        };

        assert_eq!(admit(10, 0, 0), Err(Refusal::TooMany));
        assert_eq!(admit(0, 0, 50), Err(Refusal::Late));
        assert_eq!(admit(0, 0, 0), Ok(()));
        assert_eq!(admit(1, 10, 0), Ok(()));
        assert_eq!(admit(2, 20, 0), Err(Refusal::TooFast));
        assert_eq!(admit(2, 1_000, 0), Ok(()));
    }
}
