//! Two desks that talk to each other by protected RTP and by RTCP, in virtual time.

use std::time::Duration;

use super::*;
use crate::media::rtp_leg::Reports;
use crate::model::{BargeIn, Form, SrtpKey, SrtpKeys, SrtpSuite};

const LEG: LegId = LegId(0);
const AGENT: LegId = LegId(1);

#[test]
fn two_sides_with_the_right_keys_hear_each_other_and_nobody_else_understands() {
    for suite in SrtpSuite::ALL {
        let mut line = Line::new(keys(suite, 1, 2));
        line.say(0x90);
        line.run(50);

        assert!(line.far.heard(0x90) > 40, "{suite}");
        let (header, payload) = Header::parse(line.wire.last().unwrap()).expect("the header stays readable");
        assert_eq!((header.payload_type, payload.len()), (0, 160 + suite.tag_len()));
        assert!(line.wire.iter().all(|packet| packet[12..20] != [0x90; 8] && packet[12..20] != [0xFF; 8]));
        assert_eq!(line.far.closed().forged, 0);
    }
}

#[test]
fn wrong_keys_are_counted_and_nothing_is_heard() {
    let mut line = Line::new(keys(SrtpSuite::Aes128CmSha1Tag80, 1, 2));
    let wrong = SrtpKeys { theirs: key(SrtpSuite::Aes128CmSha1Tag80, 99), ..line.far_keys };
    line.far = Side::new(2);
    line.far.agree(Time::ZERO, Some(wrong));
    line.say(0x90);
    line.run(50);

    assert_eq!(line.far.heard(0x90), 0);
    let stats = line.far.closed();
    assert!(stats.forged >= 45 && stats.packets_in == 0, "{stats:?}");
}

#[test]
fn plain_audio_is_refused_where_keys_were_agreed_and_noise_before_they_are() {
    let mut line = Line::new(keys(SrtpSuite::AeadAes128Gcm, 1, 2));
    let plain = [&header(1).to_bytes()[..], &[0x90; 160]].concat();
    line.far.take(Time::from_ms(5), &plain);
    assert_eq!(line.far.closed().packets_in, 0);

    let mut early = Side::new(7);
    early.desk.expect_keys(LEG);
    early.take(Time::from_ms(5), &plain);
    early.tick(Time::from_ms(20));
    assert_eq!(early.out.packets().count(), 0);
    assert_eq!(early.closed().packets_in, 0);
}

#[test]
fn copies_are_counted_and_heard_once() {
    let mut line = Line::new(keys(SrtpSuite::Aes256CmSha1Tag80, 1, 2));
    line.say(0x90);
    line.run(20);
    let copies = line.wire.clone();
    let now = line.now;
    for copy in &copies {
        line.far.take(now, copy);
    }

    let stats = line.far.closed();
    assert_eq!((stats.packets_in, stats.replayed), (copies.len() as u64, copies.len() as u64));
}

#[test]
fn a_new_key_in_the_middle_loses_nothing_and_the_old_one_ends() {
    let mut line = Line::new(keys(SrtpSuite::Aes128CmSha1Tag80, 1, 2));
    line.say(0x90);
    line.run(20);
    let (near, far) = both(keys(SrtpSuite::Aes128CmSha1Tag80, 3, 2));
    // The far side knows the new key first; a second of audio under the old one is still on its way.
    line.far.agree(line.now, Some(far));
    line.run(50);
    line.near.agree(line.now, Some(near));
    line.run(50);
    assert_eq!(line.far.heard(0x90), 120);

    let (old, _) = both(keys(SrtpSuite::Aes128CmSha1Tag80, 1, 2));
    line.near.agree(line.now, Some(old));
    line.run(200);
    let stats = line.far.closed();
    assert!(stats.forged >= 195, "the old key is not taken again: {stats:?}");
}

#[test]
fn a_refresh_with_the_same_keys_goes_on_where_it_was() {
    let mut line = Line::new(keys(SrtpSuite::AeadAes256Gcm, 1, 2));
    line.say(0x90);
    for _ in 0..3 {
        line.run(20);
        line.near.agree(line.now, Some(line.near_keys));
        line.far.agree(line.now, Some(line.far_keys));
    }
    let copies = line.wire.clone();
    copies.iter().for_each(|copy| line.far.take(line.now, copy));

    let stats = line.far.closed();
    assert_eq!((line.far.heard(0x90), stats.forged, stats.replayed), (60, 0, 60));
}

#[test]
fn reports_measure_losses_and_the_way_in_both_directions() {
    for keys in [None, Some(keys(SrtpSuite::AeadAes128Gcm, 1, 2))] {
        let mut line = Line::maybe(keys);
        line.say(0x90);
        line.lose_every = Some(20);
        line.run(3000);

        assert!(line.reports >= 18, "a report every five seconds each: {}", line.reports);
        let (near, far) = (line.near.closed(), line.far.closed());
        let heard = far.quality.expect("was heard");
        assert!(heard.loss_bp.abs_diff(500) < 20, "{heard:?}");
        assert_eq!(heard.burst_ratio_percent, 100);
        assert!((380..=405).contains(&heard.mos_hundredths), "{heard:?}");
        assert!(near.quality.unwrap().mos_hundredths > 430, "{near:?}");
        let told = near.far.expect("the far side reports");
        assert!((130..=155).contains(&told.lost), "{told:?}");
        assert!(near.quality.unwrap().round_trip_ms.is_some_and(|ms| ms <= 20), "{near:?}");
    }
}

#[test]
fn reports_of_strangers_and_broken_ones_change_nothing() {
    let mut line = Line::maybe(None);
    line.run(10);
    let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
    let stranger: SocketAddr = "203.0.113.9:4001".parse().unwrap();
    line.far.desk.report(line.now, LEG, stranger, &report);
    line.far.desk.report(line.now, LEG, peer(), &report[..7]);
    for len in 0..8 {
        line.far.desk.datagram(line.now, LEG, peer(), &report[..len], &mut line.far.out);
    }

    let stats = line.far.closed();
    assert_eq!((stats.foreign, stats.far), (1, None));
    assert_eq!(stats.refused, 9);
}

/// Two legs that reach each other over a wire which may lose packets. Near speaks, far listens.
struct Line {
    near: Side,
    far: Side,
    near_keys: SrtpKeys,
    far_keys: SrtpKeys,
    now: Time,
    /// Audio that went from near to far.
    wire: Vec<Vec<u8>>,
    reports: usize,
    lose_every: Option<usize>,
}

impl Line {
    fn new(keys: SrtpKeys) -> Line {
        Line::maybe(Some(keys))
    }

    fn maybe(keys: Option<SrtpKeys>) -> Line {
        let (near_keys, far_keys) = both(keys.unwrap_or(self::keys(SrtpSuite::AeadAes128Gcm, 1, 2)));
        let (mut near, mut far) = (Side::new(1), Side::new(2));
        near.agree(Time::ZERO, keys.map(|_| near_keys));
        far.agree(Time::ZERO, keys.map(|_| far_keys));
        Line { near, far, near_keys, far_keys, now: Time::ZERO, wire: Vec::new(), reports: 0, lose_every: None }
    }

    fn say(&mut self, code: u8) {
        let clip: Clip = vec![code; 160].into();
        self.near.desk.play(LEG, PlayId(1), vec![clip], true, 0.0, &mut self.near.out);
    }

    fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now = self.now + Duration::from_millis(20);
            self.near.tick(self.now);
            self.far.tick(self.now);
            let sent = self.near.sent();
            for packet in sent {
                self.wire.push(packet);
                let is_lost = self.lose_every.is_some_and(|every| self.wire.len().is_multiple_of(every));
                if !is_lost {
                    self.far.take(self.now, self.wire.last().unwrap());
                }
            }
            for packet in self.far.sent() {
                self.near.take(self.now, &packet);
            }
            self.reports += exchange(self.now, &mut self.near, &mut self.far);
            self.reports += exchange(self.now, &mut self.far, &mut self.near);
            self.near.out.clear_packets();
            self.far.out.clear_packets();
        }
    }
}

fn exchange(now: Time, from: &mut Side, to: &mut Side) -> usize {
    let reports: Vec<Vec<u8>> = from.out.reports().map(|(_, _, _, report)| report.to_vec()).collect();
    reports.iter().for_each(|report| to.desk.report(now, LEG, peer(), report));
    reports.len()
}

struct Side {
    desk: Desk,
    out: Out,
}

impl Side {
    fn new(seed: u64) -> Side {
        let (mut desk, mut out) = (Desk::new(CallId(Uuid::nil())), Out::default());
        desk.open_rtp(Time::ZERO, LEG, seed, false, &mut out);
        desk.open_agent(AGENT, Form::Ulaw, BargeIn::default(), &mut out);
        desk.wire(&[(LEG, vec![AGENT]), (AGENT, vec![LEG])]);
        Side { desk, out }
    }

    fn agree(&mut self, now: Time, keys: Option<SrtpKeys>) {
        let reports = Reports { every: Some(Duration::from_secs(5)), are_extended: true, ..Reports::default() };
        let peer = RtpPeer { keys, reports, ..RtpPeer::new(Codec::Pcmu, 0, peer()) };
        self.desk.set_remote(now, LEG, peer);
    }

    fn tick(&mut self, now: Time) {
        self.desk.tick(now, &mut self.out);
    }

    fn take(&mut self, now: Time, datagram: &[u8]) {
        self.desk.datagram(now, LEG, peer(), datagram, &mut self.out);
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        self.out.packets().map(|(_, _, packet)| packet.to_vec()).collect()
    }

    /// Frames of this code that its agent heard.
    fn heard(&self, code: u8) -> usize {
        let is_it = |notice: &&Notice| match &notice.what {
            Noticed::Heard(Heard::Frame(frame)) => frame[80] == code,
            _ => false,
        };
        self.out.notices.iter().filter(is_it).count()
    }

    fn closed(&mut self) -> crate::media::LegStats {
        self.desk.close_leg(LEG, &mut self.out);
        let stats = self.out.notices.iter().rev().find_map(|notice| match &notice.what {
            Noticed::LegStats(stats) => Some(*stats),
            _ => None,
        });
        stats.expect("a leg that closes tells its figures")
    }
}

fn both(keys: SrtpKeys) -> (SrtpKeys, SrtpKeys) {
    (keys, SrtpKeys { ours: keys.theirs, theirs: keys.ours })
}

fn keys(suite: SrtpSuite, ours: u8, theirs: u8) -> SrtpKeys {
    SrtpKeys { ours: key(suite, ours), theirs: key(suite, theirs) }
}

fn key(suite: SrtpSuite, seed: u8) -> SrtpKey {
    SrtpKey::new(suite, &vec![seed; suite.key_len() + suite.salt_len()]).unwrap()
}

fn header(seq: u16) -> Header {
    Header { marker: false, payload_type: 0, seq, timestamp: u32::from(seq) * 160, ssrc: 5 }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}
