//! WAV files as clips: any rate, mono or stereo, integers or floats, become µ-law at 8 kHz.
//!
//! Loading is slow and is done when the configuration is read, never while a call waits for its first word.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use hound::{SampleFormat, WavReader};
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use super::g711::encode_ulaw;
use super::player::Clip;
use crate::model::SAMPLE_RATE;
use crate::model::limits::CLIP_MAX;

/// Reads a WAV file as a clip. PCM of 8 to 32 bits or 32-bit float; stereo is mixed to mono.
///
/// # Errors
/// Says what about the file is not as it should be.
pub fn load_clip(path: &Path) -> Result<Clip, WavError> {
    let reader = WavReader::open(path).map_err(|error| match error {
        hound::Error::IoError(error) => WavError::Unreadable(error.to_string()),
        other => WavError::NotWav(other.to_string()),
    })?;
    let spec = reader.spec();
    if !(4_000..=192_000).contains(&spec.sample_rate) {
        return Err(WavError::Rate(spec.sample_rate));
    }
    if !(1..=2).contains(&spec.channels) {
        return Err(WavError::Channels(spec.channels));
    }
    if u64::from(reader.duration()) > CLIP_MAX.as_secs() * u64::from(spec.sample_rate) {
        return Err(WavError::TooLong);
    }
    let mono = read_mono(reader)?;
    if mono.is_empty() {
        return Err(WavError::Empty);
    }
    let telephone = if spec.sample_rate == SAMPLE_RATE { mono } else { resample(&mono, spec.sample_rate)? };
    Ok(telephone.iter().map(|sample| encode_ulaw((sample * 32768.0) as i16)).collect::<Arc<[u8]>>())
}

fn read_mono(reader: WavReader<std::io::BufReader<std::fs::File>>) -> Result<Vec<f32>, WavError> {
    let spec = reader.spec();
    let broken = |error: hound::Error| WavError::NotWav(error.to_string());
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.into_samples::<f32>().collect::<Result<_, _>>().map_err(broken)?,
        SampleFormat::Int => {
            let full_scale = (1u64 << (spec.bits_per_sample - 1)) as f32;
            let scaled = reader.into_samples::<i32>().map(|sample| sample.map(|sample| sample as f32 / full_scale));
            scaled.collect::<Result<_, _>>().map_err(broken)?
        }
    };
    let channels = usize::from(spec.channels);
    Ok(samples.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect())
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
    /// Its sampling rate is not between 4 and 192 kHz.
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
            WavError::Rate(rate) => write!(f, "a sampling rate of {rate} Hz; use 8000 to 48000"),
            WavError::Channels(channels) => write!(f, "{channels} channels; use one or two"),
            WavError::TooLong => write!(f, "longer than {} minutes", CLIP_MAX.as_secs() / 60),
            WavError::Empty => f.write_str("the WAV file holds no audio"),
            WavError::Resampling(why) => write!(f, "converting the WAV file to 8 kHz: {why}"),
        }
    }
}

impl std::error::Error for WavError {}
