//! Making a voice softer for a while, without a click.

/// A gain on its way to another.
#[derive(Clone, Copy, Debug)]
pub struct Fader {
    gain: f32,
    target: f32,
    /// By how much the gain changes with each sample.
    step: f32,
}

impl Default for Fader {
    fn default() -> Fader {
        Fader { gain: 1.0, target: 1.0, step: 0.0 }
    }
}

impl Fader {
    /// Goes to another gain, in a straight line of this many samples.
    pub fn go_to(&mut self, db: f32, samples: usize) {
        self.target = 10f32.powf(db / 20.0);
        self.step = (self.target - self.gain) / samples.max(1) as f32;
    }

    /// At full level at once: what comes next is heard as it is.
    pub fn reset(&mut self) {
        *self = Fader::default();
    }

    /// Whether it changes nothing.
    pub fn is_idle(&self) -> bool {
        self.gain == 1.0 && self.target == 1.0
    }

    /// Applies the gain in place.
    pub fn apply(&mut self, audio: &mut [i16]) {
        if self.is_idle() {
            return;
        }
        for sample in audio {
            if self.gain != self.target {
                self.gain += self.step;
                let is_past = (self.step >= 0.0) == (self.gain >= self.target);
                self.gain = if is_past { self.target } else { self.gain };
            }
            *sample = (f32::from(*sample) * self.gain) as i16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gain_moves_in_a_line_and_stays() {
        let mut fader = Fader::default();
        let mut audio = [10_000i16; 160];

        fader.go_to(-18.0, 80);
        fader.apply(&mut audio);

        assert!(audio.windows(2).all(|pair| pair[1] <= pair[0]));
        assert!((audio[39] - 5630).abs() < 60, "{}", audio[39]);
        assert_eq!(audio[80..], [1258; 80]);
    }

    #[test]
    fn back_at_full_level_it_changes_nothing() {
        let mut fader = Fader::default();
        fader.go_to(-18.0, 80);
        fader.apply(&mut [0; 80]);
        fader.go_to(0.0, 640);
        fader.apply(&mut [0; 640]);

        let mut audio = [12_345i16, -32_768, 32_767];
        fader.apply(&mut audio);

        assert!(fader.is_idle());
        assert_eq!(audio, [12_345, -32_768, 32_767]);
    }
}
