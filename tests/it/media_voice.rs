//! VoiceFinder activity, echo and barge-in over voices: what the pure parts make of real speech, in its own time.

use ringback::media::{AgentTurn, Listener, Move, Surroundings, ToneKeys, VoiceFinder};
use ringback::model::{BargeIn, DecidedBy};

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
