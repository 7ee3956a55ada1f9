use std::f32::consts::TAU;
use std::fs;

use ogg::PacketReader;
use proptest::prelude::*;

use super::*;

const FRAME: usize = 160;

#[test]
fn neither_side_is_heard_in_the_other_channel_of_an_opus_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let order = TapeOrder::new(folder.path(), "call", TapeFormat::Opus, None);
    let mut file = TapeFile::create(&order).expect("is created");

    // The left speaks in the first second, the right in the third.
    for at in 0..150 {
        let (left, right) = (tone(at, at < 50), tone(at, at >= 100));
        file.write(&left, &right).expect("is written");
    }
    file.finish().expect("is completed");

    let (left, right, granules) = decode(&order.path);
    assert_eq!(granules, 3 * 48_000, "three seconds, to the sample");
    assert!(level(&left[..8000]) > 3000.0 && level(&right[16_000..]) > 3000.0);
    assert!(level(&right[..15_000]) < 20.0, "{}", level(&right[..15_000]));
    assert!(level(&left[9000..]) < 20.0, "{}", level(&left[9000..]));
}

#[test]
fn an_opus_file_that_was_never_completed_lacks_a_second_at_most() {
    let folder = tempfile::tempdir().expect("a folder");
    let order = TapeOrder::new(folder.path(), "call", TapeFormat::Opus, None);
    let mut file = TapeFile::create(&order).expect("is created");
    (0..300).for_each(|at| file.write(&tone(at, true), &tone(at, true)).expect("is written"));

    file.flush().expect("is flushed");

    // Read while it is still being written, as after a crash.
    let (left, _, _) = decode(&order.path);
    // Less what a decoder leaves out at the beginning.
    assert!(left.len() >= 5 * 8000 - 80, "{} samples of {}", left.len(), 300 * FRAME);
}

#[test]
fn a_sealed_recording_opens_with_its_master_key_alone() {
    for format in [TapeFormat::Wav, TapeFormat::Opus] {
        let folder = tempfile::tempdir().expect("a folder");
        let sealed = recorded(folder.path(), format, 500, true);
        let clear = folder.path().join("clear");

        let opened = unseal(&sealed, &master(1), &clear).expect("opens");

        assert!(opened.is_whole);
        match format {
            TapeFormat::Wav => {
                let mut reader = hound::WavReader::open(&clear).expect("is a WAV file");
                assert_eq!((reader.duration(), reader.spec().channels), (500 * 160, 2));
                let samples: Vec<i16> = reader.samples().map(|sample| sample.expect("is there")).collect();
                let left: Vec<i16> = samples.iter().step_by(2).copied().collect();
                assert_eq!(left[..FRAME], tone(0, true));
            }
            TapeFormat::Opus => assert_eq!(decode(&clear).2, 10 * 48_000),
        }
        let clear = fs::read(clear).expect("is there");
        let (on_disk, piece) = (fs::read(&sealed).expect("is there"), &clear[clear.len() / 2..][..16]);
        assert!(!on_disk.windows(16).any(|window| window == piece), "nothing of it is in the clear");
        assert!(matches!(unseal(&sealed, &master(2), &folder.path().join("x")), Err(SealError::OtherMaster { .. })));
    }
}

#[test]
fn a_sealed_recording_that_breaks_off_opens_up_to_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let sealed = recorded(folder.path(), TapeFormat::Wav, 500, false);
    let clear = folder.path().join("clear.wav");

    let opened = unseal(&sealed, &master(1), &clear).expect("opens");

    assert!(!opened.is_whole);
    let reader = hound::WavReader::open(clear).expect("is a WAV file");
    // The last five seconds at most are lost.
    assert!(reader.duration() >= 500 * 160 - 5 * 8000, "{}", reader.duration());
}

#[test]
fn a_recording_whose_key_was_destroyed_is_gone_though_a_copy_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let sealed = recorded(folder.path(), TapeFormat::Wav, 100, true);
    let copy = folder.path().join("copy");
    fs::copy(&sealed, &copy).expect("is copied");

    destroy(&sealed).expect("is destroyed");

    assert!(!sealed.exists() && !key_path(&sealed).exists());
    fs::rename(&copy, &sealed).expect("is put back");
    assert!(matches!(unseal(&sealed, &master(1), &folder.path().join("x")), Err(SealError::KeyGone(_))));
    destroy(&sealed).expect("what is half gone can be destroyed again");
}

#[test]
fn the_key_of_one_recording_does_not_open_another() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let sealed = recorded(one.path(), TapeFormat::Wav, 100, true);
    let order = TapeOrder::new(other.path(), "other", TapeFormat::Wav, Some(Arc::new(master(1))));
    TapeFile::create(&order).expect("is created").finish().expect("is completed");

    fs::copy(key_path(&order.path), key_path(&sealed)).expect("is swapped");

    assert!(matches!(unseal(&sealed, &master(1), &one.path().join("x")), Err(SealError::KeyBroken)));
}

#[test]
fn a_master_key_is_read_in_both_ways_it_is_written() {
    let hex = MasterKey::parse(&"07".repeat(32)).expect("is a key");
    let base64 = MasterKey::parse("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").expect("is a key");

    assert_eq!(hex.id(), base64.id());
    assert_eq!(format!("{hex:?}"), format!("MasterKey({})", hex.id()));
    for wrong in ["", "BwcH", "zz", &"07".repeat(31)] {
        assert!(matches!(MasterKey::parse(wrong), Err(SealError::NotAKey)), "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever octet is changed, wherever the file is cut: nothing comes out that was not put in, and nothing panics.
    #[test]
    fn a_changed_file_is_noticed(at in 0.0..1.0f64, with in 1u8..=255, is_cut: bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let sealed = recorded(folder.path(), TapeFormat::Wav, 220, true);
        let whole = folder.path().join("whole");
        unseal(&sealed, &master(1), &whole).expect("opens");
        let mut octets = fs::read(&sealed).expect("is there");
        let at = (octets.len() as f64 * at) as usize;

        if is_cut { octets.truncate(at) } else { octets[at] ^= with }
        fs::write(&sealed, &octets).expect("is written");
        let clear = folder.path().join("clear");
        let opened = unseal(&sealed, &master(1), &clear);

        prop_assert!(!matches!(opened, Ok(Opened { is_whole: true, .. })), "{opened:?}");
        let (clear, whole) = (fs::read(&clear).expect("is there"), fs::read(&whole).expect("is there"));
        prop_assert!(clear.len() < WAV_HEADER || whole[WAV_HEADER..].starts_with(&clear[WAV_HEADER..]));
    }
}

fn master(octet: u8) -> MasterKey {
    MasterKey::parse(&format!("{octet:02x}").repeat(32)).expect("is a key")
}

/// A sealed recording of a tone on the left.
fn recorded(folder: &Path, format: TapeFormat, frames: usize, is_completed: bool) -> PathBuf {
    let order = TapeOrder::new(folder, "call", format, Some(Arc::new(master(1))));
    let mut file = TapeFile::create(&order).expect("is created");
    for at in 0..frames {
        file.write(&tone(at, true), &tone(at, false)).expect("is written");
        if at % 250 == 249 {
            file.flush().expect("is flushed");
        }
    }
    if is_completed {
        file.finish().expect("is completed");
    }
    order.path
}

fn tone(frame: usize, is_loud: bool) -> [i16; FRAME] {
    let amplitude = if is_loud { 8000.0 } else { 0.0 };
    std::array::from_fn(|at| (((frame * FRAME + at) as f32 / 8000.0 * 440.0 * TAU).sin() * amplitude) as i16)
}

fn level(samples: &[i16]) -> f32 {
    (samples.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>() / samples.len() as f32).sqrt()
}

/// Both channels, and how long the file says it is, at 48 kHz.
fn decode(path: &Path) -> (Vec<i16>, Vec<i16>, u64) {
    let mut reader = PacketReader::new(fs::File::open(path).expect("is there"));
    let head = reader.read_packet_expected().expect("a header").data;
    assert_eq!(&head[..8], b"OpusHead");
    assert_eq!(&head[18..], [1, 2, 0, 0, 1]);
    let pre_skip = u64::from(u16::from_le_bytes([head[10], head[11]]));
    reader.read_packet_expected().expect("tags");
    let decoder = || ropus::Decoder::new(8000, ropus::Channels::Mono).expect("a decoder");
    let mut decoders = [decoder(), decoder()];
    let (mut channels, mut granules) = ([Vec::new(), Vec::new()], 0);
    while let Ok(Some(packet)) = reader.read_packet() {
        granules = packet.absgp_page();
        let (len, from) = match (packet.data[1], packet.data[2]) {
            (short @ 0..252, _) => (usize::from(short), 2),
            (long, fours) => (usize::from(long) + usize::from(fours) * 4, 3),
        };
        let first = [&packet.data[..1], &packet.data[from..from + len]].concat();
        let both = [&first, &packet.data[from + len..]];
        for ((decoder, samples), packet) in decoders.iter_mut().zip(&mut channels).zip(both) {
            let mut pcm = [0; FRAME];
            decoder.decode(packet, &mut pcm, ropus::DecodeMode::Normal).expect("is Opus");
            samples.extend(pcm);
        }
    }
    let skipped = (pre_skip / 6) as usize;
    let [left, right] = channels.map(|samples| samples[skipped..].to_vec());
    (left, right, granules - pre_skip)
}
