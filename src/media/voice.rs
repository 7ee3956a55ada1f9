//! Whether a party speaks.
//!
//! A small neural net gives the probability of speech for every 16 ms; by itself it takes hold music and ringback for
//! speech, and loud noise too. So it is a gate among three: speech is what it believes in, what stands out of the
//! noise, and what is no tone. The net is asked only for what is loud enough, and a tone is looked for only where the
//! net says speech, so a silent line costs next to nothing ([`VoiceStats`] counts).

use earshot::{DefaultPredictor, Detector};

use super::tone::ToneFinder;
use crate::model::SAMPLE_RATE;

/// The ear for one party's speech: 8 kHz in, a verdict for every 16 ms out.
#[derive(Debug)]
pub struct VoiceFinder {
    net: Net,
    wide: Upsampler,
    tones: ToneFinder,
    block: [i16; BLOCK],
    filled: usize,
    /// Samples of whole blocks taken so far.
    heard: u64,
    noise: NoiseFloor,
    /// Where the sound began that goes on now.
    loud_since: Option<u64>,
    /// Blocks that were no speech in a row.
    misses: u32,
    /// Blocks to ask the net about although they are soft, so that it has heard the beginning of a word.
    warm: u32,
    talk: Option<Talk>,
    stats: VoiceStats,
}

/// What 16 ms were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// These 16 ms are speech.
    pub is_voice: bool,
    /// Talk goes on: a pause shorter than [`HANGOVER_MS`] does not end it.
    pub talk: Option<Talk>,
    /// Level of these 16 ms in dBFS (0 is a full square wave), not below −96.
    pub level_db: f32,
}

/// A stretch of speech, counted in samples of what was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talk {
    /// The first sample of it: where the sound began, which is some 50 ms before the net can know that it is speech.
    pub onset: u64,
    /// One past the last sample that was speech.
    pub until: u64,
    /// How much of it was speech and no pause.
    pub voiced: u64,
}

impl Talk {
    /// From the onset to the last that was speech.
    pub fn span_ms(&self) -> u64 {
        (self.until - self.onset) * 1000 / u64::from(SAMPLE_RATE)
    }

    /// Milliseconds of it that were speech and no pause.
    pub fn voiced_ms(&self) -> u64 {
        self.voiced * 1000 / u64::from(SAMPLE_RATE)
    }
}

/// What was counted: the cost of listening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VoiceStats {
    /// Blocks of 16 ms listened to.
    pub blocks: u64,
    /// Blocks the net was asked about; some 10 µs each.
    pub asked: u64,
    /// Blocks the net took for speech and that were a tone.
    pub tones: u64,
}

/// What the caller of [`VoiceFinder::hear`] knows better than the microphone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surroundings {
    /// What is softer is no speech, in dBFS: the echo that is to be expected. −96 for none.
    pub bound_db: f32,
    /// Our own voice may be in it: the noise floor is not learned.
    pub is_echoing: bool,
    /// Somebody wants to know. Else only the noise is learned, and nothing is called speech.
    pub is_wanted: bool,
}

impl Surroundings {
    /// Nothing of ours can be heard in it.
    pub const QUIET: Surroundings = Surroundings { bound_db: SILENT_DB, is_echoing: false, is_wanted: true };
}

impl Default for VoiceFinder {
    fn default() -> VoiceFinder {
        VoiceFinder {
            net: Net(Detector::default_boxed()),
            wide: Upsampler::default(),
            tones: ToneFinder::default(),
            block: [0; BLOCK],
            filled: 0,
            heard: 0,
            noise: NoiseFloor::default(),
            loud_since: None,
            misses: 0,
            warm: 0,
            talk: None,
            stats: VoiceStats::default(),
        }
    }
}

impl VoiceFinder {
    /// Takes audio of any length; calls `verdict` for every 16 ms that are complete with it.
    pub fn hear(&mut self, audio: &[i16], around: Surroundings, mut verdict: impl FnMut(Judged)) {
        let mut rest = audio;
        while !rest.is_empty() {
            let take = rest.len().min(BLOCK - self.filled);
            self.block[self.filled..self.filled + take].copy_from_slice(&rest[..take]);
            self.filled += take;
            rest = &rest[take..];
            if self.filled == BLOCK {
                self.filled = 0;
                verdict(self.judge(around));
            }
        }
    }

    /// Samples judged so far: the clock of [`Talk`].
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// The level of the noise behind the speech, in dBFS.
    pub fn noise_db(&self) -> f32 {
        self.noise.db()
    }

    /// What it cost so far.
    pub fn stats(&self) -> VoiceStats {
        self.stats
    }

    /// Forgets what was said, not what the line sounds like: the party will be listened to again later.
    pub fn rest(&mut self) {
        (self.talk, self.filled, self.misses, self.warm) = (None, 0, 0, 0);
        self.net.0.reset();
        self.wide = Upsampler::default();
    }

    fn judge(&mut self, around: Surroundings) -> Judged {
        self.stats.blocks += 1;
        let level_db = level_db(&self.block);
        self.tones.remember(&self.block);
        if !around.is_echoing {
            self.noise.hear(level_db);
        }
        let bound = (self.noise.db() + ABOVE_NOISE_DB).max(LEAST_DB).max(around.bound_db);
        let is_loud = level_db > bound;
        // The net judges by 48 ms: it is asked on through the soft end of a word, and its onset is not waited for.
        let is_voice = match around.is_wanted && (is_loud || self.warm > 0) {
            true => {
                self.stats.asked += 1;
                let wide = self.wide.double(&self.block);
                let believes = self.net.0.predict_i16(&wide) > THRESHOLD;
                believes && is_loud && !self.is_tone()
            }
            false => {
                self.wide.skip(&self.block);
                false
            }
        };
        let since = self.loud_since.unwrap_or(self.heard);
        self.loud_since = is_loud.then_some(since);
        self.warm = if is_loud { WARM_BLOCKS } else { self.warm.saturating_sub(1) };
        self.heard += BLOCK as u64;
        self.follow(is_voice);
        Judged { is_voice, talk: self.talk, level_db }
    }

    fn is_tone(&mut self) -> bool {
        let is_tone = self.tones.is_tone();
        self.stats.tones += u64::from(is_tone);
        is_tone
    }

    fn follow(&mut self, is_voice: bool) {
        let block = BLOCK as u64;
        if is_voice {
            self.misses = 0;
            let onset = self.loud_since.unwrap_or(self.heard).max((self.heard - block).saturating_sub(BEFORE_MAX));
            let talk = self.talk.get_or_insert(Talk { onset, until: 0, voiced: 0 });
            (talk.until, talk.voiced) = (self.heard, talk.voiced + block);
        } else if self.talk.is_some() {
            self.misses += 1;
            if self.misses * BLOCK_MS >= HANGOVER_MS {
                (self.talk, self.misses) = (None, 0);
            }
        }
    }
}

struct Net(Box<Detector<DefaultPredictor>>);

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Net")
    }
}

/// From 8 to 16 kHz: every other sample is there already, the ones between are a weighted sum of six neighbours on
/// either side. Nothing is heard above 3.7 kHz that was not there: the image is 50 dB down, and the net looks no closer.
#[derive(Clone, Copy, Debug, Default)]
struct Upsampler {
    past: [i16; 2 * SIDE],
}

impl Upsampler {
    /// Twice the samples, [`SIDE`] samples of the input late.
    fn double(&mut self, block: &[i16; BLOCK]) -> [i16; 2 * BLOCK] {
        let mut line = [0; BLOCK + 2 * SIDE];
        line[..2 * SIDE].copy_from_slice(&self.past);
        line[2 * SIDE..].copy_from_slice(block);
        let mut wide = [0; 2 * BLOCK];
        for (at, pair) in wide.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let middle = at + SIDE;
            let between: f32 = BETWEEN
                .iter()
                .enumerate()
                .map(|(n, weight)| weight * (f32::from(line[middle - n - 1]) + f32::from(line[middle + n])))
                .sum();
            // The sample between comes before `middle`.
            *pair = [between as i16, line[middle]];
        }
        self.skip(block);
        wide
    }

    fn skip(&mut self, block: &[i16; BLOCK]) {
        self.past.copy_from_slice(&block[BLOCK - 2 * SIDE..]);
    }
}

/// The level of the background: the softest quarter of a second of the last two. Talk has softer moments than that
/// within two seconds; noise and music have not.
#[derive(Clone, Copy, Debug)]
struct NoiseFloor {
    minima: [f32; WINDOWS],
    at: usize,
    smooth: Option<f32>,
    blocks: u32,
}

impl Default for NoiseFloor {
    fn default() -> NoiseFloor {
        NoiseFloor { minima: [f32::MAX; WINDOWS], at: 0, smooth: None, blocks: 0 }
    }
}

impl NoiseFloor {
    fn hear(&mut self, level_db: f32) {
        let smooth = self.smooth.map_or(level_db, |before| before + (level_db - before) * SMOOTHING);
        self.smooth = Some(smooth);
        let current = &mut self.minima[self.at];
        *current = current.min(smooth);
        self.blocks += 1;
        if self.blocks == WINDOW_BLOCKS {
            self.blocks = 0;
            self.at = (self.at + 1) % WINDOWS;
            self.minima[self.at] = smooth;
        }
    }

    fn db(&self) -> f32 {
        // Before two seconds are over nothing was loud for long enough to be called noise.
        let is_young = self.minima.contains(&f32::MAX);
        let least = self.minima.iter().copied().fold(f32::MAX, f32::min);
        let most = if is_young { YOUNG_FLOOR_MAX_DB } else { FLOOR_MAX_DB };
        least.clamp(FLOOR_MIN_DB, most)
    }
}

/// The level of a stretch of audio in dBFS, where 0 is a full square wave; −96 for silence.
pub fn level_db(audio: &[i16]) -> f32 {
    let sum: f32 = audio.iter().map(|sample| f32::from(*sample) * f32::from(*sample)).sum();
    let mean = sum / audio.len().max(1) as f32 / (32768.0 * 32768.0);
    if mean > 0.0 { (10.0 * mean.log10()).max(SILENT_DB) } else { SILENT_DB }
}

/// What no level is below.
pub const SILENT_DB: f32 = -96.0;
/// A pause this long ends a stretch of speech.
pub const HANGOVER_MS: u32 = 208;
/// Milliseconds one verdict is about.
pub const BLOCK_MS: u32 = 16;
const BLOCK: usize = (SAMPLE_RATE / 1000 * BLOCK_MS) as usize;
/// From here on the net is believed.
const THRESHOLD: f32 = 0.5;
const ABOVE_NOISE_DB: f32 = 10.0;
/// Softer is no speech on a telephone.
const LEAST_DB: f32 = -45.0;
/// After the last loud block the net hears 64 ms more.
const WARM_BLOCKS: u32 = 4;
const WINDOWS: usize = 8;
/// A quarter of a second.
const WINDOW_BLOCKS: u32 = 16;
/// One block is too short to be a minimum: some 50 ms are.
const SMOOTHING: f32 = 0.3;
const FLOOR_MIN_DB: f32 = -75.0;
/// Louder noise than this drowns any speech: then speech is what the net says.
const FLOOR_MAX_DB: f32 = -25.0;
const YOUNG_FLOOR_MAX_DB: f32 = -50.0;
/// The sound before the net's word that counts as speech: 80 ms, of noise before speech there may be more.
const BEFORE_MAX: u64 = (SAMPLE_RATE / 1000 * 80) as u64;
/// Neighbours on either side of a sample that is put in.
const SIDE: usize = 6;
/// A sinc at the half samples, under a Kaiser window (β = 5), scaled to sum up to one half.
const BETWEEN: [f32; SIDE] = [0.627_65, -0.184_45, 0.085_15, -0.039_84, 0.016_33, -0.004_84];
