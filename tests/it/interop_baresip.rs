//! baresip on the other end: a softphone nobody here wrote. Its own recording says what was heard.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ringback::cli::phone::find;
use ringback::media::load_clip;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::caller::tone_in;
use crate::interop_sipp::Sipp;
use crate::rig::{
    CALLER, GOODBYE, GREETING, Gateway, MENU, MESSAGE, MUSIC, Program, Rig, free_port, shared, write_tone,
};

/// A softphone, remote-controlled.
pub(crate) struct Baresip {
    folder: TempDir,
    sip: SocketAddr,
    control: TcpStream,
    buffer: Vec<u8>,
    program: Program,
}

/// A port whose next one is free as well: baresip takes that for TLS.
fn free_pair() -> SocketAddr {
    let is_free =
        |at: &SocketAddr| at.port().checked_add(1).is_some_and(|next| TcpListener::bind((at.ip(), next)).is_ok());
    std::iter::repeat_with(free_port).take(100).find(is_free).expect("of a hundred ports, one is free")
}

impl Baresip {
    fn start() -> Baresip {
        Baresip::start_with("", "")
    }

    /// With a certificate of its own, which it also shows where it calls, and an authority that it trusts. It answers
    /// whoever calls.
    pub(crate) fn start_with_tls(certificate: &str, authority: &str) -> Baresip {
        let settings = format!("sip_certificate {certificate}\nsip_cafile {authority}\n");
        Baresip::start_with(&settings, ";transport=tls;answermode=auto")
    }

    /// Where it listens for TLS: one port above the other.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        SocketAddr::new(self.sip.ip(), self.sip.port() + 1)
    }

    pub(crate) fn start_with(settings: &str, account: &str) -> Baresip {
        Baresip::start_in("PCMU/8000/1", (8000, 60_000), settings, account)
    }

    /// In one codec, with a microphone of its rate that speaks for so many milliseconds.
    fn start_in(codec: &str, (rate, mouth_ms): (u32, u64), settings: &str, account: &str) -> Baresip {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display();
        let (sip, control) = (free_pair(), free_port());
        // Its call ends when its microphone's file does.
        write_tone(&folder.path().join("mouth.wav"), CALLER, mouth_ms, rate);
        let config = format!(
            "poll_method epoll\nsip_listen {sip}\nnet_interface 127.0.0.1\nmodule_path /usr/lib/baresip/modules\n\
             audio_source aufile,{dir}/mouth.wav\naudio_player aubridge,ear\nausrc_srate {rate}\nauplay_srate {rate}\n\
             ausrc_channels 1\nauplay_channels 1\nrtp_ports {}\nsnd_path {dir}\nctrl_tcp_listen {control}\n\
             opus_stereo no\nopus_sprop_stereo no\nmodule g711.so\nmodule g722.so\nmodule opus.so\nmodule l16.so\n\
             module aufile.so\nmodule aubridge.so\nmodule sndfile.so\nmodule_tmp account.so\n\
             module_app menu.so\nmodule_app ctrl_tcp.so\n{settings}",
            rtp_ports()
        );
        fs::write(folder.path().join("config"), config).unwrap();
        // Parameters of the account stand outside of its address.
        let outside = [";answermode", ";mediaenc"].iter().filter_map(|name| account.find(name)).min();
        let (inside, outside) = account.split_at(outside.unwrap_or(account.len()));
        let account = format!("<sip:ada@{sip}{inside}>;regint=0;audio_codecs={codec}{outside}\n");
        fs::write(folder.path().join("accounts"), account).unwrap();
        fs::write(folder.path().join("contacts"), "").unwrap();
        let mut command = Command::new("baresip");
        command.arg("-f").arg(folder.path());
        if !settings.is_empty() {
            command.arg("-s");
        }
        // Its lines are held back in a pipe unless somebody asks for them at once.
        let mut command = unbuffered(command);
        command.current_dir(folder.path());
        let mut program = Program::start(command);
        program.says("baresip is ready", Duration::from_secs(20));
        let control = TcpStream::connect(control).expect("baresip takes orders");
        Baresip { folder, sip, control, buffer: Vec::new(), program }
    }

    /// Waits for a line of a SIP message, sent or received; only with [`Baresip::start_with_tls`], which shows them.
    pub(crate) fn says(&mut self, words: &str, within: Duration) {
        self.program.says(words, within);
    }

    pub(crate) fn order(&mut self, command: &str, parameters: &str) {
        let message = json!({"command": command, "params": parameters}).to_string();
        // A netstring: length, colon, text, comma.
        write!(self.control, "{}:{message},", message.len()).unwrap();
    }

    /// Waits for an event of this type; others are passed over.
    pub(crate) fn event(&mut self, kind: &str, within: Duration) -> Value {
        let until = Instant::now() + within;
        loop {
            while let Some(message) = self.take_message() {
                if message["type"] == kind {
                    return message;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "baresip did not say {kind} within {within:?}");
            self.control.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 4096];
            let length = self.control.read(&mut chunk).unwrap_or_else(|error| panic!("no {kind}: {error}"));
            assert!(length > 0, "baresip is gone");
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }

    fn take_message(&mut self) -> Option<Value> {
        let colon = self.buffer.iter().position(|octet| *octet == b':')?;
        let length: usize = std::str::from_utf8(&self.buffer[..colon]).unwrap().parse().unwrap();
        let end = colon + 1 + length;
        if self.buffer.len() <= end {
            return None;
        }
        let message = serde_json::from_slice(&self.buffer[colon + 1..end]).unwrap();
        self.buffer.drain(..=end);
        Some(message)
    }

    /// What it heard, when its call is over.
    pub(crate) fn recording(&self) -> Vec<i16> {
        let mut files = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let heard =
            files.find(|path| path.to_string_lossy().ends_with("-dec.wav")).expect("baresip records what it hears");
        let mut heard = hound::WavReader::open(heard).unwrap();
        // Of two channels, which Opus makes of one, the first is enough.
        let channels = usize::from(heard.spec().channels);
        heard.samples::<i16>().step_by(channels).map(Result::unwrap).collect()
    }
}

fn unbuffered(command: Command) -> Command {
    let mut wrapped = Command::new("stdbuf");
    wrapped.arg("-oL").arg(command.get_program()).args(command.get_args());
    wrapped
}

fn rtp_ports() -> String {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let low = 15_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 9 * 100;
    format!("{low}-{}", low + 98)
}

#[test]
fn interop_baresip_hears_the_greeting_and_chooses_by_key() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut phone = Baresip::start();

    phone.order("dial", &format!("sip:100@{}", gateway.udp));
    phone.event("CALL_ESTABLISHED", secs(10));
    // The order status is asked for when the key was understood, and the call is hung up by us in the end.
    phone.order("sndcode", "1");
    rig.mock.next("orders", secs(10)).expect("the key was heard");
    phone.event("CALL_CLOSED", secs(20));

    let heard = phone.recording();
    let greeting = tone_in(&heard, GREETING, 8000).expect("greeting");
    let said = tone_in(&heard, MESSAGE, 8000).expect("the order's state");
    let goodbye = tone_in(&heard, GOODBYE, 8000).expect("goodbye");
    assert!(greeting.0 < 300, "the greeting begins at once: {greeting:?}");
    assert!(greeting.0 < said.0 && said.1 <= goodbye.0 + 40, "{greeting:?} {said:?} {goodbye:?}");
    assert!(goodbye.1 - goodbye.0 >= 400, "heard to its end: {goodbye:?}");
    assert_eq!(rig.mock.event().json()["data"]["endedBy"], "agent");
}

#[test]
fn interop_baresip_hears_speech_word_for_word() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let prompts = rig.path().join("sip-config/prompts");
    for (prompt, speech) in [("greeting.wav", "hello.wav"), ("goodbye.wav", "goodbye.wav")] {
        fs::copy(fixture(speech), prompts.join(prompt)).unwrap();
    }
    let gateway = Gateway::start(&rig);
    let mut phone = Baresip::start();

    // No key is pressed, so everything is said to its end, and the call is hung up by us.
    phone.order("dial", &format!("sip:100@{}", gateway.udp));
    phone.event("CALL_CLOSED", secs(30));

    let heard = phone.recording();
    let starts = |speech: &str| find(&heard, &load_clip(&fixture(speech)).unwrap(), 0);
    let greeting = starts("hello.wav").expect("the greeting's words");
    let menu = tone_in(&heard, MENU, 8000).expect("the menu");
    let goodbye = starts("goodbye.wav").expect("the goodbye's words");
    assert!(greeting < 300 * 8, "the greeting begins at once: sample {greeting}");
    assert!(menu.0 * 8 > greeting && menu.1 * 8 < goodbye, "{greeting} {menu:?} {goodbye}");
    assert_eq!(starts("transfer.wav"), None, "what was not said is not heard");
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("audio-fixtures").join(name)
}

#[test]
fn interop_baresip_hears_the_whole_menu_when_it_waits() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut phone = Baresip::start();

    phone.order("dial", &format!("sip:100@{}", gateway.udp));
    phone.event("CALL_CLOSED", secs(30));

    let heard = phone.recording();
    let (greeting, menu) = (tone_in(&heard, GREETING, 8000).unwrap(), tone_in(&heard, MENU, 8000).unwrap());
    assert!(greeting.1.abs_diff(greeting.0 + 1000) < 120, "a second of greeting: {greeting:?}");
    assert!(menu.0.abs_diff(greeting.1) < 200, "{greeting:?} {menu:?}");
    assert!(tone_in(&heard, GOODBYE, 8000).is_some(), "two menus without an answer end in a goodbye");
}

#[test]
fn interop_baresip_hears_music_until_the_colleague_answers() {
    let _machine = shared();
    let target = free_port();
    let rig = Rig::new(&[target]);
    let gateway = Gateway::start(&rig);
    let colleague = Sipp::target("uas_slow.xml", target);
    let mut phone = Baresip::start();

    phone.order("dial", &format!("sip:201@{}", gateway.udp));
    phone.event("CALL_ESTABLISHED", secs(10));
    colleague.succeeds(secs(20));
    phone.event("CALL_CLOSED", secs(10));

    let heard = phone.recording();
    let (message, music) = (tone_in(&heard, MESSAGE, 8000).unwrap(), tone_in(&heard, MUSIC, 8000).unwrap());
    assert!(music.0.abs_diff(message.1) < 200, "music follows the message without a hole: {message:?} {music:?}");
    assert!(music.1 - music.0 >= 500, "music until somebody answers: {music:?}");
    let event = rig.mock.event().json();
    assert_eq!(event["data"]["status"], "TRANSFERRED");
    assert_eq!(event["data"]["endedBy"], "callee");
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Its own voice comes back from the echo, so both its coders met both of ours.
fn echoes_in(codec: &str, rate: u32, name: &str) {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/carrier.toml",
        &format!(
            "version = 1\ntitle = \"This machine\"\ncodecs = [\"{name}\"]\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n"
        ),
    );
    let gateway = Gateway::start(&rig);
    let mut phone = Baresip::start_in(codec, (rate, 3000), "", "");

    phone.order("dial", &format!("sip:102@{}", gateway.udp));
    phone.event("CALL_ESTABLISHED", secs(10));
    // With the end of its microphone's file.
    phone.event("CALL_CLOSED", secs(20));

    let heard = phone.recording();
    let echo = tone_in(&heard, CALLER, rate as usize).unwrap_or_else(|| panic!("{codec}: nothing came back"));
    assert!(echo.1 - echo.0 >= 2000, "{codec}: the echo holds for {echo:?} ms");
}

#[test]
fn interop_baresip_hears_its_echo_in_g722() {
    echoes_in("G722/16000/1", 16_000, "g722");
}

#[test]
fn interop_baresip_hears_its_echo_in_opus() {
    echoes_in("opus/48000/2", 48_000, "opus");
}

#[test]
fn interop_baresip_hears_its_echo_in_l16() {
    echoes_in("L16/16000/1", 16_000, "l16_16k");
}
