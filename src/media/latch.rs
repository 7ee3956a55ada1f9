//! Where a party's audio comes from, and so where ours goes (symmetric RTP).
//!
//! The address in an SDP may be one that only the party itself can reach. We send there until packets come from
//! elsewhere three times in a row, then to where they come from. Once settled, nobody else is listened to, so that a
//! stranger who guesses the port cannot take the call over; only a new answer starts again.

use std::net::SocketAddr;

#[derive(Debug, Default)]
pub(super) struct Latch {
    sdp: Option<SocketAddr>,
    settled: Option<SocketAddr>,
    candidate: Option<(SocketAddr, u8)>,
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

    /// Whether a packet from this address is of our party.
    pub(super) fn accepts(&mut self, from: SocketAddr) -> bool {
        if let Some(settled) = self.settled {
            return from == settled;
        }
        if self.sdp == Some(from) {
            self.settled = Some(from);
            return true;
        }
        match &mut self.candidate {
            Some((candidate, seen)) if *candidate == from => {
                *seen += 1;
                if *seen >= CONSISTENT {
                    self.settled = Some(from);
                }
                true
            }
            // The first to speak is heard at once: two packets of a greeting are worth more than the doubt.
            None => {
                self.candidate = Some((from, 1));
                true
            }
            Some(candidate) => {
                *candidate = (from, 1);
                false
            }
        }
    }

    /// Where to send, once known. A held stream (`0.0.0.0`, or port 0) is not sent to.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        let sdp = self.sdp.filter(|sdp| !sdp.ip().is_unspecified() && sdp.port() != 0)?;
        Some(self.settled.unwrap_or(sdp))
    }
}

const CONSISTENT: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_packet_from_elsewhere_turns_the_stream_round() {
        let mut latch = Latch::default();
        latch.set_sdp(addr(1));

        assert!(latch.accepts(addr(2)) && latch.accepts(addr(2)));
        assert_eq!(latch.target(), Some(addr(1)));
        assert!(latch.accepts(addr(2)));

        assert_eq!(latch.target(), Some(addr(2)));
        assert!(!latch.accepts(addr(1)) && !latch.accepts(addr(3)));
    }

    #[test]
    fn strangers_who_take_turns_never_settle() {
        let mut latch = Latch::default();
        latch.set_sdp(addr(1));

        for _ in 0..5 {
            latch.accepts(addr(2));
            latch.accepts(addr(3));
        }

        assert_eq!(latch.target(), Some(addr(1)));
        assert!(latch.accepts(addr(1)));
        assert!(!latch.accepts(addr(2)));
    }

    #[test]
    fn early_packets_settle_before_the_answer_and_a_new_answer_starts_again() {
        let mut latch = Latch::default();
        for _ in 0..3 {
            assert!(latch.accepts(addr(2)));
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

    fn addr(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 4000))
    }
}
