//! What protects a leg's audio on the network: keys in both directions, and what happens when they change.

use std::fmt;

use super::srtp::{Opener, Sealer, SrtpFault};
use crate::model::limits::KEY_GRACE;
use crate::model::{SrtpKeys, Time};

/// The protection of one leg.
#[derive(Default)]
pub(super) struct Shield {
    state: State,
    /// The keys before these, for what is still on its way.
    before: Option<(Opener, Time)>,
    forged: u64,
    replayed: u64,
}

#[derive(Default)]
enum State {
    /// Plain RTP.
    #[default]
    Plain,
    /// Keys were offered and are not agreed yet: nothing that comes can be told from noise.
    Expected,
    Keyed(Box<(Sealer, Opener)>),
}

/// Which of the two protocols a datagram is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Rtp,
    Rtcp,
}

impl Shield {
    /// Keys will be agreed. Until then nothing is taken, and nothing is sent.
    pub(super) fn expect_keys(&mut self) {
        if matches!(self.state, State::Plain) {
            self.state = State::Expected;
        }
    }

    /// Takes what was agreed. A key that stays goes on where it was, with its counters; a new one begins (RFC 4568 §7.1.4).
    pub(super) fn agree(&mut self, now: Time, keys: Option<SrtpKeys>) {
        let Some(keys) = keys else {
            (self.state, self.before) = (State::Plain, None);
            return;
        };
        let State::Keyed(keyed) = &mut self.state else {
            self.state = State::Keyed(Box::new((Sealer::new(keys.ours), Opener::new(keys.theirs))));
            return;
        };
        let (sealer, opener) = &mut **keyed;
        if *sealer.key() != keys.ours {
            *sealer = Sealer::following(keys.ours, sealer);
        }
        if *opener.key() != keys.theirs {
            let before = std::mem::replace(opener, Opener::new(keys.theirs));
            self.before = Some((before, now));
        }
    }

    /// Whether what comes in proves itself.
    pub(super) fn is_keyed(&self) -> bool {
        matches!(self.state, State::Keyed(_))
    }

    /// Whether anything may go out.
    pub(super) fn may_send(&self) -> bool {
        !matches!(self.state, State::Expected)
    }

    /// The plain packet in a datagram, in `room` when it was protected; `None` when it is not to be believed.
    pub(super) fn open<'a>(
        &mut self,
        now: Time,
        wire: Wire,
        datagram: &'a [u8],
        room: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let opener = match &mut self.state {
            State::Plain => return Some(datagram),
            State::Expected => return None,
            State::Keyed(keyed) => &mut keyed.1,
        };
        room.clear();
        room.extend_from_slice(datagram);
        let opened = open(opener, wire, room);
        let opened = match (opened, &mut self.before) {
            // Packets on their way are not lost when keys change (RFC 3711 §8.1 has identifiers for that).
            (Err(SrtpFault::NotAuthentic), Some((before, since))) if now - *since <= KEY_GRACE => {
                open(before, wire, room)
            }
            (opened, _) => opened,
        };
        match opened {
            Ok(len) => Some(&room[..len]),
            Err(SrtpFault::Replayed) => {
                self.replayed += 1;
                None
            }
            Err(SrtpFault::NotAuthentic | SrtpFault::NotRtp | SrtpFault::Spent) => {
                self.forged += 1;
                None
            }
        }
    }

    /// Protects the packet at the end of `bytes`, from `start` on; returns whether it may go out.
    pub(super) fn seal(&mut self, wire: Wire, bytes: &mut Vec<u8>, start: usize) -> bool {
        match (&mut self.state, wire) {
            (State::Plain, _) => true,
            (State::Expected, _) => false,
            (State::Keyed(keyed), Wire::Rtp) => keyed.0.seal_rtp(bytes, start).is_ok(),
            (State::Keyed(keyed), Wire::Rtcp) => keyed.0.seal_rtcp(bytes, start).is_ok(),
        }
    }

    /// Datagrams that did not prove themselves, and those that came before.
    pub(super) fn refused(&self) -> (u64, u64) {
        (self.forged, self.replayed)
    }
}

fn open(opener: &mut Opener, wire: Wire, packet: &mut [u8]) -> Result<usize, SrtpFault> {
    match wire {
        Wire::Rtp => opener.open_rtp(packet),
        Wire::Rtcp => opener.open_rtcp(packet),
    }
    .map(|plain| plain.len())
}

/// Keys are not for logs.
impl fmt::Debug for Shield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Plain => "plain",
            State::Expected => "keys expected",
            State::Keyed(keyed) => keyed.0.key().suite().name(),
        };
        write!(f, "Shield({state})")
    }
}
