//! Taking noise out of what a decision is made by.
//!
//! A recurrent net (RNNoise) on 48 kHz: good at cars, fans and halls, and at soft speech and music too, which it takes for
//! noise. So it stands before the voice detector where an admin wants it, and never before an agent. It adds some 20 ms
//! and costs about as much as all else a call needs, while the agent speaks.

use nnnoiseless::DenoiseState;

use super::resample::Resampler;
use crate::model::{FRAME_SAMPLES, SAMPLE_RATE};

/// The cleaner of one party's sound at 8 kHz.
pub(super) struct Cleaner {
    net: Box<DenoiseState<'static>>,
    up: Resampler,
    down: Resampler,
}

impl Cleaner {
    pub(super) fn new() -> Cleaner {
        Cleaner { net: DenoiseState::new(), up: Resampler::new(), down: Resampler::new() }
    }

    /// Takes the noise out of 20 ms.
    pub(super) fn clean(&mut self, audio: &[i16; FRAME_SAMPLES]) -> [i16; FRAME_SAMPLES] {
        let mut wide = [0i16; WIDE];
        self.up.run((SAMPLE_RATE, RATE), audio, &mut wide);
        for half in wide.chunks_exact_mut(DenoiseState::FRAME_SIZE) {
            let mut noisy = [0.0; DenoiseState::FRAME_SIZE];
            noisy.iter_mut().zip(&*half).for_each(|(float, sample)| *float = f32::from(*sample));
            let mut clean = [0.0; DenoiseState::FRAME_SIZE];
            self.net.process_frame(&mut clean, &noisy);
            half.iter_mut().zip(clean).for_each(|(sample, float)| *sample = float as i16);
        }
        let mut narrow = [0; FRAME_SAMPLES];
        self.down.run((RATE, SAMPLE_RATE), &wide, &mut narrow);
        narrow
    }
}

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cleaner")
    }
}

const RATE: u32 = 48_000;
/// 20 ms of it: two of the net's frames.
const WIDE: usize = 960;
