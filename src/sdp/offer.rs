//! Reading what the other side describes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sipx_sdp::rtpmap::Rtpmap;
use sipx_sdp::session::{MediaDescription, SessionDescription};

use super::Direction;
use super::crypto::{self, Attire, Profile};
use crate::model::{Codec, FRAME_MS, OpusTerms, limits};

/// A session description that somebody sent us, reduced to what a telephone can use of it.
///
/// It holds at least one audio stream that we could take part in; whether a codec fits is for
/// [`super::answer`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Every stream in the order given, because the answer must mirror them all (RFC 3264 §6).
    pub(super) streams: Vec<Stream>,
}

/// One `m=` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Audio that we could take part in.
    Usable(Audio),
    /// Anything else; answered with port 0.
    Declined {
        /// Media type as written.
        media: String,
        /// Transport profile as written.
        protocol: String,
        /// One of its formats, since an `m=` line must have one.
        format: String,
    },
}

/// An audio stream over plain RTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Audio {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Known codecs with their payload types, most wanted first.
    pub(super) codecs: Vec<(Codec, u8)>,
    /// Payload types of `telephone-event` with their clocks.
    pub(super) events: Vec<(u8, u32)>,
    /// Payload type of comfort noise at 8000 (RFC 3389).
    pub(super) comfort_noise: Option<u8>,
    /// What is asked of Opus, by payload type.
    pub(super) opus: Vec<(u8, OpusTerms)>,
    /// Direction as the other side sees it.
    pub(super) direction: Direction,
    pub(super) ptime_ms: u32,
    /// What a packet may hold at most.
    pub(super) ptime_max_ms: u32,
    /// Protection and reports.
    pub(super) attire: Attire,
    /// Where reports go, when that is said (RFC 3605).
    pub(super) rtcp: Option<SocketAddr>,
}

impl Offer {
    /// Reads a session description: CRLF or bare LF, unknown lines ignored.
    ///
    /// # Errors
    ///
    /// [`SdpError::is_malformed`] tells what is broken (a 400) from what we cannot serve (a 488).
    pub fn parse(body: &[u8]) -> Result<Offer, SdpError> {
        if body.len() > limits::SDP_LEN_MAX {
            return Err(SdpError::TooLarge);
        }
        // Names in s= and i= lines are often Latin-1; what we use is ASCII.
        let text = String::from_utf8_lossy(body);
        let session = sipx_sdp::parse(&text).map_err(|error| SdpError::Unparsable(reason(&error)))?;
        if session.media.len() > limits::SDP_STREAMS_MAX {
            return Err(SdpError::TooLarge);
        }

        let mut why_not = SdpError::NoAudio;
        let streams: Vec<Stream> = session
            .media
            .iter()
            .map(|media| match audio(&session, media) {
                Ok(audio) => Stream::Usable(audio),
                Err(error) => {
                    // The first audio line that fails says why; other media never do.
                    if why_not == SdpError::NoAudio {
                        why_not = error;
                    }
                    Stream::Declined {
                        media: media.media.clone(),
                        protocol: media.protocol.clone(),
                        format: media.formats.first().cloned().unwrap_or_else(|| "0".to_owned()),
                    }
                }
            })
            .collect();

        if streams.iter().any(|stream| matches!(stream, Stream::Usable(_))) {
            Ok(Offer { streams })
        } else {
            Err(why_not)
        }
    }

    /// Puts codecs of ours before others, in our order: an answer then follows our wish and not theirs, as RFC 3264 §6.1
    /// allows for a reason.
    pub fn prefer(&mut self, order: &[Codec]) {
        for stream in &mut self.streams {
            if let Stream::Usable(audio) = stream {
                let rank = |codec: &Codec| order.iter().position(|wanted| wanted == codec).unwrap_or(order.len());
                audio.codecs.sort_by_key(|(codec, _)| rank(codec));
            }
        }
    }

    /// The codecs we know that are offered on any usable stream, most wanted first.
    pub fn codecs(&self) -> Vec<Codec> {
        let mut found = Vec::new();
        for codec in self.usable().flat_map(|audio| &audio.codecs).map(|(codec, _)| *codec) {
            if !found.contains(&codec) {
                found.push(codec);
            }
        }
        found
    }

    pub(super) fn usable(&self) -> impl Iterator<Item = &Audio> {
        self.streams.iter().filter_map(|stream| match stream {
            Stream::Usable(audio) => Some(audio),
            Stream::Declined { .. } => None,
        })
    }
}

fn audio(session: &SessionDescription, media: &MediaDescription) -> Result<Audio, SdpError> {
    if !media.media.eq_ignore_ascii_case("audio") {
        return Err(SdpError::NoAudio);
    }
    if media.port == 0 {
        return Err(SdpError::PortZero);
    }
    let profile = Profile::of(&media.protocol).ok_or(SdpError::Profile)?;
    // RFC 8866 §5.7: a stream's own c= line wins over the session's.
    let connection = media.connection.as_ref().or(session.connection.as_ref()).ok_or(SdpError::NoAddress)?;
    let address = connection.address.ip().ok_or(SdpError::NoAddress)?;

    let mut codecs = Vec::new();
    let mut events: Vec<(u8, u32)> = Vec::new();
    let mut comfort_noise = None;
    let mut opus = Vec::new();
    for format in &media.formats {
        let Some(payload_type) = format.parse::<u8>().ok().filter(|number| *number < 128) else { continue };
        match kind(media, format, payload_type) {
            Some(Format::Voice(codec)) => {
                codecs.push((codec, payload_type));
                if codec == Codec::Opus {
                    opus.push((payload_type, opus_terms(media, format)));
                }
            }
            // The first of each clock is meant.
            Some(Format::Digits(clock)) if events.iter().all(|(_, other)| *other != clock) => {
                events.push((payload_type, clock));
            }
            Some(Format::ComfortNoise) => comfort_noise = comfort_noise.or(Some(payload_type)),
            Some(Format::Digits(_)) | None => {}
        }
    }

    // RFC 3264 §8.4: before direction attributes existed, an address of zeros put a call on hold.
    let held = address.is_unspecified();
    let stated = media.declared_direction().unwrap_or_else(|| session.direction());
    Ok(Audio {
        address,
        port: media.port,
        codecs,
        events,
        comfort_noise,
        opus,
        direction: if held { Direction::Inactive } else { Direction::from_stack(stated) },
        ptime_ms: milliseconds(media, "ptime").unwrap_or(FRAME_MS),
        ptime_max_ms: milliseconds(media, "maxptime").unwrap_or(limits::PACKET_MAX.as_millis() as u32),
        attire: attire(media, profile),
        rtcp: rtcp(media, address),
    })
}

enum Format {
    Voice(Codec),
    Digits(u32),
    ComfortNoise,
}

fn kind(media: &MediaDescription, format: &str, payload_type: u8) -> Option<Format> {
    let Some(map) = media.rtpmap(format) else {
        // RFC 3551 §6: these numbers need no rtpmap.
        return match payload_type {
            0 => Some(Format::Voice(Codec::Pcmu)),
            8 => Some(Format::Voice(Codec::Pcma)),
            9 => Some(Format::Voice(Codec::G722)),
            13 => Some(Format::ComfortNoise),
            _ => None,
        };
    };
    let map = Rtpmap::parse(map).ok()?;
    match (map.encoding().to_ascii_lowercase().as_str(), map.clock_rate(), map.channels()) {
        ("pcmu", 8000, 1) => Some(Format::Voice(Codec::Pcmu)),
        ("pcma", 8000, 1) => Some(Format::Voice(Codec::Pcma)),
        ("g722", 8000, 1) => Some(Format::Voice(Codec::G722)),
        // RFC 7587 §7: always written as two channels, whatever is sent.
        ("opus", 48_000, 2) => Some(Format::Voice(Codec::Opus)),
        ("l16", 8000, 1) => Some(Format::Voice(Codec::L16Narrow)),
        ("l16", 16_000, 1) => Some(Format::Voice(Codec::L16Wide)),
        ("telephone-event", clock @ (8000 | 16_000 | 48_000), 1) => Some(Format::Digits(clock)),
        ("cn", 8000, 1) => Some(Format::ComfortNoise),
        _ => None,
    }
}

fn milliseconds(media: &MediaDescription, attribute: &str) -> Option<u32> {
    let stated = media.attribute(attribute)?.value.as_deref()?.trim().parse::<u32>().ok();
    // RFC 3551 §4.2: a receiver should take packets of up to 200 ms; anything outside is a mistake.
    stated.filter(|ms| (10..=200).contains(ms))
}

/// RFC 7587 §6.1: what the sender of the description wants to receive.
fn opus_terms(media: &MediaDescription, format: &str) -> OpusTerms {
    let mut terms = OpusTerms::default();
    let of_format =
        |value: &str| value.split_once(' ').filter(|(of, _)| *of == format).map(|(_, rest)| rest.to_owned());
    let mut lines = media.attributes.iter().filter(|attribute| attribute.name.eq_ignore_ascii_case("fmtp"));
    let Some(line) = lines.find_map(|attribute| of_format(attribute.value.as_deref()?)) else { return terms };
    for (name, value) in line.split(';').filter_map(|pair| pair.split_once('=')) {
        let Ok(value) = value.trim().parse::<u32>() else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "useinbandfec" => terms.fec = value == 1,
            "usedtx" => terms.dtx = value == 1,
            "maxplaybackrate" if value >= 8000 => terms.max_rate = value,
            "maxaveragebitrate" if value >= 6000 => terms.max_bitrate = value,
            // The rest is about stereo, which nobody gets from us, and about what it sends.
            _ => {}
        }
    }
    terms
}

fn attire(media: &MediaDescription, profile: Profile) -> Attire {
    let values = |name: &'static str| {
        let named = media.attributes.iter().filter(move |attribute| attribute.name.eq_ignore_ascii_case(name));
        named.map(|attribute| attribute.value.as_deref().unwrap_or_default())
    };
    Attire {
        profile,
        crypto: crypto::usable(values("crypto")),
        is_muxed: values("rtcp-mux").next().is_some(),
        is_extended: values("rtcp-xr")
            .any(|value| value.split_ascii_whitespace().any(|kind| kind.starts_with("voip-metrics"))),
    }
}

/// `a=rtcp:PORT`, and an address behind it or not.
fn rtcp(media: &MediaDescription, address: IpAddr) -> Option<SocketAddr> {
    let value = media.attribute("rtcp")?.value.as_deref()?;
    let mut words = value.split_ascii_whitespace();
    let port = words.next()?.parse().ok()?;
    let stated = words.nth(2).and_then(|address| address.parse().ok());
    Some(SocketAddr::new(stated.unwrap_or(address), port))
}

fn reason(error: &sipx_sdp::SdpError) -> &'static str {
    match error {
        sipx_sdp::SdpError::Missing(_) => "a required line is missing",
        sipx_sdp::SdpError::Invalid { .. } => "a field does not parse",
        // Also whatever the parser learns to complain about later.
        _ => "a line is not of the form x=value",
    }
}

/// Why no audio can be agreed. It repeats nothing of the text, which came from a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdpError {
    /// Longer than [`limits::SDP_LEN_MAX`], or more than [`limits::SDP_STREAMS_MAX`] streams.
    TooLarge,
    /// Not a session description; says what is wrong with it.
    Unparsable(&'static str),
    /// No audio among the streams.
    NoAudio,
    /// Every audio stream is switched off with port 0.
    PortZero,
    /// Audio only over a profile that we do not speak (AVPF), or protected where we do not do that.
    Profile,
    /// Audio must be protected, and is offered without keys.
    Unprotected,
    /// Audio is offered protected, with no keys that we can use.
    NoKeys,
    /// No address to send to: no `c=` line, or a host name in it.
    NoAddress,
    /// The other side is on IPv6 and we are on IPv4, or the other way round.
    AddressFamily,
    /// No codec that we know, or none of those that we were told to use.
    NoCommonCodec,
}

impl SdpError {
    /// Whether the text itself is broken, so that a 400 is right; otherwise it is fine but not for us: a 488.
    pub fn is_malformed(&self) -> bool {
        matches!(self, SdpError::TooLarge | SdpError::Unparsable(_))
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SdpError::TooLarge => f.write_str("the session description is too large"),
            SdpError::Unparsable(why) => write!(f, "the session description cannot be read: {why}"),
            SdpError::NoAudio => f.write_str("no audio is offered"),
            SdpError::PortZero => f.write_str("the audio stream has port 0"),
            SdpError::Profile => f.write_str("audio is offered over another profile than RTP/AVP"),
            SdpError::Unprotected => f.write_str("audio must be protected: RTP/SAVP with a=crypto is needed"),
            SdpError::NoKeys => {
                f.write_str("no a=crypto line that can be used: suite, lifetime, identifier or parameters")
            }
            SdpError::NoAddress => f.write_str("the audio stream has no usable address"),
            SdpError::AddressFamily => f.write_str("the audio stream uses the other IP version"),
            SdpError::NoCommonCodec => f.write_str("no codec in common"),
        }
    }
}

impl std::error::Error for SdpError {}
