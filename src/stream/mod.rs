//! Callers that come by WebSocket: what is said on it, and what that means.
//!
//! Two languages: the media streams that carriers open towards a bot ([`Carrier`]), and our own ([`Plain`], version 1,
//! whose messages stand in `stream.schema.json`). Both become the same few [`Said`]. Pure: whoever has the socket hands
//! messages in and sends what comes out. Everything is bounded before it is read, and what is not understood is counted and
//! passed over. Knows nothing of calls; no listener speaks it yet.
//! Start at [`Said`].

mod carrier;
mod plain;

use std::fmt;

use crate::model::{Digit, Pii, limits};

pub use carrier::Carrier;
pub use plain::{Control, Plain, Report, schema};

/// What a caller's socket says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Somebody calls. Comes once, and before anything else.
    Begins(Comer),
    /// Audio, in the form that the caller announced.
    Audio(Audio),
    /// A key was pressed.
    Key(Pii<Digit>),
    /// What was sent before this mark has been heard, or was dropped.
    Heard(String),
    /// The call is over for the other side.
    Ends,
    /// It was not understood, and nothing came of it.
    Ignored,
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comer {
    /// The other side's name of the call.
    pub call: Pii<String>,
    /// Who calls; empty when nobody said.
    pub from: Pii<String>,
    /// What was dialled; empty when nobody said.
    pub to: Pii<String>,
    /// What the other side wants known, by name.
    pub variables: Vec<(String, Pii<String>)>,
    /// How audio is written both ways.
    pub form: AudioForm,
}

/// How audio is written on a caller's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AudioForm {
    /// µ-law at 8 kHz.
    #[default]
    Ulaw,
    /// Linear samples of 16 bits at 8 kHz, low octet first.
    Pcm8000,
    /// The same at 16 kHz.
    Pcm16000,
}

/// Audio of any length up to [`limits::STREAM_AUDIO_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    /// µ-law at 8 kHz.
    Ulaw(Vec<u8>),
    /// Linear samples, at the rate of the form.
    Linear(Vec<i16>),
}

impl AudioForm {
    /// Reads audio. `None` when it is longer than a second, or half a sample is left.
    pub(crate) fn read(self, octets: &[u8]) -> Option<Audio> {
        let per_second = match self {
            AudioForm::Ulaw => 8000,
            AudioForm::Pcm8000 => 16_000,
            AudioForm::Pcm16000 => 32_000,
        };
        let most = per_second * limits::STREAM_AUDIO_MAX.as_millis() as usize / 1000;
        match self {
            _ if octets.len() > most => None,
            AudioForm::Ulaw => Some(Audio::Ulaw(octets.to_vec())),
            AudioForm::Pcm8000 | AudioForm::Pcm16000 => {
                let (samples, rest) = octets.as_chunks::<2>();
                let linear = || samples.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
                rest.is_empty().then(|| Audio::Linear(linear()))
            }
        }
    }
}

/// Why a socket is closed from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A message longer than [`limits::STREAM_MESSAGE_MAX`].
    TooLong,
    /// More than [`limits::STREAM_IGNORED_MAX`] messages in which there was no sense.
    Nonsense,
    /// The first message was not the beginning of a call.
    NoBeginning,
    /// It wants a version or a form that we do not have.
    Unsupported,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::TooLong => "a message is too long",
            Fault::Nonsense => "too many messages are not understood",
            Fault::NoBeginning => "the first message does not begin a call",
            Fault::Unsupported => "this version or this form of audio is not spoken here",
        })
    }
}

impl std::error::Error for Fault {}

/// A text of the other side, cut to what we keep.
fn kept(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(limits::STREAM_TEXT_MAX).collect()
}

/// Variables of the other side: names as our own may be, and no more than we keep.
fn variables<'a>(all: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<(String, Pii<String>)> {
    let is_name = |name: &str| {
        let letters = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_' || octet == b'-');
        letters && !name.is_empty() && name.len() <= limits::VAR_NAME_LEN_MAX
    };
    let named = all.filter(|(name, _)| is_name(name)).take(limits::STREAM_VARIABLES_MAX);
    named.map(|(name, value)| (name.clone(), Pii::new(kept(value)))).collect()
}

/// Counts what is not understood.
#[derive(Debug, Default)]
struct Patience(u32);

impl Patience {
    fn ignore(&mut self) -> Result<Said, Fault> {
        self.0 += 1;
        if self.0 > limits::STREAM_IGNORED_MAX { Err(Fault::Nonsense) } else { Ok(Said::Ignored) }
    }
}

#[cfg(test)]
mod tests;
