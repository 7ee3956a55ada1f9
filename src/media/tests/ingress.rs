//! Mode R: order, gaps, the clock.

use super::*;

#[test]
fn packets_in_order_pass_at_once() {
    let mut line = Line::new();
    for seq in 0..10 {
        assert_eq!(line.packet(u64::from(seq) * 20 + 5, seq, 1), 1);
    }
    assert_eq!(line.codes(), (0..10).map(code).collect::<Vec<_>>());
}

#[test]
fn a_packet_that_was_overtaken_is_put_back_in_its_place() {
    let mut line = Line::new();
    line.packet(0, 0, 1);
    assert_eq!(line.packet(40, 2, 1), 0);
    assert_eq!(line.packet(45, 1, 1), 2);
    assert_eq!(line.codes(), [code(0), code(1), code(2)]);
    assert_eq!(line.ingress.stats().lost, 0);
}

#[test]
fn a_lost_packet_is_waited_for_40_ms_and_then_concealed() {
    let mut line = Line::new();
    for seq in 0..3 {
        line.packet(u64::from(seq) * 20, seq, 1);
    }
    line.packet(80, 4, 1);
    line.packet(100, 5, 1);

    assert_eq!(line.tick(119), 0);
    assert_eq!(line.tick(120), 3);

    assert_eq!(line.ingress.stats().lost, 1);
    assert_eq!(line.ingress.stats().concealed, 160);
    assert_ne!(line.frames[3], SILENT);
}

#[test]
fn copies_and_late_packets_are_counted_and_add_nothing() {
    let mut line = Line::new();
    line.packet(0, 0, 1);
    line.packet(20, 1, 1);
    assert_eq!(line.packet(21, 1, 1), 0);
    line.packet(60, 3, 1);
    line.tick(100);
    assert_eq!(line.packet(101, 2, 1), 0);

    assert_eq!((line.ingress.stats().duplicates, line.ingress.stats().late), (1, 1));
}

#[test]
fn when_nothing_comes_the_clock_gives_concealment_then_silence_one_frame_per_tick() {
    let mut line = Line::new();
    for seq in 0..5 {
        line.packet(u64::from(seq) * 20, seq, 1);
    }
    let per_tick: Vec<usize> = (1..20).map(|tick| line.tick(80 + tick * 20)).collect();

    assert_eq!(&per_tick[..7], &[0, 0, 0, 0, 0, 6, 1]);
    assert!(per_tick[7..].iter().all(|frames| *frames == 1));
    let filled = &line.frames[5..];
    assert!(filled[..3].iter().all(|frame| *frame != SILENT));
    assert!(filled[3..].iter().all(|frame| *frame == SILENT));
    assert_eq!(line.ingress.stats().concealed, 480);
}

#[test]
fn before_the_first_packet_there_is_silence() {
    let mut line = Line::new();
    for tick in 1..=50 {
        line.tick(tick * 20);
    }
    assert!((49..=50).contains(&line.frames.len()));
    assert!(line.frames.iter().all(|frame| *frame == SILENT));
}

#[test]
fn every_ptime_gives_frames_of_20_ms_and_loses_no_sample() {
    for samples in [80, 160, 240, 320, 480] {
        let mut line = Line::new();
        let mut sent = Vec::new();
        for seq in 0..24u16 {
            let audio: Vec<u8> = (0..samples).map(|at| (usize::from(seq) * samples + at) as u8 | 0x80).collect();
            let header = header(seq, u32::from(seq) * samples as u32, 1);
            let now = ms(u64::from(seq) * samples as u64 / 8);
            line.ingress.packet(now, &header, Arrival::Audio(Codec::Pcmu, &audio), &mut line.frames);
            sent.extend(audio);
        }
        let got: Vec<u8> = line.frames.iter().flat_map(narrow).copied().collect();
        assert_eq!(got.len(), sent.len() / 160 * 160);
        assert!(got == sent[..got.len()], "ptime {} ms", samples / 8);
    }
}

#[test]
fn a_law_comes_out_as_mu_law() {
    let mut line = Line::new();
    let audio: Vec<u8> = (0..160).collect();
    line.ingress.packet(ms(0), &header(0, 0, 1), Arrival::Audio(Codec::Pcma, &audio), &mut line.frames);
    let expected: Vec<u8> = audio.iter().map(|code| alaw_to_ulaw(*code)).collect();
    assert_eq!(narrow(&line.frames[0]).to_vec(), expected);
}

#[test]
fn a_new_ssrc_or_a_jump_of_the_sequence_starts_again_without_loss() {
    let mut line = Line::new();
    line.packet(0, 100, 1);
    line.packet(20, 101, 1);
    line.ingress.packet(ms(40), &header(9, 77, 2), audio(9).arrival(), &mut line.frames);
    line.ingress.packet(ms(60), &header(5000, 237, 2), audio(10).arrival(), &mut line.frames);

    assert_eq!(line.frames.len(), 4);
    assert_eq!(line.ingress.stats().resyncs, 2);
    assert_eq!(line.ingress.stats().lost, 0);
}

#[test]
fn sequence_and_timestamp_wrap_without_notice() {
    let mut line = Line::new();
    for at in 0..20u16 {
        let header = header(65_526u16.wrapping_add(at), (u32::MAX - 800).wrapping_add(u32::from(at) * 160), 1);
        line.ingress.packet(ms(u64::from(at) * 20), &header, audio(at).arrival(), &mut line.frames);
    }
    assert_eq!(line.codes(), (0..20).map(code).collect::<Vec<_>>());
    assert_eq!(line.ingress.stats(), IngressStats::default());
}

#[test]
fn silence_suppression_shorter_than_the_idle_time_becomes_silence() {
    let mut line = Line::new();
    line.packet(0, 0, 1);
    // 60 ms without packets, and no number missing.
    line.ingress.packet(ms(80), &header(1, 4 * 160, 1), audio(1).arrival(), &mut line.frames);

    assert_eq!(line.frames.len(), 5);
    assert!(line.frames[1..4].iter().all(|frame| *frame == SILENT));
}

#[test]
fn silence_suppression_that_the_clock_has_filled_is_not_filled_again() {
    let mut line = Line::new();
    line.packet(0, 0, 1);
    for tick in 1..=50 {
        line.tick(tick * 20);
    }
    let before = line.frames.len();
    let gained = {
        line.ingress.packet(ms(1010), &header(1, 50 * 160, 1), audio(1).arrival(), &mut line.frames);
        line.frames.len() - before
    };
    assert!(gained <= 1, "{gained}");
    assert!((49..=52).contains(&line.frames.len()));
}

#[test]
fn a_key_press_is_a_pause_of_silence_and_no_loss() {
    let mut line = Line::new();
    line.packet(0, 0, 1);
    for seq in 1..8 {
        let now = ms(u64::from(seq) * 20);
        line.ingress.packet(now, &header(seq, 160, 1), Arrival::Nothing, &mut line.frames);
        line.ingress.tick(now, &mut line.frames);
    }
    line.ingress.packet(ms(160), &header(8, 8 * 160, 1), audio(8).arrival(), &mut line.frames);

    let stats = line.ingress.stats();
    assert_eq!((stats.lost, stats.concealed, stats.late), (0, 0, 0));
    assert_eq!(line.frames.len(), 9);
}

#[test]
fn a_burst_after_an_outage_is_passed_on_and_paid_back_in_silence() {
    let mut line = Line::new();
    let frames_at = |line: &mut Line, now: u64, seq: u16, is_quiet: bool| {
        let octets = if is_quiet { [SILENCE; 160] } else { [0x90 | (seq as u8 & 0xF); 160] };
        line.ingress.packet(
            ms(now),
            &header(seq, u32::from(seq) * 160, 1),
            Arrival::Audio(Codec::Pcmu, &octets),
            &mut line.frames,
        );
    };
    for seq in 0..50 {
        frames_at(&mut line, u64::from(seq) * 20, seq, false);
    }
    for tick in 50..60 {
        line.tick(tick * 20);
    }
    for seq in 50..60 {
        frames_at(&mut line, 1200, seq, false);
    }
    let lead = line.ingress.units_emitted() as i64 / 8 - 1200;
    assert!(lead > 80, "{lead}");
    for seq in 60..200 {
        frames_at(&mut line, u64::from(seq) * 20, seq, seq % 2 == 0);
    }

    let lead = line.ingress.units_emitted() as i64 / 8 - 4000;
    assert!(lead <= 40, "{lead}");
    assert!(line.ingress.stats().shed > 0);
}

#[test]
fn packets_without_audio_or_too_long_are_refused() {
    let mut line = Line::new();
    for octets in [&[][..], &[0; 961]] {
        line.ingress.packet(ms(0), &header(0, 0, 1), Arrival::Audio(Codec::Pcmu, octets), &mut line.frames);
    }
    assert_eq!(line.ingress.stats().refused, 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Loss, order, copies and jitter of any kind: frames keep their order, and the clock is kept.
    #[test]
    fn frames_stay_in_order_and_on_time_on_any_network(seed in 1u64.., loss in 0u64..20, jitter in 1u64..90) {
        let mut dice = Dice(seed);
        let mut arrivals: Vec<(u64, u16)> = Vec::new();
        for seq in 0..400u16 {
            if dice.roll(100) < loss {
                continue;
            }
            let at = u64::from(seq) * 20 + dice.roll(jitter);
            arrivals.push((at, seq));
            if dice.roll(50) == 0 {
                arrivals.push((at + dice.roll(30), seq));
            }
        }
        arrivals.sort_unstable();
        let mut line = Line::new();
        let mut arrivals = arrivals.into_iter().peekable();
        for now in 0..8_500u64 {
            while let Some((_, seq)) = arrivals.next_if(|(at, _)| *at <= now) {
                line.packet(now, seq, 1);
            }
            if now % 20 == 0 {
                line.tick(now);
            }
            let lead = line.ingress.units_emitted() as i64 / 8 - now as i64;
            prop_assert!(lead <= 330, "seed {seed}: {lead} ms ahead at {now}");
        }
        // Each frame of real audio carries its own level; concealment and blending only blur.
        let real: Vec<u16> = line.frames.iter().filter_map(whole).collect();
        prop_assert!(real.windows(2).all(|pair| follows(pair[0], pair[1])), "seed {seed}: {real:?}");
        let behind = 8_499 - line.ingress.units_emitted() as i64 / 8;
        prop_assert!(behind.abs() <= 120, "seed {seed}: {behind} ms behind");
    }
}

struct Line {
    ingress: Ingress,
    frames: Vec<Sound>,
}

impl Line {
    fn new() -> Line {
        Line { ingress: Ingress::new(ms(0)), frames: Vec::new() }
    }

    fn packet(&mut self, now: u64, seq: u16, ssrc: u32) -> usize {
        let before = self.frames.len();
        let header = header(seq, u32::from(seq) * 160, ssrc);
        self.ingress.packet(ms(now), &header, audio(seq).arrival(), &mut self.frames);
        self.frames.len() - before
    }

    fn tick(&mut self, now: u64) -> usize {
        let before = self.frames.len();
        self.ingress.tick(ms(now), &mut self.frames);
        self.frames.len() - before
    }

    fn codes(&self) -> Vec<u8> {
        self.frames.iter().map(|frame| narrow(frame)[100]).collect()
    }
}

fn narrow(sound: &Sound) -> &Frame {
    match sound {
        Sound::Narrow(frame) => frame,
        Sound::Wide(_) => panic!("G.711 is narrow"),
    }
}

const SILENT: Sound = Sound::silence(crate::model::Band::Narrow);

struct Audio([u8; 160]);

impl Audio {
    fn arrival(&self) -> Arrival<'_> {
        Arrival::Audio(Codec::Pcmu, &self.0)
    }
}

/// Loud audio that carries the number of its packet in every octet.
fn audio(seq: u16) -> Audio {
    Audio([code(seq); 160])
}

/// 48 loud codes.
fn code(seq: u16) -> u8 {
    0x80 + (seq % 48) as u8
}

/// The number a frame carries when all of it but the blended beginning is of one packet.
fn whole(frame: &Sound) -> Option<u16> {
    let frame = narrow(frame);
    let code = frame[159];
    (frame[40..].iter().all(|other| *other == code) && (0x80..0xB0).contains(&code)).then(|| u16::from(code - 0x80))
}

/// Numbers go up by at most half a turn, or repeat when concealment repeated them.
fn follows(one: u16, next: u16) -> bool {
    (next + 48 - one) % 48 < 24
}

fn header(seq: u16, timestamp: u32, ssrc: u32) -> Header {
    Header { marker: false, payload_type: 0, seq, timestamp, ssrc }
}
