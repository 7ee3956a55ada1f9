//! VoiceFinder activity, echo and barge-in over voices: what the pure parts make of real speech, in its own time.

use std::time::Duration;

use ringback::media::{
    AgentTurn, Desk, DigitSender, Header, Keyed, Listener, Move, Noticed, Out, RtpPeer, Surroundings, TelephoneEvent,
    ToneKeys, VoiceFinder, decode_ulaw, encode_ulaw,
};
use ringback::model::{
    BargeIn, CallId, Codec, DecidedBy, Digit, Form, Heard, Interruptible, ItemId, LegId, Mouth, Speech, Time, Voice,
};

use crate::voices::{SENTENCES, SPEECH, VOICES, noise, speak};

const FRAME: usize = 160;

#[test]
fn voices_are_heard_within_two_syllables() {
    let mut onsets = Vec::new();
    for (seed, sentence) in SPEECH.iter().flatten().enumerate() {
        let line = on_a_line(seed as u32, sentence, 8000, -60.0);
        let mut voice = VoiceFinder::default();
        let mut found = None;
        for frame in line.chunks(FRAME) {
            voice.hear(frame, Surroundings::QUIET, |judged| {
                let talk = judged.talk.filter(|talk| talk.voiced_ms() >= 48);
                found = found.or(talk.map(|talk| talk.until));
            });
        }
        let found = found.unwrap_or_else(|| panic!("sentence {seed} is not heard"));
        onsets.push((found as f32 - 8000.0) / 8.0);
    }

    let (p50, p95) = percentiles(&mut onsets);
    println!("onset to 48 ms of voice: p50 {p50} ms, p95 {p95} ms");
    assert!(p50 <= 110.0 && p95 <= 160.0, "{p50} {p95}");
}

#[test]
fn tones_noise_and_hum_silence_nobody() {
    let tone = |lines: &'static [f32]| {
        move |at: usize| {
            let turn = at as f32 / 8000.0 * std::f32::consts::TAU;
            lines.iter().map(|hertz| 5000.0 * (turn * hertz).sin()).sum::<f32>() as i16
        }
    };
    let loud = noise(5, 80_000, -28.0);
    let soft = noise(6, 80_000, -48.0);
    let sounds: [(&str, Vec<i16>); 7] = [
        ("ringback", (0..80_000).map(tone(&[440.0, 480.0])).collect()),
        ("busy", (0..80_000).map(|at| if at / 4000 % 2 == 0 { tone(&[425.0])(at) } else { 0 }).collect()),
        (
            "busy in the US",
            (0..80_000).map(|at| if at / 4000 % 2 == 0 { tone(&[480.0, 620.0])(at) } else { 0 }).collect(),
        ),
        ("key", (0..80_000).map(|at| if at / 800 % 2 == 0 { tone(&[770.0, 1336.0])(at) } else { 0 }).collect()),
        ("hum", (0..80_000).map(tone(&[50.0, 150.0])).collect()),
        ("loud noise", loud),
        ("soft noise", soft),
    ];
    let agent: Vec<i16> = (0..3).flat_map(agent_speech).collect();
    for (name, sound) in sounds {
        let call = talk_over(&sound, 0, &agent, None);

        let ducks = call.moves.iter().filter(|(_, step)| *step == Move::Duck).count();
        println!("{name}: ducks {ducks} times in {} s", sound.len().min(agent.len()) / 8000);
        assert!(call.moves.iter().all(|(_, step)| *step != Move::Stop), "{name}: {:?}", call.moves);
        // The beginning of a tone may make it softer for a fifth of a second, not each of them for good.
        assert!(ducks <= 12, "{name}: {:?}", call.moves);
    }
}

#[test]
fn a_silent_line_costs_nothing() {
    let mut voice = VoiceFinder::default();
    for frame in noise(3, 80_000, -62.0).chunks(FRAME) {
        voice.hear(frame, Surroundings::QUIET, |_| {});
    }

    assert_eq!(voice.stats().asked, 0);
    assert_eq!(voice.stats().blocks, 625);
}

#[test]
fn a_caller_ducks_the_agent_and_silences_it_in_time() {
    let (mut ducked, mut silent) = (Vec::new(), Vec::new());
    for (n, sentence) in SPEECH.iter().flatten().enumerate() {
        // The agent is heard for two seconds first.
        let agent = agent_speech(n + 37);
        let began = 16_000 + n % 160;
        let caller = on_a_line(n as u32, sentence, began, -58.0);

        let call = talk_over(&caller, 0, &agent, None);

        let at = |step| call.moves.iter().find(|(_, found)| *found == step).map(|(at, _)| (at - began as f32) / 8.0);
        let missed = || panic!("{} in voice {}: {:?}", SENTENCES[n % 10], VOICES[n / 10], call.moves);
        ducked.push(at(Move::Duck).unwrap_or_else(missed));
        silent.push(at(Move::Stop).unwrap_or_else(missed));
    }

    let (ducked_p50, ducked_p95) = percentiles(&mut ducked);
    let (silent_p50, silent_p95) = percentiles(&mut silent);
    println!("ducked p50 {ducked_p50} p95 {ducked_p95} ms; silent p50 {silent_p50} p95 {silent_p95} ms");
    assert!(ducked_p50 <= 120.0, "{ducked_p50}");
    assert!(silent_p50 <= 300.0 && silent_p95 <= 450.0, "{silent_p50} {silent_p95}");
}

#[test]
fn an_agent_is_never_silenced_by_its_own_echo() {
    let (mut stops, mut ducks) = (Vec::new(), 0);
    for n in 0..100 {
        let agent = agent_speech(n);
        let delay = 400 + n * 20;
        let loss = 10f32.powf(-12.0 / 20.0);
        let line = noise(n as u32, agent.len() + delay + 8000, -60.0);

        let call = talk_over(&line, 0, &agent, Some((delay, loss)));

        ducks += call.moves.iter().filter(|(_, step)| *step == Move::Duck).count();
        if call.moves.iter().any(|(_, step)| *step == Move::Stop) {
            stops.push((n, delay / 8, call));
        }
    }

    println!("{ducks} ducks in 100 utterances by echo of -12 dB after 50 to 300 ms");
    assert!(stops.is_empty(), "{} stops: {stops:?}", stops.len());
}

#[test]
fn a_caller_is_heard_through_the_echo() {
    let mut silent = Vec::new();
    let mut missed = Vec::new();
    for (n, sentence) in SPEECH.iter().flatten().enumerate().step_by(3) {
        let agent = agent_speech(n + 37);
        let caller = on_a_line(n as u32, sentence, 16_000, -58.0);

        let call = talk_over(&caller, 0, &agent, Some((1200, 10f32.powf(-15.0 / 20.0))));

        match call.moves.iter().find(|(_, step)| *step == Move::Stop) {
            Some((at, _)) => silent.push((at - 16_000.0) / 8.0),
            None => missed.push(n),
        }
    }

    let heard = silent.len();
    let (p50, p95) = percentiles(&mut silent);
    println!("through echo of -15 dB: {heard} heard, {missed:?} missed, silent p50 {p50} p95 {p95} ms");
    assert!(missed.len() * 20 <= heard, "{missed:?}");
    assert!(p50 <= 600.0, "{p50}");
}

#[test]
fn backchannels_let_the_agent_go_on() {
    let mut stopped = Vec::new();
    let mut tried = 0;
    for voice in VOICES {
        let before = speak(voice, 165, SENTENCES[0]);
        for word in ["mm", "uh huh", "yes", "ok"] {
            tried += 1;
            // As people murmur: 6 dB softer than they speak.
            let murmur: Vec<i16> = speak(voice, 220, word).iter().map(|sample| sample / 2).collect();
            let mut caller = noise(tried, 160_000, -58.0);
            let first = before.len() + 8000;
            put(&mut caller, 8000, &before);
            let (agent_from, at) = (first, first + 24_000);
            put(&mut caller, at, &murmur);
            let mut agent = agent_speech(tried as usize);
            agent.extend(agent_speech(tried as usize + 1));

            let call = talk_over(&caller, agent_from, &agent, None);

            if call.moves.iter().any(|(_, step)| *step == Move::Stop) {
                stopped.push((voice, word, murmur.len() / 8));
            }
        }
    }

    println!("{} of {tried} backchannels silenced the agent: {stopped:?}", stopped.len());
    assert!(stopped.len() * 10 <= tried as usize, "{stopped:?}");
}

#[test]
fn speech_presses_no_keys() {
    let mut pressed = 0;
    let mut samples = 0;
    for sentence in SPEECH.iter().flatten() {
        let mut keys = ToneKeys::default();
        samples += sentence.len();
        pressed += sentence.chunks(FRAME).filter_map(|frame| keys.hear(frame)).count();
    }
    println!("{pressed} keys in {} s of speech", samples / 8000);
    assert_eq!(pressed, 0);
}

#[test]
fn a_thousand_interruptions_let_nothing_stale_out() {
    let mut room = Room::new(BargeIn { by: DecidedBy::Local, ..BargeIn::default() });
    let callers: Vec<&Vec<i16>> = SPEECH.iter().flatten().collect();
    let mut stopped_after = Vec::new();
    let (mut epoch, mut ducked) = (0, 0);
    // A greeting, from which the worker learns what of it comes back.
    let greeting: Vec<u8> = callers[50].iter().map(|sample| encode_ulaw(*sample)).collect();
    room.say(epoch, &"greeting".into(), &greeting);
    room.run(None, greeting.len() / FRAME + 20);
    for n in 0..1000 {
        let item: ItemId = format!("item_{n}").into();
        let answer: Vec<u8> = callers[(n * 7 + 3) % 100].iter().map(|sample| encode_ulaw(*sample)).collect();
        room.say(epoch, &item, &answer[..12_000]);
        room.run(None, 10);
        let mut talk = callers[n % 100].chunks_exact(FRAME);
        let mut waited = 0;
        let (wanted, interrupted, heard_ms) = loop {
            waited += 1;
            assert!(waited < 65, "{n}: nobody is interrupted");
            let heard = room.run(Some(talk.next().expect("a sentence is longer")), 1);
            ducked += heard.iter().filter(|heard| **heard == Heard::Ducked).count();
            let stop = heard.into_iter().find_map(|heard| match heard {
                Heard::Interrupted { epoch, item, heard_ms } => Some((epoch, item, heard_ms)),
                _ => None,
            });
            if let Some(stop) = stop {
                break stop;
            }
        };
        stopped_after.push(waited as f32 * 20.0);
        assert_eq!((wanted, interrupted), (epoch + 1, Some(item.clone())), "{n}: after {waited} frames");
        assert!(heard_ms.abs_diff(200 + 20 * waited) <= 25, "{n}: {heard_ms} ms heard, {waited} frames of the caller");
        room.sent.clear();

        // What the vendor had still sent of it, and the order that crossed with the worker's own decision.
        for _ in 0..8 {
            assert!(!room.say(epoch, &item, &answer[..1600]), "{n}: stale speech is taken");
            room.run(None, 1);
        }
        if n % 3 == 0 {
            room.desk.mouth(AGENT, Mouth::Stop { epoch: wanted }, &mut room.out);
            let answers = room.heard();
            assert!(!answers.iter().any(|heard| matches!(heard, Heard::Stopped { .. })), "{n}: {answers:?}");
        }

        let audible = |payload: &Vec<u8>| payload.iter().filter(|code| **code != 0xFF && **code != 0x7F).count();
        let stale: Vec<usize> = room.sent.iter().map(audible).collect();
        assert!(stale[0] <= 40, "{n}: more than the 5 ms that fade: {stale:?}");
        assert!(stale[1..].iter().all(|count| *count == 0), "{n}: {stale:?}");
        room.run(None, 16);
        epoch = wanted;
    }

    let (p50, p95) = percentiles(&mut stopped_after);
    println!("1000 interruptions: ducked {ducked} times, silent after p50 {p50} p95 {p95} ms, nothing stale");
}

#[test]
fn an_agent_that_may_not_be_interrupted_is_heard_to_its_end() {
    for barge_in in [
        BargeIn { by: DecidedBy::Both, interruptible: Interruptible::No, ..BargeIn::default() },
        BargeIn { by: DecidedBy::Local, interruptible: Interruptible::DtmfOnly, ..BargeIn::default() },
        BargeIn { by: DecidedBy::Agent, ..BargeIn::default() },
    ] {
        let mut room = Room::new(barge_in);
        let answer: Vec<u8> = SPEECH[0][0].iter().map(|sample| encode_ulaw(*sample)).collect();
        room.say(0, &"notice".into(), &answer[..16_000]);
        room.run(None, 10);
        room.sent.clear();

        for frame in SPEECH[3][1].chunks_exact(FRAME).take(80) {
            let heard = room.run(Some(frame), 1);
            assert!(heard.iter().all(|heard| matches!(heard, Heard::Frame(_))), "{barge_in:?}: {heard:?}");
        }

        // Not a bit of it is changed.
        assert_eq!(room.sent.concat(), answer[1600..1600 + 80 * FRAME]);
    }
}

#[test]
fn keys_in_the_audio_are_heard_where_there_is_nothing_better() {
    for (tone_keys, expected) in [(true, "42#"), (false, "")] {
        let mut room = Room::new(BargeIn::default());
        room.answer(RtpPeer { tone_keys, ..peer() });
        for label in "42#".chars() {
            room.press(label, |_, _| {});
        }
        assert_eq!(room.keys(), expected, "{tone_keys}");
    }
}

// A gateway on the way makes events of tones and lets the tones through as well.
#[test]
fn a_key_that_comes_as_tone_and_as_event_is_one_key() {
    let mut room = Room::new(BargeIn::default());
    room.answer(RtpPeer { tone_keys: true, ..peer().with_dtmf(101) });
    for label in "77".chars() {
        room.press(label, |room, tick| {
            let event = Digit::from_char('7').expect("a key").event();
            let started = (room.now.as_ms() / 20 - tick as u64) as u32 * 160;
            let payload =
                TelephoneEvent { event, end: tick >= 5, volume: 10, duration: (tick as u16 + 1).min(5) * 160 };
            if tick < 8 {
                room.send(101, started, &payload.to_bytes());
            }
        });
    }

    assert_eq!(room.keys(), "77");
}

#[test]
fn keys_go_on_as_tones_to_who_takes_no_events() {
    let mut room = Room::new(BargeIn::default());
    room.answer(peer().with_dtmf(101));
    let target = LegId(2);
    room.desk.open_rtp(room.now, target, 9, false, &mut room.out);
    room.desk.set_remote(room.now, target, RtpPeer { remote: "127.0.0.1:5000".parse().expect("an address"), ..peer() });
    room.desk.wire(&[(CALLER, vec![target]), (target, vec![CALLER])]);
    let end = TelephoneEvent { event: 9, end: true, volume: 10, duration: 800 };
    room.watched = target;
    room.run(None, 5);
    room.send(101, 8000, &end.to_bytes());
    room.sent.clear();

    room.run(None, 20);

    let mut keys = ToneKeys::default();
    let heard: Vec<Vec<i16>> =
        room.sent.iter().map(|payload| payload.iter().map(|code| decode_ulaw(*code)).collect()).collect();
    let pressed: String = heard.iter().filter_map(|frame| keys.hear(frame)).map(|(digit, _)| digit.as_char()).collect();
    assert_eq!(pressed, "9");
}

fn peer() -> RtpPeer {
    RtpPeer::new(Codec::Pcmu, 0, "127.0.0.1:4000".parse().expect("an address"))
}

const CALLER: LegId = LegId(0);
const AGENT: LegId = LegId(1);

/// A caller by RTP and an agent on one desk, in virtual time.
struct Room {
    desk: Desk,
    out: Out,
    now: Time,
    seq: u16,
    noise: Vec<i16>,
    /// Payloads that went out by RTP to the party that is looked at.
    sent: Vec<Vec<u8>>,
    watched: LegId,
    /// Keys that were reported.
    keys: String,
}

impl Room {
    fn new(barge_in: BargeIn) -> Room {
        let mut desk = Desk::new(CallId(uuid::Uuid::nil()));
        let mut out = Out::default();
        desk.open_rtp(Time::ZERO, CALLER, 7, false, &mut out);
        desk.open_agent(AGENT, Form::Ulaw, barge_in, &mut out);
        desk.set_remote(Time::ZERO, CALLER, peer());
        desk.wire(&[(CALLER, vec![AGENT]), (AGENT, vec![CALLER])]);
        Room {
            desk,
            out,
            now: Time::ZERO,
            seq: 0,
            noise: noise(9, 80_000, -60.0),
            sent: Vec::new(),
            watched: CALLER,
            keys: String::new(),
        }
    }

    /// Gives the agent something to say; returns whether it is wanted.
    fn say(&mut self, epoch: u32, item: &ItemId, ulaw: &[u8]) -> bool {
        self.desk.speech(AGENT, Speech { epoch, item: item.clone(), voice: Voice::Ulaw(ulaw.to_vec()), last: false })
    }

    /// Ticks of 20 ms, in each of which the caller says these samples over its line's noise. What the agent was told.
    fn run(&mut self, says: Option<&[i16]>, ticks: usize) -> Vec<Heard> {
        for _ in 0..ticks {
            self.now = self.now + Duration::from_millis(20);
            let at = usize::from(self.seq) % 500 * FRAME;
            let mut line = self.noise[at..at + FRAME].to_vec();
            if let Some(says) = says {
                put(&mut line, 0, says);
            }
            let timestamp = (self.now.as_ms() / 20 * 160) as u32;
            let audio: Vec<u8> = line.iter().map(|sample| encode_ulaw(*sample)).collect();
            self.send(0, timestamp, &audio);
            self.desk.tick(self.now, &mut self.out);
            let packets =
                self.out.packets().filter(|(leg, ..)| *leg == self.watched).map(|(_, _, packet)| packet[12..].to_vec());
            self.sent.extend(packets);
            self.out.clear_packets();
        }
        self.heard()
    }

    /// The caller sends a packet.
    fn send(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let header = Header { payload_type, marker: false, seq: self.seq, timestamp, ssrc: 5 };
        let mut datagram = header.to_bytes().to_vec();
        datagram.extend(payload);
        self.desk.datagram(self.now, CALLER, peer().remote, &datagram, &mut self.out);
        self.seq = self.seq.wrapping_add(1);
    }

    fn answer(&mut self, peer: RtpPeer) {
        self.desk.set_remote(self.now, CALLER, peer);
    }

    /// The caller presses a key that sounds for 100 ms; something else may be sent beside it.
    fn press(&mut self, label: char, mut beside: impl FnMut(&mut Room, u32)) {
        let mut sender = DigitSender::default();
        sender.push(&[Digit::from_char(label).expect("a key")]);
        for tick in 0..20 {
            let mut frame = [0xFF; FRAME];
            if sender.is_sending()
                && let Keyed::Event(packet) = sender.next(tick * 160, 8000)
            {
                packet.render(&mut frame);
            }
            self.run(Some(&frame.map(decode_ulaw)), 1);
            beside(self, tick);
        }
    }

    fn keys(&mut self) -> String {
        self.run(None, 10);
        std::mem::take(&mut self.keys)
    }

    fn heard(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        for notice in self.out.notices.drain(..) {
            match notice.what {
                Noticed::Heard(what) => heard.push(what),
                Noticed::Digit { digit, .. } => self.keys.push(digit.as_char()),
                _ => {}
            }
        }
        heard
    }
}

/// What became of a conversation.
#[derive(Debug)]
#[allow(dead_code, reason = "shown when a test fails")]
struct Conversation {
    /// What the listener decided, at which sample of the clock it took effect.
    moves: Vec<(f32, Move)>,
    loss_db: f32,
    delay_ms: Option<usize>,
}

/// Lets an agent speak while a caller may speak too; with an echo, as late and as much softer as told.
fn talk_over(caller: &[i16], from: usize, agent: &[i16], echo: Option<(usize, f32)>) -> Conversation {
    let mut listener = Listener::new(BargeIn { by: DecidedBy::Local, ..BargeIn::default() });
    let mut sent: Vec<i16> = Vec::new();
    let mut moves = Vec::new();
    for at in (0..caller.len().min(from + agent.len() + 8000) / FRAME).map(|tick| tick * FRAME) {
        // What came in this tick was said during the one before.
        let mut came: [i16; FRAME] = caller[at..at + FRAME].try_into().expect("a frame");
        if let Some((delay, loss)) = echo {
            for (n, sample) in came.iter_mut().enumerate() {
                let back = (at + n).checked_sub(delay).and_then(|at| sent.get(at)).copied().unwrap_or(0);
                *sample = sample.saturating_add((f32::from(back) * loss) as i16);
            }
        }
        let mut frame = [0; FRAME];
        let rest = at.checked_sub(from).and_then(|at| agent.get(at..)).unwrap_or_default();
        for (sample, said) in frame.iter_mut().zip(rest) {
            *sample = *said;
        }
        let turn = AgentTurn { speaks: !rest.is_empty(), left: Some(rest.len() as u64) };
        listener.say(&mut frame, turn);
        sent.extend(frame);
        if let Some(step) = listener.hear(&came) {
            // Its packet comes when it is complete, and the agent's next frame goes out up to 20 ms later.
            let phase = caller.len() * 37 % FRAME;
            moves.push(((at + FRAME + phase) as f32, step));
            if step == Move::Stop {
                break;
            }
        }
    }
    Conversation { moves, loss_db: listener.guard().loss_db(), delay_ms: listener.guard().delay_ms() }
}

/// Two sentences of an agent.
fn agent_speech(n: usize) -> Vec<i16> {
    let all: Vec<&Vec<i16>> = SPEECH.iter().flatten().collect();
    let mut speech = all[(n * 7) % all.len()].clone();
    speech.extend([0; 1600]);
    speech.extend(all[(n * 7 + 13) % all.len()]);
    speech
}

fn on_a_line(seed: u32, speech: &[i16], before: usize, noise_db: f32) -> Vec<i16> {
    let mut line = noise(seed, before + speech.len() + 8000, noise_db);
    put(&mut line, before, speech);
    line
}

fn put(line: &mut [i16], at: usize, speech: &[i16]) {
    for (sample, said) in line[at..].iter_mut().zip(speech) {
        *sample = sample.saturating_add(*said);
    }
}

fn percentiles(values: &mut [f32]) -> (f32, f32) {
    values.sort_by(f32::total_cmp);
    (values[values.len() / 2], values[values.len() * 95 / 100])
}
