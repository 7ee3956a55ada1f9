//! Which gateways of a trunk are alive, by their answers to OPTIONS and by what becomes of calls.
//!
//! A gateway is down after [`MISSES_MAX`] questions in a row without a sign of life, and up again after one. A call that
//! fails on it makes it suspect: it is asked at once, and others come first meanwhile. Start at [`Pulse`]; [`order`] says
//! which gateway a call tries first.

use std::time::Duration;

use crate::model::{Time, limits};

/// What is known of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Not asked yet, or never asked; counts as up.
    #[default]
    Unknown,
    /// It answered.
    Up,
    /// It failed a call, or missed a question; the next answer decides.
    Suspect,
    /// It keeps silent.
    Down,
}

impl Standing {
    /// The name for people and machines.
    pub fn label(self) -> &'static str {
        match self {
            Standing::Unknown => "unknown",
            Standing::Up => "up",
            Standing::Suspect => "suspect",
            Standing::Down => "down",
        }
    }
}

/// What came of a question, or of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It said something that a living gateway says. To OPTIONS that is any final answer but 408 and 503: also a refusal
    /// or a challenge proves that somebody is there.
    Alive,
    /// It said that it cannot serve now (503).
    Busy {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// Nothing came, or a proxy said that nothing comes (408), or it could not be sent.
    Silent,
}

/// The last answer, for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Time,
    /// What it means.
    pub sign: Sign,
    /// In words: `200 OK`, or why there was none.
    pub words: String,
    /// From question to answer.
    pub round_trip: Option<Duration>,
}

/// One gateway.
#[derive(Clone, Debug)]
pub struct Pulse {
    every: Option<Duration>,
    standing: Standing,
    since: Time,
    misses: u32,
    /// When it is asked next; `None` while a question is out, or for ever.
    due: Option<Time>,
    /// It asked to be left alone until then; other gateways come first.
    rests_until: Time,
    last: Option<Heard>,
}

impl Pulse {
    /// A gateway that is asked this often, first within `spread`. `chance` is any number, here and below.
    pub fn new(now: Time, every: Option<Duration>, spread: Duration, chance: u64) -> Pulse {
        let due = every.map(|_| now + share(spread, chance));
        Pulse { every, standing: Standing::Unknown, since: now, misses: 0, due, rests_until: Time::ZERO, last: None }
    }

    /// When it is to be asked.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    #[allow(missing_docs)]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Since when it stands like this.
    pub fn since(&self) -> Time {
        self.since
    }

    /// The last answer to a question.
    pub fn last(&self) -> Option<&Heard> {
        self.last.as_ref()
    }

    /// The question goes out.
    pub fn asked(&mut self) {
        self.due = None;
    }

    /// What became of the question. Tells what it stands like before and after, when that changed.
    pub fn heard(&mut self, heard: Heard, chance: u64) -> Option<(Standing, Standing)> {
        let (now, sign) = (heard.at, heard.sign);
        self.last = Some(heard);
        let change = self.take(now, sign);
        self.due = self.every.map(|every| self.next(now, every, chance));
        change
    }

    /// What became of a call on it. Another failure than these is the callee's, and says that the gateway lives.
    pub fn called(&mut self, now: Time, sign: Sign) -> Option<(Standing, Standing)> {
        match sign {
            Sign::Alive => self.take(now, sign),
            Sign::Busy { .. } | Sign::Silent => {
                self.rest(now, sign);
                if self.every.is_none() {
                    // Nobody asks how it is, so it must not lose its place for ever; but the next calls need not wait.
                    self.rests_until = self.rests_until.max(now + limits::GATEWAY_REST);
                    return None;
                }
                // While a question is out its answer decides; otherwise it is asked now.
                if let Some(due) = &mut self.due {
                    *due = now.min(*due);
                }
                match self.standing {
                    Standing::Up | Standing::Unknown => self.stand(now, Standing::Suspect),
                    Standing::Suspect | Standing::Down => None,
                }
            }
        }
    }

    fn take(&mut self, now: Time, sign: Sign) -> Option<(Standing, Standing)> {
        match sign {
            Sign::Alive => {
                self.misses = 0;
                self.rests_until = Time::ZERO;
                self.stand(now, Standing::Up)
            }
            Sign::Busy { .. } | Sign::Silent => {
                self.misses = self.misses.saturating_add(1);
                self.rest(now, sign);
                self.stand(now, if self.misses >= MISSES_MAX { Standing::Down } else { Standing::Suspect })
            }
        }
    }

    fn rest(&mut self, now: Time, sign: Sign) {
        if let Sign::Busy { retry_after: Some(time) } = sign {
            // RFC 3261 §21.5.4: nothing should be sent there meanwhile.
            self.rests_until = now + time.min(limits::GATEWAY_REST_MAX);
        }
    }

    fn stand(&mut self, now: Time, standing: Standing) -> Option<(Standing, Standing)> {
        let before = std::mem::replace(&mut self.standing, standing);
        if before == standing {
            return None;
        }
        self.since = now;
        Some((before, standing))
    }

    /// The next question: regularly while all is well, soon after the first misses, and ever later once it is down. The
    /// fifth that chance takes off keeps thousands of gateways from being asked in step.
    fn next(&self, now: Time, every: Duration, chance: u64) -> Time {
        let wait = match self.misses {
            0 => every,
            1..MISSES_MAX => every.min(limits::GATEWAY_SECOND_LOOK),
            misses => {
                let doubled = every.saturating_mul(1 << (misses - MISSES_MAX).min(10));
                doubled.min(limits::GATEWAY_PROBE_MAX.max(every))
            }
        };
        (now + (wait - share(wait / 5, chance))).max(self.rests_until)
    }

    /// Better ones first.
    fn rank(&self, now: Time) -> u8 {
        match self.standing {
            Standing::Down => 3,
            _ if now < self.rests_until => 2,
            Standing::Suspect => 1,
            Standing::Up | Standing::Unknown => 0,
        }
    }
}

/// The order in which a call tries gateways: as configured, but those that are thought dead or busy come last. They are
/// tried all the same: whoever is thought dead may be alive again, and a caller has nothing to lose.
pub fn order(pulses: &[Pulse], now: Time) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pulses.len()).collect();
    order.sort_by_key(|at| pulses.get(*at).map(|pulse| pulse.rank(now)));
    order
}

/// A part of a time, evenly by chance.
pub(super) fn share(of: Duration, chance: u64) -> Duration {
    let whole = u64::try_from(of.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(if whole == 0 { 0 } else { chance % whole })
}

/// Questions in a row without a sign of life until a gateway is down: one may be lost, two hardly ever are.
pub const MISSES_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gateway_is_down_after_three_misses_and_up_after_one_answer() {
        let mut pulse = asked_every(30);

        let changes: Vec<_> = (0..4).map(|n| pulse.heard(heard(100 + n, Sign::Silent), 0)).collect();

        assert_eq!(changes[0], Some((Standing::Unknown, Standing::Suspect)));
        assert_eq!(changes[1], None);
        assert_eq!(changes[2], Some((Standing::Suspect, Standing::Down)));
        assert_eq!(changes[3], None);
        assert_eq!(pulse.since(), s(102));
        assert_eq!(pulse.heard(heard(200, Sign::Alive), 0), Some((Standing::Down, Standing::Up)));
    }

    #[test]
    fn questions_come_sooner_after_a_miss_and_later_when_it_is_down() {
        let mut pulse = asked_every(30);
        let mut wait = |sign| {
            pulse.asked();
            assert_eq!(pulse.due(), None);
            pulse.heard(heard(1000, sign), 0);
            (pulse.due().unwrap() - s(1000)).as_secs()
        };

        assert_eq!(wait(Sign::Alive), 30);
        assert_eq!([wait(Sign::Silent), wait(Sign::Silent)], [2, 2]);
        assert_eq!([(); 4].map(|()| wait(Sign::Silent)), [30, 60, 120, 120]);
        assert_eq!(wait(Sign::Alive), 30);
    }

    #[test]
    fn a_failed_call_makes_it_suspect_and_asks_at_once() {
        let mut pulse = asked_every(30);
        pulse.heard(heard(100, Sign::Alive), 0);

        let change = pulse.called(s(105), Sign::Silent);

        assert_eq!(change, Some((Standing::Up, Standing::Suspect)));
        assert_eq!(pulse.due(), Some(s(105)));
        pulse.asked();
        pulse.called(s(106), Sign::Silent);
        assert_eq!(pulse.due(), None, "one question is out already");
        assert_eq!(pulse.heard(heard(107, Sign::Alive), 0), Some((Standing::Suspect, Standing::Up)));
    }

    #[test]
    fn calls_try_the_first_that_lives_and_the_dead_at_last() {
        let mut pulses = vec![asked_every(30), asked_every(30), asked_every(30), asked_every(30)];
        for n in 0..3 {
            pulses[0].heard(heard(n, Sign::Silent), 0);
        }
        pulses[1].called(s(5), Sign::Busy { retry_after: Some(Duration::from_secs(60)) });
        pulses[2].called(s(5), Sign::Silent);

        assert_eq!(order(&pulses, s(10)), [3, 2, 1, 0]);
        pulses[1].heard(heard(20, Sign::Alive), 0);
        assert_eq!(order(&pulses, s(20)), [1, 3, 2, 0]);
        assert_eq!(order(&vec![pulses[0].clone(); 3], s(20)), [0, 1, 2], "all down: as configured");
    }

    #[test]
    fn a_gateway_that_wants_rest_is_not_asked_meanwhile() {
        let mut pulse = asked_every(30);

        pulse.heard(heard(100, Sign::Busy { retry_after: Some(Duration::from_secs(90)) }), 7);
        let rested = pulse.due();
        pulse.heard(heard(200, Sign::Busy { retry_after: Some(Duration::from_secs(1 << 40)) }), 7);

        assert_eq!(rested, Some(s(190)));
        assert_eq!(pulse.due(), Some(s(200) + limits::GATEWAY_REST_MAX));
    }

    #[test]
    fn a_gateway_that_is_never_asked_rests_a_little_after_a_failed_call() {
        let mut pulse = Pulse::new(s(0), None, Duration::ZERO, 0);

        assert_eq!(pulse.called(s(100), Sign::Silent), None);

        assert_eq!((pulse.due(), pulse.standing()), (None, Standing::Unknown));
        let pulses = [pulse, Pulse::new(s(0), None, Duration::ZERO, 0)];
        assert_eq!(order(&pulses, s(101)), [1, 0]);
        assert_eq!(order(&pulses, s(100) + limits::GATEWAY_REST), [0, 1]);
    }

    proptest! {
        #[test]
        fn whatever_happens_it_is_asked_again_in_time(every in 1..3600_u64, steps in proptest::collection::vec((0..5_u8, any::<u64>(), 1..600_u64), 1..100)) {
            let every = Duration::from_secs(every);
            let mut pulse = Pulse::new(s(0), Some(every), every, 0);
            let mut now = s(0);
            for (what, chance, wait) in steps {
                now = now + Duration::from_secs(wait);
                let sign = match what % 3 {
                    0 => Sign::Alive,
                    1 => Sign::Silent,
                    _ => Sign::Busy { retry_after: Some(Duration::from_secs(chance % 10_000)) },
                };
                if what < 3 {
                    pulse.heard(Heard { at: now, sign, words: String::new(), round_trip: None }, chance);
                } else {
                    pulse.called(now, sign);
                }
                let due = pulse.due().expect("it is asked for ever");
                let longest = every.max(limits::GATEWAY_PROBE_MAX).max(limits::GATEWAY_REST_MAX);
                prop_assert!(due <= now + longest);
                prop_assert_eq!(pulse.standing() == Standing::Down, pulse.misses >= MISSES_MAX);
            }
        }
    }

    fn asked_every(secs: u64) -> Pulse {
        Pulse::new(s(0), Some(Duration::from_secs(secs)), Duration::ZERO, 0)
    }

    fn heard(at: u64, sign: Sign) -> Heard {
        Heard { at: s(at), sign, words: String::new(), round_trip: None }
    }

    fn s(secs: u64) -> Time {
        Time::from_ms(secs * 1000)
    }
}
