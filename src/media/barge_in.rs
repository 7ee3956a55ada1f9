//! When a caller speaks over an agent: softer first, silent when it is meant.
//!
//! Two stages, because 50 ms of voice are too little to silence somebody and 300 ms too long to talk on. The agent is
//! ducked early; it is stopped when the speech goes on, and comes back when it does not. Pure; the times are those of
//! the caller's audio.

use super::voice::{Judged, SILENT_DB, Talk};
use crate::model::{BargeIn, SAMPLE_RATE};

/// The decision for one agent.
#[derive(Clone, Debug)]
pub struct Interrupter {
    policy: BargeIn,
    stage: Stage,
    /// Caller's audio when the agent began this turn; `None` while it is silent.
    began: Option<u64>,
    /// The stretch of speech that was found to be our own voice.
    refused: Option<u64>,
    /// How loud the caller speaks otherwise.
    usual: Loudness,
}

/// What the agent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentTurn {
    /// Something of it can be heard, or will be in a moment.
    pub speaks: bool,
    /// Samples until it has nothing more to say, as far as that is known.
    pub left: Option<u64>,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Speak softly: the caller may have begun to speak.
    Duck,
    /// The caller speaks: be silent.
    Stop,
    /// It was nothing: speak as before.
    Resume,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Listening,
    /// Ducked, since this onset; `loudness` of the speech so far.
    Ducked {
        onset: u64,
        loudness: Loudness,
        last: Talk,
    },
    /// Said its move; waits for the agent to have fallen silent.
    Stopped,
}

impl Interrupter {
    /// Nothing has happened yet.
    pub fn new(policy: BargeIn) -> Interrupter {
        Interrupter { policy, stage: Stage::Listening, began: None, refused: None, usual: Loudness::default() }
    }

    /// Whether the agent is ducked.
    pub fn is_ducked(&self) -> bool {
        matches!(self.stage, Stage::Ducked { .. })
    }

    /// Learns how loud the caller is while the agent is silent.
    pub fn overhear(&mut self, level_db: f32) {
        self.usual.add(level_db);
        self.usual.forget();
    }

    /// Judges 16 ms of the caller, `heard` samples into its audio. `is_echo` is asked once, before a stop.
    pub fn judge(
        &mut self,
        verdict: Judged,
        heard: u64,
        agent: AgentTurn,
        is_echo: impl FnOnce() -> bool,
    ) -> Option<Move> {
        if !agent.speaks {
            let was_ducked = self.is_ducked();
            (self.stage, self.began) = (Stage::Listening, None);
            return was_ducked.then_some(Move::Resume);
        }
        let began = *self.began.get_or_insert(heard.saturating_sub(BLOCK));
        if verdict.talk.is_none() {
            self.refused = None;
        }
        // Of what the caller had begun to say before the agent spoke, only what goes on counts.
        let talk = verdict.talk.filter(|talk| Some(talk.onset) != self.refused && talk.until > began);
        match (self.stage, talk) {
            (Stage::Listening, Some(talk)) if voiced_since(talk, began) >= DUCK_AFTER => {
                let loudness = Loudness::default();
                self.stage = Stage::Ducked { onset: talk.onset.max(began), loudness, last: talk };
                Some(Move::Duck)
            }
            (Stage::Ducked { onset, mut loudness, .. }, Some(talk)) => {
                if verdict.is_voice {
                    loudness.add(verdict.level_db);
                }
                self.stage = Stage::Ducked { onset, loudness, last: talk };
                if self.is_meant(talk, onset, heard, loudness, self.is_at_the_edge(began, heard, agent)) {
                    return Some(self.stop_or_resume(talk, is_echo));
                }
                None
            }
            (Stage::Ducked { onset, last, .. }, None) => {
                // A short word at either end of a turn is an early correction, or an early answer.
                let is_word = voiced_since(last, onset) >= WORD_MIN;
                if is_word && self.is_at_the_edge(began, onset, agent) {
                    return Some(self.stop_or_resume(last, is_echo));
                }
                self.stage = Stage::Listening;
                Some(Move::Resume)
            }
            // Too little to act on; or the order to be silent is on its way.
            (Stage::Listening | Stage::Stopped, _) => None,
        }
    }

    fn stop_or_resume(&mut self, talk: Talk, is_echo: impl FnOnce() -> bool) -> Move {
        if is_echo() {
            (self.stage, self.refused) = (Stage::Listening, Some(talk.onset));
            return Move::Resume;
        }
        self.stage = Stage::Stopped;
        Move::Stop
    }

    /// Talk that went on for long enough and goes on still.
    fn is_meant(&self, talk: Talk, onset: u64, heard: u64, loudness: Loudness, is_at_the_edge: bool) -> bool {
        let span = talk.until.saturating_sub(onset);
        let voiced = voiced_since(talk, onset);
        let is_going_on = heard - talk.until <= GOING_ON;
        let enough = samples(self.policy.speech_min.as_millis() as u64);
        let is_soft = loudness.db() <= self.usual.db() - SOFTER_DB && self.usual.is_known();
        let enough = match self.policy.tolerates_backchannels && is_soft && !is_at_the_edge {
            true => enough + BACKCHANNEL_MORE,
            false => enough,
        };
        is_going_on && span >= enough && voiced * 10 >= span * VOICED_TENTHS
    }

    /// The first and the last second of what the agent says.
    fn is_at_the_edge(&self, began: u64, at: u64, agent: AgentTurn) -> bool {
        at.saturating_sub(began) < EDGE || agent.left.is_some_and(|left| left < EDGE)
    }
}

/// How much of a stretch of speech was voice, of what is later than `began`.
fn voiced_since(talk: Talk, began: u64) -> u64 {
    talk.voiced.min(talk.until.saturating_sub(talk.onset.max(began)))
}

/// A mean of levels, as powers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Loudness {
    power: f32,
    blocks: f32,
}

impl Loudness {
    fn add(&mut self, level_db: f32) {
        self.power += 10f32.powf(level_db / 10.0);
        self.blocks += 1.0;
    }

    /// Keeps the last seconds only.
    fn forget(&mut self) {
        if self.blocks > USUAL_BLOCKS {
            self.power /= 2.0;
            self.blocks /= 2.0;
        }
    }

    fn is_known(&self) -> bool {
        self.blocks >= USUAL_BLOCKS_MIN
    }

    fn db(&self) -> f32 {
        if self.power > 0.0 { 10.0 * (self.power / self.blocks).log10() } else { SILENT_DB }
    }
}

const fn samples(ms: u64) -> u64 {
    ms * SAMPLE_RATE as u64 / 1000
}

const BLOCK: u64 = samples(super::voice::BLOCK_MS as u64);
/// Voice for this long makes the agent soft.
const DUCK_AFTER: u64 = samples(48);
/// A pause between two syllables; after a longer one the decision waits for the next.
const GOING_ON: u64 = samples(64);
/// Of a stretch that stops the agent: coughs and taps have more gaps.
const VOICED_TENTHS: u64 = 5;
/// What sounds like a backchannel has this much longer to end.
const BACKCHANNEL_MORE: u64 = samples(200);
const SOFTER_DB: f32 = 3.0;
/// "No" takes longer.
const WORD_MIN: u64 = samples(120);
const EDGE: u64 = samples(1000);
/// Four seconds of speech, and one.
const USUAL_BLOCKS: f32 = 250.0;
const USUAL_BLOCKS_MIN: f32 = 60.0;

#[cfg(test)]
mod tests;
