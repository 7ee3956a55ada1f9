//! SIPp on the other end: scenarios of `tests/interop/sipp`, its exit status and its statistics as the verdict.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use crate::caller::{Caller, encode};
use crate::rig::{
    CALLER, GREETING, Gateway, MESSAGE, MUSIC, Program, Rig, SORRY, alone, beside_a_call, free_port, shared, tone,
};
use crate::source::root;

/// One SIPp, in a folder of its own.
pub(crate) struct Sipp {
    folder: TempDir,
    program: Program,
}

impl Sipp {
    /// A caller that runs this scenario against a number of the gateway.
    pub(crate) fn caller(scenario: &str, gateway: SocketAddr, called: &str, more: &[&str]) -> Sipp {
        let mut arguments = vec![gateway.to_string(), "-s".to_owned(), called.to_owned()];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Sipp::start(scenario, free_port(), &arguments)
    }

    /// Somebody who can be called once, at this address.
    pub(crate) fn target(scenario: &str, at: SocketAddr) -> Sipp {
        Sipp::target_with(scenario, at, &[])
    }

    /// The same, with further options.
    pub(crate) fn target_with(scenario: &str, at: SocketAddr, more: &[&str]) -> Sipp {
        let arguments: Vec<String> = ["-m", "1"].iter().chain(more).map(|argument| (*argument).to_owned()).collect();
        Sipp::start(scenario, at, &arguments)
    }

    fn start(scenario: &str, at: SocketAddr, more: &[String]) -> Sipp {
        let folder = tempfile::tempdir().unwrap();
        // Half a minute of tone as raw µ-law, which is what rtp_stream plays.
        let ulaw: Vec<u8> = tone(CALLER, 30_000, 8000).into_iter().map(encode).collect();
        fs::write(folder.path().join("caller.ulaw"), ulaw).unwrap();
        let media = media_port();
        let mut command = Command::new("sipp");
        command
            .arg("-sf")
            .arg(root().join("tests/interop/sipp").join(scenario))
            .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-trace_err", "-error_file", "errors.log"])
            .args(["-trace_stat", "-stf", "stat.csv", "-fd", "1"])
            .args(["-p", &at.port().to_string(), "-mp", &media.to_string()])
            .args(more)
            .current_dir(folder.path());
        Sipp { program: Program::start(command), folder }
    }

    /// Waits for its end, which must be a good one, and gives its last statistics by column.
    pub(crate) fn succeeds(mut self, within: Duration) -> BTreeMap<String, String> {
        let status = self.program.wait(within);
        let errors = fs::read_to_string(self.folder.path().join("errors.log")).unwrap_or_default();
        assert!(status.success(), "SIPp ended with {status}:\n{}\n{errors}", self.program.said());
        self.statistics()
    }

    fn statistics(&self) -> BTreeMap<String, String> {
        let path: PathBuf = self.folder.path().join("stat.csv");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let names = lines.next().unwrap_or_default().split(';');
        let values = lines.next_back().unwrap_or_default().split(';');
        names.zip(values).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

// Each SIPp has its own media ports, below the gateways' and the phones'.
fn media_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    6_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 30 * 300
}

#[test]
fn interop_sipp_calls_with_audio() {
    // A gateway whose media threads are kept from the processor refuses calls, as it should.
    let _machine = alone();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);

    let udp = Sipp::caller("uac_media.xml", gateway.udp, "102", &["-m", "10", "-r", "5", "-d", "1500"]);
    let statistics = udp.succeeds(secs(60));
    let tcp = Sipp::caller("uac_media.xml", gateway.tcp, "102", &["-m", "2", "-d", "1000", "-t", "t1"]);
    tcp.succeeds(secs(60));

    assert_no_failure(&statistics, "10");
    for _ in 0..12 {
        assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    }
    gateway.assert_well();
}

#[test]
fn interop_sipp_gives_up_while_it_rings() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);

    let caller = Sipp::caller("uac_cancel.xml", gateway.udp, "103", &["-m", "5", "-r", "5"]);
    caller.succeeds(secs(60));

    for _ in 0..5 {
        assert_eq!(rig.mock.event().json()["data"]["status"], "CANCELED");
    }
}

#[test]
fn interop_sipp_is_told_that_a_number_is_busy() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);

    let caller = Sipp::caller("uac_busy.xml", gateway.udp, "486", &["-m", "5", "-r", "5"]);
    caller.succeeds(secs(60));
}

#[test]
fn interop_sipp_that_never_acknowledges_is_hung_up() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);

    // -nr: it answers no repetition, as if each ACK were lost. The gateway gives up after 64·T1 = 32 s.
    let caller = Sipp::caller("uac_no_ack.xml", gateway.udp, "102", &["-m", "1", "-nr"]);
    caller.succeeds(secs(60));

    let event = rig.mock.event().json();
    assert_eq!(event["data"]["endReason"], "not_acknowledged");
    gateway.assert_well();
}

#[test]
fn interop_a_busy_target_is_followed_by_one_that_answers() {
    let _machine = shared();
    let (first, second) = (free_port(), free_port());
    let rig = Rig::new(&[first, second]);
    let gateway = Gateway::start(&rig);
    let busy = Sipp::target("uas_busy.xml", first);
    let answers = Sipp::target("uas_answer.xml", second);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(secs(5), &[]);
    caller.hang_up();

    assert!(heard.has_tone(GREETING, 800) && heard.has_tone(MESSAGE, 500), "greeting and message");
    assert!(heard.longest_gap < Duration::from_millis(200), "a hole of {:?}", heard.longest_gap);
    busy.succeeds(secs(20));
    answers.succeeds(secs(20));
    let event = rig.mock.event().json();
    assert_eq!(event["data"]["status"], "TRANSFERRED");
    assert!(event["data"]["transferredTo"].as_str().unwrap().contains(&second.to_string()), "{event}");
}

#[test]
fn interop_a_target_that_rings_for_ever_is_given_up() {
    let _machine = shared();
    let target = free_port();
    let rig = Rig::new(&[target]);
    let gateway = Gateway::start(&rig);
    let rings = Sipp::target("uas_ring.xml", target);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(secs(7), &[]);

    rings.succeeds(secs(20));
    assert!(heard.has_tone(MUSIC, 1000), "the caller hears music while it rings");
    assert!(heard.has_tone(SORRY, 500), "and that nobody is there");
}

#[test]
fn interop_a_target_stops_ringing_when_the_caller_hangs_up() {
    let _machine = shared();
    let target = free_port();
    let rig = Rig::new(&[target]);
    let gateway = Gateway::start(&rig);
    let rings = Sipp::target("uas_ring.xml", target);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    caller.talk(Duration::from_millis(2200), &[]);
    caller.hang_up();

    rings.succeeds(secs(10));
    assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
}

#[test]
fn interop_an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let _machine = shared();
    let target = free_port();
    let rig = Rig::new(&[target]);
    let mut gateway = Gateway::start(&rig);
    let late = Sipp::target("uas_late.xml", target);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    caller.talk(secs(7), &[]);

    late.succeeds(secs(20));
    gateway.assert_well();
}

#[test]
fn interop_a_thousand_calls_with_audio_fail_nowhere() {
    let _machine = alone();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);

    let load = ["-m", "1000", "-r", "50", "-l", "400", "-d", "2000"];
    let statistics =
        beside_a_call(gateway.udp, || Sipp::caller("uac_media.xml", gateway.udp, "102", &load).succeeds(secs(180)));

    assert_no_failure(&statistics, "1000");
    let ends = (0..=1000).map(|_| rig.mock.event().header("webhook-id").to_owned());
    assert_eq!(ends.collect::<std::collections::BTreeSet<_>>().len(), 1001, "each call is told of");
    // Each call talks for two seconds at 50 packets a second, and hears its echo.
    gateway.assert_counted("ringback_rtp_packets_total", "", 150_000.0);
    gateway.assert_well();
}

pub(crate) fn assert_no_failure(statistics: &BTreeMap<String, String>, calls: &str) {
    assert_eq!(statistics.get("SuccessfulCall(C)").map(String::as_str), Some(calls), "{statistics:#?}");
    let bad = [
        "FailedCall(C)",
        "FailedUnexpectedMessage(C)",
        "FailedTimeoutOnRecv(C)",
        "DeadCallMsgs(C)",
        "OutOfCallMsgs(C)",
    ];
    for name in bad {
        assert_eq!(statistics.get(name).map(String::as_str), Some("0"), "{name}: {statistics:#?}");
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
