//! The test phone against itself, over loopback with real SIP and RTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringback::cli::phone::{Ending, Line, Manner, Outgoing, Phone, Served};
use ringback::media::{Clip, encode_ulaw};
use ringback::model::{Digit, Pii};
use ringback::sip::Failure;
use tokio::time::Instant;

#[tokio::test]
async fn two_phones_talk_and_each_hears_the_other() {
    let said = tone(600);
    let manner = Manner::Answer { after: ms(100), say: Some(said.clone()), hang_up_after: None };
    let (uri, mut called) = serve(manner).await;

    let mut line = dial(Outgoing { say: Some(said), hang_up_after: Some(ms(1_500)), ..to(&uri) }).await;
    assert!(line.until(soon(), |now| now.first_sound_ms.is_some()).await);
    line.press(&keys("12#")).await;
    let caller = line.over().await;
    let callee = called.report().await.expect("the call is over");

    assert_eq!(caller.ending, Ending::WeHungUp);
    assert_eq!(callee.ending, Ending::TheyHungUp);
    assert!(caller.moments.answered_ms >= Some(100), "{:?}", caller.moments);
    assert!(caller.moments.ringing_ms <= caller.moments.answered_ms);
    for report in [&caller, &callee] {
        let heard: u64 = report.spurts().iter().map(|spurt| spurt.to_ms - spurt.from_ms).sum();
        assert!((560..=700).contains(&heard), "heard {heard} ms of 600: {:?}", report.spurts());
        assert_eq!(report.ear.lost(), 0);
    }
    let pressed: String = callee.digits().iter().map(|digit| digit.as_char()).collect();
    assert_eq!(pressed, "12#");
    assert!(caller.digits().is_empty());
}

#[tokio::test]
async fn the_recording_holds_what_was_said() {
    let manner = Manner::Answer { after: ms(0), say: Some(tone(400)), hang_up_after: Some(ms(900)) };
    let (uri, _called) = serve(manner).await;

    let report = dial(to(&uri)).await.over().await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = folder.path().join("heard.wav");
    report.write_recording(&path).expect("the file can be written");

    assert_eq!(report.ending, Ending::TheyHungUp);
    let mut wav = hound::WavReader::open(&path).expect("it is a WAV file");
    assert_eq!((wav.spec().channels, wav.spec().sample_rate), (1, 8_000));
    let loud = wav.samples::<i16>().filter(|sample| sample.as_ref().is_ok_and(|sample| sample.abs() > 1_000)).count();
    // 400 ms of a square wave; every one of its samples is loud.
    assert!((3_040..=3_200).contains(&loud), "{loud} loud samples");
}

#[tokio::test]
async fn a_busy_phone_says_so() {
    let (uri, mut called) = serve(Manner::Refuse { status: 486 }).await;

    let report = dial(to(&uri)).await.over().await;

    assert!(matches!(report.ending, Ending::Failed(Failure::Refused { status: 486, .. })), "{:?}", report.ending);
    assert_eq!(report.moments.answered_ms, None);
    assert_eq!(called.report().await.expect("it was called").ending, Ending::WeRefused);
}

#[tokio::test]
async fn a_caller_who_gives_up_is_told_so_and_the_phone_stops_ringing() {
    let (uri, mut called) = serve(Manner::RingForEver).await;

    let report = dial(Outgoing { cancel_after: Some(ms(200)), ..to(&uri) }).await.over().await;

    assert_eq!(report.ending, Ending::Canceled);
    assert!(report.moments.ringing_ms.is_some() && report.moments.answered_ms.is_none());
    assert_eq!(called.report().await.expect("it was called").ending, Ending::Canceled);
}

#[tokio::test]
async fn a_second_caller_finds_the_phone_busy_and_disturbs_nobody() {
    let (uri, mut called) = serve(Manner::Answer { after: ms(0), say: None, hang_up_after: None }).await;
    let mut first = dial(to(&uri)).await;
    assert!(first.until(soon(), |now| now.answered_ms.is_some()).await);

    let second = dial(to(&uri)).await.over().await;
    first.hang_up().await;
    let first = first.over().await;

    assert!(matches!(second.ending, Ending::Failed(Failure::Refused { status: 486, .. })), "{:?}", second.ending);
    assert_eq!(first.ending, Ending::WeHungUp);
    assert_eq!(called.report().await.expect("the first call is over").ending, Ending::TheyHungUp);
    assert_eq!(called.bell().answered, 1);
}

async fn serve(manner: Manner) -> (String, Served) {
    let phone = Phone::open(loopback()).await.expect("loopback has ports");
    let uri = format!("sip:desk@{}", phone.address());
    (uri, phone.serve(manner).await.expect("loopback has ports"))
}

async fn dial(outgoing: Outgoing) -> Line {
    let phone = Phone::open(loopback()).await.expect("loopback has ports");
    phone.call(outgoing).await.expect("loopback has ports")
}

fn to(uri: &str) -> Outgoing {
    Outgoing {
        to: uri.to_owned(),
        from: Pii::new("+441632960001".to_owned()),
        // Whatever goes wrong, a test ends.
        hang_up_after: Some(ms(8_000)),
        ..Outgoing::default()
    }
}

fn soon() -> Instant {
    Instant::now() + ms(5_000)
}

fn keys(text: &str) -> Vec<Digit> {
    text.chars().filter_map(Digit::from_char).collect()
}

/// A square wave of 500 Hz.
fn tone(len_ms: usize) -> Clip {
    let samples = (0..len_ms * 8).map(|at| if at % 16 < 8 { 8_000 } else { -8_000 });
    samples.map(encode_ulaw).collect::<Vec<u8>>().into()
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
