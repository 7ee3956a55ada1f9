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
use ringback::media::{AgentTurn, Listener};
use ringback::model::{BargeIn, DecidedBy, FRAME_SAMPLES, Time, Vault};
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

/// One second of a caller who speaks while the agent speaks: what voice activity, echo guard and decision cost at worst.
/// 3 ms are 0.3 % of a core.
#[divan::bench]
fn a_second_of_listening(bencher: Bencher) {
    listening(bencher, 8000.0);
}

/// The same of a caller who is silent.
#[divan::bench]
fn a_second_of_listening_to_silence(bencher: Bencher) {
    listening(bencher, 8.0);
}

fn listening(bencher: Bencher, loudness: f32) {
    let policy = BargeIn { by: DecidedBy::Local, ..BargeIn::default() };
    // Harmonics of a gliding pitch under syllables of a fifth of a second: enough of a voice for the net to be asked.
    let voice: Vec<[i16; FRAME_SAMPLES]> = (0..50usize)
        .map(|frame| {
            std::array::from_fn(|n| {
                let at = (frame * FRAME_SAMPLES + n) as f32 / 8000.0;
                let pitch = 140.0 + 20.0 * (at * 5.0).sin();
                let syllable = (at * std::f32::consts::TAU * 2.5).sin().abs();
                let turn = at * std::f32::consts::TAU * pitch;
                let sum: f32 = (1..12u8).map(|n| (turn * f32::from(n)).sin() / f32::from(n)).sum();
                (loudness * syllable * sum / 2.0) as i16
            })
        })
        .collect();
    let mut listener = Listener::new(policy);
    bencher.bench_local(|| {
        for frame in &voice {
            let mut said = [3000; FRAME_SAMPLES];
            listener.say(&mut said, AgentTurn { speaks: true, left: None });
            black_box(listener.hear(frame));
        }
    });
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
