//! A simulated world for calls: callers, agents, colleagues, services and chaos, in virtual time.
//!
//! Pure and seeded: the same seed makes the same call to the nanosecond, so a seed is a bug report. Knows nothing of
//! SIP; the network's habits (late, twice, crossing) are played at the level of events. Start at [`World::run`].

mod invariants;
mod plan;
mod random;
mod world;

pub use invariants::Watch;
pub use plan::{plan, plan_for};
pub use random::Random;
pub use world::{Report, World};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_thousand_seeded_calls_keep_every_promise() {
        for seed in 0..1_000 {
            let report = World::new(seed, Arc::new(plan_for(seed))).run();
            assert!(report.broken.is_empty(), "seed {seed}: {:?}\n{}", report.broken, report.ladder());
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_call() {
        let once = World::new(42, Arc::new(plan_for(42))).run();
        let again = World::new(42, Arc::new(plan_for(42))).run();

        assert_eq!(once.journal, again.journal);
    }

    #[test]
    fn the_seeds_reach_every_kind_of_ending() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..1_000 {
            let report = World::new(seed, Arc::new(plan_for(seed))).run();
            seen.insert(format!("{:?}", report.status.expect("every call is summed up")));
        }

        let all: Vec<&str> = seen.iter().map(String::as_str).collect();
        assert_eq!(all, ["Canceled", "Completed", "Failed", "NoAnswer", "Transferred"]);
    }
}
