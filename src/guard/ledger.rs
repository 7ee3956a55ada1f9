//! How much is used of a trunk: calls at once and by the second, minutes dialled by day, calls dialled by agent and hour.
//!
//! A fraud that gets past the rules is stopped by what it costs. Kept in memory; what earlier processes of the same day
//! used is told with [`Ledger::already`].

use std::collections::{BTreeMap, VecDeque};

use super::dialling::Rule;
use crate::trunk::TrunkLimits;

/// The book of what each trunk and each agent use. Times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    trunks: BTreeMap<String, Day>,
    /// When each agent placed calls on each trunk, within the last hour, oldest first.
    agents: BTreeMap<(String, String), VecDeque<i64>>,
    running: BTreeMap<Ticket, Running>,
    /// Calls of each trunk within the second that began then.
    seconds: BTreeMap<String, (i64, u32)>,
    next: u64,
}

/// A leg that was let in or out. Give it back with [`Ledger::close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Clone, Debug, Default)]
struct Day {
    /// Days since 1970.
    day: i64,
    used_ms: i64,
}

#[derive(Clone, Debug)]
struct Running {
    trunk: String,
    answered_ms: Option<i64>,
}

impl Ledger {
    /// Lets a call in or out and counts it, unless the trunk has as many as it may.
    ///
    /// # Errors
    /// The limit.
    pub fn enter(&mut self, now_ms: i64, trunk: &str, limits: &TrunkLimits) -> Result<Ticket, Rule> {
        // There are never more of them than legs in the house; and this is asked once for each.
        let up = self.running.values().filter(|running| running.trunk == trunk).count();
        if limits.calls.is_some_and(|most| up >= usize::try_from(most).unwrap_or(usize::MAX)) {
            return Err(Rule::Calls);
        }
        let (began, count) = self.seconds.entry(trunk.to_owned()).or_default();
        if now_ms.saturating_sub(*began) >= 1_000 {
            (*began, *count) = (now_ms, 0);
        }
        if limits.calls_per_second.is_some_and(|most| *count >= most) {
            return Err(Rule::CallsPerSecond);
        }
        *count += 1;
        let ticket = Ticket(self.next);
        self.next += 1;
        self.running.insert(ticket, Running { trunk: trunk.to_owned(), answered_ms: None });
        Ok(ticket)
    }

    /// As [`Ledger::enter`], for a call that we place: unless a quota is used up. Emergency calls are not asked about.
    ///
    /// # Errors
    /// The limit or the quota.
    pub fn dial(&mut self, now_ms: i64, trunk: &str, agent: &str, limits: &TrunkLimits) -> Result<Ticket, Rule> {
        if let Some(most) = limits.minutes_per_day
            && self.used_ms(now_ms, trunk) >= i64::from(most) * 60_000
        {
            return Err(Rule::Minutes);
        }
        let by = (trunk.to_owned(), agent.to_owned());
        if let Some(most) = limits.calls_per_agent_hour {
            let placed = self.agents.entry(by.clone()).or_default();
            while placed.front().is_some_and(|at| *at <= now_ms - HOUR_MS) {
                placed.pop_front();
            }
            // The queue never holds more than the quota, so it needs no bound of its own.
            if placed.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
                return Err(Rule::AgentHour);
            }
        }
        let ticket = self.enter(now_ms, trunk, limits)?;
        if limits.calls_per_agent_hour.is_some() {
            self.agents.entry(by).or_default().push_back(now_ms);
        }
        Ok(ticket)
    }

    /// A call that we placed is answered; from now on it costs.
    pub fn answer(&mut self, now_ms: i64, ticket: Ticket) {
        if let Some(running) = self.running.get_mut(&ticket) {
            running.answered_ms.get_or_insert(now_ms);
        }
    }

    /// It is over. Its time counts for the day it ended on.
    pub fn close(&mut self, now_ms: i64, ticket: Ticket) {
        let Some(running) = self.running.remove(&ticket) else { return };
        if let Some(answered_ms) = running.answered_ms {
            self.add(now_ms, &running.trunk, now_ms.saturating_sub(answered_ms));
        }
    }

    /// What an earlier process of the same day used.
    pub fn already(&mut self, now_ms: i64, trunk: &str, used_ms: i64) {
        self.add(now_ms, trunk, used_ms);
    }

    /// What a trunk used today, calls that still run included.
    pub fn used_ms(&self, now_ms: i64, trunk: &str) -> i64 {
        let day = now_ms.div_euclid(DAY_MS);
        let over = self.trunks.get(trunk).filter(|used| used.day == day).map_or(0, |used| used.used_ms);
        let running = self.running.values().filter(|running| running.trunk == trunk);
        let since = |running: &Running| running.answered_ms.map_or(0, |at| now_ms.saturating_sub(at.max(day * DAY_MS)));
        over + running.map(since).sum::<i64>()
    }

    fn add(&mut self, now_ms: i64, trunk: &str, used_ms: i64) {
        let day = now_ms.div_euclid(DAY_MS);
        let used = self.trunks.entry(trunk.to_owned()).or_default();
        if used.day != day {
            *used = Day { day, used_ms: 0 };
        }
        used.used_ms = used.used_ms.saturating_add(used_ms.max(0).min(now_ms - day * DAY_MS));
    }
}

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_used_up_and_come_back_at_midnight() {
        let mut ledger = Ledger::default();
        let limits = TrunkLimits { minutes_per_day: Some(10), ..TrunkLimits::default() };
        let at = |minute: i64| NOON + minute * 60_000;

        let first = ledger.dial(at(0), "carrier", "desk", &limits).unwrap();
        ledger.answer(at(1), first);
        let second = ledger.dial(at(9), "carrier", "desk", &limits).unwrap();
        assert_eq!(ledger.dial(at(11), "carrier", "desk", &limits), Err(Rule::Minutes));
        ledger.close(at(11), first);
        ledger.close(at(12), second);

        assert_eq!(ledger.used_ms(at(12), "carrier"), 10 * 60_000);
        assert_eq!(ledger.dial(at(12), "carrier", "desk", &limits), Err(Rule::Minutes));
        assert!(ledger.dial(at(12), "other", "desk", &limits).is_ok());
        assert!(ledger.dial(at(12 * 60), "carrier", "desk", &limits).is_ok());
    }

    #[test]
    fn a_call_over_midnight_costs_each_day_its_own_part() {
        let mut ledger = Ledger::default();
        let midnight = NOON + 12 * HOUR_MS;
        let ticket = ledger.dial(midnight - 60_000, "carrier", "desk", &TrunkLimits::default()).unwrap();
        ledger.answer(midnight - 60_000, ticket);

        assert_eq!(ledger.used_ms(midnight + 30_000, "carrier"), 30_000);
        ledger.close(midnight + 30_000, ticket);

        assert_eq!(ledger.used_ms(midnight + 30_000, "carrier"), 30_000);
    }

    #[test]
    fn an_agent_has_so_many_calls_in_any_hour() {
        let mut ledger = Ledger::default();
        let limits = TrunkLimits { calls_per_agent_hour: Some(2), ..TrunkLimits::default() };
        let mut place =
            |agent: &str, minute: i64| ledger.dial(NOON + minute * 60_000, "carrier", agent, &limits).is_ok();

        assert!(place("desk", 0) && place("desk", 30));
        assert!(!place("desk", 59) && place("night", 59));
        assert!(place("desk", 60) && !place("desk", 61));
    }

    #[test]
    fn what_was_used_before_a_restart_counts() {
        let mut ledger = Ledger::default();
        let limits = TrunkLimits { minutes_per_day: Some(1), ..TrunkLimits::default() };

        ledger.already(NOON, "carrier", 60_000);

        assert_eq!(ledger.dial(NOON, "carrier", "desk", &limits), Err(Rule::Minutes));
    }

    #[test]
    fn a_trunk_has_so_many_calls_at_once_and_in_a_second() {
        let mut ledger = Ledger::default();
        let limits = TrunkLimits { calls: Some(2), calls_per_second: Some(2), ..TrunkLimits::default() };

        let first = ledger.enter(NOON, "carrier", &limits).unwrap();
        ledger.dial(NOON, "carrier", "desk", &limits).unwrap();
        assert_eq!(ledger.enter(NOON, "carrier", &limits), Err(Rule::Calls));
        ledger.close(NOON, first);
        assert_eq!(ledger.enter(NOON + 999, "carrier", &limits), Err(Rule::CallsPerSecond));

        assert!(ledger.enter(NOON + 1_000, "carrier", &limits).is_ok());
        assert_eq!(ledger.used_ms(NOON + 1_000, "carrier"), 0, "only answered calls that we placed cost");
    }

    const NOON: i64 = 20_000 * DAY_MS + 12 * HOUR_MS;
}
