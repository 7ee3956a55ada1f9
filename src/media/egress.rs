//! From frames to packets: the party's band, its codec and its packet time.

use super::bridge::Stream;
use super::codec::{Encoder, Piece};
use super::resample::Edge;
use super::rtp::Header;
use super::rtp_leg::RtpPeer;
use crate::model::{Band, Codec, FRAME_MS, FRAME_SAMPLES, OpusTerms, Sound, Time};

/// What is on its way to a party.
#[derive(Debug)]
pub(super) struct Egress {
    codec: Codec,
    terms: OpusTerms,
    encoder: Encoder,
    edge: Edge,
    /// Units in a packet.
    packet: usize,
    narrow: Vec<u8>,
    wide: Vec<i16>,
    /// The timestamp of the first unit that waits, while any does.
    start: u32,
    is_voice: bool,
    /// What waits has to go out as it is.
    is_flushing: bool,
    /// Ticks of silence in a row.
    silent: u32,
}

impl Egress {
    pub(super) fn new() -> Egress {
        let (codec, terms) = (Codec::Pcmu, OpusTerms::default());
        Egress {
            codec,
            terms,
            encoder: Encoder::new(codec, terms),
            edge: Edge::default(),
            packet: FRAME_SAMPLES,
            narrow: Vec::with_capacity(UNITS_MAX),
            wide: Vec::with_capacity(UNITS_MAX * 2),
            start: 0,
            is_voice: false,
            is_flushing: false,
            silent: 0,
        }
    }

    /// Follows an answer. A codec that stays remembers what it sent.
    pub(super) fn set_peer(&mut self, peer: &RtpPeer) {
        if (self.codec, self.terms) != (peer.codec, peer.opus) {
            (self.codec, self.terms) = (peer.codec, peer.opus);
            self.encoder = Encoder::new(peer.codec, peer.opus);
            self.forget();
        }
        self.packet = packet_units(peer.codec, peer.packet_ms);
    }

    /// Forgets what waits for its packet to be full.
    pub(super) fn forget(&mut self) {
        self.narrow.clear();
        self.wide.clear();
        self.is_flushing = false;
    }

    /// Counts a tick of speech or of silence; returns since how many ticks there has been nothing to hear.
    pub(super) fn silent_for(&mut self, is_voice: bool) -> u32 {
        self.silent = if is_voice { 0 } else { self.silent.saturating_add(1) };
        self.silent
    }

    /// Takes the 20 ms that have this timestamp. What waited and does not join it goes out first.
    pub(super) fn push(&mut self, stream: &Stream, timestamp: u32, sound: &Sound, is_voice: bool) {
        let waiting = self.waiting();
        if waiting > 0 && self.start.wrapping_add(waiting as u32 * stream.per_unit()) != timestamp {
            // The grid went on without it: nobody misses less than a packet from before.
            self.forget();
        }
        if self.waiting() == 0 {
            (self.start, self.is_voice) = (timestamp, false);
        }
        self.is_voice |= is_voice;
        match self.edge.fit(sound, self.codec.band()) {
            Sound::Narrow(ulaw) => self.narrow.extend_from_slice(&ulaw),
            Sound::Wide(wide) => self.wide.extend_from_slice(&wide),
        }
    }

    /// What waits shall not wait any longer: something else takes its turn.
    pub(super) fn flush(&mut self) {
        self.is_flushing = self.waiting() > 0;
    }

    /// Whether a packet can go out.
    pub(super) fn is_ready(&self) -> bool {
        self.waiting() >= self.packet || self.is_flushing
    }

    /// Appends the payload of the next packet, and gives its header. `None`, and nothing appended, when there is
    /// nothing to hear in it and the codec would rather say nothing.
    pub(super) fn packet(
        &mut self,
        now: Time,
        stream: &mut Stream,
        payload_type: u8,
        payload: &mut Vec<u8>,
    ) -> Option<Header> {
        let units = self.waiting().min(self.packet);
        self.is_flushing &= self.waiting() > units;
        let is_worth_it = match self.codec.band() {
            Band::Narrow => self.encoder.encode(Piece::Narrow(&self.narrow[..units]), payload),
            Band::Wide => self.encoder.encode(Piece::Wide(&self.wide[..units * 2]), payload),
        };
        self.narrow.drain(..units.min(self.narrow.len()));
        self.wide.drain(..(units * 2).min(self.wide.len()));
        let timestamp = self.start;
        self.start = timestamp.wrapping_add(units as u32 * stream.per_unit());
        if !is_worth_it {
            stream.rest();
            return None;
        }
        Some(stream.own_of(now, payload_type, timestamp, self.is_voice, units))
    }

    fn waiting(&self) -> usize {
        self.narrow.len() + self.wide.len() / 2
    }
}

/// The packet time that we keep: what the party asked for, from 10 to 60 ms. Opus has no frame of 30 or 50 ms.
fn packet_units(codec: Codec, asked_ms: u32) -> usize {
    let ms = match asked_ms {
        0..10 => FRAME_MS,
        10..60 => asked_ms / 10 * 10,
        _ => 60,
    };
    let ms = match (codec, ms) {
        (Codec::Opus, 30) => 20,
        (Codec::Opus, 50) => 40,
        (_, ms) => ms,
    };
    ms as usize * FRAME_SAMPLES / FRAME_MS as usize
}

/// 60 ms that wait and 20 that come.
const UNITS_MAX: usize = 640;
