//! Keys on the wire: RFC 4733 telephone-event, in and out, and the tones themselves where the other side has none.

use std::collections::VecDeque;
use std::time::Duration;

use smallvec::SmallVec;

use super::g711::encode_ulaw;
use crate::model::limits::DIGITS_MAX;
use crate::model::{Digit, FRAME_MS, FRAME_SAMPLES, Frame, SAMPLE_RATE, Time, ULAW_SILENCE};

/// The payload of a telephone-event packet (RFC 4733 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// Which event; 0 to 15 are keys.
    pub event: u8,
    /// The key was let go.
    pub end: bool,
    /// Power in −dBm0, 0 to 63.
    pub volume: u8,
    /// In samples, since the packet's timestamp.
    pub duration: u16,
}

impl TelephoneEvent {
    /// Reads a payload; further octets are ignored. `None` below four.
    pub fn parse(payload: &[u8]) -> Option<TelephoneEvent> {
        let bytes: &[u8; 4] = payload.first_chunk()?;
        Some(TelephoneEvent {
            event: bytes[0],
            end: bytes[1] & 0x80 != 0,
            volume: bytes[1] & 0x3F,
            duration: u16::from_be_bytes([bytes[2], bytes[3]]),
        })
    }

    /// The payload as it goes out.
    pub fn to_bytes(self) -> [u8; 4] {
        let [high, low] = self.duration.to_be_bytes();
        [self.event, (u8::from(self.end) << 7) | (self.volume & 0x3F), high, low]
    }
}

/// A key that was pressed and let go, and for how many milliseconds.
pub type Pressed = (Digit, u32);

/// Understands the events of one party. An event is known by its timestamp, so any one packet of it is enough, and
/// all others of it, in whatever order, add nothing.
#[derive(Debug)]
pub struct DtmfReceiver {
    /// Ticks of its clock in a second.
    clock: u32,
    active: Option<Active>,
    /// Timestamps that are over, newest last.
    over: VecDeque<u32>,
}

impl Default for DtmfReceiver {
    fn default() -> DtmfReceiver {
        DtmfReceiver { clock: SAMPLE_RATE, active: None, over: VecDeque::new() }
    }
}

impl DtmfReceiver {
    /// Says in which clock the party counts durations, in hertz.
    pub fn set_clock(&mut self, clock: u32) {
        self.clock = clock.max(1000);
    }

    /// Takes one packet. Returns keys that are over with it: its own, and one before whose end was lost.
    pub fn packet(&mut self, now: Time, timestamp: u32, event: TelephoneEvent) -> SmallVec<[Pressed; 2]> {
        let mut pressed = SmallVec::new();
        if self.over.contains(&timestamp) {
            return pressed;
        }
        let clock = self.clock;
        match &mut self.active {
            Some(active) if active.timestamp == timestamp => active.grow(now, event),
            Some(active) if active.is_before(timestamp) => {
                if active.goes_on_as(clock, timestamp, event) {
                    active.next_segment(now, timestamp, event);
                } else {
                    pressed.extend(self.finish());
                    self.active = Some(Active::new(now, timestamp, event));
                }
            }
            // Everything else of that event was lost, and the next key is already down.
            Some(_) => {
                self.remember(timestamp);
                pressed.extend(Active::new(now, timestamp, event).pressed(clock));
                return pressed;
            }
            None => self.active = Some(Active::new(now, timestamp, event)),
        }
        if event.end {
            pressed.extend(self.finish());
        }
        pressed
    }

    /// Ends an event of which nothing has come for 150 ms.
    pub fn tick(&mut self, now: Time) -> Option<Pressed> {
        let silent = self.active.as_ref().is_some_and(|active| now - active.last >= EVENT_SILENCE);
        if silent { self.finish() } else { None }
    }

    fn finish(&mut self) -> Option<Pressed> {
        let active = self.active.take()?;
        self.remember(active.timestamp);
        active.pressed(self.clock)
    }

    fn remember(&mut self, timestamp: u32) {
        if self.over.len() == REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back(timestamp);
    }
}

#[derive(Debug)]
struct Active {
    event: u8,
    timestamp: u32,
    duration: u16,
    /// Samples of earlier segments of the same event.
    before: u32,
    last: Time,
}

impl Active {
    fn new(now: Time, timestamp: u32, event: TelephoneEvent) -> Active {
        Active { event: event.event, timestamp, duration: event.duration, before: 0, last: now }
    }

    fn grow(&mut self, now: Time, event: TelephoneEvent) {
        self.last = now;
        self.duration = self.duration.max(event.duration);
    }

    fn is_before(&self, timestamp: u32) -> bool {
        timestamp.wrapping_sub(self.timestamp) < 1 << 31
    }

    /// RFC 4733 §2.5.1.3: an event longer than the duration field goes on in a segment with a new timestamp.
    fn goes_on_as(&self, clock: u32, timestamp: u32, event: TelephoneEvent) -> bool {
        let distance = timestamp.wrapping_sub(self.timestamp);
        self.event == event.event
            && self.duration >= SEGMENT_MIN
            && distance.abs_diff(self.duration.into()) <= clock / 1000 * SEGMENT_SLIP_MS
    }

    fn next_segment(&mut self, now: Time, timestamp: u32, event: TelephoneEvent) {
        self.before = self.before.saturating_add(timestamp.wrapping_sub(self.timestamp));
        (self.timestamp, self.duration, self.last) = (timestamp, event.duration, now);
    }

    fn pressed(&self, clock: u32) -> Option<Pressed> {
        let ticks = self.before.saturating_add(self.duration.into());
        Digit::from_event(self.event).map(|digit| (digit, ticks / (clock / 1000)))
    }
}

/// Presses keys: 100 ms each, 100 ms apart, the end sent three times on consecutive ticks.
#[derive(Debug, Default)]
pub struct DigitSender {
    queue: VecDeque<Digit>,
    key: Option<Key>,
}

impl DigitSender {
    /// Adds digits. Returns how many found no room ([`DIGITS_MAX`]).
    pub fn push(&mut self, digits: &[Digit]) -> usize {
        let room = DIGITS_MAX - self.queue.len().min(DIGITS_MAX);
        self.queue.extend(digits.iter().take(room));
        digits.len().saturating_sub(room)
    }

    /// Whether keys are down or wait; audio is paused as long.
    pub fn is_sending(&self) -> bool {
        self.key.is_some() || !self.queue.is_empty()
    }

    /// What goes out in this tick, whose audio would have this timestamp; durations are in a clock of so many hertz.
    /// Call while [`DigitSender::is_sending`].
    pub fn next(&mut self, timestamp: u32, clock: u32) -> Keyed {
        if self.key.is_none() {
            self.key = self.queue.pop_front().map(|digit| Key { digit, timestamp, tick: 0 });
        }
        let Some(key) = &mut self.key else { return Keyed::Pause };
        let tick = key.tick;
        key.tick += 1;
        let (digit, timestamp) = (key.digit, key.timestamp);
        if tick + 1 == ON_TICKS + GAP_TICKS {
            self.key = None;
        }
        if tick >= ON_TICKS - 1 + END_PACKETS {
            return Keyed::Pause;
        }
        let duration = ((tick + 1).min(ON_TICKS) * (clock / 1000 * FRAME_MS)) as u16;
        let event = TelephoneEvent { event: digit.event(), end: tick >= ON_TICKS - 1, volume: VOLUME, duration };
        Keyed::Event(EventPacket { marker: tick == 0, timestamp, event, tick })
    }
}

/// What a pressed key puts on the wire in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyed {
    /// A telephone-event packet.
    Event(EventPacket),
    /// Silence between keys.
    Pause,
}

/// One telephone-event packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventPacket {
    /// Only on the first packet of a key.
    pub marker: bool,
    /// When the key went down; the same in all packets of it.
    pub timestamp: u32,
    /// The payload.
    pub event: TelephoneEvent,
    tick: u32,
}

impl EventPacket {
    /// The same 20 ms as tones, for a peer without telephone-event. Returns whether there is any: an end that is
    /// repeated is silence.
    pub fn render(&self, frame: &mut Frame) -> bool {
        frame.fill(ULAW_SILENCE);
        let (Some(digit), true) = (Digit::from_event(self.event.event), self.tick < ON_TICKS) else { return false };
        let (low, high) = frequencies(digit);
        let from = self.tick as usize * FRAME_SAMPLES;
        for (at, code) in frame.iter_mut().enumerate() {
            let turn = (from + at) as f32 / SAMPLE_RATE as f32 * std::f32::consts::TAU;
            *code = encode_ulaw(((turn * low).sin() * LOW_PEAK + (turn * high).sin() * HIGH_PEAK) as i16);
        }
        true
    }
}

#[derive(Debug)]
struct Key {
    digit: Digit,
    timestamp: u32,
    tick: u32,
}

/// ITU-T Q.23: row and column of a key, in hertz.
fn frequencies(digit: Digit) -> (f32, f32) {
    const ROWS: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
    const COLUMNS: [f32; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
    let (row, column) = match digit.event() {
        0 => (3, 1),
        10 => (3, 0),
        11 => (3, 2),
        letter @ 12..=15 => (usize::from(letter) - 12, 3),
        key => (usize::from(key - 1) / 3, usize::from(key - 1) % 3),
    };
    (ROWS[row], COLUMNS[column])
}

const EVENT_SILENCE: Duration = Duration::from_millis(150);
/// Three end packets of as many keys could still be on their way.
const REMEMBERED: usize = 8;
/// Below this no sender has a reason to start a new segment.
const SEGMENT_MIN: u16 = 0xE000;
/// By how much two segments of one event may miss each other.
const SEGMENT_SLIP_MS: u32 = 120;
const ON_TICKS: u32 = 5;
const GAP_TICKS: u32 = 5;
const END_PACKETS: u32 = 3;
/// −10 dBm0.
const VOLUME: u8 = 10;
/// −9 dBm0 for the row and −7 dBm0 for the column, where 0 dBm0 is 3.17 dB below full scale (G.711 §5).
const LOW_PEAK: f32 = 32124.0 * 0.2463;
const HIGH_PEAK: f32 = 32124.0 * 0.3101;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_reported_once_when_it_is_let_go() {
        let mut receiver = DtmfReceiver::default();
        let mut pressed = Vec::new();

        for (at, packet) in packets('5', 4000).into_iter().enumerate() {
            pressed.extend(receiver.packet(Time::from_ms(20 * at as u64), packet.0, packet.1));
        }

        assert_eq!(pressed, [(digit('5'), 100)]);
        assert_eq!(receiver.tick(Time::from_ms(10_000)), None);
    }

    #[test]
    fn a_key_whose_end_is_lost_ends_after_150_ms_and_late_ends_add_nothing() {
        let mut receiver = DtmfReceiver::default();
        let packets = packets('#', 4000);
        receiver.packet(Time::from_ms(0), packets[2].0, packets[2].1);

        assert_eq!(receiver.tick(Time::from_ms(149)), None);
        assert_eq!(receiver.tick(Time::from_ms(150)), Some((digit('#'), 60)));
        assert!(receiver.packet(Time::from_ms(200), packets[6].0, packets[6].1).is_empty());
    }

    #[test]
    fn the_next_key_ends_the_one_before() {
        let mut receiver = DtmfReceiver::default();
        receiver.packet(Time::from_ms(0), 4000, packets('1', 4000)[1].1);

        let pressed = receiver.packet(Time::from_ms(40), 5600, packets('1', 5600)[0].1);

        assert_eq!(pressed.as_slice(), [(digit('1'), 40)]);
        assert_eq!(receiver.tick(Time::from_ms(190)), Some((digit('1'), 20)));
    }

    #[test]
    fn an_event_longer_than_its_duration_field_is_one_key() {
        let mut receiver = DtmfReceiver::default();
        let held = |duration, end| TelephoneEvent { event: 9, end, volume: 10, duration };
        receiver.packet(Time::from_ms(0), 1000, held(0xFFFF, false));

        let pressed = receiver.packet(Time::from_ms(20), 1000 + 0xFFFF, held(8000, true));

        assert_eq!(pressed.as_slice(), [(digit('9'), (0xFFFF + 8000) / 8)]);
    }

    #[test]
    fn events_that_are_no_keys_are_not_reported() {
        let mut receiver = DtmfReceiver::default();
        let flash = TelephoneEvent { event: 16, end: true, volume: 0, duration: 800 };
        assert!(receiver.packet(Time::ZERO, 1, flash).is_empty());
        assert_eq!(TelephoneEvent::parse(&[1, 2, 3]), None);
    }

    #[test]
    fn a_key_goes_out_with_marker_frozen_timestamp_and_three_ends() {
        let mut sender = DigitSender::default();
        sender.push(&[digit('7'), digit('*')]);

        let sent: Vec<Keyed> = (0..20).map(|tick| sender.next(8000 + tick * 160, 8000)).collect();

        assert!(!sender.is_sending());
        for (from, event) in [(0, 7), (10, 10)] {
            let of_key: Vec<EventPacket> = sent[from..from + 10].iter().filter_map(packet).collect();
            assert_eq!(of_key.iter().map(|sent| sent.marker).collect::<Vec<_>>(), marker_first(7));
            assert!(of_key.iter().all(|sent| sent.timestamp == 8000 + from as u32 * 160 && sent.event.event == event));
            let durations: Vec<u16> = of_key.iter().map(|sent| sent.event.duration).collect();
            assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
            assert_eq!(of_key.iter().filter(|sent| sent.event.end).count(), 3);
        }
    }

    #[test]
    fn tones_last_100_ms_and_have_the_two_frequencies_of_the_key() {
        let mut sender = DigitSender::default();
        sender.push(&[digit('6')]);
        let mut audio = Vec::new();
        for tick in 0..10 {
            let mut frame = [ULAW_SILENCE; FRAME_SAMPLES];
            if let Keyed::Event(packet) = sender.next(tick * 160, 8000) {
                packet.render(&mut frame);
            }
            audio.extend(frame);
        }

        let power = |hertz: f32| {
            let (mut real, mut imaginary) = (0.0, 0.0);
            for (at, code) in audio[..800].iter().enumerate() {
                let (turn, sample) =
                    (at as f32 / 8000.0 * std::f32::consts::TAU * hertz, super::super::decode_ulaw(*code));
                real += turn.cos() * f32::from(sample);
                imaginary += turn.sin() * f32::from(sample);
            }
            (real * real + imaginary * imaginary).sqrt() / 400.0
        };

        assert!((power(770.0) - LOW_PEAK).abs() < LOW_PEAK / 20.0, "{}", power(770.0));
        assert!((power(1477.0) - HIGH_PEAK).abs() < HIGH_PEAK / 20.0, "{}", power(1477.0));
        assert!(power(941.0) < 200.0);
        assert!(audio[800..].iter().all(|code| *code == ULAW_SILENCE));
    }

    proptest! {
        // Any order, any loss that leaves one packet of each key, any number of copies.
        #[test]
        fn each_key_is_reported_exactly_once(
            keep in proptest::collection::vec(proptest::collection::vec(0usize..7, 1..12), 1..6),
        ) {
            let mut receiver = DtmfReceiver::default();
            let mut pressed = Vec::new();
            for (key, kept) in keep.iter().enumerate() {
                let label = char::from(b'1' + key as u8);
                let packets = packets(label, 4000 + key as u32 * 1600);
                let start = key as u64 * 200;
                for (at, which) in kept.iter().enumerate() {
                    let now = Time::from_ms(start + at as u64 * 5);
                    pressed.extend(receiver.packet(now, packets[*which].0, packets[*which].1));
                    pressed.extend(receiver.tick(now));
                }
            }
            pressed.extend(receiver.tick(Time::from_ms(60_000)));

            let labels: Vec<char> = pressed.iter().map(|(digit, _)| digit.as_char()).collect();
            let expected: Vec<char> = (0..keep.len()).map(|key| char::from(b'1' + key as u8)).collect();
            prop_assert_eq!(labels, expected);
        }
    }

    fn digit(label: char) -> Digit {
        Digit::from_char(label).expect("is a key")
    }

    fn packets(label: char, timestamp: u32) -> Vec<(u32, TelephoneEvent)> {
        let mut sender = DigitSender::default();
        sender.push(&[digit(label)]);
        let sent: Vec<Keyed> = (0..10).map(|_| sender.next(timestamp, 8000)).collect();
        sent.iter().filter_map(packet).map(|sent| (sent.timestamp, sent.event)).collect()
    }

    fn packet(keyed: &Keyed) -> Option<EventPacket> {
        match keyed {
            Keyed::Event(packet) => Some(*packet),
            Keyed::Pause => None,
        }
    }

    fn marker_first(len: usize) -> Vec<bool> {
        (0..len).map(|at| at == 0).collect()
    }
}
