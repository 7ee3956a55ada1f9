//! From packets to frames, for a consumer that is a byte stream and not an ear (`voice.md` §2.2, mode R).
//!
//! Packets in order pass at once. Behind a gap they wait 40 ms for what is missing, then it is concealed. When nothing
//! comes, the clock and not the next packet fills the gap, so that whoever listens for the end of a turn hears the
//! silence: after 100 ms up to 60 ms are concealed, then silence, one frame per tick. What arrives later all the same
//! is passed on; the time it costs is taken out of the quietest frames that follow.
//!
//! Payloads are decoded in the order in which they were sent, because most codecs remember what came before. Positions
//! and durations are counted in units of ⅛ ms, whatever the clock and the band of the codec.

use std::time::Duration;

use super::codec::{self, Decoder};
use super::conceal::Concealer;
use super::noise::Noise;
use super::rtp::Header;
use super::sample::{Sample, energy};
use crate::model::limits::{CALLER_AUDIO_MAX, REORDER_MAX};
use crate::model::{Band, Codec, FRAME_SAMPLES, SAMPLE_RATE, Sound, Time, WIDE_RATE, WIDE_SAMPLES};

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub enum Arrival<'a> {
    /// Audio.
    Audio(Codec, &'a [u8]),
    /// Comfort noise, so many decibels below the loudest possible (RFC 3389 §3): until audio comes again.
    Noise(u8),
    /// A telephone-event: it takes a place in the sequence and says that silence is meant.
    Nothing,
}

/// One stream of audio of one party, put in order.
#[derive(Debug)]
pub struct Ingress {
    ring: Box<[Slot]>,
    /// Packets in the ring.
    held: u32,
    ssrc: Option<u32>,
    /// The sequence number that is due, extended; starts one turn up so that it never goes below zero.
    next: u64,
    /// The highest that came, and which of the 64 up to it.
    newest: u64,
    window: u64,
    /// The timestamp that is due, once audio came.
    next_timestamp: Option<u32>,
    /// Arrival of the first packet that waits behind a gap.
    gap_since: Option<Time>,
    /// When audio last came in order, or the stream was opened.
    last_audio: Time,
    /// The party said that it is silent.
    is_paused: bool,
    /// Units put in by the clock since the last audio.
    filled: usize,
    concealed: usize,
    /// Of the codec that came last. Its band is the one of what is emitted.
    decoder: Decoder,
    /// Units in the last packet: what lost ones probably held.
    usual: usize,
    narrow: Lane<u8>,
    wide: Lane<i16>,
    comfort: Option<Noise>,
    /// Nobody listens: what would be costly to decode is not.
    is_deaf: bool,
    /// Units emitted, and the moment at which they matched the clock.
    emitted: u64,
    base: (Time, u64),
    noise: u64,
    is_shedding: bool,
    transit: Option<u32>,
    jitter: u32,
    stats: IngressStats,
}

/// Audio of one band on its way into frames. Only the lane of the decoder's band holds any.
#[derive(Debug)]
struct Lane<S> {
    audio: Vec<S>,
    concealer: Concealer<S>,
}

impl<S: Sample> Lane<S> {
    fn new(rate: u32) -> Lane<S> {
        let room = (rate / SAMPLE_RATE) as usize * LANE_UNITS;
        Lane { audio: Vec::with_capacity(room), concealer: Concealer::new(rate) }
    }

    /// Appends samples that nobody sent, made by the concealer.
    fn invent(&mut self, samples: usize) {
        let start = self.audio.len();
        self.audio.resize(start + samples, S::SILENCE);
        self.concealer.invent(&mut self.audio[start..]);
    }

    fn silence(&mut self, samples: usize, comfort: Option<&mut Noise>) {
        match comfort {
            Some(noise) => self.audio.extend((0..samples).map(|_| S::from_linear(noise.sample()))),
            None => self.audio.resize(self.audio.len() + samples, S::SILENCE),
        }
        self.concealer.silence();
    }
}

/// Figures of a stream, in packets and in units of ⅛ ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngressStats {
    /// Packets that came after their place had been filled.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets given up.
    pub lost: u64,
    /// Jumps of sequence, timestamp or SSRC.
    pub resyncs: u64,
    /// Packets with no audio, too much of it, or such that cannot be decoded.
    pub refused: u64,
    /// Units invented.
    pub concealed: u64,
    /// Units lost and recovered from the packet behind them.
    pub recovered: u64,
    /// Units of silence put in.
    pub silence: u64,
    /// Units taken out to catch up.
    pub shed: u64,
}

impl Ingress {
    /// Opens a stream. From `now` on it gives one frame per 20 ms, whether anything comes or not.
    pub fn new(now: Time) -> Ingress {
        Ingress {
            ring: (0..REORDER_MAX).map(|_| Slot::default()).collect(),
            held: 0,
            ssrc: None,
            next: 0,
            newest: 0,
            window: 0,
            next_timestamp: None,
            gap_since: None,
            last_audio: now,
            is_paused: true,
            filled: 0,
            concealed: 0,
            decoder: Decoder::new(Codec::Pcmu),
            usual: FRAME_SAMPLES,
            narrow: Lane::new(SAMPLE_RATE),
            wide: Lane::new(WIDE_RATE),
            comfort: None,
            is_deaf: false,
            emitted: 0,
            base: (now, 0),
            noise: NOISE_MAX,
            is_shedding: false,
            transit: None,
            jitter: 0,
            stats: IngressStats::default(),
        }
    }

    /// Takes a packet; frames that are complete with it are appended to `out`.
    pub fn packet(&mut self, now: Time, header: &Header, arrival: Arrival<'_>, out: &mut Vec<Sound>) {
        if let Arrival::Audio(codec, payload) = arrival
            && codec::units(codec, payload).is_none()
        {
            self.stats.refused += 1;
            return;
        }
        let ahead = i64::from(header.seq.wrapping_sub(self.next as u16) as i16);
        match self.ssrc {
            None => self.begin(now, header, &arrival),
            Some(ssrc) if ssrc != header.ssrc || ahead.abs() > JUMP => {
                self.stats.resyncs += 1;
                self.release_all(now, out);
                self.begin(now, header, &arrival);
            }
            Some(_) => {}
        }
        let ahead = i64::from(header.seq.wrapping_sub(self.next as u16) as i16);
        let seq = self.next.wrapping_add_signed(ahead);
        if self.is_duplicate(seq) {
            self.stats.duplicates += 1;
            return;
        }
        if ahead < 0 {
            self.stats.late += 1;
            return;
        }
        while seq >= self.next + REORDER_MAX as u64 {
            self.give_up(now, seq, header.timestamp, out);
        }
        self.measure_jitter(now, header, &arrival);
        if seq == self.next {
            // In order: no reason to keep a copy.
            self.next += 1;
            self.release(now, header.timestamp, header.marker, arrival, out);
        } else {
            self.ring[seq as usize % REORDER_MAX].put(seq, now, header, arrival);
            self.held += 1;
        }
        self.release_due(now, out);
        self.give_up_after_hold(now, out);
    }

    /// The clock: gives up what has been waited for long enough, and fills what does not come.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Sound>) {
        self.give_up_after_hold(now, out);
        if now - self.last_audio <= IDLE_FILL_AFTER {
            return;
        }
        // A worker that was held up for seconds does not flood the listener with the silence it missed.
        let elapsed = self.elapsed(now);
        if elapsed.saturating_sub(self.emitted) > FILL_MAX {
            self.base = (now, self.emitted + FILL_MAX);
        }
        while self.emitted + FRAME_SAMPLES as u64 <= self.elapsed(now) {
            self.filled += FRAME_SAMPLES;
            self.push_missing(now, FRAME_SAMPLES, 0, out);
        }
    }

    /// Whether anybody hears what is emitted. While nobody does, payloads that are costly to decode are taken for
    /// silence; order, gaps and figures are kept as ever.
    pub(super) fn set_heard(&mut self, is_heard: bool) {
        self.is_deaf = !is_heard;
    }

    /// The codec of what came last.
    pub fn codec(&self) -> Codec {
        self.decoder.codec()
    }

    /// Units of ⅛ ms emitted so far; every 160 of them were a frame.
    pub fn units_emitted(&self) -> u64 {
        self.emitted
    }

    /// The figures so far.
    pub fn stats(&self) -> IngressStats {
        self.stats
    }

    /// Interarrival jitter in ticks of the codec's clock (RFC 3550 §6.4.1).
    pub fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    fn begin(&mut self, now: Time, header: &Header, arrival: &Arrival<'_>) {
        let is_first = self.ssrc.is_none();
        self.ssrc = Some(header.ssrc);
        self.next = (1 << 16) | u64::from(header.seq);
        (self.newest, self.window) = (self.next - 1, 0);
        (self.next_timestamp, self.gap_since, self.transit) = (None, None, None);
        debug_assert_eq!(self.held, 0, "whoever begins again has released what was held");
        if let (true, Arrival::Audio(codec, payload)) = (is_first, arrival) {
            // The first packet defines what is on time.
            let first = codec::units(*codec, payload).unwrap_or(FRAME_SAMPLES);
            self.base = (now, self.emitted + (self.partial() + first) as u64);
        }
    }

    fn is_duplicate(&mut self, seq: u64) -> bool {
        if seq > self.newest {
            let by = seq - self.newest;
            self.window = if by < 64 { self.window << by } else { 0 } | 1;
            self.newest = seq;
            return false;
        }
        let bit = match self.newest - seq {
            back @ 0..64 => 1 << back,
            // Too old to remember: late in any case.
            _ => return false,
        };
        let is_known = self.window & bit != 0;
        self.window |= bit;
        is_known
    }

    fn measure_jitter(&mut self, now: Time, header: &Header, arrival: &Arrival<'_>) {
        let Arrival::Audio(codec, _) = arrival else { return };
        let clock = u64::from(codec.clock());
        if *codec != self.decoder.codec() {
            self.transit = None;
        }
        // Microseconds first: nanoseconds times the clock would run over within days.
        let arrived = (now.0 / 1000 * (clock / 1000) / 1000) as u32;
        let transit = arrived.wrapping_sub(header.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            // Bounded, so that a jump of the timestamp does not stay in the figure for minutes.
            let change = (transit.wrapping_sub(before) as i32).unsigned_abs().min(codec.clock());
            self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
        }
    }

    /// Emits everything that is in order.
    fn release_due(&mut self, now: Time, out: &mut Vec<Sound>) {
        let mut at = self.next as usize % REORDER_MAX;
        while self.ring[at].seq == Some(self.next) {
            self.held -= 1;
            self.next += 1;
            // Taken out while it is decoded, and put back for its room.
            let slot = std::mem::take(&mut self.ring[at]);
            self.release(now, slot.timestamp, slot.marker, slot.arrival(), out);
            self.ring[at] = Slot { seq: None, ..slot };
            at = self.next as usize % REORDER_MAX;
        }
        self.gap_since = match self.held {
            0 => None,
            _ => self.ring.iter().filter(|slot| slot.seq.is_some()).map(|slot| slot.arrived).min(),
        };
    }

    fn release_all(&mut self, now: Time, out: &mut Vec<Sound>) {
        while let Some((seq, timestamp)) = self.first_held() {
            self.give_up(now, seq, timestamp, out);
        }
    }

    fn give_up_after_hold(&mut self, now: Time, out: &mut Vec<Sound>) {
        while self.gap_since.is_some_and(|since| now - since >= HOLD) {
            let Some((seq, timestamp)) = self.first_held() else { return };
            self.give_up(now, seq, timestamp, out);
        }
    }

    fn first_held(&self) -> Option<(u64, u32)> {
        self.ring.iter().filter_map(|slot| slot.seq.map(|seq| (seq, slot.timestamp))).min()
    }

    /// Conceals from what is due to the packet `until`, or to one that waits before it, and goes on from there.
    fn give_up(&mut self, now: Time, until: u64, timestamp: u32, out: &mut Vec<Sound>) {
        let (to, timestamp) = self.first_held().filter(|(seq, _)| *seq < until).unwrap_or((until, timestamp));
        self.stats.lost += to - self.next;
        if let Some(due) = self.next_timestamp
            && let Some(missing) = self.missing(timestamp, due)
        {
            let unfilled = missing.saturating_sub(self.filled).min(SILENCE_MAX);
            let recovered = if self.filled == 0 { self.recover(to, unfilled) } else { 0 };
            self.push_missing(now, unfilled - recovered, recovered, out);
            self.filled = self.filled.saturating_sub(missing);
            self.next_timestamp = Some(timestamp);
        }
        self.next = to;
        self.release_due(now, out);
    }

    /// Units between two timestamps, unless it is a leap.
    fn missing(&self, timestamp: u32, due: u32) -> Option<usize> {
        let missing = timestamp.wrapping_sub(due) / self.per_unit();
        (missing <= LEAP_MIN).then_some(missing as usize)
    }

    /// Ticks of the codec's clock in a unit.
    fn per_unit(&self) -> u32 {
        self.decoder.codec().clock() / SAMPLE_RATE
    }

    /// How many of the units missing before a held packet its copy of the one before can give.
    fn recover(&self, held: u64, missing: usize) -> usize {
        let is_opus = self.decoder.codec() == Codec::Opus && !self.is_deaf;
        let slot = &self.ring[held as usize % REORDER_MAX];
        let is_there = slot.seq == Some(held) && slot.kind == Kept::Audio(Codec::Opus);
        if is_opus && is_there && missing >= self.usual { self.usual } else { 0 }
    }

    fn release(&mut self, now: Time, timestamp: u32, marker: bool, arrival: Arrival<'_>, out: &mut Vec<Sound>) {
        let (codec, payload) = match arrival {
            Arrival::Audio(codec, payload) => (codec, payload),
            Arrival::Noise(level) => {
                self.is_paused = true;
                self.comfort = Some(Noise::new(level, self.comfort.as_ref()));
                return;
            }
            Arrival::Nothing => {
                (self.is_paused, self.comfort) = (true, None);
                return;
            }
        };
        self.become_codec(codec);
        if let Some(due) = self.next_timestamp {
            match timestamp.wrapping_sub(due) / self.per_unit() {
                0 => {}
                // Silence suppression: no packet is missing, but time is.
                gap if gap <= LEAP_MIN || (marker && gap < (1 << 31) / self.per_unit()) => {
                    let unfilled = (gap as usize).saturating_sub(self.filled).min(SILENCE_MAX);
                    self.concealed = CONCEAL_MAX;
                    self.push_missing(now, unfilled, 0, out);
                }
                _ => self.stats.resyncs += 1,
            }
        }
        let Some(units) = self.decode(payload) else {
            // It takes its place and is heard as a loss.
            self.stats.refused += 1;
            return;
        };
        self.next_timestamp = Some(timestamp.wrapping_add(units as u32 * self.per_unit()));
        (self.filled, self.concealed) = (0, 0);
        (self.is_paused, self.last_audio, self.comfort) = (false, now, None);
        self.usual = units;
        self.emit(now, out);
    }

    fn decode(&mut self, payload: &[u8]) -> Option<usize> {
        let codec = self.decoder.codec();
        if self.is_deaf && matches!(codec, Codec::Opus | Codec::G722) {
            let units = codec::units(codec, payload)?;
            self.wide.silence(units * 2, None);
            return Some(units);
        }
        let (narrow, wide) = (self.narrow.audio.len(), self.wide.audio.len());
        let units = self.decoder.decode(payload, &mut self.narrow.audio, &mut self.wide.audio)?;
        match codec.band() {
            Band::Narrow => self.narrow.concealer.heard(&mut self.narrow.audio[narrow..]),
            Band::Wide => self.wide.concealer.heard(&mut self.wide.audio[wide..]),
        }
        Some(units)
    }

    /// Another codec: what it remembers begins anew, and what is left of a frame changes over if the band does.
    fn become_codec(&mut self, codec: Codec) {
        let before = self.decoder.codec();
        if before == codec {
            return;
        }
        self.decoder = Decoder::new(codec);
        if before.clock() != codec.clock() {
            self.next_timestamp = None;
        }
        let (narrow, wide) = (&mut self.narrow.audio, &mut self.wide.audio);
        // Less than 20 ms, once: not worth a filter.
        match codec.band() {
            Band::Narrow => narrow.extend(wide.drain(..).step_by(2).map(u8::from_linear)),
            Band::Wide => wide.extend(narrow.drain(..).flat_map(|code| [code.linear(); 2])),
        }
    }

    /// Fills a gap, the last `recovered` units of it from the packet behind it: concealment up to 60 ms since the last
    /// audio, then silence.
    fn push_missing(&mut self, now: Time, mut units: usize, recovered: usize, out: &mut Vec<Sound>) {
        while units > 0 {
            let mut len = units.min(FRAME_SAMPLES);
            if !self.is_paused && self.concealed < CONCEAL_MAX {
                len = len.min(CONCEAL_MAX - self.concealed);
                self.conceal(len);
            } else {
                self.silence(len);
            }
            self.emit(now, out);
            units -= len;
        }
        if recovered > 0 {
            let slot = self.first_held().map(|(seq, _)| seq as usize % REORDER_MAX);
            let payload = slot.map_or(&[][..], |at| &self.ring[at].payload);
            if self.decoder.recover(payload, recovered, &mut self.wide.audio) {
                self.stats.recovered += recovered as u64;
            } else {
                self.conceal(recovered);
            }
            self.emit(now, out);
        }
    }

    fn conceal(&mut self, units: usize) {
        self.concealed += units;
        self.stats.concealed += units as u64;
        match self.decoder.codec().band() {
            Band::Narrow => self.narrow.invent(units),
            Band::Wide if self.is_deaf => self.wide.silence(units * 2, None),
            Band::Wide => {
                if !self.decoder.conceal(units, &mut self.wide.audio) {
                    self.wide.invent(units * 2);
                }
            }
        }
    }

    fn silence(&mut self, units: usize) {
        self.stats.silence += units as u64;
        match self.decoder.codec().band() {
            Band::Narrow => self.narrow.silence(units, self.comfort.as_mut()),
            Band::Wide => self.wide.silence(units * 2, self.comfort.as_mut()),
        }
    }

    /// Units that do not make a frame yet.
    fn partial(&self) -> usize {
        self.narrow.audio.len() + self.wide.audio.len() / 2
    }

    /// Passes whole frames on.
    fn emit(&mut self, now: Time, out: &mut Vec<Sound>) {
        while let Some(frame) = self.narrow.audio.first_chunk().copied() {
            self.narrow.audio.drain(..FRAME_SAMPLES);
            self.pass(now, energy(&frame), Sound::Narrow(frame), out);
        }
        while let Some(frame) = self.wide.audio.first_chunk().copied() {
            self.wide.audio.drain(..WIDE_SAMPLES);
            self.pass(now, energy(&frame), Sound::Wide(frame), out);
        }
    }

    /// Passes a frame on, or leaves it out to pay back what the clock had filled too early.
    fn pass(&mut self, now: Time, level: u64, frame: Sound, out: &mut Vec<Sound>) {
        self.noise = if level < self.noise { level } else { (self.noise + self.noise / 64 + 1).min(NOISE_MAX) };
        let lead = (self.emitted + FRAME_SAMPLES as u64).saturating_sub(self.elapsed(now));
        self.is_shedding = lead > if self.is_shedding { LEAD_SHED_TO } else { LEAD_MAX };
        let is_quiet = level <= self.noise * 2 + QUIET;
        if self.is_shedding || (lead > LEAD_EASY && is_quiet) {
            self.stats.shed += FRAME_SAMPLES as u64;
            return;
        }
        self.emitted += FRAME_SAMPLES as u64;
        out.push(frame);
    }

    /// Units that should have been emitted by now.
    fn elapsed(&self, now: Time) -> u64 {
        let (since, units) = self.base;
        units + (now.0.saturating_sub(since.0)) / NANOS_PER_UNIT
    }
}

/// A packet that waits behind a gap. Its room is kept, so that waiting does not allocate for ever.
#[derive(Debug, Default)]
struct Slot {
    seq: Option<u64>,
    timestamp: u32,
    arrived: Time,
    marker: bool,
    kind: Kept,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kept {
    Audio(Codec),
    Noise(u8),
    #[default]
    Nothing,
}

impl Slot {
    fn put(&mut self, seq: u64, now: Time, header: &Header, arrival: Arrival<'_>) {
        self.seq = Some(seq);
        (self.timestamp, self.arrived, self.marker) = (header.timestamp, now, header.marker);
        self.payload.clear();
        self.kind = match arrival {
            Arrival::Audio(codec, payload) => {
                self.payload.extend_from_slice(payload);
                Kept::Audio(codec)
            }
            Arrival::Noise(level) => Kept::Noise(level),
            Arrival::Nothing => Kept::Nothing,
        };
    }

    fn arrival(&self) -> Arrival<'_> {
        match self.kind {
            Kept::Audio(codec) => Arrival::Audio(codec, &self.payload),
            Kept::Noise(level) => Arrival::Noise(level),
            Kept::Nothing => Arrival::Nothing,
        }
    }
}

const NANOS_PER_UNIT: u64 = 1_000_000_000 / SAMPLE_RATE as u64;
const HOLD: Duration = Duration::from_millis(40);
const IDLE_FILL_AFTER: Duration = Duration::from_millis(100);
/// 60 ms.
const CONCEAL_MAX: usize = 480;
/// What a lane holds at most: a packet of 120 ms behind a frame that is not whole.
const LANE_UNITS: usize = 1120;
/// Packets by which the sequence may leap and still be the same stream.
const JUMP: i64 = 100;
/// 2 s: a longer leap of the timestamp is a new beginning.
const LEAP_MIN: u32 = 2 * SAMPLE_RATE;
/// 0.5 s: silence discovered late is not given in full, the listener has already waited.
const SILENCE_MAX: usize = SAMPLE_RATE as usize / 2;
const FILL_MAX: u64 = CALLER_AUDIO_MAX.as_secs() * SAMPLE_RATE as u64;
/// 20 ms: what jitter may be ahead of the clock without anything being done about it.
const LEAD_EASY: u64 = 160;
/// 300 ms ahead frames are left out whatever they hold, until 100 ms.
const LEAD_MAX: u64 = 2400;
const LEAD_SHED_TO: u64 = 800;
/// −40 dBFS as mean square: louder is no background noise.
const NOISE_MAX: u64 = 107_000;
/// −60 dBFS as mean square: softer is silence.
const QUIET: u64 = 1_000;
