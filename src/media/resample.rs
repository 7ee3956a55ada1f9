//! From one sampling rate to another, 20 ms at a time.
//!
//! The converter works in blocks of 10 ms and gives them with half a block of delay: [`DELAY_MS`] in all, whatever the
//! two rates are. It allocates when it is made and never again.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::g711::{decode_ulaw, encode_ulaw};
use crate::model::{Band, FRAME_SAMPLES, SAMPLE_RATE, Sound, WIDE_RATE, WIDE_SAMPLES};

/// What a conversion adds to the way of the sound, in milliseconds.
pub const DELAY_MS: u32 = 5;

/// Brings 20 ms after 20 ms of one stream to another rate. A change of the rates begins a new stream.
pub(super) struct Resampler {
    rates: (u32, u32),
    inner: Option<Fft<f32>>,
    input: [f32; SAMPLES_MAX],
    output: [f32; SAMPLES_MAX],
}

impl Resampler {
    pub(super) fn new() -> Resampler {
        Resampler { rates: (0, 0), inner: None, input: [0.0; SAMPLES_MAX], output: [0.0; SAMPLES_MAX] }
    }

    /// Converts 20 ms; both slices must be that long at their rates, at most 48 kHz.
    pub(super) fn run(&mut self, (from, to): (u32, u32), input: &[i16], output: &mut [i16]) {
        if self.rates != (from, to) {
            self.rates = (from, to);
            let (rate_in, rate_out) = (from as usize, to as usize);
            let (chunk, window) = (rate_in / 50, WindowFunction::BlackmanHarris2);
            self.inner = Fft::new_custom(rate_in, rate_out, chunk, 2, 1, window, FixedSync::Input).ok();
        }
        for (float, sample) in self.input.iter_mut().zip(input) {
            *float = f32::from(*sample);
        }
        let is_converted = self.convert(input.len(), output.len());
        debug_assert!(is_converted, "20 ms at {from} Hz become 20 ms at {to} Hz");
        for (sample, float) in output.iter_mut().zip(&self.output) {
            // The cast saturates, which is what clipping means.
            *sample = float.round() as i16;
        }
    }

    /// Forgets the stream: the next 20 ms follow nothing.
    pub(super) fn reset(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.reset();
        }
    }

    fn convert(&mut self, frames_in: usize, frames_out: usize) -> bool {
        let Some(inner) = &mut self.inner else { return false };
        let Some(input) = self.input.get(..frames_in).and_then(|all| SequentialSlice::new(all, 1, frames_in).ok())
        else {
            return false;
        };
        let room = self.output.len();
        let Ok(mut output) = SequentialSlice::new_mut(&mut self.output, 1, room) else { return false };
        matches!(inner.process_into_buffer(&input, &mut output, None), Ok((_, written)) if written == frames_out)
    }
}

impl std::fmt::Debug for Resampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resampler").field("rates", &self.rates).finish_non_exhaustive()
    }
}

/// The edge of a listener: brings what it hears to the form that it takes. What is in that form already passes
/// untouched, and costs nothing.
#[derive(Debug, Default)]
pub(super) struct Edge {
    resampler: Option<Box<Resampler>>,
    /// The last frame was converted, so the next one follows it.
    is_running: bool,
}

impl Edge {
    pub(super) fn fit(&mut self, sound: &Sound, band: Band) -> Sound {
        match (sound, band) {
            (Sound::Narrow(_), Band::Narrow) | (Sound::Wide(_), Band::Wide) => {
                self.is_running = false;
                *sound
            }
            (Sound::Narrow(ulaw), Band::Wide) => {
                let mut wide = [0; WIDE_SAMPLES];
                self.running().run((SAMPLE_RATE, WIDE_RATE), &ulaw.map(decode_ulaw), &mut wide);
                Sound::Wide(wide)
            }
            (Sound::Wide(wide), Band::Narrow) => {
                let mut narrow = [0; FRAME_SAMPLES];
                self.running().run((WIDE_RATE, SAMPLE_RATE), wide, &mut narrow);
                Sound::Narrow(narrow.map(encode_ulaw))
            }
        }
    }

    fn running(&mut self) -> &mut Resampler {
        let resampler = self.resampler.get_or_insert_with(|| Box::new(Resampler::new()));
        if !self.is_running {
            resampler.reset();
        }
        self.is_running = true;
        resampler
    }
}

/// 20 ms at 48 kHz.
const SAMPLES_MAX: usize = 960;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_keeps_its_level_and_comes_five_milliseconds_later() {
        for (from, to) in
            [(8000, 16_000), (16_000, 8000), (8000, 24_000), (24_000, 8000), (16_000, 24_000), (48_000, 16_000)]
        {
            let tone =
                |rate: u32, at: f64| ((at / f64::from(rate) * 440.0 * std::f64::consts::TAU).sin() * 8000.0) as i16;
            let (len_in, len_out) = ((from / 50) as usize, (to / 50) as usize);
            let mut resampler = Resampler::new();
            let mut all = Vec::new();
            for frame in 0..25 {
                let input: Vec<i16> = (0..len_in).map(|at| tone(from, (frame * len_in + at) as f64)).collect();
                let mut output = vec![0; len_out];
                resampler.run((from, to), &input, &mut output);
                all.extend(output);
            }

            let delay = (DELAY_MS * to / 1000) as usize;
            let (mut signal, mut noise) = (0.0, 0.0);
            for (at, got) in all.iter().enumerate().skip(len_out * 5) {
                let want = f64::from(tone(to, (at - delay) as f64));
                signal += want * want;
                noise += (want - f64::from(*got)).powi(2);
            }
            let snr_db = 10.0 * (signal / noise).log10();
            assert!(snr_db > 50.0, "{from} to {to}: {snr_db} dB");
        }
    }

    #[test]
    fn what_is_in_the_right_form_passes_untouched() {
        let mut edge = Edge::default();
        let narrow = Sound::Narrow([0x7F; FRAME_SAMPLES]);
        assert_eq!(edge.fit(&narrow, Band::Narrow), narrow);
        assert!(edge.resampler.is_none());
        assert_eq!(edge.fit(&narrow, Band::Wide).band(), Band::Wide);
        assert_eq!(edge.fit(&Sound::silence(Band::Wide), Band::Narrow), Sound::silence(Band::Narrow));
    }
}
