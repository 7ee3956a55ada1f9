//! When to try again.

use std::time::Duration;

/// Pauses between attempts. When they are used up, it is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    pauses: Vec<Duration>,
    /// Each pause is longer by a random part of this percentage, so that a receiver that comes back is not met by
    /// everything at once.
    jitter_percent: u32,
}

impl Schedule {
    /// Webhooks, as Standard Webhooks 1.0.0 suggests: 5 s, 5 min, 30 min, 2, 5, 10, 14, 20 and 24 h; ten attempts in
    /// about three days.
    pub fn webhooks() -> Schedule {
        const HOUR: u64 = 3600;
        let seconds = [5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
        Schedule { pauses: seconds.into_iter().map(Duration::from_secs).collect(), jitter_percent: 10 }
    }

    /// Steps after a call: 5 s, 30 s, 2 min. Whoever waits for a result does so today.
    pub fn steps() -> Schedule {
        Schedule { pauses: [5, 30, 120].into_iter().map(Duration::from_secs).collect(), jitter_percent: 20 }
    }

    /// Exactly these pauses.
    pub fn exact(pauses: impl IntoIterator<Item = Duration>) -> Schedule {
        Schedule { pauses: pauses.into_iter().collect(), jitter_percent: 0 }
    }

    /// How long to wait after this attempt failed, counted from 1; `None`: it was the last.
    pub(crate) fn pause_after(&self, attempt: u32) -> Option<Duration> {
        let pause = *self.pauses.get(usize::try_from(attempt.checked_sub(1)?).ok()?)?;
        // Without randomness everything comes at once, which is no reason to fail.
        let share = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        Some(pause.mul_f64(1.0 + share * f64::from(self.jitter_percent) / 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_tried_ten_times_in_about_three_days() {
        let schedule = Schedule::webhooks();

        let pauses: Vec<Duration> = (1..).map_while(|attempt| schedule.pause_after(attempt)).collect();

        assert_eq!(pauses.len(), 9);
        assert!((5.0..=5.5).contains(&pauses[0].as_secs_f64()));
        let hours = pauses.iter().sum::<Duration>().as_secs_f64() / 3600.0;
        assert!((75.0..=84.0).contains(&hours), "{hours} h");
        assert_eq!(schedule.pause_after(0), None);
    }
}
