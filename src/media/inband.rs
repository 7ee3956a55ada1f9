//! Keys heard in the audio: the tone pairs of ITU-T Q.23, for parties that send nothing better.
//!
//! Every 12.75 ms the power at the eight frequencies is measured (Goertzel). A key is one row and one column that
//! stand out of the others, are about as loud as each other (Q.24), hold nearly all the power, and have no second
//! harmonic, which is what tells them from a voice that happens to hit the frequencies.

use super::dtmf::Pressed;
use crate::model::{Digit, SAMPLE_RATE};

/// Listens for keys in one party's audio.
#[derive(Clone, Debug)]
pub struct ToneKeys {
    bins: [Goertzel; 8],
    harmonics: [Goertzel; 8],
    block: [f32; BLOCK],
    filled: usize,
    before: Option<Digit>,
    key: Option<Key>,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    digit: Digit,
    blocks: u32,
    misses: u32,
}

impl Default for ToneKeys {
    fn default() -> ToneKeys {
        ToneKeys {
            bins: FREQUENCIES.map(Goertzel::at),
            harmonics: FREQUENCIES.map(|hertz| Goertzel::at(2.0 * hertz)),
            block: [0.0; BLOCK],
            filled: 0,
            before: None,
            key: None,
        }
    }
}

impl ToneKeys {
    /// Takes audio of any length. Returns a key that was let go in it, and for how long it was held; of two keys in
    /// one stretch of 20 ms, which no hand presses, the first.
    pub fn hear(&mut self, audio: &[i16]) -> Option<Pressed> {
        let mut pressed = None;
        for sample in audio {
            self.block[self.filled] = f32::from(*sample);
            self.filled += 1;
            if self.filled == BLOCK {
                self.filled = 0;
                pressed = pressed.or(self.follow());
            }
        }
        pressed
    }

    /// Whether a key is held down.
    pub fn is_down(&self) -> bool {
        self.key.is_some()
    }

    fn follow(&mut self) -> Option<Pressed> {
        let found = self.find();
        let twice = found.filter(|digit| self.before == Some(*digit));
        self.before = found;
        match (&mut self.key, found) {
            (Some(key), Some(digit)) if key.digit == digit => {
                (key.blocks, key.misses) = (key.blocks + 1 + key.misses, 0);
                return None;
            }
            (Some(key), _) if twice.is_none() => {
                key.misses += 1;
                if key.misses < MISSES_MAX {
                    return None;
                }
            }
            _ => {}
        }
        let over = self.key.take();
        self.key = twice.map(|digit| Key { digit, blocks: 2, misses: 0 });
        over.map(|key| (key.digit, key.blocks * BLOCK as u32 * 1000 / SAMPLE_RATE))
    }

    /// The key in this block.
    fn find(&self) -> Option<Digit> {
        let total: f32 = self.block.iter().map(|sample| sample * sample).sum();
        if total < LEAST_POWER * BLOCK as f32 {
            return None;
        }
        let power = self.bins.map(|bin| bin.power(&self.block));
        let (row, column) = (strongest(&power[..4])?, strongest(&power[4..])?);
        let (low, high) = (power[row], power[4 + column]);
        // In the measure of `total`, a pure tone has half a block's worth of its squared amplitude.
        let share = (low + high) * 2.0 / BLOCK as f32 / total;
        if low > high * ROW_LOUDER_MAX || high > low * COLUMN_LOUDER_MAX || share < SHARE {
            return None;
        }
        let over_row = self.harmonics[row].power(&self.block);
        let over_column = self.harmonics[4 + column].power(&self.block);
        let is_voice = over_row * ROW_HARMONIC > low || over_column * COLUMN_HARMONIC > high;
        if is_voice { None } else { Digit::from_char(KEYS[row][column]) }
    }
}

/// Which of four stands out of the others.
fn strongest(power: &[f32]) -> Option<usize> {
    let best = (0..power.len()).max_by(|a, b| power[*a].total_cmp(&power[*b]))?;
    let stands_out = power.iter().enumerate().all(|(at, other)| at == best || power[best] > other * STANDS_OUT);
    stands_out.then_some(best)
}

/// The power of one frequency, and of what is within some 80 Hz of it.
#[derive(Clone, Copy, Debug)]
struct Goertzel(f32);

impl Goertzel {
    fn at(hertz: f32) -> Goertzel {
        Goertzel(2.0 * (std::f32::consts::TAU * hertz / SAMPLE_RATE as f32).cos())
    }

    fn power(self, block: &[f32; BLOCK]) -> f32 {
        let (mut last, mut before) = (0.0, 0.0);
        for sample in block {
            (last, before) = (sample + self.0 * last - before, last);
        }
        last * last + before * before - self.0 * last * before
    }
}

/// Rows, then columns, in hertz (Q.23).
const FREQUENCIES: [f32; 8] = [697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0];
const KEYS: [[char; 4]; 4] = [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];
/// 12.75 ms: wide enough for keys that are 1.8 % off, short enough for two whole blocks in 40 ms.
const BLOCK: usize = 102;
/// Blocks without the key until it is let go: 38 ms.
const MISSES_MAX: u32 = 3;
/// −42 dBm0 both tones together, as the mean square of samples; 0 dBm0 is 3.14 dB below full scale.
const LEAST_POWER: f32 = 32768.0 * 32768.0 * 0.5 * 0.485 * 6.3e-5;
/// 8 dB above the others of its group.
const STANDS_OUT: f32 = 6.3;
/// A row may be 8 dB louder than its column.
const ROW_LOUDER_MAX: f32 = 6.3;
/// A column may be 4 dB louder than its row; telephones send it 2 dB louder.
const COLUMN_LOUDER_MAX: f32 = 2.51;
/// Of all power.
const SHARE: f32 = 0.82;
/// Second harmonics: that of a row falls beside the columns, so it must be 4 dB below; that of a column 18 dB.
const ROW_HARMONIC: f32 = 2.51;
const COLUMN_HARMONIC: f32 = 63.0;

#[cfg(test)]
mod tests {
    use super::super::dtmf::{DigitSender, Keyed};
    use super::super::g711::decode_ulaw;
    use super::*;
    use crate::model::FRAME_SAMPLES;

    const AMPLITUDE: f32 = 6000.0;

    #[test]
    fn every_key_we_send_is_heard_once() {
        for label in "0123456789*#ABCD".chars() {
            let mut sender = DigitSender::default();
            sender.push(&[digit(label)]);
            let mut keys = ToneKeys::default();
            let mut pressed = Vec::new();
            for tick in 0..30 {
                let mut frame = [0xFF; FRAME_SAMPLES];
                if sender.is_sending()
                    && let Keyed::Event(packet) = sender.next(tick * 160, SAMPLE_RATE)
                {
                    packet.render(&mut frame);
                }
                pressed.extend(keys.hear(&frame.map(decode_ulaw)));
            }

            assert_eq!(pressed.len(), 1, "{label}");
            assert_eq!(pressed[0].0.as_char(), label);
            assert!((80..=115).contains(&pressed[0].1), "{label}: {} ms", pressed[0].1);
        }
    }

    // Q.24 table A.1, as most administrations have it.
    #[test]
    fn keys_of_40_ms_are_heard_and_of_20_ms_not() {
        for offset in 0..BLOCK {
            assert_eq!(heard(&tone(offset, 40, '5', 1.0, 1.0, 0.0)), "5", "{offset}");
            assert_eq!(heard(&tone(offset, 20, '5', 1.0, 1.0, 0.0)), "", "{offset}");
        }
    }

    #[test]
    fn a_key_interrupted_for_10_ms_is_one_key_and_for_60_ms_two() {
        for (pause, expected) in [(10, "7"), (60, "77")] {
            let mut audio = tone(0, 60, '7', 1.0, 1.0, 0.0);
            audio.truncate(480);
            audio.extend(std::iter::repeat_n(0, pause * 8));
            audio.extend(tone(0, 60, '7', 1.0, 1.0, 0.0));

            assert_eq!(heard(&audio), expected, "{pause}");
        }
    }

    #[test]
    fn frequencies_may_be_off_by_1_5_percent_and_not_by_3_5() {
        for (off, expected) in [(0.0, "3"), (0.015, "3"), (-0.015, "3"), (0.035, ""), (-0.035, "")] {
            assert_eq!(heard(&tone(0, 80, '3', 1.0, 1.0, off)), expected, "{off}");
        }
    }

    #[test]
    fn twist_is_taken_from_minus_8_to_plus_4_db() {
        let db = |db: f32| 10f32.powf(db / 20.0);
        for (row_db, column_db, expected) in [(0.0, -7.0, "9"), (-3.5, 0.0, "9"), (0.0, -10.0, ""), (-6.0, 0.0, "")] {
            assert_eq!(heard(&tone(0, 80, '9', db(row_db), db(column_db), 0.0)), expected, "{row_db} {column_db}");
        }
    }

    #[test]
    fn levels_from_full_scale_down_to_minus_35_dbm0_are_heard() {
        for (factor, expected) in [(2.6, "1"), (0.1, "1"), (0.06, "1"), (0.015, "")] {
            assert_eq!(heard(&tone(0, 80, '1', factor, factor, 0.0)), expected, "{factor}");
        }
    }

    #[test]
    fn keys_are_heard_through_noise_of_minus_20_db() {
        let mut seed = 7u32;
        let audio: Vec<i16> = tone(0, 80, '0', 1.0, 1.0, 0.0)
            .into_iter()
            .map(|sample| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                sample + ((seed >> 16) as i16 >> 5)
            })
            .collect();

        assert_eq!(heard(&audio), "0");
    }

    #[test]
    fn one_tone_or_a_dial_tone_is_no_key() {
        for (low, high) in [(1.0, 0.0), (0.0, 1.0)] {
            assert_eq!(heard(&tone(0, 200, '5', low, high, 0.0)), "");
        }
    }

    fn heard(audio: &[i16]) -> String {
        let mut keys = ToneKeys::default();
        let mut audio = audio.to_vec();
        audio.extend([0; 1600]);
        audio.chunks(FRAME_SAMPLES).filter_map(|frame| keys.hear(frame)).map(|(digit, _)| digit.as_char()).collect()
    }

    /// A key after `offset` samples of silence, `off` of its frequency beside where it should be.
    fn tone(offset: usize, ms: usize, label: char, row: f32, column: f32, off: f32) -> Vec<i16> {
        let at = KEYS.iter().flatten().position(|key| *key == label).expect("a key");
        let (low, high) = (FREQUENCIES[at / 4] * (1.0 + off), FREQUENCIES[4 + at % 4] * (1.0 + off));
        let turn = |hertz: f32, n: usize| (n as f32 / SAMPLE_RATE as f32 * hertz * std::f32::consts::TAU).sin();
        let sounding = (0..ms * 8).map(|n| (AMPLITUDE * (row * turn(low, n) + column * turn(high, n))) as i16);
        std::iter::repeat_n(0, offset).chain(sounding).collect()
    }

    fn digit(label: char) -> Digit {
        Digit::from_char(label).expect("a key")
    }
}
