//! A whole call without sockets, in virtual time: what goes out to each party, and what the gateway is told.

use super::*;

const CALLER: LegId = LegId(0);
const AGENT: LegId = LegId(1);
const TARGET: LegId = LegId(2);
const EVENTS: u8 = 101;

#[test]
fn the_first_packet_leaves_with_the_first_tick_after_the_answer_and_silence_follows_on_the_grid() {
    let mut world = World::new();
    world.desk.open_rtp(ms(0), CALLER, 1, false, &mut world.out);
    world.run(3);
    assert!(world.sent.is_empty());

    world.answer(CALLER, Codec::Pcma);
    world.run(10);

    let sent = world.of(CALLER);
    assert_eq!(sent.len(), 10);
    steady(&sent);
    assert!(sent.iter().all(|packet| packet.payload == [0xD5; 160] && packet.header.payload_type == 8));
    assert!(sent.iter().all(|packet| !packet.header.marker));
}

#[test]
fn an_agent_speaks_and_its_speech_is_marked_and_counted() {
    let mut world = World::with_agent();
    world.run(2);
    world.say("hello", 1600);

    world.run(15);

    let sent = world.of(CALLER);
    steady(&sent);
    let voiced: Vec<&Sent> = sent.iter().filter(|packet| packet.payload == [0x90; 160]).collect();
    assert_eq!(voiced.len(), 10);
    assert_eq!(sent.iter().filter(|packet| packet.header.marker).count(), 1);
    assert!(voiced[0].header.marker);
    assert!(world.notices.contains(&Noticed::Heard(Heard::Finished { item: "hello".into(), heard_ms: 200 })));
}

#[test]
fn an_agent_waits_until_the_caller_can_be_reached() {
    let mut world = World::new();
    world.desk.open_rtp(ms(0), CALLER, 1, false, &mut world.out);
    world.desk.open_agent(AGENT, Form::Ulaw, &mut world.out);
    world.wire(&[(CALLER, AGENT), (AGENT, CALLER)]);
    world.say("hello", 1600);
    world.run(100);

    world.answer(CALLER, Codec::Pcmu);
    world.run(12);

    let voiced = world.of(CALLER).iter().filter(|packet| packet.payload == [0x90; 160]).count();
    assert_eq!(voiced, 10);
}

#[test]
fn a_stop_is_silent_within_one_frame() {
    let mut world = World::with_agent();
    world.say("hello", 80_000);
    world.run(10);

    world.desk.mouth(AGENT, Mouth::Stop { epoch: 1 }, &mut world.out);
    let before = world.of(CALLER).len();
    world.run(5);

    let after = &world.of(CALLER)[before..];
    assert!(after[0].payload[40..].iter().all(|code| *code == SILENCE));
    assert!(after[1..].iter().all(|packet| packet.payload == [SILENCE; 160]));
    let stopped = Noticed::Heard(Heard::Stopped { item: Some("hello".into()), heard_ms: 205 });
    assert!(world.notices.contains(&stopped), "{:?}", world.notices.last());
}

#[test]
fn the_agent_hears_the_caller_in_frames_and_silence_when_it_is_wired_to_nobody() {
    let mut world = World::with_agent();
    for seq in 0..5 {
        world.hear(CALLER, seq, 0x85);
        world.run(1);
    }
    assert_eq!(world.frames().iter().filter(|frame| ***frame == [0x85; 160]).count(), 5);

    world.wire(&[]);
    world.notices.clear();
    world.run(10);
    assert_eq!(world.frames().len(), 10);
    assert!(world.frames().iter().all(|frame| **frame == [SILENCE; 160]));
}

#[test]
fn a_prompt_then_music_follow_without_a_gap_and_the_agent_waits() {
    let mut world = World::with_agent();
    world.say("hello", 480);
    world.play(PlayId(1), 0xA0, 1600, false);
    world.run(5);
    world.play(PlayId(2), 0xB0, 400, true);
    world.run(10);
    world.desk.stop(CALLER, &mut world.out);
    world.run(4);

    let firsts: Vec<u8> = world.of(CALLER).iter().map(|packet| packet.payload[0]).collect();
    assert_eq!(firsts, [vec![0xA0; 5], vec![0xB0; 10], vec![0x90; 3], vec![SILENCE]].concat());
    steady(&world.of(CALLER));
    let played: Vec<&Noticed> = world.notices.iter().filter(|what| matches!(what, Noticed::Played { .. })).collect();
    let over = |play, heard_ms| Noticed::Played { play: PlayId(play), heard_ms, complete: false };
    assert_eq!(played, [&over(1, 100), &over(2, 200)]);
}

#[test]
fn keys_pause_the_audio_and_share_its_sequence() {
    let mut world = World::with_agent();
    world.say("hello", 8000);
    world.run(5);
    let two: Vec<Digit> = "4#".chars().filter_map(Digit::from_char).collect();
    world.desk.send_digits(CALLER, &two, &mut world.out);
    world.run(30);

    let sent = world.of(CALLER);
    assert!(sent.windows(2).all(|pair| pair[1].header.seq == pair[0].header.seq.wrapping_add(1)));
    let keys: Vec<&Sent> = sent.iter().filter(|packet| packet.header.payload_type == EVENTS).collect();
    assert_eq!(keys.len(), 14);
    assert_eq!(keys.iter().filter(|packet| packet.header.marker).count(), 2);
    assert_eq!(keys.iter().map(|packet| packet.payload[0]).collect::<Vec<_>>(), [[4; 7], [11; 7]].concat());
    let voiced = sent.iter().filter(|packet| packet.payload == [0x90; 160]).count();
    assert_eq!(voiced, 15, "the agent goes on where it was");
    let resumed = sent.iter().rposition(|packet| packet.header.payload_type == EVENTS).expect("keys were sent");
    let frozen = keys[13].header.timestamp;
    assert_eq!(sent[resumed + 1].header.timestamp.wrapping_sub(frozen), 7 * 160);
    assert_eq!(world.notices.iter().filter(|what| **what == Noticed::DigitsSent).count(), 1);
}

#[test]
fn keys_become_tones_for_a_party_without_telephone_event() {
    let mut world = World::with_agent();
    world.peer(CALLER, Codec::Pcmu, None);
    world.desk.send_digits(CALLER, &[Digit::from_char('1').expect("is a key")], &mut world.out);
    world.run(12);

    let sent = world.of(CALLER);
    steady(&sent);
    let loud = sent.iter().filter(|packet| packet.payload.iter().any(|code| decode_ulaw(*code) > 8000)).count();
    assert_eq!(loud, 5);
}

#[test]
fn keys_of_the_caller_are_reported_once() {
    let mut world = World::with_agent();
    for (seq, duration, end) in [(0, 160, 0), (1, 320, 0), (2, 480, 0x80), (3, 480, 0x80), (4, 480, 0x80)] {
        let header = Header { marker: false, payload_type: EVENTS, seq, timestamp: 9000, ssrc: 5 };
        let [high, low] = u16::to_be_bytes(duration);
        world.datagram(CALLER, &[&header.to_bytes()[..], &[7, end | 10, high, low]].concat());
        world.run(1);
    }
    let digit = Digit::from_char('7').expect("is a key");
    let pressed: Vec<&Noticed> = world.notices.iter().filter(|what| matches!(what, Noticed::Digit { .. })).collect();
    assert_eq!(pressed, [&Noticed::Digit { digit, duration_ms: 60 }]);
}

#[test]
fn two_parties_hear_each_other_without_delay_in_their_own_law() {
    let mut world = World::with_target();
    for seq in 0..20 {
        let before = world.of(TARGET).len();
        world.hear(CALLER, seq, 0x85);
        assert_eq!(world.of(TARGET).len(), before + 1, "forwarded on arrival");
        world.hear(TARGET, seq, 0x2A);
        world.run(1);
    }

    let (to_caller, to_target) = (world.of(CALLER), world.of(TARGET));
    monotone(&to_caller);
    monotone(&to_target);
    assert!(to_target.iter().filter(|packet| packet.payload == [ulaw_to_alaw(0x85); 160]).count() == 20);
    assert!(to_caller.iter().filter(|packet| packet.payload == [alaw_to_ulaw(0x2A); 160]).count() == 20);
    // One tick of silence before the first packet at most.
    assert!(to_target.len() <= 22, "{}", to_target.len());
}

#[test]
fn from_music_to_bridge_to_agent_no_gap_is_over_40_ms_and_no_timestamp_repeats() {
    for offset in 0..20 {
        let mut world = World::with_target();
        world.desk.open_agent(AGENT, Form::Ulaw, &mut world.out);
        world.play(PlayId(1), 0xA0, 8000, true);
        world.run(7);
        world.desk.stop(CALLER, &mut world.out);
        for seq in 0..25 {
            world.since_tick(offset);
            world.hear(TARGET, seq, 0x2A);
            world.run(1);
        }
        world.wire(&[(CALLER, AGENT), (AGENT, CALLER)]);
        world.say("back", 1600);
        world.run(12);

        let sent = world.of(CALLER);
        monotone(&sent);
        for pair in sent.windows(2) {
            let gap = (pair[1].at - pair[0].at).as_millis();
            assert!(gap <= 40, "offset {offset}: {gap} ms");
        }
        assert_eq!(sent.iter().filter(|packet| packet.payload == [0x90; 160]).count(), 10);
    }
}

#[test]
fn silence_fills_a_bridge_that_stops() {
    let mut world = World::with_target();
    for seq in 0..10 {
        world.hear(TARGET, seq, 0x2A);
        world.run(1);
    }
    let before = world.of(CALLER).len();
    world.run(20);

    let filled = &world.of(CALLER)[before..];
    assert!((16..=18).contains(&filled.len()), "{}", filled.len());
    assert!(filled.iter().all(|packet| packet.payload == [SILENCE; 160]));
    monotone(&world.of(CALLER));
}

#[test]
fn keys_go_through_a_bridge_and_are_reported() {
    let mut world = World::with_target();
    world.hear(CALLER, 0, 0x85);
    world.run(1);
    for (at, (duration, end)) in [(160, 0), (320, 0), (800, 0x80), (800, 0x80), (800, 0x80)].into_iter().enumerate() {
        let header = Header { marker: at == 0, payload_type: EVENTS, seq: 1 + at as u16, timestamp: 160, ssrc: 5 };
        let [high, low] = u16::to_be_bytes(duration);
        world.datagram(CALLER, &[&header.to_bytes()[..], &[3, end | 10, high, low]].concat());
        world.run(1);
    }

    let keys: Vec<Sent> = world.of(TARGET).into_iter().filter(|packet| packet.header.payload_type == EVENTS).collect();
    assert_eq!(keys.len(), 5);
    assert!(keys.iter().all(|packet| packet.header.timestamp == keys[0].header.timestamp && packet.payload[0] == 3));
    assert!(keys[0].header.marker && !keys[1].header.marker);
    assert_eq!(world.notices.iter().filter(|what| matches!(what, Noticed::Digit { .. })).count(), 1);
}

#[test]
fn strangers_are_not_heard_and_counted() {
    let mut world = World::with_agent();
    for seq in 0..3 {
        world.hear(CALLER, seq, 0x85);
    }
    let stranger: SocketAddr = "198.51.100.9:9".parse().expect("is an address");
    let header = Header { marker: false, payload_type: 0, seq: 3, timestamp: 480, ssrc: 6 };
    let packet = [&header.to_bytes()[..], &[0; 160]].concat();
    world.desk.datagram(world.at, CALLER, stranger, &packet, &mut world.out);
    world.desk.datagram(world.at, CALLER, stranger, b"hello", &mut world.out);
    world.desk.close(&mut world.out);
    world.collect();

    let stats = world.notices.iter().find_map(|what| match what {
        Noticed::LegStats(stats) if stats.packets_in > 0 => Some(*stats),
        _ => None,
    });
    let stats = stats.expect("figures of the caller");
    assert_eq!((stats.packets_in, stats.foreign, stats.refused), (3, 1, 1));
}

#[test]
fn a_click_through_the_echo_stands_on_both_channels_within_a_frame() {
    let mut world = World::new();
    world.desk.open_rtp(ms(0), CALLER, 1, false, &mut world.out);
    world.desk.open_echo(AGENT, &mut world.out);
    world.wire(&[(CALLER, AGENT), (AGENT, CALLER)]);
    world.answer(CALLER, Codec::Pcmu);
    world.run(1);
    world.desk.record(ms(0), CALLER);
    for seq in 0..100 {
        world.since_tick(7);
        world.hear(CALLER, seq, if seq == 50 { 0x80 } else { SILENCE });
        world.run(1);
    }
    world.desk.stop_recording(world.tick_at, &mut world.out);
    world.collect();

    let left: Vec<u8> = world.pairs.iter().flat_map(|pair| pair.left).collect();
    let right: Vec<u8> = world.pairs.iter().flat_map(|pair| pair.right).collect();
    let click = |track: &[u8]| track.iter().position(|code| *code == 0x80).expect("the click");
    assert_eq!(world.pairs.len(), 101);
    assert_eq!(click(&left), 50 * 160 + 7 * 8);
    assert_eq!(click(&right), 51 * 160, "with the next tick");
}

#[test]
fn a_recording_of_a_bridge_holds_both_parties_where_they_were() {
    let mut world = World::with_target();
    world.run(1);
    world.desk.record(ms(0), CALLER);
    for seq in 0..60 {
        world.since_tick(4);
        world.hear(CALLER, seq, if seq == 30 { 0x80 } else { 0x90 });
        world.since_tick(11);
        world.hear(TARGET, seq, ulaw_to_alaw(if seq == 30 { 0x80 } else { 0x90 }));
        world.run(1);
    }
    world.desk.stop_recording(world.tick_at, &mut world.out);
    world.collect();

    let left: Vec<u8> = world.pairs.iter().flat_map(|pair| pair.left).collect();
    let right: Vec<u8> = world.pairs.iter().flat_map(|pair| pair.right).collect();
    let said = |track: &[u8], code| track.iter().filter(|other| **other == code).count();
    let click = |track: &[u8]| track.iter().position(|code| *code == 0x80).expect("the click");
    assert_eq!(world.pairs.len(), 61);
    assert_eq!((said(&left, 0x80), said(&right, 0x80)), (160, 160));
    assert_eq!(click(&left), 30 * 160 + 4 * 8);
    // Where its timestamp puts it, which is what the caller's own phone plays: behind the tick before.
    assert_eq!(click(&right), 31 * 160);
    assert!(said(&right, 0x90) >= 58 * 160, "{} samples of the target", said(&right, 0x90));
}

#[test]
fn a_bridge_over_a_bad_network_stays_one_stream_and_keeps_what_arrives() {
    for seed in 1..20 {
        let mut dice = Dice(seed * 7919);
        let mut world = World::with_target();
        let mut on_the_way: Vec<(u64, u16)> = Vec::new();
        for seq in 0..500u16 {
            if dice.roll(100) >= 3 {
                on_the_way.push((u64::from(seq) * 20 + dice.roll(45), seq));
            }
            if dice.roll(100) == 0 {
                on_the_way.push((u64::from(seq) * 20 + dice.roll(45), seq));
            }
        }
        on_the_way.sort_unstable();
        let mut arrivals = on_the_way.iter().peekable();
        for _ in 0..505 {
            let tick = world.tick_at.as_ms();
            while let Some((at, seq)) = arrivals.next_if(|(at, _)| *at < tick) {
                world.at = ms(*at);
                world.hear(TARGET, *seq, 0x2A);
            }
            world.run(1);
        }

        let sent = world.of(CALLER);
        let mut seqs: Vec<u16> = sent.iter().map(|packet| packet.header.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len(), sent.len(), "seed {seed}: a sequence number went out twice");
        let forwarded = sent.iter().filter(|packet| packet.payload == [alaw_to_ulaw(0x2A); 160]).count();
        assert!(forwarded >= 460, "seed {seed}: {forwarded} of about 485");
        let longest = sent.windows(2).map(|pair| (pair[1].at - pair[0].at).as_millis()).max();
        assert!(longest <= Some(80), "seed {seed}: {longest:?} ms");
    }
}

#[test]
fn a_party_that_has_gone_quiet_is_reported_once_until_it_comes_back() {
    let mut world = World::with_agent();
    let quiet = |world: &World| world.notices.iter().filter(|what| **what == Noticed::Quiet).count();
    world.hear(CALLER, 0, 0x85);
    world.run(499);
    assert_eq!(quiet(&world), 0);
    world.run(1000);
    assert_eq!(quiet(&world), 1);

    world.hear(CALLER, 1, 0x85);
    world.run(1000);
    assert_eq!(quiet(&world), 2);
}

#[test]
fn closing_reports_what_was_played_and_the_figures_of_every_leg() {
    let mut world = World::with_agent();
    world.play(PlayId(9), 0xA0, 8000, false);
    world.run(3);
    world.desk.close(&mut world.out);
    world.collect();

    assert!(world.notices.contains(&Noticed::Played { play: PlayId(9), heard_ms: 60, complete: false }));
    assert_eq!(world.notices.iter().filter(|what| matches!(what, Noticed::LegStats(_))).count(), 2);
}

#[derive(Clone, Debug)]
enum Act {
    Tick,
    Hear { leg: u16, late: u64, seq_step: u16 },
    Wire(u8),
    Play { leg: u16, repeat: bool },
    Stop(u16),
    Say(usize),
    Hush,
    Press(u16),
}

fn act() -> impl Strategy<Value = Act> {
    let party = prop_oneof![Just(0u16), Just(2u16)];
    prop_oneof![
        8 => Just(Act::Tick),
        8 => (party.clone(), 0u64..20, 0u16..3).prop_map(|(leg, late, seq_step)| Act::Hear { leg, late, seq_step }),
        1 => (0u8..4).prop_map(Act::Wire),
        1 => (party.clone(), any::<bool>()).prop_map(|(leg, repeat)| Act::Play { leg, repeat }),
        1 => party.clone().prop_map(Act::Stop),
        1 => (0usize..4000).prop_map(Act::Say),
        1 => Just(Act::Hush),
        1 => party.prop_map(Act::Press),
    ]
}

proptest! {
    /// Whatever is done to a call, each party gets one stream: one SSRC, each sequence number once, and no audio
    /// timestamp twice.
    #[test]
    fn each_party_gets_one_sane_stream(acts in proptest::collection::vec(act(), 1..300)) {
        let mut world = World::with_target();
        world.desk.open_agent(AGENT, Form::Ulaw, &mut world.out);
        let (mut seqs, mut epoch, mut plays) = ([0u16; 3], 0, 0);
        for act in acts {
            match act {
                Act::Tick => world.run(1),
                Act::Hear { leg, late, seq_step } => {
                    let seq = &mut seqs[usize::from(leg)];
                    *seq += seq_step;
                    let seq = *seq;
                    world.since_tick(late);
                    world.hear(LegId(leg), seq, 0x85);
                }
                Act::Wire(0) => world.wire(&[(CALLER, TARGET), (TARGET, CALLER)]),
                Act::Wire(1) => world.wire(&[(CALLER, AGENT), (AGENT, CALLER)]),
                Act::Wire(2) => world.wire(&[(CALLER, AGENT), (AGENT, CALLER), (TARGET, AGENT)]),
                Act::Wire(_) => world.wire(&[]),
                Act::Play { leg, repeat } => {
                    plays += 1;
                    let clip: Clip = vec![0xA0; 500].into();
                    world.desk.play(LegId(leg), PlayId(plays), vec![clip], repeat, 0.0, &mut world.out);
                }
                Act::Stop(leg) => world.desk.stop(LegId(leg), &mut world.out),
                Act::Say(samples) => {
                    let speech = Speech { epoch, item: "x".into(), voice: Voice::Ulaw(vec![0x90; samples]), last: false };
                    world.desk.speech(AGENT, speech);
                }
                Act::Hush => {
                    epoch += 1;
                    world.desk.mouth(AGENT, Mouth::Stop { epoch }, &mut world.out);
                }
                Act::Press(leg) => {
                    let digit = Digit::from_event(5).expect("is a key");
                    world.desk.send_digits(LegId(leg), &[digit], &mut world.out);
                }
            }
        }
        world.desk.close(&mut world.out);
        world.collect();
        for leg in [CALLER, TARGET] {
            let sent = world.of(leg);
            let mut seqs: Vec<u16> = sent.iter().map(|packet| packet.header.seq).collect();
            let mut times: Vec<u32> =
                sent.iter().filter(|packet| packet.header.payload_type != EVENTS).map(|packet| packet.header.timestamp).collect();
            let (packets, audio) = (seqs.len(), times.len());
            seqs.sort_unstable();
            seqs.dedup();
            times.sort_unstable();
            times.dedup();
            prop_assert_eq!(seqs.len(), packets);
            prop_assert_eq!(times.len(), audio);
            prop_assert!(sent.windows(2).all(|pair| pair[0].header.ssrc == pair[1].header.ssrc));
        }
        let over = world.notices.iter().filter(|what| matches!(what, Noticed::Played { .. })).count();
        prop_assert_eq!(over, plays as usize);
    }
}

#[derive(Clone, Debug)]
struct Sent {
    leg: LegId,
    at: Time,
    header: Header,
    payload: Vec<u8>,
}

struct World {
    desk: Desk,
    out: Out,
    /// When the next tick is, and when the next packet comes.
    tick_at: Time,
    at: Time,
    sent: Vec<Sent>,
    notices: Vec<Noticed>,
    pairs: Vec<Pair>,
}

impl World {
    fn new() -> World {
        World {
            desk: Desk::new(CallId(Uuid::nil())),
            out: Out::default(),
            tick_at: ms(0),
            at: ms(0),
            sent: Vec::new(),
            notices: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// A caller (µ-law) and an agent who hear each other.
    fn with_agent() -> World {
        let mut world = World::new();
        world.desk.open_rtp(ms(0), CALLER, 1, false, &mut world.out);
        world.desk.open_agent(AGENT, Form::Ulaw, &mut world.out);
        world.answer(CALLER, Codec::Pcmu);
        world.wire(&[(CALLER, AGENT), (AGENT, CALLER)]);
        world
    }

    /// A caller (µ-law) and a target (A-law) who hear each other.
    fn with_target() -> World {
        let mut world = World::new();
        for (leg, codec) in [(CALLER, Codec::Pcmu), (TARGET, Codec::Pcma)] {
            world.desk.open_rtp(ms(0), leg, leg.0.into(), false, &mut world.out);
            world.answer(leg, codec);
        }
        world.wire(&[(CALLER, TARGET), (TARGET, CALLER)]);
        world
    }

    fn answer(&mut self, leg: LegId, codec: Codec) {
        self.peer(leg, codec, Some(EVENTS));
    }

    fn peer(&mut self, leg: LegId, codec: Codec, events: Option<u8>) {
        let payload_type = if codec == Codec::Pcmu { 0 } else { 8 };
        let peer = RtpPeer::new(codec, payload_type, address(leg));
        let peer = RtpPeer { dtmf_out: events, dtmf_in: events, ..peer };
        self.desk.set_remote(self.at, leg, peer);
    }

    fn wire(&mut self, pairs: &[(LegId, LegId)]) {
        let hears: Vec<(LegId, Vec<LegId>)> = pairs.iter().map(|(one, other)| (*one, vec![*other])).collect();
        self.desk.wire(&hears);
    }

    fn say(&mut self, name: &str, samples: usize) {
        self.desk
            .speech(AGENT, Speech { epoch: 0, item: name.into(), voice: Voice::Ulaw(vec![0x90; samples]), last: true });
    }

    fn play(&mut self, play: PlayId, code: u8, samples: usize, repeat: bool) {
        let clip: Clip = vec![code; samples].into();
        self.desk.play(CALLER, play, vec![clip], repeat, 0.0, &mut self.out);
    }

    fn hear(&mut self, leg: LegId, seq: u16, code: u8) {
        let payload_type = if leg == TARGET { 8 } else { 0 };
        let header = Header { marker: false, payload_type, seq, timestamp: u32::from(seq) * 160, ssrc: 5 };
        self.datagram(leg, &[&header.to_bytes()[..], &[code; 160]].concat());
    }

    fn datagram(&mut self, leg: LegId, datagram: &[u8]) {
        self.desk.datagram(self.at, leg, address(leg), datagram, &mut self.out);
        self.collect();
    }

    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.at = self.tick_at;
            self.desk.tick(self.tick_at, &mut self.out);
            self.collect();
            self.tick_at = self.tick_at + std::time::Duration::from_millis(20);
            self.at = self.tick_at;
        }
    }

    /// Moves to some milliseconds after the last tick.
    fn since_tick(&mut self, after_ms: u64) {
        self.at = Time::from_ms((self.tick_at.as_ms() + after_ms).saturating_sub(20));
    }

    fn collect(&mut self) {
        for (leg, to, packet) in self.out.packets() {
            assert_eq!(to, address(leg));
            let (header, payload) = Header::parse(packet).expect("what we send is RTP");
            self.sent.push(Sent { leg, at: self.at, header, payload: payload.to_vec() });
        }
        self.out.clear_packets();
        self.notices.extend(self.out.notices.drain(..).map(|notice| notice.what));
        self.pairs.append(&mut self.out.pairs);
    }

    fn of(&self, leg: LegId) -> Vec<Sent> {
        self.sent.iter().filter(|packet| packet.leg == leg).cloned().collect()
    }

    fn frames(&self) -> Vec<&Frame> {
        let frame = |what| match what {
            &Noticed::Heard(Heard::Frame(ref frame)) => Some(&**frame),
            _ => None,
        };
        self.notices.iter().filter_map(frame).collect()
    }
}

/// One packet after the other, each 20 ms after the one before.
fn steady(sent: &[Sent]) {
    for pair in sent.windows(2) {
        let (one, next) = (&pair[0].header, &pair[1].header);
        assert_eq!((next.seq, next.ssrc), (one.seq.wrapping_add(1), one.ssrc));
        assert_eq!(next.timestamp, one.timestamp.wrapping_add(160));
        assert_eq!((pair[1].at - pair[0].at).as_millis(), 20);
    }
}

/// One packet after the other, no audio over other audio.
fn monotone(sent: &[Sent]) {
    for pair in sent.windows(2) {
        let (one, next) = (&pair[0].header, &pair[1].header);
        assert_eq!((next.seq, next.ssrc), (one.seq.wrapping_add(1), one.ssrc));
        let step = next.timestamp.wrapping_sub(one.timestamp) as i32;
        assert!(step >= 160, "timestamp advances by {step}");
    }
}

fn address(leg: LegId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000 + leg.0 * 2))
}
