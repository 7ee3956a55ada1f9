//! What a browser offers, and what we answer (RFC 8866, RFC 8829): one audio section over DTLS-SRTP, all else refused.
//!
//! Pure. `sdp` knows telephones and their plain RTP; a browser's description shares the grammar with those and hardly
//! anything else, so it is read here. What can be read and not be used is told apart from what cannot be read, because
//! the one is a matter of the caller and the other of its program.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::ice::{Credentials, Mode};
use crate::model::Codec;
use crate::model::limits::{SDP_LEN_MAX, SDP_STREAMS_MAX, WEBRTC_CANDIDATES_MAX};

/// A browser's description.
#[derive(Clone)]
pub struct Offer {
    sections: Vec<Section>,
    /// Which of them is the audio that we take.
    audio: usize,
    pub(super) credentials: Credentials,
    /// SHA-256 of certificates, one of which the browser must show.
    pub(super) fingerprints: Vec<[u8; 32]>,
    /// The browser waits for our handshake instead of beginning it.
    pub(super) waits: bool,
    pub(super) candidates: Vec<SocketAddr>,
}

/// One `m=` and what stands below it.
#[derive(Clone, Debug, Default)]
struct Section {
    /// `audio`, `video`, `application`.
    kind: String,
    protocol: String,
    /// The formats as offered.
    formats: Vec<String>,
    is_refused: bool,
    mid: Option<String>,
    is_muxed: bool,
    sends: bool,
    listens: bool,
    maps: Vec<Map>,
    ufrag: Option<String>,
    password: Option<String>,
    fingerprints: Vec<[u8; 32]>,
    has_fingerprint: bool,
    setup: Option<String>,
    candidates: Vec<SocketAddr>,
}

/// What a payload type stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Map {
    payload_type: u8,
    name: String,
    clock: u32,
    channels: u8,
}

/// What both sides will send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The voice codec, both ways.
    pub codec: Codec,
    /// Its payload type, both ways.
    pub payload_type: u8,
    /// The payload type of telephone-event, both ways.
    pub dtmf: Option<u8>,
    /// The browser plays what we send.
    pub listens: bool,
}

/// Why an offer is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferError {
    /// It is not a description, or not one of WebRTC.
    Malformed(&'static str),
    /// There is nothing in it that we take.
    Unusable(&'static str),
}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OfferError::Malformed(what) | OfferError::Unusable(what) => f.write_str(what),
        }
    }
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// What is wrong with it, in words for whoever wrote the program that sent it.
    pub fn parse(text: &[u8]) -> Result<Offer, OfferError> {
        use OfferError::{Malformed, Unusable};
        if text.len() > SDP_LEN_MAX {
            return Err(Malformed("the description is too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| Malformed("the description is not text"))?;
        if !text.starts_with("v=0") {
            return Err(Malformed("the description does not begin with v=0"));
        }
        let mut session = Section { sends: true, listens: true, ..Section::default() };
        let mut sections: Vec<Section> = Vec::new();
        for line in text.lines() {
            match line.split_once('=') {
                Some(("m", media)) if sections.len() < SDP_STREAMS_MAX => {
                    let (sends, listens) = (session.sends, session.listens);
                    sections.push(Section { sends, listens, ..media_line(media)? });
                }
                Some(("m", _)) => return Err(Malformed("there are too many sections")),
                Some(("a", attribute)) => sections.last_mut().unwrap_or(&mut session).read(attribute)?,
                // Names, times and bandwidths say nothing to us.
                Some(_) => {}
                None if line.trim().is_empty() => {}
                None => return Err(Malformed("a line has no `=`")),
            }
        }
        let audio = sections
            .iter()
            .position(|section| section.kind == "audio" && !section.is_refused)
            .ok_or(Unusable("no audio is offered"))?;
        let section = &sections[audio];
        if !section.protocol.ends_with("TLS/RTP/SAVPF") {
            return Err(Unusable("the audio is not offered over DTLS-SRTP (UDP/TLS/RTP/SAVPF)"));
        }
        if !section.is_muxed {
            return Err(Unusable("the audio is offered without rtcp-mux"));
        }
        let either = |own: &Option<String>, all: &Option<String>| own.clone().or_else(|| all.clone());
        let ufrag = either(&section.ufrag, &session.ufrag).ok_or(Malformed("there is no ice-ufrag"))?;
        let password = either(&section.password, &session.password).ok_or(Malformed("there is no ice-pwd"))?;
        let fingerprints = if section.has_fingerprint { &section.fingerprints } else { &session.fingerprints };
        if fingerprints.is_empty() {
            return Err(Malformed("there is no fingerprint with sha-256"));
        }
        let waits = either(&section.setup, &session.setup).is_some_and(|setup| setup == "passive");
        let (fingerprints, candidates) = (fingerprints.clone(), section.candidates.clone());
        let credentials = Credentials { ufrag, password };
        Ok(Offer { credentials, fingerprints, waits, candidates, audio, sections })
    }

    /// The browser's name in ICE.
    pub fn ufrag(&self) -> &str {
        &self.credentials.ufrag
    }

    /// Chooses the codec: the first of the offer that we take, or, when `is_ours_first`, the first of ours that is offered.
    ///
    /// # Errors
    /// [`OfferError::Unusable`] without any in common.
    pub fn settle(&self, codecs: &[Codec], is_ours_first: bool) -> Result<Settled, OfferError> {
        let section = &self.sections[self.audio];
        let is = |map: &&Map, codec: Codec| {
            let (name, clock, channels) = encoding(codec);
            map.name.eq_ignore_ascii_case(name) && map.clock == clock && map.channels == channels
        };
        let chosen = if is_ours_first {
            codecs.iter().find_map(|codec| Some((*codec, section.maps.iter().find(|map| is(map, *codec))?)))
        } else {
            section.maps.iter().find_map(|map| Some((*codecs.iter().find(|codec| is(&map, **codec))?, map)))
        };
        let (codec, map) = chosen.ok_or(OfferError::Unusable("no codec in common"))?;
        // RFC 4733 §2.1: events keep the clock of the audio that they stand among.
        let dtmf = section.maps.iter().find(|other| other.name == "telephone-event" && other.clock == map.clock);
        let (payload_type, listens) = (map.payload_type, section.listens);
        Ok(Settled { codec, payload_type, dtmf: dtmf.map(|map| map.payload_type), listens })
    }

    /// The answer to it.
    pub(super) fn answer(&self, settled: &Settled, ours: &Ours<'_>) -> String {
        let family = |ip: IpAddr| if ip.is_ipv4() { "IP4" } else { "IP6" };
        let mut text = format!("v=0\r\no=- {} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n", ours.session);
        if let Some(mid) = &self.sections[self.audio].mid {
            text += &format!("a=group:BUNDLE {mid}\r\n");
        }
        if ours.mode == Mode::Lite {
            text += "a=ice-lite\r\n";
        }
        for (at, section) in self.sections.iter().enumerate() {
            if at != self.audio {
                // RFC 3264 §6: as many sections as offered, in the same order; port 0 refuses one.
                let formats = section.formats.join(" ");
                text += &format!("m={} 0 {} {formats}\r\nc=IN IP4 0.0.0.0\r\n", section.kind, section.protocol);
                text += &section.mid.as_ref().map(|mid| format!("a=mid:{mid}\r\n")).unwrap_or_default();
                text += "a=inactive\r\n";
                continue;
            }
            let default = ours.candidates.first();
            let (port, ip) = default.map_or((9, IpAddr::from([0, 0, 0, 0])), |addr| (addr.port(), addr.ip()));
            let formats: Vec<String> =
                [Some(settled.payload_type), settled.dtmf].iter().flatten().map(u8::to_string).collect();
            text += &format!("m=audio {port} {} {}\r\n", section.protocol, formats.join(" "));
            text += &format!("c=IN {} {ip}\r\n", family(ip));
            text += &section.mid.as_ref().map(|mid| format!("a=mid:{mid}\r\n")).unwrap_or_default();
            text += match (section.sends, settled.listens) {
                (true, true) => "a=sendrecv\r\n",
                (true, false) => "a=recvonly\r\n",
                (false, true) => "a=sendonly\r\n",
                (false, false) => "a=inactive\r\n",
            };
            text += &ours.ice();
            text += &format!("a=fingerprint:sha-256 {}\r\n", hex(ours.fingerprint));
            text += if self.waits { "a=setup:active\r\n" } else { "a=setup:passive\r\n" };
            text += "a=rtcp-mux\r\n";
            let (name, clock, channels) = encoding(settled.codec);
            let channels = if channels > 1 { format!("/{channels}") } else { String::new() };
            text += &format!("a=rtpmap:{} {name}/{clock}{channels}\r\n", settled.payload_type);
            if name == "opus" {
                // RFC 7587 §6.1: we take one channel, and what the sender says twice in case of loss.
                text += &format!("a=fmtp:{} minptime=10;useinbandfec=1;stereo=0\r\n", settled.payload_type);
            }
            if let Some(dtmf) = settled.dtmf {
                text += &format!("a=rtpmap:{dtmf} telephone-event/{clock}\r\na=fmtp:{dtmf} 0-15\r\n");
            }
            text += "a=ptime:20\r\na=msid:ringback audio\r\n";
            for (n, addr) in ours.candidates.iter().enumerate() {
                text += &candidate(n, *addr);
            }
            if let Some((reflexive, base)) = ours.reflexive {
                let (ip, port) = (reflexive.ip(), reflexive.port());
                text += &format!(
                    "a=candidate:9 1 udp 1694498815 {ip} {port} typ srflx raddr {} rport {}\r\n",
                    base.ip(),
                    base.port()
                );
            }
            text += "a=end-of-candidates\r\n";
        }
        text
    }
}

/// Our side of an answer.
pub(super) struct Ours<'a> {
    pub(super) session: u64,
    pub(super) mode: Mode,
    pub(super) credentials: &'a Credentials,
    /// Of our certificate.
    pub(super) fingerprint: &'a [u8; 32],
    /// Where we are reached, most wanted first.
    pub(super) candidates: &'a [SocketAddr],
    /// Where a STUN server saw us, and from which of our addresses.
    pub(super) reflexive: Option<(SocketAddr, SocketAddr)>,
}

impl Ours<'_> {
    fn ice(&self) -> String {
        format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", self.credentials.ufrag, self.credentials.password)
    }
}

impl Section {
    fn read(&mut self, attribute: &str) -> Result<(), OfferError> {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let value = value.trim();
        match name {
            "mid" => self.mid = Some(token(value).ok_or(OfferError::Malformed("a mid is no word"))?),
            "rtcp-mux" => self.is_muxed = true,
            "sendrecv" => (self.sends, self.listens) = (true, true),
            "sendonly" => (self.sends, self.listens) = (true, false),
            "recvonly" => (self.sends, self.listens) = (false, true),
            "inactive" => (self.sends, self.listens) = (false, false),
            "ice-ufrag" => self.ufrag = Some(ice_word(value, 4)?),
            "ice-pwd" => self.password = Some(ice_word(value, 22)?),
            "setup" => self.setup = Some(value.to_owned()),
            "fingerprint" => {
                self.has_fingerprint = true;
                let hash = value.split_once(' ').filter(|(hash, _)| hash.eq_ignore_ascii_case("sha-256"));
                if let Some((_, value)) = hash.filter(|_| self.fingerprints.len() < FINGERPRINTS_MAX) {
                    let read = unhex(value.trim()).ok_or(OfferError::Malformed("a fingerprint cannot be read"))?;
                    self.fingerprints.push(read);
                }
            }
            "rtpmap" if self.maps.len() < MAPS_MAX => self.maps.extend(Map::read(value)),
            "candidate" if self.candidates.len() < WEBRTC_CANDIDATES_MAX => self.candidates.extend(address(value)),
            // Header extensions, feedback and sources are not answered, and what is not answered is not sent.
            _ => {}
        }
        Ok(())
    }
}

impl Map {
    fn read(value: &str) -> Option<Map> {
        let (payload_type, encoding) = value.split_once(' ')?;
        let payload_type = payload_type.parse().ok().filter(|number| *number < 128)?;
        let mut parts = encoding.trim().split('/');
        let name = parts.next()?.to_owned();
        let clock = parts.next()?.parse().ok()?;
        let channels = parts.next().map_or(Some(1), |channels| channels.parse().ok())?;
        Some(Map { payload_type, name, clock, channels })
    }
}

/// Reads `audio 9 UDP/TLS/RTP/SAVPF 111 0 8`.
fn media_line(line: &str) -> Result<Section, OfferError> {
    let wrong = OfferError::Malformed("an m= line cannot be read");
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().and_then(token).ok_or(wrong)?;
    let port: u16 = words.next().and_then(|port| port.parse().ok()).ok_or(wrong)?;
    let protocol = words.next().and_then(|protocol| {
        let is_plain = protocol.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'/' || octet == b'-');
        is_plain.then(|| protocol.to_owned())
    });
    let formats: Option<Vec<String>> = words.take(MAPS_MAX).map(token).collect();
    let formats = formats.filter(|formats| !formats.is_empty()).ok_or(wrong)?;
    let mut section = Section { kind, protocol: protocol.ok_or(wrong)?, formats, ..Section::default() };
    // A bundled section has port 0 and this attribute (RFC 9143 §7.2.1), which only comes later; the audio of a browser
    // is the first and never bundled so.
    section.is_refused = port == 0;
    // RFC 3551 §6: the static types need no map, though browsers write them.
    for (payload_type, name) in [(0, "PCMU"), (8, "PCMA")] {
        if section.formats.iter().any(|format| format.parse() == Ok(payload_type)) {
            section.maps.push(Map { payload_type, name: name.to_owned(), clock: 8_000, channels: 1 });
        }
    }
    section.maps.sort_by_key(|map| section.formats.iter().position(|format| *format == map.payload_type.to_string()));
    Ok(section)
}

/// What a trickle brings (RFC 8840).
#[derive(Clone, Default)]
pub struct Fragment {
    pub(super) ufrag: Option<String>,
    pub(super) password: Option<String>,
    pub(super) candidates: Vec<SocketAddr>,
}

impl Fragment {
    /// Reads a body of `application/trickle-ice-sdpfrag`.
    ///
    /// # Errors
    /// [`OfferError::Malformed`].
    pub fn parse(text: &[u8]) -> Result<Fragment, OfferError> {
        if text.len() > SDP_LEN_MAX {
            return Err(OfferError::Malformed("the fragment is too long"));
        }
        let text = std::str::from_utf8(text).map_err(|_| OfferError::Malformed("the fragment is not text"))?;
        let mut section = Section::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match line.split_once('=') {
                Some(("a", attribute)) => section.read(attribute)?,
                Some(_) => {}
                None => return Err(OfferError::Malformed("a line has no `=`")),
            }
        }
        Ok(Fragment { ufrag: section.ufrag, password: section.password, candidates: section.candidates })
    }

    /// The browser's name in ICE, if it is told.
    pub fn ufrag(&self) -> Option<&str> {
        self.ufrag.as_deref()
    }

    /// The browser starts ICE anew, if this is not the name that it had.
    pub(super) fn restarts(&self, known: &str) -> Option<Credentials> {
        let (ufrag, password) = (self.ufrag.clone()?, self.password.clone()?);
        (ufrag != known).then_some(Credentials { ufrag, password })
    }
}

/// Our answer to an ICE restart, as a fragment.
pub(super) fn restarted(ours: &Ours<'_>) -> String {
    let lite = if ours.mode == Mode::Lite { "a=ice-lite\r\n" } else { "" };
    let candidates: String = ours.candidates.iter().enumerate().map(|(n, addr)| candidate(n, *addr)).collect();
    format!("{lite}{}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n{candidates}a=end-of-candidates\r\n", ours.ice())
}

/// RFC 8839 §5.1, of one of our own addresses.
fn candidate(n: usize, addr: SocketAddr) -> String {
    // RFC 8445 §5.1.2.1: hosts have 126; those of the list that come first are preferred.
    let preference = 65_535 - u32::try_from(n).unwrap_or(0).min(1_000);
    let priority = (126 << 24) | (preference << 8) | 255;
    format!("a=candidate:{} 1 udp {priority} {} {} typ host\r\n", n + 1, addr.ip(), addr.port())
}

/// The address of a candidate; `None` for what we cannot send to: TCP, names that hide addresses, the wrong component.
fn address(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split_ascii_whitespace().take(8).collect();
    let [_, component, transport, _, ip, port, "typ", _] = words.as_slice() else { return None };
    let addr = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
    let is_usable = *component == "1"
        && transport.eq_ignore_ascii_case("udp")
        && addr.port() != 0
        && !addr.ip().is_unspecified()
        && !addr.ip().is_multicast();
    is_usable.then_some(addr)
}

/// RFC 8839 §5.4: `ice-char`, at least `least` and at most 256 of them.
fn ice_word(value: &str, least: usize) -> Result<String, OfferError> {
    let is_plain = value.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'+' || octet == b'/');
    // Some browsers wrote `-` and `_` as well.
    let is_plain = is_plain || value.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+/-_".contains(&octet));
    let is_fit = is_plain && (least..=256).contains(&value.len());
    is_fit.then(|| value.to_owned()).ok_or(OfferError::Malformed("an ICE user name or password cannot be read"))
}

/// What may be written back: no spaces, no control characters.
fn token(value: &str) -> Option<String> {
    let is_plain = value.bytes().all(|octet| octet.is_ascii_graphic());
    (is_plain && !value.is_empty() && value.len() <= 64).then(|| value.to_owned())
}

/// RFC 8122 §5: bytes in hexadecimal with colons.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn unhex(value: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = value
        .split(':')
        .take(33)
        .map(|byte| (byte.len() == 2).then(|| u8::from_str_radix(byte, 16).ok()).flatten())
        .collect();
    bytes?.try_into().ok()
}

/// How a codec stands in a description.
fn encoding(codec: Codec) -> (&'static str, u32, u8) {
    match codec {
        Codec::Pcmu => ("PCMU", 8_000, 1),
        Codec::Pcma => ("PCMA", 8_000, 1),
        Codec::G722 => ("G722", 8_000, 1),
        // RFC 7587 §7: always two channels, whatever is sent.
        Codec::Opus => ("opus", 48_000, 2),
        Codec::L16Narrow => ("L16", 8_000, 1),
        Codec::L16Wide => ("L16", 16_000, 1),
    }
}

/// Payload types in a section; browsers offer some twenty.
const MAPS_MAX: usize = 64;
/// Certificates of one browser; one is usual.
const FINGERPRINTS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_common_codec_of_the_browser_is_taken_unless_ours_lead() {
        let offer = Offer::parse(OFFER.as_bytes()).unwrap();

        let theirs = offer.settle(&[Codec::Pcmu, Codec::Pcma], false).unwrap();
        let ours = offer.settle(&[Codec::Pcmu, Codec::Pcma], true).unwrap();

        assert_eq!((theirs.codec, theirs.payload_type, theirs.dtmf), (Codec::Pcma, 8, Some(126)));
        assert_eq!((ours.codec, ours.payload_type, ours.dtmf), (Codec::Pcmu, 0, Some(126)));
    }

    #[test]
    fn the_answer_takes_the_audio_and_refuses_the_rest() {
        let offer = Offer::parse(OFFER.as_bytes()).unwrap();
        let settled = offer.settle(&[Codec::Pcmu], false).unwrap();
        let credentials = Credentials { ufrag: "ours".to_owned(), password: "a password of twenty-two".to_owned() };
        let candidates = ["192.0.2.1:3479".parse().unwrap()];

        let answer = offer.answer(&settled, &ours(&credentials, &candidates));

        let lines: Vec<&str> = answer.split("\r\n").collect();
        assert!(lines.contains(&"a=group:BUNDLE 0") && lines.contains(&"a=ice-lite"));
        assert!(lines.contains(&"m=audio 3479 UDP/TLS/RTP/SAVPF 0 126"));
        assert!(lines.contains(&"m=video 0 UDP/TLS/RTP/SAVPF 96"));
        assert!(lines.contains(&"a=candidate:1 1 udp 2130706431 192.0.2.1 3479 typ host"));
        assert!(lines.contains(&"a=setup:passive"));
    }

    #[test]
    fn what_cannot_be_used_is_told_from_what_cannot_be_read() {
        let cases = [
            ("a=ice-pwd:", "a=x:", "there is no ice-pwd"),
            ("sha-256", "sha-1", "there is no fingerprint with sha-256"),
            ("v=0", "v=1", "the description does not begin with v=0"),
            ("a=mid:0", "a=mid:\u{1}", "a mid is no word"),
            ("4F:98", "4F:9", "a fingerprint cannot be read"),
        ];
        for (from, to, why) in cases {
            let broken = Offer::parse(OFFER.replacen(from, to, 1).as_bytes()).err();
            assert_eq!(broken, Some(OfferError::Malformed(why)), "{from}");
        }
        let cases = [
            ("m=audio", "m=image", "no audio is offered"),
            ("a=rtcp-mux", "a=x", "the audio is offered without rtcp-mux"),
            ("UDP/TLS/RTP/SAVPF 111", "RTP/AVP 111", "the audio is not offered over DTLS-SRTP (UDP/TLS/RTP/SAVPF)"),
        ];
        for (from, to, why) in cases {
            let useless = Offer::parse(OFFER.replacen(from, to, 1).as_bytes()).err();
            assert_eq!(useless, Some(OfferError::Unusable(why)), "{from}");
        }
    }

    #[test]
    fn names_that_hide_addresses_and_tcp_are_left_out() {
        let offer = Offer::parse(OFFER.as_bytes()).unwrap();
        assert_eq!(offer.candidates, [SocketAddr::from(([192, 0, 2, 7], 50_123))]);
    }

    #[test]
    fn a_fragment_brings_addresses_and_may_start_anew() {
        let text = "a=ice-ufrag:next\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
                    a=candidate:1 1 UDP 1 192.0.2.8 5000 typ host generation 0\r\na=end-of-candidates\r\n";

        let fragment = Fragment::parse(text.as_bytes()).unwrap();

        assert_eq!(fragment.candidates, [SocketAddr::from(([192, 0, 2, 8], 5_000))]);
        assert!(fragment.restarts("before").is_some() && fragment.restarts("next").is_none());
    }

    proptest! {
        #[test]
        fn a_bent_offer_does_no_harm(at in 0..OFFER.len(), with in "\\PC{0,12}", cut in 0..OFFER.len()) {
            let (at, cut) = (OFFER.floor_char_boundary(at), OFFER.floor_char_boundary(cut));
            let bent = format!("{}{with}{}", &OFFER[..at.min(cut)], &OFFER[at.max(cut)..]);
            if let Ok(offer) = Offer::parse(bent.as_bytes())
                && let Ok(settled) = offer.settle(&[Codec::Pcmu], true)
            {
                let credentials = Credentials { ufrag: "ours".to_owned(), password: "a password".to_owned() };
                let answer = offer.answer(&settled, &ours(&credentials, &[]));
                prop_assert!(answer.split("\r\n").all(|line| !line.contains(['\r', '\n'])));
            }
        }
    }

    fn ours<'a>(credentials: &'a Credentials, candidates: &'a [SocketAddr]) -> Ours<'a> {
        Ours { session: 1, mode: Mode::Lite, credentials, fingerprint: &[7; 32], candidates, reflexive: None }
    }

    const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        a=extmap-allow-mixed\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 8 0 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
        a=candidate:1 1 udp 2113937151 5e41a0cf-0000-4000-8000-6e9c4c0f3c11.local 53421 typ host\r\n\
        a=candidate:2 1 udp 1677729535 192.0.2.7 50123 typ srflx raddr 0.0.0.0 rport 0\r\n\
        a=candidate:3 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active\r\n\
        a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 D2:FA:0E:C3:22:59:5E:14:95:69:92:3D:13:B4:84:24:2C:C2:A2:C0:3E:FD:34:8E:5E:EA:6F:AF:52:CE:E6:0F\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n\
        a=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:110 telephone-event/48000\r\n\
        a=rtpmap:126 telephone-event/8000\r\na=ssrc:1 cname:x\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=fingerprint:sha-256 \
        4F:98:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00\r\na=setup:actpass\r\n\
        a=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n";
}
