//! One sample in either form of the house, for what is done alike in both: levels, fades, concealment, playing out.

use super::g711::{decode_ulaw, encode_ulaw};
use crate::model::{Sound, ULAW_SILENCE};

/// A sample: an octet is µ-law, an `i16` is linear.
pub(super) trait Sample: Copy + PartialEq + std::fmt::Debug + Send + 'static {
    /// Nothing to hear.
    const SILENCE: Self;

    /// Its linear value.
    fn linear(self) -> i16;

    /// The sample nearest to a linear value.
    fn from_linear(linear: i16) -> Self;
}

impl Sample for u8 {
    const SILENCE: u8 = ULAW_SILENCE;

    fn linear(self) -> i16 {
        decode_ulaw(self)
    }

    fn from_linear(linear: i16) -> u8 {
        encode_ulaw(linear)
    }
}

impl Sample for i16 {
    const SILENCE: i16 = 0;

    fn linear(self) -> i16 {
        self
    }

    fn from_linear(linear: i16) -> i16 {
        linear
    }
}

/// Mean square of a stretch, in units of a 16-bit sample squared. Zero for nothing.
pub(super) fn energy<S: Sample>(samples: &[S]) -> u64 {
    let sum: u64 = samples
        .iter()
        .map(|sample| {
            let linear = i64::from(sample.linear());
            (linear * linear) as u64
        })
        .sum();
    sum / (samples.len().max(1) as u64)
}

/// The mean square of a frame.
pub(super) fn level(sound: &Sound) -> u64 {
    match sound {
        Sound::Narrow(ulaw) => energy(ulaw),
        Sound::Wide(wide) => energy(wide),
    }
}

/// Whether there is anything to hear in a frame.
pub(super) fn is_audible(sound: &Sound) -> bool {
    level(sound) > 0
}

/// Fades to silence in a straight line over the whole stretch.
pub(super) fn fade_out<S: Sample>(samples: &mut [S]) {
    let len = samples.len() as i32;
    for (at, sample) in samples.iter_mut().enumerate() {
        *sample = S::from_linear((i32::from(sample.linear()) * (len - at as i32) / (len + 1)) as i16);
    }
}
