//! `ringback demo`: one machine plays caller, carrier, CRM and colleagues, and holds the gateway to what it promises.

mod crm;
mod delay;
mod files;
mod house;
mod scenes;
mod stage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::expect::{Expectation, all_ok, ms};
use super::phone::find;
use super::screen;
use super::signals::Signals;
use super::stopwatch::{self, as_ms};
use super::{EXIT_CODES, Exit, replay};
use crate::store::CallRecord;
use delay::Delay;
use house::{FRONT_DESK, House, NoShow};
use scenes::{Scene, Sides};

/// Play three calls on this machine, with real SIP and RTP, and check everything they promise.
///
/// Starts the gateway, a small CRM and two colleagues on loopback; no account, key or server is needed. A known caller is
/// looked up while it rings and greeted by name, asks for an order, and is transferred past a busy colleague; a caller
/// whose lookup hangs is answered all the same; a caller gives up while it rings. Each call's end is told by a signed
/// webhook, whose first delivery is refused on purpose. Takes about 40 seconds.
///
/// Times in milliseconds: ring, answer and first_audio count from the INVITE, as the caller's phone saw them;
/// longest_silence lies between the first and the last sound that the caller heard; a webhook's delivered_ms counts from
/// the end of the call. delay_ms is measured on a media worker of its own: ingress from sending an RTP packet until an
/// agent has its frame, egress from an agent's handing over speech until the first RTP packet with it arrives, which
/// holds the wait for the next 20 ms tick.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// Leave the gateway running afterwards, to be called with any softphone on this machine
    #[arg(long)]
    keep: bool,
    /// Where to put configuration, database, journals and recordings, instead of a fresh temporary folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object: ok, calls, delay_ms
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  See what the gateway does
    ringback demo
  Then call it yourself: sip:100@127.0.0.1:5060 is the front desk, 102 an echo
    ringback demo --keep
  Longest silence that each caller heard, for a script
    ringback demo --json | jq '.calls[] | {name, longest_silence_ms}'";

pub(super) async fn run(arguments: Arguments) -> Exit {
    let mut house = match House::open(arguments.data_dir.clone(), !arguments.json).await {
        Ok(house) => house,
        Err(why) => return no_show(&arguments, why),
    };
    let outcome = perform(&mut house).await;
    let exit = match outcome {
        Ok(programme) => programme.print(&house, arguments.json),
        Err(why) => no_show(&arguments, why),
    };
    if arguments.keep && exit != Exit::Unreachable {
        house.progress.say("running".to_owned());
        let sip = house.sip;
        house.progress.above(|| {
            eprintln!("\nThe gateway goes on: call sip:{FRONT_DESK}@{sip} with any softphone on this machine, or");
            eprintln!("sip:102@{sip} for an echo. Ctrl-C ends it.");
        });
        match Signals::catch() {
            Ok(mut signals) => signals.next().await,
            Err(error) => eprintln!("ringback demo: cannot wait for Ctrl-C: {error}"),
        }
    }
    house.gateway.drain(Duration::from_secs(2)).await;
    house.gateway.shutdown().await;
    exit
}

fn no_show(arguments: &Arguments, (exit, why): NoShow) -> Exit {
    if arguments.json {
        screen::json(&json!({ "ok": false, "calls": [], "delay_ms": null }));
    }
    eprintln!("ringback demo: {why}");
    exit
}

/// Plays the calls one after the other, measures the delay while webhooks are on their way, and looks at what is left.
async fn perform(house: &mut House) -> Result<Programme, NoShow> {
    let mut scenes = vec![scenes::known_caller(house).await?];
    scenes.push(scenes::lookup_hangs(house).await?);
    scenes.push(scenes::caller_gives_up(house).await?);

    house.progress.say("measuring the delay that the gateway adds".to_owned());
    let delay = delay::measure().await.map_err(|error| error.to_string());
    house.progress.say("waiting for the webhooks' second attempts".to_owned());
    let calls: Vec<_> = scenes.iter().filter_map(|scene| scene.call).collect();
    let deadline = stopwatch::now() + WEBHOOKS_WAIT;
    house.crm.until(deadline, |seen| calls.iter().all(|call| seen.was_told(*call))).await;
    let noted = scenes.first().and_then(|scene| scene.call).map(|call| call.to_string());
    house.crm.until(deadline, |seen| noted.as_ref().is_none_or(|call| seen.notes.contains(call))).await;

    let mut played = Vec::new();
    for scene in scenes {
        let record = match scene.call {
            Some(call) => house.gateway.store().call(call).await.ok().flatten(),
            None => None,
        };
        played.push(Played::new(house, scene, record));
    }
    if let Some(first) = played.first_mut() {
        let is_noted = noted.is_some_and(|call| house.crm.seen().notes.contains(&call));
        let seen = if is_noted { "a note" } else { "none" };
        first.expectations.push(Expectation::new("after-call note in the CRM", "a note", seen, is_noted));
    }
    Ok(Programme { played, delay })
}

/// A call and all that followed it.
struct Played {
    scene: Scene,
    record: Option<CallRecord>,
    expectations: Vec<Expectation>,
    attempts: usize,
    delivered_ms: Option<u64>,
    journal: Option<PathBuf>,
    recording: Option<PathBuf>,
}

impl Played {
    fn new(house: &House, mut scene: Scene, record: Option<CallRecord>) -> Played {
        let seen = house.crm.seen();
        let over = scene.call.and_then(|call| house.stage.calls().over(call));
        let hooks: Vec<_> = scene.call.map_or_else(Vec::new, |call| seen.hooks_of(call).collect());
        let taken = hooks.iter().find(|hook| hook.is_taken);
        let delivered_ms = taken.zip(over).map(|(hook, over)| as_ms(hook.at.saturating_duration_since(over)));
        let journal = record.as_ref().and_then(|record| record.journal.as_ref()).map(PathBuf::from);
        let recording = record.as_ref().and_then(|record| record.recording.as_ref()).map(PathBuf::from);

        let status = record.as_ref().map(|record| word(&json!(record.status)));
        let told = taken.map(|hook| format!("{} {}", hook.kind, hook.status));
        let is_signed = !hooks.is_empty() && hooks.iter().all(|hook| hook.is_signed);
        let signed = if is_signed { "all signed" } else { "not all signed, or none" };
        let mut expectations = std::mem::take(&mut scene.expectations);
        expectations.extend([
            Expectation::equal("record", scene.status.to_owned(), status),
            Expectation::equal("webhook told", format!("call.ended {}", scene.status), told),
            Expectation::equal("webhook attempts, the first one refused", 2, Some(hooks.len())),
            Expectation::new("webhook signatures", "all signed", signed, is_signed),
            replays(journal.as_deref()),
        ]);
        if let Some(sides) = &scene.recorded {
            expectations.push(recorded(recording.as_deref(), sides));
        }
        Played { scene, record, expectations, attempts: hooks.len(), delivered_ms, journal, recording }
    }

    fn ok(&self) -> bool {
        all_ok(&self.expectations)
    }

    fn longest_silence_ms(&self) -> u64 {
        self.scene.caller.ear.longest_silence_ms()
    }

    fn json(&self) -> Value {
        let moments = &self.scene.caller.moments;
        json!({
            "name": self.scene.name,
            "ok": self.ok(),
            "ring_ms": moments.ringing_ms,
            "answer_ms": moments.answered_ms,
            "first_audio_ms": moments.first_sound_ms,
            "longest_silence_ms": self.longest_silence_ms(),
            "end_reason": self.record.as_ref().map(|record| &record.end_reason),
            "webhook": { "attempts": self.attempts, "delivered_ms": self.delivered_ms },
            "journal": self.journal,
            "recording": self.recording,
        })
    }

    fn print(&self) {
        let moments = &self.scene.caller.moments;
        let path = |path: &Option<PathBuf>| path.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
        println!("\n{}", self.scene.name);
        self.expectations.iter().for_each(|expectation| println!("{}", expectation.line()));
        println!("  180 sent after        {}", ms(moments.ringing_ms));
        println!("  answered after        {}", ms(moments.answered_ms));
        println!("  first audio after     {}", ms(moments.first_sound_ms));
        println!("  longest silence heard {} ms", self.longest_silence_ms());
        println!("  webhook taken after   {}", ms(self.delivered_ms));
        println!("  recording             {}", path(&self.recording));
        println!("  journal               {}", path(&self.journal));
    }
}

/// Everything that was seen.
struct Programme {
    played: Vec<Played>,
    delay: Result<Delay, String>,
}

impl Programme {
    fn print(&self, house: &House, as_json: bool) -> Exit {
        let delay_expectations = self.delay_expectations();
        let ok = self.played.iter().all(Played::ok) && all_ok(&delay_expectations);
        let progress = Arc::clone(&house.progress);
        progress.above(|| {
            if as_json {
                let calls: Vec<Value> = self.played.iter().map(Played::json).collect();
                screen::json(&json!({ "ok": ok, "calls": calls, "delay_ms": self.delay.as_ref().ok() }));
                let all = self.played.iter().flat_map(|played| &played.expectations).chain(&delay_expectations);
                all.filter(|expectation| !expectation.ok).for_each(|failed| eprintln!("{}", failed.line()));
                return;
            }
            self.played.iter().for_each(Played::print);
            println!("\nadded delay");
            delay_expectations.iter().for_each(|expectation| println!("{}", expectation.line()));
            if let Ok(delay) = &self.delay {
                println!("  RTP to agent          p50 {} ms, p99 {} ms", delay.ingress_p50, delay.ingress_p99);
                println!("  agent to RTP          p50 {} ms, p99 {} ms", delay.egress_p50, delay.egress_p99);
            }
            println!("\ndatabase {}", house.files.data().join("ringback.db").display());
            println!("files    {}", house.files.root().display());
            println!("\n{}", if ok { "Every expectation held." } else { "Not every expectation held." });
        });
        if ok { Exit::Ok } else { Exit::Failed }
    }

    fn delay_expectations(&self) -> Vec<Expectation> {
        match &self.delay {
            Ok(delay) => vec![
                within("RTP to agent, p99", INGRESS_MS_MAX, delay.ingress_p99),
                within("agent to RTP, p99", EGRESS_MS_MAX, delay.egress_p99),
            ],
            Err(why) => vec![Expectation::new("added delay", "a measurement", why, false)],
        }
    }
}

fn within(name: &str, most: f64, seen: f64) -> Expectation {
    Expectation::new(name, format!("at most {most} ms"), format!("{seen} ms"), seen <= most)
}

fn replays(journal: Option<&Path>) -> Expectation {
    let expected = "replays without a difference";
    let seen = match journal {
        Some(path) => replay::judge(path),
        None => Err("there is no journal".to_owned()),
    };
    let ok = seen.is_ok();
    let seen = seen.map_or_else(|why| why, |events| format!("{events} events, all the same"));
    Expectation::new("journal", expected, seen, ok)
}

/// Whether each side of a recording holds the clip that was said there.
fn recorded(recording: Option<&Path>, sides: &Sides) -> Expectation {
    let expected = "the caller on the left, the other side on the right";
    let (seen, ok) = match recording.ok_or_else(|| "none".to_owned()).and_then(channels) {
        Ok([left, right]) => {
            let is_left = sides.left.as_ref().is_none_or(|clip| find(&left, clip, 0).is_some());
            let is_right = find(&right, &sides.right, 0).is_some();
            let seen = match (is_left, is_right) {
                (true, true) => expected,
                (false, true) => "the caller is not on the left",
                (true, false) => "the other side is not on the right",
                (false, false) => "neither side where it should be",
            };
            (seen.to_owned(), is_left && is_right)
        }
        Err(why) => (why, false),
    };
    Expectation::new("recording", expected, seen, ok)
}

fn channels(path: &Path) -> Result<[Vec<i16>; 2], String> {
    let wav = hound::WavReader::open(path).map_err(|error| error.to_string())?;
    if wav.spec().channels != 2 {
        return Err(format!("{} channels", wav.spec().channels));
    }
    let mut sides = [Vec::new(), Vec::new()];
    for (at, sample) in wav.into_samples::<i16>().enumerate() {
        sides[at % 2].push(sample.map_err(|error| error.to_string())?);
    }
    Ok(sides)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Second attempts come five to six seconds after the first.
const WEBHOOKS_WAIT: Duration = Duration::from_secs(20);
/// Sanity on any machine; `benches/` hold the gateway to 5 ms and to one frame and 2 ms.
const INGRESS_MS_MAX: f64 = 20.0;
const EGRESS_MS_MAX: f64 = 40.0;
