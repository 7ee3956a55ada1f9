//! Offer and answer (RFC 3264): one voice codec, digits beside it, one stream.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::crypto::{Attire, Crypto, Keyring, Profile, Protection, Unprotectable};
use super::offer::{Audio, Offer, SdpError, Stream};
use super::print;
use super::print::Formats;
use crate::model::{Codec, MediaSecurity, OpusTerms, SAMPLE_RATE, SrtpKeys};

/// Our side of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Where the other side shall send audio to.
    pub address: IpAddr,
    /// The RTP port there.
    pub port: u16,
    /// What we can speak, most wanted first.
    pub codecs: Vec<Codec>,
    /// Our silence shall be described (RFC 3389) where the other side takes that.
    pub comfort_noise: bool,
    /// Stays the same for the life of a call.
    pub session_id: u64,
    /// Grows by one with every description that differs from the one before (RFC 3264 §8).
    pub version: u64,
    /// How audio is to be protected.
    pub keyring: Keyring,
}

/// What both sides agreed on: all that the media needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The voice codec, both ways.
    pub codec: Codec,
    /// Its payload type when we send. G.711 packets that come in with its static number are fine too.
    pub payload_type: u8,
    /// What else the other side may send, by the payload type under which it comes.
    pub also: Vec<(u8, Codec)>,
    /// Payload type for digits that we send; `None` when the other side takes none.
    pub dtmf: Option<u8>,
    /// Payload type of digits that come in; `None` when none were agreed.
    pub dtmf_in: Option<u8>,
    /// The clock of digits, in hertz.
    pub dtmf_clock: u32,
    /// Payload type under which silence is described; `None` when it is sent like any sound.
    pub comfort_noise: Option<u8>,
    /// What the other side asks of Opus.
    pub opus: OpusTerms,
    /// Where the other side says it listens. An unspecified address when it is on hold in the old way.
    pub remote: SocketAddr,
    /// Milliseconds of audio per packet that the other side asked for; 20 when it did not say.
    pub ptime_ms: u32,
    /// Milliseconds of audio that the other side takes in a packet at most.
    pub ptime_max_ms: u32,
    /// What we may do.
    pub direction: Direction,
    /// With what both sides protect audio; `None`: it is plain.
    pub keys: Option<SrtpKeys>,
    /// RTCP goes over the port of audio (RFC 5761).
    pub rtcp_muxed: bool,
    /// RTCP goes there; `None`: one port above audio.
    pub rtcp: Option<SocketAddr>,
    /// RTCP has the figures of RFC 3611 §4.7 in it.
    pub rtcp_extended: bool,
}

/// Who may send audio, as seen by the side that says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// I send and do not listen.
    SendOnly,
    /// I listen and do not send.
    RecvOnly,
    /// Nobody sends.
    Inactive,
}

impl Direction {
    /// Whether whoever says this sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether whoever says this listens.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same as the other side says it (RFC 3264 §6.1).
    pub fn mirrored(self) -> Direction {
        match self {
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            same => same,
        }
    }

    pub(super) fn from_stack(direction: sipx_sdp::Direction) -> Direction {
        match (direction.sends(), direction.receives()) {
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        })
    }
}

/// Answers an offer: one voice codec, in the offerer's order among ours, with the offerer's payload types.
///
/// # Errors
///
/// [`SdpError::NoCommonCodec`] or [`SdpError::AddressFamily`], both a 488.
pub fn answer(offer: &Offer, local: &Local) -> Result<(Agreed, String), SdpError> {
    let mut chosen = Err(SdpError::NoCommonCodec);
    for (at, stream) in offer.streams.iter().enumerate() {
        let Stream::Usable(audio) = stream else { continue };
        let agreed = agree(audio, local).and_then(|agreed| Ok((agreed, protect(audio, local)?)));
        match (agreed, &chosen) {
            // Where some streams are protected and some are not, as some telephones offer, the first protected one.
            (Ok((agreed, protection @ Some(_))), _) => {
                chosen = Ok((at, audio, agreed, protection));
                break;
            }
            (Ok((agreed, None)), Err(_)) => chosen = Ok((at, audio, agreed, None)),
            (Err(error), Err(_)) => chosen = Err(error),
            (Ok(_) | Err(_), Ok(_)) => {}
        }
    }
    let (chosen, audio, agreed, protection) = chosen?;
    let agreed = Agreed { keys: protection.map(|protection| protection.keys), ..agreed };
    let line = protection.map(|protection| Crypto { tag: protection.tag, key: protection.keys.ours });
    let attire = Attire { crypto: line.into_iter().collect(), ..audio.attire.clone() };

    let mut text = print::head(local);
    // RFC 3264 §6: as many m= lines as offered, in the same order; port 0 refuses one.
    for (at, stream) in offer.streams.iter().enumerate() {
        match stream {
            Stream::Usable(_) if at == chosen => {
                let formats = Formats {
                    voice: vec![(agreed.codec, agreed.payload_type)],
                    comfort_noise: agreed.comfort_noise,
                    events: agreed.dtmf.map(|number| (number, agreed.dtmf_clock)).into_iter().collect(),
                };
                let start = text.len();
                print::audio(&mut text, local.port, &formats, agreed.direction);
                attire.put_on(&mut text, start);
            }
            Stream::Usable(audio) => {
                let format = audio.codecs.first().map_or(0, |(_, payload_type)| *payload_type);
                print::declined(&mut text, "audio", audio.attire.profile.name(), &format.to_string());
            }
            Stream::Declined { media, protocol, format } => print::declined(&mut text, media, protocol, format),
        }
    }
    Ok((agreed, text))
}

/// What we offer on a call that we place: our codecs in our order, and digits as payload type 101.
pub fn offer(local: &Local) -> String {
    let mut text = print::head(local);
    let start = text.len();
    print::audio(&mut text, local.port, &offered(local), Direction::SendRecv);
    attire(local).put_on(&mut text, start);
    text
}

/// The formats of [`offer`].
fn offered(local: &Local) -> Formats {
    let Local { codecs, comfort_noise, .. } = local;
    Formats {
        voice: codecs.iter().map(|codec| (*codec, usual_number(*codec))).collect(),
        comfort_noise: comfort_noise.then_some(COMFORT_NOISE),
        events: events_for(codecs),
    }
}

/// Digits as we offer them beside codecs: at 8000, and at 48000 for Opus (RFC 7587 §3 wants one clock in a stream).
pub(super) fn events_for(codecs: &[Codec]) -> Vec<(u8, u32)> {
    let mut events = Vec::new();
    if codecs.contains(&Codec::Opus) {
        events.push((DTMF_OFFERED_48, 48_000));
    }
    if codecs.iter().any(|codec| *codec != Codec::Opus) {
        events.push((DTMF_OFFERED, SAMPLE_RATE));
    }
    events
}

/// What an offer of ours says beside its codecs. It asks neither for a shared port nor for extended reports; both are
/// taken from those who ask.
pub(super) fn attire(local: &Local) -> Attire {
    let (profile, crypto) = (local.keyring.profile(), local.keyring.offered());
    Attire { profile, crypto, is_muxed: false, is_extended: false }
}

/// Reads the answer to what [`offer`] gave for the same `local`.
///
/// # Errors
///
/// As [`Offer::parse`], or when the answer names no codec that we offered.
pub fn accept(local: &Local, answer: &[u8]) -> Result<Agreed, SdpError> {
    let answer = Offer::parse(answer)?;
    // We offered one stream, so only the first can be the answer to it.
    let audio = answer.usable().next().ok_or(SdpError::NoAudio)?;
    let agreed = agree(audio, local)?;
    let keys = settled(local.keyring.wanted(), &local.keyring.offered(), audio)?;
    Ok(Agreed { keys, ..under_our_numbers(agreed, audio, &offered(local)) })
}

/// What comes in comes under the numbers of our offer, and what goes out goes under theirs (RFC 3264 §5.1).
pub(super) fn under_our_numbers(agreed: Agreed, theirs: &Audio, ours: &Formats) -> Agreed {
    let is_answered = |codec: &Codec| theirs.codecs.iter().any(|(answered, _)| answered == codec);
    let also = ours.voice.iter().filter(|(codec, _)| is_answered(codec)).map(|(codec, number)| (*number, *codec));
    let events = ours.events.iter().find(|(_, clock)| *clock == agreed.dtmf_clock).map(|(number, _)| *number);
    Agreed { also: also.collect(), dtmf_in: agreed.dtmf.and(events), ..agreed }
}

/// The keys in an answer to an offer of ours.
pub(super) fn settled(wanted: MediaSecurity, ours: &[Crypto], audio: &Audio) -> Result<Option<SrtpKeys>, SdpError> {
    let Attire { profile, crypto, .. } = &audio.attire;
    if ours.is_empty() {
        // Keys that nobody asked for.
        return if *profile == Profile::Protected { Err(SdpError::Profile) } else { Ok(None) };
    }
    let settled = super::crypto::settle(wanted, *profile, ours, crypto)?;
    Ok(settled.map(|protection| protection.keys))
}

fn protect(audio: &Audio, local: &Local) -> Result<Option<Protection>, SdpError> {
    Ok(local.keyring.choose(audio.attire.profile, &audio.attire.crypto)?)
}

impl From<Unprotectable> for SdpError {
    fn from(why: Unprotectable) -> SdpError {
        match why {
            Unprotectable::Missing => SdpError::Unprotected,
            Unprotectable::NoKeys => SdpError::NoKeys,
            Unprotectable::Unwanted => SdpError::Profile,
        }
    }
}

pub(super) fn agree(audio: &Audio, local: &Local) -> Result<Agreed, SdpError> {
    // An address of zeros is a hold, and no family of its own.
    if audio.address.is_ipv4() != local.address.is_ipv4() && !audio.address.is_unspecified() {
        return Err(SdpError::AddressFamily);
    }
    let (codec, payload_type) =
        *audio.codecs.iter().find(|(codec, _)| local.codecs.contains(codec)).ok_or(SdpError::NoCommonCodec)?;
    let wants_comfort = matches!(local, Local { comfort_noise: true, .. });
    // Digits in the codec's own clock; failing that, in the one that everybody knows.
    let in_clock = |clock: u32| audio.events.iter().find(|(_, other)| *other == clock);
    let events = in_clock(codec.clock()).or_else(|| in_clock(SAMPLE_RATE)).copied();
    let opus = audio.opus.iter().find(|(number, _)| *number == payload_type).map(|(_, terms)| *terms);
    Ok(Agreed {
        codec,
        payload_type,
        also: Vec::new(),
        dtmf: events.map(|(number, _)| number),
        dtmf_in: events.map(|(number, _)| number),
        dtmf_clock: events.map_or(SAMPLE_RATE, |(_, clock)| clock),
        // RFC 3389 §4 has no comfort noise for codecs with one of their own, and ours is for a clock of 8000.
        comfort_noise: audio.comfort_noise.filter(|_| wants_comfort && codec.clock() == SAMPLE_RATE),
        opus: OpusTerms { dtx: opus.is_some_and(|terms| terms.dtx) || wants_comfort, ..opus.unwrap_or_default() },
        remote: SocketAddr::new(audio.address, audio.port),
        ptime_ms: audio.ptime_ms.min(audio.ptime_max_ms),
        ptime_max_ms: audio.ptime_max_ms,
        direction: audio.direction.mirrored(),
        keys: None,
        rtcp_muxed: audio.attire.is_muxed,
        rtcp: audio.rtcp,
        rtcp_extended: audio.attire.is_extended,
    })
}

/// The payload type under which we offer a codec: the static one (RFC 3551 §6), or the one most of the field uses.
pub(super) fn usual_number(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus => 111,
        Codec::L16Narrow => 118,
        Codec::L16Wide => 119,
    }
}

/// The dynamic payload type that most of the field uses for `telephone-event`.
const DTMF_OFFERED: u8 = 101;
/// The same for digits beside Opus.
const DTMF_OFFERED_48: u8 = 110;
/// RFC 3389 §4.
const COMFORT_NOISE: u8 = 13;
