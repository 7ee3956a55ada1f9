//! Every codec on both sides of a call, in virtual time; and against ffmpeg, whose codecs nobody here wrote.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringback::media::{Desk, Header, Noticed, Out, RtpPeer, units};
use ringback::model::{CallId, Codec, Form, Heard, LegId, OpusTerms, Speech, Time, Voice};

const CALLER: LegId = LegId(0);
const AGENT: LegId = LegId(1);
const TARGET: LegId = LegId(2);
const EVENTS: u8 = 101;

#[test]
fn every_packet_time_is_kept_in_every_codec() {
    for codec in Codec::ALL {
        for (asked, kept) in [(10, 10), (20, 20), (30, 30), (40, 40), (60, 60), (200, 60), (5, 20)] {
            let kept = if codec == Codec::Opus && kept == 30 { 20 } else { kept };
            let mut stage = Stage::new();
            stage.caller(RtpPeer { packet_ms: asked, ..peer(codec, CALLER) });
            stage.agent(Form::Linear16);
            stage.say(&tone(440.0, 2000, 16_000));
            stage.run(60);

            let sent = stage.of(CALLER);
            let per_unit = codec.clock() / 8000;
            assert!(sent.len() as u32 >= 1100 / kept, "{codec} {asked} ms: {} packets", sent.len());
            for pair in sent.windows(2) {
                assert_eq!(units(codec, &pair[0].1), Some(kept as usize * 8), "{codec} {asked} ms");
                assert_eq!(pair[1].0.seq, pair[0].0.seq.wrapping_add(1));
                assert_eq!(pair[1].0.timestamp.wrapping_sub(pair[0].0.timestamp), kept * 8 * per_unit, "{codec}");
            }
            assert_eq!(sent.iter().filter(|(header, _)| header.marker).count(), 1, "{codec}: one talk spurt");
        }
    }
}

#[test]
fn two_parties_in_different_codecs_hear_each_other_and_each_others_keys() {
    for (one, other) in [
        (Codec::Opus, Codec::Pcma),
        (Codec::G722, Codec::Pcmu),
        (Codec::L16Wide, Codec::G722),
        (Codec::L16Narrow, Codec::Opus),
    ] {
        let mut stage = Stage::new();
        let clock = |codec| if codec == Codec::Opus { 48_000 } else { 8000 };
        stage.caller(RtpPeer { dtmf_clock: clock(one), ..peer(one, CALLER).with_dtmf(EVENTS) });
        stage.target(RtpPeer { dtmf_clock: clock(other), ..peer(other, TARGET).with_dtmf(EVENTS) });
        let (mut ada, mut bob) = (Party::new(one), Party::new(other));
        for packet in ada.talk(&tone(440.0, 2000, 16_000)).into_iter().zip(bob.talk(&tone(880.0, 2000, 16_000))) {
            stage.hear(CALLER, &packet.0);
            stage.hear(TARGET, &packet.1);
            stage.run(1);
        }
        let heard = |leg, codec| Party::new(codec).listen(stage.of(leg).iter().map(|(_, payload)| payload.as_slice()));
        let (by_target, by_caller) = (heard(TARGET, other), heard(CALLER, one));
        for (what, heard, hz) in [("target", by_target, 440.0), ("caller", by_caller, 880.0)] {
            let middle = &heard[8000..24_000];
            let level = strength(middle, hz);
            assert!((2400.0..3400.0).contains(&level), "{one} to {other}, the {what} hears {level}");
            assert!(strength(middle, 1320.0 - hz) < 60.0, "the {what} does not hear itself");
        }

        let before = stage.of(TARGET).len();
        for (at, (duration, end)) in [(160, 0), (320, 0), (800, 0x80), (800, 0x80)].into_iter().enumerate() {
            let duration = duration * (clock(one) / 8000) as u16;
            let [high, low] = duration.to_be_bytes();
            stage.hear(CALLER, &ada.event(at == 0, &[5, end | 10, high, low]));
            stage.run(1);
        }
        stage.run(20);
        let after = &stage.of(TARGET)[before..];
        let keys: Vec<u16> = after
            .iter()
            .filter(|(header, _)| header.payload_type == EVENTS)
            .map(|(_, payload)| u16::from_be_bytes([payload[2], payload[3]]))
            .collect();
        let scale = (clock(other) / 8000) as u16;
        assert_eq!(keys, [160, 320, 800, 800].map(|duration| duration * scale), "{one} to {other}");
        assert!(after.len() >= 18, "{one} to {other}: sound goes on behind the key, {} packets", after.len());
        assert!(stage.notices.iter().any(|what| matches!(what, Noticed::Digit { duration_ms: 100, .. })));
    }
}

#[test]
fn two_parties_in_the_same_codec_get_each_others_octets() {
    for codec in [Codec::Opus, Codec::G722, Codec::L16Wide] {
        let mut stage = Stage::new();
        stage.caller(peer(codec, CALLER));
        stage.target(peer(codec, TARGET));
        let packets = Party::new(codec).talk(&tone(440.0, 1000, 16_000));
        for packet in &packets {
            stage.hear(CALLER, packet);
            stage.run(1);
        }

        let sent = stage.of(TARGET);
        let passed = packets.iter().filter(|packet| sent.iter().any(|(_, payload)| *payload == packet[12..])).count();
        assert_eq!(passed, packets.len(), "{codec}");
    }
}

#[test]
fn a_party_may_change_among_the_agreed_codecs_at_any_packet() {
    let mut stage = Stage::new();
    let takes = [Some((111, Codec::Opus)), Some((119, Codec::L16Wide)), None, None, None, None];
    stage.caller(RtpPeer { takes, ..peer(Codec::Pcmu, CALLER) });
    stage.agent(Form::Linear16);
    let sound = tone(440.0, 500, 16_000);
    let (mut seq, mut sent_ms) = (0u16, 0);
    for codec in [Codec::Pcmu, Codec::G722, Codec::Opus, Codec::Pcma, Codec::L16Wide, Codec::Pcmu] {
        let mut party = Party::new(codec);
        for mut packet in party.talk(&sound) {
            packet[2..4].copy_from_slice(&seq.to_be_bytes());
            seq += 1;
            sent_ms += 20;
            stage.hear(CALLER, &packet);
            stage.run(1);
        }
    }

    let heard = stage.heard();
    let heard_ms = heard.len() / 16;
    assert!(heard_ms.abs_diff(sent_ms) <= 60, "{heard_ms} of {sent_ms} ms");
    for (at, part) in heard.chunks(8000).enumerate().take(6) {
        let level = strength(&part[1600..7200], 440.0);
        assert!((2400.0..3400.0).contains(&level), "part {at}: {level}");
    }
}

#[test]
fn silence_is_described_to_a_peer_that_wants_it_so() {
    let mut stage = Stage::new();
    stage.caller(RtpPeer { comfort_noise: Some(13), ..peer(Codec::Pcmu, CALLER) });
    stage.agent(Form::Ulaw);
    stage.run(100);
    let (quiet, described) = {
        let sent = stage.of(CALLER);
        (sent.len(), sent.iter().filter(|(header, payload)| header.payload_type == 13 && payload == &[65]).count())
    };
    assert_eq!((quiet, described), (15, 5), "200 ms of silence, then a description every 400 ms");

    stage.desk.speech(AGENT, Speech { epoch: 0, item: "a".into(), voice: Voice::Ulaw(vec![0x90; 1600]), last: true });
    stage.run(10);
    let sent = stage.of(CALLER);
    let spoken = &sent[quiet..];
    assert_eq!(spoken.len(), 10);
    assert!(spoken[0].0.marker && spoken[1..].iter().all(|(header, _)| !header.marker));
    // 100 ticks have gone by on the grid, sent or not.
    assert_eq!(spoken[0].0.timestamp.wrapping_sub(sent[0].0.timestamp), 100 * 160);
}

#[test]
fn a_bad_network_costs_quality_and_not_time_in_any_codec() {
    for codec in Codec::ALL {
        for seed in 1..4u64 {
            let mut dice = Dice(seed * 7919);
            let mut stage = Stage::new();
            stage.caller(peer(codec, CALLER));
            stage.agent(Form::Linear16);
            let terms = OpusTerms { fec: true, ..OpusTerms::default() };
            let packets = Party::with(codec, terms).talk(&tone(440.0, 8000, 16_000));
            let mut on_the_way: Vec<(u64, usize)> = Vec::new();
            for at in 0..packets.len() {
                if dice.roll(100) >= 5 {
                    on_the_way.push((at as u64 * 20 + dice.roll(45), at));
                }
                if dice.roll(50) == 0 {
                    on_the_way.push((at as u64 * 20 + dice.roll(60), at));
                }
            }
            on_the_way.sort_unstable();
            let mut arrivals = on_the_way.into_iter().peekable();
            for tick in 0..405u64 {
                while let Some((at, packet)) = arrivals.next_if(|(at, _)| *at < tick * 20) {
                    stage.hear_at(at, CALLER, &packets[packet]);
                }
                stage.run(1);
            }

            let heard = stage.heard();
            let heard_ms = heard.len() as i64 / 16;
            assert!((heard_ms - 8080).abs() <= 160, "{codec} seed {seed}: {heard_ms} ms");
            let level = strength(&heard[3200..120_000], 440.0);
            assert!(level > 1500.0, "{codec} seed {seed}: {level}");
            let stats = stage.stats();
            assert!(stats.lost > 5 && stats.duplicates + stats.late > 0, "{codec} seed {seed}: {stats:?}");
            if codec == Codec::Opus {
                assert!(stats.recovered_ms > 60, "seed {seed}: {stats:?}");
            }
        }
    }
}

#[test]
fn rubbish_under_an_agreed_number_is_refused_and_the_call_goes_on() {
    for codec in Codec::ALL {
        let mut dice = Dice(4711);
        let mut stage = Stage::new();
        stage.caller(peer(codec, CALLER));
        stage.target(peer(if codec == Codec::Opus { Codec::G722 } else { Codec::Opus }, TARGET));
        for seq in 0..300u16 {
            let header = Header {
                marker: dice.roll(2) == 0,
                payload_type: number(codec),
                seq: if dice.roll(20) == 0 { dice.roll(65_536) as u16 } else { seq },
                timestamp: if dice.roll(20) == 0 { dice.roll(1 << 32) as u32 } else { u32::from(seq) * 160 },
                ssrc: dice.roll(3) as u32,
            };
            let mut packet = header.to_bytes().to_vec();
            packet.extend((0..dice.roll(1600)).map(|_| dice.roll(256) as u8).collect::<Vec<u8>>());
            stage.hear(CALLER, &packet);
            stage.run(1);
        }
        let gaps = stage.times(TARGET);
        assert!(gaps.windows(2).all(|pair| pair[1] - pair[0] <= 20), "{codec}: the target's stream has a hole");
    }
}

/// Encoded here, decoded by ffmpeg.
#[test]
fn interop_ffmpeg_understands_what_we_send() {
    let folder = tempfile::tempdir().unwrap();
    let source = speech(folder.path());
    for (codec, least_db) in [(Codec::G722, 25.0), (Codec::Opus, 8.0)] {
        let mut stage = Stage::new();
        stage.caller(peer(codec, CALLER));
        stage.agent(Form::Linear16);
        stage.say(&source);
        stage.run(source.len() / 320 + 5);
        let payloads: Vec<Vec<u8>> = stage.of(CALLER).into_iter().map(|(_, payload)| payload).collect();

        let file = folder.path().join(if codec == Codec::G722 { "ours.g722" } else { "ours.ogg" });
        match codec {
            Codec::G722 => fs::write(&file, payloads.concat()).unwrap(),
            _ => write_ogg(&file, &payloads),
        }
        let heard = folder.path().join("heard.raw");
        ffmpeg(&["-i", file.to_str().unwrap(), "-ar", "16000", "-ac", "1", "-f", "s16le", heard.to_str().unwrap()]);
        let heard = read_raw(&heard);

        assert_alike(codec, &source, &heard, least_db);
    }
}

/// Encoded by ffmpeg, decoded here.
#[test]
fn interop_ffmpeg_is_understood_by_us() {
    let folder = tempfile::tempdir().unwrap();
    let source = speech(folder.path());
    let raw = folder.path().join("source.raw");
    fs::write(&raw, source.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let input = ["-f", "s16le", "-ar", "16000", "-ac", "1", "-i", raw.to_str().unwrap()];
    for (codec, least_db) in [(Codec::G722, 25.0), (Codec::Opus, 8.0)] {
        let file = folder.path().join(if codec == Codec::G722 { "theirs.g722" } else { "theirs.ogg" });
        let options: &[&str] = match codec {
            Codec::G722 => &["-c:a", "g722", "-f", "g722"],
            _ => &["-c:a", "libopus", "-b:a", "32k", "-ar", "48000", "-frame_duration", "20", "-f", "ogg"],
        };
        ffmpeg(&[&input[..], options, &[file.to_str().unwrap()]].concat());
        let payloads: Vec<Vec<u8>> = match codec {
            Codec::G722 => fs::read(&file).unwrap().chunks_exact(160).map(<[u8]>::to_vec).collect(),
            _ => read_ogg(&file),
        };

        let mut stage = Stage::new();
        stage.caller(peer(codec, CALLER));
        stage.agent(Form::Linear16);
        let mut party = Party::new(codec);
        for payload in &payloads {
            let packet = party.packet(payload, 160);
            stage.hear(CALLER, &packet);
            stage.run(1);
        }

        assert_eq!(stage.stats().refused, 0, "{codec}");
        assert_alike(codec, &source, &stage.heard(), least_db);
    }
}

/// The same speech: its spectrum over time, and for codecs that keep the wave its samples.
fn assert_alike(codec: Codec, source: &[i16], heard: &[i16], least_db: f64) {
    let (delay, likeness) = (0..400)
        .map(|delay| (delay, correlation(&source[..40_000], heard.get(delay..).unwrap_or_default())))
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .unwrap();
    assert!(likeness > 0.85, "{codec}: correlation {likeness} at {delay} samples");
    let pairs = || source.iter().zip(&heard[delay..]).map(|(one, other)| (f64::from(*one), f64::from(*other)));
    let gain =
        pairs().map(|(one, other)| one * other).sum::<f64>() / pairs().map(|(_, other)| other * other).sum::<f64>();
    assert!((0.8..1.25).contains(&gain), "{codec}: the level is off by {gain}");
    let noise: f64 = pairs().map(|(one, other)| (one - other * gain).powi(2)).sum();
    let snr_db = 10.0 * (pairs().map(|(one, _)| one * one).sum::<f64>() / noise).log10();
    assert!(snr_db > least_db, "{codec}: {snr_db} dB");
    println!("{codec}: correlation {likeness:.3}, {snr_db:.1} dB, {:.1} ms", delay as f64 / 16.0);
}

fn ffmpeg(arguments: &[&str]) {
    let run = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).output().expect("ffmpeg runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Speech at 16 kHz, some three seconds.
fn speech(folder: &Path) -> Vec<i16> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("audio-fixtures/welcome.wav");
    let raw = folder.join("speech.raw");
    ffmpeg(&[
        "-i",
        fixture.to_str().unwrap(),
        "-t",
        "3",
        "-ar",
        "16000",
        "-ac",
        "1",
        "-f",
        "s16le",
        raw.to_str().unwrap(),
    ]);
    let mut samples = read_raw(&raw);
    samples.truncate(samples.len() / 320 * 320);
    assert!(samples.len() > 40_000, "{} samples", samples.len());
    samples
}

fn read_raw(path: &Path) -> Vec<i16> {
    fs::read(path).unwrap().chunks_exact(2).map(|octets| i16::from_le_bytes([octets[0], octets[1]])).collect()
}

/// RFC 7845: two headers, then packets with the position at 48 kHz.
fn write_ogg(path: &Path, payloads: &[Vec<u8>]) {
    let mut writer = ogg::PacketWriter::new(fs::File::create(path).unwrap());
    let end = ogg::PacketWriteEndInfo::EndPage;
    let head = [&b"OpusHead\x01\x01"[..], &0u16.to_le_bytes(), &16_000u32.to_le_bytes(), &[0, 0, 0]].concat();
    let tags = [&b"OpusTags"[..], &4u32.to_le_bytes(), b"test", &0u32.to_le_bytes()].concat();
    writer.write_packet(head, 7, end, 0).unwrap();
    writer.write_packet(tags, 7, end, 0).unwrap();
    for (at, payload) in payloads.iter().enumerate() {
        let info = if at + 1 == payloads.len() {
            ogg::PacketWriteEndInfo::EndStream
        } else {
            ogg::PacketWriteEndInfo::NormalPacket
        };
        writer.write_packet(payload.clone(), 7, info, (at as u64 + 1) * 960).unwrap();
    }
}

fn read_ogg(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = ogg::PacketReader::new(fs::File::open(path).unwrap());
    std::iter::from_fn(|| reader.read_packet().unwrap()).skip(2).map(|packet| packet.data).collect()
}

/// A call in virtual time.
struct Stage {
    desk: Desk,
    out: Out,
    now: Time,
    sent: Vec<(LegId, Time, Header, Vec<u8>)>,
    notices: Vec<Noticed>,
}

impl Stage {
    fn new() -> Stage {
        let desk = Desk::new(CallId(uuid::Uuid::nil()));
        Stage { desk, out: Out::default(), now: Time::ZERO, sent: Vec::new(), notices: Vec::new() }
    }

    fn caller(&mut self, peer: RtpPeer) {
        self.desk.open_rtp(self.now, CALLER, 1, false, &mut self.out);
        self.desk.set_remote(self.now, CALLER, peer);
    }

    fn target(&mut self, peer: RtpPeer) {
        self.desk.open_rtp(self.now, TARGET, 2, false, &mut self.out);
        self.desk.set_remote(self.now, TARGET, peer);
        self.desk.wire(&[(CALLER, vec![TARGET]), (TARGET, vec![CALLER])]);
    }

    fn agent(&mut self, form: Form) {
        self.desk.open_agent(AGENT, form, ringback::model::BargeIn::default(), &mut self.out);
        self.desk.wire(&[(CALLER, vec![AGENT]), (AGENT, vec![CALLER])]);
    }

    fn say(&mut self, samples: &[i16]) {
        let voice = Voice::Linear(samples.to_vec());
        assert!(self.desk.speech(AGENT, Speech { epoch: 0, item: "a".into(), voice, last: true }));
    }

    fn hear(&mut self, leg: LegId, packet: &[u8]) {
        self.hear_at(self.now.as_ms(), leg, packet);
    }

    fn hear_at(&mut self, at_ms: u64, leg: LegId, packet: &[u8]) {
        self.desk.datagram(Time::from_ms(at_ms), leg, address(leg), packet, &mut self.out);
        self.collect();
    }

    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.desk.tick(self.now, &mut self.out);
            self.collect();
            self.now = self.now + Duration::from_millis(20);
        }
    }

    fn collect(&mut self) {
        for (leg, _, packet) in self.out.packets() {
            let (header, payload) = Header::parse(packet).expect("what we send is RTP");
            self.sent.push((leg, self.now, header, payload.to_vec()));
        }
        self.out.clear_packets();
        self.notices.extend(self.out.notices.drain(..).map(|notice| notice.what));
    }

    fn of(&self, leg: LegId) -> Vec<(Header, Vec<u8>)> {
        let of_leg = self.sent.iter().filter(|(of, ..)| *of == leg);
        of_leg.map(|(_, _, header, payload)| (*header, payload.clone())).collect()
    }

    /// When packets went out to a leg, in milliseconds.
    fn times(&self, leg: LegId) -> Vec<u64> {
        self.sent.iter().filter(|(of, ..)| *of == leg).map(|(_, at, ..)| at.as_ms()).collect()
    }

    /// What an agent of [`Form::Linear16`] heard.
    fn heard(&self) -> Vec<i16> {
        let frame = |what: &Noticed| match what {
            Noticed::Heard(Heard::Linear(frame)) => Some(frame.to_vec()),
            _ => None,
        };
        self.notices.iter().filter_map(frame).flatten().collect()
    }

    /// The caller's figures; closes its leg.
    fn stats(&mut self) -> ringback::media::LegStats {
        self.desk.close_leg(CALLER, &mut self.out);
        self.collect();
        let stats = self.notices.iter().rev().find_map(|what| match what {
            Noticed::LegStats(stats) => Some(*stats),
            _ => None,
        });
        stats.expect("a leg that closes gives its figures")
    }
}

/// Somebody with a telephone of one codec: a gateway of ours, turned round.
struct Party {
    codec: Codec,
    terms: OpusTerms,
    seq: u16,
    timestamp: u32,
}

impl Party {
    fn new(codec: Codec) -> Party {
        Party::with(codec, OpusTerms::default())
    }

    fn with(codec: Codec, opus: OpusTerms) -> Party {
        Party { codec, terms: opus, seq: 0, timestamp: 0 }
    }

    /// The packets in which it says this.
    fn talk(&mut self, samples: &[i16]) -> Vec<Vec<u8>> {
        let mut stage = Stage::new();
        stage.caller(RtpPeer { opus: self.terms, ..peer(self.codec, CALLER) });
        stage.agent(Form::Linear16);
        stage.say(samples);
        stage.run(samples.len() / 320);
        stage.of(CALLER).iter().map(|(_, payload)| self.packet(payload, 160)).collect()
    }

    fn packet(&mut self, payload: &[u8], units: u32) -> Vec<u8> {
        let header = Header {
            marker: false,
            payload_type: number(self.codec),
            seq: self.seq,
            timestamp: self.timestamp,
            ssrc: 77,
        };
        self.seq += 1;
        self.timestamp += units * self.codec.clock() / 8000;
        [&header.to_bytes()[..], payload].concat()
    }

    /// A packet of a key, all of one key with the same timestamp.
    fn event(&mut self, marker: bool, payload: &[u8]) -> Vec<u8> {
        let (seq, timestamp) = (self.seq, self.timestamp);
        self.seq += 1;
        let header = Header { marker, payload_type: EVENTS, seq, timestamp, ssrc: 77 };
        [&header.to_bytes()[..], payload].concat()
    }

    /// What it hears in these payloads.
    fn listen<'a>(&mut self, payloads: impl Iterator<Item = &'a [u8]>) -> Vec<i16> {
        let mut stage = Stage::new();
        stage.caller(peer(self.codec, CALLER));
        stage.agent(Form::Linear16);
        for payload in payloads {
            let packet = self.packet(payload, 160);
            stage.hear(CALLER, &packet);
            stage.run(1);
        }
        stage.heard()
    }
}

fn peer(codec: Codec, leg: LegId) -> RtpPeer {
    RtpPeer::new(codec, number(codec), address(leg))
}

fn number(codec: Codec) -> u8 {
    match codec {
        Codec::Pcmu => 0,
        Codec::Pcma => 8,
        Codec::G722 => 9,
        Codec::Opus => 111,
        Codec::L16Narrow => 118,
        Codec::L16Wide => 119,
    }
}

fn address(leg: LegId) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000 + leg.0 * 2))
}

fn tone(hz: f64, ms: u32, rate: u32) -> Vec<i16> {
    let turn = hz * std::f64::consts::TAU / f64::from(rate);
    (0..ms * rate / 1000).map(|at| ((f64::from(at) * turn).sin() * 3000.0) as i16).collect()
}

/// The amplitude of one frequency at 16 kHz.
fn strength(samples: &[i16], hz: f64) -> f64 {
    let turn = hz * std::f64::consts::TAU / 16_000.0;
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        real += (at as f64 * turn).cos() * f64::from(*sample);
        imaginary += (at as f64 * turn).sin() * f64::from(*sample);
    }
    (real * real + imaginary * imaginary).sqrt() * 2.0 / samples.len() as f64
}

fn correlation(one: &[i16], other: &[i16]) -> f64 {
    let len = one.len().min(other.len());
    let product = |left: &[i16], right: &[i16]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    let power = product(&one[..len], &one[..len]) * product(&other[..len], &other[..len]);
    product(one, other) / power.sqrt().max(1.0)
}

/// A sequence of numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
