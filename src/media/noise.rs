//! Comfort noise (RFC 3389): what a party says of its silence, and what we say of ours.

/// White noise of one level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    peak: i32,
    dice: u32,
}

impl Noise {
    /// Noise so many decibels below the loudest possible. `before` is what was heard until now, which it continues.
    pub(super) fn new(level: u8, before: Option<&Noise>) -> Noise {
        // The root of the mean square of even noise is its peak over √3. What is called comfort is never loud.
        let rms = 32_768.0 * 10f32.powf(-f32::from(level.max(LOUDEST)) / 20.0);
        Noise { peak: (rms * 3f32.sqrt()) as i32, dice: before.map_or(SEED, |noise| noise.dice) }
    }

    pub(super) fn sample(&mut self) -> i16 {
        // Numerical Recipes' generator; the upper bits are even enough for noise.
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let even = (self.dice >> 16) as i32 - 32_768;
        (even * self.peak / 32_768) as i16
    }
}

/// The level of a comfort-noise packet, in decibels below the loudest possible. What follows it describes a spectrum,
/// which §3 allows to ignore.
pub(super) fn level(payload: &[u8]) -> Option<u8> {
    payload.first().map(|octet| octet & 0x7F)
}

const SEED: u32 = 0x5EED;
/// A party that announces a louder background than −30 dBov is not taken at its word.
const LOUDEST: u8 = 30;

#[cfg(test)]
mod tests {
    use super::super::sample::energy;
    use super::*;

    #[test]
    fn noise_has_the_level_that_was_announced() {
        for (announced, heard) in [(40, 40.0), (60, 60.0), (5, 30.0)] {
            let mut noise = Noise::new(announced, None);
            let samples: Vec<i16> = (0..8000).map(|_| noise.sample()).collect();
            let level = -10.0 * (energy(&samples) as f32 / 32_768f32.powi(2)).log10();
            assert!((level - heard).abs() < 1.0, "{announced} became {level}");
        }
        assert!((0..1000).map(|_| Noise::new(127, None).sample()).all(|sample| sample == 0));
        assert_eq!((level(&[0xC0, 1, 2]), level(&[])), (Some(64), None));
    }
}
