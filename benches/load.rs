//! The figures of a whole gateway under load, on loopback, with the real binary as a process of its own.
//!
//! `cargo bench --bench load`. It measures how soon it rings at 50 calls a second, the delay it adds between a caller
//! and a vendor's agent with 100 calls talking, and the memory of a call in which nothing happens. It prints each
//! figure with its target, and which were not reached; it fails only when it cannot measure.

#![allow(clippy::disallowed_methods, reason = "a bench reads the clock and keeps time")]
#![allow(dead_code, reason = "the rig of the tests offers more than is used here")]

#[path = "../tests/it/caller.rs"]
mod caller;
#[path = "../tests/it/mock.rs"]
mod mock;
#[path = "../tests/it/realtime_server.rs"]
mod realtime_server;
#[path = "../tests/it/rig.rs"]
mod rig;

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use caller::Caller;
use realtime_server::{KEY, RealtimeServer, Session};
use rig::{Gateway, Rig};

const CALLS_PER_SECOND: u32 = 50;
const RINGING_CALLS: u32 = 500;
const TALKING_CALLS: usize = 100;
const TALK: Duration = Duration::from_secs(12);
const IDLE_CALLS: usize = 300;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut figures = Figures::default();
    ringing(&mut figures);
    talking(&mut figures);
    idle(&mut figures);
    figures.print();
}

/// What was measured, beside what was wanted.
#[derive(Default)]
struct Figures {
    missed: usize,
    lines: Vec<String>,
}

impl Figures {
    fn add(&mut self, what: &str, value: f64, unit: &str, target: Option<f64>) {
        let verdict = match target {
            None => String::new(),
            Some(target) if value <= target => format!("target {target} {unit}: reached"),
            Some(target) => {
                self.missed += 1;
                format!("target {target} {unit}: NOT reached")
            }
        };
        self.lines.push(format!("{what:<44} {value:>8.2} {unit:<4} {verdict}"));
    }

    fn print(&self) {
        for line in &self.lines {
            println!("{line}");
        }
        println!("{} of the targets not reached", self.missed);
    }
}

/// 50 calls a second for ten seconds, each answered by the echo and let go after two.
fn ringing(figures: &mut Figures) {
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let lanes = 5;
    let began = Instant::now();
    let after: Vec<Duration> = thread::scope(|scope| {
        let lane = |lane: u32| {
            let gateway = gateway.udp;
            scope.spawn(move || ring(gateway, began, lane, lanes))
        };
        let running: Vec<_> = (0..lanes).map(lane).collect();
        running.into_iter().flat_map(|lane| lane.join().expect("a caller finishes")).collect()
    });
    let (p50, p99) = percentiles(after);
    figures.add("180 after INVITE at 50 calls/s, median", p50, "ms", None);
    figures.add("180 after INVITE at 50 calls/s, p99", p99, "ms", Some(50.0));
}

fn ring(gateway: SocketAddr, began: Instant, lane: u32, lanes: u32) -> Vec<Duration> {
    let mut after = Vec::new();
    let mut up = std::collections::VecDeque::new();
    for number in (lane..RINGING_CALLS).step_by(lanes as usize) {
        let due = began + Duration::from_secs(1) * number / CALLS_PER_SECOND;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut caller = Caller::new(gateway, "102");
        caller.invite();
        after.push(caller.expect("180").after);
        caller.answered();
        up.push_back(caller);
        if up.len() > 20 {
            up.pop_front().expect("just pushed").bye();
        }
    }
    up.iter().for_each(Caller::bye);
    after
}

/// 100 callers who talk all the time to agents that say a word every second.
fn talking(figures: &mut Figures) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime for the vendor");
    let vendor = runtime.block_on(RealtimeServer::start());
    let rig = Rig::new(&[]);
    rig.write("secrets/vendor", KEY);
    rig.write(
        "agents/vendor.toml",
        &format!(
            "version = 1\ntitle = \"Vendor\"\nconnector = \"openai-realtime\"\nsecret = {{ file = \"secrets/vendor\" }}\n\
             instructions = {{ text = \"Talk.\" }}\n[settings]\nurl = \"{}\"\n",
            vendor.url()
        ),
    );
    rig.write(
        "routes.toml",
        "version = 1\n[[route]]\ncalled = \"300\"\nagent = \"vendor\"\n[[route]]\ncalled = \"*\"\nreject = \"not_found\"\n",
    );
    let gateway = Gateway::start(&rig);
    let ledger = Arc::new(Ledger::default());
    // One socket for all: the gateway's own ports tell the calls apart.
    let rtp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut callers = Vec::new();
    let mut conversations = Vec::new();
    for call in 0..TALKING_CALLS {
        let mut caller = Caller::new(gateway.udp, "300");
        caller.rtp = rtp.try_clone().expect("a second handle of a socket");
        caller.connect();
        ledger.calls.lock().expect("no panic while held").insert(caller.media.expect("answered"), call);
        callers.push(caller);
        let session = runtime.block_on(vendor.session());
        conversations.push(runtime.spawn(listen(session.clone(), Arc::clone(&ledger))));
        conversations.push(runtime.spawn(speak(session, call, Arc::clone(&ledger))));
    }
    let media: Vec<SocketAddr> = callers.iter().map(|caller| caller.media.expect("answered")).collect();
    thread::scope(|scope| {
        scope.spawn(|| hear(&rtp, &ledger));
        say(&rtp, &media, &ledger);
        ledger.over.store(true, Ordering::Relaxed);
    });
    conversations.iter().for_each(tokio::task::JoinHandle::abort);
    callers.iter().for_each(Caller::bye);

    let take = |delays: &Mutex<Vec<Duration>>| std::mem::take(&mut *delays.lock().expect("no panic while held"));
    let (ingress, egress) = (take(&ledger.ingress), take(&ledger.egress));
    assert!(ingress.len() > 10_000 && egress.len() > 200, "{} and {} measurements", ingress.len(), egress.len());
    let (p50, p99) = percentiles(ingress);
    figures.add("RTP to agent with 100 calls, median", p50, "ms", None);
    figures.add("RTP to agent with 100 calls, p99", p99, "ms", Some(5.0));
    let (p50, p99) = percentiles(egress);
    figures.add("agent to RTP with 100 calls, median", p50, "ms", None);
    // One frame of 20 ms, and 2 ms.
    figures.add("agent to RTP with 100 calls, p99", p99, "ms", Some(22.0));
}

/// Who said what when.
#[derive(Default)]
struct Ledger {
    calls: Mutex<HashMap<SocketAddr, usize>>,
    said: Mutex<HashMap<(u16, u16), Instant>>,
    spoke: Mutex<HashMap<usize, Instant>>,
    ingress: Mutex<Vec<Duration>>,
    egress: Mutex<Vec<Duration>>,
    over: AtomicBool,
}

// Each frame says which call it is of and which it is, after four octets that mark its beginning.
const MARK: [u8; 4] = [0x11, 0x9a, 0x23, 0xb7];

fn say(rtp: &UdpSocket, media: &[SocketAddr], ledger: &Ledger) {
    let began = Instant::now();
    let step = Duration::from_millis(20) / u32::try_from(media.len()).expect("a hundred");
    for count in 0.. {
        let due = began + step * count;
        if due > began + TALK {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let call = count as usize % media.len();
        let sequence = u16::try_from(count as usize / media.len()).expect("a few hundred frames");
        let call_number = u16::try_from(call).expect("a hundred");
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend((0x1000 + u32::from(call_number)).to_be_bytes());
        let mut frame = MARK.to_vec();
        frame.extend(call_number.to_be_bytes());
        frame.extend(sequence.to_be_bytes());
        frame.resize(160, 0x55);
        packet.extend(frame);
        ledger.said.lock().expect("no panic while held").insert((call_number, sequence), Instant::now());
        let _ = rtp.send_to(&packet, media[call]);
    }
}

// What arrives at the vendor: finds the marks in what was appended since the last look.
async fn listen(session: Session, ledger: Arc<Ledger>) {
    let mut from = 0;
    loop {
        session.wait("the caller's audio", |state| state.heard.len() > from).await;
        let now = Instant::now();
        let fresh = {
            let state = session.state();
            let fresh = state.heard[from..].to_vec();
            from = state.heard.len();
            fresh
        };
        let marks = fresh.windows(8).filter(|window| window[..4] == MARK);
        let found: Vec<(u16, u16)> = marks
            .map(|mark| (u16::from_be_bytes([mark[4], mark[5]]), u16::from_be_bytes([mark[6], mark[7]])))
            .collect();
        let mut said = ledger.said.lock().expect("no panic while held");
        let delays = found.iter().filter_map(|key| said.remove(key)).map(|at| now - at);
        ledger.ingress.lock().expect("no panic while held").extend(delays);
    }
}

// A word of a fifth of a second, every second.
async fn speak(session: Session, call: usize, ledger: Arc<Ledger>) {
    let first = Duration::from_millis(10 * call as u64 + 500);
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + first, Duration::from_secs(1));
    for word in 0.. {
        every.tick().await;
        session.begin_response().await;
        ledger.spoke.lock().expect("no panic while held").insert(call, Instant::now());
        session.speak(&format!("item_{word}"), 200, "Yes.").await;
        session.end_response().await;
    }
}

// What arrives at the callers: the first sound after a word was sent.
fn hear(rtp: &UdpSocket, ledger: &Ledger) {
    rtp.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket takes a timeout");
    let mut buffer = [0; 2048];
    while !ledger.over.load(Ordering::Relaxed) {
        let Ok((length, from)) = rtp.recv_from(&mut buffer) else { continue };
        let now = Instant::now();
        let sounds = buffer[12.min(length)..length].iter().any(|octet| !matches!(octet, 0xff | 0x7f));
        if !sounds {
            continue;
        }
        let call = ledger.calls.lock().expect("no panic while held").get(&from).copied();
        let spoke = call.and_then(|call| ledger.spoke.lock().expect("no panic while held").remove(&call));
        ledger.egress.lock().expect("no panic while held").extend(spoke.map(|at| now - at));
    }
}

/// Calls in which nobody says a word.
fn idle(figures: &mut Figures) {
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let connect = || {
        // Below the rate at which the gateway refuses.
        thread::sleep(Duration::from_millis(10));
        let mut caller = Caller::new(gateway.udp, "102");
        caller.connect();
        caller
    };
    // What the first calls bring into memory once belongs to the gateway.
    let warm: Vec<Caller> = (0..20).map(|_| connect()).collect();
    let before = resident_kib(gateway.pid());
    let callers: Vec<Caller> = (0..IDLE_CALLS).map(|_| connect()).collect();
    let after = resident_kib(gateway.pid());
    warm.iter().chain(&callers).for_each(Caller::bye);
    #[allow(clippy::cast_precision_loss, reason = "kibibytes of one process")]
    let mib_per_call = (after.saturating_sub(before)) as f64 / 1024.0 / IDLE_CALLS as f64;
    figures.add("memory of an idle call", mib_per_call, "MiB", Some(0.4));
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the gateway runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says how much memory is resident");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("as a number")
}

/// Median and 99th percentile, nearest rank, in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64() * 1000.0;
    (at(50), at(99))
}
