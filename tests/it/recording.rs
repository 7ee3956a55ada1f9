//! Recordings of the real binary, opened by programs that nobody here wrote, after all kinds of ends.

#![allow(clippy::disallowed_methods, reason = "real calls are measured by the real clock")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::caller::{Caller, tone_in};
use crate::rig::{self, Gateway, Rig};

#[test]
fn a_killed_gateway_leaves_a_recording_that_others_open() {
    let rig = Rig::new(&[]);
    record_the_echo(&rig);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.connect();
    caller.talk(Duration::from_millis(7500), &rig::tone(rig::CALLER, 7000, 8000));

    gateway.kill();

    let path = recording(&rig, ".wav");
    let seconds: f64 = run("soxi", &["-D", text(&path)]).trim().parse().expect("a duration");
    assert!((5.0..7.7).contains(&seconds), "sox reads {seconds} s of 7.5");
    let decoded =
        run("ffprobe", &["-v", "error", "-show_entries", "stream=channels,duration", "-of", "csv=p=0", text(&path)]);
    assert!(decoded.starts_with("2,5."), "ffprobe reads {decoded}");
    let page = page(&path);
    assert_eq!((page["duration_ms"].is_null(), &page["version"]), (true, &Value::from(1)), "{page}");

    // The next start ends the call, and its record says where the recording is.
    let _gateway = Gateway::start(&rig);
    assert_eq!(wait_for_record(&rig)["recording"], text(&path));
}

#[test]
fn both_channels_are_as_long_as_the_call_and_the_echo_follows_its_cause() {
    let rig = Rig::new(&[]);
    record_the_echo(&rig);
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.connect();
    let began = Instant::now();
    let noise = noise(8000 * 5);
    let heard = caller.talk(Duration::from_millis(6000), &noise);
    let lasted = began.elapsed();
    caller.hang_up();

    let record = wait_for_record(&rig);
    let path = PathBuf::from(record["recording"].as_str().expect("it was recorded"));
    let (left, right) = channels(&path);
    assert_eq!(left.len(), right.len());
    let ms = left.len() as f64 / 8.0;
    // What lies between the ACK and the first tick, and between the last and the BYE, is part of the call.
    assert!((ms - lasted.as_secs_f64() * 1000.0).abs() < 60.0, "{ms} ms of {lasted:?}");
    // What the caller said stands on the left as one piece, and on the right a little later.
    let (said, echoed) = (lag(&noise, &left), lag(&left[said_from(&left)..][..8000], &right));
    assert!(said.is_some() && echoed.is_some(), "{said:?} {echoed:?}");
    let echo = echoed.expect("was just seen") as i64 - said_from(&left) as i64;
    assert!((0..=8 * 100).contains(&echo), "the echo comes {echo} samples behind");
    assert!(heard.packets > 250);
    let page = page(&path);
    assert_eq!(page["duration_ms"], Value::from(left.len() / 8));
    gateway.assert_well();
}

#[test]
fn a_sealed_opus_recording_is_opened_by_our_command_and_played_by_others() {
    let rig = Rig::new(&[]);
    record_the_echo(&rig);
    rig.write("secrets/recordings", &"5e".repeat(32));
    let gateway_toml = rig.path().join("sip-config/gateway.toml");
    let tables = "[recordings]\nformat = \"opus\"\nkey = { file = \"secrets/recordings\" }\n";
    fs::write(&gateway_toml, fs::read_to_string(&gateway_toml).unwrap() + tables).unwrap();
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.connect();
    caller.talk(Duration::from_millis(3000), &rig::tone(rig::CALLER, 2500, 8000));
    caller.hang_up();
    let record = wait_for_record(&rig);
    let sealed = PathBuf::from(record["recording"].as_str().expect("it was recorded"));
    let clear = rig.path().join("clear.ogg");

    let open = |config: &Path, out: &Path| {
        let mut command = Command::new(rig::binary());
        command.args(["recording", "open", text(&sealed), "--out", text(out), "--config-dir", text(config)]);
        command.env("RINGBACK_TEST_WEBHOOK_SECRET", rig::WEBHOOK_SECRET).current_dir(rig.path()).output().unwrap()
    };
    let opened = open(&rig.path().join("sip-config"), &clear);

    assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
    assert!(text(&sealed).ends_with(".ogg.sealed"));
    assert!(!fs::read(&sealed).unwrap().windows(4).any(|four| four == b"OggS"), "it never stood in the clear");
    let decoded = rig.path().join("decoded.wav");
    run("ffmpeg", &["-v", "error", "-i", text(&clear), "-ar", "8000", text(&decoded)]);
    let (left, right) = channels(&decoded);
    let page = page(&sealed);
    let ms = page["duration_ms"].as_u64().expect("it is complete") as usize;
    assert!((left.len() / 8).abs_diff(ms) <= 1, "{} ms of {ms}", left.len() / 8);
    assert!(tone_in(&left, rig::CALLER, 8000).is_some() && tone_in(&right, rig::CALLER, 8000).is_some());

    // Without its key it is gone, also for us.
    let mut delete = Command::new(rig::binary());
    delete.args(["recording", "delete", text(&sealed), "--why", "the test", "--config-dir"]);
    let deleted = delete.arg(rig.path().join("sip-config")).current_dir(rig.path()).output().unwrap();
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    let folder = sealed.parent().unwrap();
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["deleted.jsonl"]);
}

#[test]
fn a_caller_who_does_not_agree_is_not_recorded() {
    let rig = Rig::new(&[]);
    let ask =
        "record = true\n[consent]\npolicy = \"ask\"\nprompt = { clips = [\"menu.wav\"] }\nwait_s = 1\ntries = 1\n";
    let echo = "version = 1\ntitle = \"Echo\"\nconnector = \"echo\"\nring_budget_ms = 1000\n";
    rig.write("agents/echo.toml", &format!("{echo}{ask}"));
    let gateway = Gateway::start(&rig);

    // One says nothing, the other presses the key that agrees.
    let mut silent = Caller::new(gateway.udp, "102");
    silent.connect();
    let question = silent.talk(Duration::from_millis(3500), &[]);
    silent.hang_up();
    let refused = wait_for_record(&rig);
    let mut agrees = Caller::new(gateway.udp, "102");
    agrees.connect();
    agrees.talk(Duration::from_millis(800), &[]);
    agrees.press(1);
    agrees.talk(Duration::from_millis(2000), &rig::tone(rig::CALLER, 1500, 8000));
    agrees.hang_up();
    let given = wait_for_record(&rig);

    assert!(question.has_tone(rig::MENU, 1000), "the question is heard first");
    assert_eq!((&refused["consent"]["result"], &refused["recorded"]), (&Value::from("refused"), &Value::from(false)));
    assert_eq!((&given["consent"]["result"], &given["recorded"]), (&Value::from("given"), &Value::from(true)));
    let path = PathBuf::from(given["recording"].as_str().unwrap());
    let (left, right) = channels(&path);
    assert!(tone_in(&right, rig::MENU, 8000).is_none(), "nothing of before the consent is in it");
    assert!(tone_in(&left, rig::CALLER, 8000).is_some());
    assert_eq!(page(&path)["consent"], "given");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "one recording and its page");
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_call() {
    let rig = Rig::new(&[]);
    record_the_echo(&rig);
    // The gateway sees a disk of 192 kB in the place of its recordings, which holds some six seconds.
    let folder = rig.path().join("data/recordings");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=192k tmpfs '{}' && exec '{}' run --config-dir sip-config --json",
        folder.display(),
        rig::binary().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", &script]).current_dir(rig.path());
    let gateway = Gateway::start_as(&rig, command);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.connect();

    caller.talk(Duration::from_millis(8000), &rig::tone(rig::CALLER, 7500, 8000));
    gateway.assert_counted("ringback_recordings_broken_total", "", 1.0);
    let heard = caller.talk(Duration::from_millis(3000), &rig::tone(rig::GREETING, 1500, 8000));
    caller.hang_up();

    assert!(heard.has_tone(rig::GREETING, 800), "the echo goes on");
    assert!(heard.longest_gap < Duration::from_millis(500), "{:?}", heard.longest_gap);
    assert!(gateway.log().contains("No space left on device"), "{}", gateway.log());
    let record = wait_for_record(&rig);
    assert_eq!(record["status"], "COMPLETED");
}

fn record_the_echo(rig: &Rig) {
    let echo = "version = 1\ntitle = \"Echo\"\nconnector = \"echo\"\nring_budget_ms = 1000\nrecord = true\n";
    rig.write("agents/echo.toml", echo);
}

fn recording(rig: &Rig, ending: &str) -> PathBuf {
    let mut found = fs::read_dir(rig.path().join("data/recordings")).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| text(path).ends_with(ending)).expect("there is a recording")
}

fn page(recording: &Path) -> Value {
    let name = recording.file_name().unwrap().to_str().unwrap();
    let id = name.split('.').next().unwrap();
    serde_json::from_slice(&fs::read(recording.with_file_name(format!("{id}.json"))).unwrap()).unwrap()
}

/// The record of the next call that ends, as the mock is told of it.
fn wait_for_record(rig: &Rig) -> Value {
    let event: Value = serde_json::from_slice(&rig.mock.event().body).expect("an event is JSON");
    event["data"].clone()
}

fn channels(path: &Path) -> (Vec<i16>, Vec<i16>) {
    let mut reader = hound::WavReader::open(path).expect("is a WAV file");
    assert_eq!(reader.spec().channels, 2);
    let samples: Vec<i16> = reader.samples().map(|sample| sample.expect("is complete")).collect();
    (samples.iter().step_by(2).copied().collect(), samples.iter().skip(1).step_by(2).copied().collect())
}

/// Where the first sound is.
fn said_from(samples: &[i16]) -> usize {
    samples.iter().position(|sample| sample.unsigned_abs() > 1000).expect("something is said")
}

/// Where a piece stands in a longer one: the lag with the highest correlation, if that is clear.
fn lag(piece: &[i16], whole: &[i16]) -> Option<usize> {
    let piece = &piece[..piece.len().min(4000)];
    let energy = |samples: &[i16]| samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
    let best = (0..whole.len().saturating_sub(piece.len()))
        .map(|at| {
            let there = &whole[at..at + piece.len()];
            let product: f64 = piece.iter().zip(there).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            (at, product / (energy(piece) * energy(there)).sqrt().max(1.0))
        })
        .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    (best.1 > 0.6).then_some(best.0)
}

/// Noise, which correlates with itself at one place only.
fn noise(samples: usize) -> Vec<i16> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    (0..samples)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 50) as i16 - 8192
        })
        .collect()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    let output = command.args(arguments).process_group(0).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; ./test installs it"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("is text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of this test is text")
}
