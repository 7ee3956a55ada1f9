//! Audio units of the telephone network.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Samples in a second of telephone audio (ITU-T G.711), the narrow form of the house.
pub const SAMPLE_RATE: u32 = 8000;
/// Samples in a second of the wide form.
pub const WIDE_RATE: u32 = 16_000;
/// Milliseconds of audio in one frame.
pub const FRAME_MS: u32 = 20;
/// Samples, and in G.711 also octets, in one narrow frame. One of them, ⅛ ms, is the unit in which the media room
/// counts audio of either form.
pub const FRAME_SAMPLES: usize = (SAMPLE_RATE / 1000 * FRAME_MS) as usize;
/// Samples in one wide frame.
pub const WIDE_SAMPLES: usize = (WIDE_RATE / 1000 * FRAME_MS) as usize;

/// 20 ms of µ-law at 8 kHz.
pub type Frame = [u8; FRAME_SAMPLES];
/// 20 ms of linear samples at 16 kHz.
pub type WideFrame = [i16; WIDE_SAMPLES];

/// The two forms in which audio moves inside the house.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Band {
    /// µ-law at 8 kHz, which passes untouched when both sides take it.
    #[default]
    Narrow,
    /// Linear samples at 16 kHz.
    Wide,
}

impl Band {
    /// Samples in a second.
    pub const fn rate(self) -> u32 {
        match self {
            Band::Narrow => SAMPLE_RATE,
            Band::Wide => WIDE_RATE,
        }
    }
}

/// 20 ms of audio inside the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is copied on stacks and in buffers; a box would be an allocation per frame"
)]
pub enum Sound {
    /// Telephone quality.
    Narrow(Frame),
    /// Twice the bandwidth.
    Wide(WideFrame),
}

impl Sound {
    /// Nothing to hear.
    pub const fn silence(band: Band) -> Sound {
        match band {
            Band::Narrow => Sound::Narrow([ULAW_SILENCE; FRAME_SAMPLES]),
            Band::Wide => Sound::Wide([0; WIDE_SAMPLES]),
        }
    }

    /// Its form.
    pub const fn band(&self) -> Band {
        match self {
            Sound::Narrow(_) => Band::Narrow,
            Sound::Wide(_) => Band::Wide,
        }
    }
}

/// Silence in µ-law.
pub const ULAW_SILENCE: u8 = 0xFF;

/// How audio is written on the wire of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Codec {
    /// G.711 µ-law, RTP payload type 0 (RFC 3551 §4.5.14).
    Pcmu,
    /// G.711 A-law, RTP payload type 8 (RFC 3551 §4.5.14).
    Pcma,
    /// G.722 at 64 kbit/s, RTP payload type 9: wide audio under a clock of 8000 (RFC 3551 §4.5.2).
    G722,
    /// Opus, heard and spoken in mono; its clock is 48000 whatever it carries (RFC 7587).
    Opus,
    /// Linear samples at 8 kHz, high octet first (RFC 3551 §4.5.11).
    #[serde(rename = "L16/8000")]
    L16Narrow,
    /// Linear samples at 16 kHz, high octet first (RFC 3551 §4.5.11).
    #[serde(rename = "L16/16000")]
    L16Wide,
}

impl Codec {
    /// All of them, in the order in which they are listed where nobody states one.
    pub const ALL: [Codec; 6] = [Codec::Pcmu, Codec::Pcma, Codec::G722, Codec::Opus, Codec::L16Wide, Codec::L16Narrow];

    /// The RTP clock in hertz.
    pub const fn clock(self) -> u32 {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::L16Narrow => 8000,
            Codec::L16Wide => 16_000,
            Codec::Opus => 48_000,
        }
    }

    /// The form of the house that carries it.
    pub const fn band(self) -> Band {
        match self {
            Codec::Pcmu | Codec::Pcma | Codec::L16Narrow => Band::Narrow,
            Codec::G722 | Codec::Opus | Codec::L16Wide => Band::Wide,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Pcmu => "PCMU",
            Codec::Pcma => "PCMA",
            Codec::G722 => "G722",
            Codec::Opus => "OPUS",
            Codec::L16Narrow => "L16/8000",
            Codec::L16Wide => "L16/16000",
        })
    }
}

/// What a party asks of the Opus that it gets (RFC 7587 §6.1). It always gets mono.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusTerms {
    /// It makes use of the copy of a lost packet in the one after it: `useinbandfec`.
    pub fec: bool,
    /// It wants no packets during silence: `usedtx`.
    pub dtx: bool,
    /// It plays nothing above this sampling rate, in hertz: `maxplaybackrate`.
    pub max_rate: u32,
    /// Bits in a second it takes on average: `maxaveragebitrate`.
    pub max_bitrate: u32,
}

impl Default for OpusTerms {
    fn default() -> OpusTerms {
        OpusTerms { fec: false, dtx: false, max_rate: 48_000, max_bitrate: 510_000 }
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
