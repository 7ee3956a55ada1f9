//! Packet loss concealment: repeat the last pitch period, fading.
//!
//! The pitch is where the last 20 ms differ least from themselves (average magnitude difference, 66–200 Hz), as
//! SpanDSP does it, which needs no look-ahead; the fade is the schedule of G.711 Appendix I: 10 ms at full level, then
//! 20 % less every 10 ms, silent after 60 ms. Real audio that follows is blended in over 5 ms.

use super::sample::Sample;
use crate::model::{FRAME_SAMPLES, SAMPLE_RATE};

/// Remembers what was heard and invents what was not.
#[derive(Debug)]
pub(super) struct Concealer<S> {
    /// The last audio that was emitted, oldest first.
    history: Box<[S]>,
    /// Samples in ⅛ ms: 1 for narrow audio, 2 for wide.
    per_unit: usize,
    /// Samples invented since the last real ones.
    invented: usize,
    pitch: usize,
}

impl<S: Sample> Concealer<S> {
    /// A concealer for audio of a rate, a multiple of 8 kHz.
    pub(super) fn new(rate: u32) -> Concealer<S> {
        let per_unit = (rate / SAMPLE_RATE) as usize;
        let history = vec![S::SILENCE; HISTORY * per_unit].into();
        Concealer { history, per_unit, invented: 0, pitch: PITCH_MAX * per_unit }
    }

    /// Takes real audio, blending its beginning with what had been invented.
    pub(super) fn heard(&mut self, audio: &mut [S]) {
        if self.invented > 0 {
            let blend = BLEND * self.per_unit;
            for (at, sample) in audio.iter_mut().take(blend).enumerate() {
                let (invented, real) = (self.sample(), i32::from(sample.linear()));
                let share = at as i32 + 1;
                let mixed = (real * share + i32::from(invented) * (blend as i32 - share)) / blend as i32;
                *sample = S::from_linear(mixed as i16);
            }
            self.invented = 0;
        }
        let all = self.history.len();
        let new = &audio[audio.len().saturating_sub(all)..];
        self.history.copy_within(new.len().., 0);
        self.history[all - new.len()..].copy_from_slice(new);
    }

    /// Nothing was said on purpose: what follows does not continue what came before.
    pub(super) fn silence(&mut self) {
        self.history.fill(S::SILENCE);
        self.invented = 0;
    }

    /// Invents audio. Silent after 60 ms.
    pub(super) fn invent(&mut self, audio: &mut [S]) {
        if self.invented == 0 {
            self.pitch = self.find_pitch();
        }
        for sample in audio.iter_mut() {
            *sample = S::from_linear(self.sample());
        }
    }

    fn sample(&mut self) -> i16 {
        let at = self.invented;
        self.invented += 1;
        let ten_ms = TEN_MS * self.per_unit;
        let steps = (at / ten_ms) as i32;
        // Between two steps the level falls in a straight line, so that it does not click.
        let faded = (FADE_STEPS + 1 - steps).clamp(0, FADE_STEPS);
        let next = (FADE_STEPS - steps).clamp(0, FADE_STEPS);
        let within = (at % ten_ms) as i32;
        let level = faded * (ten_ms as i32 - within) + next * within;
        let source = i32::from(self.history[self.history.len() - self.pitch + at % self.pitch].linear());
        (source * level / (FADE_STEPS * ten_ms as i32)) as i16
    }

    /// Searched at 8 kHz also in wide audio: every second sample tells the pitch as well.
    fn find_pitch(&self) -> usize {
        let mut samples = [0i32; HISTORY];
        for (sample, source) in samples.iter_mut().zip(self.history.iter().step_by(self.per_unit)) {
            *sample = i32::from(source.linear());
        }
        let newest = &samples[HISTORY - FRAME_SAMPLES..];
        let difference = |lag: &usize| -> i64 {
            let earlier = &samples[HISTORY - FRAME_SAMPLES - lag..HISTORY - lag];
            newest.iter().zip(earlier).map(|(new, old)| i64::from((new - old).abs())).sum()
        };
        (PITCH_MIN..=PITCH_MAX).min_by_key(difference).unwrap_or(PITCH_MAX) * self.per_unit
    }
}

/// 200 Hz, in ⅛ ms.
const PITCH_MIN: usize = 40;
/// 66 Hz.
const PITCH_MAX: usize = 120;
const TEN_MS: usize = 80;
const BLEND: usize = 40;
const FADE_STEPS: i32 = 5;
/// What one search looks at: 20 ms, and again as much shifted by the longest pitch.
const HISTORY: usize = FRAME_SAMPLES * 2;

#[cfg(test)]
mod tests {
    use super::super::g711::{decode_ulaw, encode_ulaw};
    use super::super::sample::energy;
    use super::*;
    use crate::model::{Frame, ULAW_SILENCE};

    #[test]
    fn a_lost_frame_of_a_tone_continues_the_tone() {
        let mut concealer = Concealer::new(SAMPLE_RATE);
        for at in 0..3 {
            concealer.heard(&mut tone(at * FRAME_SAMPLES));
        }

        let mut invented = [0; FRAME_SAMPLES];
        concealer.invent(&mut invented);

        let expected = tone(3 * FRAME_SAMPLES);
        for (got, want) in invented[..TEN_MS].iter().zip(&expected) {
            assert!((i32::from(decode_ulaw(*got)) - i32::from(decode_ulaw(*want))).abs() < 900);
        }
    }

    #[test]
    fn invention_falls_silent_after_sixty_milliseconds() {
        let mut concealer = Concealer::new(SAMPLE_RATE);
        for at in 0..3 {
            concealer.heard(&mut tone(at * FRAME_SAMPLES));
        }

        let levels: Vec<u64> = (0..4)
            .map(|_| {
                let mut frame = [0; FRAME_SAMPLES];
                concealer.invent(&mut frame);
                energy(&frame)
            })
            .collect();

        assert!(levels[0] > levels[1] && levels[1] > levels[2], "{levels:?}");
        assert_eq!(levels[3], 0);
    }

    #[test]
    fn audio_after_an_invention_is_blended_in() {
        let mut concealer = Concealer::new(SAMPLE_RATE);
        concealer.heard(&mut tone(0));
        concealer.heard(&mut tone(FRAME_SAMPLES));
        concealer.invent(&mut [0; FRAME_SAMPLES]);

        let mut after = [ULAW_SILENCE; FRAME_SAMPLES];
        concealer.heard(&mut after);

        assert!(energy(&after[..BLEND]) > 0);
        assert_eq!(energy(&after[BLEND..]), 0);
    }

    #[test]
    fn a_lost_frame_of_wide_audio_continues_too() {
        let tone = |from: usize| -> Vec<i16> {
            let phase = |at: usize| (from + at) as f32 / 160.0 * std::f32::consts::TAU;
            (0..320).map(|at| (phase(at).sin() * 8000.0) as i16).collect()
        };
        let mut concealer = Concealer::new(16_000);
        (0..3).for_each(|frame| concealer.heard(&mut tone(frame * 320)));

        let mut invented = [0; 320];
        concealer.invent(&mut invented);

        for (got, want) in invented[..160].iter().zip(tone(960)) {
            assert!((i32::from(*got) - i32::from(want)).abs() < 900);
        }
    }

    fn tone(from: usize) -> Frame {
        std::array::from_fn(|at| {
            let phase = (from + at) as f32 / 80.0 * std::f32::consts::TAU;
            encode_ulaw((phase.sin() * 8000.0) as i16)
        })
    }
}
