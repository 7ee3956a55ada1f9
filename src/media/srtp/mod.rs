//! Protected audio: SRTP and SRTCP (RFC 3711, RFC 6188, RFC 7714).
//!
//! Ours over the ciphers of RustCrypto, because the ready-made ones allocate per packet, keep a record for every SSRC
//! that a stranger invents, or miss suites that trunks use. Tests hold every octet against two of those.
//!
//! Pure, and in place. [`Sealer`] is for what we send, [`Opener`] for what comes in.

mod cipher;
// The implementations to compare with are of the shell.
#[cfg(all(test, feature = "shell"))]
mod tests;

use cipher::{Cipher, Kind};

use crate::model::SrtpKey;
use crate::model::limits::SRTP_SOURCES_MAX;

/// Protects what we send with one key. One source at a time: ours.
pub struct Sealer {
    key: SrtpKey,
    rtp: Cipher,
    rtcp: Cipher,
    /// Rollovers and sequence number of the last packet.
    last: Option<u64>,
    rtcp_next: u32,
}

impl Sealer {
    /// Begins with a key that was never used before; the first packet's number is taken as it comes.
    pub fn new(key: SrtpKey) -> Sealer {
        Sealer { key, rtp: Cipher::new(&key, Kind::Rtp), rtcp: Cipher::new(&key, Kind::Rtcp), last: None, rtcp_next: 0 }
    }

    /// Begins with another key. Reports go on counting: a key may come back, as when forks answer in turn, and no index
    /// may be used twice under one (RFC 3711 §9.1).
    pub fn following(key: SrtpKey, before: &Sealer) -> Sealer {
        Sealer { rtcp_next: before.rtcp_next, ..Sealer::new(key) }
    }

    /// What it seals with.
    pub fn key(&self) -> &SrtpKey {
        &self.key
    }

    /// Protects the RTP packet that begins at `start` of `packet` and goes to its end.
    ///
    /// # Errors
    /// [`SrtpFault::NotRtp`] when there is none; [`SrtpFault::Spent`] when the key has been used for 2^48 packets. What
    /// must not go out then is still readable.
    pub fn seal_rtp(&mut self, packet: &mut Vec<u8>, start: usize) -> Result<(), SrtpFault> {
        let Some((header_len, seq, ssrc)) = packet.get(start..).and_then(rtp_header) else {
            return Err(SrtpFault::NotRtp);
        };
        // A sender knows its own order, but may repeat or overtake itself by a few.
        let index = self.last.map_or(u64::from(seq), |last| nearest(last, seq));
        if index > INDEX_MAX {
            return Err(SrtpFault::Spent);
        }
        self.last = Some(self.last.map_or(index, |last| last.max(index)));
        self.rtp.seal_rtp(packet, start, header_len, ssrc, index);
        Ok(())
    }

    /// Protects the RTCP packets that begin at `start` of `packet` and go to its end.
    ///
    /// # Errors
    /// As [`Sealer::seal_rtp`], with 2^31 packets.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>, start: usize) -> Result<(), SrtpFault> {
        let Some(ssrc) = packet.get(start..).and_then(rtcp_sender) else { return Err(SrtpFault::NotRtp) };
        if self.rtcp_next > RTCP_INDEX_MAX {
            return Err(SrtpFault::Spent);
        }
        self.rtcp.seal_rtcp(packet, start, ssrc, self.rtcp_next);
        self.rtcp_next += 1;
        Ok(())
    }
}

/// Proves and deciphers what comes in with one key.
pub struct Opener {
    key: SrtpKey,
    rtp: Cipher,
    rtcp: Cipher,
    /// Those that proved themselves, the one heard last at the end.
    sources: Vec<Source>,
}

impl Opener {
    /// Begins with a key.
    pub fn new(key: SrtpKey) -> Opener {
        let sources = Vec::with_capacity(SRTP_SOURCES_MAX);
        Opener { key, rtp: Cipher::new(&key, Kind::Rtp), rtcp: Cipher::new(&key, Kind::Rtcp), sources }
    }

    /// What it opens with.
    pub fn key(&self) -> &SrtpKey {
        &self.key
    }

    /// Proves and deciphers an RTP packet in place; returns it without its tag.
    ///
    /// # Errors
    /// Why it is not to be believed; it is then as it was, and so is everything that is remembered.
    pub fn open_rtp<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a mut [u8], SrtpFault> {
        let (header_len, seq, ssrc) = rtp_header(packet).ok_or(SrtpFault::NotRtp)?;
        let known = self.sources.iter().position(|source| source.ssrc == ssrc && source.rtp.is_used());
        let index = match known {
            Some(at) => nearest(self.sources[at].rtp.newest, seq),
            None => u64::from(seq),
        };
        if index > INDEX_MAX {
            return Err(SrtpFault::Spent);
        }
        if known.is_some_and(|at| self.sources[at].rtp.has_seen(index)) {
            return Err(SrtpFault::Replayed);
        }
        let mut opened = self.rtp.open_rtp(packet, header_len, ssrc, index).map(|len| (len, index));
        if opened.is_none() && known.is_none() && seq < 1 << 15 {
            // RFC 3711 §3.3.1 begins with no rollover. Whoever began high and lost the packets before its first one
            // would stay mute for good.
            let index = index + (1 << 16);
            opened = self.rtp.open_rtp(packet, header_len, ssrc, index).map(|len| (len, index));
        }
        let (len, index) = opened.ok_or(SrtpFault::NotAuthentic)?;
        self.source(ssrc).rtp.note(index);
        Ok(&mut packet[..len])
    }

    /// Proves and deciphers RTCP in place; returns it without index and tag. Packets that are proven but not enciphered
    /// are refused: that was not agreed.
    ///
    /// # Errors
    /// As [`Opener::open_rtp`].
    pub fn open_rtcp<'a>(&mut self, packet: &'a mut [u8]) -> Result<&'a mut [u8], SrtpFault> {
        let ssrc = rtcp_sender(packet).ok_or(SrtpFault::NotRtp)?;
        let index = self.rtcp.rtcp_index(packet).ok_or(SrtpFault::NotAuthentic)?;
        let known = self.sources.iter().find(|source| source.ssrc == ssrc);
        if known.is_some_and(|source| source.rtcp.has_seen(u64::from(index))) {
            return Err(SrtpFault::Replayed);
        }
        let len = self.rtcp.open_rtcp(packet, ssrc, index).ok_or(SrtpFault::NotAuthentic)?;
        self.source(ssrc).rtcp.note(u64::from(index));
        Ok(&mut packet[..len])
    }

    /// The record of a source that has just proven itself; the one that was silent longest makes room.
    fn source(&mut self, ssrc: u32) -> &mut Source {
        match self.sources.iter().position(|source| source.ssrc == ssrc) {
            Some(at) => self.sources[at..].rotate_left(1),
            None => {
                if self.sources.len() >= SRTP_SOURCES_MAX {
                    self.sources.remove(0);
                }
                self.sources.push(Source { ssrc, rtp: Window::default(), rtcp: Window::default() });
            }
        }
        self.sources.last_mut().expect("is there because it was moved or put to the end")
    }
}

/// What is remembered of a source.
struct Source {
    ssrc: u32,
    rtp: Window,
    rtcp: Window,
}

/// Which packets were taken (RFC 3711 §3.3.2): the newest, and which of those up to it.
#[derive(Default)]
struct Window {
    newest: u64,
    /// Bit 0 is the newest.
    taken: u128,
}

impl Window {
    fn is_used(&self) -> bool {
        self.taken != 0
    }

    /// Whether a packet was taken, or is too old to say.
    fn has_seen(&self, index: u64) -> bool {
        let Some(behind) = self.newest.checked_sub(index).filter(|_| self.is_used()) else { return false };
        behind >= u64::from(u128::BITS) || self.taken >> behind & 1 != 0
    }

    fn note(&mut self, index: u64) {
        if index > self.newest || !self.is_used() {
            let by = u32::try_from(index - self.newest).ok().filter(|_| self.is_used());
            self.taken = by.and_then(|by| self.taken.checked_shl(by)).unwrap_or(0) | 1;
            self.newest = index;
        } else if let Some(bit) = u32::try_from(self.newest - index).ok().and_then(|behind| 1_u128.checked_shl(behind))
        {
            self.taken |= bit;
        }
    }
}

/// The index with this sequence number that is nearest to one that is known (RFC 3711 §3.3.1).
fn nearest(known: u64, seq: u16) -> u64 {
    let by = seq.wrapping_sub(known as u16) as i16;
    // Behind the beginning there is nothing: the number must be of the next turn.
    known.checked_add_signed(i64::from(by)).unwrap_or(known + u64::from(by as u16))
}

/// Length of the readable header, sequence number and SSRC of an RTP packet.
fn rtp_header(packet: &[u8]) -> Option<(usize, u16, u32)> {
    let fixed: &[u8; 12] = packet.first_chunk()?;
    if fixed[0] >> 6 != 2 {
        return None;
    }
    let mut len = 12 + usize::from(fixed[0] & 0x0F) * 4;
    if fixed[0] & 0x10 != 0 {
        let extension: &[u8; 4] = packet.get(len..)?.first_chunk()?;
        len += 4 + usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4;
    }
    let ssrc = u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]);
    (len <= packet.len()).then_some((len, u16::from_be_bytes([fixed[2], fixed[3]]), ssrc))
}

fn rtcp_sender(packet: &[u8]) -> Option<u32> {
    let fixed: &[u8; 8] = packet.first_chunk()?;
    (fixed[0] >> 6 == 2).then(|| u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]))
}

/// Why a packet was not protected, or is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SrtpFault {
    /// Too short, or not RTP.
    NotRtp,
    /// The wrong key, an altered packet, or RTCP that is not enciphered. Which of them nobody is told.
    NotAuthentic,
    /// It came before, or is too old to say.
    Replayed,
    /// The key has protected as many packets as it may (RFC 3711 §9.2).
    Spent,
}

const INDEX_MAX: u64 = (1 << 48) - 1;
const RTCP_INDEX_MAX: u32 = (1 << 31) - 1;
