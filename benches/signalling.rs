//! The figures of signalling: calls without media, set up and let go by SIPp as fast as asked.
//!
//! `cargo bench --bench signalling`, with SIPp installed. One process is pinned to the first core, SIPp to the second.
//! First the SIP room by itself, which answers at once (this program again, as a child); then a whole gateway with its
//! store and journals, whose calls are answered by the echo. It prints each figure with its target; it fails only when it cannot measure. `RINGBACK_CALLS`
//! is the number of calls for the memory's slope (20,000 unless it says otherwise).

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock and keeps time")]
#![allow(dead_code, reason = "the rig of the tests offers more than is used here")]

#[path = "../tests/it/caller.rs"]
mod caller;
#[path = "../tests/it/mock.rs"]
mod mock;
#[path = "../tests/it/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rig::{Gateway, Rig, free_port};
use ringback::sip::{Sip, SipCommand, SipConfig, SipEvent};

/// Call set-ups per second that one core must carry.
const RATE: u32 = 500;
/// A steady window.
const WINDOW: Duration = Duration::from_secs(12);
/// Peers that ask with OPTIONS every 30 s, as registered phones do.
const IDLE_PEERS: u32 = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only wants to know that it builds.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    if arguments.iter().any(|argument| argument == ANSWERER) {
        return answer_everything();
    }
    let calls = std::env::var("RINGBACK_CALLS").ok().and_then(|calls| calls.parse().ok()).unwrap_or(20_000);
    let answerer = Answerer::start();
    println!("the SIP room alone, on one core:");
    rate(answerer.child.id(), answerer.at, RATE, Some(0.6));
    rate(answerer.child.id(), answerer.at, 2 * RATE, None);
    memory(answerer.child.id(), answerer.at, calls);
    idle(answerer.child.id(), answerer.at);
    drop(answerer);

    // Without and with somebody who is told of each call by HTTP.
    for hooks in [false, true] {
        println!("the whole gateway, on one core, {} webhooks:", if hooks { "with" } else { "without" });
        let gateway = House::start(hooks);
        for rate_asked in [100, 300, RATE] {
            rate(gateway.pid(), gateway.udp, rate_asked, (!hooks).then_some(0.6));
        }
        if !hooks {
            memory(gateway.pid(), gateway.udp, calls);
            idle(gateway.pid(), gateway.udp);
        }
    }
}

/// A gateway, and the folder that it works in.
struct House {
    gateway: Gateway,
    _rig: Rig,
}

impl std::ops::Deref for House {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.gateway
    }
}

impl House {
    fn start(hooks: bool) -> House {
        let rig = Rig::new(&[]);
        let path = rig.path().join("sip-config/gateway.toml");
        let text = fs::read_to_string(&path).expect("the rig wrote it");
        // Each call may need four ports, and one that was closed rests for three seconds.
        let settings = text.lines().map(|line| match line.split(' ').next() {
            Some("port_first") => "port_first = 12000".to_owned(),
            Some("port_last") => "port_last = 31999".to_owned(),
            _ => line.replace("max_calls = 400", "max_calls = 4000").replace("_per_second = 200", "_per_second = 1000"),
        });
        let text: Vec<String> = settings.collect();
        rig.write("gateway.toml", &text.join("\n"));
        if !hooks {
            fs::remove_file(rig.path().join("sip-config/webhooks.toml")).expect("the rig wrote it");
        }
        let gateway = Gateway::start(&rig);
        pin(gateway.pid());
        House { gateway, _rig: rig }
    }
}

/// Calls at a rate for a window, and what they cost.
fn rate(pid: u32, at: SocketAddr, rate: u32, cpu_target_ms: Option<f64>) {
    let calls = rate * u32::try_from(WINDOW.as_secs()).expect("a short window");
    let (before, began) = (cpu_ms(pid), Instant::now());
    let said = sipp("uac_plain.xml", at, &["-r", &rate.to_string(), "-m", &calls.to_string(), "-l", "4000"]);
    let (took, used) = (began.elapsed(), cpu_ms(pid) - before);
    let number = |name: &str| said.get(name).and_then(|value| value.parse::<f64>().ok()).unwrap_or(f64::NAN);
    let calls = f64::from(calls);
    let each = used / calls;
    let reached = cpu_target_ms.map_or(String::new(), |target| {
        format!("target {target} ms: {}", if each <= target { "reached" } else { "NOT reached" })
    });
    println!(
        "  {rate:>5} calls/s asked, {:>6.1} set up; {} failed; {:.2} % sent again by SIPp; {each:.3} ms CPU a call, \
         {:.0} % of the core; {reached}",
        number("SuccessfulCall(C)") / took.as_secs_f64(),
        number("FailedCall(C)"),
        100.0 * number("Retransmissions(C)") / (3.0 * calls),
        100.0 * used / took.as_secs_f64() / 1000.0,
    );
}

/// Whether memory stays where it is.
fn memory(pid: u32, at: SocketAddr, calls: u32) {
    let rounds = 4;
    let mut held = vec![rss_kb(pid)];
    for _ in 0..rounds {
        let each = (calls / rounds).to_string();
        sipp("uac_plain.xml", at, &["-r", &RATE.to_string(), "-m", &each, "-l", "4000"]);
        held.push(rss_kb(pid));
    }
    println!("  memory over {calls} calls, in {rounds} rounds: {held:?} kB");
}

/// OPTIONS of as many peers as would register.
fn idle(pid: u32, at: SocketAddr) {
    let rate = IDLE_PEERS / 30;
    let calls = rate * u32::try_from(WINDOW.as_secs()).expect("a short window");
    let (before, began) = (cpu_ms(pid), Instant::now());
    let said = sipp("uac_options.xml", at, &["-r", &rate.to_string(), "-m", &calls.to_string(), "-l", "4000"]);
    let (took, used) = (began.elapsed(), cpu_ms(pid) - before);
    println!(
        "  OPTIONS of {IDLE_PEERS} peers, each every 30 s: {:.1} % of the core; {} unanswered",
        100.0 * used / took.as_secs_f64() / 1000.0,
        said.get("FailedCall(C)").map_or("?", String::as_str),
    );
}

/// Runs SIPp to its end, and gives its last statistics by column.
fn sipp(scenario: &str, at: SocketAddr, more: &[&str]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/sipp").join(scenario);
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "sipp", "-sf"]).arg(scenario).arg(at.to_string()).args(["-s", "102"]);
    command.args(["-i", "127.0.0.1", "-p", &free_port().port().to_string(), "-nostdin"]);
    command.args(["-trace_stat", "-stf", "stat.csv", "-fd", "1", "-timeout", "400s"]).args(more);
    let status = command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("SIPp and taskset are installed");
    if !status.success() {
        println!("  SIPp ended with {status}");
    }
    let text = fs::read_to_string(folder.path().join("stat.csv")).unwrap_or_default();
    let mut lines = text.lines();
    let names = lines.next().unwrap_or_default().split(';');
    let values = lines.next_back().unwrap_or_default().split(';');
    names.zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

const ANSWERER: &str = "--answer-everything";

/// This program as a child: the SIP room, and nobody behind it.
struct Answerer {
    child: Child,
    at: SocketAddr,
}

impl Answerer {
    fn start() -> Answerer {
        let own = std::env::current_exe().expect("our own program");
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(own)
            .arg(ANSWERER)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("it says where it is");
        Answerer { at: line.trim().parse().expect("an address"), child }
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer_everything() {
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0 101\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let config = SipConfig { udp: vec![SocketAddr::from(([127, 0, 0, 1], 0))], ..SipConfig::default() };
        let (sip, mut events) = Sip::bind(config).await.expect("a socket");
        println!("{}", sip.local_addrs()[0].0);
        std::io::stdout().flush().expect("somebody reads it");
        while let Some(event) = events.recv().await {
            if let SipEvent::Invited { dialog, .. } = event {
                sip.send(dialog, SipCommand::Ring).await;
                sip.send(dialog, SipCommand::Answer { sdp: sdp.to_owned() }).await;
            }
        }
    });
}

/// All threads of a process to the first core.
fn pin(pid: u32) {
    let done = Command::new("taskset").args(["-acp", "0", &pid.to_string()]).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "taskset pins the gateway");
}

/// User and system time of a process so far.
fn cpu_ms(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> = text.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number of ticks");
    // proc(5): fields 14 and 15, in hundredths of a second.
    (ticks(11) + ticks(12)) * 10.0
}

fn rss_kb(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
