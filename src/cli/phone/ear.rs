//! What a telephone hears, measured. Pure: every packet comes with the moment it arrived.

use std::time::Duration;

use serde::Serialize;

use crate::media::{Header, decode_alaw, decode_ulaw};
use crate::model::limits::{PHONE_DIGITS_MAX, PHONE_RECORDING_MAX, PHONE_SPURTS_MAX};
use crate::model::{Codec, Digit, FRAME_MS, SAMPLE_RATE};

/// One call's ear. All times are milliseconds since the call was placed or came in.
#[derive(Clone, Debug, Default)]
pub struct Ear {
    first_packet_ms: Option<u64>,
    last_packet_ms: u64,
    longest_gap_ms: u64,
    packets: u64,
    stream: Option<Stream>,
    lost: u64,
    spurts: Vec<Spurt>,
    digits: Vec<Digit>,
    keys_down: Vec<u32>,
    recording: Vec<i16>,
    recording_from_ms: Option<u64>,
}

/// A stretch of sound, with no pause longer than one packet in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spurt {
    /// When its first packet came.
    pub from_ms: u64,
    /// When its last packet was over.
    pub to_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    first_seq: i64,
    highest_seq: i64,
    received: u64,
    /// Where in the recording this timestamp belongs.
    anchor: (u32, i64),
}

impl Ear {
    /// The recording begins now; what was heard before is not in it.
    pub fn record_from(&mut self, at_ms: u64) {
        self.recording_from_ms = Some(at_ms);
    }

    /// Takes a packet of audio.
    pub fn audio(&mut self, at_ms: u64, header: Header, codec: Codec, payload: &[u8]) {
        let samples: Vec<i16> = match codec {
            Codec::Pcmu => payload.iter().map(|code| decode_ulaw(*code)).collect(),
            Codec::Pcma => payload.iter().map(|code| decode_alaw(*code)).collect(),
            // The phone offers G.711 alone.
            Codec::G722 | Codec::Opus | Codec::L16Narrow | Codec::L16Wide => return,
        };
        self.arrive(at_ms, header);
        if rms(&samples) >= SOUND_RMS {
            self.sound(at_ms, samples.len() as u64 * 1000 / u64::from(SAMPLE_RATE));
        }
        self.write(at_ms, header, &samples);
    }

    /// Takes a packet of a telephone-event (RFC 4733 §2.3): all of one key have the same timestamp.
    pub fn event(&mut self, at_ms: u64, header: Header, payload: &[u8]) {
        self.arrive(at_ms, header);
        let Some(digit) = payload.first().and_then(|event| Digit::from_event(*event)) else { return };
        if self.keys_down.contains(&header.timestamp) || self.digits.len() >= PHONE_DIGITS_MAX {
            return;
        }
        self.keys_down.push(header.timestamp);
        self.digits.push(digit);
    }

    /// When the first packet came.
    pub fn first_packet_ms(&self) -> Option<u64> {
        self.first_packet_ms
    }

    /// When something louder than silence came for the first time.
    pub fn first_sound_ms(&self) -> Option<u64> {
        self.spurts.first().map(|spurt| spurt.from_ms)
    }

    /// When the last sound so far was over.
    pub fn last_sound_ms(&self) -> Option<u64> {
        self.spurts.last().map(|spurt| spurt.to_ms)
    }

    /// The stretches of sound, in order.
    pub fn spurts(&self) -> &[Spurt] {
        &self.spurts
    }

    /// Keys that the other side pressed.
    pub fn digits(&self) -> &[Digit] {
        &self.digits
    }

    /// Packets of any kind.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Sequence numbers that never came.
    pub fn lost(&self) -> u64 {
        self.lost + self.stream.map_or(0, |stream| stream.lost())
    }

    /// The longest time between two packets.
    pub fn longest_gap_ms(&self) -> u64 {
        self.longest_gap_ms
    }

    /// The longest time without sound between the first and the last sound; zero when there was none.
    pub fn longest_silence_ms(&self) -> u64 {
        longest_pause(&self.spurts)
    }

    /// The recording: 8 kHz, mono, packets where their timestamps put them.
    pub fn recording(&self) -> &[i16] {
        &self.recording
    }

    fn arrive(&mut self, at_ms: u64, header: Header) {
        if self.first_packet_ms.is_some() {
            self.longest_gap_ms = self.longest_gap_ms.max(at_ms.saturating_sub(self.last_packet_ms));
        } else {
            self.first_packet_ms = Some(at_ms);
        }
        self.last_packet_ms = at_ms;
        self.packets += 1;
        let begin = self.sample_at(at_ms);
        match &mut self.stream {
            Some(stream) if stream.ssrc == header.ssrc => stream.count(header.seq),
            other => {
                self.lost += other.map_or(0, |stream| stream.lost());
                *other = Some(Stream::new(header, begin));
            }
        }
    }

    fn sound(&mut self, at_ms: u64, len_ms: u64) {
        let to_ms = at_ms + len_ms;
        let is_full = self.spurts.len() >= PHONE_SPURTS_MAX;
        match self.spurts.last_mut() {
            Some(last) if at_ms <= last.to_ms + u64::from(FRAME_MS) || is_full => last.to_ms = last.to_ms.max(to_ms),
            _ => self.spurts.push(Spurt { from_ms: at_ms, to_ms }),
        }
    }

    fn sample_at(&self, at_ms: u64) -> i64 {
        let since = at_ms as i64 - self.recording_from_ms.unwrap_or(at_ms) as i64;
        since * i64::from(SAMPLE_RATE / 1000)
    }

    fn write(&mut self, at_ms: u64, header: Header, samples: &[i16]) {
        if self.recording_from_ms.is_none() {
            return;
        }
        let by_clock = self.sample_at(at_ms);
        let Some(stream) = &mut self.stream else { return };
        let (timestamp, position) = stream.anchor;
        let mut position = position + i64::from(header.timestamp.wrapping_sub(timestamp) as i32);
        if (position - by_clock).abs() > RESYNC_SAMPLES {
            // The sender's clock jumped, as when it changes its source; from here on we count anew.
            stream.anchor = (header.timestamp, by_clock);
            position = by_clock;
        }
        for (at, sample) in (position..).zip(samples) {
            let Ok(at) = usize::try_from(at) else { continue };
            if at >= RECORDING_SAMPLES_MAX {
                return;
            }
            if self.recording.len() <= at {
                self.recording.resize(at + 1, 0);
            }
            self.recording[at] = *sample;
        }
    }
}

impl Stream {
    fn new(header: Header, begin: i64) -> Stream {
        let seq = i64::from(header.seq);
        Stream { ssrc: header.ssrc, first_seq: seq, highest_seq: seq, received: 1, anchor: (header.timestamp, begin) }
    }

    fn count(&mut self, seq: u16) {
        // The distance to the highest so far, taken the short way around.
        let ahead = i64::from(seq.wrapping_sub(self.highest_seq as u16) as i16);
        self.highest_seq = self.highest_seq.max(self.highest_seq + ahead);
        self.received += 1;
    }

    /// RFC 3550 §A.3: expected less received; duplicates can make it negative, which counts as none.
    fn lost(&self) -> u64 {
        let expected = self.highest_seq - self.first_seq + 1;
        u64::try_from(expected - self.received as i64).unwrap_or(0)
    }
}

/// The longest pause between neighbours.
fn longest_pause(spurts: &[Spurt]) -> u64 {
    let pauses = spurts.windows(2).map(|pair| pair[1].from_ms.saturating_sub(pair[0].to_ms));
    pauses.max().unwrap_or(0)
}

/// The longest pause of `spurts` that lies in a window, whose ends count as sound.
pub(super) fn longest_silence_within(spurts: &[Spurt], from_ms: u64, to_ms: u64) -> u64 {
    let (mut quiet_from, mut longest) = (from_ms, 0);
    for spurt in spurts.iter().filter(|spurt| spurt.to_ms > from_ms && spurt.from_ms < to_ms) {
        longest = longest.max(spurt.from_ms.saturating_sub(quiet_from));
        quiet_from = quiet_from.max(spurt.to_ms);
    }
    longest.max(to_ms.saturating_sub(quiet_from))
}

fn rms(samples: &[i16]) -> u32 {
    let sum: u64 = samples.iter().map(|sample| u64::from(sample.unsigned_abs()).pow(2)).sum();
    ((sum / samples.len().max(1) as u64) as f64).sqrt() as u32
}

/// About −50 dB of full scale: below any speech, above the idle noise of G.711.
const SOUND_RMS: u32 = 100;
/// A second off: not jitter any more.
const RESYNC_SAMPLES: i64 = SAMPLE_RATE as i64;
const RECORDING_SAMPLES_MAX: usize = samples_in(PHONE_RECORDING_MAX);

const fn samples_in(time: Duration) -> usize {
    time.as_secs() as usize * SAMPLE_RATE as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::encode_ulaw;

    #[test]
    fn sound_silence_and_gaps_are_told_apart() {
        let mut ear = Ear::default();
        // 100 ms of silence, 200 ms of sound, 300 ms of silence, nothing at all for 200 ms, 100 ms of sound.
        let plan = [(0, 5, 0), (100, 10, 8000), (300, 15, 0), (800, 5, 8000)];
        let mut seq = 0;
        for (start, packets, level) in plan {
            for at in 0..packets {
                ear.audio(start + at * 20, header(seq), Codec::Pcmu, &[encode_ulaw(level); 160]);
                seq += 1;
            }
        }

        assert_eq!(ear.first_packet_ms(), Some(0));
        assert_eq!(ear.first_sound_ms(), Some(100));
        assert_eq!(ear.last_sound_ms(), Some(900));
        assert_eq!(ear.longest_silence_ms(), 500);
        assert_eq!(ear.longest_gap_ms(), 220);
        assert_eq!(longest_silence_within(ear.spurts(), 0, 600), 300);
        assert_eq!(longest_silence_within(ear.spurts(), 350, 350), 0);
    }

    #[test]
    fn packets_that_never_came_are_counted_over_the_wrap_and_the_order() {
        let mut ear = Ear::default();
        for seq in [65_533, 65_535, 65_534, 1, 2, 2] {
            ear.audio(0, header(seq), Codec::Pcmu, &[0xFF; 160]);
        }

        // 65533…2 are six numbers, of which 0 never came; the copy of 2 hides it, as RFC 3550 has it.
        assert_eq!(ear.lost(), 0);
        ear.audio(0, header(5), Codec::Pcmu, &[0xFF; 160]);
        assert_eq!(ear.lost(), 2);
    }

    #[test]
    fn a_key_counts_once_however_often_its_packets_come() {
        let mut ear = Ear::default();
        for (timestamp, event) in [(800, 1), (800, 1), (800, 1), (2400, 1), (2400, 1), (4000, 11)] {
            let header = Header { timestamp, ..header(1) };
            ear.event(0, header, &[event, 0x8A, 3, 0x20]);
        }

        let keys: String = ear.digits().iter().map(|digit| digit.as_char()).collect();
        assert_eq!(keys, "11#");
    }

    #[test]
    fn the_recording_puts_late_packets_where_they_belong() {
        let mut ear = Ear::default();
        ear.record_from(1_000);
        ear.audio(1_000, header(0), Codec::Pcmu, &[encode_ulaw(1000); 160]);
        ear.audio(1_055, header(2), Codec::Pcmu, &[encode_ulaw(3000); 160]);
        ear.audio(1_056, header(1), Codec::Pcmu, &[encode_ulaw(2000); 160]);

        let recording = ear.recording();

        assert_eq!(recording.len(), 480);
        assert!(recording[0] < recording[160] && recording[160] < recording[320]);
    }

    fn header(seq: u16) -> Header {
        Header { marker: false, payload_type: 0, seq, timestamp: u32::from(seq) * 160, ssrc: 7 }
    }
}
