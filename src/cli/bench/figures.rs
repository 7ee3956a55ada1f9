//! What was measured: times in steps of 20 µs, and the object that is printed.

use std::time::Duration;

use serde::Serialize;

/// How often each time was seen. It takes as much room for a million as for one.
#[derive(Clone, Debug)]
pub(super) struct Times {
    steps: Vec<u32>,
    count: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times { steps: vec![0; STEPS], count: 0 }
    }
}

impl Times {
    /// Longer ones count as the longest that is told apart, 2 s.
    pub(super) fn add(&mut self, time: Duration) {
        let step = usize::try_from(time.as_nanos() / STEP.as_nanos()).unwrap_or(STEPS).min(STEPS - 1);
        self.steps[step] += 1;
        self.count += 1;
    }

    /// Median and 99th percentile; `None` when nothing was seen.
    pub(super) fn spread(&self) -> Option<Spread> {
        (self.count > 0).then(|| Spread { p50: self.percentile(50), p99: self.percentile(99) })
    }

    /// By nearest rank, in milliseconds: the upper edge of the step, so that nothing looks shorter than it was.
    fn percentile(&self, percent: u64) -> f64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut below = 0;
        let at = self.steps.iter().position(|count| {
            below += u64::from(*count);
            below >= rank
        });
        let steps = u32::try_from(at.unwrap_or(STEPS) + 1).unwrap_or(u32::MAX);
        rounded((STEP * steps).as_secs_f64() * 1000.0, 2)
    }
}

/// Median and 99th percentile, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    p50: f64,
    p99: f64,
}

/// The result.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) profile: &'static str,
    /// Calls asked for.
    pub(super) calls: usize,
    /// Of these: not answered, ended too early, or not heard.
    pub(super) failed: usize,
    /// How long was measured.
    pub(super) seconds: u64,
    /// Of one core, the gateway's whole process.
    pub(super) cpu_percent_per_call: f64,
    /// From the caller's RTP to the agent's socket; in a relay to the callee's RTP.
    pub(super) ingress_ms: Option<Spread>,
    /// From the agent's socket to the caller's RTP; in a relay from the callee's RTP.
    pub(super) egress_ms: Option<Spread>,
    /// How far packets to the caller are from their call's own 20 ms grid.
    pub(super) grid_ms: Option<Spread>,
    /// From the agent's `clear` to the last sound that still came.
    pub(super) clear_ms: Option<Spread>,
    /// Resident memory that the calls brought.
    pub(super) rss_kib_per_call: f64,
    /// Packets from the gateway that were expected and never came, in percent.
    pub(super) lost_percent: f64,
    /// Gateway and load had processors of their own.
    pub(super) pinned: bool,
}

impl Figures {
    /// Lines for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let spread = |name: &str, spread: Option<Spread>| {
            let value =
                spread.map_or("not measured".to_owned(), |it| format!("{:.2} ms, p99 {:.2} ms", it.p50, it.p99));
            format!("{name:<28} {value}")
        };
        vec![
            format!("{:<28} {} of {}, {} failed", self.profile, self.calls - self.failed, self.calls, self.failed),
            format!("{:<28} {:.3} % of a core", "processor per call", self.cpu_percent_per_call),
            spread("caller to agent", self.ingress_ms),
            spread("agent to caller", self.egress_ms),
            spread("off the 20 ms grid", self.grid_ms),
            spread("silent after clear", self.clear_ms),
            format!("{:<28} {:.0} KiB", "memory per call", self.rss_kib_per_call),
            format!("{:<28} {:.3} %", "packets missing", self.lost_percent),
        ]
    }
}

/// For people: not more digits than were measured.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

const STEP: Duration = Duration::from_micros(20);
/// 2 s.
const STEPS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks_and_never_too_good() {
        let mut times = Times::default();
        assert_eq!(times.spread(), None);
        for ms in 1..=100 {
            times.add(Duration::from_millis(ms));
        }
        times.add(Duration::from_secs(60));

        assert_eq!(times.spread(), Some(Spread { p50: 51.02, p99: 100.02 }));
        assert_eq!(times.percentile(100), 2000.0);
    }
}
