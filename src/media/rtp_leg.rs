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
use super::latch::{Came, Latch};
use super::noise;
use super::notice::{FarQuality, LegStats, Quality};
use super::quality::Reception;
use super::relay::Relay;
use super::reporter::{Figures, Reporter};
use super::resample::Edge;
use super::rtcp;
use super::rtp::{HEADER_LEN, Header};
use super::shield::{Shield, Wire};
use crate::model::limits::{PACKET_MAX, RTP_QUIET};
use crate::model::{Band, Codec, FRAME_MS, OpusTerms, SAMPLE_RATE, Sound, SrtpKeys, Time};

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
    /// With what audio and reports are protected, both ways; `None`: they are plain.
    pub keys: Option<SrtpKeys>,
    /// Where reports go and how.
    pub reports: Reports,
    /// The party does not listen (RFC 3264 §8.4): nothing is sent to it, and what is on its way there waits.
    pub is_held: bool,
}

/// How RTCP is exchanged with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// Mean time between ours; `None`: we send none.
    pub every: Option<Duration>,
    /// On the same ports as audio (RFC 5761).
    pub are_muxed: bool,
    /// Where they go when they are not; `None`: to the port above that of audio.
    pub to: Option<SocketAddr>,
    /// With the figures of RFC 3611 §4.7.
    pub are_extended: bool,
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
            keys: None,
            reports: Reports::default(),
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
    shield: Shield,
    reception: Reception,
    reporter: Reporter,
    /// Where reports of the party come from.
    reports_from: Option<SocketAddr>,
    /// Octets of payload that went out.
    octets: u64,
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
            shield: Shield::default(),
            reception: Reception::default(),
            reporter: Reporter::new(seed),
            reports_from: None,
            octets: 0,
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
        self.shield.agree(now, peer.keys);
        self.reporter.set_interval(peer.reports.every);
        self.reports_from = None;
        // The shield has them; copies are made of the rest.
        self.peer = Some(RtpPeer { keys: None, ..peer });
    }

    /// Keys will be agreed: until then nothing is taken for audio.
    pub(super) fn expect_keys(&mut self) {
        self.shield.expect_keys();
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

    /// The plain packet in a datagram, in `room` when it was protected. `None` when it is not for us, or not to be
    /// believed.
    pub(super) fn open<'a>(
        &mut self,
        now: Time,
        from: SocketAddr,
        wire: Wire,
        datagram: &'a [u8],
        room: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        if self.loopback_only && !from.ip().is_loopback() {
            self.foreign += 1;
            return None;
        }
        self.shield.open(now, wire, datagram, room)
    }

    /// Whether packets go out as they are.
    pub(super) fn is_plain(&self) -> bool {
        self.shield.may_send() && !self.shield.is_keyed()
    }

    /// Counts a packet that goes out, of so many octets.
    pub(super) fn count(&mut self, len: usize) {
        self.octets += len.saturating_sub(HEADER_LEN) as u64;
    }

    /// Protects the packet at the end of `bytes`, from `start` on; returns whether it may go out.
    pub(super) fn seal(&mut self, bytes: &mut Vec<u8>, start: usize) -> bool {
        self.count(bytes.len() - start);
        self.shield.seal(Wire::Rtp, bytes, start)
    }

    /// Takes a report of the party.
    pub(super) fn hear_report(&mut self, now: Time, from: SocketAddr, packet: &[u8]) {
        let expected = self.latch.source().or(self.peer.map(|peer| peer.remote));
        if !self.shield.is_keyed() && expected.is_none_or(|expected| expected.ip() != from.ip()) {
            self.foreign += 1;
            return;
        }
        match rtcp::read(packet, self.stream.ssrc()) {
            Ok(told) => {
                self.reporter.hear(now, &told);
                self.reports_from = Some(from);
            }
            Err(_) => self.refused += 1,
        }
    }

    /// Where a report goes that is due now.
    pub(super) fn report_due(&mut self, now: Time) -> Option<SocketAddr> {
        self.reporter.is_due(now).then(|| self.reports_to()).flatten()
    }

    /// Where reports go, while any do.
    pub(super) fn reports_to(&self) -> Option<SocketAddr> {
        let (peer, target) = (self.peer?, self.latch.target()?);
        if !self.reporter.is_on() || !self.shield.may_send() {
            return None;
        }
        if peer.reports.are_muxed {
            return Some(target);
        }
        let beside = || Some(SocketAddr::new(target.ip(), target.port().checked_add(1)?));
        self.reports_from.or(peer.reports.to.filter(|to| to.port() != 0)).or_else(beside)
    }

    /// Whether reports share the socket of audio.
    pub(super) fn muxes_reports(&self) -> bool {
        self.peer.is_some_and(|peer| peer.reports.are_muxed)
    }

    /// Appends a report as it goes out; returns whether it may.
    pub(super) fn write_report(&mut self, now: Time, is_leaving: bool, bytes: &mut Vec<u8>) -> bool {
        let start = bytes.len();
        let figures = self.figures(now);
        self.reporter.write(now, figures, &mut self.reception, is_leaving, bytes);
        self.shield.seal(Wire::Rtcp, bytes, start)
    }

    fn figures(&self, now: Time) -> Figures {
        let peer = self.peer;
        Figures {
            ssrc: self.stream.ssrc(),
            packets: self.stream.packets(),
            octets: self.octets,
            timestamp: self.stream.grid(now),
            is_extended: peer.is_some_and(|peer| peer.reports.are_extended),
            // Packets in order are passed on at once.
            buffer: Duration::ZERO,
            packet: Duration::from_millis(u64::from(peer.map_or(FRAME_MS, |peer| peer.packet_ms))),
        }
    }

    /// Takes a packet. Frames in order are appended to `frames`. `None` when it is not for us.
    pub(super) fn take<'a>(
        &mut self,
        now: Time,
        from: SocketAddr,
        datagram: &'a [u8],
        frames: &mut Vec<Sound>,
    ) -> Option<Taken<'a>> {
        let parsed = Header::parse(datagram).ok();
        let Some((header, content)) = parsed.and_then(|(header, payload)| Some((header, self.read(&header, payload)?)))
        else {
            self.refused += 1;
            return None;
        };
        if !self.latch.accepts(now, Came::new(from, &header, self.shield.is_keyed())) {
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
        let late = self.ingress.stats().late;
        self.ingress.packet(now, &header, arrival, frames);
        let is_late = self.ingress.stats().late > late;
        self.reception.packet(now, &header, self.speaks().clock(), is_late);
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
        let (forged, replayed) = self.shield.refused();
        LegStats {
            packets_in: self.packets,
            packets_out: self.stream.packets(),
            refused: self.refused + ingress.refused,
            foreign: self.foreign,
            forged,
            replayed,
            rebinds: self.latch.rebinds(),
            quality: (self.packets > 0).then(|| self.quality()),
            far: self.far(),
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

    fn quality(&self) -> Quality {
        let figures = self.figures(self.last.unwrap_or_default());
        let losses = self.reception.losses(figures.packet);
        let hundredths = |value: f64| (value * 100.0).round() as u32;
        Quality {
            expected: losses.expected,
            loss_bp: hundredths(losses.loss * 100.0),
            discard_bp: hundredths(losses.discard * 100.0),
            burst_ratio_percent: hundredths(losses.burst_ratio),
            round_trip_ms: self.reporter.round_trip().map(|round_trip| round_trip.as_millis() as u32),
            mos_hundredths: hundredths(self.reporter.score(&losses, figures).mos),
        }
    }

    fn far(&self) -> Option<FarQuality> {
        let far = self.reporter.far()?;
        let per_ms = self.stream.per_unit() * (SAMPLE_RATE / 1000);
        let mos_hundredths = far.mos.map(|mos| (mos * 100.0).round() as u32);
        Some(FarQuality { lost: far.lost, jitter_ms: far.jitter / per_ms.max(1), mos_hundredths })
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
