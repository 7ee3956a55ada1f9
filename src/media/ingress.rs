//! From packets to frames, for a consumer that is a byte stream and not an ear (`voice.md` §2.2, mode R).
//!
//! Packets in order pass at once. Behind a gap they wait 40 ms for what is missing, then it is concealed. When nothing
//! comes, the clock and not the next packet fills the gap, so that whoever listens for the end of a turn hears the
//! silence: after 100 ms up to 60 ms are concealed, then silence, one frame per tick. What arrives later all the same
//! is passed on; the time it costs is taken out of the quietest frames that follow.

use std::time::Duration;

use super::conceal::Concealer;
use super::g711::{ULAW_SILENCE, energy, transcode};
use super::rtp::Header;
use crate::model::limits::{CALLER_AUDIO_MAX, REORDER_MAX};
use crate::model::{Codec, FRAME_SAMPLES, Frame, SAMPLE_RATE, Time};

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub enum Arrival<'a> {
    /// Audio.
    Audio(Codec, &'a [u8]),
    /// A telephone-event or comfort noise: it takes a place in the sequence and says that silence is meant.
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
    /// Samples put in by the clock since the last audio.
    filled: usize,
    concealer: Concealer,
    concealed: usize,
    partial: Frame,
    partial_len: usize,
    /// Samples emitted, and the moment at which they matched the clock.
    emitted: u64,
    base: (Time, u64),
    noise: u64,
    is_shedding: bool,
    transit: Option<u32>,
    jitter: u32,
    stats: IngressStats,
}

/// Figures of a stream, in packets and samples.
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
    /// Packets with no audio, or more than 60 ms of it.
    pub refused: u64,
    /// Samples invented.
    pub concealed: u64,
    /// Samples of silence put in.
    pub silence: u64,
    /// Samples taken out to catch up.
    pub shed: u64,
}

impl Ingress {
    /// Opens a stream. From `now` on it gives one frame per 20 ms, whether anything comes or not.
    pub fn new(now: Time) -> Ingress {
        Ingress {
            ring: vec![Slot::EMPTY; REORDER_MAX].into(),
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
            concealer: Concealer::new(),
            concealed: 0,
            partial: [ULAW_SILENCE; FRAME_SAMPLES],
            partial_len: 0,
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
    pub fn packet(&mut self, now: Time, header: &Header, arrival: Arrival<'_>, out: &mut Vec<Frame>) {
        if let Arrival::Audio(_, audio) = arrival
            && !(1..=PACKET_SAMPLES_MAX).contains(&audio.len())
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
        self.ring[seq as usize % REORDER_MAX].put(seq, now, header, &arrival);
        self.held += 1;
        self.release_due(now, out);
        self.give_up_after_hold(now, out);
    }

    /// The clock: gives up what has been waited for long enough, and fills what does not come.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Frame>) {
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
            self.push_missing(now, FRAME_SAMPLES, out);
        }
    }

    /// Samples emitted so far; every 160 of them were a frame.
    pub fn samples_emitted(&self) -> u64 {
        self.emitted
    }

    /// The figures so far.
    pub fn stats(&self) -> IngressStats {
        self.stats
    }

    /// Interarrival jitter in samples (RFC 3550 §6.4.1).
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
        if let (true, Arrival::Audio(_, audio)) = (is_first, arrival) {
            // The first packet defines what is on time.
            self.base = (now, self.emitted + (self.partial_len + audio.len()) as u64);
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
        if matches!(arrival, Arrival::Nothing) {
            return;
        }
        let arrived = (now.0 / NANOS_PER_SAMPLE) as u32;
        let transit = arrived.wrapping_sub(header.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            // Bounded, so that a jump of the timestamp does not stay in the figure for minutes.
            let change = (transit.wrapping_sub(before) as i32).unsigned_abs().min(SAMPLE_RATE);
            self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
        }
    }

    /// Emits everything that is in order.
    fn release_due(&mut self, now: Time, out: &mut Vec<Frame>) {
        let mut at = self.next as usize % REORDER_MAX;
        while self.ring[at].seq == Some(self.next) {
            self.ring[at].seq = None;
            self.held -= 1;
            self.next += 1;
            self.release(now, at, out);
            at = self.next as usize % REORDER_MAX;
        }
        self.gap_since = match self.held {
            0 => None,
            _ => self.ring.iter().filter(|slot| slot.seq.is_some()).map(|slot| slot.arrived).min(),
        };
    }

    fn release_all(&mut self, now: Time, out: &mut Vec<Frame>) {
        while let Some((seq, timestamp)) = self.first_held() {
            self.give_up(now, seq, timestamp, out);
        }
    }

    fn give_up_after_hold(&mut self, now: Time, out: &mut Vec<Frame>) {
        while self.gap_since.is_some_and(|since| now - since >= HOLD) {
            let Some((seq, timestamp)) = self.first_held() else { return };
            self.give_up(now, seq, timestamp, out);
        }
    }

    fn first_held(&self) -> Option<(u64, u32)> {
        self.ring.iter().filter_map(|slot| slot.seq.map(|seq| (seq, slot.timestamp))).min()
    }

    /// Conceals from what is due to the packet `until`, or to one that waits before it, and goes on from there.
    fn give_up(&mut self, now: Time, until: u64, timestamp: u32, out: &mut Vec<Frame>) {
        let (to, timestamp) = self.first_held().filter(|(seq, _)| *seq < until).unwrap_or((until, timestamp));
        self.stats.lost += to - self.next;
        if let Some(due) = self.next_timestamp {
            let missing = timestamp.wrapping_sub(due);
            if missing <= TIMESTAMP_JUMP {
                let unfilled = (missing as usize).saturating_sub(self.filled).min(SILENCE_MAX);
                self.push_missing(now, unfilled, out);
                self.filled = self.filled.saturating_sub(missing as usize);
                self.next_timestamp = Some(timestamp);
            }
        }
        self.next = to;
        self.release_due(now, out);
    }

    fn release(&mut self, now: Time, at: usize, out: &mut Vec<Frame>) {
        let slot = &self.ring[at];
        if slot.len == 0 {
            self.is_paused = true;
            return;
        }
        let (timestamp, marker, len) = (slot.timestamp, slot.marker, slot.len);
        let mut audio = [ULAW_SILENCE; PACKET_SAMPLES_MAX];
        audio[..len].copy_from_slice(&slot.ulaw[..len]);
        if let Some(due) = self.next_timestamp {
            match timestamp.wrapping_sub(due) {
                0 => {}
                // Silence suppression: no packet is missing, but time is.
                gap if gap <= TIMESTAMP_JUMP || (marker && gap < 1 << 31) => {
                    let unfilled = (gap as usize).saturating_sub(self.filled).min(SILENCE_MAX);
                    self.concealed = CONCEAL_MAX;
                    self.push_missing(now, unfilled, out);
                }
                _ => self.stats.resyncs += 1,
            }
        }
        self.next_timestamp = Some(timestamp.wrapping_add(len as u32));
        (self.filled, self.concealed) = (0, 0);
        (self.is_paused, self.last_audio) = (false, now);
        self.concealer.heard(&mut audio[..len]);
        self.push(now, &audio[..len], out);
    }

    /// Fills a gap: concealment up to 60 ms since the last audio, then silence.
    fn push_missing(&mut self, now: Time, mut samples: usize, out: &mut Vec<Frame>) {
        while samples > 0 {
            let mut filler = [ULAW_SILENCE; FRAME_SAMPLES];
            let mut len = samples.min(FRAME_SAMPLES);
            if !self.is_paused && self.concealed < CONCEAL_MAX {
                len = len.min(CONCEAL_MAX - self.concealed);
                self.concealer.invent(&mut filler[..len]);
                self.concealed += len;
                self.stats.concealed += len as u64;
            } else {
                self.concealer.silence();
                self.stats.silence += len as u64;
            }
            self.push(now, &filler[..len], out);
            samples -= len;
        }
    }

    fn push(&mut self, now: Time, mut audio: &[u8], out: &mut Vec<Frame>) {
        while !audio.is_empty() {
            let take = audio.len().min(FRAME_SAMPLES - self.partial_len);
            self.partial[self.partial_len..self.partial_len + take].copy_from_slice(&audio[..take]);
            self.partial_len += take;
            audio = &audio[take..];
            if self.partial_len == FRAME_SAMPLES {
                self.partial_len = 0;
                self.emit(now, out);
            }
        }
    }

    /// Passes a frame on, or leaves it out to pay back what the clock had filled too early.
    fn emit(&mut self, now: Time, out: &mut Vec<Frame>) {
        let level = energy(&self.partial);
        self.noise = if level < self.noise { level } else { (self.noise + self.noise / 64 + 1).min(NOISE_MAX) };
        let lead = (self.emitted + FRAME_SAMPLES as u64).saturating_sub(self.elapsed(now));
        self.is_shedding = lead > if self.is_shedding { LEAD_SHED_TO } else { LEAD_MAX };
        let is_quiet = level <= self.noise * 2 + QUIET;
        if self.is_shedding || (lead > LEAD_EASY && is_quiet) {
            self.stats.shed += FRAME_SAMPLES as u64;
            return;
        }
        self.emitted += FRAME_SAMPLES as u64;
        out.push(self.partial);
    }

    /// Samples that should have been emitted by now.
    fn elapsed(&self, now: Time) -> u64 {
        let (since, samples) = self.base;
        samples + (now.0.saturating_sub(since.0)) / NANOS_PER_SAMPLE
    }
}

#[derive(Clone, Debug)]
struct Slot {
    seq: Option<u64>,
    timestamp: u32,
    arrived: Time,
    marker: bool,
    /// 0 for a packet without audio.
    len: usize,
    ulaw: [u8; PACKET_SAMPLES_MAX],
}

impl Slot {
    const EMPTY: Slot = Slot {
        seq: None,
        timestamp: 0,
        arrived: Time::ZERO,
        marker: false,
        len: 0,
        ulaw: [ULAW_SILENCE; PACKET_SAMPLES_MAX],
    };

    fn put(&mut self, seq: u64, now: Time, header: &Header, arrival: &Arrival<'_>) {
        self.seq = Some(seq);
        (self.timestamp, self.arrived, self.marker) = (header.timestamp, now, header.marker);
        self.len = match arrival {
            Arrival::Audio(codec, audio) => {
                transcode(*codec, Codec::Pcmu, audio, &mut self.ulaw);
                audio.len()
            }
            Arrival::Nothing => 0,
        };
    }
}

const NANOS_PER_SAMPLE: u64 = 1_000_000_000 / SAMPLE_RATE as u64;
const HOLD: Duration = Duration::from_millis(40);
const IDLE_FILL_AFTER: Duration = Duration::from_millis(100);
/// 60 ms.
const CONCEAL_MAX: usize = 480;
/// The longest ptime we take: 60 ms.
const PACKET_SAMPLES_MAX: usize = 480;
/// Packets by which the sequence may leap and still be the same stream.
const JUMP: i64 = 100;
/// 2 s: a longer leap of the timestamp is a new beginning.
const TIMESTAMP_JUMP: u32 = 2 * SAMPLE_RATE;
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
