//! The agent's mouth: nothing lost, nothing said twice, every sample counted.

use super::*;

#[test]
fn a_minute_that_comes_in_a_burst_is_played_in_a_minute() {
    let mut mouth = Mouthpiece::new();
    for piece in 0..600 {
        mouth.say(0, "a", &[1; 800], piece == 599);
    }
    for _ in 0..3000 {
        mouth.tick();
    }
    mouth.tick();

    assert_eq!(mouth.sent.iter().filter(|code| **code == 1).count(), 480_000);
    assert_eq!(mouth.heard, [Heard::Finished { item: item("a"), heard_ms: 60_000 }]);
}

#[test]
fn speech_starts_with_the_first_whole_frame() {
    let mut mouth = Mouthpiece::new();
    mouth.say(0, "a", &[1; 100], false);
    assert!(!mouth.tick());
    mouth.say(0, "a", &[1; 60], false);
    assert!(mouth.tick());
}

#[test]
fn the_rest_of_an_item_that_is_never_completed_is_heard_all_the_same() {
    let mut mouth = Mouthpiece::new();
    mouth.say(0, "a", &[1; 200], false);
    for _ in 0..20 {
        mouth.tick();
    }
    assert_eq!(mouth.sent.iter().filter(|code| **code == 1).count(), 200);
}

#[test]
fn a_stop_is_silence_after_a_fade_of_five_milliseconds() {
    let mut mouth = Mouthpiece::new();
    mouth.say(0, "a", &[0x90; 8000], true);
    for _ in 0..10 {
        mouth.tick();
    }

    let stopped = mouth.playout.stop(1);
    mouth.tick();
    mouth.tick();

    assert_eq!(stopped, Heard::Stopped { item: Some(item("a")), heard_ms: 205 });
    let (fade, silence) = mouth.sent[1600..].split_at(40);
    assert!(fade.windows(2).all(|pair| decode_ulaw(pair[0]) >= decode_ulaw(pair[1])), "{fade:?}");
    assert!(decode_ulaw(fade[0]) > 0 && silence.iter().all(|code| *code == SILENCE));
}

#[test]
fn a_stop_while_nothing_is_heard_says_so() {
    let mut mouth = Mouthpiece::new();
    mouth.say(0, "a", &[1; 8000], true);

    assert_eq!(mouth.playout.stop(1), Heard::Stopped { item: None, heard_ms: 0 });
    assert!(!mouth.tick());
    mouth.say(0, "a", &[1; 8000], true);
    assert!(!mouth.tick(), "the old epoch is over");
    mouth.say(1, "b", &[1; 8000], true);
    assert!(mouth.tick());
    assert_eq!(mouth.playout.stop(1), Heard::Stopped { item: None, heard_ms: 0 });
    assert!(mouth.tick(), "what is wanted goes on");
}

#[test]
fn an_item_that_was_heard_to_its_end_is_not_interrupted() {
    let mut mouth = Mouthpiece::new();
    mouth.say(0, "a", &[1; 160], true);
    mouth.tick();
    assert_eq!(mouth.heard, [Heard::Finished { item: item("a"), heard_ms: 20 }]);
    assert_eq!(mouth.playout.stop(1), Heard::Stopped { item: None, heard_ms: 0 });
}

#[test]
fn an_end_without_audio_finishes_the_item() {
    let mut mouth = Mouthpiece::new();
    mouth.say(0, "a", &[1; 160], false);
    mouth.tick();
    mouth.say(0, "a", &[], true);
    mouth.say(0, "b", &[], true);
    mouth.tick();
    let expected =
        [Heard::Finished { item: item("a"), heard_ms: 20 }, Heard::Finished { item: item("b"), heard_ms: 0 }];
    assert_eq!(mouth.heard, expected);
}

#[test]
fn audio_that_runs_dry_fades_and_waits_a_little_before_it_goes_on() {
    let mut mouth = Mouthpiece::new();
    mouth.say(0, "a", &[0x90; 320], false);
    mouth.tick();
    mouth.tick();
    assert!(mouth.tick(), "the fade");
    assert!(decode_ulaw(mouth.sent[320]) > decode_ulaw(mouth.sent[340]) && mouth.sent[360] == SILENCE);
    assert!(!mouth.tick());
    assert_eq!(mouth.playout.underruns(), 1);

    mouth.say(0, "a", &[0x90; 1600], true);
    assert!(mouth.tick());
    for _ in 0..20 {
        mouth.tick();
    }
    assert_eq!(mouth.heard, [Heard::Finished { item: item("a"), heard_ms: 240 }]);
    assert_eq!(mouth.playout.underruns(), 1);
}

#[test]
fn two_minutes_fill_it_and_room_comes_back() {
    let mut mouth = Mouthpiece::new();
    let mut pieces = 0;
    while mouth.playout.has_room() {
        mouth.say(0, "a", &[1; 8000], false);
        pieces += 1;
    }
    assert_eq!(pieces, 120);
    mouth.tick();
    assert!(mouth.playout.has_room());
}

#[derive(Clone, Debug)]
enum Step {
    Say { len: usize, last: bool },
    Stop,
    Tick(usize),
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..2000, any::<bool>()).prop_map(|(len, last)| Step::Say { len, last }),
        1 => Just(Step::Stop),
        4 => (1usize..12).prop_map(Step::Tick),
        1 => Just(Step::Pause),
    ]
}

proptest! {
    /// Each item's octets carry its number, so what went out can be counted per item from outside.
    #[test]
    fn what_is_reported_is_what_was_sent(steps in proptest::collection::vec(step(), 1..60)) {
        let mut mouth = Mouthpiece::new();
        let (mut number, mut epoch) = (0u8, 0u32);
        let mut offered = [0usize; 64];
        let mut stopped = Vec::new();
        let mut wanted = [true; 64];
        for step in steps {
            match step {
                Step::Say { len, last } => {
                    let at = usize::from(number) % 60;
                    offered[at] += len;
                    mouth.say(epoch, &at.to_string(), &vec![0x80 + at as u8; len], last);
                    number += u8::from(last);
                }
                Step::Stop => {
                    epoch += 1;
                    wanted[..=usize::from(number) % 60].fill(false);
                    stopped.push(mouth.playout.stop(epoch));
                    number += 1;
                }
                Step::Tick(ticks) => (0..ticks).for_each(|_| { mouth.tick(); }),
                Step::Pause => mouth.playout.pause(),
            }
        }
        while mouth.playout.queued() > 0 {
            mouth.tick();
        }
        for _ in 0..8 {
            mouth.tick();
        }
        // Everything that was not stopped went out whole, in order, and nothing twice.
        for at in (0..=usize::from(number).min(59)).filter(|at| wanted[*at]) {
            prop_assert_eq!(mouth.said(at), offered[at], "item {}", at);
        }
        // An item is finished or stopped once at most, and a stop silences what was before it.
        let mut ended: Vec<ItemId> = Vec::new();
        for heard in mouth.heard.iter().chain(&stopped) {
            if let Heard::Finished { item, .. } | Heard::Stopped { item: Some(item), .. } = heard {
                prop_assert!(!ended.contains(item), "{item} ended twice");
                ended.push(item.clone());
            }
            if let Heard::Finished { item, heard_ms } = heard {
                let at: usize = item.parse().expect("is a number");
                prop_assert_eq!(*heard_ms, offered[at] as u64 / 8);
            }
            if let Heard::Stopped { item: Some(item), heard_ms } = heard {
                let sent = mouth.said(item.parse().expect("is a number"));
                prop_assert!((sent / 8..=(sent + 40) / 8).contains(&(*heard_ms as usize)), "{heard_ms} of {sent}");
            }
        }
    }
}

struct Mouthpiece {
    playout: Playout<u8>,
    sent: Vec<u8>,
    heard: Vec<Heard>,
    /// Without the fades, whose octets look like those of other items.
    unfaded: Vec<u8>,
}

impl Mouthpiece {
    fn new() -> Mouthpiece {
        Mouthpiece { playout: Playout::new(8000), sent: Vec::new(), heard: Vec::new(), unfaded: Vec::new() }
    }

    fn say(&mut self, epoch: u32, name: &str, ulaw: &[u8], last: bool) {
        self.playout.offer(Piece { epoch, item: item(name), audio: ulaw.to_vec(), last });
    }

    fn tick(&mut self) -> bool {
        let mut frame = [0; FRAME_SAMPLES];
        let (underruns, queued) = (self.playout.underruns(), self.playout.queued());
        let is_tail = self.playout.is_fading();
        let speaks = self.playout.pull(&mut frame, &mut self.heard);
        self.sent.extend(frame);
        let said = queued - self.playout.queued();
        match is_tail || self.playout.underruns() > underruns {
            true => self.unfaded.extend(&frame[..said]),
            false => self.unfaded.extend(frame),
        }
        speaks
    }

    /// Samples of an item that went out whole.
    fn said(&self, item: usize) -> usize {
        self.unfaded.iter().filter(|code| **code == 0x80 + item as u8).count()
    }
}

fn item(name: &str) -> ItemId {
    Arc::from(name)
}
