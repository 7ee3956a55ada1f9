//! WAV files as clips: any rate, mono or stereo, integers or floats, become µ-law at 8 kHz.
//!
//! Loading is slow and is done when the configuration is read, never while a call waits for its first word.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::{fmt, io};

use hound::{SampleFormat, WavReader, WavSpec};
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use super::g711::{alaw_to_ulaw, encode_ulaw};
use super::player::Clip;
use crate::model::limits::CLIP_MAX;
use crate::model::{Codec, SAMPLE_RATE};

/// Reads a WAV file as a clip: PCM of 8 to 32 bits, 32-bit float, or G.711; stereo is mixed to mono.
///
/// # Errors
/// Says what about the file is not as it should be.
pub fn load_clip(path: &Path) -> Result<Clip, WavError> {
    let mut file = BufReader::new(File::open(path).map_err(|error| WavError::Unreadable(error.to_string()))?);
    if let Some(telephone) = read_g711(&mut file)? {
        return Ok(telephone.into());
    }
    file.rewind().map_err(|error| WavError::Unreadable(error.to_string()))?;
    let reader = WavReader::new(file).map_err(not_wav)?;
    let spec = reader.spec();
    check(spec.sample_rate, spec.channels, u64::from(reader.duration()))?;
    let mono = read_mono(reader)?;
    if mono.is_empty() {
        return Err(WavError::Empty);
    }
    let telephone = if spec.sample_rate == SAMPLE_RATE { mono } else { resample(&mono, spec.sample_rate)? };
    Ok(telephone.iter().map(|sample| encode_ulaw((sample * 32768.0) as i16)).collect())
}

fn check(rate: u32, channels: u16, samples: u64) -> Result<(), WavError> {
    if !(SAMPLE_RATE..=RATE_MAX).contains(&rate) {
        return Err(WavError::Rate(rate));
    }
    if !(1..=2).contains(&channels) {
        return Err(WavError::Channels(channels));
    }
    if samples > CLIP_MAX.as_secs() * u64::from(rate) {
        return Err(WavError::TooLong);
    }
    Ok(())
}

fn read_mono(reader: WavReader<BufReader<File>>) -> Result<Vec<f32>, WavError> {
    let WavSpec { channels, bits_per_sample, sample_format, .. } = reader.spec();
    let mut mixer = Mixer { channels: usize::from(channels), mono: Vec::new(), sum: 0.0, summed: 0 };
    match (sample_format, bits_per_sample) {
        (SampleFormat::Float, _) => {
            reader.into_samples::<f32>().try_for_each(|sample| sample.map(|sample| mixer.add(sample)))
        }
        (SampleFormat::Int, 1..=32) => {
            let full_scale = (1u64 << (bits_per_sample - 1)) as f32;
            let scaled = |sample: i32| sample as f32 / full_scale;
            reader.into_samples::<i32>().try_for_each(|sample| sample.map(|sample| mixer.add(scaled(sample))))
        }
        (SampleFormat::Int, _) => Err(hound::Error::Unsupported),
    }
    .map_err(not_wav)?;
    Ok(mixer.mono)
}

struct Mixer {
    channels: usize,
    mono: Vec<f32>,
    sum: f32,
    summed: usize,
}

impl Mixer {
    fn add(&mut self, sample: f32) {
        self.sum += sample;
        self.summed += 1;
        if self.summed == self.channels {
            self.mono.push(self.sum / self.channels as f32);
            (self.sum, self.summed) = (0.0, 0);
        }
    }
}

/// Reads a G.711 file at 8 kHz, which is what phone systems export and what `hound` does not read. `None` for any
/// other WAV file.
fn read_g711(file: &mut BufReader<File>) -> Result<Option<Vec<u8>>, WavError> {
    let broken = |error: io::Error| WavError::NotWav(error.to_string());
    let mut riff = [0; 12];
    file.read_exact(&mut riff).map_err(broken)?;
    if &riff[..4] != b"RIFF" || &riff[8..] != b"WAVE" {
        return Err(WavError::NotWav("no RIFF WAVE header".into()));
    }
    let mut law = None;
    // The audio is the third or fourth chunk of most files.
    for _ in 0..CHUNKS_MAX {
        let mut head = [0; 8];
        file.read_exact(&mut head).map_err(broken)?;
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        match (&head[..4], law) {
            (b"fmt ", _) if len >= 16 => {
                let mut format = [0; 16];
                file.read_exact(&mut format).map_err(broken)?;
                let word = |at: usize| u16::from_le_bytes([format[at], format[at + 1]]);
                let rate = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
                law = match word(0) {
                    6 => Some(Codec::Pcma),
                    7 => Some(Codec::Pcmu),
                    _ => return Ok(None),
                };
                if rate != SAMPLE_RATE {
                    return Err(WavError::Rate(rate));
                }
                if word(2) != 1 {
                    return Err(WavError::Channels(word(2)));
                }
                file.seek_relative(i64::from(len) + i64::from(len % 2) - 16).map_err(broken)?;
            }
            (b"data", Some(law)) => {
                check(SAMPLE_RATE, 1, len.into())?;
                let mut audio = vec![0; len as usize];
                file.read_exact(&mut audio).map_err(broken)?;
                if audio.is_empty() {
                    return Err(WavError::Empty);
                }
                if law == Codec::Pcma {
                    audio.iter_mut().for_each(|code| *code = alaw_to_ulaw(*code));
                }
                return Ok(Some(audio));
            }
            _ => file.seek_relative(i64::from(len) + i64::from(len % 2)).map_err(broken)?,
        }
    }
    Err(WavError::NotWav("too many chunks before the audio".into()))
}

fn not_wav(error: hound::Error) -> WavError {
    WavError::NotWav(error.to_string())
}

fn resample(mono: &[f32], rate: u32) -> Result<Vec<f32>, WavError> {
    let (from, to) = (rate as usize, SAMPLE_RATE as usize);
    let failed = |error: &dyn fmt::Display| WavError::Resampling(error.to_string());
    let mut resampler =
        Fft::<f32>::new_custom(from, to, from / 50, 2, 1, WindowFunction::BlackmanHarris2, FixedSync::Input)
            .map_err(|error| failed(&error))?;
    let input = SequentialSlice::new(mono, 1, mono.len()).map_err(|error| failed(&error))?;
    let output = resampler.process_all(&input, mono.len(), None).map_err(|error| failed(&error))?;
    Ok(output.take_data())
}

/// Why a file is no clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WavError {
    /// The file cannot be read.
    Unreadable(String),
    /// It is no WAV file that we can read.
    NotWav(String),
    /// Its sampling rate is not between 8 and 48 kHz, or not 8 kHz for G.711.
    Rate(u32),
    /// It has neither one nor two channels.
    Channels(u16),
    /// It is longer than [`CLIP_MAX`].
    TooLong,
    /// It holds no audio.
    Empty,
    /// Its sampling rate cannot be brought to 8 kHz.
    Resampling(String),
}

impl fmt::Display for WavError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WavError::Unreadable(why) => write!(f, "reading the WAV file: {why}"),
            WavError::NotWav(why) => write!(f, "the file is no WAV file that can be played (PCM or float): {why}"),
            WavError::Rate(rate) => write!(f, "a sampling rate of {rate} Hz; use 8000 to 48000 (G.711: 8000)"),
            WavError::Channels(channels) => write!(f, "{channels} channels; use one or two"),
            WavError::TooLong => write!(f, "longer than {} minutes", CLIP_MAX.as_secs() / 60),
            WavError::Empty => f.write_str("the WAV file holds no audio"),
            WavError::Resampling(why) => write!(f, "converting the WAV file to 8 kHz: {why}"),
        }
    }
}

impl std::error::Error for WavError {}

const RATE_MAX: u32 = 48_000;
const CHUNKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;
    use std::path::PathBuf;

    use hound::WavWriter;

    use super::super::g711::{decode_ulaw, encode_alaw};
    use super::*;

    #[test]
    fn a_tone_keeps_its_pitch_level_and_length_at_every_rate() {
        for rate in [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000] {
            for channels in [1, 2] {
                let clip = load(&pcm16(rate, channels, rate)).expect("is a clip");
                let samples: Vec<f32> = clip.iter().map(|code| f32::from(decode_ulaw(*code))).collect();

                assert!(samples.len().abs_diff(8000) <= 2, "{rate} Hz: {} samples", samples.len());
                let level = strength(&samples[1000..7000], 440.0);
                assert!((7600.0..8400.0).contains(&level), "{rate} Hz, {channels} channels: {level}");
            }
        }
    }

    #[test]
    fn what_the_telephone_cannot_carry_is_filtered_out_and_not_folded() {
        let file = wav(spec(48_000, 1, 16, SampleFormat::Int), |writer| {
            (0..48_000).for_each(|at| writer.write_sample(sine(at, 48_000, 7000.0) as i16).expect("is written"));
        });
        let clip = load(&file).expect("is a clip");
        let samples: Vec<f32> = clip.iter().map(|code| f32::from(decode_ulaw(*code))).collect();
        // 7 kHz would come back as 1 kHz.
        assert!(strength(&samples[1000..7000], 1000.0) < 40.0);
    }

    #[test]
    fn bytes_floats_and_24_bits_are_taken() {
        let byte = wav(spec(8000, 1, 8, SampleFormat::Int), |writer| {
            (0..8000).for_each(|at| writer.write_sample((sine(at, 8000, 440.0) / 256.0) as i8).expect("is written"));
        });
        let wide = wav(spec(8000, 1, 24, SampleFormat::Int), |writer| {
            (0..8000).for_each(|at| writer.write_sample((sine(at, 8000, 440.0) * 256.0) as i32).expect("is written"));
        });
        let float = wav(spec(8000, 1, 32, SampleFormat::Float), |writer| {
            (0..8000).for_each(|at| writer.write_sample(sine(at, 8000, 440.0) / 32768.0).expect("is written"));
        });
        for file in [byte, wide, float] {
            let clip = load(&file).expect("is a clip");
            let samples: Vec<f32> = clip.iter().map(|code| f32::from(decode_ulaw(*code))).collect();
            let level = strength(&samples, 440.0);
            assert!((7600.0..8400.0).contains(&level), "{level}");
        }
    }

    #[test]
    fn g711_files_are_taken_as_they_are() {
        let codes: Vec<u8> = (0..=255).collect();
        assert_eq!(load(&g711(7, 8000, 1, &codes)).expect("is a clip").to_vec(), codes);
        let alaw: Vec<u8> = [0, 1000, -30_000].map(encode_alaw).to_vec();
        let expected: Vec<u8> = alaw.iter().map(|code| alaw_to_ulaw(*code)).collect();
        assert_eq!(load(&g711(6, 8000, 1, &alaw)).expect("is a clip").to_vec(), expected);
    }

    #[test]
    fn what_is_no_clip_is_refused_with_its_reason() {
        let missing = load_clip(&PathBuf::from("no such folder/no such file.wav"));
        assert!(matches!(missing, Err(WavError::Unreadable(_))));
        assert!(matches!(load(b"ID3 this is an MP3 and not a WAV file"), Err(WavError::NotWav(_))));
        assert!(matches!(load(b"RIFF"), Err(WavError::NotWav(_))));
        assert!(matches!(load(&pcm16(8000, 1, 100)[..60]), Err(WavError::NotWav(_))));
        assert_eq!(load(&pcm16(8000, 1, 0)), Err(WavError::Empty));
        assert_eq!(load(&pcm16(4000, 1, 100)), Err(WavError::Rate(4000)));
        assert_eq!(load(&pcm16(8000, 3, 100)), Err(WavError::Channels(3)));
        assert_eq!(load(&pcm16(8000, 1, 8000 * 600 + 1)), Err(WavError::TooLong));
        assert_eq!(load(&g711(7, 16_000, 1, &[0; 10])), Err(WavError::Rate(16_000)));
        let mut lying = g711(7, 8000, 1, &[0; 10]);
        lying[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(load(&lying), Err(WavError::TooLong));
    }

    fn load(bytes: &[u8]) -> Result<Clip, WavError> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        io::Write::write_all(&mut file, bytes).expect("is written");
        load_clip(file.path())
    }

    fn spec(sample_rate: u32, channels: u16, bits_per_sample: u16, sample_format: SampleFormat) -> WavSpec {
        WavSpec { channels, sample_rate, bits_per_sample, sample_format }
    }

    fn wav(spec: WavSpec, fill: impl Fn(&mut WavWriter<&mut io::Cursor<Vec<u8>>>)) -> Vec<u8> {
        let mut bytes = io::Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut bytes, spec).expect("is a format");
        fill(&mut writer);
        writer.finalize().expect("is written");
        bytes.into_inner()
    }

    /// A tone of 440 Hz, the same on every channel.
    fn pcm16(rate: u32, channels: u16, frames: u32) -> Vec<u8> {
        wav(spec(rate, channels, 16, SampleFormat::Int), |writer| {
            for at in 0..frames {
                let sample = sine(at, rate, 440.0) as i16;
                (0..channels).for_each(|_| writer.write_sample(sample).expect("is written"));
            }
        })
    }

    fn g711(format: u16, rate: u32, channels: u16, codes: &[u8]) -> Vec<u8> {
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        file.extend(format.to_le_bytes());
        file.extend(channels.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend(rate.to_le_bytes());
        file.extend([1, 0, 8, 0]);
        file.extend(b"data");
        file.extend((codes.len() as u32).to_le_bytes());
        file.extend(codes);
        file
    }

    fn sine(at: u32, rate: u32, hertz: f32) -> f32 {
        (at as f32 / rate as f32 * hertz * TAU).sin() * 8000.0
    }

    /// The amplitude of one frequency.
    fn strength(samples: &[f32], hertz: f32) -> f32 {
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (at, sample) in samples.iter().enumerate() {
            let turn = at as f32 / 8000.0 * hertz * TAU;
            real += turn.cos() * sample;
            imaginary += turn.sin() * sample;
        }
        (real * real + imaginary * imaginary).sqrt() * 2.0 / samples.len() as f32
    }
}
