//! When and what a leg reports by RTCP, and what it learns from the other side's reports.

use std::time::Duration;

use super::quality::{Losses, Reception, Robustness, Score, score};
use super::rtcp::{Block, Report, Sent, Told, UNKNOWN, VoipMetrics};
use crate::model::Time;

/// The reports of one leg.
#[derive(Debug)]
pub(super) struct Reporter {
    dice: u64,
    /// Sixteen hexadecimal digits.
    cname: [u8; 16],
    /// Mean time between two reports; `None`: none are sent.
    interval: Option<Duration>,
    due: Option<Time>,
    /// Packets sent when we reported last.
    sent_before: u64,
    /// The source whose sender report came last, its time as it wrote it, and when that was.
    heard: Option<(u32, u32, Time)>,
    round_trip: Option<Duration>,
    far: Option<Far>,
}

/// How the other side receives us, by its last report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Far {
    /// Lost between its last two reports, from 0 to 1.
    pub loss: f64,
    /// Lost since the beginning.
    pub lost: i32,
    /// In units of the clock that we send by.
    pub jitter: u32,
    /// The highest sequence number that it had.
    pub highest: u32,
    /// Its own opinion of the call (RFC 3611 §4.7), when it says one.
    pub mos: Option<f64>,
}

/// What else goes into a report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) ssrc: u32,
    pub(super) packets: u64,
    pub(super) octets: u64,
    /// The stream's clock now.
    pub(super) timestamp: u32,
    /// Extended figures were agreed.
    pub(super) is_extended: bool,
    /// How long packets wait with us before they are heard.
    pub(super) buffer: Duration,
    /// Audio in one packet.
    pub(super) packet: Duration,
}

impl Reporter {
    /// A reporter that says nothing yet. Its name is random, so that it tells nothing of the house
    /// (RFC 7022 §4.2), and the same for the life of the leg.
    pub(super) fn new(seed: u64) -> Reporter {
        let mut dice = seed ^ 0x5EED_0FC0_FFEE_0001;
        let name = roll(&mut dice);
        let cname = std::array::from_fn(|at| b"0123456789abcdef"[(name >> (at * 4)) as usize & 15]);
        Reporter { dice, cname, interval: None, due: None, sent_before: 0, heard: None, round_trip: None, far: None }
    }

    /// Says how often to report; `None`: not at all.
    pub(super) fn set_interval(&mut self, interval: Option<Duration>) {
        self.interval = interval;
    }

    /// Whether a report is due; the first one half an interval after the start (RFC 3550 §6.2).
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        let Some(interval) = self.interval else { return false };
        let Some(due) = self.due else {
            self.due = Some(now + self.next(interval / 2));
            return false;
        };
        if now < due {
            return false;
        }
        self.due = Some(now + self.next(interval));
        true
    }

    /// Whether reports are sent at all.
    pub(super) fn is_on(&self) -> bool {
        self.interval.is_some()
    }

    /// RFC 3550 §6.3.1: between half and one and a half of the interval, shortened by what the recalculation at each
    /// expiry would otherwise add.
    fn next(&mut self, interval: Duration) -> Duration {
        let unit = (roll(&mut self.dice) >> 11) as f64 / (1_u64 << 53) as f64;
        interval.mul_f64((0.5 + unit) / 1.218_28)
    }

    /// Appends a report to `out`.
    pub(super) fn write(
        &mut self,
        now: Time,
        figures: Figures,
        reception: &mut Reception,
        is_leaving: bool,
        out: &mut Vec<u8>,
    ) {
        let block = reception.block().map(|block| self.timed(now, block));
        let voip = block.filter(|_| figures.is_extended).map(|block| self.voip(block.ssrc, reception, figures));
        let has_sent = figures.packets > self.sent_before;
        self.sent_before = figures.packets;
        let sent = has_sent.then(|| Sent {
            ntp: ntp(now),
            timestamp: figures.timestamp,
            packets: figures.packets as u32,
            octets: figures.octets as u32,
        });
        let cname = std::str::from_utf8(&self.cname).unwrap_or_default();
        Report { ssrc: figures.ssrc, cname, sent, block, voip, is_leaving }.write(out);
    }

    /// Takes what the other side reported.
    pub(super) fn hear(&mut self, now: Time, told: &Told) {
        if let Some(sent_at) = told.sent_at {
            self.heard = Some((told.sender, sent_at, now));
        }
        let Some(block) = told.about_us else { return };
        if block.last_report != 0 {
            let gone = middle(ntp(now)).wrapping_sub(block.last_report).wrapping_sub(block.since_report);
            // A clock that is wrong by a tick gives a negative time; one that is wrong by more is no clock.
            if gone < ROUND_TRIP_MAX << 16 {
                self.round_trip = Some(Duration::from_secs_f64(f64::from(gone) / 65_536.0));
            }
        }
        let known = |score: u8| (10..=50).contains(&score).then(|| f64::from(score) / 10.0);
        self.far = Some(Far {
            loss: f64::from(block.fraction_lost) / 256.0,
            lost: block.lost,
            jitter: block.jitter,
            highest: block.highest,
            mos: told.voip.and_then(|voip| known(voip.mos_cq)).or(self.far.and_then(|far| far.mos)),
        });
    }

    /// From us to the other side and back, as last measured.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// How the other side receives us.
    pub(super) fn far(&self) -> Option<Far> {
        self.far
    }

    /// What a listener on our side thinks of the party.
    pub(super) fn score(&self, losses: &Losses, figures: Figures) -> Score {
        let delay = self.round_trip.unwrap_or_default() / 2 + figures.buffer + END_SYSTEMS;
        score(Robustness::G711_CONCEALED, losses.loss + losses.discard, losses.burst_ratio, delay)
    }

    /// RFC 3550 §6.4.1: when the source's last report came, so that it can measure the round trip.
    fn timed(&self, now: Time, block: Block) -> Block {
        match self.heard {
            Some((sender, sent_at, came)) if sender == block.ssrc => {
                let since = (now - came).as_nanos() * 65_536 / 1_000_000_000;
                Block { last_report: sent_at, since_report: u32::try_from(since).unwrap_or(u32::MAX), ..block }
            }
            _ => block,
        }
    }

    fn voip(&self, ssrc: u32, reception: &Reception, figures: Figures) -> VoipMetrics {
        let losses = reception.losses(figures.packet);
        let talking = self.score(&losses, figures);
        let listening =
            score(Robustness::G711_CONCEALED, losses.loss + losses.discard, losses.burst_ratio, Duration::ZERO);
        let part = |share: f64| (share * 256.0).clamp(0.0, 255.0) as u8;
        let ms = |ms: f64| ms.clamp(0.0, f64::from(u16::MAX)) as u16;
        let time = |time: Duration| ms(time.as_secs_f64() * 1000.0);
        VoipMetrics {
            ssrc,
            loss_rate: part(losses.loss),
            discard_rate: part(losses.discard),
            burst_density: part(losses.bursts.burst),
            gap_density: part(losses.bursts.gap),
            burst_ms: ms(losses.bursts.burst_ms),
            gap_ms: ms(losses.bursts.gap_ms),
            round_trip_ms: self.round_trip.map_or(0, time),
            end_system_ms: time(figures.buffer + figures.packet),
            r_factor: talking.r.clamp(0.0, f64::from(UNKNOWN - 1)) as u8,
            mos_lq: (listening.mos * 10.0).round() as u8,
            mos_cq: (talking.mos * 10.0).round() as u8,
            buffer_ms: time(figures.buffer),
            buffer_max_ms: time(figures.buffer),
        }
    }
}

/// The time of the worker as NTP: RFC 3550 §6.4.1 allows any clock that runs evenly. It begins at one second, since 0
/// says that there is none.
fn ntp(now: Time) -> u64 {
    let (seconds, nanos) = (now.0 / 1_000_000_000 + 1, now.0 % 1_000_000_000);
    (seconds << 32) | ((nanos << 32) / 1_000_000_000)
}

fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// splitmix64.
fn roll(dice: &mut u64) -> u64 {
    *dice = dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *dice;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Coding and the path beyond the network, on both sides together.
const END_SYSTEMS: Duration = Duration::from_millis(25);
/// A longer round trip, in seconds, is a mistake of somebody's clock.
const ROUND_TRIP_MAX: u32 = 30;

#[cfg(test)]
mod tests {
    use super::super::rtcp::read;
    use super::super::rtp::Header;
    use super::*;

    #[test]
    fn reports_come_every_five_seconds_on_average_and_never_in_step() {
        let mut reporter = Reporter::new(7);
        reporter.set_interval(Some(Duration::from_secs(5)));
        let mut times = Vec::new();
        for ms in (0..3_600_000).step_by(20) {
            if reporter.is_due(Time::from_ms(ms)) {
                times.push(ms);
            }
        }

        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
        assert!(times[0] < 3_100, "the first one early: {}", times[0]);
        // 5 s between 0.5 and 1.5, divided by e − 1.5.
        assert!((2_050..2_300).contains(least) && (5_900..6_200).contains(most), "{least} {most}");
        assert!((860..900).contains(&times.len()), "{}", times.len());
        let mut none = Reporter::new(7);
        assert!((0..100_000).step_by(20).all(|ms| !none.is_due(Time::from_ms(ms))));
    }

    #[test]
    fn two_sides_measure_the_way_between_them() {
        let (mut near, mut far) = (side(1), side(2));
        let one_way = Duration::from_millis(70);
        let start = Time::from_ms(10_000);
        far.1.packet(start, &packet(1), 8000, false);
        near.1.packet(start, &packet(2), 8000, false);

        // Near reports, far hears it later and reports back a second after that.
        let told = exchange(&mut near, start, 1, 2);
        far.0.hear(start + one_way, &told);
        let answered = start + one_way + Duration::from_secs(1);
        let told = exchange(&mut far, answered, 2, 1);
        near.0.hear(answered + one_way, &told);

        let measured = near.0.round_trip().unwrap();
        assert!((measured.as_secs_f64() - 0.140).abs() < 0.001, "{measured:?}");
        assert_eq!(far.0.round_trip(), None, "nobody has told it when its report came");
        assert_eq!(near.0.far().unwrap().highest, 1);
    }

    #[test]
    fn a_round_trip_that_cannot_be_is_not_believed() {
        let mut reporter = Reporter::new(7);
        for last_report in [u32::MAX, 1, 0x7000_0000] {
            let block = Block { ssrc: 1, last_report, since_report: 7_000_000, ..Block::default() };
            reporter.hear(Time::from_ms(50_000), &Told { about_us: Some(block), ..Told::default() });
            assert_eq!(reporter.round_trip(), None, "{last_report:#x}");
        }
    }

    #[test]
    fn who_sends_nothing_reports_as_a_receiver_and_quality_goes_along_where_agreed() {
        let (mut reporter, mut reception) = side(1);
        for n in (0..500_u32).filter(|n| n % 20 != 3) {
            let header = Header { seq: n as u16, timestamp: n * 160, ..packet(2) };
            reception.packet(Time::from_ms(u64::from(n) * 20), &header, 8000, false);
        }
        let mut out = Vec::new();
        let quiet = Figures { packets: 0, is_extended: true, ..figures(1) };

        reporter.write(Time::from_ms(10_000), quiet, &mut reception, true, &mut out);

        let told = read(&out, 2).unwrap();
        assert_eq!((told.sent_at, told.is_leaving), (None, true));
        let voip = told.voip.unwrap();
        assert_eq!((voip.loss_rate, voip.discard_rate), (13, 0), "of 256, which is 5 %");
        assert!((37..=40).contains(&voip.mos_cq) && voip.mos_lq >= voip.mos_cq, "{voip:?}");
    }

    fn side(seed: u64) -> (Reporter, Reception) {
        (Reporter::new(seed), Reception::default())
    }

    fn exchange(side: &mut (Reporter, Reception), now: Time, ssrc: u32, to: u32) -> Told {
        let mut out = Vec::new();
        side.0.write(now, figures(ssrc), &mut side.1, false, &mut out);
        read(&out, to).unwrap()
    }

    fn figures(ssrc: u32) -> Figures {
        let (packet, buffer) = (Duration::from_millis(20), Duration::from_millis(20));
        Figures { ssrc, packets: 10, octets: 1600, timestamp: 5, is_extended: false, buffer, packet }
    }

    fn packet(ssrc: u32) -> Header {
        Header { marker: false, payload_type: 0, seq: 1, timestamp: 160, ssrc }
    }
}
