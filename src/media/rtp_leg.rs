//! One party reached by RTP.

use std::net::SocketAddr;
use std::time::Duration;

use smallvec::SmallVec;

use super::bridge::{Bridge, Stream};
use super::dtmf::{DigitSender, DtmfReceiver, Pressed, TelephoneEvent};
use super::egress::Egress;
use super::g711::decode_ulaw;
use super::inband::ToneKeys;
use super::ingress::{Arrival, Ingress};
use super::latch::Latch;
use super::noise;
use super::notice::LegStats;
use super::relay::Relay;
use super::resample::Edge;
use super::rtp::Header;
use crate::model::limits::{PACKET_MAX, RTP_QUIET};
use crate::model::{Band, Codec, FRAME_MS, OpusTerms, SAMPLE_RATE, Sound, Time};

/// What an answered SDP says about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPeer {
    /// How we write audio, and expect it until something else comes.
    pub codec: Codec,
    /// The payload type of `codec` towards the peer, 0 to 127.
    pub payload_type: u8,
    /// What the peer may send, by payload type, and change between at any time. `codec` under `payload_type` and the
    /// static types of G.711 and G.722 are always taken.
    pub takes: Takes,
    /// The payload type of telephone-event towards the peer; `None` when it takes none.
    pub dtmf_out: Option<u8>,
    /// The payload type of telephone-event from the peer.
    pub dtmf_in: Option<u8>,
    /// Keys are listened for in its audio: it sends nothing better.
    pub tone_keys: bool,
    /// The clock in which durations of keys are written, in hertz: 8000, or the codec's own.
    pub dtmf_clock: u32,
    /// The payload type of comfort noise towards the peer, which it gets instead of silence; `None` when silence shall
    /// be sent like any sound.
    pub comfort_noise: Option<u8>,
    /// Milliseconds of audio that the peer wants in a packet.
    pub packet_ms: u32,
    /// Milliseconds of audio in a packet above which the peer takes none.
    pub packet_ms_max: u32,
    /// What it asks of Opus.
    pub opus: OpusTerms,
    /// Where the SDP says audio goes. Replaced by where it comes from, once that is settled.
    pub remote: SocketAddr,
    /// The party does not listen (RFC 3264 §8.4): nothing is sent to it, and what is on its way there waits.
    pub is_held: bool,
}

/// Payload types of a party beside the one that it was promised.
pub type Takes = [Option<(u8, Codec)>; 6];

impl RtpPeer {
    /// A peer who speaks one codec in packets of 20 ms, and has no telephone-event.
    pub fn new(codec: Codec, payload_type: u8, remote: SocketAddr) -> RtpPeer {
        RtpPeer {
            codec,
            payload_type,
            takes: Takes::default(),
            dtmf_out: None,
            dtmf_in: None,
            tone_keys: false,
            dtmf_clock: SAMPLE_RATE,
            comfort_noise: None,
            packet_ms: FRAME_MS,
            packet_ms_max: PACKET_MAX.as_millis() as u32,
            opus: OpusTerms::default(),
            remote,
            is_held: false,
        }
    }

    /// The same with telephone-event of one payload type both ways, at 8000.
    pub fn with_dtmf(self, payload_type: u8) -> RtpPeer {
        RtpPeer { dtmf_out: Some(payload_type), dtmf_in: Some(payload_type), ..self }
    }
}

/// Everything about an RTP leg but its socket.
#[derive(Debug)]
pub(super) struct RtpLeg {
    peer: Option<RtpPeer>,
    loopback_only: bool,
    latch: Latch,
    ingress: Ingress,
    keys_in: DtmfReceiver,
    tones_in: Option<Box<TonesIn>>,
    pub(super) keys_out: DigitSender,
    pub(super) stream: Stream,
    pub(super) bridge: Bridge,
    pub(super) egress: Egress,
    /// Of the party it hears, when that one speaks another codec.
    pub(super) relay: Option<Relay>,
    /// The codec of the last packet.
    spoken: Option<Codec>,
    packets: u64,
    refused: u64,
    foreign: u64,
    /// When something last came, or the first answer did; `None` once quiet was reported, and before.
    last: Option<Time>,
}

impl RtpLeg {
    pub(super) fn new(now: Time, seed: u64, loopback_only: bool) -> RtpLeg {
        RtpLeg {
            peer: None,
            loopback_only,
            latch: Latch::default(),
            ingress: Ingress::new(now),
            keys_in: DtmfReceiver::default(),
            tones_in: None,
            keys_out: DigitSender::default(),
            stream: Stream::new(seed),
            bridge: Bridge::new(),
            egress: Egress::new(),
            relay: None,
            spoken: None,
            packets: 0,
            refused: 0,
            foreign: 0,
            last: None,
        }
    }

    pub(super) fn set_peer(&mut self, now: Time, peer: RtpPeer) {
        self.latch.set_sdp(peer.remote);
        self.last = Some(now);
        self.stream.set_clock(peer.codec.clock());
        self.egress.set_peer(&peer);
        self.keys_in.set_clock(peer.dtmf_clock);
        self.tones_in = match self.tones_in.take() {
            Some(tones) if peer.tone_keys => Some(tones),
            None if peer.tone_keys => Some(Box::default()),
            _ => None,
        };
        self.peer = Some(peer);
    }

    /// The peer and where to send, once both are known.
    pub(super) fn reachable(&self) -> Option<(RtpPeer, SocketAddr)> {
        Some((self.peer.filter(|peer| !peer.is_held)?, self.latch.target()?))
    }

    /// Whether the party put us on hold. What it sends meanwhile is its music, and meant for people only.
    pub(super) fn is_held(&self) -> bool {
        self.peer.is_some_and(|peer| peer.is_held)
    }

    /// The form in which it wants to hear.
    pub(super) fn band(&self) -> Band {
        self.peer.map_or(Band::Narrow, |peer| peer.codec.band())
    }

    /// The clock in which its keys are counted, in hertz.
    pub(super) fn events_clock(&self) -> u32 {
        self.peer.map_or(SAMPLE_RATE, |peer| peer.dtmf_clock)
    }

    /// The codec in which it speaks.
    pub(super) fn speaks(&self) -> Codec {
        self.spoken.or(self.peer.map(|peer| peer.codec)).unwrap_or(Codec::Pcmu)
    }

    /// Whether its sound, as frames, is of use to anybody.
    pub(super) fn set_heard(&mut self, is_heard: bool) {
        self.ingress.set_heard(is_heard || self.tones_in.is_some());
    }

    /// Whether packets in a codec can go to it as they are.
    pub(super) fn takes_as_is(&self, codec: Codec) -> bool {
        let is_g711 = |codec| matches!(codec, Codec::Pcmu | Codec::Pcma);
        self.peer.is_none_or(|peer| peer.codec == codec || (is_g711(peer.codec) && is_g711(codec)))
    }

    /// Takes a datagram. Frames in order are appended to `frames`. `None` when it is not for us.
    pub(super) fn take<'a>(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &'a [u8],
        frames: &mut Vec<Sound>,
    ) -> Option<Taken<'a>> {
        if self.loopback_only && !from.ip().is_loopback() {
            self.foreign += 1;
            return None;
        }
        let parsed = Header::parse(datagram).ok();
        let Some((header, content)) = parsed.and_then(|(header, payload)| Some((header, self.read(&header, payload)?)))
        else {
            self.refused += 1;
            return None;
        };
        if !self.latch.accepts(from) {
            self.foreign += 1;
            return None;
        }
        self.packets += 1;
        self.last = self.peer.map(|_| now);
        let arrival = match content {
            Content::Audio(codec, audio) => {
                self.spoken = Some(codec);
                Arrival::Audio(codec, audio)
            }
            Content::Silence(level) => Arrival::Noise(level),
            Content::Key(_) => Arrival::Nothing,
        };
        self.ingress.packet(now, &header, arrival, frames);
        let pressed = match content {
            Content::Key(event) => {
                // It has something better after all: a key it sends both ways is one key.
                self.tones_in = None;
                self.keys_in.packet(now, header.timestamp, event)
            }
            Content::Audio(..) | Content::Silence(_) => SmallVec::new(),
        };
        if let Some(tones) = &mut self.tones_in {
            tones.hear(now, frames);
        }
        Some(Taken { header, content, pressed, is_first: self.packets == 1 })
    }

    /// The clock on the receiving side.
    pub(super) fn tick(&mut self, now: Time, frames: &mut Vec<Sound>) -> Option<Pressed> {
        self.ingress.tick(now, frames);
        if let Some(tones) = &mut self.tones_in {
            tones.hear(now, frames);
        }
        self.keys_in.tick(now)
    }

    /// A key heard as a tone, once it is sure that it does not come as an event too.
    pub(super) fn tone_key(&mut self, now: Time) -> Option<Pressed> {
        self.tones_in.as_mut()?.due(now)
    }

    /// Whether the party has just become quiet: said once, and never of a party that is not sent to, on hold.
    pub(super) fn became_quiet(&mut self, now: Time) -> bool {
        let is_quiet = self.last.is_some_and(|last| now - last >= RTP_QUIET) && self.reachable().is_some();
        if is_quiet {
            self.last = None;
        }
        is_quiet
    }

    pub(super) fn stats(&self) -> LegStats {
        let ingress = self.ingress.stats();
        let per_ms = u64::from(SAMPLE_RATE / 1000);
        let ticks_per_ms = self.ingress.codec().clock() / 1000;
        LegStats {
            packets_in: self.packets,
            packets_out: self.stream.packets(),
            refused: self.refused + ingress.refused,
            foreign: self.foreign,
            late: ingress.late,
            duplicates: ingress.duplicates,
            lost: ingress.lost,
            resyncs: ingress.resyncs,
            concealed_ms: ingress.concealed / per_ms,
            recovered_ms: ingress.recovered / per_ms,
            filled_ms: ingress.silence / per_ms,
            shed_ms: ingress.shed / per_ms,
            jitter_ms: self.ingress.jitter() / ticks_per_ms,
            underruns: 0,
        }
    }

    /// What a payload is, by the answer; before it, by the static types alone.
    fn read<'a>(&self, header: &Header, payload: &'a [u8]) -> Option<Content<'a>> {
        if let Some(peer) = &self.peer {
            if peer.dtmf_in == Some(header.payload_type) {
                return TelephoneEvent::parse(payload).map(Content::Key);
            }
            if peer.payload_type == header.payload_type {
                return Some(Content::Audio(peer.codec, payload));
            }
            let taken = peer.takes.iter().flatten().find(|(payload_type, _)| *payload_type == header.payload_type);
            if let Some((_, codec)) = taken {
                return Some(Content::Audio(*codec, payload));
            }
        }
        match header.payload_type {
            0 => Some(Content::Audio(Codec::Pcmu, payload)),
            8 => Some(Content::Audio(Codec::Pcma, payload)),
            9 => Some(Content::Audio(Codec::G722, payload)),
            13 => noise::level(payload).map(Content::Silence),
            _ => None,
        }
    }
}

/// Keys in the audio of a party.
#[derive(Debug, Default)]
struct TonesIn {
    keys: ToneKeys,
    edge: Edge,
    /// Let go; told when no event has come of it for [`TONE_DOUBT`].
    pressed: SmallVec<[(Time, Pressed); 2]>,
}

impl TonesIn {
    fn hear(&mut self, now: Time, frames: &[Sound]) {
        for frame in frames {
            let Sound::Narrow(ulaw) = self.edge.fit(frame, Band::Narrow) else { continue };
            let pressed = self.keys.hear(&ulaw.map(decode_ulaw));
            self.pressed.extend(pressed.map(|pressed| (now, pressed)));
        }
    }

    fn due(&mut self, now: Time) -> Option<Pressed> {
        let (at, pressed) = *self.pressed.first()?;
        (now - at >= TONE_DOUBT).then(|| {
            self.pressed.remove(0);
            pressed
        })
    }
}

/// A gateway on the way that turns tones into events lets the beginning of a tone through, and its first event follows
/// within some 50 ms.
const TONE_DOUBT: Duration = Duration::from_millis(120);

/// A packet of the party.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    pub(super) header: Header,
    pub(super) content: Content<'a>,
    pub(super) pressed: SmallVec<[Pressed; 2]>,
    pub(super) is_first: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Audio(Codec, &'a [u8]),
    Key(TelephoneEvent),
    /// Comfort noise (RFC 3389), so many decibels below the loudest possible.
    Silence(u8),
}
