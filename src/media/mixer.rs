//! What a listener with several sources hears: their sum, without its own voice because nobody is a source of its own.
//!
//! Every source has a gate at −55 dBFS with 200 ms of hangover, so that five silent rooms do not add up to a noisy one.
//! Who joins fades in over 10 ms, who leaves fades out, and who is gone at once leaves no step behind. The sum is made in
//! 32 bits and kept below full scale by a limiter, which is not heard, instead of a clamp, which is.
//!
//! Whispering and listening in are wirings: an operator who is a source of one party only, or of none.

use smallvec::SmallVec;

use super::g711::{decode_ulaw, encode_ulaw};
use super::resample::Edge;
use crate::model::{Band, FRAME_SAMPLES, LegId, Sound, WIDE_SAMPLES};

/// The ear of one listener.
#[derive(Debug, Default)]
pub(super) struct Mixer {
    voices: SmallVec<[Voice; 4]>,
    limiter: Limiter,
}

impl Mixer {
    /// Who is heard from now on.
    pub(super) fn hear(&mut self, sources: &[LegId]) {
        for voice in &mut self.voices {
            voice.is_wanted = sources.contains(&voice.source);
        }
        for source in sources {
            if !self.voices.iter().any(|voice| voice.source == *source) {
                self.voices.push(Voice::new(*source));
            }
        }
    }

    /// Whether this leg is heard here.
    pub(super) fn hears(&self, source: LegId) -> bool {
        self.voices.iter().any(|voice| voice.is_wanted && voice.source == source)
    }

    /// 20 ms of everybody, in this form. `said` has what each of them says; `None` is nothing. Returns whether anybody is
    /// to be heard.
    pub(super) fn mix(&mut self, band: Band, said: impl Fn(LegId) -> Option<Sound>) -> (Sound, bool) {
        let mut sum = [0i32; WIDE_SAMPLES];
        let sum = &mut sum[..samples_in(band)];
        let mut is_voice = false;
        for voice in &mut self.voices {
            let source = voice.source;
            is_voice |= voice.add(band, said(source), sum);
        }
        // Whoever left has faded by now.
        self.voices.retain(|voice| voice.is_wanted || voice.gain > 0);
        self.limiter.limit(sum);
        (sound_of(band, sum), is_voice)
    }
}

/// One source in one ear.
#[derive(Debug)]
struct Voice {
    source: LegId,
    is_wanted: bool,
    edge: Edge,
    /// Of [`GAIN_FULL`].
    gain: i32,
    /// Frames for which the gate stays open.
    open: u32,
    /// What was added last, for when nothing more comes.
    last: i32,
}

impl Voice {
    fn new(source: LegId) -> Voice {
        Voice { source, is_wanted: true, edge: Edge::default(), gain: 0, open: 0, last: 0 }
    }

    fn add(&mut self, band: Band, said: Option<Sound>, sum: &mut [i32]) -> bool {
        let Some(said) = said else {
            self.decay(sum);
            return false;
        };
        let mut samples = [0i16; WIDE_SAMPLES];
        let samples = &mut samples[..sum.len()];
        match self.edge.fit(&said, band) {
            Sound::Narrow(codes) => samples.iter_mut().zip(codes).for_each(|(to, code)| *to = decode_ulaw(code)),
            Sound::Wide(wide) => samples.copy_from_slice(&wide),
        }
        let energy: u64 = samples.iter().map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum();
        if energy / samples.len() as u64 >= GATE {
            self.open = HANGOVER;
        } else {
            self.open = self.open.saturating_sub(1);
        }
        let target = if self.is_wanted && self.open > 0 { GAIN_FULL } else { 0 };
        let step = GAIN_FULL / (sum.len() as i32 / 2);
        for (sum, sample) in sum.iter_mut().zip(samples.iter()) {
            self.gain += (target - self.gain).clamp(-step, step);
            self.last = i32::from(*sample) * self.gain / GAIN_FULL;
            *sum += self.last;
        }
        self.gain > 0
    }

    /// Lets what was heard last run out, so that there is no step.
    fn decay(&mut self, sum: &mut [i32]) {
        let len = sum.len() as i32 / 4;
        let from = std::mem::take(&mut self.last);
        for (at, sum) in (1..=len).zip(sum.iter_mut()) {
            // A parabola: it ends as softly as it can be told from silence.
            let left = len - at;
            *sum += from * left / len * left / len;
        }
        (self.gain, self.open) = (0, 0);
    }
}

/// Keeps a sum below full scale.
#[derive(Debug)]
struct Limiter {
    /// At the end of the last frame.
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Limiter {
        Limiter { gain: 1.0 }
    }
}

impl Limiter {
    /// Every 5 ms has a gain that it needs; between two of them the gain goes straight, and is never more than either
    /// needs. It rises by a twentieth in 5 ms, so in 100 ms to full.
    fn limit(&mut self, sum: &mut [i32]) {
        let block = sum.len() / BLOCKS;
        let mut wanted = [1.0f32; BLOCKS];
        for (wanted, block) in wanted.iter_mut().zip(sum.chunks(block)) {
            let peak = block.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
            if peak > PEAK {
                *wanted = PEAK as f32 / peak as f32;
            }
        }
        if self.gain >= 1.0 && wanted.iter().all(|wanted| *wanted >= 1.0) {
            return;
        }
        for at in 0..BLOCKS {
            let next = wanted.get(at + 1).copied().unwrap_or(wanted[at]);
            let end = wanted[at].min(next).min(self.gain + RELEASE);
            let samples = &mut sum[at * block..(at + 1) * block];
            for (into, sample) in (1..).zip(samples) {
                let gain = self.gain + (end - self.gain) * into as f32 / block as f32;
                *sample = (*sample as f32 * gain) as i32;
            }
            self.gain = end;
        }
    }
}

fn samples_in(band: Band) -> usize {
    match band {
        Band::Narrow => FRAME_SAMPLES,
        Band::Wide => WIDE_SAMPLES,
    }
}

/// What the limiter could not foresee, in the first 5 ms of a frame, is cut.
fn sound_of(band: Band, sum: &[i32]) -> Sound {
    let sample = |at: usize| sum[at].clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    match band {
        Band::Narrow => Sound::Narrow(std::array::from_fn(|at| encode_ulaw(sample(at)))),
        Band::Wide => Sound::Wide(std::array::from_fn(sample)),
    }
}

/// −55 dBFS as mean square.
const GATE: u64 = 3395;
/// 200 ms.
const HANGOVER: u32 = 10;
const GAIN_FULL: i32 = 1 << 14;
/// Where the limiter begins.
const PEAK: u32 = 29_000;
/// Of 5 ms in a frame.
const BLOCKS: usize = 4;
const RELEASE: f32 = 0.05;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::f32::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    const ADA: LegId = LegId(0);
    const GRACE: LegId = LegId(1);
    const ALAN: LegId = LegId(2);

    #[test]
    fn everybody_hears_the_others_and_not_themselves() {
        let legs = [(ADA, 440.0), (GRACE, 610.0), (ALAN, 790.0)];
        let mut ears: HashMap<LegId, Mixer> = HashMap::new();
        for (leg, _) in legs {
            let others: Vec<LegId> = legs.iter().map(|(other, _)| *other).filter(|other| *other != leg).collect();
            ears.entry(leg).or_default().hear(&others);
        }

        for (leg, own) in legs {
            let mixer = ears.get_mut(&leg).expect("has an ear");
            let heard = pull(mixer, 25, |frame, source| {
                let (_, hz) = legs.iter().find(|(other, _)| *other == source).expect("is one of them");
                Some(tone(*hz, 6000.0, frame))
            });
            for (_, hz) in legs {
                let level = strength(&heard[800..], hz);
                let wanted = if hz == own { 0.0..60.0 } else { 5900.0..6100.0 };
                assert!(wanted.contains(&level), "{leg} hears {hz} Hz at {level}");
            }
        }
    }

    #[test]
    fn a_whisper_reaches_one_and_a_listener_reaches_nobody() {
        let (mut caller, mut agent, mut operator) = (Mixer::default(), Mixer::default(), Mixer::default());
        caller.hear(&[GRACE]);
        agent.hear(&[ADA, ALAN]);
        operator.hear(&[ADA, GRACE]);
        let said = |frame: usize, source: LegId| Some(tone(if source == ALAN { 790.0 } else { 440.0 }, 6000.0, frame));

        let heard = [&mut caller, &mut agent, &mut operator].map(|ear| strength(&pull(ear, 25, said)[800..], 790.0));

        assert!(heard[0] < 60.0 && heard[2] < 60.0 && heard[1] > 5900.0, "{heard:?}");
    }

    #[test]
    fn joining_and_leaving_do_not_click() {
        for is_gone in [false, true] {
            let mut mixer = Mixer::default();
            mixer.hear(&[ADA, GRACE]);
            let mut heard = pull(&mut mixer, 10, |frame, source| (source == ADA).then(|| tone(200.0, 8000.0, frame)));
            // One leaves in the middle of a loud word, by its own will or all at once; another one joins.
            mixer.hear(if is_gone { &[ADA, GRACE, ALAN] } else { &[GRACE, ALAN] });
            for frame in 10..30 {
                let (sound, _) = mixer.mix(Band::Wide, |source| match source {
                    ADA if is_gone => None,
                    GRACE => None,
                    source => Some(tone(if source == ALAN { 300.0 } else { 200.0 }, 8000.0, frame)),
                });
                heard.extend(linear(&sound));
            }

            // The steepest that these tones are is 8000 × 2π × 300 / 16000 = 942; both at once add up.
            let steepest = heard.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max();
            assert!(steepest.expect("was heard") < 1800, "{is_gone}: {steepest:?}");
            // A click is energy where neither tone has any: 40 dB below them at least.
            let loudest = heard.windows(320).step_by(80).map(|window| strength(window, 4000.0)).fold(0.0, f32::max);
            assert!(loudest < 80.0, "{is_gone}: {loudest}");
        }
    }

    #[test]
    fn a_silent_room_does_not_add_its_noise() {
        let mut mixer = Mixer::default();
        mixer.hear(&[ADA, GRACE]);

        // −60 dBFS: 33 of 32768, as a square wave.
        let hum = |frame: usize| Sound::Wide(std::array::from_fn(|at| if (at + frame) % 8 < 4 { 30 } else { -30 }));
        let heard = pull(&mut mixer, 20, |frame, source| {
            // One speaks for 100 ms and then hums like the other.
            Some(if source == ADA && frame < 5 { tone(440.0, 6000.0, frame) } else { hum(frame) })
        });

        let level = |from_ms: usize| heard[from_ms * 16..][..320].iter().map(|sample| sample.unsigned_abs()).max();
        assert!(level(40) > Some(5000));
        assert!(level(250) >= Some(25), "the hangover keeps it open");
        assert_eq!(level(360), Some(0));
    }

    #[test]
    fn loud_voices_together_are_turned_down_and_not_cut() {
        let mut mixer = Mixer::default();
        mixer.hear(&[ADA, GRACE, ALAN]);

        let heard = pull(&mut mixer, 50, |frame, _| Some(tone(440.0, 25_000.0, frame)));

        let steady = &heard[8000..];
        // Into a new frame the gain arrives within 5 ms; until then a little more is let through.
        assert!(steady.iter().all(|sample| sample.unsigned_abs() <= 30_000));
        // A clamp would leave a third harmonic of a tenth and more.
        let (root, third) = (strength(steady, 440.0), strength(steady, 1320.0));
        assert!(root > 27_000.0 && third < root * 0.02, "{root} and {third}");
        // And it is let up again.
        let after = pull(&mut mixer, 20, |frame, source| (source == ADA).then(|| tone(440.0, 6000.0, frame)));
        assert!(strength(&after[3200..], 440.0) > 5900.0);
    }

    proptest! {
        /// Whatever is said, by how many, in whichever form: nothing overflows or panics, and silence stays silence.
        #[test]
        fn nothing_overflows(
            loud in proptest::collection::vec((any::<i16>(), any::<bool>()), 1..12),
            is_wide: bool,
            silent: bool,
        ) {
            let band = if is_wide { Band::Wide } else { Band::Narrow };
            let legs: Vec<LegId> = (0..loud.len() as u16).map(LegId).collect();
            let mut mixer = Mixer::default();
            mixer.hear(&legs);
            for frame in 0..8 {
                let (sound, is_voice) = mixer.mix(band, |source| {
                    let (value, narrow) = loud[usize::from(source.0)];
                    let value = if silent { 0 } else { value };
                    let value = if frame % 2 == 0 { value } else { value.saturating_neg() };
                    Some(if narrow {
                        Sound::Narrow([encode_ulaw(value); FRAME_SAMPLES])
                    } else {
                        Sound::Wide([value; WIDE_SAMPLES])
                    })
                });
                prop_assert_eq!(sound.band(), band);
                if silent {
                    prop_assert!(!is_voice);
                    prop_assert!(linear(&sound).iter().all(|sample| *sample == 0));
                }
            }
        }
    }

    fn pull(mixer: &mut Mixer, frames: usize, said: impl Fn(usize, LegId) -> Option<Sound>) -> Vec<i16> {
        (0..frames).flat_map(|frame| linear(&mixer.mix(Band::Wide, |source| said(frame, source)).0)).collect()
    }

    fn linear(sound: &Sound) -> Vec<i16> {
        match sound {
            Sound::Narrow(codes) => codes.iter().map(|code| decode_ulaw(*code)).collect(),
            Sound::Wide(wide) => wide.to_vec(),
        }
    }

    fn tone(hz: f32, amplitude: f32, frame: usize) -> Sound {
        let sample = |at: usize| ((frame * WIDE_SAMPLES + at) as f32 / 16_000.0 * hz * TAU).sin() * amplitude;
        Sound::Wide(std::array::from_fn(|at| sample(at) as i16))
    }

    /// The amplitude of one frequency.
    fn strength(samples: &[i16], hertz: f32) -> f32 {
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (at, sample) in samples.iter().enumerate() {
            // A window, or the edges are heard as well.
            let window = 1.0 - (at as f32 / samples.len() as f32 * TAU).cos();
            let turn = at as f32 / 16_000.0 * hertz * TAU;
            real += turn.cos() * f32::from(*sample) * window;
            imaginary += turn.sin() * f32::from(*sample) * window;
        }
        (real * real + imaginary * imaginary).sqrt() * 2.0 / samples.len() as f32
    }
}
