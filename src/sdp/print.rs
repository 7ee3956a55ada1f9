//! Writing our own side down. Line order is that of RFC 8866 §5.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::negotiate::{Direction, Local};
use crate::model::{Codec, FRAME_MS, WIDE_RATE};

/// The lines before the first `m=`.
pub(super) fn head(local: &Local) -> String {
    let family = family(local.address);
    let Local { address, session_id, version, .. } = local;
    format!("v=0\r\no=- {session_id} {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n")
}

/// What an audio stream of ours names.
pub(super) struct Formats {
    /// Codecs with their payload types, most wanted first.
    pub(super) voice: Vec<(Codec, u8)>,
    /// Payload types of comfort noise.
    pub(super) comfort_noise: Option<u8>,
    /// Payload types of digits, with their clocks.
    pub(super) events: Vec<(u8, u32)>,
}

/// One audio stream: voice formats, then comfort noise and digits.
pub(super) fn audio(out: &mut String, port: u16, formats: &Formats, direction: Direction) {
    let Formats { voice, comfort_noise, events } = formats;
    let _ = write!(out, "m=audio {port} RTP/AVP");
    let numbers =
        voice.iter().map(|(_, number)| number).chain(comfort_noise).chain(events.iter().map(|(number, _)| number));
    for payload_type in numbers {
        let _ = write!(out, " {payload_type}");
    }
    out.push_str("\r\n");
    for (codec, payload_type) in voice {
        let _ = write!(out, "a=rtpmap:{payload_type} {}\r\n", encoding(*codec));
        if *codec == Codec::Opus {
            // RFC 7587 §6.1: we play nothing above 16 kHz and nothing but mono, and can use the copies of lost packets.
            let _ = write!(
                out,
                "a=fmtp:{payload_type} maxplaybackrate={WIDE_RATE};sprop-maxcapturerate={WIDE_RATE};stereo=0;\
                 sprop-stereo=0;useinbandfec=1\r\n"
            );
        }
    }
    if let Some(payload_type) = comfort_noise {
        let _ = write!(out, "a=rtpmap:{payload_type} CN/8000\r\n");
    }
    for (payload_type, clock) in events {
        // RFC 4733 §2.4.1: events 0 to 15 are the keys of a telephone.
        let _ = write!(out, "a=rtpmap:{payload_type} telephone-event/{clock}\r\na=fmtp:{payload_type} 0-15\r\n");
    }
    let _ = write!(out, "a=ptime:{FRAME_MS}\r\na={direction}\r\n");
}

/// A stream that we do not take part in.
pub(super) fn declined(out: &mut String, media: &str, protocol: &str, format: &str) {
    let _ = write!(out, "m={media} 0 {protocol} {format}\r\n");
}

/// Name, clock and channels, as `a=rtpmap` wants them.
fn encoding(codec: Codec) -> &'static str {
    match codec {
        Codec::Pcmu => "PCMU/8000",
        Codec::Pcma => "PCMA/8000",
        Codec::G722 => "G722/8000",
        Codec::Opus => "opus/48000/2",
        Codec::L16Narrow => "L16/8000",
        Codec::L16Wide => "L16/16000",
    }
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}
