//! Legs without a network: an agent's socket, and the built-in echo.

use std::collections::VecDeque;

use super::g711::decode_ulaw;
use super::playout::{Piece, Playout};
use super::resample::{Edge, Resampler};
use super::sample::is_audible;
use crate::model::limits::ECHO_MAX;
use crate::model::{Band, FRAME_MS, FRAME_SAMPLES, Form, Heard, Sound, Speech, Voice};

/// An agent's socket: a mouth and an ear, both in the form that it wants.
#[derive(Debug)]
pub(super) struct AgentLeg {
    form: Form,
    mouth: Lips,
    edge: Edge,
    ear: Option<Box<Resampler>>,
}

#[derive(Debug)]
enum Lips {
    Ulaw(Playout<u8>),
    Linear(Box<Linear>),
}

/// The mouth of an agent that speaks in linear samples.
#[derive(Debug)]
struct Linear {
    playout: Playout<i16>,
    resampler: Resampler,
    /// The last frame has an end that is still in the resampler.
    is_ringing: bool,
}

impl AgentLeg {
    pub(super) fn new(form: Form) -> AgentLeg {
        let mouth = match form {
            Form::Ulaw => Lips::Ulaw(Playout::new(form.rate())),
            Form::Linear16 | Form::Linear24 => {
                let (playout, resampler) = (Playout::new(form.rate()), Resampler::new());
                Lips::Linear(Box::new(Linear { playout, resampler, is_ringing: false }))
            }
        };
        AgentLeg { form, mouth, edge: Edge::default(), ear: None }
    }

    /// The form in which it hears and, unless it converts anyway, speaks.
    pub(super) fn band(&self) -> Band {
        match self.form {
            Form::Ulaw => Band::Narrow,
            Form::Linear16 | Form::Linear24 => Band::Wide,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        match &self.mouth {
            Lips::Ulaw(playout) => playout.has_room(),
            Lips::Linear(linear) => linear.playout.has_room(),
        }
    }

    /// Takes a piece of speech; returns whether it is still wanted.
    pub(super) fn offer(&mut self, speech: Speech) -> bool {
        let Speech { epoch, item, voice, last } = speech;
        match (&mut self.mouth, voice) {
            (Lips::Ulaw(playout), Voice::Ulaw(audio)) => playout.offer(Piece { epoch, item, audio, last }),
            (Lips::Linear(linear), Voice::Linear(audio)) => linear.playout.offer(Piece { epoch, item, audio, last }),
            // A connector that opened the leg in another form: it was told that this is dropped.
            (Lips::Ulaw(_), Voice::Linear(_)) | (Lips::Linear(_), Voice::Ulaw(_)) => false,
        }
    }

    pub(super) fn stop(&mut self, epoch: u32) -> Heard {
        match &mut self.mouth {
            Lips::Ulaw(playout) => playout.stop(epoch),
            Lips::Linear(linear) => linear.playout.stop(epoch),
        }
    }

    pub(super) fn underruns(&self) -> u64 {
        match &self.mouth {
            Lips::Ulaw(playout) => playout.underruns(),
            Lips::Linear(linear) => linear.playout.underruns(),
        }
    }

    /// The next 20 ms, in the band its listeners want if it has to be converted anyway. Returns whether the agent
    /// speaks in it.
    pub(super) fn pull(&mut self, wanted: Band, said: &mut Sound, heard: &mut Vec<Heard>) -> bool {
        match &mut self.mouth {
            Lips::Ulaw(playout) => {
                let mut frame = [0; FRAME_SAMPLES];
                let speaks = playout.pull(&mut frame, heard);
                *said = Sound::Narrow(frame);
                speaks
            }
            Lips::Linear(linear) => linear.pull(self.form, wanted, said, heard),
        }
    }

    /// Nobody listens in this tick.
    pub(super) fn pause(&mut self) {
        match &mut self.mouth {
            Lips::Ulaw(playout) => playout.pause(),
            Lips::Linear(linear) => {
                linear.playout.pause();
                linear.is_ringing = false;
            }
        }
    }

    /// What its socket gets of 20 ms that it hears.
    pub(super) fn hear(&mut self, sound: &Sound) -> Heard {
        match self.form {
            Form::Ulaw => match self.edge.fit(sound, Band::Narrow) {
                Sound::Narrow(frame) => Heard::Frame(Box::new(frame)),
                Sound::Wide(_) => unreachable!("an edge gives the band that it is asked for"),
            },
            Form::Linear16 => match self.edge.fit(sound, Band::Wide) {
                Sound::Wide(frame) => Heard::Linear(Box::new(frame)),
                Sound::Narrow(_) => unreachable!("an edge gives the band that it is asked for"),
            },
            Form::Linear24 => {
                let rates = (sound.band().rate(), self.form.rate());
                let ear = self.ear.get_or_insert_with(|| Box::new(Resampler::new()));
                let mut heard = vec![0; self.form.frame_samples()].into_boxed_slice();
                match sound {
                    Sound::Narrow(ulaw) => ear.run(rates, &ulaw.map(decode_ulaw), &mut heard),
                    Sound::Wide(wide) => ear.run(rates, wide, &mut heard),
                }
                Heard::Linear(heard)
            }
        }
    }
}

impl Linear {
    fn pull(&mut self, form: Form, wanted: Band, said: &mut Sound, heard: &mut Vec<Heard>) -> bool {
        let mut room = [0; SAMPLES_MAX];
        let frame = &mut room[..form.frame_samples()];
        let speaks = self.playout.pull(frame, heard);
        *said = Sound::silence(wanted);
        if !speaks && !self.is_ringing {
            return false;
        }
        let rates = (form.rate(), wanted.rate());
        match said {
            Sound::Wide(wide) if form == Form::Linear16 => wide.copy_from_slice(frame),
            Sound::Wide(wide) => self.convert(rates, speaks, frame, wide),
            Sound::Narrow(ulaw) => {
                let mut narrow = [0; FRAME_SAMPLES];
                self.convert(rates, speaks, frame, &mut narrow);
                *ulaw = narrow.map(super::g711::encode_ulaw);
            }
        }
        true
    }

    fn convert(&mut self, rates: (u32, u32), speaks: bool, frame: &[i16], out: &mut [i16]) {
        if speaks && !self.is_ringing {
            self.resampler.reset();
        }
        self.resampler.run(rates, frame, out);
        self.is_ringing = speaks;
    }
}

/// 20 ms at 24 kHz.
const SAMPLES_MAX: usize = 480;

/// Says what it hears.
#[derive(Debug, Default)]
pub(super) struct Echo {
    frames: VecDeque<Sound>,
    /// The fewest that stayed behind a pull in this second.
    least: usize,
    pulls: u32,
}

impl Echo {
    /// Takes a frame; beyond two seconds the oldest goes.
    pub(super) fn hear(&mut self, frame: &Sound) {
        if self.frames.len() == FRAMES_MAX {
            self.frames.pop_front();
        }
        self.frames.push_back(*frame);
    }

    /// The next frame to say; returns whether there was one.
    pub(super) fn pull(&mut self, frame: &mut Sound) -> bool {
        let is_there = match self.frames.pop_front() {
            Some(heard) => {
                *frame = heard;
                true
            }
            None => {
                *frame = Sound::silence(frame.band());
                false
            }
        };
        self.catch_up();
        is_there && is_audible(frame)
    }

    /// A burst after a pause of the network leaves the echo late for good; a frame that waited for a whole second
    /// was not needed.
    fn catch_up(&mut self) {
        self.least = if self.pulls == 0 { self.frames.len() } else { self.least.min(self.frames.len()) };
        self.pulls += 1;
        if self.pulls == 1000 / FRAME_MS {
            if self.least > 1 {
                self.frames.pop_front();
            }
            self.pulls = 0;
        }
    }
}

const FRAMES_MAX: usize = ECHO_MAX.as_millis() as usize / FRAME_MS as usize;

#[cfg(test)]
mod tests {
    use super::super::sample::energy;
    use super::*;

    #[test]
    fn what_is_heard_is_said_in_order() {
        let mut echo = Echo::default();
        echo.hear(&frame(1));
        echo.hear(&frame(2));

        let mut said = frame(0);
        assert!(echo.pull(&mut said) && said == frame(1));
        assert!(echo.pull(&mut said) && said == frame(2));
        assert!(!echo.pull(&mut said) && said == Sound::silence(Band::Narrow));
    }

    #[test]
    fn an_echo_that_is_behind_catches_up_and_one_nobody_hears_stays_bounded() {
        let mut echo = Echo::default();
        for _ in 0..1000 {
            echo.hear(&frame(1));
        }
        assert_eq!(echo.frames.len(), FRAMES_MAX);

        for _ in 0..50 * 120 {
            echo.hear(&frame(1));
            echo.pull(&mut frame(0));
        }

        assert!(echo.frames.len() <= 2, "{}", echo.frames.len());
    }

    #[test]
    fn an_agent_of_24_khz_hears_and_says_the_same_sound_at_every_rate() {
        for (form, band) in [
            (Form::Linear24, Band::Narrow),
            (Form::Linear24, Band::Wide),
            (Form::Linear16, Band::Narrow),
            (Form::Linear16, Band::Wide),
        ] {
            let mut agent = AgentLeg::new(form);
            let tone: Vec<i16> = (0..form.rate())
                .map(|at| ((at as f32 / form.rate() as f32 * 440.0 * std::f32::consts::TAU).sin() * 8000.0) as i16)
                .collect();
            agent.offer(Speech { epoch: 0, item: "a".into(), voice: Voice::Linear(tone), last: true });
            let (mut heard, mut level) = (Vec::new(), Vec::new());
            for _ in 0..60 {
                let mut said = Sound::silence(band);
                if agent.pull(band, &mut said, &mut heard)
                    && let Heard::Linear(samples) = agent.hear(&said)
                {
                    assert_eq!(samples.len(), form.frame_samples());
                    level.push(energy(&samples));
                }
            }

            assert_eq!(heard, [Heard::Finished { item: "a".into(), heard_ms: 1000 }]);
            assert!(level.len() <= 51, "{}", level.len());
            let steady = &level[3..48];
            assert!(
                steady.iter().all(|level| (30_000_000..34_000_000).contains(level)),
                "{form:?} {band:?}: {steady:?}"
            );
        }
    }

    #[test]
    fn speech_in_another_form_than_the_legs_is_dropped() {
        let mut agent = AgentLeg::new(Form::Ulaw);
        let voice = Voice::Linear(vec![1000; 480]);
        assert!(!agent.offer(Speech { epoch: 0, item: "a".into(), voice, last: true }));
    }

    fn frame(code: u8) -> Sound {
        Sound::Narrow([code; FRAME_SAMPLES])
    }
}
