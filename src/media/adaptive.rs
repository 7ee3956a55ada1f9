//! A playout buffer that waits as long as the network makes it necessary, and no longer: for one who is mixed with others.
//!
//! How late each frame is against the fastest of the last two seconds goes into a histogram that forgets; the wait is its
//! 97th percentile and 10 ms, from 20 to 200. Too much waiting is taken out where it is silent, or a whole pitch
//! period where it is not; too little is put in where it is silent. A buffer that runs dry invents 60 ms at most, and what
//! comes then is blended in.

use std::collections::VecDeque;

use super::conceal::Concealer;
use super::g711::{decode_ulaw, encode_ulaw};
use super::sample::energy;
use crate::model::{Band, FRAME_MS, FRAME_SAMPLES, Sound, Time, WIDE_SAMPLES};

/// The audio of one source on its way into a mix.
#[derive(Debug)]
pub(super) struct Adaptive {
    band: Band,
    waiting: VecDeque<i16>,
    concealer: Concealer<i16>,
    delays: Delays,
    is_flowing: bool,
    /// Frames invented in a row.
    invented: u32,
    /// Pulls since as much was taken out as may be.
    since_cut: u32,
    /// Milliseconds taken out since then.
    cut_ms: usize,
}

impl Adaptive {
    pub(super) fn new(band: Band) -> Adaptive {
        Adaptive {
            band,
            waiting: VecDeque::with_capacity(WAIT_MAX_MS * per_ms(Band::Wide)),
            concealer: Concealer::new(band.rate()),
            delays: Delays::default(),
            is_flowing: false,
            invented: 0,
            since_cut: 0,
            cut_ms: 0,
        }
    }

    /// Takes a frame that came just now.
    pub(super) fn hear(&mut self, now: Time, sound: &Sound) {
        if sound.band() != self.band {
            *self = Adaptive { delays: std::mem::take(&mut self.delays), ..Adaptive::new(sound.band()) };
        }
        self.delays.note(now);
        match sound {
            Sound::Narrow(codes) => self.waiting.extend(codes.iter().map(|code| decode_ulaw(*code))),
            Sound::Wide(wide) => self.waiting.extend(wide),
        }
        let room = WAIT_MAX_MS * per_ms(self.band);
        if self.waiting.len() > room {
            self.waiting.drain(..self.waiting.len() - room);
        }
    }

    /// The next 20 ms; `None` before there is enough, and when nothing has come for long.
    pub(super) fn pull(&mut self) -> Option<Sound> {
        if !self.is_flowing && self.wait_ms() < self.delays.target_ms().max(FRAME_MS as usize) {
            return None;
        }
        self.is_flowing = true;
        let mut frame = [0i16; WIDE_SAMPLES];
        let len = FRAME_MS as usize * per_ms(self.band);
        let frame = &mut frame[..len];
        if self.waiting.len() >= len {
            self.take(frame);
            self.keep_pace(frame);
            self.concealer.heard(frame);
            self.invented = 0;
        } else {
            self.invent(frame);
        }
        Some(match self.band {
            Band::Narrow => Sound::Narrow(std::array::from_fn::<_, FRAME_SAMPLES, _>(|at| encode_ulaw(frame[at]))),
            Band::Wide => Sound::Wide(std::array::from_fn(|at| frame[at])),
        })
    }

    /// How much waits.
    pub(super) fn wait_ms(&self) -> usize {
        self.waiting.len() / per_ms(self.band)
    }

    fn take(&mut self, into: &mut [i16]) {
        let len = into.len();
        for (sample, waiting) in into.iter_mut().zip(self.waiting.drain(..len)) {
            *sample = waiting;
        }
    }

    fn invent(&mut self, frame: &mut [i16]) {
        let there = self.waiting.len();
        let (real, missing) = frame.split_at_mut(there);
        self.take(real);
        if !real.is_empty() {
            self.concealer.heard(real);
        }
        self.concealer.invent(missing);
        self.invented += 1;
        self.delays.ran_dry();
        if self.invented >= INVENTED_MAX {
            // It is no longer late, it has stopped. Whoever begins again waits first.
            (self.is_flowing, self.invented) = (false, 0);
            self.concealer.silence();
        }
    }

    /// Takes a little out of what waits too long, or puts a little in.
    fn keep_pace(&mut self, frame: &mut [i16]) {
        self.since_cut += 1;
        if self.since_cut >= CUT_EVERY {
            (self.since_cut, self.cut_ms) = (0, 0);
        }
        let (wait, target) = (self.wait_ms() + FRAME_MS as usize, self.delays.target_ms());
        let is_silent = energy(&*frame) < SILENT;
        let ten_ms = 10 * per_ms(self.band);
        if wait > target + SLACK_MS {
            let room = (CUT_MAX_MS - self.cut_ms.min(CUT_MAX_MS)) * per_ms(self.band);
            if is_silent && room >= ten_ms && self.waiting.len() >= ten_ms {
                self.waiting.drain(..ten_ms);
                self.cut_ms += 10;
            } else if let Some(lag) = pitch(frame, per_ms(self.band)).filter(|lag| *lag <= room) {
                self.cut_ms += lag.div_ceil(per_ms(self.band));
                self.accelerate(frame, lag);
            }
        } else if wait + SLACK_MS < target && is_silent {
            // The second half is heard again.
            for at in (frame.len() - ten_ms..frame.len()).rev() {
                self.waiting.push_front(frame[at]);
            }
        }
    }

    /// Leaves one pitch period out: the frame becomes its beginning and its end, blended over, and the samples that are
    /// missing then come from what waits.
    fn accelerate(&mut self, frame: &mut [i16], lag: usize) {
        if self.waiting.len() < lag {
            return;
        }
        let left = frame.len() - lag;
        for at in 0..left {
            let (early, late) = (i32::from(frame[at]), i32::from(frame[at + lag]));
            let share = at as i32 + 1;
            frame[at] = ((early * (left as i32 - share) + late * share) / left as i32) as i16;
        }
        self.take(&mut frame[left..]);
    }
}

/// The pitch period of a frame that repeats itself well enough, 2.5 to 15 ms.
fn pitch(frame: &[i16], per_ms: usize) -> Option<usize> {
    let energy_of = |samples: &[i16]| samples.iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>();
    let mut best = (0, 0.9);
    // Every second sample of wide audio tells as much.
    for lag in (per_ms * 5 / 2..=per_ms * 15).step_by(per_ms / 8) {
        let (early, late) = (&frame[..frame.len() - lag], &frame[lag..]);
        let product: f32 = early.iter().zip(late).map(|(a, b)| f32::from(*a) * f32::from(*b)).sum();
        let likeness = product / (energy_of(early) * energy_of(late)).sqrt().max(1.0);
        if likeness > best.1 {
            best = (lag, likeness);
        }
    }
    (best.0 > 0).then_some(best.0)
}

/// How late frames are.
#[derive(Debug)]
struct Delays {
    /// Frames that came, in milliseconds of audio.
    media_ms: i64,
    /// The least that arrival was behind the audio, in the second before and in this one.
    fastest: [i64; 2],
    second: u64,
    shares: [f32; BUCKETS],
    /// Added after it ran dry; becomes less with every frame.
    extra_ms: f32,
    is_new: bool,
}

impl Default for Delays {
    fn default() -> Delays {
        let mut shares = [0.0; BUCKETS];
        // Nothing is known yet: 40 ms in all.
        shares[3] = 1.0;
        Delays { media_ms: 0, fastest: [i64::MAX; 2], second: 0, shares, extra_ms: 0.0, is_new: true }
    }
}

impl Delays {
    fn note(&mut self, now: Time) {
        let behind = i64::try_from(now.as_ms()).unwrap_or(i64::MAX) - self.media_ms;
        self.media_ms += i64::from(FRAME_MS);
        if std::mem::replace(&mut self.is_new, false) || now.as_ms() / 1000 != self.second {
            self.second = now.as_ms() / 1000;
            self.fastest = [self.fastest[1], i64::MAX];
        }
        self.fastest[1] = self.fastest[1].min(behind);
        let late = behind - self.fastest[0].min(self.fastest[1]);
        let bucket = usize::try_from(late / BUCKET_MS).unwrap_or(0).min(BUCKETS - 1);
        self.shares.iter_mut().for_each(|share| *share *= FORGET);
        self.shares[bucket] += 1.0 - FORGET;
        self.extra_ms = (self.extra_ms - EXTRA_LESS_MS).max(0.0);
    }

    fn ran_dry(&mut self) {
        self.extra_ms = (self.extra_ms + 20.0).min(100.0);
    }

    fn target_ms(&self) -> usize {
        let all: f32 = self.shares.iter().sum();
        let mut below = 0.0;
        let at = self.shares.iter().position(|share| {
            below += share;
            below >= all * QUANTILE
        });
        // A bucket's upper end, and 10 ms.
        let wait = (at.unwrap_or(BUCKETS - 1) + 1) * BUCKET_MS as usize + self.extra_ms as usize;
        wait.clamp(TARGET_MIN_MS, TARGET_MAX_MS)
    }
}

fn per_ms(band: Band) -> usize {
    (band.rate() / 1000) as usize
}

const BUCKETS: usize = 40;
const BUCKET_MS: i64 = 10;
const FORGET: f32 = 0.995;
const QUANTILE: f32 = 0.97;
const TARGET_MIN_MS: usize = 20;
const TARGET_MAX_MS: usize = 200;
/// What ran dry once is forgotten in some 4 s.
const EXTRA_LESS_MS: f32 = 0.1;
/// The oldest goes when more waits.
const WAIT_MAX_MS: usize = 400;
/// Around the target nothing is done.
const SLACK_MS: usize = 20;
/// At most 15 ms are taken out in 500 ms: nobody hears that.
const CUT_MAX_MS: usize = 15;
const CUT_EVERY: u32 = 25;
/// 60 ms.
const INVENTED_MAX: u32 = 3;
/// −50 dBFS as mean square.
const SILENT: u64 = 10_737;

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_without_jitter_waits_for_little_and_loses_nothing() {
        let mut buffer = Adaptive::new(Band::Wide);
        let mut heard = Vec::new();
        for tick in 0..500u64 {
            buffer.hear(Time::from_ms(tick * 20 + 7), &tone(tick as usize));
            heard.extend(buffer.pull());
        }

        assert!(heard.len() >= 498, "{} of 500", heard.len());
        assert!(buffer.wait_ms() <= 40, "{} ms", buffer.wait_ms());
    }

    #[test]
    fn jitter_makes_it_wait_and_calm_lets_it_hurry_again() {
        let mut buffer = Adaptive::new(Band::Narrow);
        let mut random = 7u64;
        let mut chance = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut dry, mut waits) = (0, Vec::new());
        // A minute of jitter up to 80 ms, in order, then a minute without.
        let mut arrivals: Vec<u64> = Vec::new();
        for frame in 0..6000u64 {
            let late = if frame < 3000 { if chance(10) == 0 { 40 + chance(40) } else { chance(15) } } else { 0 };
            let earliest = arrivals.last().copied().unwrap_or(0);
            arrivals.push((frame * 20 + late).max(earliest));
        }
        let mut next = 0;
        for tick in 0..6000u64 {
            while arrivals.get(next).is_some_and(|at| *at <= tick * 20) {
                buffer.hear(Time::from_ms(arrivals[next]), &quiet_then_loud(next));
                next += 1;
            }
            buffer.pull();
            dry += u32::from((500..3000).contains(&tick) && buffer.invented > 0);
            waits.push(buffer.wait_ms());
        }

        assert!(dry <= 25, "{dry} of 2500 frames were invented");
        let mean = |range: std::ops::Range<usize>| waits[range.clone()].iter().sum::<usize>() / range.len();
        assert!((30..=150).contains(&mean(1000..3000)), "{} ms", mean(1000..3000));
        assert!(mean(5500..6000) <= 60, "{} ms", mean(5500..6000));
    }

    #[test]
    fn clocks_that_differ_do_not_make_it_grow() {
        // Five minutes in which the sender is 2000 ppm fast or slow, twenty times what a crystal is: 0.6 s in all.
        for ppm in [-2000i64, 2000] {
            let mut buffer = Adaptive::new(Band::Narrow);
            let (mut next, mut most, mut dry) = (0i64, 0, 0);
            for tick in 0..15_000i64 {
                while next * 20_000_000 * (1_000_000 - ppm) / 1_000_000 <= tick * 20_000_000 {
                    buffer.hear(Time::from_ms((tick * 20) as u64), &quiet_then_loud(next as usize));
                    next += 1;
                }
                buffer.pull();
                most = most.max(buffer.wait_ms());
                dry += u32::from(buffer.invented > 0);
            }
            assert!(most <= 120, "{ppm} ppm: {most} ms");
            assert!(dry <= 60, "{ppm} ppm: {dry} frames were invented");
        }
    }

    #[test]
    fn a_period_that_is_left_out_is_not_heard() {
        let mut buffer = Adaptive::new(Band::Wide);
        // Ten frames too many, all of one tone: silence is nowhere.
        (0..12).for_each(|frame| buffer.hear(Time::from_ms(frame * 20), &tone(frame as usize)));
        let mut heard: Vec<i16> = Vec::new();
        for frame in 12..812u64 {
            buffer.hear(Time::from_ms(frame * 20), &tone(frame as usize));
            if let Some(Sound::Wide(wide)) = buffer.pull() {
                heard.extend(wide);
            }
        }

        assert!(buffer.wait_ms() <= 80, "{} ms are left of 240", buffer.wait_ms());
        // The steepest of a tone of 200 Hz at 8000 is 628 from sample to sample.
        let steepest = heard.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max();
        assert!(steepest.expect("was heard") < 900, "{steepest:?}");
    }

    proptest! {
        #[test]
        fn whatever_comes_whenever_nothing_grows(steps in proptest::collection::vec((0u64..300, 0usize..30, any::<bool>()), 1..80)) {
            let mut buffer = Adaptive::new(Band::Narrow);
            let mut now = 0;
            for (after, frames, is_wide) in steps {
                now += after;
                for at in 0..frames {
                    let sound = if is_wide { tone(at) } else { quiet_then_loud(at) };
                    buffer.hear(Time::from_ms(now), &sound);
                }
                buffer.pull();
                prop_assert!(buffer.wait_ms() <= WAIT_MAX_MS);
            }
        }
    }

    fn tone(frame: usize) -> Sound {
        let sample = |at: usize| ((frame * WIDE_SAMPLES + at) as f32 / 16_000.0 * 200.0 * TAU).sin() * 8000.0;
        Sound::Wide(std::array::from_fn(|at| sample(at) as i16))
    }

    /// Half a second of speech, half a second of silence.
    fn quiet_then_loud(frame: usize) -> Sound {
        let loud = if frame % 50 < 25 { 8000.0 } else { 0.0 };
        let sample = |at: usize| ((frame * FRAME_SAMPLES + at) as f32 / 8000.0 * 200.0 * TAU).sin() * loud;
        Sound::Narrow(std::array::from_fn(|at| encode_ulaw(sample(at) as i16)))
    }
}
