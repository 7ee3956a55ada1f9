//! The decision alone, over verdicts: what the detector makes of real voices is tried in `tests/it/media_voice.rs`.

use super::*;
use crate::model::Interruptible;

#[test]
fn speech_ducks_after_48_ms_and_stops_after_250() {
    let mut caller = Caller::new(BargeIn::default());
    caller.says(0, 1500);

    assert_eq!(caller.says(1, 600), [(48, Move::Duck), (256, Move::Stop)]);
}

#[test]
fn a_cough_resumes_when_it_was_silent_for_200_ms() {
    let mut caller = Caller::new(BargeIn::default());
    caller.says(0, 1500);
    assert_eq!(caller.says(1, 96), [(48, Move::Duck)]);

    assert_eq!(caller.says(0, 600), [(208, Move::Resume)]);
}

#[test]
fn two_taps_are_not_continuous_speech() {
    let mut caller = Caller::new(BargeIn::default());
    caller.says(0, 1500);
    caller.says(1, 64);
    caller.says(0, 160);

    assert!(caller.says(1, 64).is_empty());
    assert_eq!(caller.says(0, 300), [(208, Move::Resume)]);
}

#[test]
fn a_soft_word_has_longer_to_end_unless_it_is_not_tolerated() {
    for (tolerates_backchannels, moves) in
        [(true, vec![(48, Move::Duck)]), (false, vec![(48, Move::Duck), (256, Move::Stop)])]
    {
        let mut caller = Caller::new(BargeIn { tolerates_backchannels, ..BargeIn::default() });
        (0..100).for_each(|_| caller.interrupter.overhear(-20.0));
        caller.level_db = -26.0;
        caller.says(0, 1500);

        assert_eq!(caller.says(1, 320), moves);
    }
}

#[test]
fn a_short_word_counts_in_the_first_and_last_second() {
    for (before, left) in [(300, None), (3000, Some(samples(700)))] {
        let mut caller = Caller::new(BargeIn::default());
        caller.agent.left = left;
        caller.says(0, before);
        assert_eq!(caller.says(1, 160), [(48, Move::Duck)]);

        assert_eq!(caller.says(0, 400), [(208, Move::Stop)]);
    }
}

#[test]
fn what_was_being_said_before_the_agent_spoke_counts_from_there() {
    let mut caller = Caller::new(BargeIn::default());
    caller.agent.speaks = false;
    assert!(caller.says(1, 800).is_empty());

    caller.agent.speaks = true;

    assert_eq!(caller.says(1, 400), [(48, Move::Duck), (256, Move::Stop)]);
}

#[test]
fn an_echo_that_got_through_resumes_and_is_not_judged_again() {
    let mut caller = Caller::new(BargeIn::default());
    caller.is_echo = true;
    caller.says(0, 1500);

    assert_eq!(caller.says(1, 900), [(48, Move::Duck), (256, Move::Resume)]);

    caller.is_echo = false;
    caller.says(0, 400);
    assert_eq!(caller.says(1, 400), [(48, Move::Duck), (256, Move::Stop)]);
}

#[test]
fn an_agent_that_ends_by_itself_is_ducked_no_more() {
    let mut caller = Caller::new(BargeIn::default());
    caller.says(0, 1500);
    caller.says(1, 96);
    caller.agent.speaks = false;

    assert_eq!(caller.says(1, 16), [(16, Move::Resume)]);
    assert!(caller.says(1, 600).is_empty());
}

#[test]
fn the_stop_is_said_once() {
    let mut caller = Caller::new(BargeIn::default());
    caller.says(0, 1500);
    caller.says(1, 600);

    assert!(caller.says(1, 1000).is_empty());
    assert!(caller.interrupter.policy.interruptible == Interruptible::Yes);
}

/// Makes verdicts of what is voice and what is not, as the detector does with its hangover.
struct Caller {
    interrupter: Interrupter,
    agent: AgentTurn,
    is_echo: bool,
    level_db: f32,
    heard: u64,
    talk: Option<Talk>,
}

impl Caller {
    fn new(policy: BargeIn) -> Caller {
        let agent = AgentTurn { speaks: true, left: None };
        let interrupter = Interrupter::new(policy);
        Caller { interrupter, agent, is_echo: false, level_db: -20.0, heard: 0, talk: None }
    }

    /// Voice or silence for some milliseconds; the moves and when they came.
    fn says(&mut self, voice: u8, ms: u64) -> Vec<(u64, Move)> {
        let mut moves = Vec::new();
        for at in 1..=ms / 16 {
            self.heard += BLOCK;
            if voice == 1 {
                let (onset, block) = (self.heard - BLOCK, BLOCK);
                let talk = self.talk.get_or_insert(Talk { onset, until: 0, voiced: 0 });
                (talk.until, talk.voiced) = (self.heard, talk.voiced + block);
            } else if self.talk.is_some_and(|talk| self.heard - talk.until >= samples(208)) {
                self.talk = None;
            }
            let verdict = Judged { is_voice: voice == 1, talk: self.talk, level_db: self.level_db };
            let is_echo = self.is_echo;
            moves.extend(
                self.interrupter.judge(verdict, self.heard, self.agent, || is_echo).map(|step| (at * 16, step)),
            );
        }
        moves
    }
}
