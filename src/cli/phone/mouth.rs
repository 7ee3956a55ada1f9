//! What a telephone sends: a clip, then silence, and keys between. Pure: asked once in 20 ms.

use std::collections::VecDeque;

use crate::media::{Clip, HEADER_LEN, Header, ulaw_to_alaw};
use crate::model::limits::PHONE_DIGITS_MAX;
use crate::model::{Codec, Digit, FRAME_SAMPLES};

/// The sending side of one call.
#[derive(Clone, Debug)]
pub struct Mouth {
    codec: Codec,
    payload_type: u8,
    dtmf: Option<u8>,
    seq: u16,
    timestamp: u32,
    ssrc: u32,
    started: bool,
    clip: Option<Clip>,
    said: usize,
    keys: VecDeque<Digit>,
    pressing: Option<Pressing>,
}

/// A key that is down, or has just been let go.
#[derive(Clone, Copy, Debug)]
struct Pressing {
    event: u8,
    timestamp: u32,
    ticks: u16,
}

impl Mouth {
    /// A mouth for what was agreed. The seed chooses where numbers begin (RFC 3550 §5.1 wants them unpredictable).
    pub fn new(codec: Codec, payload_type: u8, dtmf: Option<u8>, seed: u64) -> Mouth {
        Mouth {
            codec,
            payload_type,
            dtmf,
            seq: seed as u16,
            timestamp: (seed >> 16) as u32,
            ssrc: (seed >> 32) as u32 ^ seed as u32,
            started: false,
            clip: None,
            said: 0,
            keys: VecDeque::new(),
            pressing: None,
        }
    }

    /// Says a clip from its beginning, instead of one that is being said.
    pub fn say(&mut self, clip: Clip) {
        self.clip = Some(clip);
        self.said = 0;
    }

    /// Presses keys, one after the other. `false` when the other side takes none, or too many wait already.
    pub fn press(&mut self, keys: &[Digit]) -> bool {
        if self.dtmf.is_none() || self.keys.len() + keys.len() > PHONE_DIGITS_MAX {
            return false;
        }
        self.keys.extend(keys);
        true
    }

    /// The next packet, for the next 20 ms.
    pub fn packet(&mut self) -> Vec<u8> {
        if let Some((payload_type, payload, timestamp, marker)) = self.key() {
            let packet = self.pack(payload_type, timestamp, marker, &payload);
            self.timestamp = self.timestamp.wrapping_add(FRAME_SAMPLES as u32);
            return packet;
        }
        let mut frame = [ULAW_SILENCE; FRAME_SAMPLES];
        if let Some(clip) = &self.clip {
            let rest = clip.get(self.said..).unwrap_or_default();
            let len = rest.len().min(FRAME_SAMPLES);
            frame[..len].copy_from_slice(&rest[..len]);
            self.said += len;
        }
        if self.codec == Codec::Pcma {
            frame.iter_mut().for_each(|code| *code = ulaw_to_alaw(*code));
        }
        let packet = self.pack(self.payload_type, self.timestamp, !self.started, &frame);
        self.started = true;
        self.timestamp = self.timestamp.wrapping_add(FRAME_SAMPLES as u32);
        packet
    }

    /// The event packet of this tick. A key is down for five ticks, its end is sent three times (RFC 4733 §2.5.1.4),
    /// and five ticks of audio follow, so that two equal keys are two.
    fn key(&mut self) -> Option<(u8, [u8; 4], u32, bool)> {
        let dtmf = self.dtmf?;
        if self.pressing.is_none() {
            let digit = self.keys.pop_front()?;
            self.pressing = Some(Pressing { event: digit.event(), timestamp: self.timestamp, ticks: 0 });
        }
        let pressing = self.pressing.as_mut()?;
        pressing.ticks += 1;
        let (ticks, timestamp, event) = (pressing.ticks, pressing.timestamp, pressing.event);
        if ticks > DOWN_TICKS + END_TICKS {
            if ticks >= DOWN_TICKS + END_TICKS + PAUSE_TICKS {
                self.pressing = None;
            }
            return None;
        }
        let duration = ticks.min(DOWN_TICKS) * FRAME_SAMPLES as u16;
        let end = if ticks > DOWN_TICKS { 0x80 } else { 0 };
        let [high, low] = duration.to_be_bytes();
        Some((dtmf, [event, end | VOLUME, high, low], timestamp, ticks == 1))
    }

    fn pack(&mut self, payload_type: u8, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
        let header = Header { marker, payload_type, seq: self.seq, timestamp, ssrc: self.ssrc };
        self.seq = self.seq.wrapping_add(1);
        let mut packet = Vec::with_capacity(HEADER_LEN + payload.len());
        packet.extend_from_slice(&header.to_bytes());
        packet.extend_from_slice(payload);
        packet
    }
}

const ULAW_SILENCE: u8 = 0xFF;
const DOWN_TICKS: u16 = 5;
const END_TICKS: u16 = 3;
const PAUSE_TICKS: u16 = 5;
/// −10 dBm0, as telephones send.
const VOLUME: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_followed_by_silence_without_a_hole() {
        let mut mouth = Mouth::new(Codec::Pcmu, 0, Some(101), 9);
        mouth.say(Clip::from(vec![1u8; 200]));

        let packets: Vec<Vec<u8>> = (0..3).map(|_| mouth.packet()).collect();
        let parsed: Vec<(Header, &[u8])> =
            packets.iter().map(|packet| Header::parse(packet).expect("is RTP")).collect();

        assert!(parsed[0].0.marker && !parsed[1].0.marker);
        assert!(parsed[0].1.iter().all(|code| *code == 1));
        assert_eq!((parsed[1].1[39], parsed[1].1[40]), (1, ULAW_SILENCE));
        assert_eq!(parsed[2].0.timestamp.wrapping_sub(parsed[0].0.timestamp), 320);
        assert_eq!(parsed[2].0.seq.wrapping_sub(parsed[0].0.seq), 2);
    }

    #[test]
    fn equal_keys_are_two_events_with_their_ends_three_times() {
        let mut mouth = Mouth::new(Codec::Pcma, 8, Some(101), 9);
        let one = Digit::from_char('1').expect("is a key");
        assert!(mouth.press(&[one, one]));

        let packets: Vec<Vec<u8>> = (0..26).map(|_| mouth.packet()).collect();
        let mut seen = std::collections::BTreeMap::new();
        for packet in &packets {
            let (header, payload) = Header::parse(packet).expect("is RTP");
            if header.payload_type == 101 {
                assert_eq!(payload[0], 1);
                let ends: &mut u32 = seen.entry(header.timestamp).or_default();
                *ends += u32::from(payload[1] >> 7);
            }
        }

        assert_eq!(seen.values().copied().collect::<Vec<_>>(), [3, 3]);
    }

    #[test]
    fn nobody_presses_keys_that_were_not_agreed() {
        let mut mouth = Mouth::new(Codec::Pcmu, 0, None, 9);

        assert!(!mouth.press(&[Digit::from_char('1').expect("is a key")]));
    }
}
