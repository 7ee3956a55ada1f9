//! Every codec against itself: level, length and time are kept, and rubbish is refused or survived.

use super::super::codec::{Decoder, Encoder, Piece};
use super::super::sample::Sample;
use super::*;
use crate::model::{Band, OpusTerms};

#[test]
fn every_codec_carries_speech_and_keeps_time() {
    for codec in Codec::ALL {
        let (mut encoder, mut decoder) = (Encoder::new(codec, OpusTerms::default()), Decoder::new(codec));
        let source = voice(codec.band(), 100);
        let (mut heard, mut octets) = (Vec::new(), 0);
        for frame in source.chunks(source.len() / 100) {
            let payload = encode(&mut encoder, codec, frame);
            octets += payload.len();
            assert_eq!(units(codec, &payload), Some(160), "{codec}");
            heard.extend(decode(&mut decoder, codec, &payload));
        }

        assert_eq!(heard.len(), source.len(), "{codec}");
        let best = (0..400).map(|delay| likeness(&source[..source.len() - delay], &heard[delay..])).fold(0.0, f64::max);
        // Opus keeps what is heard and not the wave: its high-pass alone turns the phase of the lowest harmonics.
        assert!(best > if codec == Codec::Opus { 0.75 } else { 0.95 }, "{codec}: {best}");
        let bits = octets * 8 / 2;
        assert!(codec != Codec::Opus || (8000..40_000).contains(&bits), "{bits} bits a second");
    }
}

#[test]
fn opus_gives_back_a_lost_packet_from_the_one_behind_it() {
    let terms = OpusTerms { fec: true, ..OpusTerms::default() };
    let source = voice(Band::Wide, 60);
    let mut encoder = Encoder::new(Codec::Opus, terms);
    let packets: Vec<Vec<u8>> = source.chunks(320).map(|frame| encode(&mut encoder, Codec::Opus, frame)).collect();
    let lossless = {
        let mut decoder = Decoder::new(Codec::Opus);
        packets.iter().flat_map(|packet| decode(&mut decoder, Codec::Opus, packet)).collect::<Vec<i16>>()
    };
    let play = |recovers: bool| {
        let (mut decoder, mut heard) = (Decoder::new(Codec::Opus), Vec::new());
        for (at, packet) in packets.iter().enumerate() {
            if at % 6 != 5 {
                heard.extend(decode(&mut decoder, Codec::Opus, packet));
            } else if recovers {
                assert!(decoder.recover(&packets[(at + 1) % 60], 160, &mut heard));
            } else {
                assert!(decoder.conceal(160, &mut heard));
            }
        }
        heard
    };

    let (concealed, recovered) = (likeness(&lossless, &play(false)), likeness(&lossless, &play(true)));

    assert!(recovered > 0.9 && recovered > concealed + 0.02, "{recovered} recovered, {concealed} concealed");
}

#[test]
fn opus_says_nothing_in_silence_when_it_is_asked_not_to() {
    let mut encoder = Encoder::new(Codec::Opus, OpusTerms { dtx: true, ..OpusTerms::default() });
    let sent = (0..100).filter(|_| encoder.encode(Piece::Wide(&[0; 320]), &mut Vec::new())).count();
    assert!(sent < 40, "{sent} packets in two seconds of silence");
}

#[test]
fn durations_are_known_without_decoding() {
    assert_eq!(units(Codec::Pcma, &[0; 240]), Some(240));
    assert_eq!(units(Codec::L16Wide, &[0; 640]), Some(160));
    assert_eq!((units(Codec::L16Wide, &[0; 638]), units(Codec::L16Narrow, &[0; 3])), (None, None));
    assert_eq!((units(Codec::G722, &[]), units(Codec::G722, &[0; 961])), (None, None));
    // RFC 6716 §3.1: SILK of 60 ms, CELT of 2.5 ms twice, and 6 frames of 20 ms; 7 are too many.
    assert_eq!(units(Codec::Opus, &[3 << 3]), Some(480));
    assert_eq!(units(Codec::Opus, &[16 << 3 | 1]), Some(40));
    assert_eq!(units(Codec::Opus, &[1 << 3 | 3, 6]), Some(960));
    assert_eq!((units(Codec::Opus, &[1 << 3 | 3, 7]), units(Codec::Opus, &[3])), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever comes, a decoder gives as much as it says, or nothing, and goes on with what follows.
    #[test]
    fn no_payload_breaks_a_decoder(payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 1..12)) {
        for codec in Codec::ALL {
            let mut decoder = Decoder::new(codec);
            for payload in &payloads {
                let (mut narrow, mut wide) = (Vec::new(), Vec::new());
                let said = decoder.decode(payload, &mut narrow, &mut wide);
                prop_assert_eq!(narrow.len() + wide.len() / 2, said.unwrap_or(0));
                prop_assert!(said.is_none() || said == units(codec, payload));
                let mut wide = Vec::new();
                if decoder.recover(payload, 160, &mut wide) | decoder.conceal(480, &mut wide) {
                    prop_assert!(wide.len() <= 1280);
                }
            }
        }
    }
}

fn encode(encoder: &mut Encoder, codec: Codec, frame: &[i16]) -> Vec<u8> {
    let mut payload = Vec::new();
    let ulaw: Vec<u8> = frame.iter().map(|sample| u8::from_linear(*sample)).collect();
    let piece = if codec.band() == Band::Wide { Piece::Wide(frame) } else { Piece::Narrow(&ulaw) };
    assert!(encoder.encode(piece, &mut payload));
    payload
}

fn decode(decoder: &mut Decoder, codec: Codec, payload: &[u8]) -> Vec<i16> {
    let (mut narrow, mut wide) = (Vec::new(), Vec::new());
    assert!(decoder.decode(payload, &mut narrow, &mut wide).is_some(), "{codec}");
    wide.extend(narrow.into_iter().map(u8::linear));
    wide
}

/// Something like a voice: harmonics that glide, in syllables.
fn voice(band: Band, frames: usize) -> Vec<i16> {
    let rate = band.rate() as f32;
    let mut phase = 0f32;
    (0..frames * band.rate() as usize / 50)
        .map(|at| {
            let seconds = at as f32 / rate;
            phase += (140.0 + 40.0 * (seconds * 3.0).sin()) / rate;
            let tone: f32 =
                (1..12).map(|harmonic| (phase * harmonic as f32 * std::f32::consts::TAU).sin() / harmonic as f32).sum();
            (tone * 5000.0 * (0.6 + 0.4 * (seconds * 25.0).sin())) as i16
        })
        .collect()
}

/// The correlation of two stretches of sound, 1 for the same.
fn likeness(one: &[i16], other: &[i16]) -> f64 {
    let product = |left: &[i16], right: &[i16]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    let len = one.len().min(other.len());
    product(one, other) / (product(&one[..len], &one[..len]) * product(&other[..len], &other[..len])).sqrt().max(1.0)
}
