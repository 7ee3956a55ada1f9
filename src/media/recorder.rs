//! The timeline of a recording: two channels, one sample clock.
//!
//! The clock is the worker's tick. What is sent stands where its RTP timestamp puts it, what is received where it
//! arrived, continued sample by sample. The last 200 ms stay open, so that audio which was late on the network still
//! gets its own place; then they leave as pairs of frames, one per tick.

use std::time::Duration;

use smallvec::SmallVec;

use crate::model::{FRAME_SAMPLES, Frame, SAMPLE_RATE, Time, ULAW_SILENCE};

/// 20 ms of both channels, µ-law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What the recorded leg said.
    pub left: Frame,
    /// What it heard.
    pub right: Frame,
}

/// Two channels being put together.
#[derive(Debug)]
pub struct Timeline {
    start: Time,
    left: Track,
    right: Track,
    /// Where the next received frame belongs.
    left_next: Option<i64>,
    /// Samples handed out.
    written: i64,
    /// What must not be heard, as far as it was not handed out yet; oldest first.
    masks: SmallVec<[Mask; 2]>,
}

/// From the first sample to the one before the end; without an end it goes on.
#[derive(Clone, Copy, Debug)]
struct Mask {
    from: i64,
    to: Option<i64>,
}

impl Timeline {
    /// A recording that begins at a tick.
    pub fn new(start: Time) -> Timeline {
        Timeline { start, left: Track::new(), right: Track::new(), left_next: None, written: 0, masks: SmallVec::new() }
    }

    /// Nothing that was said or heard from this moment on gets into the recording; both channels go on as silence. The
    /// moment may lie [`MASK_BACK_MAX`] in the past.
    pub fn mask(&mut self, from: Time) {
        if self.masks.last().is_none_or(|mask| mask.to.is_some()) {
            self.masks.push(Mask { from: self.exact(from), to: None });
        }
    }

    /// From this moment on it is recorded again.
    pub fn unmask(&mut self, to: Time) {
        let to = self.exact(to);
        if let Some(mask) = self.masks.last_mut().filter(|mask| mask.to.is_none()) {
            mask.to = Some(to.max(mask.from));
        }
        if self.masks.len() > MASKS_MAX {
            // Somebody turns it on and off many times within the 200 ms: the pauses between go, and no secret comes out.
            let from = self.masks[0].from;
            self.masks.remove(0);
            self.masks[0].from = from;
        }
    }

    /// Whether nothing is recorded now.
    pub fn is_masked(&self) -> bool {
        self.masks.last().is_some_and(|mask| mask.to.is_none())
    }

    /// Places a frame that was received just now.
    pub fn received(&mut self, now: Time, frame: &Frame) {
        let here = self.exact(now);
        let mut at = self.left_next.unwrap_or(here);
        if at > here + AHEAD_MAX {
            // The clock had filled this time already; what is said twice as fast cannot be kept.
            return;
        }
        if at < here - OPEN {
            at = here;
        }
        self.left.put(self.written, at, frame);
        self.left_next = Some(at + FRAME_SAMPLES as i64);
    }

    /// Places audio that was sent: `offset` samples after the beginning of the running tick.
    pub fn sent(&mut self, now: Time, offset: i32, ulaw: &[u8]) {
        let tick = self.exact(now).div_euclid(FRAME_SAMPLES as i64) * FRAME_SAMPLES as i64;
        self.right.put(self.written, tick + i64::from(offset), ulaw);
    }

    /// The pair that is complete with this tick. Call until it gives none.
    pub fn due(&mut self, now: Time) -> Option<Pair> {
        (self.exact(now) - self.written >= OPEN).then(|| self.take())
    }

    /// After the last tick: the pairs that were still open. Call until it gives none.
    pub fn rest(&mut self, now: Time) -> Option<Pair> {
        (self.exact(now) > self.written).then(|| self.take())
    }

    fn take(&mut self) -> Pair {
        let mut pair = Pair { left: self.left.take(self.written), right: self.right.take(self.written) };
        let end = self.written + FRAME_SAMPLES as i64;
        for mask in &self.masks {
            let within = |at: i64| (at.clamp(self.written, end) - self.written) as usize;
            let silent = within(mask.from)..within(mask.to.unwrap_or(end));
            if !silent.is_empty() {
                pair.left[silent.clone()].fill(ULAW_SILENCE);
                pair.right[silent].fill(ULAW_SILENCE);
            }
        }
        self.masks.retain(|mask| mask.to.is_none_or(|to| to > end));
        self.written = end;
        pair
    }

    fn exact(&self, now: Time) -> i64 {
        (now.0.saturating_sub(self.start.0) / (1_000_000_000 / u64::from(SAMPLE_RATE))) as i64
    }
}

/// One channel's open samples.
#[derive(Debug)]
struct Track(Box<[u8]>);

impl Track {
    fn new() -> Track {
        Track(vec![ULAW_SILENCE; RING].into())
    }

    /// Samples before what is written, or beyond the ring, find no place.
    fn put(&mut self, written: i64, at: i64, ulaw: &[u8]) {
        let open = written..written + RING as i64;
        for (sample, place) in ulaw.iter().zip(at..).filter(|(_, place)| open.contains(place)) {
            self.0[place as usize % RING] = *sample;
        }
    }

    fn take(&mut self, from: i64) -> Frame {
        let from = from as usize % RING;
        let open = &mut self.0[from..from + FRAME_SAMPLES];
        let frame = std::array::from_fn(|at| open[at]);
        open.fill(ULAW_SILENCE);
        frame
    }
}

/// How far in the past a mask may begin: less than what stays open.
pub const MASK_BACK_MAX: Duration = Duration::from_millis(180);
/// Masks within what stays open.
const MASKS_MAX: usize = 8;
/// 200 ms.
const OPEN: i64 = 1600;
/// 100 ms.
const AHEAD_MAX: i64 = 800;
/// A whole number of frames, and more than what is open plus what may lie ahead.
const RING: usize = FRAME_SAMPLES * 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_channels_stand_where_their_audio_was() {
        let mut timeline = Timeline::new(Time::from_ms(1000));

        timeline.received(Time::from_ms(1047), &[1; FRAME_SAMPLES]);
        timeline.sent(Time::from_ms(1060), 0, &[2; FRAME_SAMPLES]);
        timeline.sent(Time::from_ms(1067), 160, &[3; FRAME_SAMPLES]);
        let (left, right) = all(&mut timeline, Time::from_ms(1400));

        assert_eq!((left.len(), right.len()), (3200, 3200));
        assert_eq!(run(&left, 1), 376..536);
        assert_eq!((run(&right, 2), run(&right, 3)), (480..640, 640..800));
    }

    #[test]
    fn late_audio_still_gets_its_own_place() {
        let mut timeline = Timeline::new(Time::ZERO);
        timeline.received(Time::from_ms(20), &[1; FRAME_SAMPLES]);

        // 120 ms without a packet, then all of them.
        for code in 2..8 {
            timeline.received(Time::from_ms(160), &[code; FRAME_SAMPLES]);
        }
        let (left, _) = all(&mut timeline, Time::from_ms(400));

        for code in 1..8u8 {
            let from = usize::from(code) * 160;
            assert_eq!(run(&left, code), from..from + 160);
        }
    }

    #[test]
    fn what_is_masked_is_silent_on_both_sides_and_nothing_moves() {
        let mut timeline = Timeline::new(Time::ZERO);
        let mut pairs = Vec::new();
        for tick in 0..100u64 {
            let now = Time::from_ms(tick * 20);
            match tick {
                // Found out 60 ms late, ended in the middle of a frame.
                40 => timeline.mask(Time::from_ms(740)),
                60 => timeline.unmask(Time::from_ms(1190)),
                _ => {}
            }
            assert_eq!(timeline.is_masked(), (40..60).contains(&tick));
            timeline.received(now, &[1; FRAME_SAMPLES]);
            timeline.sent(now, 0, &[2; FRAME_SAMPLES]);
            pairs.extend(std::iter::from_fn(|| timeline.due(now)));
        }
        pairs.extend(std::iter::from_fn(|| timeline.rest(Time::from_ms(2000))));

        let left: Vec<u8> = pairs.iter().flat_map(|pair| pair.left).collect();
        let right: Vec<u8> = pairs.iter().flat_map(|pair| pair.right).collect();
        assert_eq!((left.len(), right.len()), (16_000, 16_000));
        let silent = 740 * 8..1190 * 8;
        for at in 0..16_000 {
            let expected = if silent.contains(&at) { (ULAW_SILENCE, ULAW_SILENCE) } else { (1, 2) };
            assert_eq!((left[at], right[at]), expected, "sample {at}");
        }
    }

    #[test]
    fn a_mask_that_flickers_lets_nothing_through_and_does_not_grow() {
        let mut timeline = Timeline::new(Time::ZERO);
        for ms in (0..100).step_by(2) {
            timeline.mask(Time::from_ms(ms));
            timeline.unmask(Time::from_ms(ms + 1));
        }
        timeline.sent(Time::ZERO, 0, &[1; FRAME_SAMPLES]);

        let (_, right) = all(&mut timeline, Time::from_ms(200));

        assert!(timeline.masks.len() <= MASKS_MAX);
        for ms in (0..20).step_by(2) {
            assert!(right[ms * 8..ms * 8 + 8].iter().all(|code| *code == ULAW_SILENCE), "{ms} ms");
        }
    }

    #[test]
    fn a_pair_leaves_with_every_tick() {
        let mut timeline = Timeline::new(Time::ZERO);
        for tick in 0..10 {
            assert_eq!(timeline.due(Time::from_ms(tick * 20)), None);
        }
        for tick in 10..100 {
            assert!(timeline.due(Time::from_ms(tick * 20)).is_some());
            assert_eq!(timeline.due(Time::from_ms(tick * 20)), None);
        }
        assert_eq!(std::iter::from_fn(|| timeline.rest(Time::from_ms(2000))).count(), 10);
    }

    #[test]
    fn what_lies_far_ahead_or_behind_is_left_out_and_nothing_breaks() {
        let mut timeline = Timeline::new(Time::ZERO);
        timeline.sent(Time::from_ms(20), i32::MAX, &[1; 160]);
        timeline.sent(Time::from_ms(20), i32::MIN, &[1; 160]);
        for _ in 0..50 {
            timeline.received(Time::from_ms(20), &[2; FRAME_SAMPLES]);
        }

        let (left, right) = all(&mut timeline, Time::from_ms(2000));

        assert!(right.iter().all(|code| *code == ULAW_SILENCE));
        assert_eq!(run(&left, 2), 160..160 + 960);
    }

    fn all(timeline: &mut Timeline, now: Time) -> (Vec<u8>, Vec<u8>) {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        while let Some(pair) = timeline.rest(now) {
            left.extend(pair.left);
            right.extend(pair.right);
        }
        (left, right)
    }

    fn run(track: &[u8], code: u8) -> std::ops::Range<usize> {
        let first = track.iter().position(|sample| *sample == code).expect("is there");
        let last = track.iter().rposition(|sample| *sample == code).expect("is there");
        first..last + 1
    }
}
