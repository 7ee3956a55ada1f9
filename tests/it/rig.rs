//! A whole gateway in a folder of its own: configuration, prompts, the real binary, and the outside world around it.
//!
//! Prompts are tones, each with its own frequency, so that whoever listens can say which of them was played.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::caller::Caller;
use crate::mock::{Answer, Mock};

/// A configuration on disk, and the mock it points to.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) mock: Mock,
}

/// The key that signs events in the tests; not a secret.
pub(crate) const WEBHOOK_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// What each clip sounds like, in Hz. None is a harmonic of another.
pub(crate) const GREETING: f64 = 440.0;
pub(crate) const MENU: f64 = 610.0;
pub(crate) const MUSIC: f64 = 350.0;
pub(crate) const MESSAGE: f64 = 790.0;
pub(crate) const SORRY: f64 = 1010.0;
pub(crate) const GOODBYE: f64 = 1270.0;
pub(crate) const CALLER: f64 = 1530.0;

const CLIPS: &[(&str, f64, u64)] = &[
    ("greeting.wav", GREETING, 1000),
    ("menu.wav", MENU, 1500),
    ("music.wav", MUSIC, 2000),
    ("message.wav", MESSAGE, 1000),
    ("sorry.wav", SORRY, 800),
    ("goodbye.wav", GOODBYE, 500),
];

impl Rig {
    /// The usual tree: an echo on 102, a desk with lookup and menu on 100, one that rings for long on 103, a refusal on
    /// 486 and 503, and transfers on 201 to these targets in order.
    pub(crate) fn new(targets: &[SocketAddr]) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let mock = Mock::start();
        mock.answer("contacts", [Answer::Json(200, serde_json::json!({"name": "Ada"}))]);
        mock.answer("orders", [Answer::Json(200, serde_json::json!({"status": "shipped"}))]);
        let rig = Rig { folder, mock };
        rig.write_tree(targets);
        rig
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the tree, relative to the configuration's folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join("sip-config").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn write_tree(&self, targets: &[SocketAddr]) {
        let data = self.path().join("data").display().to_string();
        let origin = self.mock.url("");
        let (first, last) = port_range();
        self.write(
            "gateway.toml",
            &format!(
                "version = 1\n[sip]\nudp = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\n\
                 [media]\naddress = \"127.0.0.1\"\nport_first = {first}\nport_last = {last}\nloopback_only = true\n\
                 [store]\npath = \"{data}/ringback.db\"\ndata_dir = \"{data}\"\n\
                 [limits]\nmax_calls = 400\nmax_calls_per_second = 200\n\
                 [admin]\nlisten = \"127.0.0.1:0\"\n[egress]\nprivate = \"deny\"\nallow = [\"{origin}\"]\n"
            ),
        );
        let to_agent = |called: &str, agent: &str| format!("[[route]]\ncalled = \"{called}\"\nagent = \"{agent}\"\n");
        self.write(
            "routes.toml",
            &[
                "version = 1\n".to_owned(),
                to_agent("100", "desk"),
                to_agent("102", "echo"),
                to_agent("103", "patient"),
                to_agent("201", "switchboard"),
                "[[route]]\ncalled = \"486\"\nreject = \"busy\"\n".to_owned(),
                "[[route]]\ncalled = \"503\"\nreject = \"overload\"\nretry_after_s = 7\n".to_owned(),
                "[[route]]\ncalled = \"*\"\nreject = \"not_found\"\n".to_owned(),
            ]
            .concat(),
        );
        self.write(
            "webhooks.toml",
            &format!(
                "version = 1\n[[endpoint]]\nid = \"crm\"\nurl = \"{origin}/hooks\"\nevents = [\"call.ended\"]\n\
                 secret = {{ env = \"RINGBACK_TEST_WEBHOOK_SECRET\" }}\ntimeout_ms = 2000\n"
            ),
        );
        self.write(
            "trunks/carrier.toml",
            "version = 1\ntitle = \"This machine\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n",
        );
        self.write("agents/echo.toml", "version = 1\ntitle = \"Echo\"\nconnector = \"echo\"\nring_budget_ms = 1000\n");
        let agent = |workflow: &str, budget: u32, lookup: &str| {
            let before = if lookup.is_empty() { String::new() } else { format!("[[before]]\naction = \"{lookup}\"\n") };
            format!(
                "version = 1\ntitle = \"{workflow}\"\nconnector = \"flow\"\nring_budget_ms = {budget}\nrecord = true\n\
                 [flow]\nworkflow = \"{workflow}\"\n{before}"
            )
        };
        self.write("agents/desk.toml", &agent("desk", 1500, "lookup"));
        self.write("agents/patient.toml", &agent("desk", 8000, "forever"));
        self.write("agents/switchboard.toml", &agent("switchboard", 1500, ""));
        let lookup = |path: &str| {
            format!(
                "version = 1\ntitle = \"Look up\"\nphase = \"before\"\n[api]\nurl = \"{origin}/{path}\"\n\
                 timeout_ms = 10000\nsave = {{ \"customer.name\" = \"$.name\" }}\n"
            )
        };
        self.write("actions/lookup.toml", &lookup("contacts?number={{caller.number}}"));
        self.write("actions/forever.toml", &lookup("forever"));
        self.mock.answer("forever", [Answer::Hang]);
        self.write("workflows/desk.toml", &DESK.replace("ORIGIN", &origin));
        self.write("workflows/switchboard.toml", &switchboard(targets));
        for (name, hz, ms) in CLIPS {
            let path = self.path().join("sip-config/prompts").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_tone(&path, *hz, *ms, 8000);
        }
    }
}

const DESK: &str = r#"version = 1
title = "Desk"

[[step]]
id = "greeting"
say = { interruptible = true, prompt = { clips = ["greeting.wav"] } }

[[step]]
id = "choose"
on = { no_match = "bye" }
[step.menu]
wait_ms = 2000
tries = 2
prompt = { clips = ["menu.wav"] }
options = [
    { digit = "1", label = "Order", goto = "order" },
    { digit = "9", label = "Goodbye", goto = "bye" },
]

[[step]]
id = "order"
on_success = "said"
on_error = "unknown"
[step.api]
url = "ORIGIN/orders/7"
timeout_ms = 3000
save = { "order.status" = "$.status" }
waiting = { after_ms = 500, prompt = { clips = ["message.wav"] }, music = "music.wav" }

[[step]]
id = "said"
say.prompt = { clips = ["message.wav"] }
next = "bye"

[[step]]
id = "unknown"
say.prompt = { clips = ["sorry.wav"] }

[[step]]
id = "bye"
hang_up.goodbye = { clips = ["goodbye.wav"] }
"#;

fn switchboard(targets: &[SocketAddr]) -> String {
    // A workflow needs a target even where no test transfers: the discard port answers nobody.
    let listed: Vec<String> = targets.iter().map(|to| format!("{{ to = \"sip:desk@{to}\", ring_s = 3 }}")).collect();
    let listed =
        if listed.is_empty() { "{ to = \"sip:desk@127.0.0.1:9\", ring_s = 3 }".to_owned() } else { listed.join(", ") };
    format!(
        "version = 1\ntitle = \"Switchboard\"\n[[step]]\nid = \"greeting\"\nsay.prompt = {{ clips = [\"greeting.wav\"] }}\n\
         [[step]]\nid = \"move\"\non_success = \"end\"\non_error = \"bye\"\n[step.transfer]\ntargets = [{listed}]\n\
         message = {{ clips = [\"message.wav\"] }}\nmusic = \"music.wav\"\nsorry = {{ clips = [\"sorry.wav\"] }}\n\
         [[step]]\nid = \"bye\"\nhang_up.goodbye = {{ clips = [\"goodbye.wav\"] }}\n"
    )
}

/// A tone as a WAV file: 16 bits, one channel.
pub(crate) fn write_tone(path: &Path, hz: f64, ms: u64, rate: u32) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in tone(hz, ms, rate) {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
}

/// A tone in samples, at a third of full scale.
pub(crate) fn tone(hz: f64, ms: u64, rate: u32) -> Vec<i16> {
    let count = ms * u64::from(rate) / 1000;
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]
    (0..count).map(|n| ((n as f64 * hz * std::f64::consts::TAU / f64::from(rate)).sin() * 10_000.0) as i16).collect()
}

// Each gateway has RTP ports of its own, below the system's ephemeral ones; the process's id spreads test runs that
// happen at the same time.
fn port_range() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const WIDTH: u16 = 1600;
    let slots = (32_000 - 16_000) / WIDTH;
    let spread = u16::try_from(std::process::id() % 7).unwrap();
    let slot = (NEXT.fetch_add(1, Ordering::Relaxed) + spread) % slots;
    let first = 16_000 + slot * WIDTH;
    (first, first + WIDTH - 1)
}

/// The running binary. It is killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: PathBuf,
    ready: Value,
}

impl Gateway {
    /// Starts `ringback run` on this tree, and waits until it says that it is ready.
    pub(crate) fn start(rig: &Rig) -> Gateway {
        let mut command = Command::new(binary());
        command.args(["run", "--config-dir"]).arg(rig.path().join("sip-config")).arg("--json");
        Gateway::start_as(rig, command)
    }

    /// As [`Gateway::start`], by this command, which becomes the gateway.
    pub(crate) fn start_as(rig: &Rig, mut command: Command) -> Gateway {
        let log = rig.path().join("gateway.log");
        let log_file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut child = command
            .env("RINGBACK_TEST_WEBHOOK_SECRET", WEBHOOK_SECRET)
            .current_dir(rig.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .expect("the gateway starts");
        let lines = read_lines(&mut child);
        let ready = lines.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("the gateway did not get ready:\n{}", fs::read_to_string(&log).unwrap_or_default())
        });
        let ready: Value = serde_json::from_str(&ready).unwrap_or_else(|error| panic!("{error}: {ready}"));
        assert_eq!(ready["ready"], true, "{ready}");
        let admin = ready["admin"].as_str().expect("the ready line names the admin listener").parse().unwrap();
        Gateway { udp: listener(&ready, "udp"), tcp: listener(&ready, "tcp"), admin, child, log, ready }
    }

    /// Where it listens by this transport.
    #[allow(dead_code, reason = "the benches know only UDP and TCP")]
    pub(crate) fn address(&self, transport: &str) -> SocketAddr {
        listener(&self.ready, transport)
    }

    /// Its process id.
    #[allow(dead_code, reason = "the bench `load` reads its memory")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The sum of a metric over all its labels that hold these words.
    fn metric(&self, name: &str, labels: &str) -> f64 {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Asks for a metric until it is at least this, for it is counted when a leg closes, beside the call's own end.
    pub(crate) fn assert_counted(&self, name: &str, labels: &str, least: f64) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.metric(name, labels) < least {
            assert!(Instant::now() < until, "{name} is {} and not {least}", self.metric(name, labels));
        }
    }

    /// It has not died, and nothing in it panicked.
    pub(crate) fn assert_well(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the gateway died:\n{}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the gateway said:\n{}", self.log());
        }
    }
}

fn listener(ready: &Value, transport: &str) -> SocketAddr {
    let listed = ready["sip"].as_array().expect("the ready line lists SIP addresses");
    let is_it = |entry: &&Value| entry["transport"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(transport));
    let found = listed.iter().find(is_it).unwrap_or_else(|| panic!("no {transport} in {ready}"));
    found["address"].as_str().unwrap().parse().unwrap()
}

/// The gateway's binary: the one under test, or with `RINGBACK_BIN` another, a release build say.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("RINGBACK_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ringback")), PathBuf::from)
}

fn read_lines(child: &mut Child) -> Receiver<String> {
    let (tell, lines) = sync_channel(1024);
    let out = BufReader::new(child.stdout.take().expect("standard output is piped"));
    thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            // A full channel makes the program wait, a closed one makes it talk to nobody.
            let _ = tell.send(line);
        }
    });
    lines
}

/// A program that must end by itself within a time; it is killed, by its id, when it does not or is dropped.
pub(crate) struct Program {
    child: Child,
    /// Its children go with it: they all are of a process group of its own.
    is_group: bool,
    name: String,
    /// What it says, line by line; it closes when the program ends.
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Program {
    pub(crate) fn start(command: Command) -> Program {
        Program::spawn(command, Stdio::null(), false)
    }

    /// One that has children, which must not outlive it. Whoever interrupts the tests by a key does not reach it.
    #[allow(dead_code, reason = "the benches have no such program")]
    pub(crate) fn start_group(mut command: Command) -> Program {
        command.process_group(0);
        Program::spawn(command, Stdio::null(), true)
    }

    /// One that takes orders, line by line.
    #[allow(dead_code, reason = "the benches have no such program")]
    pub(crate) fn start_obedient(command: Command) -> Program {
        Program::spawn(command, Stdio::piped(), false)
    }

    fn spawn(mut command: Command, orders: Stdio, is_group: bool) -> Program {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(orders)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; ./test installs it"));
        let lines = read_lines(&mut child);
        Program { child, is_group, name, lines, said: Vec::new() }
    }

    /// Tells it something.
    #[allow(dead_code, reason = "the benches have no such program")]
    pub(crate) fn order(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("it takes orders"), "{line}").expect("it still listens");
    }

    /// Its process id, which is also its group's.
    #[allow(dead_code, reason = "the benches do not ask")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} is not done after {within:?}:\n{}", self.name, self.said())
                }
            }
        }
    }

    /// Waits for a line that holds these words.
    pub(crate) fn says(&mut self, words: &str, within: Duration) {
        let until = Instant::now() + within;
        while !self.said.last().is_some_and(|line| line.contains(words)) {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("{} did not say {words:?} within {within:?}:\n{}", self.name, self.said()),
            }
        }
    }

    /// Asks it to end, as `kill` does, and waits until it has.
    pub(crate) fn terminate(&mut self, within: Duration) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let until = Instant::now() + within;
        // Its lines end when it has; one that does not listen is killed when this is dropped.
        while asked.is_ok() && self.lines.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok() {}
    }

    pub(crate) fn said(&self) -> String {
        let from = self.said.len().saturating_sub(80);
        self.said[from..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_group {
            // Before it is waited for: until then nobody else can get this number.
            let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.child.id())]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A call to the echo that talks while `work` goes on beside it, and then proves that it noticed nothing.
pub(crate) fn beside_a_call<R>(gateway: SocketAddr, work: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    // The call is up before the work begins: its INVITE is sent once, and a flood may push it out of the kernel's queue.
    let mut caller = Caller::new(gateway, "102");
    caller.connect();
    thread::scope(|scope| {
        let bystander = scope.spawn(|| {
            let mut gaps = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let heard = caller.talk(Duration::from_secs(1), &tone(CALLER, 1000, 8000));
                gaps.push((heard.longest_gap, heard.tone(CALLER).map_or(0, |(from, to)| to - from)));
            }
            caller.hang_up();
            gaps
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let seconds = bystander.join().expect("the bystander's call goes well");
        for (gap, toned_ms) in &seconds {
            assert!(*gap < Duration::from_millis(200) && *toned_ms >= 800, "the call beside it suffered: {seconds:?}");
        }
        done
    })
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_port() -> SocketAddr {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

static MACHINE: RwLock<()> = RwLock::new(());

/// Held by tests that may run beside each other.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Held by tests that need the whole machine, because they measure.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}
