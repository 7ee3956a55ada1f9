//! ITU-T G.711, both laws, and gain on µ-law without leaving it.
//!
//! Decoding and transcoding are 256-octet tables. Encoding counts leading zeros instead of looking into 64 KiB of
//! table, which would push everything else out of the first-level cache.

use crate::model::Codec;

/// The sample of a µ-law code, −32124 to 32124.
pub fn decode_ulaw(code: u8) -> i16 {
    ULAW[code as usize]
}

/// The sample of an A-law code, −32256 to 32256.
pub fn decode_alaw(code: u8) -> i16 {
    ALAW[code as usize]
}

/// The µ-law code of a sample, by the decision values of the standard.
pub const fn encode_ulaw(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = sample.unsigned_abs();
    // Biased by 33 quarter-units so that segment n spans a power of two; clipped below the largest that still fits.
    let biased = (if magnitude > ULAW_CLIP { ULAW_CLIP } else { magnitude }) + ULAW_BIAS;
    let segment = 8 - biased.leading_zeros() as u8;
    let step = (biased >> (segment + 3)) as u8 & 0x0F;
    !(sign | (segment << 4) | step)
}

/// The A-law code of a sample, by the decision values of the standard.
pub const fn encode_alaw(sample: i16) -> u8 {
    // Negative samples are mirrored at −½ rather than at 0, so that both signs have the same number of codes.
    let (mask, magnitude) = if sample < 0 { (0x55, !sample as u16) } else { (0xD5, sample as u16) };
    let level = magnitude >> 4;
    let code = if level < 32 {
        level as u8
    } else {
        let exponent = 11 - level.leading_zeros() as u8;
        ((exponent + 1) << 4) | ((level >> exponent) as u8 & 0x0F)
    };
    code ^ mask
}

/// The µ-law code of the sample of an A-law code.
pub fn alaw_to_ulaw(code: u8) -> u8 {
    ALAW_TO_ULAW[code as usize]
}

/// The A-law code of the sample of a µ-law code.
pub fn ulaw_to_alaw(code: u8) -> u8 {
    ULAW_TO_ALAW[code as usize]
}

/// Rewrites a payload of one law in the other; payloads of other pairs of codecs stay as they are.
pub(super) fn transcode(from: Codec, to: Codec, payload: &mut [u8]) {
    match (from, to) {
        (Codec::Pcmu, Codec::Pcma) => payload.iter_mut().for_each(|code| *code = ulaw_to_alaw(*code)),
        (Codec::Pcma, Codec::Pcmu) => payload.iter_mut().for_each(|code| *code = alaw_to_ulaw(*code)),
        // The same law on both sides, or a codec whose payloads only pass between two of its own kind.
        _ => {}
    }
}

/// Louder or softer, as a table from µ-law to µ-law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gain([u8; 256]);

impl Gain {
    /// A gain in decibels, held to −60…+20. What would overflow is clipped. Not a number means no change.
    pub fn from_db(db: f32) -> Gain {
        let db = if db.is_nan() { 0.0 } else { db.clamp(-60.0, 20.0) };
        let factor = 10f32.powf(db / 20.0);
        let mut table = [0; 256];
        for (code, scaled) in (0u8..=255).zip(table.iter_mut()) {
            // At 0 dB every code maps to itself, also the second zero that encoding would lose.
            *scaled = if db == 0.0 { code } else { encode_ulaw((f32::from(decode_ulaw(code)) * factor) as i16) };
        }
        Gain(table)
    }

    /// Applies the gain in place.
    pub fn apply(&self, ulaw: &mut [u8]) {
        ulaw.iter_mut().for_each(|code| *code = self.0[*code as usize]);
    }
}

const ULAW_BIAS: u16 = 132;
const ULAW_CLIP: u16 = 32635;

static ULAW: [i16; 256] = ulaw_table();
static ALAW: [i16; 256] = alaw_table();
static ALAW_TO_ULAW: [u8; 256] = {
    let table = alaw_table();
    let mut codes = [0; 256];
    let mut code = 0;
    while code < 256 {
        codes[code] = encode_ulaw(table[code]);
        code += 1;
    }
    codes
};
static ULAW_TO_ALAW: [u8; 256] = {
    let table = ulaw_table();
    let mut codes = [0; 256];
    let mut code = 0;
    while code < 256 {
        codes[code] = encode_alaw(table[code]);
        code += 1;
    }
    codes
};

const fn ulaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let inverted = !(code as u8);
        let magnitude = ((((inverted & 0x0F) as i16) << 3) + ULAW_BIAS as i16) << ((inverted >> 4) & 7);
        let magnitude = magnitude - ULAW_BIAS as i16;
        table[code] = if inverted & 0x80 != 0 { -magnitude } else { magnitude };
        code += 1;
    }
    table
}

const fn alaw_table() -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let plain = (code as u8) ^ 0x55;
        let step = (((plain & 0x0F) as i16) << 4) + 8;
        let magnitude = match (plain >> 4) & 7 {
            0 => step,
            segment => (step + 0x100) << (segment - 1),
        };
        table[code] = if plain & 0x80 != 0 { magnitude } else { -magnitude };
        code += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_coded_within_half_a_step_and_in_order() {
        for sample in i16::MIN..=i16::MAX {
            let ulaw = encode_ulaw(sample);
            let half_step = 4 << (!ulaw >> 4 & 7);
            // Beyond the virtual decision value the scale ends.
            let half_step = if sample.unsigned_abs() > ULAW_CLIP { 644 } else { half_step };
            assert!(error(decode_ulaw(ulaw), sample) <= half_step, "µ-law of {sample}");

            let alaw = encode_alaw(sample);
            let half_step = 8 << ((alaw ^ 0x55) >> 4 & 7).saturating_sub(1);
            assert!(error(decode_alaw(alaw), sample) <= half_step, "A-law of {sample}");

            let Some(next) = sample.checked_add(1) else { break };
            assert!(decode_ulaw(ulaw) <= decode_ulaw(encode_ulaw(next)));
            assert!(decode_alaw(alaw) <= decode_alaw(encode_alaw(next)));
        }
    }

    #[test]
    fn every_code_survives_decoding_and_encoding() {
        for code in 0..=255u8 {
            assert_eq!(encode_alaw(decode_alaw(code)), code);
            // µ-law has two zeros; the negative one comes back as the positive one.
            let expected = if code == 0x7F { 0xFF } else { code };
            assert_eq!(encode_ulaw(decode_ulaw(code)), expected);
        }
    }

    #[test]
    fn the_tables_hold_the_values_of_the_standard() {
        // G.711 tables 1a and 2a: the ends of the scale, silence, and the first step.
        assert_eq!([0x00, 0x80, 0xFF, 0x7F, 0xFE].map(decode_ulaw), [-32124, 32124, 0, 0, 8]);
        assert_eq!([0x2A, 0xAA, 0xD5, 0x55, 0xD4].map(decode_alaw), [-32256, 32256, 8, -8, 24]);
        assert_eq!((decode_ulaw(crate::model::ULAW_SILENCE), decode_alaw(ALAW_SILENCE)), (0, 8));
    }

    #[test]
    fn transcoding_is_decoding_and_encoding() {
        for code in 0..=255u8 {
            assert_eq!(alaw_to_ulaw(code), encode_ulaw(decode_alaw(code)));
            assert_eq!(ulaw_to_alaw(code), encode_alaw(decode_ulaw(code)));
        }
        let mut payload = [0x00, 0xFF];
        transcode(Codec::Pcmu, Codec::Pcma, &mut payload);
        assert_eq!(payload, [ulaw_to_alaw(0), ALAW_SILENCE]);
        transcode(Codec::Opus, Codec::Opus, &mut payload);
        assert_eq!(payload, [ulaw_to_alaw(0), ALAW_SILENCE]);
    }

    #[test]
    fn gain_halves_doubles_clips_and_leaves_alone() {
        let all: Vec<u8> = (0..=255).collect();
        let apply = |db| {
            let mut codes = all.clone();
            Gain::from_db(db).apply(&mut codes);
            codes
        };

        assert_eq!(apply(0.0), all);
        assert_eq!(apply(f32::NAN), all);
        for (code, softer) in all.iter().zip(apply(-6.0206)) {
            let (before, after) = (i32::from(decode_ulaw(*code)), i32::from(decode_ulaw(softer)));
            assert!((before / 2 - after).abs() <= 4 + before.abs() / 32, "{before} became {after}");
        }
        assert_eq!(decode_ulaw(apply(20.0)[0x80]), 32124);
        assert!(apply(-200.0).iter().all(|code| decode_ulaw(*code).abs() <= 40));
    }

    /// Silence in A-law, the code nearest to zero.
    const ALAW_SILENCE: u8 = 0xD5;

    fn error(got: i16, wanted: i16) -> i32 {
        (i32::from(got) - i32::from(wanted)).abs()
    }
}
