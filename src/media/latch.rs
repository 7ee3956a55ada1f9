//! Where a party's audio comes from, and so where ours goes (symmetric RTP), without giving the call to a stranger
//! (RFC 7362 §4, §5).
//!
//! The address in an SDP may be one that only the party itself can reach. We send there until packets of one source come
//! from elsewhere three times within [`LATCH_WINDOW`], then to where they come from. Once settled, nobody else is
//! listened to, so that a stranger who guesses the port cannot take the call over. Only two things move it: a new answer,
//! and a party whose NAT gave it a new port. That party goes on where it was: the same SSRC, the next sequence numbers,
//! and silence on the old path; or it proves itself by SRTP, which no stranger can.

use std::net::SocketAddr;

use super::rtp::Header;
use crate::model::Time;
use crate::model::limits::{LATCH_WINDOW, REBIND_AFTER};

#[derive(Debug, Default)]
pub(super) struct Latch {
    sdp: Option<SocketAddr>,
    settled: Option<Settled>,
    candidate: Option<Candidate>,
    rebinds: u64,
}

/// Whom we listen to.
#[derive(Clone, Copy, Debug)]
struct Settled {
    from: SocketAddr,
    ssrc: u32,
    seq: u16,
    last: Time,
}

/// Who might be it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    from: SocketAddr,
    ssrc: u32,
    seq: u16,
    seen: u8,
    since: Time,
}

/// A packet as far as its address is judged by it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) from: SocketAddr,
    pub(super) ssrc: u32,
    pub(super) seq: u16,
    /// SRTP proved that it is the party's.
    pub(super) is_proven: bool,
}

impl Came {
    pub(super) fn new(from: SocketAddr, header: &Header, is_proven: bool) -> Came {
        Came { from, ssrc: header.ssrc, seq: header.seq, is_proven }
    }
}

impl Latch {
    /// Takes the address of an answer. What settled before the first answer stays: those packets were early, and the
    /// address they came from works.
    pub(super) fn set_sdp(&mut self, remote: SocketAddr) {
        if self.sdp.is_some_and(|before| before != remote) {
            (self.settled, self.candidate) = (None, None);
        }
        self.sdp = Some(remote);
    }

    /// Whether a packet is of our party.
    pub(super) fn accepts(&mut self, now: Time, came: Came) -> bool {
        let Came { from, ssrc, seq, is_proven } = came;
        if let Some(settled) = self.settled.as_mut().filter(|settled| settled.from == from) {
            // Its source may change, as with music on hold. The place where it is counts, not the name.
            (settled.ssrc, settled.seq, settled.last) = (ssrc, seq, now);
            self.candidate = None;
            return true;
        }
        match self.settled {
            Some(settled) => self.moves(now, settled, came),
            // Whoever proves itself, or is where the answer says, needs no second look.
            None if is_proven || self.sdp == Some(from) => {
                self.settle(now, came);
                true
            }
            None => self.looks_like_it(now, came),
        }
    }

    /// Before anything is settled: the first to speak is heard at once, since two packets of a greeting are worth more
    /// than the doubt. It is sent to when it goes on.
    fn looks_like_it(&mut self, now: Time, came: Came) -> bool {
        match self.consistent(now, came, None) {
            Some(seen) => {
                if seen >= CONSISTENT {
                    self.settle(now, came);
                }
                true
            }
            None => {
                let is_first = self.candidate.is_none();
                self.begin(now, came);
                is_first
            }
        }
    }

    /// From elsewhere while somebody is settled.
    fn moves(&mut self, now: Time, settled: Settled, came: Came) -> bool {
        let is_silent = now - settled.last >= REBIND_AFTER;
        let ahead = came.seq.wrapping_sub(settled.seq);
        let goes_on = came.ssrc == settled.ssrc && (1..SEQ_AHEAD_MAX).contains(&ahead);
        if came.is_proven {
            // One that was on its way by the old path may be late, and must not turn the stream back.
            if goes_on {
                self.rebinds += 1;
                self.settle(now, came);
            }
            return true;
        }
        if !goes_on || !is_silent {
            return false;
        }
        match self.consistent(now, came, Some(settled.last)) {
            Some(seen) if seen >= CONSISTENT => {
                self.rebinds += 1;
                self.settle(now, came);
                true
            }
            Some(_) => false,
            None => {
                self.begin(now, came);
                false
            }
        }
    }

    /// Counts another packet of the candidate; `None` when it is of somebody else, out of step, or comes too slowly.
    fn consistent(&mut self, now: Time, came: Came, after: Option<Time>) -> Option<u8> {
        let candidate = self.candidate.as_mut()?;
        let is_same = candidate.from == came.from
            && candidate.ssrc == came.ssrc
            && (1..SEQ_STEP_MAX).contains(&came.seq.wrapping_sub(candidate.seq))
            && now - candidate.since <= LATCH_WINDOW
            && after.is_none_or(|after| candidate.since > after);
        if !is_same {
            return None;
        }
        candidate.seen += 1;
        candidate.seq = came.seq;
        Some(candidate.seen)
    }

    fn begin(&mut self, now: Time, came: Came) {
        self.candidate = Some(Candidate { from: came.from, ssrc: came.ssrc, seq: came.seq, seen: 1, since: now });
    }

    fn settle(&mut self, now: Time, came: Came) {
        self.settled = Some(Settled { from: came.from, ssrc: came.ssrc, seq: came.seq, last: now });
        self.candidate = None;
    }

    /// Where to send, once known. A held stream (`0.0.0.0`, or port 0) is not sent to.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        let sdp = self.sdp.filter(|sdp| !sdp.ip().is_unspecified() && sdp.port() != 0)?;
        Some(self.settled.map_or(sdp, |settled| settled.from))
    }

    /// Where the party's packets come from, once that is settled.
    pub(super) fn source(&self) -> Option<SocketAddr> {
        self.settled.map(|settled| settled.from)
    }

    /// Times the party came from another place in the middle of the call.
    pub(super) fn rebinds(&self) -> u64 {
        self.rebinds
    }
}

const CONSISTENT: u8 = 3;
/// Packets that may be lost between two that are consistent.
const SEQ_STEP_MAX: u16 = 10;
/// Packets that may be lost while a NAT forgets: a minute of them.
const SEQ_AHEAD_MAX: u16 = 3000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_third_packet_from_elsewhere_turns_the_stream_round() {
        let mut latch = Latch::default();
        latch.set_sdp(addr(1));

        assert!(latch.hears(0, 2, 7, 1) && latch.hears(1, 2, 7, 2));
        assert_eq!(latch.target(), Some(addr(1)));
        assert!(latch.hears(2, 2, 7, 3));

        assert_eq!(latch.target(), Some(addr(2)));
        assert!(!latch.hears(3, 1, 7, 4) && !latch.hears(3, 3, 7, 4));
    }

    #[test]
    fn strangers_who_take_turns_never_settle() {
        let mut latch = Latch::default();
        latch.set_sdp(addr(1));

        for n in 0..5 {
            latch.hears(n, 2, 7, n as u16);
            latch.hears(n, 3, 7, n as u16);
        }

        assert_eq!(latch.target(), Some(addr(1)));
        assert!(latch.hears(6, 1, 9, 1));
        assert!(!latch.hears(6, 2, 7, 6));
    }

    #[test]
    fn packets_that_do_not_go_together_settle_nothing() {
        for (what, packets) in [
            ("each of another source", [(0, 7, 1), (1, 8, 2), (2, 9, 3)]),
            ("copies", [(0, 7, 1), (1, 7, 1), (2, 7, 1)]),
            ("leaps", [(0, 7, 1), (1, 7, 1000), (2, 7, 2000)]),
            ("too slow", [(0, 7, 1), (200, 7, 2), (400, 7, 3)]),
        ] {
            let mut latch = Latch::default();
            latch.set_sdp(addr(1));
            for (n, ssrc, seq) in packets {
                latch.hears(n, 2, ssrc, seq);
            }
            assert_eq!(latch.target(), Some(addr(1)), "{what}");
        }
    }

    #[test]
    fn early_packets_settle_before_the_answer_and_a_new_answer_starts_again() {
        let mut latch = Latch::default();
        for n in 0..3 {
            assert!(latch.hears(n, 2, 7, n as u16));
        }
        assert_eq!(latch.target(), None);

        latch.set_sdp(addr(1));
        assert_eq!(latch.target(), Some(addr(2)));

        latch.set_sdp(addr(4));
        assert_eq!(latch.target(), Some(addr(4)));
    }

    #[test]
    fn a_held_stream_is_not_sent_to() {
        let mut latch = Latch::default();
        latch.set_sdp("0.0.0.0:4000".parse().expect("is an address"));
        assert_eq!(latch.target(), None);
    }

    #[test]
    fn a_party_whose_nat_forgot_it_is_followed() {
        let mut latch = settled();

        // Two seconds of silence, then it goes on from another port.
        assert!(!latch.hears(200, 2, 7, 120) && !latch.hears(201, 2, 7, 121));
        assert_eq!(latch.target(), Some(addr(1)));
        assert!(latch.hears(202, 2, 7, 122));

        assert_eq!((latch.target(), latch.rebinds()), (Some(addr(2)), 1));
        assert!(!latch.hears(203, 1, 7, 123));
    }

    #[test]
    fn a_stranger_in_the_middle_of_a_call_is_not_followed() {
        for (what, packets) in [
            ("while the party speaks", [(21, 7, 21), (22, 7, 22), (23, 7, 23), (24, 7, 24)]),
            ("another source", [(200, 8, 21), (201, 8, 22), (202, 8, 23), (203, 8, 24)]),
            ("numbers of long ago", [(200, 7, 5), (201, 7, 6), (202, 7, 7), (203, 7, 8)]),
            ("numbers from nowhere", [(200, 7, 9000), (201, 7, 9001), (202, 7, 9002), (203, 7, 9003)]),
            ("a copy", [(200, 7, 20), (201, 7, 20), (202, 7, 20), (203, 7, 20)]),
        ] {
            let mut latch = settled();
            for (n, ssrc, seq) in packets {
                assert!(!latch.hears(n, 2, ssrc, seq), "{what}");
            }
            assert_eq!((latch.target(), latch.rebinds()), (Some(addr(1)), 0), "{what}");
        }
    }

    #[test]
    fn the_party_that_comes_back_meanwhile_keeps_its_place() {
        let mut latch = settled();
        assert!(!latch.hears(200, 2, 7, 120) && !latch.hears(201, 2, 7, 121));
        assert!(latch.hears(202, 1, 7, 122));
        assert!(!latch.hears(203, 2, 7, 123));
        assert_eq!(latch.target(), Some(addr(1)));
    }

    #[test]
    fn who_proves_itself_is_followed_at_once_and_late_packets_do_not_turn_back() {
        let mut latch = settled();

        assert!(latch.accepts(at(21), Came { is_proven: true, ..came(2, 7, 21) }));
        assert_eq!(latch.target(), Some(addr(2)));
        assert!(latch.accepts(at(22), Came { is_proven: true, ..came(1, 7, 20) }));
        assert_eq!((latch.target(), latch.rebinds()), (Some(addr(2)), 1));
    }

    proptest! {
        /// Whatever strangers do, a party that speaks every 20 ms keeps its call.
        #[test]
        fn nobody_takes_a_call_from_a_party_that_speaks(
            strangers in proptest::collection::vec((2_u8..5, 6_u32..9, 0_u16..200), 0..400)
        ) {
            let mut latch = settled();
            for (n, (host, ssrc, seq)) in (21..).zip(strangers) {
                prop_assert!(latch.hears(n, 1, 7, n as u16));
                prop_assert!(!latch.hears(n, host, ssrc, seq));
                prop_assert_eq!(latch.target(), Some(addr(1)));
            }
        }
    }

    impl Latch {
        /// An unproven packet in the n-th slot of 20 ms.
        fn hears(&mut self, n: u64, host: u8, ssrc: u32, seq: u16) -> bool {
            self.accepts(at(n), came(host, ssrc, seq))
        }
    }

    /// A party at 1 that sent its numbers 0 to 20.
    fn settled() -> Latch {
        let mut latch = Latch::default();
        latch.set_sdp(addr(1));
        for n in 0..=20 {
            assert!(latch.hears(n, 1, 7, n as u16));
        }
        latch
    }

    fn came(host: u8, ssrc: u32, seq: u16) -> Came {
        Came { from: addr(host), ssrc, seq, is_proven: false }
    }

    fn at(n: u64) -> Time {
        Time::ZERO + Duration::from_millis(n * 20)
    }

    fn addr(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 4000))
    }
}
