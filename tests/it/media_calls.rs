//! The media workers on real loopback sockets.

use std::time::{Duration, Instant};

use ringback::media::{Clip, Noticed, alaw_to_ulaw, ulaw_to_alaw};
use ringback::model::{Codec, Digit, Form, Heard, LegId, Mouth, PlayId, Speech, Voice};
use tokio::sync::mpsc;

use crate::media_support::{EVENTS, Packet, Stage};

const CALLER: LegId = LegId(0);
const AGENT: LegId = LegId(1);
const TARGET: LegId = LegId(2);
const SILENCE: u8 = 0xFF;

#[tokio::test]
async fn early_packets_are_heard_and_the_first_packet_answers_the_answer() {
    let mut stage = Stage::new(31_000);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    let (_speech, _mouth) = agent(&stage);
    stage.call.wire(vec![(AGENT, vec![CALLER])]).expect("wires");

    for _ in 0..5 {
        caller.say(0x85);
    }
    stage.wait_for("first packet", |what| *what == Noticed::FirstPacket).await;
    stage.wait_for("frame of the caller", |what| frame(what) == Some([0x85; 160])).await;
    let answered = now();
    stage.answer(&caller);
    let first = caller.listen();

    assert_eq!(first.payload, [SILENCE; 160]);
    assert!(first.at - answered < Duration::from_millis(250), "{:?}", first.at - answered);
    for _ in 0..10 {
        caller.listen();
    }
    caller.assert_one_stream();
}

#[tokio::test]
async fn keys_go_in_and_out() {
    let mut stage = Stage::new(31_100);
    let mut caller = stage.party(CALLER, Codec::Pcma);
    stage.answer(&caller);

    caller.press(3);
    caller.press(11);
    stage.wait_for("key #", |what| is_key(what, '#')).await;
    let keys: Vec<char> = stage.notices.iter().filter_map(|notice| key(&notice.what)).collect();
    assert_eq!(keys, ['3', '#']);

    let digits = "90".chars().filter_map(Digit::from_char).collect();
    stage.call.send_digits(CALLER, digits).expect("presses");
    stage.wait_for("end of the digits", |what| *what == Noticed::DigitsSent).await;
    caller.listen_for("silence after the keys", |packet| packet.header.marker);
    let ends = |caller: &crate::media_support::Phone| {
        caller
            .heard
            .iter()
            .filter(|packet| packet.header.payload_type == EVENTS && packet.payload[1] & 0x80 != 0)
            .count()
    };
    while ends(&caller) < 6 {
        caller.listen();
    }
    caller.assert_one_stream();
}

#[tokio::test]
async fn a_stop_leaves_one_more_frame_at_most() {
    let mut stage = Stage::new(31_200);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    let (speech, mouth) = agent(&stage);
    stage.call.wire(vec![(AGENT, vec![CALLER]), (CALLER, vec![AGENT])]).expect("wires");
    stage.answer(&caller);
    speech.send(piece("answer", 80_000, 0)).await.expect("the worker listens");
    caller.listen_for("speech", |packet| packet.payload == [0x90; 160]);

    mouth.send(Mouth::Stop { epoch: 1 }).await.expect("the worker listens");
    let stopped = stage.wait_for("stop", |what| matches!(what, Noticed::Heard(Heard::Stopped { .. }))).await;
    // Everything up to the fade has been sent by now; the fade leaves with the same tick.
    caller.listen_for("the fade", |packet| packet.payload[40..].iter().all(|code| *code == SILENCE));

    let voiced = caller.heard.iter().filter(|packet| packet.payload == [0x90; 160]).count() as u64;
    let expected = Heard::Stopped { item: Some("answer".into()), heard_ms: voiced * 20 + 5 };
    assert_eq!(stopped, Noticed::Heard(expected));
    for _ in 0..10 {
        assert_eq!(caller.listen().payload, [SILENCE; 160]);
    }
}

#[tokio::test]
async fn an_agent_is_not_read_while_two_minutes_wait() {
    let mut stage = Stage::new(31_300);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    let (speech, _mouth) = agent(&stage);
    stage.call.wire(vec![(CALLER, vec![AGENT])]).expect("wires");
    for _ in 0..13 {
        speech.send(piece("long", 80_000, 0)).await.expect("the worker listens");
    }

    let mut waiting = 0;
    while speech.try_send(piece("long", 80_000, 0)).is_ok() {
        waiting += 1;
        assert!(waiting <= 4);
    }
    stage.answer(&caller);
    caller.listen_for("speech", |packet| packet.payload == [0x90; 160]);
    stage.catch_up();
}

#[tokio::test]
async fn after_a_stop_new_speech_passes_the_old_that_still_waited_to_be_read() {
    let stage = Stage::new(32_000);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    let (speech, mouth) = agent(&stage);
    stage.call.wire(vec![(CALLER, vec![AGENT])]).expect("wires");
    stage.answer(&caller);
    for _ in 0..14 {
        speech.send(piece("old", 80_000, 0)).await.expect("the worker listens");
    }
    while speech.try_send(piece("old", 80_000, 0)).is_ok() {}
    caller.listen_for("old speech", |packet| packet.payload == [0x90; 160]);

    mouth.send(Mouth::Stop { epoch: 1 }).await.expect("the worker listens");
    let new = Speech { voice: Voice::Ulaw(vec![0xA0; 8000]), ..piece("new", 0, 1) };
    speech.send(new).await.expect("there is room again");

    caller.listen_for("new speech", |packet| packet.payload == [0xA0; 160]);
    let before = caller.heard.iter().rposition(|packet| packet.payload == [0x90; 160]).expect("was heard");
    assert!(caller.heard.len() - before < 12, "{} packets later", caller.heard.len() - before);
    caller.assert_one_stream();
}

#[tokio::test]
async fn a_prompt_and_music_follow_without_a_gap() {
    let mut stage = Stage::new(31_400);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    stage.answer(&caller);
    let clip = |code: u8, samples: usize| -> Vec<Clip> { vec![vec![code; samples].into()] };
    stage.call.play(CALLER, PlayId(1), clip(0xA0, 80_000), false, 0.0).expect("plays");
    caller.listen_for("the prompt", |packet| packet.payload == [0xA0; 160]);

    stage.call.play(CALLER, PlayId(2), clip(0xB0, 1000), true, 0.0).expect("plays");
    caller.listen_for("the music", |packet| packet.payload == [0xB0; 160]);
    stage.call.stop(CALLER).expect("stops");
    caller.listen_for("silence", |packet| packet.payload == [SILENCE; 160]);

    let first = caller.heard.iter().position(|packet| packet.payload == [0xA0; 160]).expect("was heard");
    let silent = caller.heard[first..].iter().filter(|packet| packet.payload.contains(&SILENCE)).count();
    assert_eq!(silent, 1, "only at the very end");
    caller.assert_one_stream();
    let over =
        |play, what: &Noticed| matches!(what, Noticed::Played { play: PlayId(id), complete: false, .. } if *id == play);
    stage.wait_for("end of the prompt", |what| over(1, what)).await;
    stage.wait_for("end of the music", |what| over(2, what)).await;
}

#[tokio::test]
async fn two_parties_talk_through_a_bridge_and_keys_reach_the_other() {
    let mut stage = Stage::new(31_500);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    let mut target = stage.party(TARGET, Codec::Pcma);
    stage.answer(&caller);
    stage.answer(&target);
    caller.listen();
    target.listen();
    stage.call.wire(vec![(CALLER, vec![TARGET]), (TARGET, vec![CALLER])]).expect("wires");

    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        let said = now();
        caller.say(0x85);
        target.say(0x2A);
        let heard = target.listen_for("the caller", |packet| packet.payload == [ulaw_to_alaw(0x85); 160]);
        fastest = fastest.min(heard.at - said);
        caller.listen_for("the target", |packet| packet.payload == [alaw_to_ulaw(0x2A); 160]);
    }
    assert!(fastest < Duration::from_millis(10), "passed through on arrival, not with the tick: {fastest:?}");

    caller.press(5);
    target.listen_for("the key", |packet| is_event(packet, 5));
    stage.wait_for("key 5", |what| is_key(what, '5')).await;
}

#[tokio::test]
async fn a_recording_holds_the_echo_of_a_click_on_the_other_channel() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new").join("call.wav");
    let mut stage = Stage::new(31_600);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    stage.call.open_echo(AGENT).expect("opens");
    stage.call.wire(vec![(AGENT, vec![CALLER]), (CALLER, vec![AGENT])]).expect("wires");
    stage.answer(&caller);
    caller.listen();
    stage.call.record(path.clone(), CALLER).expect("records");

    // The party speaks on the beat of what it hears: 20 ms.
    for beat in 0..60 {
        caller.say(if beat == 40 { 0x80 } else { SILENCE });
        caller.listen();
    }
    stage.call.stop_recording().expect("stops");
    let closed = stage.wait_for("recording", |what| matches!(what, Noticed::RecordingClosed { .. })).await;

    let Noticed::RecordingClosed { path: closed_path, frames, error } = closed else { unreachable!("was waited for") };
    assert_eq!((closed_path, error), (path.clone(), None));
    let mut reader = hound::WavReader::open(&path).expect("is a WAV file");
    assert_eq!((reader.spec().channels, reader.spec().sample_rate), (2, 8000));
    let samples: Vec<i16> = reader.samples().map(|sample| sample.expect("is complete")).collect();
    assert_eq!(samples.len() as u64, frames * 320);
    let click = |channel: usize| {
        samples.iter().skip(channel).step_by(2).position(|sample| *sample > 30_000).expect("the click") as i64
    };
    let offset = click(1) - click(0);
    // The next tick after its arrival; some frames more when this machine is busy. The exact place is checked in
    // virtual time.
    assert!((0..=800).contains(&offset), "{offset} samples");
    assert!(frames >= 59, "{frames} frames for 60 beats");
}

#[tokio::test]
async fn a_recording_without_a_place_on_the_disk_does_not_touch_the_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("there.wav");
    std::fs::write(&path, b"an older recording").expect("is written");
    let mut stage = Stage::new(31_700);
    let mut caller = stage.party(CALLER, Codec::Pcmu);
    stage.answer(&caller);

    stage.call.record(path.clone(), CALLER).expect("is asked for");
    let closed = stage.wait_for("recording", |what| matches!(what, Noticed::RecordingClosed { .. })).await;

    assert!(matches!(closed, Noticed::RecordingClosed { frames: 0, error: Some(_), .. }));
    assert_eq!(std::fs::read(&path).expect("is there"), b"an older recording");
    for _ in 0..5 {
        caller.listen();
    }
}

#[tokio::test]
async fn dropping_a_call_reports_every_leg_and_its_port_rests() {
    let mut stage = Stage::new(31_800);
    let caller = stage.party(CALLER, Codec::Pcmu);
    stage.answer(&caller);
    let other = stage.workers.open_call(ringback::model::CallId(uuid::Uuid::from_u128(8)));

    drop(std::mem::replace(&mut stage.call, other));
    stage.wait_for("figures", |what| matches!(what, Noticed::LegStats(_))).await;

    assert!(std::net::UdpSocket::bind(caller.there).is_err(), "late packets must not reach another call");
    assert_eq!(stage.workers.calls(), 1);
}

#[tokio::test]
async fn only_loopback_is_sent_to_when_nothing_else_is_allowed() {
    let stage = Stage::new(31_900);
    stage.call.open_rtp(CALLER).expect("a port is free");
    let elsewhere = "192.0.2.1:4000".parse().expect("is an address");
    let peer = ringback::media::RtpPeer::new(Codec::Pcmu, 0, elsewhere);
    assert_eq!(stage.call.set_remote(CALLER, peer), Err(ringback::media::MediaError::NotLoopback));
}

fn agent(stage: &Stage) -> (mpsc::Sender<Speech>, mpsc::Sender<Mouth>) {
    let (speech, spoken) = mpsc::channel(4);
    let (mouth, orders) = mpsc::channel(4);
    stage.call.open_agent(AGENT, Form::Ulaw, spoken, orders).expect("opens");
    (speech, mouth)
}

fn piece(item: &str, samples: usize, epoch: u32) -> Speech {
    Speech { epoch, item: item.into(), voice: Voice::Ulaw(vec![0x90; samples]), last: false }
}

fn frame(what: &Noticed) -> Option<[u8; 160]> {
    match what {
        Noticed::Heard(Heard::Frame(frame)) => Some(**frame),
        _ => None,
    }
}

fn key(what: &Noticed) -> Option<char> {
    match what {
        Noticed::Digit { digit, .. } => Some(digit.as_char()),
        _ => None,
    }
}

fn is_key(what: &Noticed, label: char) -> bool {
    key(what) == Some(label)
}

fn is_event(packet: &Packet, event: u8) -> bool {
    packet.header.payload_type == EVENTS && packet.payload[0] == event
}

#[allow(clippy::disallowed_methods, reason = "a test that measures delay has to read the clock")]
fn now() -> Instant {
    Instant::now()
}
