//! Audio units of the telephone network.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Samples in a second of telephone audio (ITU-T G.711).
pub const SAMPLE_RATE: u32 = 8000;
/// Milliseconds of audio in one frame.
pub const FRAME_MS: u32 = 20;
/// Samples, and in G.711 also octets, in one frame.
pub const FRAME_SAMPLES: usize = (SAMPLE_RATE / 1000 * FRAME_MS) as usize;

/// One 20 ms frame of µ-law audio, the form in which audio moves inside the house.
pub type Frame = [u8; FRAME_SAMPLES];

/// How audio is written on the wire of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Codec {
    /// G.711 µ-law, RTP payload type 0 (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law, RTP payload type 8 (RFC 3551 §4.5.14).
    Pcma,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
        })
    }
}

/// A key on a telephone: `0`–`9`, `*`, `#`, `A`–`D`, numbered as RFC 4733 §3.2 events 0–15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "char", into = "char")]
pub struct Digit(u8);

impl Digit {
    /// The digit of an RFC 4733 event number, or `None` for events that are not keys (above 15).
    pub const fn from_event(event: u8) -> Option<Digit> {
        if event < 16 { Some(Digit(event)) } else { None }
    }

    /// The RFC 4733 event number, 0 to 15.
    pub fn event(self) -> u8 {
        self.0
    }

    /// The digit a key is labelled with; lower-case `a`–`d` are taken too.
    pub fn from_char(label: char) -> Option<Digit> {
        let at = KEYS.iter().position(|key| *key == label.to_ascii_uppercase())?;
        u8::try_from(at).ok().map(Digit)
    }

    /// The label on the key.
    pub fn as_char(self) -> char {
        KEYS[usize::from(self.0)]
    }
}

impl TryFrom<char> for Digit {
    type Error = String;

    fn try_from(label: char) -> Result<Digit, String> {
        Digit::from_char(label).ok_or_else(|| format!("{label:?} is no telephone key; use 0-9, *, # or A-D"))
    }
}

impl From<Digit> for char {
    fn from(digit: Digit) -> char {
        digit.as_char()
    }
}

// What a caller keys in may be a PIN: a digit never shows in logs.
impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•")
    }
}

const KEYS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '#', 'A', 'B', 'C', 'D'];
