//! Whether what sounds is a tone: ringback, busy, a key, a beep.
//!
//! A tone has nearly all its power in one or two lines that stand still. Of speech that holds for moments at most, and
//! its lines glide.

use std::f32::consts::TAU;

use crate::model::SAMPLE_RATE;

/// Looks at the last 64 ms, as often as it is asked.
#[derive(Clone, Debug)]
pub(super) struct ToneFinder {
    past: [i16; LEN],
    window: Box<[f32; LEN]>,
    turns: Box<[(f32, f32); LEN / 2]>,
    /// Blocks remembered in all, and at the last look.
    blocks: u64,
    looked: u64,
    /// The lines of the last look, in hertz; 0 for none.
    lines: [f32; 2],
    /// Looks in a row that showed the same lines.
    same: u32,
}

impl Default for ToneFinder {
    fn default() -> ToneFinder {
        let step = TAU / LEN as f32;
        ToneFinder {
            past: [0; LEN],
            window: Box::new(std::array::from_fn(|at| 0.5 - 0.5 * (step * at as f32).cos())),
            turns: Box::new(std::array::from_fn(|at| ((step * at as f32).cos(), -(step * at as f32).sin()))),
            blocks: 0,
            looked: 0,
            lines: [0.0; 2],
            same: 0,
        }
    }
}

impl ToneFinder {
    /// Takes the next 16 ms.
    pub(super) fn remember(&mut self, block: &[i16; STEP]) {
        self.past.copy_within(STEP.., 0);
        self.past[LEN - STEP..].copy_from_slice(block);
        self.blocks += 1;
    }

    /// Whether one or two lines hold nearly all the power, the same as at the look before.
    pub(super) fn is_tone(&mut self) -> bool {
        let is_next = self.blocks <= self.looked + LOOKS_APART_MAX;
        self.looked = self.blocks;
        let lines = self.find();
        let stands_still =
            is_next && lines.iter().zip(&self.lines).all(|(now, before)| (now - before).abs() <= DRIFT_HZ);
        self.same = match lines[0] > 0.0 {
            true if stands_still => self.same + 1,
            true => 1,
            false => 0,
        };
        self.lines = lines;
        self.same >= SAME_MIN
    }

    /// The lines that hold nearly all the power, the lower first; zeros when there are none.
    fn find(&self) -> [f32; 2] {
        let mut spectrum = [(0.0, 0.0); LEN];
        for ((at, sample), weight) in self.past.iter().enumerate().zip(self.window.iter()) {
            spectrum[at.reverse_bits() >> (usize::BITS - LEN.ilog2())] = (f32::from(*sample) * weight, 0.0);
        }
        self.transform(&mut spectrum);
        let mut power: [f32; LEN / 2] = std::array::from_fn(|bin| {
            let (real, imaginary) = spectrum[bin];
            real * real + imaginary * imaginary
        });
        power[..FIRST_BIN].fill(0.0);
        let total: f32 = power.iter().sum();
        if total <= 0.0 {
            return [0.0; 2];
        }
        let (close, close_power) = take_peak(&mut power.clone(), CLOSE);
        if close_power >= SHARE * total {
            return [close, 0.0];
        }
        let (first, first_power) = take_peak(&mut power, LINE);
        let (second, second_power) = take_peak(&mut power, LINE);
        let is_pair = first_power + second_power >= SHARE * total && second_power * TWIST >= first_power;
        if is_pair { [first.min(second), first.max(second)] } else { [0.0; 2] }
    }

    /// A Fourier transform in place, of what stands in bit-reversed order.
    fn transform(&self, spectrum: &mut [(f32, f32); LEN]) {
        let mut half = 1;
        while half < LEN {
            let stride = LEN / 2 / half;
            for group in spectrum.chunks_exact_mut(2 * half) {
                let (even, odd) = group.split_at_mut(half);
                for (at, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
                    let (cos, sin) = self.turns[at * stride];
                    let turned = (odd.0 * cos - odd.1 * sin, odd.0 * sin + odd.1 * cos);
                    *odd = (even.0 - turned.0, even.1 - turned.1);
                    *even = (even.0 + turned.0, even.1 + turned.1);
                }
            }
            half *= 2;
        }
    }
}

/// Takes the strongest line and its neighbours out; returns where they stand together, in hertz, and their power.
fn take_peak(power: &mut [f32; LEN / 2], side: usize) -> (f32, f32) {
    let strongest = |best: usize, bin: usize| if power[bin] > power[best] { bin } else { best };
    let peak = (FIRST_BIN..LEN / 2 - 1).fold(FIRST_BIN, strongest);
    let (left, right) = (peak.saturating_sub(side), (peak + side).min(LEN / 2 - 1));
    let sum: f32 = power[left..=right].iter().sum();
    let weighted: f32 = power[left..=right].iter().enumerate().map(|(n, power)| (left + n) as f32 * power).sum();
    power[left..=right].fill(0.0);
    let hertz = if sum > 0.0 { weighted / sum * SAMPLE_RATE as f32 / LEN as f32 } else { 0.0 };
    (hertz, sum)
}

/// 64 ms: lines 16 Hz apart, so that the 50 Hz between the tones of a British ringback can be seen.
const LEN: usize = 512;
/// 16 ms.
const STEP: usize = 128;
/// Below 125 Hz there is hum, and nothing of a telephone's tones.
const FIRST_BIN: usize = 8;
/// Neighbours of a line that its window smears it into.
const LINE: usize = 2;
/// Two lines 40 or 50 Hz apart look like one that is wider.
const CLOSE: usize = 4;
/// Of all power, in the one or two lines.
const SHARE: f32 = 0.9;
/// 6 dB between the two.
const TWIST: f32 = 4.0;
const DRIFT_HZ: f32 = 12.0;
const SAME_MIN: u32 = 2;
/// Two looks further apart are at different sounds, in blocks.
const LOOKS_APART_MAX: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tones_of_the_network_are_tones() {
        for lines in [&[425.0][..], &[440.0, 480.0], &[400.0, 450.0], &[480.0, 620.0], &[697.0, 1209.0], &[1400.0]] {
            let mut finder = ToneFinder::default();

            let found = blocks(|at| lines.iter().map(|hertz| 6000.0 * (at * TAU * hertz).sin()).sum())
                .iter()
                .map(|block| listen(&mut finder, block))
                .collect::<Vec<_>>();

            assert!(found[5..].iter().all(|is_tone| *is_tone), "{lines:?}: {found:?}");
        }
    }

    #[test]
    fn what_glides_or_has_many_lines_is_no_tone() {
        let glide = blocks(|at| 8000.0 * (TAU * (300.0 + 800.0 * at) * at).sin());
        let voice = blocks(|at| (1..12).map(|n| 4000.0 / n as f32 * (TAU * 140.0 * n as f32 * at).sin()).sum());
        let mut seed = 1u32;
        let noise = blocks(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 17) as f32 - 16_384.0
        });
        for audio in [glide, voice, noise, blocks(|_| 0.0)] {
            let mut finder = ToneFinder::default();

            let tones = audio.iter().filter(|block| listen(&mut finder, block)).count();

            assert!(tones <= 1, "{tones}");
        }
    }

    fn listen(finder: &mut ToneFinder, block: &[i16; STEP]) -> bool {
        finder.remember(block);
        finder.is_tone()
    }

    fn blocks(mut sample: impl FnMut(f32) -> f32) -> Vec<[i16; STEP]> {
        let mut at = 0;
        (0..30)
            .map(|_| {
                std::array::from_fn(|_| {
                    at += 1;
                    sample(at as f32 / SAMPLE_RATE as f32) as i16
                })
            })
            .collect()
    }
}
