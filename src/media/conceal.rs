//! Packet loss concealment: repeat the last pitch period, fading.
//!
//! The pitch is where the last 20 ms differ least from themselves (average magnitude difference, 66–200 Hz), as
//! SpanDSP does it, which needs no look-ahead; the fade is the schedule of G.711 Appendix I: 10 ms at full level, then
//! 20 % less every 10 ms, silent after 60 ms. Real audio that follows is blended in over 5 ms.

use super::g711::{ULAW_SILENCE, decode_ulaw, encode_ulaw};
use crate::model::FRAME_SAMPLES;

/// Remembers what was heard and invents what was not.
#[derive(Debug)]
pub(super) struct Concealer {
    /// The last audio that was emitted, oldest first.
    history: [u8; HISTORY],
    /// Samples invented since the last real ones.
    invented: usize,
    pitch: usize,
}

impl Concealer {
    pub(super) fn new() -> Concealer {
        Concealer { history: [ULAW_SILENCE; HISTORY], invented: 0, pitch: PITCH_MAX }
    }

    /// Takes real audio, blending its beginning with what had been invented.
    pub(super) fn heard(&mut self, audio: &mut [u8]) {
        if self.invented > 0 {
            for (at, code) in audio.iter_mut().take(BLEND).enumerate() {
                let (invented, real) = (self.sample(), i32::from(decode_ulaw(*code)));
                let share = at as i32 + 1;
                let mixed = (real * share + i32::from(invented) * (BLEND as i32 - share)) / BLEND as i32;
                *code = encode_ulaw(mixed as i16);
            }
            self.invented = 0;
        }
        let new = &audio[audio.len().saturating_sub(HISTORY)..];
        self.history.copy_within(new.len().., 0);
        self.history[HISTORY - new.len()..].copy_from_slice(new);
    }

    /// Nothing was said on purpose: what follows does not continue what came before.
    pub(super) fn silence(&mut self) {
        self.history = [ULAW_SILENCE; HISTORY];
        self.invented = 0;
    }

    /// Invents audio. Silent after 60 ms.
    pub(super) fn invent(&mut self, audio: &mut [u8]) {
        if self.invented == 0 {
            self.pitch = self.find_pitch();
        }
        for code in audio.iter_mut() {
            *code = encode_ulaw(self.sample());
        }
    }

    fn sample(&mut self) -> i16 {
        let at = self.invented;
        self.invented += 1;
        let steps = (at / TEN_MS) as i32;
        // Between two steps the level falls in a straight line, so that it does not click.
        let faded = (FADE_STEPS + 1 - steps).clamp(0, FADE_STEPS);
        let next = (FADE_STEPS - steps).clamp(0, FADE_STEPS);
        let within = (at % TEN_MS) as i32;
        let level = faded * (TEN_MS as i32 - within) + next * within;
        let source = i32::from(decode_ulaw(self.history[HISTORY - self.pitch + at % self.pitch]));
        (source * level / (FADE_STEPS * TEN_MS as i32)) as i16
    }

    fn find_pitch(&self) -> usize {
        let mut samples = [0i32; HISTORY];
        for (sample, code) in samples.iter_mut().zip(&self.history) {
            *sample = i32::from(decode_ulaw(*code));
        }
        let newest = &samples[HISTORY - FRAME_SAMPLES..];
        let difference = |lag: &usize| -> i64 {
            let earlier = &samples[HISTORY - FRAME_SAMPLES - lag..HISTORY - lag];
            newest.iter().zip(earlier).map(|(new, old)| i64::from((new - old).abs())).sum()
        };
        (PITCH_MIN..=PITCH_MAX).min_by_key(difference).unwrap_or(PITCH_MAX)
    }
}

/// 200 Hz.
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
    use super::super::g711::energy;
    use super::*;
    use crate::model::Frame;

    #[test]
    fn a_lost_frame_of_a_tone_continues_the_tone() {
        let mut concealer = Concealer::new();
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
        let mut concealer = Concealer::new();
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
        let mut concealer = Concealer::new();
        concealer.heard(&mut tone(0));
        concealer.heard(&mut tone(FRAME_SAMPLES));
        concealer.invent(&mut [0; FRAME_SAMPLES]);

        let mut after = [ULAW_SILENCE; FRAME_SAMPLES];
        concealer.heard(&mut after);

        assert!(energy(&after[..BLEND]) > 0);
        assert_eq!(energy(&after[BLEND..]), 0);
    }

    fn tone(from: usize) -> Frame {
        std::array::from_fn(|at| {
            let phase = (from + at) as f32 / 80.0 * std::f32::consts::TAU;
            encode_ulaw((phase.sin() * 8000.0) as i16)
        })
    }
}
