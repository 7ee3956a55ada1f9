//! Between payloads and the two forms of the house: one [`Decoder`] and one [`Encoder`] per RTP leg.
//!
//! Durations are in units of ⅛ ms, whatever the codec: 160 are a frame. G.711 and L16 at 8 kHz are narrow, the others
//! wide; nothing is resampled here, because Opus decodes to any rate and G.722 has 16 kHz of its own.

use audio_codec::Encoder as _;
use audio_codec::g722::{G722Decoder, G722Encoder};
use ropus::{Application, Bandwidth, Bitrate, Channels, DecodeMode, InbandFec, Signal};

use super::g711::{alaw_to_ulaw, decode_ulaw, encode_ulaw, ulaw_to_alaw};
use crate::model::limits::PACKET_MAX;
use crate::model::{Codec, OpusTerms, WIDE_RATE};

/// How much audio a payload holds, without decoding it. `None` for one that is malformed, empty, or longer than
/// [`PACKET_MAX`].
pub fn units(codec: Codec, payload: &[u8]) -> Option<usize> {
    let units = match codec {
        Codec::Pcmu | Codec::Pcma | Codec::G722 => payload.len(),
        Codec::L16Narrow => whole(payload.len(), 2)?,
        Codec::L16Wide => whole(payload.len(), 4)?,
        Codec::Opus => opus_units(payload)?,
    };
    (1..=UNITS_MAX).contains(&units).then_some(units)
}

/// From payloads to audio, with what the codec remembers of the stream.
#[derive(Debug)]
pub(super) struct Decoder {
    codec: Codec,
    opus: Option<Box<Opaque<ropus::Decoder>>>,
    g722: Option<Box<Opaque<G722Decoder>>>,
}

impl Decoder {
    pub(super) fn new(codec: Codec) -> Decoder {
        let opus = match codec {
            Codec::Opus => ropus::Decoder::new(WIDE_RATE, Channels::Mono).ok(),
            _ => None,
        };
        let g722 = (codec == Codec::G722).then(G722Decoder::new);
        Decoder { codec, opus: opus.map(|opus| Box::new(Opaque(opus))), g722: g722.map(|g722| Box::new(Opaque(g722))) }
    }

    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// Appends the audio of a payload, as many units as [`units`] says, to the vector of the codec's band. `None`, and
    /// nothing appended, for what cannot be decoded.
    pub(super) fn decode(&mut self, payload: &[u8], narrow: &mut Vec<u8>, wide: &mut Vec<i16>) -> Option<usize> {
        let units = units(self.codec, payload)?;
        match self.codec {
            Codec::Pcmu => narrow.extend_from_slice(payload),
            Codec::Pcma => narrow.extend(payload.iter().map(|code| alaw_to_ulaw(*code))),
            Codec::L16Narrow => narrow.extend(linear(payload).map(encode_ulaw)),
            Codec::L16Wide => wide.extend(linear(payload)),
            Codec::G722 => {
                let decoder = self.g722.as_mut()?;
                append(wide, units, |room| decoder.0.decode_frame_into(payload, room).ok())?;
            }
            Codec::Opus => {
                let decoder = self.opus.as_mut()?;
                append(wide, units, |room| decoder.0.decode(payload, room, DecodeMode::Normal).ok())?;
            }
        }
        Some(units)
    }

    /// Appends audio in place of lost packets, where the codec itself knows how; otherwise returns false and appends
    /// nothing.
    pub(super) fn conceal(&mut self, units: usize, wide: &mut Vec<i16>) -> bool {
        self.invent(&[], units, wide, DecodeMode::Normal)
    }

    /// Appends what was lost before `next`, a payload of the same codec, as far as `next` has a copy of it.
    pub(super) fn recover(&mut self, next: &[u8], units: usize, wide: &mut Vec<i16>) -> bool {
        !next.is_empty() && self.invent(next, units, wide, DecodeMode::Fec)
    }

    fn invent(&mut self, payload: &[u8], wanted: usize, wide: &mut Vec<i16>, mode: DecodeMode) -> bool {
        let Some(decoder) = &mut self.opus else { return false };
        // Opus counts in steps of 2.5 ms.
        if wanted == 0 || wanted > UNITS_MAX || !wanted.is_multiple_of(OPUS_STEP) {
            return false;
        }
        append(wide, wanted, |room| decoder.0.decode(payload, room, mode).ok()).is_some()
    }
}

/// From audio to payloads.
#[derive(Debug)]
pub(super) struct Encoder {
    codec: Codec,
    opus: Option<Box<Opaque<ropus::Encoder>>>,
    has_dtx: bool,
    g722: Option<Box<Opaque<G722Encoder>>>,
}

/// Audio of a packet, in one of the forms of the house.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    Narrow(&'a [u8]),
    Wide(&'a [i16]),
}

impl Encoder {
    pub(super) fn new(codec: Codec, terms: OpusTerms) -> Encoder {
        let opus = if codec == Codec::Opus { opus_encoder(terms) } else { None };
        let g722 = (codec == Codec::G722).then(G722Encoder::new);
        Encoder {
            codec,
            opus: opus.map(|opus| Box::new(Opaque(opus))),
            has_dtx: terms.dtx,
            g722: g722.map(|g722| Box::new(Opaque(g722))),
        }
    }

    /// Appends the payload of a piece in the codec's band; Opus takes 10, 20, 40 or 60 ms, the others any length.
    /// Returns false, and appends nothing, when there is nothing worth a packet: silence under discontinuous
    /// transmission.
    pub(super) fn encode(&mut self, piece: Piece<'_>, payload: &mut Vec<u8>) -> bool {
        let start = payload.len();
        match (self.codec, piece) {
            (Codec::Pcmu, Piece::Narrow(ulaw)) => payload.extend_from_slice(ulaw),
            (Codec::Pcma, Piece::Narrow(ulaw)) => payload.extend(ulaw.iter().map(|code| ulaw_to_alaw(*code))),
            (Codec::L16Narrow, Piece::Narrow(ulaw)) => {
                payload.extend(ulaw.iter().flat_map(|code| decode_ulaw(*code).to_be_bytes()));
            }
            (Codec::L16Wide, Piece::Wide(wide)) => payload.extend(wide.iter().flat_map(|sample| sample.to_be_bytes())),
            (Codec::G722, Piece::Wide(wide)) => {
                let Some(encoder) = &mut self.g722 else { return false };
                payload.resize(start + encoder.0.max_encode_bytes(wide.len()), 0);
                let written = encoder.0.encode_into(wide, &mut payload[start..]).unwrap_or(0);
                payload.truncate(start + written);
            }
            (Codec::Opus, Piece::Wide(wide)) => {
                let Some(encoder) = &mut self.opus else { return false };
                payload.resize(start + OPUS_LEN_MAX, 0);
                let written = encoder.0.encode(wide, &mut payload[start..]).unwrap_or(0);
                // What has no more than two octets says only that silence goes on.
                let is_silence = self.has_dtx && written <= 2;
                payload.truncate(start + if is_silence { 0 } else { written });
            }
            (codec, piece) => debug_assert!(false, "{codec} does not take {piece:?}"),
        }
        payload.len() > start
    }
}

/// State of a codec that does not show itself.
struct Opaque<T>(T);

impl<T> std::fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

fn opus_encoder(terms: OpusTerms) -> Option<ropus::Encoder> {
    let (bandwidth, bits) = match terms.max_rate {
        0..=8000 => (Bandwidth::Narrowband, 16_000),
        8001..=12_000 => (Bandwidth::Mediumband, 20_000),
        _ => (Bandwidth::Wideband, 24_000),
    };
    // The copies of lost packets take their share of the bits.
    let bits = if terms.fec { bits + 8000 } else { bits };
    let encoder = ropus::Encoder::builder(WIDE_RATE, Channels::Mono, Application::Voip)
        .bitrate(Bitrate::try_bits(bits.min(terms.max_bitrate).max(OPUS_BITS_MIN)).ok()?)
        .complexity(OPUS_COMPLEXITY)
        .signal(Signal::Voice)
        .max_bandwidth(bandwidth)
        .dtx(terms.dtx);
    let encoder = match terms.fec {
        true => encoder.inband_fec(InbandFec::Enabled).packet_loss_perc(LOSS_EXPECTED_PERCENT),
        false => encoder,
    };
    encoder.build().ok()
}

/// RFC 6716 §3.1 and §3.2: the duration of a packet from its first two octets.
fn opus_units(payload: &[u8]) -> Option<usize> {
    let toc = *payload.first()?;
    let config = usize::from(toc >> 3);
    let frame = match config {
        0..12 => [80, 160, 320, 480][config % 4],
        12..16 => [80, 160][config % 2],
        _ => [20, 40, 80, 160][config % 4],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(payload.get(1)? & 0x3F),
    };
    Some(frame * frames)
}

fn whole(len: usize, octets: usize) -> Option<usize> {
    len.is_multiple_of(octets).then_some(len / octets)
}

fn linear(payload: &[u8]) -> impl Iterator<Item = i16> + '_ {
    payload.chunks_exact(2).map(|octets| i16::from_be_bytes([octets[0], octets[1]]))
}

/// Lets a decoder fill in so many units of wide audio; what it leaves out is silence, so that time is kept.
fn append(wide: &mut Vec<i16>, units: usize, decode: impl FnOnce(&mut [i16]) -> Option<usize>) -> Option<usize> {
    let start = wide.len();
    wide.resize(start + units * 2, 0);
    let decoded = decode(&mut wide[start..]);
    match decoded {
        Some(samples) => wide[start + samples.min(units * 2)..].fill(0),
        None => wide.truncate(start),
    }
    decoded
}

const UNITS_MAX: usize = PACKET_MAX.as_millis() as usize * 8;
const OPUS_STEP: usize = 20;
/// RFC 6716 §3.2.1: the longest frame.
const OPUS_LEN_MAX: usize = 1275;
const OPUS_BITS_MIN: u32 = 6000;
/// Half of the scale: the better half costs twice the time and is not heard in speech.
const OPUS_COMPLEXITY: u8 = 5;
const LOSS_EXPECTED_PERCENT: u8 = 10;
