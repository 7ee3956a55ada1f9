//! Sound that says when it was sent. The gateway passes µ-law through as it is, so a frame may carry figures.

use std::time::Duration;

use crate::model::{FRAME_SAMPLES, Frame};

/// Who made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// The caller.
    Caller,
    /// The agent, of what it heard; in a relay the callee.
    Echo,
    /// The agent, of what it is about to drop.
    Burst,
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) call: u16,
    pub(super) from: From,
    /// Since the load began.
    pub(super) at: Duration,
}

impl Mark {
    /// A frame with this mark; the rest of it is loud.
    pub(super) fn frame(self) -> Frame {
        let mut frame = [LOUD; FRAME_SAMPLES];
        let from = match self.from {
            From::Caller => 1,
            From::Echo => 2,
            From::Burst => 3,
        };
        frame[..4].copy_from_slice(&SIGN);
        frame[4..6].copy_from_slice(&self.call.to_be_bytes());
        frame[6] = from;
        let nanos = u64::try_from(self.at.as_nanos()).unwrap_or(u64::MAX);
        frame[7..LEN].copy_from_slice(&nanos.to_be_bytes());
        frame
    }

    /// The mark in a piece of sound; frames may have been cut anew on the way.
    pub(super) fn find(sound: &[u8]) -> Option<Mark> {
        let at = if sound.starts_with(&SIGN) { 0 } else { sound.windows(4).position(|four| four == SIGN)? };
        let mark: &[u8; LEN] = sound.get(at..)?.first_chunk()?;
        let from = match mark[6] {
            1 => From::Caller,
            2 => From::Echo,
            3 => From::Burst,
            _ => return None,
        };
        let nanos = mark[7..].iter().fold(0, |sum: u64, octet| sum << 8 | u64::from(*octet));
        Some(Mark { call: u16::from_be_bytes([mark[4], mark[5]]), from, at: Duration::from_nanos(nanos) })
    }
}

/// Whether anything can be heard in µ-law.
pub(super) fn sounds(sound: &[u8]) -> bool {
    sound.iter().any(|octet| !matches!(octet, 0xff | 0x7f))
}

const SIGN: [u8; 4] = [0x11, 0x9a, 0x23, 0xb7];
const LOUD: u8 = 0x55;
const LEN: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_wherever_it_stands() {
        let mark = Mark { call: 700, from: From::Burst, at: Duration::from_nanos(0x0123_4567_89ab_cdef) };
        let frame = mark.frame();
        assert_eq!(Mark::find(&frame), Some(mark));
        assert!(sounds(&frame));

        let mut late = vec![0xff; 40];
        late.extend(&frame[..120]);
        assert_eq!(Mark::find(&late), Some(mark));

        assert_eq!(Mark::find(&frame[..14]), None);
        assert_eq!(Mark::find(&[0xff; 160]), None);
        assert!(!sounds(&[0xff; 160]));
    }
}
