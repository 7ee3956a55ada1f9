//! The gateway that is measured: its files, its process, and what the system says of it.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::num::NonZero;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::Profile;
use super::load::Load;

/// A gateway of our own, as a process of its own. It is killed, and its files are removed, when this is dropped.
#[derive(Debug)]
pub(super) struct House {
    child: Child,
    root: PathBuf,
    /// Where it is called.
    pub(super) sip: SocketAddr,
    /// It and the load have processors of their own.
    pub(super) is_pinned: bool,
}

/// Which processors each side gets.
struct Split {
    gateway: String,
    load: String,
}

impl House {
    /// Writes the files of a profile and starts the gateway on them.
    ///
    /// # Errors
    /// What could not be had.
    pub(super) fn open(profile: Profile, calls: u16, load: &Load, callees: SocketAddr) -> Result<House, String> {
        let root = std::env::temp_dir().join(format!("ringback-bench-{}", Uuid::now_v7()));
        let opened = write_files(&root, profile, calls, load, callees)
            .map_err(|error| format!("writing {}: {error}", root.display()))
            .and_then(|()| start(&root));
        match opened {
            Ok((child, sip, is_pinned)) => Ok(House { child, root, sip, is_pinned }),
            Err(why) => {
                // There may be nothing of it.
                let _ = fs::remove_dir_all(&root);
                Err(why)
            }
        }
    }

    /// User and system time of the gateway so far (proc(5), fields 14 and 15 of `stat`, in hundredths of a second).
    pub(super) fn processor_time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let fields = stat.rsplit_once(')')?.1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Some(Duration::from_millis(ticks * 10))
    }

    /// Memory of the gateway that is resident, in KiB.
    pub(super) fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // One that died already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn start(root: &Path) -> Result<(Child, SocketAddr, bool), String> {
    let own = std::env::current_exe().map_err(|error| format!("finding our own program: {error}"))?;
    let split = split();
    let mut command = match &split {
        Some(split) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &split.gateway]).arg(own);
            command
        }
        None => Command::new(own),
    };
    let mut child = command
        .args(["run", "--json", "--config-dir"])
        .arg(root.join("sip-config"))
        .env("RUST_LOG", "warn")
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("starting the gateway: {error}"))?;
    let ready = child.stdout.take().and_then(|out| {
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).ok()?;
        let ready: Value = serde_json::from_str(&line).ok()?;
        let udp = ready["sip"].as_array()?.iter().find(|place| place["transport"] == "udp")?;
        udp["address"].as_str()?.parse().ok()
    });
    let Some(sip) = ready else {
        let _ = child.kill();
        let said = child.stderr.take().map(io::read_to_string).and_then(Result::ok).unwrap_or_default();
        let _ = child.wait();
        return Err(format!("the gateway did not get ready:\n{said}"));
    };
    Ok((child, sip, split.is_some()))
}

/// Binds this process to the last processor and leaves the others to the gateway. `None` with one processor, or without
/// `taskset`: no crate in use has a safe form of the system call.
fn split() -> Option<Split> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let last = processors.checked_sub(1).filter(|last| *last > 0)?;
    let split = Split { gateway: format!("0-{}", last - 1), load: last.to_string() };
    let mut command = Command::new("taskset");
    command.args(["-acp", &split.load, &std::process::id().to_string()]);
    let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success()).then_some(split)
}

fn write_files(root: &Path, profile: Profile, calls: u16, load: &Load, callees: SocketAddr) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let data = root.join("data").display().to_string();
    let config = root.join("sip-config");
    let write = |name: &str, text: String| {
        let path = config.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&config))?;
        fs::write(path, text)
    };
    write(
        "gateway.toml",
        format!(
            "version = 1\n[sip]\nudp = [\"127.0.0.1:0\"]\ntcp = []\n\
             [media]\naddress = \"127.0.0.1\"\nport_first = {PORT_FIRST}\nport_last = {PORT_LAST}\n\
             loopback_only = true\n[store]\npath = \"{data}/ringback.db\"\ndata_dir = \"{data}\"\n\
             [limits]\nmax_calls = {}\nmax_calls_per_second = 200\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            u32::from(calls) + 10
        ),
    )?;
    write(
        "trunks/load.toml",
        "version = 1\ntitle = \"The load\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n".to_owned(),
    )?;
    let to = match profile {
        Profile::Relay => {
            write(
                "trunks/callees.toml",
                format!(
                    "version = 1\ntitle = \"The callees\"\n[outbound]\ngateways = [\"sip:{callees}\"]\nprobe_s = 0\n\
                     [outbound.allow]\ncountries = [\"GB\"]\n"
                ),
            )?;
            "forward = { trunk = \"callees\", to = \"+441632960007\" }"
        }
        Profile::Ulaw | Profile::Realtime | Profile::Full => {
            let connector = if profile == Profile::Ulaw { "ringback-ws" } else { VENDOR_LIKE };
            write(
                "agents/echo.toml",
                format!(
                    "version = 1\ntitle = \"The echo\"\nconnector = \"{connector}\"\nrecord = {}\n[settings]\n\
                     url = \"ws://{}/\"\n",
                    profile == Profile::Full,
                    load.agents
                ),
            )?;
            "agent = \"echo\""
        }
    };
    write("routes.toml", format!("version = 1\n[[route]]\ncalled = \"*\"\n{to}\n"))
}

/// The connector that carries sound as base64 in JSON.
const VENDOR_LIKE: &str = "openai-realtime";
/// Below the ports that systems give out by themselves.
const PORT_FIRST: u16 = 12_000;
const PORT_LAST: u16 = 31_999;
