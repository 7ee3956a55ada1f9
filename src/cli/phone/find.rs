//! Finding a known clip in what was heard.

use crate::media::decode_ulaw;
use crate::model::SAMPLE_RATE;

/// Where `clip` (µ-law at 8 kHz) begins in `heard`, in samples, at `from` or later; `None` when it is not there.
///
/// The loudest 100 ms of the clip are looked for by normalised correlation, so that volume does not matter and another
/// sentence of the same voice is not mistaken for it.
pub fn find(heard: &[i16], clip: &[u8], from: usize) -> Option<usize> {
    let clip: Vec<f32> = clip.iter().map(|code| f32::from(decode_ulaw(*code))).collect();
    let (at, needle) = loudest(&clip)?;
    let heard: Vec<f32> = heard.get(from..)?.iter().map(|sample| f32::from(*sample)).collect();
    let norm = energy(needle).sqrt();
    // In f64: a running sum over minutes of sound must still know silence when it comes.
    let mut window = heard.get(..needle.len()).map(|first| f64::from(energy(first)))?;
    let quiet = f64::from(norm * norm * QUIET_RATIO);
    for start in 0..=heard.len() - needle.len() {
        let slice = &heard[start..start + needle.len()];
        // A window far quieter than the needle is not worth a correlation.
        if window > quiet && correlation(slice, needle) > ALIKE * energy(slice).sqrt() * norm {
            return Some((from + start).saturating_sub(at));
        }
        if let Some(next) = heard.get(start + needle.len()) {
            window += f64::from(*next).powi(2) - f64::from(slice[0]).powi(2);
        }
    }
    None
}

fn loudest(clip: &[f32]) -> Option<(usize, &[f32])> {
    let starts = (0..=clip.len().checked_sub(NEEDLE)?).step_by(NEEDLE / 4);
    let loudest = starts.max_by(|a, b| {
        let energy_at = |at: usize| energy(&clip[at..at + NEEDLE]);
        energy_at(*a).total_cmp(&energy_at(*b))
    })?;
    Some((loudest, &clip[loudest..loudest + NEEDLE]))
}

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|sample| sample * sample).sum()
}

fn correlation(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// 100 ms.
const NEEDLE: usize = SAMPLE_RATE as usize / 10;
/// G.711 twice over and a lost packet's edge stay above; other speech stays below one half.
const ALIKE: f32 = 0.9;
const QUIET_RATIO: f32 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::encode_ulaw;

    #[test]
    fn a_clip_is_found_where_it_is_and_not_where_another_is() {
        let (one, other) = (noise(1, 4_000), noise(2, 4_000));
        let mut heard = vec![0i16; 3_000];
        heard.extend(other.iter().map(|code| decode_ulaw(*code)));
        heard.extend(vec![0i16; 777]);
        heard.extend(one.iter().map(|code| decode_ulaw(*code) / 2));

        assert_eq!(find(&heard, &one, 0), Some(3_000 + 4_000 + 777));
        assert_eq!(find(&heard, &other, 0), Some(3_000));
        assert_eq!(find(&heard, &other, 4_000), None);
        assert_eq!(find(&heard, &noise(3, 4_000), 0), None);
        assert_eq!(find(&[], &one, 0), None);
        assert_eq!(find(&heard, &one[..10], 0), None);
    }

    fn noise(mut seed: u32, len: usize) -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            encode_ulaw((seed >> 18) as i16 - 8_192)
        };
        (0..len).map(|_| next()).collect()
    }
}
