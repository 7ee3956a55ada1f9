//! People to listen to: sentences by espeak-ng in several voices, at the rate of the telephone.

use std::process::Command;
use std::sync::LazyLock;

use ringback::media::{decode_ulaw, encode_ulaw};

/// Men and women in four languages; a variant changes pitch, breath and tempo.
pub(crate) const VOICES: [&str; 10] =
    ["en-us", "en-gb+f3", "en-us+m3", "en-gb+m7", "en-us+f5", "de", "de+f2", "fr+f4", "es+m1", "it+f1"];

/// Sentences without a pause in them, of some two to three seconds.
pub(crate) const SENTENCES: [&str; 10] = [
    "I would like to know where my order is and when it will be delivered to me",
    "can you tell me the opening hours of your shop next Saturday please",
    "no that is not what I meant I want to speak about the other contract",
    "my number is four seven one one and my name is Miller with a double L",
    "wait a moment I have to look for the letter that you sent me in March",
    "the washing machine makes a terrible noise and there is water on the floor",
    "hold on I think you have got the wrong address for the second invoice",
    "yesterday somebody called me about the insurance of our new delivery van",
    "please do not hang up I am almost done with filling in the whole form",
    "actually I wanted to change my appointment from Monday to Thursday afternoon",
];

/// Every voice's sentences, 8 kHz, as loud as a telephone: about −20 dBFS while it speaks.
pub(crate) static SPEECH: LazyLock<Vec<Vec<Vec<i16>>>> = LazyLock::new(|| {
    VOICES.iter().map(|voice| SENTENCES.iter().map(|text| speak(voice, 165, text)).collect()).collect()
});

/// A sentence by espeak-ng, through µ-law, without silence around it.
pub(crate) fn speak(voice: &str, words_per_minute: u32, text: &str) -> Vec<i16> {
    let speed = words_per_minute.to_string();
    let spoken = Command::new("espeak-ng")
        .args(["-v", voice, "-s", &speed, "--stdout", text])
        .output()
        .expect("espeak-ng is installed: see ./test");
    assert!(spoken.status.success(), "espeak-ng -v {voice}");
    let wav = spoken.stdout;
    let rate = u32::from_le_bytes(wav[24..28].try_into().expect("a header"));
    let samples: Vec<f32> =
        wav[44..].as_chunks::<2>().0.iter().map(|pair| f32::from(i16::from_le_bytes(*pair))).collect();
    let mut narrow = to_8_khz(&samples, rate as f32);
    loud(&mut narrow, -20.0);
    let start = narrow.iter().position(|sample| sample.abs() > 184.0).unwrap_or(0);
    let end = narrow.iter().rposition(|sample| sample.abs() > 184.0).map_or(narrow.len(), |at| at + 1);
    narrow[start..end].iter().map(|sample| decode_ulaw(encode_ulaw(*sample as i16))).collect()
}

/// A windowed sinc between 200 and 3400 Hz, where a telephone hears.
fn to_8_khz(samples: &[f32], rate: f32) -> Vec<f32> {
    const SIDE: isize = 40;
    let step = rate / 8000.0;
    let cut = 3400.0 / rate * 2.0;
    let len = (samples.len() as f32 / step) as usize;
    let narrow: Vec<f32> = (0..len)
        .map(|at| {
            let middle = at as f32 * step;
            let first = middle.floor() as isize - SIDE;
            (first..=first + 2 * SIDE)
                .filter_map(|n| {
                    let sample = samples.get(usize::try_from(n).ok()?)?;
                    let x = n as f32 - middle;
                    let sinc = if x.abs() < 1e-6 {
                        cut
                    } else {
                        (std::f32::consts::PI * cut * x).sin() / (std::f32::consts::PI * x)
                    };
                    let window = 0.5 + 0.5 * (std::f32::consts::PI * x / (SIDE as f32 + 1.0)).cos();
                    Some(sample * sinc * window)
                })
                .sum()
        })
        .collect();
    // Below 200 Hz a telephone hears little: a first-order high pass twice.
    let mut filtered = narrow;
    for _ in 0..2 {
        let (mut before, mut out) = (0.0, 0.0);
        for sample in &mut filtered {
            out = 0.86 * (out + *sample - before);
            before = *sample;
            *sample = out;
        }
    }
    filtered
}

/// Brings the louder half of it to a mean level, in dBFS.
fn loud(samples: &mut [f32], db: f32) {
    let mut powers: Vec<f32> =
        samples.chunks(160).map(|frame| frame.iter().map(|s| s * s).sum::<f32>() / frame.len() as f32).collect();
    powers.sort_by(|a, b| b.total_cmp(a));
    let half = &powers[..powers.len().div_ceil(2)];
    let rms = (half.iter().sum::<f32>() / half.len() as f32).sqrt().max(1.0);
    let factor = 32768.0 * 10f32.powf(db / 20.0) / rms;
    samples.iter_mut().for_each(|sample| *sample = (*sample * factor).clamp(-32000.0, 32000.0));
}

/// A line's noise, at this level in dBFS; the same for the same seed.
pub(crate) fn noise(seed: u32, samples: usize, db: f32) -> Vec<i16> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let peak = 32768.0 * 10f32.powf(db / 20.0) * 3f32.sqrt();
    (0..samples)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            ((state as f32 / u32::MAX as f32 * 2.0 - 1.0) * peak) as i16
        })
        .collect()
}
