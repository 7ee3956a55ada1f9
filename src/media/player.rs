//! Prompts and music for one leg.

use std::sync::Arc;

use super::g711::Gain;
use crate::model::{FRAME_SAMPLES, Frame, PlayId, SAMPLE_RATE, ULAW_SILENCE};

/// µ-law at 8 kHz, shared by every leg that hears it.
pub type Clip = Arc<[u8]>;

/// Plays one list of clips at a time. Each play is reported over exactly once: complete, stopped, or replaced.
#[derive(Debug, Default)]
pub struct Player {
    now: Option<Play>,
}

impl Player {
    /// Starts a play in place of the one that runs; returns the report of that one. The next frame is already of the
    /// new play, so there is no gap.
    pub fn start(&mut self, play: PlayId, clips: Vec<Clip>, repeat: bool, gain_db: f32) -> Option<PlayOver> {
        // Nothing to repeat would be repeated for ever.
        let repeat = repeat && clips.iter().any(|clip| !clip.is_empty());
        let gain = (gain_db != 0.0).then(|| Box::new(Gain::from_db(gain_db)));
        let new = Play { play, clips, repeat, gain, clip: 0, at: 0, samples: 0 };
        self.now.replace(new).map(|old| old.over(false))
    }

    /// Stops what plays, and reports it.
    pub fn stop(&mut self) -> Option<PlayOver> {
        self.now.take().map(|play| play.over(false))
    }

    /// Whether a play wants to be heard.
    pub fn is_playing(&self) -> bool {
        self.now.is_some()
    }

    /// The next 20 ms; a clip list that ends within the frame is followed by silence and reported.
    pub fn fill(&mut self, frame: &mut Frame) -> Option<PlayOver> {
        frame.fill(ULAW_SILENCE);
        let play = self.now.as_mut()?;
        if play.fill(frame) { self.now.take().map(|play| play.over(true)) } else { None }
    }
}

/// The end of a play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayOver {
    /// Which one.
    pub play: PlayId,
    /// Milliseconds that went out.
    pub heard_ms: u64,
    /// It came to its own end.
    pub complete: bool,
}

#[derive(Debug)]
struct Play {
    play: PlayId,
    clips: Vec<Clip>,
    repeat: bool,
    gain: Option<Box<Gain>>,
    clip: usize,
    at: usize,
    samples: u64,
}

impl Play {
    /// Returns whether the last sample is in the frame.
    fn fill(&mut self, frame: &mut Frame) -> bool {
        let mut filled = 0;
        while filled < FRAME_SAMPLES {
            let Some(clip) = self.clips.get(self.clip) else {
                if !self.repeat {
                    break;
                }
                self.clip = 0;
                continue;
            };
            let rest = &clip[self.at..];
            let take = rest.len().min(FRAME_SAMPLES - filled);
            frame[filled..filled + take].copy_from_slice(&rest[..take]);
            filled += take;
            self.at += take;
            if self.at == clip.len() {
                (self.clip, self.at) = (self.clip + 1, 0);
            }
        }
        if let Some(gain) = &self.gain {
            gain.apply(&mut frame[..filled]);
        }
        self.samples += filled as u64;
        !self.repeat && self.clips[self.clip..].iter().all(|clip| clip.is_empty())
    }

    fn over(&self, complete: bool) -> PlayOver {
        PlayOver { play: self.play, heard_ms: self.samples / u64::from(SAMPLE_RATE / 1000), complete }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn clips_follow_each_other_without_a_gap_and_end_once() {
        let mut player = Player::default();
        player.start(PlayId(1), vec![clip(1, 100), clip(2, 0), clip(3, 100)], false, 0.0);

        let (first, no_report) = frame(&mut player);
        let (second, report) = frame(&mut player);

        assert_eq!((&first[..100], &first[100..], no_report), (&[1; 100][..], &[3; 60][..], None));
        assert_eq!((&second[..40], &second[40..]), (&[3; 40][..], &[ULAW_SILENCE; 120][..]));
        assert_eq!(report, Some(PlayOver { play: PlayId(1), heard_ms: 25, complete: true }));
        assert_eq!(frame(&mut player), ([ULAW_SILENCE; 160], None));
    }

    #[test]
    fn a_new_play_starts_in_the_very_next_frame() {
        let mut player = Player::default();
        player.start(PlayId(1), vec![clip(1, 1000)], true, 0.0);
        frame(&mut player);

        let replaced = player.start(PlayId(2), vec![clip(2, 1000)], false, 0.0);

        assert_eq!(replaced, Some(PlayOver { play: PlayId(1), heard_ms: 20, complete: false }));
        assert_eq!(frame(&mut player).0, [2; 160]);
    }

    #[test]
    fn music_repeats_until_it_is_stopped() {
        let mut player = Player::default();
        player.start(PlayId(1), vec![clip(1, 50), clip(2, 50)], true, 0.0);

        let (music, _) = frame(&mut player);
        for _ in 0..49 {
            assert_eq!(frame(&mut player).1, None);
        }

        assert_eq!((music[49], music[50], music[100], music[159]), (1, 2, 1, 2));
        assert_eq!(player.stop(), Some(PlayOver { play: PlayId(1), heard_ms: 1000, complete: false }));
        assert_eq!(player.stop(), None);
    }

    #[test]
    fn nothing_to_play_is_over_at_once_even_when_repeated() {
        for clips in [vec![], vec![clip(0, 0)]] {
            let mut player = Player::default();
            player.start(PlayId(7), clips, true, -3.0);
            assert_eq!(frame(&mut player).1, Some(PlayOver { play: PlayId(7), heard_ms: 0, complete: true }));
            assert!(!player.is_playing());
        }
    }

    proptest! {
        #[test]
        fn every_sample_is_played_once_and_counted(lens in proptest::collection::vec(0usize..500, 0..8)) {
            let mut player = Player::default();
            let total: usize = lens.iter().sum();
            player.start(PlayId(1), lens.iter().map(|len| clip(9, *len)).collect(), false, 0.0);

            let (mut played, mut reports) = (0, Vec::new());
            for _ in 0..40 {
                let (frame, report) = frame(&mut player);
                played += frame.iter().filter(|code| **code == 9).count();
                reports.extend(report);
            }

            prop_assert_eq!(played, total);
            prop_assert_eq!(reports, [PlayOver { play: PlayId(1), heard_ms: total as u64 / 8, complete: true }]);
        }
    }

    fn clip(code: u8, len: usize) -> Clip {
        vec![code; len].into()
    }

    fn frame(player: &mut Player) -> (Frame, Option<PlayOver>) {
        let mut frame = [0; FRAME_SAMPLES];
        let report = player.fill(&mut frame);
        (frame, report)
    }
}
