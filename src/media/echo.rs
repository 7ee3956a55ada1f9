//! Our own voice coming back: how loud it can be, so that an agent is not interrupted by itself.
//!
//! Compares envelopes, 10 ms at a time: what was sent, after ducking, and what came. As long as nothing is known the
//! echo is taken for loud and up to half a second late; what is then heard while the agent speaks tells more. All
//! levels in dBFS.

use super::voice::{SILENT_DB, level_db};
use crate::model::SAMPLE_RATE;

/// Watches one agent and the party that hears it.
#[derive(Clone, Debug)]
pub struct EchoGuard {
    sent: Envelope,
    came: Envelope,
    loss_db: f32,
    /// In steps of 10 ms, once it is known.
    delay: Option<usize>,
    /// Steps in which the agent was audible, in a row but for pauses between words.
    talking: usize,
    /// Steps since the agent was last audible.
    silent: usize,
    /// Steps since the envelopes were last compared.
    since: usize,
}

impl Default for EchoGuard {
    fn default() -> EchoGuard {
        EchoGuard {
            sent: Envelope::default(),
            came: Envelope::default(),
            loss_db: LOSS_FIRST_DB,
            delay: None,
            talking: 0,
            silent: HANGOVER,
            since: 0,
        }
    }
}

impl EchoGuard {
    /// What goes out to the party, as loud as it goes out. Whole steps of 10 ms; silence too.
    pub fn sent(&mut self, audio: &[i16]) {
        for step in audio.chunks(STEP) {
            let level = level_db(step);
            self.sent.push(level);
            if level > AUDIBLE_DB {
                (self.talking, self.silent) = (self.talking + 1, 0);
            } else {
                self.silent += 1;
                if self.silent > HANGOVER {
                    self.talking = 0;
                }
            }
        }
    }

    /// What came from the party at the same time. Whole steps of 10 ms.
    pub fn came(&mut self, audio: &[i16], noise_db: f32) {
        for step in audio.chunks(STEP) {
            self.came.push(level_db(step));
            self.since += 1;
        }
        // Packets come in bursts and stop: a hundred milliseconds are jitter, more is a different line.
        let ahead = self.came.len as i64 - self.sent.len as i64;
        if ahead.unsigned_abs() as usize > JITTER {
            self.came.len = self.sent.len;
        }
        if self.since >= COMPARE_EVERY && self.talking >= COMPARE_EVERY && self.silent < HANGOVER {
            self.since = 0;
            self.learn(noise_db);
        }
    }

    /// What is softer may be our own voice; [`SILENT_DB`] when none can be there.
    pub fn bound_db(&self) -> f32 {
        let loudest = match self.delay {
            Some(delay) => self.sent.loudest(delay.saturating_sub(SPREAD), delay + TAIL),
            None => self.sent.loudest(0, DELAY_MAX + TAIL),
        };
        if loudest <= AUDIBLE_DB { SILENT_DB } else { loudest - self.loss_db + MARGIN_DB }
    }

    /// Whether our own voice may be coming back now.
    pub fn is_echoing(&self) -> bool {
        self.sent.loudest(0, DELAY_MAX + TAIL) > AUDIBLE_DB
    }

    /// Whether what came in the last second is what we sent, only softer: the last look before an agent is silenced.
    pub fn is_echo(&self, noise_db: f32) -> bool {
        self.match_at(SURELY, noise_db).is_some()
    }

    /// By how much our voice is softer when it comes back, as far as is known, in dB.
    pub fn loss_db(&self) -> f32 {
        self.loss_db
    }

    /// After how many milliseconds it comes back, once that is known.
    pub fn delay_ms(&self) -> Option<usize> {
        self.delay.map(|delay| delay * STEP_MS)
    }

    fn learn(&mut self, noise_db: f32) {
        if let Some((delay, loss)) = self.match_at(LIKELY, noise_db) {
            let loss = loss.clamp(LOSS_MIN_DB, LOSS_MAX_DB);
            self.delay = Some(delay);
            // Softer echo is believed slowly, louder at once.
            self.loss_db = if loss < self.loss_db { loss } else { self.loss_db + (loss - self.loss_db) * 0.3 };
        } else if self.talking >= DELAY_MAX + COMPARE_EVERY {
            // No echo is louder than all that came since the first of it must have been back.
            let loudest = self.sent.loudest(0, COMPARE_EVERY + DELAY_MAX);
            let loss = (loudest - self.came.loudest(0, COMPARE_EVERY)).clamp(LOSS_MIN_DB, LOSS_MAX_DB);
            self.loss_db = self.loss_db.max(loss);
        }
    }

    /// At which delay the last second of what came is like what was sent, and how much softer. Two voices keep time
    /// by chance; that one also follows the other's loudness is no chance.
    fn match_at(&self, likeness_min: f32, noise_db: f32) -> Option<(usize, f32)> {
        let came: [f32; COMPARED] = std::array::from_fn(|back| self.came.at(back).max(LEAST_DB));
        let (mut delay, mut most) = (0, likeness_min);
        for candidate in 0..=DELAY_MAX {
            let likeness = likeness(&came, |back| self.sent.at(back + candidate).max(LEAST_DB));
            if likeness > most {
                (delay, most) = (candidate, likeness);
            }
        }
        if most <= likeness_min {
            return None;
        }
        let mut losses = [0.0; COMPARED];
        let mut found = 0;
        for (back, came) in came.iter().enumerate() {
            let sent = self.sent.at(back + delay);
            if sent > AUDIBLE_DB && *came > noise_db + STANDS_OUT_DB {
                losses[found] = sent - came;
                found += 1;
            }
        }
        if found < MATCH_MIN {
            return None;
        }
        let losses = &mut losses[..found];
        let (_, median, _) = losses.select_nth_unstable_by(found / 2, f32::total_cmp);
        let median = *median;
        let near = losses.iter().filter(|loss| (**loss - median).abs() < FOLLOWS_DB).count();
        (near * 4 >= found * 3 && median > 0.0).then_some((delay, median))
    }
}

/// Pearson's correlation of what came with what was sent.
fn likeness(came: &[f32], sent: impl Fn(usize) -> f32) -> f32 {
    let len = came.len() as f32;
    let (mut a, mut b, mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (back, came) in came.iter().enumerate() {
        let sent = sent(back);
        a += came;
        b += sent;
        aa += came * came;
        bb += sent * sent;
        ab += came * sent;
    }
    let (spread_a, spread_b) = (aa - a * a / len, bb - b * b / len);
    // What hardly moves is like everything.
    if spread_a < len * MOVES || spread_b < len * MOVES {
        return 0.0;
    }
    (ab - a * b / len) / (spread_a * spread_b).sqrt()
}

/// Levels of 10 ms each, the last two seconds of them.
#[derive(Clone, Debug)]
struct Envelope {
    levels: Box<[f32; KEPT]>,
    len: usize,
}

impl Default for Envelope {
    fn default() -> Envelope {
        Envelope { levels: Box::new([SILENT_DB; KEPT]), len: 0 }
    }
}

impl Envelope {
    fn push(&mut self, level: f32) {
        self.levels[self.len % KEPT] = level;
        self.len += 1;
    }

    /// The level `back` steps ago; 0 is the last.
    fn at(&self, back: usize) -> f32 {
        if back >= KEPT || back >= self.len { SILENT_DB } else { self.levels[(self.len - 1 - back) % KEPT] }
    }

    /// The loudest from `from` to `to` steps ago.
    fn loudest(&self, from: usize, to: usize) -> f32 {
        (from..=to).map(|back| self.at(back)).fold(SILENT_DB, f32::max)
    }
}

const STEP_MS: usize = 10;
const STEP: usize = SAMPLE_RATE as usize / 1000 * STEP_MS;
/// Half a second: mobile telephones with their speaker on come back after 100 to 400 ms.
const DELAY_MAX: usize = 50;
/// One second is compared.
const COMPARED: usize = 100;
const KEPT: usize = 256;
const COMPARE_EVERY: usize = 25;
/// The echo of a syllable: the delay is not known to the millisecond, and rooms ring.
const SPREAD: usize = 4;
const TAIL: usize = 12;
/// After 300 ms of silence the agent does not speak.
const HANGOVER: usize = 30;
const JITTER: usize = 12;
const MATCH_MIN: usize = 20;
/// Softer of ours is not heard as an echo.
const AUDIBLE_DB: f32 = -50.0;
/// Below this envelopes are taken for silence: what the line hums is like nothing.
const LEAST_DB: f32 = -60.0;
const STANDS_OUT_DB: f32 = 6.0;
/// Three quarters of an echo are as much softer as the median, within this.
const FOLLOWS_DB: f32 = 4.0;
const MARGIN_DB: f32 = 6.0;
/// What is not known yet is taken for bad.
const LOSS_FIRST_DB: f32 = 10.0;
const LOSS_MIN_DB: f32 = 6.0;
const LOSS_MAX_DB: f32 = 45.0;
const LIKELY: f32 = 0.6;
const SURELY: f32 = 0.75;
/// Variance of an envelope, in dB².
const MOVES: f32 = 4.0;
