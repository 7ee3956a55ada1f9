//! What is known of a call that a telephone made.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::ear::{self, Ear, Spurt};
use crate::model::{Digit, SAMPLE_RATE};
use crate::sip::Failure;

/// Where a call stands, as seen from the telephone. Times are milliseconds since the INVITE went out or came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Moments {
    /// Now.
    pub now_ms: u64,
    /// When it rang, or began to ring.
    pub ringing_ms: Option<u64>,
    /// When it was answered.
    pub answered_ms: Option<u64>,
    /// When the first packet of audio came.
    pub first_packet_ms: Option<u64>,
    /// When the first sound came.
    pub first_sound_ms: Option<u64>,
    /// When the last sound so far was over.
    pub last_sound_ms: Option<u64>,
    /// Stretches of sound so far.
    pub spurts: usize,
    /// When the call was over.
    pub ended_ms: Option<u64>,
}

impl Moments {
    /// How long there has been no sound; zero while there is some, and before the first.
    pub fn quiet_ms(&self) -> u64 {
        self.last_sound_ms.map_or(0, |last| self.now_ms.saturating_sub(last))
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The other side hung up.
    TheyHungUp,
    /// We hung up.
    WeHungUp,
    /// The caller gave up while it rang.
    Canceled,
    /// We refused it.
    WeRefused,
    /// It came to nothing.
    Failed(Failure),
    /// What they describe is nothing we can talk over.
    NoMedia,
    /// The telephone was switched off.
    SwitchedOff,
}

impl Ending {
    /// In words for a report.
    pub fn describe(&self) -> String {
        match self {
            Ending::TheyHungUp => "the other side hung up".to_owned(),
            Ending::WeHungUp => "the test phone hung up".to_owned(),
            Ending::Canceled => "the caller gave up while it rang".to_owned(),
            Ending::WeRefused => "refused by the test phone".to_owned(),
            Ending::Failed(failure) => failure.to_string(),
            Ending::NoMedia => "no audio could be agreed".to_owned(),
            Ending::SwitchedOff => "the test phone was switched off".to_owned(),
        }
    }
}

/// Everything about a call that is over.
#[derive(Clone, Debug)]
pub struct Report {
    /// When what happened.
    pub moments: Moments,
    /// How it ended.
    pub ending: Ending,
    /// What was heard.
    pub ear: Ear,
}

impl Report {
    /// Stretches of sound.
    pub fn spurts(&self) -> &[Spurt] {
        self.ear.spurts()
    }

    /// The longest time without sound in a window of the call, whose ends count as sound.
    pub fn longest_silence_within(&self, from_ms: u64, to_ms: u64) -> u64 {
        ear::longest_silence_within(self.ear.spurts(), from_ms, to_ms)
    }

    /// Keys that the other side pressed.
    pub fn digits(&self) -> &[Digit] {
        self.ear.digits()
    }

    /// Writes what was heard, from the answer on, as a WAV file: 8 kHz, 16 bit, mono.
    ///
    /// # Errors
    /// What the system says about the file.
    pub fn write_recording(&self, path: &Path) -> io::Result<()> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let to_io = |error| match error {
            hound::Error::IoError(error) => error,
            other => io::Error::other(other),
        };
        let mut writer = hound::WavWriter::create(path, spec).map_err(to_io)?;
        for sample in self.ear.recording() {
            writer.write_sample(*sample).map_err(to_io)?;
        }
        writer.finalize().map_err(to_io)
    }
}
