//! Being registered: when to ask which registrar for how long, and what to make of the answer (RFC 3261 §10.2).
//!
//! A binding is renewed in the last tenth of its life, but so early that one lost attempt and one other registrar still
//! fit in. One registrar is kept until it fails; then the next is asked at once, and when all have failed we wait ever
//! longer (RFC 5626 §4.5). Start at [`Registrar`].

use std::time::Duration;

use super::gateways::share;
use crate::model::{Time, limits};

/// What a registrar answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// We are bound.
    Granted {
        /// For how long.
        expires: Duration,
        /// Routes for our calls (RFC 3608); empty when it gave none.
        service_route: Vec<String>,
    },
    /// We asked for too short a time (423).
    TooBrief {
        /// The shortest it takes.
        least: Duration,
    },
    /// It will not have us: a wrong password, an unknown address. Another registrar knows no better.
    Denied,
    /// It cannot serve now.
    Refused {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Nothing came, or it could not be sent.
    Silent,
}

/// A REGISTER to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Which registrar, by its place.
    pub registrar: usize,
    /// For how long; zero takes the binding away.
    pub expires: Duration,
}

/// One address of record.
#[derive(Clone, Debug)]
pub struct Registrar {
    registrars: usize,
    at: usize,
    /// What we ask for.
    wanted: Duration,
    /// A 423 has been followed in this attempt.
    is_raised: bool,
    /// Registrars that failed in this round.
    tried: usize,
    /// Rounds in a row in which all failed.
    failures: u32,
    due: Option<Time>,
    bound: Option<Bound>,
    /// Since when we are bound, or not.
    since: Time,
    is_leaving: bool,
}

#[derive(Clone, Debug)]
struct Bound {
    until: Time,
    registrar: usize,
    service_route: Vec<String>,
}

/// What changed with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// We are bound, and were not.
    Registered,
    /// We are bound no more.
    Lost,
}

impl Registrar {
    /// Asks one of so many registrars for this long, first within `spread`.
    pub fn new(now: Time, registrars: usize, wanted: Duration, spread: Duration, chance: u64) -> Registrar {
        Registrar {
            registrars: registrars.max(1),
            at: 0,
            wanted,
            is_raised: false,
            tried: 0,
            failures: 0,
            due: Some(now + share(spread, chance)),
            bound: None,
            since: now,
            is_leaving: false,
        }
    }

    /// When the next REGISTER is to be sent; `None` while one is out.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Until when we are bound; `None` when we are not.
    pub fn bound_until(&self, now: Time) -> Option<Time> {
        self.bound.as_ref().map(|bound| bound.until).filter(|until| now < *until)
    }

    /// Since when we are bound, or not.
    pub fn since(&self) -> Time {
        self.since
    }

    /// The registrar that has us, or that is asked next, by its place.
    pub fn registrar(&self) -> usize {
        self.bound.as_ref().map_or(self.at, |bound| bound.registrar)
    }

    /// Rounds in a row in which every registrar failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Routes for calls, while we are bound.
    pub fn service_route(&self, now: Time) -> &[String] {
        match &self.bound {
            Some(bound) if now < bound.until => &bound.service_route,
            _ => &[],
        }
    }

    /// The REGISTER that is due goes out.
    pub fn ask(&mut self) -> Ask {
        self.due = None;
        Ask { registrar: self.at, expires: self.wanted }
    }

    /// Nobody answers where we are bound: the binding is renewed now instead of later.
    pub fn hurry(&mut self, now: Time) {
        if let Some(due) = &mut self.due {
            *due = now.min(*due);
        }
    }

    /// We are closing: nothing is asked any more but, if we are bound, that the binding be taken away.
    pub fn leave(&mut self, now: Time) -> Option<Ask> {
        self.is_leaving = true;
        self.due = None;
        let bound = self.bound.take().filter(|bound| now < bound.until)?;
        Some(Ask { registrar: bound.registrar, expires: Duration::ZERO })
    }

    /// What became of the REGISTER.
    pub fn answered(&mut self, now: Time, answer: Answer, chance: u64) -> Option<Change> {
        if self.is_leaving {
            return None;
        }
        let lapsed = self.lapse(now);
        let change = match answer {
            Answer::Granted { expires, service_route } if !expires.is_zero() => {
                let until = now + expires;
                let was_bound = self.bound.replace(Bound { until, registrar: self.at, service_route }).is_some();
                (self.is_raised, self.tried, self.failures) = (false, 0, 0);
                self.due = Some(now + refresh_after(expires, chance));
                (!was_bound).then_some(Change::Registered)
            }
            Answer::TooBrief { least } if !self.is_raised && least > self.wanted && least <= EXPIRES_MAX => {
                self.is_raised = true;
                self.wanted = least;
                self.due = Some(now);
                None
            }
            // The password will not be better in a second, and providers lock out whoever insists.
            Answer::Denied => self.fail(now, limits::REGISTER_PAUSE_DENIED, None, chance),
            Answer::Refused { retry_after } => self.next(now, retry_after, chance),
            Answer::Silent | Answer::Granted { .. } | Answer::TooBrief { .. } => self.next(now, None, chance),
        };
        if change.is_some() {
            self.since = now;
        }
        // A binding that came and went between two answers has gone all the same.
        change.or(lapsed)
    }

    fn lapse(&mut self, now: Time) -> Option<Change> {
        let until = self.bound.as_ref().map(|bound| bound.until).filter(|until| *until <= now)?;
        self.bound = None;
        self.since = until;
        Some(Change::Lost)
    }

    /// The next registrar now, or a pause when all have failed.
    fn next(&mut self, now: Time, retry_after: Option<Duration>, chance: u64) -> Option<Change> {
        self.tried += 1;
        self.at = (self.at + 1) % self.registrars;
        if self.tried < self.registrars {
            self.is_raised = false;
            self.due = Some(now);
            return None;
        }
        self.fail(now, limits::REGISTER_PAUSE_MIN, retry_after, chance)
    }

    fn fail(&mut self, now: Time, base: Duration, retry_after: Option<Duration>, chance: u64) -> Option<Change> {
        (self.tried, self.is_raised) = (0, false);
        let longest = base.saturating_mul(1 << self.failures.min(16)).min(limits::REGISTER_PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        let pause = longest - share(longest / 2, chance);
        let wished = retry_after.unwrap_or_default().min(limits::GATEWAY_REST_MAX);
        self.due = Some(now + pause.max(wished));
        None
    }
}

/// When a binding is renewed: at nine tenths of its life, but 40 s before its end, for an attempt takes up to 32 s to
/// fail; at half of it when it is that short. Chance takes off up to a tenth, so that many do not come at once.
fn refresh_after(granted: Duration, chance: u64) -> Duration {
    let guard = (granted / 10).max(Duration::from_secs(40)).min(granted / 2);
    let latest = granted - guard;
    (latest - share(latest / 10, chance)).max(limits::REGISTER_REFRESH_MIN)
}

/// RFC 3261 §10.2.1.1 sets no bound; nobody needs more than a day, and 423 must not make us ask for a year.
const EXPIRES_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_binding_is_renewed_before_it_ends() {
        let mut registrar = bound(3600);
        assert_eq!(registrar.due(), Some(s(3240)), "a tenth before the end");
        assert_eq!(registrar.bound_until(s(3599)), Some(s(3600)));
        assert_eq!(registrar.bound_until(s(3600)), None);

        registrar.ask();
        let change = registrar.answered(s(3241), granted(60), 0);

        assert_eq!(change, None, "it was bound before");
        assert_eq!(registrar.due(), Some(s(3271)), "half of a minute");
    }

    #[test]
    fn a_way_that_is_dead_is_not_waited_for() {
        let mut registrar = bound(3600);

        registrar.hurry(s(100));
        assert_eq!(registrar.due(), Some(s(100)));
        registrar.ask();
        registrar.hurry(s(101));

        assert_eq!(registrar.due(), None, "one is out already");
    }

    #[test]
    fn the_next_registrar_is_asked_at_once_and_kept() {
        let mut registrar = Registrar::new(s(0), 2, Duration::from_secs(600), Duration::ZERO, 0);
        assert_eq!(registrar.ask().registrar, 0);

        registrar.answered(s(32), Answer::Silent, 0);
        assert_eq!(registrar.due(), Some(s(32)));
        assert_eq!(registrar.ask().registrar, 1);
        assert_eq!(registrar.answered(s(33), granted(600), 0), Some(Change::Registered));

        assert_eq!((registrar.ask().registrar, registrar.registrar()), (1, 1));
    }

    #[test]
    fn pauses_grow_and_end_with_the_first_success() {
        let mut registrar = Registrar::new(s(0), 1, Duration::from_secs(600), Duration::ZERO, 0);
        let mut pause = |answer| {
            registrar.ask();
            registrar.answered(s(100), answer, 0);
            (registrar.due().unwrap() - s(100)).as_secs()
        };

        let silent: Vec<u64> = (0..12).map(|_| pause(Answer::Silent)).collect();
        assert_eq!(silent, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(pause(Answer::Refused { retry_after: Some(Duration::from_secs(900)) }), 900);
        pause(granted(600));
        assert_eq!(pause(Answer::Silent), 1);
        pause(granted(600));
        assert_eq!([pause(Answer::Denied), pause(Answer::Denied)], [30, 60], "a wrong password locks nobody out");
    }

    #[test]
    fn a_time_that_is_too_short_is_raised_once() {
        let mut registrar = Registrar::new(s(0), 1, Duration::from_secs(60), Duration::ZERO, 0);
        registrar.ask();

        registrar.answered(s(1), Answer::TooBrief { least: Duration::from_secs(300) }, 0);
        assert_eq!((registrar.due(), registrar.ask().expires.as_secs()), (Some(s(1)), 300));
        registrar.answered(s(2), Answer::TooBrief { least: Duration::from_secs(900) }, 0);

        assert_eq!(registrar.due(), Some(s(3)), "whoever raises twice has failed");
        registrar.ask();
        registrar.answered(s(4), Answer::TooBrief { least: Duration::from_secs(1 << 40) }, 0);
        assert_eq!(registrar.ask().expires.as_secs(), 300, "nobody makes us ask for years");
    }

    #[test]
    fn a_binding_that_could_not_be_renewed_ends() {
        let mut registrar = bound(100);
        registrar.ask();

        assert_eq!(registrar.answered(s(99), Answer::Silent, 0), None);
        assert_eq!(registrar.service_route(s(99)), ["sip:core.example;lr"]);
        assert_eq!(registrar.answered(s(101), Answer::Silent, 0), Some(Change::Lost));

        assert_eq!(registrar.since(), s(100));
        assert!(registrar.service_route(s(101)).is_empty());
    }

    #[test]
    fn whoever_leaves_takes_the_binding_away_once() {
        let mut registrar = bound(100);

        assert_eq!(registrar.leave(s(5)), Some(Ask { registrar: 0, expires: Duration::ZERO }));
        assert_eq!(registrar.leave(s(5)), None);
        registrar.answered(s(6), granted(100), 0);

        assert_eq!((registrar.due(), registrar.bound_until(s(6))), (None, None));
        let mut never = Registrar::new(s(0), 1, Duration::from_secs(60), Duration::ZERO, 0);
        assert_eq!(never.leave(s(1)), None);
    }

    proptest! {
        #[test]
        fn it_never_stops_asking_and_never_hurries(answers in proptest::collection::vec((0..6_u8, any::<u64>(), 0..5000_u64), 1..200), registrars in 1..4_usize) {
            let mut registrar = Registrar::new(s(0), registrars, Duration::from_secs(600), Duration::ZERO, 0);
            let mut now = s(0);
            let mut at_once = 0;
            for (what, chance, secs) in answers {
                let due = registrar.due().expect("it is asked for ever");
                at_once = if due <= now { at_once + 1 } else { 0 };
                // Each registrar of a round, and each of them once more after a 423.
                prop_assert!(at_once <= 2 * registrars + 1);
                prop_assert!(due <= now + EXPIRES_MAX);
                now = now.max(due);
                let ask = registrar.ask();
                prop_assert!(ask.registrar < registrars && !ask.expires.is_zero());
                let time = Duration::from_secs(secs);
                let answer = match what {
                    0 => Answer::Granted { expires: time, service_route: Vec::new() },
                    1 => Answer::TooBrief { least: time },
                    2 => Answer::Denied,
                    3 => Answer::Refused { retry_after: Some(time) },
                    _ => Answer::Silent,
                };
                registrar.answered(now, answer, chance);
            }
        }
    }

    fn bound(secs: u64) -> Registrar {
        let mut registrar = Registrar::new(s(0), 1, Duration::from_secs(secs), Duration::ZERO, 0);
        registrar.ask();
        assert_eq!(registrar.answered(s(0), granted(secs), 0), Some(Change::Registered));
        registrar
    }

    fn granted(secs: u64) -> Answer {
        Answer::Granted { expires: Duration::from_secs(secs), service_route: vec!["sip:core.example;lr".to_owned()] }
    }

    fn s(secs: u64) -> Time {
        Time::from_ms(secs * 1000)
    }
}
