//! `ringback bench`: what a gateway carries on this machine.
//!
//! The gateway is a process of its own; callers and agents are another, on another processor where there is one, and
//! both ends of every delay are read from one clock. Start at `load` for how it is measured.

mod agent;
mod callers;
mod figures;
mod house;
mod load;
mod mark;
mod socket;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{EXIT_CODES, Exit, screen, stopwatch};
use agent::Tongue;
use callers::Callers;
use figures::{Figures, rounded};
use house::House;
use load::{Load, Measured, Order, Side};

/// Measure what a gateway carries on this machine.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Capacity(Capacity),
}

/// Calls that talk all the time: what each costs, and what it adds in delay.
///
/// Starts a gateway of its own on loopback, with callers and agents around it, and takes no settings from anywhere. Callers
/// send G.711 in packets of 20 ms without a pause; agents say what they hear, and every three seconds something that
/// they drop at once. With two or more processors and `taskset`, the load has the last one to itself.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Capacity {
    /// Calls at the same time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=4000))]
    calls: u16,
    /// What is at the other end
    #[arg(long, value_enum, default_value_t = Profile::Ulaw)]
    profile: Profile,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Print one JSON object: calls, failed, cpu_percent_per_call, ingress_ms, egress_ms, grid_ms, clear_ms (p50, p99), …
    #[arg(long)]
    json: bool,
}

/// What calls are connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Profile {
    /// An agent with our own protocol: µ-law as binary messages
    Ulaw,
    /// An agent with a vendor's: µ-law as base64 in JSON
    #[value(name = "openai")]
    Realtime,
    /// The same, recorded
    Full,
    /// Another telephone
    Relay,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Ulaw => "ulaw",
            Profile::Realtime => "openai",
            Profile::Full => "full",
            Profile::Relay => "relay",
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  What 500 calls to agents with the binary protocol cost
    ringback bench capacity --calls 500 --profile ulaw
  The same as JSON, for a comparison
    ringback bench capacity --calls 500 --profile ulaw --json";

pub(super) async fn run(arguments: Arguments) -> Exit {
    let What::Capacity(capacity) = arguments.what;
    match measure(&capacity).await {
        Ok(figures) => {
            if capacity.json {
                screen::json(&figures);
            } else {
                figures.lines().iter().for_each(|line| println!("{line}"));
            }
            if figures.failed == 0 { Exit::Ok } else { Exit::Failed }
        }
        Err(why) => {
            eprintln!("ringback bench: {why}");
            Exit::Failed
        }
    }
}

async fn measure(capacity: &Capacity) -> Result<Figures, String> {
    let tongue = if capacity.profile == Profile::Ulaw { Tongue::Binary } else { Tongue::Json };
    let calls = usize::from(capacity.calls);
    let no_port = |error: &dyn std::fmt::Display| format!("opening the load's ports: {error}");
    let load = Load::start(tongue, calls).map_err(|error| no_port(&error))?;
    let mut callers = Callers::open(Side::Caller, load.rtp[0]).await.map_err(|error| no_port(&error))?;
    let mut callees = Callers::open(Side::Callee, load.rtp[1]).await.map_err(|error| no_port(&error))?;
    let house = House::open(capacity.profile, capacity.calls, &load, callees.address())?;
    let gone = || "the gateway died".to_owned();
    let empty = house.resident_kib().ok_or_else(gone)?;

    let far_off = stopwatch::now() + FAR_OFF;
    tokio::select! {
        () = callers.call(capacity.calls, house.sip, &load) => {}
        () = callees.live(far_off, &load) => {}
    }
    settle(&mut callers, &mut callees, SETTLE, &load).await;
    let (before, began) = (house.processor_time().ok_or_else(gone)?, stopwatch::now());
    load.order(Order::Measure);
    let window = Duration::from_secs(u64::from(capacity.seconds));
    settle(&mut callers, &mut callees, window, &load).await;
    let (used, took) = (house.processor_time().ok_or_else(gone)? - before, stopwatch::since(began));
    let full = house.resident_kib().ok_or_else(gone)?;
    let up = callers.up;
    let measured = load.stop().ok_or("the load broke")?;
    let is_pinned = house.is_pinned;
    // Before the gateway is gone, so that nobody waits for its answer to a BYE.
    callers.end().await;
    callees.end().await;
    drop(house);

    let wanted = window.as_secs() * PACKETS_PER_SECOND * HEARD_PERCENT_MIN / 100;
    let well = measured.heard.iter().filter(|heard| **heard >= wanted).count().min(up);
    Ok(judge(
        capacity,
        &measured,
        calls - well,
        used.as_secs_f64() / took.as_secs_f64(),
        full.saturating_sub(empty),
        is_pinned,
    ))
}

/// Lets calls go on for a time.
async fn settle(callers: &mut Callers, callees: &mut Callers, time: Duration, load: &Load) {
    let until = stopwatch::now() + time;
    tokio::join!(callers.live(until, load), callees.live(until, load));
}

#[allow(clippy::cast_precision_loss, reason = "counts of one run")]
fn judge(capacity: &Capacity, measured: &Measured, failed: usize, cores: f64, kib: u64, pinned: bool) -> Figures {
    let calls = f64::from(capacity.calls);
    Figures {
        profile: capacity.profile.name(),
        calls: usize::from(capacity.calls),
        failed,
        seconds: u64::from(capacity.seconds),
        cpu_percent_per_call: rounded(cores * 100.0 / calls, 4),
        ingress_ms: measured.ingress.spread(),
        egress_ms: measured.egress.spread(),
        grid_ms: measured.grid.spread(),
        clear_ms: measured.clear.spread(),
        rss_kib_per_call: rounded(kib as f64 / calls, 1),
        lost_percent: rounded(
            100.0 * measured.missing as f64 / (measured.received + measured.missing).max(1) as f64,
            4,
        ),
        pinned,
    }
}

/// After the last call is up, until what calls bring once is over.
const SETTLE: Duration = Duration::from_secs(2);
/// Longer than any load takes to set up.
const FAR_OFF: Duration = Duration::from_secs(3600);
const PACKETS_PER_SECOND: u64 = 50;
/// Of three seconds an agent echoes all but 15 frames in 150; a call that gets less than this of its echo is not well.
const HEARD_PERCENT_MIN: u64 = 70;
