//! What goes out to one party: one SSRC, one sequence, timestamps on a 20 ms grid; and packets of another party passed
//! through into it without a buffer (`voice.md` §2.1, mode P).

use std::time::Duration;

use super::rtp::Header;
use crate::model::{FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Time};

/// The outgoing stream of a leg.
#[derive(Debug)]
pub(super) struct Stream {
    ssrc: u32,
    /// The next sequence number.
    seq: u16,
    /// Ticks of the codec's clock in a unit of ⅛ ms.
    per_unit: u32,
    /// The timestamp of the first tick.
    base: u32,
    /// When that was.
    first: Option<Time>,
    /// The timestamp after the last audio sent.
    end: u32,
    /// When something was last sent.
    sent: Option<Time>,
    /// What was sent last was silence.
    is_silent: bool,
    /// Packets that were made here and not passed through.
    own: u64,
    packets: u64,
}

impl Stream {
    /// A stream with SSRC, first sequence number and first timestamp from a random seed (RFC 3550 §5.1).
    pub(super) fn new(seed: u64) -> Stream {
        let mixed = mix(seed);
        Stream {
            ssrc: (seed >> 32) as u32 ^ seed as u32,
            // Below half, so that a receiver that guesses does not see a wrap at once (RFC 3711 §3.3.1).
            seq: (mixed >> 48) as u16 & 0x7FFF,
            per_unit: 1,
            base: mixed as u32,
            first: None,
            end: mixed as u32,
            sent: None,
            is_silent: true,
            own: 0,
            packets: 0,
        }
    }

    pub(super) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(super) fn packets(&self) -> u64 {
        self.packets
    }

    /// Ticks of the codec's clock in a unit of ⅛ ms.
    pub(super) fn per_unit(&self) -> u32 {
        self.per_unit
    }

    /// Says how fast the codec's clock goes, in hertz. When it changes, the grid begins anew behind what was sent: the
    /// timestamps never go back.
    pub(super) fn set_clock(&mut self, clock: u32) {
        let per_unit = clock / SAMPLE_RATE;
        if self.per_unit != per_unit {
            self.per_unit = per_unit;
            (self.base, self.first) = (self.end, None);
        }
    }

    /// The timestamp of the tick that runs.
    pub(super) fn grid(&self, now: Time) -> u32 {
        let Some(first) = self.first else { return self.base };
        let ticks = (now - first).as_millis() / u128::from(FRAME_MS);
        self.base.wrapping_add((ticks as u32).wrapping_mul(self.frame()))
    }

    /// Where a timestamp stands against the tick that runs, in units of ⅛ ms.
    pub(super) fn offset(&self, now: Time, timestamp: u32) -> i32 {
        timestamp.wrapping_sub(self.grid(now)) as i32 / self.per_unit as i32
    }

    /// Ticks of the codec's clock in 20 ms.
    fn frame(&self) -> u32 {
        FRAME_SAMPLES as u32 * self.per_unit
    }

    /// The timestamp for 20 ms of audio in this tick. `None` when packets passed through already cover it.
    pub(super) fn slot(&mut self, now: Time) -> Option<u32> {
        self.first.get_or_insert(now);
        let grid = self.grid(now);
        match self.end.wrapping_sub(grid) as i32 {
            ..=0 => Some(grid),
            ahead if ahead < self.frame() as i32 => Some(self.end),
            _ => None,
        }
    }

    /// The header of a packet of 20 ms made here.
    pub(super) fn own(&mut self, now: Time, payload_type: u8, timestamp: u32, is_voice: bool) -> Header {
        self.own_of(now, payload_type, timestamp, is_voice, FRAME_SAMPLES)
    }

    /// The header of a packet of so many units made here.
    pub(super) fn own_of(
        &mut self,
        now: Time,
        payload_type: u8,
        timestamp: u32,
        is_voice: bool,
        units: usize,
    ) -> Header {
        let header =
            Header { marker: is_voice && self.is_silent, payload_type, seq: self.seq, timestamp, ssrc: self.ssrc };
        self.seq = self.seq.wrapping_add(1);
        self.advance(timestamp, units as u32 * self.per_unit);
        self.is_silent = !is_voice;
        self.own += 1;
        self.packets += 1;
        self.sent = Some(now);
        header
    }

    /// The header of a telephone-event packet made here, in a tick whose audio would have the timestamp `slot`.
    pub(super) fn event(&mut self, now: Time, payload_type: u8, slot: u32, timestamp: u32, marker: bool) -> Header {
        let header = self.own(now, payload_type, slot, false);
        Header { timestamp, marker, ..header }
    }

    /// Nothing goes out in this tick because there is nothing to hear: what comes next begins a talk spurt.
    pub(super) fn rest(&mut self) {
        self.is_silent = true;
    }

    /// How long nothing has been sent.
    fn quiet_for(&self, now: Time) -> Duration {
        self.sent.map_or(Duration::MAX, |sent| now - sent)
    }

    fn advance(&mut self, timestamp: u32, ticks: u32) {
        let end = timestamp.wrapping_add(ticks);
        if (end.wrapping_sub(self.end) as i32) > 0 || self.packets == 0 {
            self.end = end;
        }
    }
}

/// How the packets of another party fit into a stream. Order, gaps and timing of the other party stay as they are, so
/// that the far end's own buffer sees the network as it is.
#[derive(Debug)]
pub(super) struct Bridge {
    anchor: Option<Anchor>,
    /// The silence is being filled from the grid.
    is_filling: bool,
}

impl Bridge {
    /// A bridge that fills until the first packet.
    pub(super) fn new() -> Bridge {
        Bridge { anchor: None, is_filling: true }
    }

    /// Whether this tick has to be filled: nothing was sent for 60 ms, and nothing came since.
    pub(super) fn is_dry(&mut self, now: Time, stream: &Stream) -> bool {
        self.is_filling |= stream.quiet_for(now) >= FILL_AFTER;
        self.is_filling
    }

    /// The header under which audio of another party, in the same codec, goes out: so many units of it. `None` for what
    /// comes twice, or too late.
    pub(super) fn audio(
        &mut self,
        now: Time,
        stream: &mut Stream,
        header: &Header,
        payload_type: u8,
        units: u32,
    ) -> Option<Header> {
        let far = FAR * stream.per_unit;
        let at = stream.grid(now);
        let anchor = self.anchor_for(stream, header, at);
        let mut timestamp = header.timestamp.wrapping_add(anchor.timestamp_offset);
        let is_far = (timestamp.wrapping_sub(at) as i32).unsigned_abs() > far;
        let is_behind = (timestamp.wrapping_sub(anchor.floor) as i32) < 0;
        if is_far || (is_behind && anchor.behind_since.is_some_and(|since| now - since >= BEHIND_MAX)) {
            timestamp = after(stream.end, at);
            anchor.timestamp_offset = timestamp.wrapping_sub(header.timestamp);
            anchor.floor = timestamp;
        } else if is_behind {
            anchor.behind_since.get_or_insert(now);
            return None;
        }
        anchor.behind_since = None;
        let seq = anchor.seq(stream, header.seq)?;
        let marker = header.marker || stream.is_silent;
        stream.advance(timestamp, units * stream.per_unit);
        self.sent(now, stream, false);
        Some(Header { marker, payload_type, seq, timestamp, ssrc: stream.ssrc })
    }

    /// The header under which a telephone-event of another party goes out. Between two clocks only its own beginning
    /// tells where it belongs.
    pub(super) fn event(
        &mut self,
        now: Time,
        stream: &mut Stream,
        header: &Header,
        payload_type: u8,
        duration: u16,
        is_same_clock: bool,
    ) -> Option<Header> {
        let at = stream.grid(now);
        let far = FAR * stream.per_unit;
        let anchor = self.anchor_for(stream, header, at);
        let timestamp = match anchor.event {
            Some((theirs, ours)) if theirs == header.timestamp => ours,
            // Of the key before: its end has been sent, or it never will be.
            Some((theirs, _)) if (header.timestamp.wrapping_sub(theirs) as i32) < 0 => return None,
            _ => {
                let mapped = header.timestamp.wrapping_add(anchor.timestamp_offset);
                let is_far = (mapped.wrapping_sub(at) as i32).unsigned_abs() > far || !is_same_clock;
                let ours = if is_far { after(stream.end, at) } else { after(stream.end, mapped) };
                anchor.event = Some((header.timestamp, ours));
                ours
            }
        };
        let seq = anchor.seq(stream, header.seq)?;
        stream.advance(timestamp, duration.into());
        self.sent(now, stream, true);
        Some(Header { marker: header.marker, payload_type, seq, timestamp, ssrc: stream.ssrc })
    }

    fn anchor_for(&mut self, stream: &Stream, header: &Header, at: u32) -> &mut Anchor {
        if self.anchor.as_ref().is_none_or(|anchor| anchor.ssrc != header.ssrc) {
            let begin = after(stream.end, at);
            self.anchor = Some(Anchor {
                ssrc: header.ssrc,
                timestamp_offset: begin.wrapping_sub(header.timestamp),
                floor: begin,
                behind_since: None,
                seq_offset: stream.seq.wrapping_sub(header.seq),
                seq_floor: stream.seq,
                window: 0,
                own: stream.own,
                event: None,
            });
        }
        let anchor = self.anchor.as_mut().expect("there is an anchor because it was just made");
        if anchor.own != stream.own {
            // The grid filled in between: its sequence numbers and its time are taken.
            anchor.own = stream.own;
            anchor.floor = after(anchor.floor, stream.end);
            anchor.seq_offset = stream.seq.wrapping_sub(header.seq);
            anchor.seq_floor = stream.seq;
            anchor.window = 0;
        }
        anchor
    }

    fn sent(&mut self, now: Time, stream: &mut Stream, is_silent: bool) {
        self.is_filling = false;
        stream.is_silent = is_silent;
        stream.packets += 1;
        stream.sent = Some(now);
    }
}

#[derive(Debug)]
struct Anchor {
    ssrc: u32,
    timestamp_offset: u32,
    /// Timestamps before it are covered.
    floor: u32,
    /// Packets have been before it since.
    behind_since: Option<Time>,
    seq_offset: u16,
    seq_floor: u16,
    /// Which of the 64 sequence numbers before the stream's next one went out.
    window: u64,
    /// `Stream::own` when the offsets were taken.
    own: u64,
    /// The key that is down: the timestamp of its event, theirs and ours.
    event: Option<(u32, u32)>,
}

impl Anchor {
    fn seq(&mut self, stream: &mut Stream, theirs: u16) -> Option<u16> {
        let mut seq = theirs.wrapping_add(self.seq_offset);
        let mut ahead = seq.wrapping_sub(stream.seq) as i16;
        if ahead.unsigned_abs() > SEQ_JUMP {
            (seq, ahead) = (stream.seq, 0);
            self.seq_offset = seq.wrapping_sub(theirs);
            (self.seq_floor, self.window) = (seq, 0);
        }
        if ahead >= 0 {
            let by = u32::from(ahead as u16) + 1;
            self.window = self.window.checked_shl(by).unwrap_or(0) | 1;
            stream.seq = seq.wrapping_add(1);
            return Some(seq);
        }
        let bit = 1u64.checked_shl(u32::from(ahead.unsigned_abs()) - 1)?;
        if (seq.wrapping_sub(self.seq_floor) as i16) < 0 || self.window & bit != 0 {
            return None;
        }
        self.window |= bit;
        Some(seq)
    }
}

/// The later of two timestamps.
fn after(one: u32, other: u32) -> u32 {
    if (one.wrapping_sub(other) as i32) > 0 { one } else { other }
}

/// SplitMix64: spreads one seed over the fields.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

const FILL_AFTER: Duration = Duration::from_millis(60);
/// Packets that stay behind what was filled for so long are not a burst: the path has become slower.
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// 1 s, in units, between a packet's place and the clock: the other party's timestamps have jumped.
const FAR: u32 = 8000;
const SEQ_JUMP: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_keeps_time_also_over_missed_ticks() {
        let mut stream = Stream::new(7);
        let base = stream.slot(ms(0)).expect("free");
        stream.own(ms(0), 0, base, true);

        let next = stream.slot(ms(60)).expect("free");

        assert_eq!(next.wrapping_sub(base), 480);
    }

    #[test]
    fn packets_passed_through_continue_the_stream_and_the_grid_continues_them() {
        let mut stream = Stream::new(7);
        let mut bridge = Bridge::new();
        let slot = stream.slot(ms(0)).expect("free");
        let own = stream.own(ms(0), 0, slot, true);

        let first = bridge.audio(ms(7), &mut stream, &theirs(900, 5000), 0, 160).expect("goes out");
        let second = bridge.audio(ms(27), &mut stream, &theirs(901, 5160), 0, 160).expect("goes out");

        assert_eq!((first.ssrc, first.seq, first.timestamp), (own.ssrc, own.seq + 1, own.timestamp.wrapping_add(160)));
        assert_eq!((second.seq, second.timestamp), (own.seq + 2, own.timestamp.wrapping_add(320)));
        // The tick at 40 ms is covered by the packet of 27 ms; the one at 60 ms is free again.
        assert_eq!(stream.slot(ms(40)), None);
        assert_eq!(stream.slot(ms(60)), Some(own.timestamp.wrapping_add(480)));
    }

    #[test]
    fn order_and_gaps_of_the_other_party_are_kept_and_copies_are_not() {
        let (mut stream, mut bridge) = (Stream::new(1), Bridge::new());
        stream.slot(ms(0));
        let mut forward = |seq: u16| {
            let header = theirs(seq, u32::from(seq) * 160);
            bridge.audio(ms(u64::from(seq) * 20), &mut stream, &header, 0, 160).map(|out| out.seq)
        };

        let first = forward(10).expect("goes out");
        let rest: Vec<Option<u16>> = [12, 11, 11, 12, 15, 9].map(|seq| forward(seq).map(|seq| seq - first)).into();

        assert_eq!(rest, [Some(2), Some(1), None, None, Some(5), None]);
    }

    #[test]
    fn a_burst_after_a_filled_pause_does_not_play_the_pause_again() {
        let (mut stream, mut bridge) = (Stream::new(1), Bridge::new());
        stream.slot(ms(0));
        bridge.audio(ms(5), &mut stream, &theirs(0, 0), 0, 160).expect("goes out");
        let mut filled = 0;
        for tick in 1..=10 {
            if bridge.is_dry(ms(tick * 20), &stream) {
                let slot = stream.slot(ms(tick * 20)).expect("free");
                stream.own(ms(tick * 20), 0, slot, false);
                filled += 1;
            }
        }
        assert_eq!(filled, 7, "from 80 ms on");

        let burst: Vec<bool> = (1u16..=11)
            .map(|seq| bridge.audio(ms(205), &mut stream, &theirs(seq, u32::from(seq) * 160), 0, 160).is_some())
            .collect();

        assert_eq!(burst.iter().filter(|out| **out).count(), 1, "{burst:?}");
        assert!(burst[10]);
    }

    #[test]
    fn a_path_that_became_slower_is_followed() {
        let (mut stream, mut bridge) = (Stream::new(1), Bridge::new());
        stream.slot(ms(0));
        let mut out = 0;
        for seq in 0u16..100 {
            let delay = if seq < 10 { 5 } else { 305 };
            let now = u64::from(seq) * 20 + delay;
            for tick in (now.saturating_sub(300) / 20 + 1)..=now / 20 {
                if bridge.is_dry(ms(tick * 20), &stream)
                    && let Some(slot) = stream.slot(ms(tick * 20))
                {
                    stream.own(ms(tick * 20), 0, slot, false);
                }
            }
            out += u32::from(bridge.audio(ms(now), &mut stream, &theirs(seq, u32::from(seq) * 160), 0, 160).is_some());
        }
        assert!(out > 75, "{out}");
    }

    fn theirs(seq: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 0, seq, timestamp, ssrc: 99 }
    }

    fn ms(ms: u64) -> Time {
        Time::from_ms(ms)
    }
}
