//! How well a party is received: losses, bursts, jitter, and what they are worth to a listener.
//!
//! [`Reception`] watches the packets of one source; [`score`] is the simplified E-model (ITU-T G.107).

use std::time::Duration;

use super::rtcp::{Block, GMIN};
use super::rtp::Header;
use crate::model::Time;

/// The packets of a party, as they come from the network.
#[derive(Debug, Default)]
pub(super) struct Reception {
    source: Option<Source>,
    /// What sources that are no longer heard left behind.
    past: Totals,
    /// The report before the last: packets expected and received.
    reported: (u64, u64),
}

/// One SSRC.
#[derive(Debug)]
struct Source {
    ssrc: u32,
    first: u64,
    highest: u64,
    received: u64,
    /// Which of the last 64 came, bit 0 being the highest, and which of those were of no use.
    came: u64,
    useless: u64,
    /// Arrival minus timestamp of the last packet, in units of the clock.
    transit: Option<u32>,
    /// Times 16, as RFC 3550 A.8 keeps it.
    jitter: u32,
    bursts: Bursts,
}

/// Packets whose fate is decided.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    expected: u64,
    lost: u64,
    useless: u64,
    runs: u64,
}

impl Reception {
    /// Takes a packet of the party. `is_useless` is one that came too late to be heard.
    pub(super) fn packet(&mut self, now: Time, header: &Header, clock_hz: u32, is_useless: bool) {
        let ahead = self.source.as_ref().map(|source| {
            let ahead = header.seq.wrapping_sub(source.highest as u16) as i16;
            (source.ssrc == header.ssrc && ahead.unsigned_abs() <= DROPOUT_MAX).then_some(ahead)
        });
        match (ahead.flatten(), &mut self.source) {
            (Some(ahead), Some(source)) => source.packet(now, header, ahead, clock_hz, is_useless),
            _ => {
                if let Some(mut source) = self.source.take() {
                    source.settle();
                    self.past = self.totals_with(&source);
                }
                self.reported = (0, 0);
                self.source = Some(Source::new(now, header, clock_hz));
            }
        }
    }

    /// The report block about the party since the last one (RFC 3550 A.3); `None` when it never sent anything. Times of
    /// its own reports are for the caller to fill in.
    pub(super) fn block(&mut self) -> Option<Block> {
        let source = self.source.as_ref()?;
        let expected = source.highest - source.first + 1;
        let (expected_before, received_before) = std::mem::replace(&mut self.reported, (expected, source.received));
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(source.received - received_before);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        Some(Block {
            ssrc: source.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: i32::try_from(expected as i64 - source.received as i64).unwrap_or(i32::MAX),
            // The record begins one turn up, which is not of the wire.
            highest: (source.highest - TURN) as u32,
            jitter: source.jitter >> 4,
            ..Block::default()
        })
    }

    /// Interarrival jitter in units of the clock.
    #[cfg(test)]
    fn jitter(&self) -> u32 {
        self.source.as_ref().map_or(0, |source| source.jitter >> 4)
    }

    /// The figures of all sources so far.
    pub(super) fn losses(&self, packet: Duration) -> Losses {
        let totals = self.source.as_ref().map_or(self.past, |source| self.totals_with(source));
        let bursts = self.source.as_ref().map(|source| source.bursts.clone()).unwrap_or_default();
        let bad = totals.lost + totals.useless;
        let share = |part: u64| if totals.expected == 0 { 0.0 } else { part as f64 / totals.expected as f64 };
        let mean_run = if totals.runs == 0 { 1.0 } else { bad as f64 / totals.runs as f64 };
        Losses {
            expected: totals.expected,
            lost: totals.lost,
            discarded: totals.useless,
            loss: share(totals.lost),
            discard: share(totals.useless),
            // Losses that know nothing of each other come in runs of 1 / (1 − p) on average.
            burst_ratio: (mean_run * (1.0 - share(bad))).max(1.0),
            bursts: bursts.densities(packet),
        }
    }

    fn totals_with(&self, source: &Source) -> Totals {
        let now = source.bursts.totals;
        Totals {
            expected: self.past.expected + now.expected,
            lost: self.past.lost + now.lost,
            useless: self.past.useless + now.useless,
            runs: self.past.runs + now.runs,
        }
    }
}

impl Source {
    fn new(now: Time, header: &Header, clock_hz: u32) -> Source {
        let first = TURN | u64::from(header.seq);
        let mut source = Source {
            ssrc: header.ssrc,
            first,
            highest: first,
            received: 1,
            came: 1,
            useless: 0,
            transit: None,
            jitter: 0,
            bursts: Bursts::default(),
        };
        source.measure_jitter(now, header, clock_hz);
        source
    }

    fn packet(&mut self, now: Time, header: &Header, ahead: i16, clock_hz: u32, is_useless: bool) {
        self.received += 1;
        if ahead > 0 {
            (0..ahead).for_each(|_| self.advance());
            self.came |= 1;
            self.useless |= u64::from(is_useless);
        } else {
            let behind = u32::from(ahead.unsigned_abs());
            // A copy of one that was heard is no loss.
            if behind < REORDER && self.came >> behind & 1 == 0 {
                self.came |= 1 << behind;
                self.useless |= u64::from(is_useless) << behind;
                // What came before the first packet was expected too.
                self.first = self.first.min(self.highest - u64::from(behind));
            }
        }
        self.measure_jitter(now, header, clock_hz);
    }

    /// Makes room for the next number; the fate of the one that leaves the window is decided.
    fn advance(&mut self) {
        self.decide(REORDER - 1);
        self.highest += 1;
        (self.came, self.useless) = (self.came << 1, self.useless << 1);
    }

    fn decide(&mut self, behind: u32) {
        if self.highest - u64::from(behind) < self.first {
            return;
        }
        self.bursts.packet(match (self.came >> behind & 1, self.useless >> behind & 1) {
            (0, _) => Fate::Lost,
            (_, 0) => Fate::Heard,
            _ => Fate::Useless,
        });
    }

    /// Decides on all that is left in the window: the source has ended.
    fn settle(&mut self) {
        (0..REORDER).rev().for_each(|behind| self.decide(behind));
    }

    /// RFC 3550 A.8.
    fn measure_jitter(&mut self, now: Time, header: &Header, clock_hz: u32) {
        let arrived = (u128::from(now.0) * u128::from(clock_hz) / 1_000_000_000) as u32;
        let transit = arrived.wrapping_sub(header.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            // A jump of the timestamp is no jitter, and must not stay in the figure for minutes.
            let change = (transit.wrapping_sub(before) as i32).unsigned_abs().min(clock_hz);
            self.jitter = self.jitter + change - ((self.jitter + 8) >> 4);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Heard,
    Lost,
    Useless,
}

/// Bursts and gaps, counted as RFC 3611 A.2 does: the numbers are transitions between its four states.
#[derive(Clone, Debug, Default)]
struct Bursts {
    totals: Totals,
    /// Heard since the last that was not.
    heard: u64,
    /// Not heard in what may become a burst.
    bad: u64,
    was_bad: bool,
    c11: u64,
    c13: u64,
    c14: u64,
    c22: u64,
    c23: u64,
    c33: u64,
}

impl Bursts {
    fn packet(&mut self, fate: Fate) {
        self.totals.expected += 1;
        match fate {
            Fate::Heard => {
                self.heard += 1;
                self.was_bad = false;
                return;
            }
            Fate::Lost => self.totals.lost += 1,
            Fate::Useless => self.totals.useless += 1,
        }
        self.totals.runs += u64::from(!std::mem::replace(&mut self.was_bad, true));
        // What is heard before the first loss is a gap, however short.
        if self.heard >= u64::from(GMIN) || self.bad == 0 {
            match self.bad {
                0 => {}
                1 => self.c14 += 1,
                _ => self.c13 += 1,
            }
            self.bad = 1;
            self.c11 += self.heard;
        } else {
            self.bad += 1;
            match self.heard {
                0 => self.c33 += 1,
                heard => {
                    self.c23 += 1;
                    self.c22 += heard - 1;
                }
            }
        }
        self.heard = 0;
    }

    fn densities(&self, packet: Duration) -> Densities {
        let (c11, c31, c32) = (self.c11 + self.heard, self.c13, self.c23);
        let total = c11 + self.c14 + self.c13 + self.c22 + self.c23 + c31 + c32 + self.c33;
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let leaves = ratio(c32 as f64, (c31 + c32 + self.c33) as f64);
        let returns =
            if self.c22 + self.c23 < 1 { 1.0 } else { 1.0 - ratio(self.c22 as f64, (self.c22 + self.c23) as f64) };
        let ms = packet.as_secs_f64() * 1000.0;
        let has_bursts = self.c23 + self.c33 > 0;
        let bursts = self.c13.max(1) as f64;
        let gap_ms = (c11 + self.c14 + self.c13) as f64 * ms / bursts;
        Densities {
            burst: if has_bursts { ratio(returns, returns + leaves) } else { 0.0 },
            gap: ratio(self.c14 as f64, (c11 + self.c14) as f64),
            burst_ms: if has_bursts { (total as f64 * ms / bursts - gap_ms).max(0.0) } else { 0.0 },
            gap_ms,
        }
    }
}

/// What of a party's sound was lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// Packets whose fate is decided.
    pub expected: u64,
    /// Of those, never came.
    pub lost: u64,
    /// Came too late to be heard.
    pub discarded: u64,
    /// Lost, from 0 to 1.
    pub loss: f64,
    /// Discarded, from 0 to 1.
    pub discard: f64,
    /// How much longer runs of bad packets are than by chance; 1 and more.
    pub burst_ratio: f64,
    /// Bursts and gaps.
    pub bursts: Densities,
}

/// Bursts and the gaps between them (RFC 3611 §4.7.2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Densities {
    /// Bad packets within bursts, from 0 to 1.
    pub burst: f64,
    /// The same within gaps.
    pub gap: f64,
    /// Mean length of a burst.
    pub burst_ms: f64,
    /// Mean length of a gap.
    pub gap_ms: f64,
}

/// How a codec bears losses (ITU-T G.113): its own impairment, and its robustness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Robustness {
    /// Impairment without any loss (Ie).
    pub impairment: f64,
    /// Robustness against losses (Bpl).
    pub robustness: f64,
}

impl Robustness {
    /// Of G.711 with concealment as in its Appendix I. Also for the wide-band codecs: on the scale of narrow-band
    /// telephony they have no impairment of their own.
    pub const G711_CONCEALED: Robustness = Robustness { impairment: 0.0, robustness: 25.1 };
}

/// R and MOS of the simplified E-model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// R, at most 93.2 here.
    pub r: f64,
    /// The opinion that listeners would have, from 1 to 4.5.
    pub mos: f64,
}

/// What a listener would think of losses (from 0 to 1, late packets included) in runs that are `burst_ratio` times as
/// long as by chance, and of a delay from mouth to ear.
pub fn score(codec: Robustness, bad: f64, burst_ratio: f64, delay: Duration) -> Score {
    let (percent, ms) = (bad * 100.0, delay.as_secs_f64() * 1000.0);
    let Robustness { impairment, robustness } = codec;
    let by_delay = 0.024 * ms + 0.11 * (ms - 177.3).max(0.0);
    let by_loss = impairment + (95.0 - impairment) * percent / (percent / burst_ratio + robustness);
    let r = 93.2 - by_delay - by_loss;
    let mos = match r {
        r if r <= 0.0 => 1.0,
        r if r >= 100.0 => 4.5,
        r => 1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r),
    };
    // The polynomial dips below 1 near 0.
    Score { r, mos: mos.max(1.0) }
}

/// Extended numbers begin one turn up, so that what precedes the first packet does not go below zero.
const TURN: u64 = 1 << 16;
/// Packets by which a sequence may leap and still be the same (RFC 3550 A.1).
const DROPOUT_MAX: u16 = 3000;
/// Packets after which one that has not come counts as lost. Far more than we wait for, so that the figure is of the
/// network.
const REORDER: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the reference: one-way delays of 50, 150 and 250 ms, losses of 0, 1, 2 and 5 %.
    #[test]
    fn opinions_are_as_the_model_has_them() {
        let bare = Robustness { impairment: 0.0, robustness: 4.3 };
        for (codec, ms, expected) in [
            (Robustness::G711_CONCEALED, 50, [4.38, 4.30, 4.20, 3.87]),
            (Robustness::G711_CONCEALED, 150, [4.33, 4.23, 4.12, 3.77]),
            (Robustness::G711_CONCEALED, 250, [3.99, 3.85, 3.70, 3.28]),
            (bare, 50, [4.38, 3.78, 3.19, 2.11]),
            (bare, 250, [3.99, 3.17, 2.52, 1.53]),
        ] {
            for (loss, expected) in [0.0, 0.01, 0.02, 0.05].into_iter().zip(expected) {
                let mos = score(codec, loss, 1.0, Duration::from_millis(ms)).mos;
                assert!((mos - expected).abs() < 0.006, "{ms} ms, {loss}: {mos} and not {expected}");
            }
        }
        assert_eq!(score(bare, 1.0, 1.0, Duration::from_secs(3)).mos, 1.0);
    }

    #[test]
    fn losses_in_runs_are_worse_than_alone() {
        let alone = losses_of(|n| n % 50 == 7);
        let in_runs = losses_of(|n| n % 500 >= 490);

        assert_eq!((alone.lost, in_runs.lost), (200, 200));
        assert!((alone.loss - 0.02).abs() < 0.001, "{alone:?}");
        assert_eq!(alone.burst_ratio, 1.0);
        assert!((in_runs.burst_ratio - 9.8).abs() < 0.1, "{in_runs:?}");
        assert_eq!((alone.bursts.burst, alone.bursts.burst_ms), (0.0, 0.0));
        assert!(alone.bursts.gap > 0.015, "{alone:?}");
        assert_eq!(in_runs.bursts.burst, 1.0);
        // Ten packets of 20 ms in a burst, 490 in a gap.
        assert!((150.0..250.0).contains(&in_runs.bursts.burst_ms), "{in_runs:?}");
        assert!((9_000.0..10_500.0).contains(&in_runs.bursts.gap_ms), "{in_runs:?}");
    }

    #[test]
    fn reordering_copies_and_the_wrap_are_no_loss() {
        let mut reception = Reception::default();
        for n in 0..1000_u32 {
            // Neighbours change places, and every tenth comes twice.
            let n = n ^ 1;
            reception.packet(at(n), &header(1, 65_500 + n), 8000, false);
            if n % 10 == 0 {
                reception.packet(at(n), &header(1, 65_500 + n), 8000, false);
            }
        }

        let losses = reception.losses(PACKET);
        assert_eq!((losses.lost, losses.discarded), (0, 0));
        let block = reception.block().unwrap();
        assert_eq!((block.lost, block.fraction_lost), (-100, 0));
        assert_eq!(block.highest, 65_500 + 999);
    }

    #[test]
    fn the_report_counts_from_the_one_before() {
        let mut reception = Reception::default();
        assert_eq!(reception.block(), None);
        let mut send = |from: u32, to: u32, every: u32| {
            for n in (from..to).filter(|n| n % every != 3) {
                reception.packet(at(n), &header(1, n), 8000, false);
            }
            reception.block().unwrap()
        };

        assert_eq!(send(0, 100, 1000).fraction_lost, 2, "one of a hundred");
        let half = send(100, 200, 4);
        assert_eq!((half.fraction_lost, half.lost), (62, 25), "24 of 99: the last one may still come");
        assert_eq!(send(200, 300, 1000).fraction_lost, 2, "that one did not come");
        assert_eq!(send(300, 400, 1000).fraction_lost, 0);
    }

    #[test]
    fn late_packets_are_discarded_and_not_lost() {
        let mut reception = Reception::default();
        for n in 0..200_u32 {
            reception.packet(at(n), &header(1, n), 8000, n % 10 == 0 && n > 0);
        }
        let losses = reception.losses(PACKET);
        assert_eq!((losses.lost, losses.discarded), (0, 16), "of the 168 that are decided");
    }

    #[test]
    fn jitter_is_how_unevenly_they_come() {
        let mut reception = Reception::default();
        for n in 0..500_u32 {
            let late = Duration::from_millis(u64::from(n % 2) * 10);
            reception.packet(at(n) + late, &header(1, n), 8000, false);
        }
        // Each transit differs from the one before by 10 ms: 80 units.
        assert!((75..=80).contains(&reception.jitter()), "{}", reception.jitter());
    }

    #[test]
    fn another_source_goes_on_with_the_figures() {
        let mut reception = Reception::default();
        for n in (0..100_u32).filter(|n| *n != 50) {
            reception.packet(at(n), &header(1, n), 8000, false);
        }
        for n in (0..100_u32).filter(|n| *n != 20) {
            reception.packet(at(n), &header(2, 30_000 + n), 8000, false);
        }
        // A leap of the sequence is no loss of thousands.
        reception.packet(at(1), &header(2, 50_000), 8000, false);

        let losses = reception.losses(PACKET);
        assert_eq!((losses.expected, losses.lost), (200, 2));
        assert_eq!(reception.block().unwrap().lost, 0);
    }

    fn losses_of(is_lost: impl Fn(u32) -> bool) -> Losses {
        let mut reception = Reception::default();
        for n in (0..10_033_u32).filter(|n| *n >= 10_000 || !is_lost(*n)) {
            reception.packet(at(n), &header(1, n), 8000, false);
        }
        reception.losses(PACKET)
    }

    fn at(n: u32) -> Time {
        Time::from_ms(u64::from(n) * 20)
    }

    fn header(ssrc: u32, n: u32) -> Header {
        Header { marker: false, payload_type: 0, seq: n as u16, timestamp: n.wrapping_mul(160), ssrc }
    }

    const PACKET: Duration = Duration::from_millis(20);
}
