//! The worker's ear on a caller while an agent talks: who speaks, is it our echo, shall the agent be silent.
//!
//! Joins the parts: [`VoiceFinder`] hears, [`EchoGuard`] knows our own voice, [`Interrupter`] decides, [`Fader`] makes softer.
//! While the agent is silent only the noise and the loudness of the line are learned.

use super::barge_in::{AgentTurn, Interrupter, Move};
use super::echo::EchoGuard;
use super::fader::Fader;
use super::voice::{Surroundings, VoiceFinder, VoiceStats};
use crate::model::{BargeIn, SAMPLE_RATE};

/// What listens to one caller for one agent.
#[derive(Debug)]
pub struct Listener {
    voice: VoiceFinder,
    guard: EchoGuard,
    interrupter: Interrupter,
    fader: Fader,
    agent: AgentTurn,
    was_wanted: bool,
}

impl Listener {
    /// Nothing was heard yet.
    pub fn new(policy: BargeIn) -> Listener {
        Listener {
            voice: VoiceFinder::default(),
            guard: EchoGuard::default(),
            interrupter: Interrupter::new(policy),
            fader: Fader::default(),
            agent: AgentTurn { speaks: false, left: None },
            was_wanted: false,
        }
    }

    /// 20 ms the agent says, silence too, before they go out: made softer in place while the caller may be speaking.
    pub fn say(&mut self, audio: &mut [i16], agent: AgentTurn) {
        if !agent.speaks && !self.fader.is_idle() {
            self.fader.reset();
        }
        self.agent = agent;
        self.fader.apply(audio);
        self.guard.sent(audio);
    }

    /// Audio of the caller, in whole steps of 10 ms. Returns what is to be done; ducking and resuming are done already
    /// and returned to be told.
    pub fn hear(&mut self, audio: &[i16]) -> Option<Move> {
        self.guard.came(audio, self.voice.noise_db());
        let is_wanted = self.agent.speaks;
        if self.was_wanted && !is_wanted {
            self.voice.rest();
        }
        self.was_wanted = is_wanted;
        let around = Surroundings { bound_db: self.guard.bound_db(), is_echoing: self.guard.is_echoing(), is_wanted };
        let speech_db = self.voice.noise_db().max(USUAL_MIN_DB) + STANDS_OUT_DB;
        let (guard, interrupter, agent) = (&self.guard, &mut self.interrupter, self.agent);
        let (mut heard, noise_db) = (self.voice.heard(), self.voice.noise_db());
        let mut step = None;
        self.voice.hear(audio, around, |verdict| {
            heard += BLOCK;
            if !is_wanted && !around.is_echoing && verdict.level_db > speech_db {
                interrupter.overhear(verdict.level_db);
            }
            let next = interrupter.judge(verdict, heard, agent, || guard.is_echo(noise_db));
            step = next.or(step);
        });
        match step {
            Some(Move::Duck) => self.fader.go_to(DUCK_DB, DUCK_SAMPLES),
            Some(Move::Resume) => self.fader.go_to(0.0, RESUME_SAMPLES),
            Some(Move::Stop) | None => {}
        }
        step
    }

    /// The agent was silenced: what it says next is heard as it is.
    pub fn stopped(&mut self) {
        self.agent = AgentTurn { speaks: false, left: None };
    }

    /// What listening cost so far.
    pub fn stats(&self) -> VoiceStats {
        self.voice.stats()
    }

    /// What is known of our own voice on this line.
    pub fn guard(&self) -> &EchoGuard {
        &self.guard
    }
}

const BLOCK: u64 = (SAMPLE_RATE / 1000 * super::voice::BLOCK_MS) as u64;
/// Loud enough to be understood, soft enough to be spoken over.
const DUCK_DB: f32 = -18.0;
/// 10 ms.
const DUCK_SAMPLES: usize = SAMPLE_RATE as usize / 100;
/// 80 ms.
const RESUME_SAMPLES: usize = SAMPLE_RATE as usize / 1000 * 80;
const USUAL_MIN_DB: f32 = -55.0;
const STANDS_OUT_DB: f32 = 15.0;
