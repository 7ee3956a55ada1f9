//! How much is used of a trunk: calls at once and by the second, minutes and money by day, calls by agent and hour.
//!
//! A fraud that gets past the rules is stopped by what it costs. [`Ledger::kept`] is what has to outlive the process.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::dialling::Rule;
use crate::trunk::{Price, TrunkLimits};

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

/// A call that somebody wants to place.
#[derive(Clone, Copy, Debug)]
pub struct Dialled<'a> {
    /// The trunk.
    pub trunk: &'a str,
    /// Whose agent; empty for none.
    pub agent: &'a str,
    /// What the trunk may use.
    pub limits: &'a TrunkLimits,
    /// What it will cost, as far as anybody said.
    pub price: Option<Price>,
}

/// What a ledger knows that a later process must know as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    trunks: BTreeMap<String, Day>,
    /// Trunk, agent, and how many calls it placed in each minute since 1970.
    agents: Vec<(String, String, BTreeMap<i64, usize>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    /// Days since 1970.
    day: i64,
    used_ms: i64,
    /// Millionths.
    spent: i64,
}

#[derive(Clone, Debug)]
struct Running {
    trunk: String,
    price: Price,
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
        self.running.insert(ticket, Running { trunk: trunk.to_owned(), price: Price::default(), answered_ms: None });
        Ok(ticket)
    }

    /// As [`Ledger::enter`], for a call that we place: unless a quota is used up. Emergency calls are not asked about.
    ///
    /// # Errors
    /// The limit or the quota.
    pub fn dial(&mut self, now_ms: i64, dialled: Dialled<'_>) -> Result<Ticket, Rule> {
        let Dialled { trunk, agent, limits, price } = dialled;
        if limits.minutes_per_day.is_some_and(|most| self.used_ms(now_ms, trunk) >= i64::from(most) * 60_000) {
            return Err(Rule::Minutes);
        }
        if let Some(most) = limits.spend_per_day {
            let price = price.ok_or(Rule::NoPrice)?;
            // As much as it costs as soon as somebody answers must be left.
            if self.spent(now_ms, trunk).saturating_add(price.of_ms(1)) > most {
                return Err(Rule::Spend);
            }
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
        if let (Some(running), Some(price)) = (self.running.get_mut(&ticket), price) {
            running.price = price;
        }
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

    /// It is over. Its time counts for each day as far as it was on it, its price for the day that it ended on.
    pub fn close(&mut self, now_ms: i64, ticket: Ticket) {
        let Some(running) = self.running.remove(&ticket) else { return };
        let Some(answered_ms) = running.answered_ms else { return };
        let up_ms = now_ms.saturating_sub(answered_ms);
        let day = now_ms.div_euclid(DAY_MS);
        let used = self.trunks.entry(running.trunk).or_default();
        if used.day != day {
            *used = Day { day, ..Day::default() };
        }
        used.used_ms = used.used_ms.saturating_add(up_ms.max(0).min(now_ms - day * DAY_MS));
        used.spent = used.spent.saturating_add(running.price.of_ms(up_ms));
    }

    /// Whether a call that we placed is up, so that what is used grows by itself.
    pub fn is_costing(&self) -> bool {
        self.running.values().any(|running| running.answered_ms.is_some())
    }

    /// What a trunk used today, calls that still run included.
    pub fn used_ms(&self, now_ms: i64, trunk: &str) -> i64 {
        let midnight = now_ms.div_euclid(DAY_MS) * DAY_MS;
        let since = |at: i64| now_ms.saturating_sub(at.max(midnight));
        self.answered(trunk).map(|(_, at)| since(at)).fold(self.today(now_ms, trunk).used_ms, i64::saturating_add)
    }

    /// What a trunk spent today, in millionths, calls that still run included.
    pub fn spent(&self, now_ms: i64, trunk: &str) -> i64 {
        let costs = self.answered(trunk).map(|(price, at)| price.of_ms(now_ms.saturating_sub(at)));
        costs.fold(self.today(now_ms, trunk).spent, i64::saturating_add)
    }

    /// Calls that run on a trunk and cost something.
    pub fn costing(&self, trunk: &str) -> Vec<Ticket> {
        let costs = |running: &Running| running.trunk == trunk && running.price != Price::default();
        let answered = self.running.iter().filter(|(_, running)| running.answered_ms.is_some() && costs(running));
        answered.map(|(ticket, _)| *ticket).collect()
    }

    /// What a later process has to know, as it will stand at this time if the calls that run go on until then. So a
    /// process that dies before it has cost too much rather than too little.
    pub fn kept(&self, until_ms: i64) -> Kept {
        let day = until_ms.div_euclid(DAY_MS);
        let mut names: Vec<&String> = self.trunks.keys().chain(self.running.values().map(|run| &run.trunk)).collect();
        names.sort_unstable();
        names.dedup();
        let of = |trunk: &str| Day { day, used_ms: self.used_ms(until_ms, trunk), spent: self.spent(until_ms, trunk) };
        let trunks = names.into_iter().map(|trunk| (trunk.clone(), of(trunk)));
        let agents = self.agents.iter().filter(|(_, placed)| !placed.is_empty()).map(|((trunk, agent), placed)| {
            let mut minutes = BTreeMap::new();
            for at in placed {
                *minutes.entry(at.div_euclid(MINUTE_MS)).or_default() += 1;
            }
            (trunk.clone(), agent.clone(), minutes)
        });
        Kept { trunks: trunks.collect(), agents: agents.collect() }
    }

    /// Goes on where an earlier process stopped. Calls count from the end of the minute in which they were placed.
    pub fn resume(&mut self, kept: Kept) {
        self.trunks = kept.trunks;
        self.agents = kept.agents.into_iter().map(resumed).collect();
    }

    fn today(&self, now_ms: i64, trunk: &str) -> Day {
        let day = now_ms.div_euclid(DAY_MS);
        self.trunks.get(trunk).filter(|used| used.day == day).copied().unwrap_or(Day { day, ..Day::default() })
    }

    fn answered(&self, trunk: &str) -> impl Iterator<Item = (Price, i64)> {
        let running = self.running.values().filter(move |running| running.trunk == trunk);
        running.filter_map(|running| Some((running.price, running.answered_ms?)))
    }
}

fn resumed((trunk, agent, minutes): (String, String, BTreeMap<i64, usize>)) -> ((String, String), VecDeque<i64>) {
    let placed = minutes.into_iter().flat_map(|(minute, count)| {
        let count = count.min(CALLS_RESUMED_MAX);
        std::iter::repeat_n(minute.saturating_add(1).saturating_mul(MINUTE_MS) - 1, count)
    });
    ((trunk, agent), placed.collect())
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The largest quota of an hour that can be configured; more in one minute was written by somebody else.
const CALLS_RESUMED_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_used_up_and_come_back_at_midnight() {
        let mut ledger = Ledger::default();
        let limits = TrunkLimits { minutes_per_day: Some(10), ..TrunkLimits::default() };
        let at = |minute: i64| NOON + minute * 60_000;

        let first = ledger.dial(at(0), by("desk", &limits)).unwrap();
        ledger.answer(at(1), first);
        let second = ledger.dial(at(9), by("desk", &limits)).unwrap();
        assert_eq!(ledger.dial(at(11), by("desk", &limits)), Err(Rule::Minutes));
        ledger.close(at(11), first);
        ledger.close(at(12), second);

        assert_eq!(ledger.used_ms(at(12), "carrier"), 10 * 60_000);
        assert_eq!(ledger.dial(at(12), by("desk", &limits)), Err(Rule::Minutes));
        assert!(ledger.dial(at(12), Dialled { trunk: "other", ..by("desk", &limits) }).is_ok());
        assert!(ledger.dial(at(12 * 60), by("desk", &limits)).is_ok());
    }

    #[test]
    fn a_call_over_midnight_costs_each_day_its_own_part() {
        let mut ledger = Ledger::default();
        let midnight = NOON + 12 * HOUR_MS;
        let ticket = ledger.dial(midnight - 60_000, by("desk", &TrunkLimits::default())).unwrap();
        ledger.answer(midnight - 60_000, ticket);

        assert_eq!(ledger.used_ms(midnight + 30_000, "carrier"), 30_000);
        ledger.close(midnight + 30_000, ticket);

        assert_eq!(ledger.used_ms(midnight + 30_000, "carrier"), 30_000);
    }

    #[test]
    fn an_agent_has_so_many_calls_in_any_hour() {
        let mut ledger = Ledger::default();
        let limits = TrunkLimits { calls_per_agent_hour: Some(2), ..TrunkLimits::default() };
        let mut place = |agent: &str, minute: i64| ledger.dial(NOON + minute * 60_000, by(agent, &limits)).is_ok();

        assert!(place("desk", 0) && place("desk", 30));
        assert!(!place("desk", 59) && place("night", 59));
        assert!(place("desk", 60) && !place("desk", 61));
    }

    #[test]
    fn what_was_used_before_a_restart_counts_and_rather_too_much() {
        let limits = TrunkLimits {
            minutes_per_day: Some(2),
            calls_per_agent_hour: Some(2),
            spend_per_day: Some(1_000_000),
            ..TrunkLimits::default()
        };
        let dialled = Dialled { price: Some(CENTS_20), ..by("desk", &limits) };
        let mut before = Ledger::default();
        let ticket = before.dial(NOON, dialled).unwrap();
        before.answer(NOON, ticket);

        let kept = serde_json::to_string(&before.kept(NOON + 65_000)).unwrap();
        let mut after = Ledger::default();
        after.resume(serde_json::from_str(&kept).unwrap());

        assert_eq!((after.used_ms(NOON + 60_000, "carrier"), after.spent(NOON, "carrier")), (65_000, 400_000));
        assert!(after.dial(NOON + 60_000, dialled).is_ok());
        assert_eq!(after.dial(NOON + 60_000, dialled), Err(Rule::AgentHour));
        assert_eq!(after.dial(NOON + 61 * 60_000, dialled).map(|_| ()), Ok(()), "an hour and a minute later");
        assert_eq!(after.used_ms(NOON + DAY_MS, "carrier"), 0, "the next day");
        assert!(serde_json::from_str::<Kept>("{}").is_ok_and(|empty| empty == Kept::default()));
    }

    #[test]
    fn money_is_spent_by_begun_minutes_and_then_nothing_more_is_dialled() {
        let limits = TrunkLimits { spend_per_day: Some(500_000), ..TrunkLimits::default() };
        let dear = Dialled { price: Some(CENTS_20), ..by("desk", &limits) };
        let mut ledger = Ledger::default();

        assert_eq!(ledger.dial(NOON, by("desk", &limits)), Err(Rule::NoPrice));
        let first = ledger.dial(NOON, dear).unwrap();
        let second = ledger.dial(NOON, dear).unwrap();
        assert_eq!(ledger.spent(NOON, "carrier"), 0, "nobody answered yet");
        ledger.answer(NOON, first);
        ledger.answer(NOON, second);
        assert_eq!(ledger.spent(NOON + 1, "carrier"), 400_000);
        assert_eq!(ledger.dial(NOON + 1, dear), Err(Rule::Spend), "there is no whole minute left");
        ledger.close(NOON + 60_001, first);
        assert_eq!(ledger.spent(NOON + 60_001, "carrier"), 800_000);
        assert_eq!(ledger.costing("carrier"), [second]);

        assert_eq!(ledger.dial(NOON + 60_002, dear), Err(Rule::Spend));
        let free = Dialled { price: Some(Price::default()), ..dear };
        assert_eq!(ledger.dial(NOON + 60_002, free), Err(Rule::Spend), "the cap is the trunk's");
        ledger.close(NOON + 60_003, second);
        assert!(ledger.dial(NOON + DAY_MS, dear).is_ok());
    }

    #[test]
    fn a_trunk_has_so_many_calls_at_once_and_in_a_second() {
        let mut ledger = Ledger::default();
        let limits = TrunkLimits { calls: Some(2), calls_per_second: Some(2), ..TrunkLimits::default() };

        let first = ledger.enter(NOON, "carrier", &limits).unwrap();
        ledger.dial(NOON, by("desk", &limits)).unwrap();
        assert_eq!(ledger.enter(NOON, "carrier", &limits), Err(Rule::Calls));
        ledger.close(NOON, first);
        assert_eq!(ledger.enter(NOON + 999, "carrier", &limits), Err(Rule::CallsPerSecond));

        assert!(ledger.enter(NOON + 1_000, "carrier", &limits).is_ok());
        assert_eq!(ledger.used_ms(NOON + 1_000, "carrier"), 0, "only answered calls that we placed cost");
    }

    fn by<'a>(agent: &'a str, limits: &'a TrunkLimits) -> Dialled<'a> {
        Dialled { trunk: "carrier", agent, limits, price: None }
    }

    const CENTS_20: Price = Price { per_call: 0, per_minute: 200_000, step: std::time::Duration::from_secs(60) };
    const NOON: i64 = 20_000 * DAY_MS + 12 * HOUR_MS;
}
