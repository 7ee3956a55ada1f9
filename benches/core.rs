//! How long the heart needs for an event: simulated calls of all kinds, handled again without the world around them.
//!
//! `cargo bench --bench core`. The last line compares with the target: 200 ns per event.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use divan::Bencher;
use divan::counter::ItemsCount;
use ringback::actions::Plan;
use ringback::call::{Call, Event};
use ringback::journal::Journal;
use ringback::model::{Time, Vault};
use ringback::sim::{World, plan_for};

/// What the pure core may need for one event.
const TARGET_NS: f64 = 200.0;
const CALLS: u64 = 400;

fn main() {
    divan::main();
    judge();
}

/// Whole calls, from the plan to Finish.
#[divan::bench]
fn calls_of_all_kinds(bencher: Bencher) {
    let calls = record();
    let events: usize = calls.iter().map(|call| call.events.len()).sum();
    bencher.counter(ItemsCount::new(events)).with_inputs(|| calls.clone()).bench_local_values(live);
}

#[derive(Clone)]
struct Recorded {
    plan: Arc<Plan>,
    events: Vec<(Time, Event)>,
}

// Lets the world live each call once, and keeps what happened.
fn record() -> Vec<Recorded> {
    (0..CALLS)
        .map(|seed| {
            let plan = Arc::new(plan_for(seed));
            let report = World::new(seed, Arc::clone(&plan)).run();
            let journal = Journal::parse(&report.journal).expect("the world writes journals that can be read");
            let mut vault = Vault::from_values(report.vault);
            let read = |value| serde_json::from_value(value).expect("the world writes events that can be read");
            let events =
                vault.open(|| journal.entries.into_iter().map(|entry| (entry.at, read(entry.event))).collect());
            Recorded { plan, events }
        })
        .collect()
}

fn live(calls: Vec<Recorded>) -> usize {
    let mut commands = 0;
    for recorded in calls {
        let mut call = Call::new(recorded.plan);
        for (at, event) in recorded.events {
            commands += black_box(call.handle(at, event)).len();
        }
    }
    commands
}

fn judge() {
    let calls = record();
    let events: usize = calls.iter().map(|call| call.events.len()).sum();
    let mut rounds: Vec<f64> = (0..25)
        .map(|_| {
            let fresh = calls.clone();
            let began = Instant::now();
            black_box(live(fresh));
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let ns = began.elapsed().as_nanos() as f64 / events as f64;
            ns
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let median = rounds[rounds.len() / 2];
    let verdict = if median <= TARGET_NS { "reached" } else { "NOT reached" };
    println!("core: {median:.0} ns per event over {events} events of {CALLS} calls; target {TARGET_NS} ns: {verdict}");
}
