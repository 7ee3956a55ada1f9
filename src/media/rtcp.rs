//! RTCP packets: reading what the other side reports, writing what we report (RFC 3550 §6, RFC 3611 §4.7).
//!
//! A compound packet is read once from its beginning to its end and reduced to what concerns us; nothing is kept of the
//! rest, and nothing is allocated. When and what we report is decided in [`super::reporter`].

use crate::model::limits::RTCP_LEN_MAX;

/// What a compound packet told us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The source that reports.
    pub sender: u32,
    /// The middle of the NTP time of its sender report; `None` for a receiver report.
    pub sent_at: Option<u32>,
    /// How it receives us. `None` while it has received nothing since it reported last.
    pub about_us: Option<Block>,
    /// What it says of its call quality as a listener to us (RFC 3611 §4.7).
    pub voip: Option<VoipMetrics>,
    /// It leaves.
    pub is_leaving: bool,
}

/// A report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// The source that it is about.
    pub ssrc: u32,
    /// Lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Lost since the beginning; negative when more came than were expected, as with copies.
    pub lost: i32,
    /// The highest sequence number received, with its rollovers above.
    pub highest: u32,
    /// Interarrival jitter in units of the source's clock.
    pub jitter: u32,
    /// The middle of the NTP time of the last sender report; 0 when none came.
    pub last_report: u32,
    /// Since that came, in 1/65536 s.
    pub since_report: u32,
}

/// The figures of RFC 3611 §4.7 in the units of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoipMetrics {
    /// The source that they are about.
    pub ssrc: u32,
    /// Lost on the network, of 256.
    pub loss_rate: u8,
    /// Came too late to be heard, of 256.
    pub discard_rate: u8,
    /// Lost or late within bursts, of 256.
    pub burst_density: u8,
    /// The same between bursts.
    pub gap_density: u8,
    /// Mean length of bursts.
    pub burst_ms: u16,
    /// Mean length of what lies between them.
    pub gap_ms: u16,
    /// Of RTCP between the two sides.
    pub round_trip_ms: u16,
    /// Within the one who reports: packets, buffers, codec.
    pub end_system_ms: u16,
    /// R of the E-model; [`UNKNOWN`] when not known.
    pub r_factor: u8,
    /// MOS for listening, times ten; [`UNKNOWN`] when not known.
    pub mos_lq: u8,
    /// MOS for talking to each other, times ten; [`UNKNOWN`] when not known.
    pub mos_cq: u8,
    /// Delay of the reporter's buffer now, and at most.
    pub buffer_ms: u16,
    /// The most that it ever gets.
    pub buffer_max_ms: u16,
}

/// RFC 3611 §4.7: the value for what is not known.
pub const UNKNOWN: u8 = 127;

/// Why a datagram is no RTCP that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcpFault {
    /// Below 8 octets, or longer than [`limits::RTCP_LEN_MAX`](crate::model::limits::RTCP_LEN_MAX).
    Length,
    /// Not version 2, or not a report in front (RFC 3550 §6.1).
    Form,
    /// A packet, block or padding that reaches beyond its end, or more packets than anybody puts together.
    Truncated,
}

/// Reads a compound packet for whoever sends as `ours`.
///
/// # Errors
/// Why it is not believed; then nothing of it is.
pub fn read(datagram: &[u8], ours: u32) -> Result<Told, RtcpFault> {
    if !(8..=RTCP_LEN_MAX).contains(&datagram.len()) {
        return Err(RtcpFault::Length);
    }
    if !matches!(datagram[1], SENDER_REPORT | RECEIVER_REPORT) {
        return Err(RtcpFault::Form);
    }
    let mut told = Told::default();
    let mut rest = datagram;
    for at in 0..PACKETS_MAX {
        let Some((packet, after)) = split(rest)? else {
            return if at == 0 { Err(RtcpFault::Truncated) } else { Ok(told) };
        };
        read_packet(packet, ours, at == 0, &mut told)?;
        rest = after;
    }
    if rest.is_empty() { Ok(told) } else { Err(RtcpFault::Truncated) }
}

struct Packet<'a> {
    count: usize,
    kind: u8,
    /// Without its first four octets and its padding.
    body: &'a [u8],
}

/// The first packet, and what follows it; `None` at the end.
fn split(rest: &[u8]) -> Result<Option<(Packet<'_>, &[u8])>, RtcpFault> {
    if rest.is_empty() {
        return Ok(None);
    }
    let head: &[u8; 4] = rest.first_chunk().ok_or(RtcpFault::Truncated)?;
    if head[0] >> 6 != 2 {
        return Err(RtcpFault::Form);
    }
    let len = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
    let (mut body, after) = rest[4..].split_at_checked(len).ok_or(RtcpFault::Truncated)?;
    if head[0] & PADDED != 0 {
        // RFC 3550 §6.4.1: only the last packet is padded, by a multiple of four.
        let padding = usize::from(*body.last().ok_or(RtcpFault::Truncated)?);
        if !after.is_empty() || padding == 0 || padding % 4 != 0 {
            return Err(RtcpFault::Form);
        }
        body = body.len().checked_sub(padding).and_then(|len| body.get(..len)).ok_or(RtcpFault::Truncated)?;
    }
    Ok(Some((Packet { count: usize::from(head[0] & 0x1F), kind: head[1], body }, after)))
}

fn read_packet(packet: Packet<'_>, ours: u32, is_first: bool, told: &mut Told) -> Result<(), RtcpFault> {
    let Packet { count, kind, body } = packet;
    match kind {
        SENDER_REPORT | RECEIVER_REPORT => {
            let info = if kind == SENDER_REPORT { 20 } else { 0 };
            let blocks = body.get(4 + info..4 + info + count * BLOCK).ok_or(RtcpFault::Truncated)?;
            if is_first {
                told.sender = word(body, 0);
            }
            if kind == SENDER_REPORT {
                told.sent_at = Some(word(body, 6));
            }
            let block = blocks.chunks_exact(BLOCK).find(|block| word(block, 0) == ours);
            told.about_us = told.about_us.or(block.map(read_block));
        }
        GOODBYE => {
            let sources = body.get(..count * 4).ok_or(RtcpFault::Truncated)?;
            told.is_leaving |= sources.chunks_exact(4).any(|source| word(source, 0) == told.sender);
        }
        EXTENDED_REPORT => {
            let mut blocks = body.get(4..).ok_or(RtcpFault::Truncated)?;
            while !blocks.is_empty() {
                let head: &[u8; 4] = blocks.first_chunk().ok_or(RtcpFault::Truncated)?;
                let len = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
                let (block, after) = blocks[4..].split_at_checked(len).ok_or(RtcpFault::Truncated)?;
                if head[0] == VOIP_METRICS && len == VOIP_LEN && word(block, 0) == ours {
                    told.voip = Some(read_voip(block));
                }
                blocks = after;
            }
        }
        // Names, feedback and what is yet to be invented: their lengths were right, and nothing in them is for us.
        _ => {}
    }
    Ok(())
}

fn read_block(block: &[u8]) -> Block {
    Block {
        ssrc: word(block, 0),
        fraction_lost: block[4],
        // 24 bits with a sign.
        lost: (word(block, 4) << 8) as i32 >> 8,
        highest: word(block, 8),
        jitter: word(block, 12),
        last_report: word(block, 16),
        since_report: word(block, 20),
    }
}

fn read_voip(block: &[u8]) -> VoipMetrics {
    let half = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    VoipMetrics {
        ssrc: word(block, 0),
        loss_rate: block[4],
        discard_rate: block[5],
        burst_density: block[6],
        gap_density: block[7],
        burst_ms: half(8),
        gap_ms: half(10),
        round_trip_ms: half(12),
        end_system_ms: half(14),
        r_factor: block[20],
        mos_lq: block[22],
        mos_cq: block[23],
        buffer_ms: half(26),
        buffer_max_ms: half(30),
    }
}

/// The 32 bits at an offset, which the caller has measured.
fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

/// What we report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// Our source.
    pub ssrc: u32,
    /// The name of our side, the same for all its sources (RFC 7022).
    pub cname: &'a str,
    /// What we sent; `None` when we sent nothing since the report before the last: a receiver report.
    pub sent: Option<Sent>,
    /// How we receive the other side; `None` before anything came.
    pub block: Option<Block>,
    /// Also as an extended report, when that was agreed.
    pub voip: Option<VoipMetrics>,
    /// We leave.
    pub is_leaving: bool,
}

/// What a sender says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Now, as 64 bits of NTP.
    pub ntp: u64,
    /// The same moment on the clock of the stream.
    pub timestamp: u32,
    /// Packets so far.
    pub packets: u32,
    /// Octets of payload so far.
    pub octets: u32,
}

impl Report<'_> {
    /// Appends the compound packet: a report, our name, and what else there is.
    pub fn write(&self, out: &mut Vec<u8>) {
        let count = u8::from(self.block.is_some());
        let start = match &self.sent {
            Some(sent) => {
                let start = begin(out, count, SENDER_REPORT);
                put(out, self.ssrc);
                out.extend_from_slice(&sent.ntp.to_be_bytes());
                [sent.timestamp, sent.packets, sent.octets].into_iter().for_each(|word| put(out, word));
                start
            }
            None => {
                let start = begin(out, count, RECEIVER_REPORT);
                put(out, self.ssrc);
                start
            }
        };
        if let Some(block) = &self.block {
            put(out, block.ssrc);
            let lost = block.lost.clamp(-(1 << 23), (1 << 23) - 1) as u32;
            put(out, u32::from(block.fraction_lost) << 24 | lost & 0x00FF_FFFF);
            let rest = [block.highest, block.jitter, block.last_report, block.since_report];
            rest.into_iter().for_each(|word| put(out, word));
        }
        end(out, start);

        let start = begin(out, 1, DESCRIPTION);
        put(out, self.ssrc);
        let cname = &self.cname.as_bytes()[..self.cname.len().min(255)];
        out.extend_from_slice(&[CNAME, cname.len() as u8]);
        out.extend_from_slice(cname);
        // RFC 3550 §6.5: the list ends with one null octet at least.
        out.push(0);
        end(out, start);

        if let Some(voip) = &self.voip {
            let start = begin(out, 0, EXTENDED_REPORT);
            put(out, self.ssrc);
            voip.write(out);
            end(out, start);
        }
        if self.is_leaving {
            let start = begin(out, 1, GOODBYE);
            put(out, self.ssrc);
            end(out, start);
        }
    }
}

impl VoipMetrics {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VOIP_METRICS, 0, 0, (VOIP_LEN / 4) as u8]);
        put(out, self.ssrc);
        out.extend_from_slice(&[self.loss_rate, self.discard_rate, self.burst_density, self.gap_density]);
        for half in [self.burst_ms, self.gap_ms, self.round_trip_ms, self.end_system_ms] {
            out.extend_from_slice(&half.to_be_bytes());
        }
        // Signal and noise level, echo: not measured.
        out.extend_from_slice(&[UNKNOWN, UNKNOWN, UNKNOWN, GMIN]);
        out.extend_from_slice(&[self.r_factor, UNKNOWN, self.mos_lq, self.mos_cq]);
        // Losses are concealed well (2 in the first two bits), and the buffer adapts (3 in the next two).
        out.extend_from_slice(&[0b1011_0000, 0]);
        for half in [self.buffer_ms, self.buffer_ms, self.buffer_max_ms] {
            out.extend_from_slice(&half.to_be_bytes());
        }
    }
}

fn begin(out: &mut Vec<u8>, count: u8, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[2 << 6 | count, kind, 0, 0]);
    start
}

/// Fills up to whole words, and writes the length.
fn end(out: &mut Vec<u8>, start: usize) {
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn put(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_be_bytes());
}

/// Whether a datagram on a port that both share is RTCP (RFC 5761 §4).
pub(super) fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, kind, ..] if first >> 6 == 2 && (192..=223).contains(kind))
}

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const EXTENDED_REPORT: u8 = 207;
const CNAME: u8 = 1;
const VOIP_METRICS: u8 = 7;
/// Octets of the block behind its first four.
const VOIP_LEN: usize = 32;
const BLOCK: usize = 24;
const PADDED: u8 = 1 << 5;
/// Packets in a compound packet.
const PACKETS_MAX: usize = 16;
/// Received in a row between two losses that make them two bursts (RFC 3611 §4.7.2).
pub(super) const GMIN: u8 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_we_report_is_read_again() {
        for report in reports() {
            let told = read(&written(&report), 77).expect("is RTCP");

            assert_eq!(told.sender, 5);
            assert_eq!(told.sent_at, report.sent.map(|sent| (sent.ntp >> 16) as u32));
            assert_eq!(told.about_us, report.block);
            assert_eq!(told.voip, report.voip);
            assert_eq!(told.is_leaving, report.is_leaving);
            let others = read(&written(&report), 78).expect("is RTCP");
            assert_eq!((others.about_us, others.voip), (None, None), "blocks about somebody else are not about us");
        }
    }

    /// Another implementation reads what we write, and we what it writes.
    #[test]
    fn a_second_implementation_agrees() {
        use sipx_rtp::rtcp::Rtcp;
        let report = Report { voip: None, ..reports().remove(0) };

        let theirs = Rtcp::decode_compound(&bytes::Bytes::from(written(&report))).expect("is RTCP");

        let Rtcp::Sender(sender) = &theirs[0] else { panic!("{theirs:?}") };
        let (block, expected) = (&sender.reports[0], report.block.unwrap());
        assert_eq!((sender.ssrc, sender.packet_count, sender.octet_count), (5, 500, 80_000));
        assert_eq!((block.fraction_lost, block.cumulative_lost), (expected.fraction_lost, expected.lost));
        assert_eq!((block.jitter, block.extended_highest_sequence), (expected.jitter, expected.highest));
        let again = Rtcp::encode_compound(&theirs);
        assert_eq!(read(&again, 77), read(&written(&report), 77));
    }

    #[test]
    fn what_reaches_beyond_its_end_is_refused() {
        let whole = written(&reports()[0]);
        for len in 0..whole.len() {
            assert!(read(&whole[..len], 77).is_err() || len % 4 == 0, "cut to {len}");
        }
        let with = |at: usize, octet: u8| {
            let mut datagram = whole.clone();
            datagram[at] = octet;
            read(&datagram, 77)
        };
        assert_eq!(read(&[], 1), Err(RtcpFault::Length));
        assert_eq!(read(&vec![0x80; RTCP_LEN_MAX + 1], 1), Err(RtcpFault::Length));
        assert_eq!(with(0, 0x41), Err(RtcpFault::Form));
        assert_eq!(with(1, 202), Err(RtcpFault::Form), "a report comes first");
        assert_eq!(with(0, 0x80 | 31), Err(RtcpFault::Truncated), "more blocks than there are");
        assert_eq!(with(2, 0xFF), Err(RtcpFault::Truncated));
        assert_eq!(with(0, 0xA1), Err(RtcpFault::Form), "only the last is padded");
    }

    #[test]
    fn padding_is_taken_off_the_last_packet() {
        let mut padded = written(&Report { voip: None, ..reports().remove(1) });
        let last = padded.len();
        padded.extend([0xA0, 203, 0, 1, 0, 0, 0, 4]);
        assert!(read(&padded, 77).is_ok());
        padded[last + 7] = 8;
        assert_eq!(read(&padded, 77), Err(RtcpFault::Truncated));
        padded[last + 7] = 3;
        assert_eq!(read(&padded, 77), Err(RtcpFault::Form));
    }

    #[test]
    fn more_packets_than_anybody_puts_together_are_refused() {
        let mut many = written(&Report { voip: None, ..reports().remove(1) });
        while many.len() < RTCP_LEN_MAX - 4 {
            many.extend([0x80, 204, 0, 0]);
        }
        assert_eq!(read(&many, 77), Err(RtcpFault::Truncated));
    }

    #[test]
    fn losses_below_zero_and_beyond_24_bits_are_written_as_the_nearest() {
        for (lost, expected) in [(-3, -3), (1 << 23, (1 << 23) - 1), (i32::MIN, -(1 << 23))] {
            let block = Block { ssrc: 77, lost, ..Block::default() };
            let report = Report { block: Some(block), ..reports().remove(1) };
            assert_eq!(read(&written(&report), 77).unwrap().about_us.unwrap().lost, expected);
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in proptest::collection::vec(any::<u8>(), 0..300), ours: u32) {
            let _ = read(&octets, ours);
            let mut report = written(&reports()[0]);
            for (at, octet) in octets.iter().enumerate().take(6) {
                let place = (at * 31 + usize::from(*octet)) % report.len();
                report[place] = *octet;
            }
            let _ = read(&report, ours);
        }
    }

    fn reports() -> Vec<Report<'static>> {
        let sent = Sent { ntp: 0x1122_3344_5566_7788, timestamp: 9, packets: 500, octets: 80_000 };
        let block = Block {
            ssrc: 77,
            fraction_lost: 12,
            lost: -2,
            highest: 70_000,
            jitter: 33,
            last_report: 0x1234_5678,
            since_report: 65_536,
        };
        let voip = VoipMetrics {
            ssrc: 77,
            loss_rate: 3,
            discard_rate: 1,
            burst_density: 90,
            gap_density: 2,
            burst_ms: 120,
            gap_ms: 4000,
            round_trip_ms: 80,
            end_system_ms: 45,
            r_factor: 88,
            mos_lq: 43,
            mos_cq: 42,
            buffer_ms: 40,
            buffer_max_ms: 200,
        };
        let (sent, block) = (Some(sent), Some(block));
        vec![
            Report { ssrc: 5, cname: "x", sent, block, voip: Some(voip), is_leaving: false },
            Report { ssrc: 5, cname: "abcd", sent: None, block: None, voip: None, is_leaving: true },
            Report { ssrc: 5, cname: "", sent, block: None, voip: Some(voip), is_leaving: true },
        ]
    }

    fn written(report: &Report<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        report.write(&mut out);
        out
    }
}
