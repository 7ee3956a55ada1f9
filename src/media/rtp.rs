//! RTP packets (RFC 3550 §5.1) on the hot path.
//!
//! The crate we use for SIP has an RTP parser too, but its packets own a reference-counted buffer each, which means
//! an allocation per datagram. This one borrows.

use std::fmt;

/// Octets of a header without contributing sources and extension, the form in which we send.
pub const HEADER_LEN: usize = 12;

/// What we use of an RTP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First packet after a silence, or of an event.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Counts packets, wraps.
    pub seq: u16,
    /// Counts samples, wraps.
    pub timestamp: u32,
    /// Names the stream.
    pub ssrc: u32,
}

impl Header {
    /// Takes a datagram apart into header and payload. Contributing sources, extension and padding are skipped.
    ///
    /// # Errors
    /// Says why the datagram is no RTP packet; it is then dropped and counted.
    pub fn parse(datagram: &[u8]) -> Result<(Header, &[u8]), RtpError> {
        let fixed: &[u8; HEADER_LEN] = datagram.first_chunk().ok_or(RtpError::Short)?;
        if fixed[0] >> 6 != 2 {
            return Err(RtpError::Version);
        }
        // RFC 5761 §4: with RTCP on the same port, its packet types 192–223 look like these payload types.
        if (64..96).contains(&(fixed[1] & 0x7F)) {
            return Err(RtpError::Rtcp);
        }
        let header = Header {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7F,
            seq: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        };
        let sources = usize::from(fixed[0] & 0x0F) * 4;
        let mut rest = datagram.get(HEADER_LEN + sources..).ok_or(RtpError::Truncated)?;
        if fixed[0] & 0x10 != 0 {
            let extension: &[u8; 4] = rest.first_chunk().ok_or(RtpError::Truncated)?;
            let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
            rest = rest.get(4 + words * 4..).ok_or(RtpError::Truncated)?;
        }
        if fixed[0] & 0x20 != 0 {
            let padding = usize::from(*rest.last().ok_or(RtpError::Padding)?);
            let end = rest.len().checked_sub(padding).ok_or(RtpError::Padding)?;
            if padding == 0 {
                return Err(RtpError::Padding);
            }
            rest = &rest[..end];
        }
        Ok((header, rest))
    }

    /// The header as it goes out.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 2 << 6;
        bytes[1] = (u8::from(self.marker) << 7) | (self.payload_type & 0x7F);
        bytes[2..4].copy_from_slice(&self.seq.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes
    }
}

/// Why a datagram is no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpError {
    /// Below 12 octets.
    Short,
    /// Not version 2: STUN, DTLS, or noise.
    Version,
    /// RTCP on the RTP port.
    Rtcp,
    /// Sources or extension reach beyond the end.
    Truncated,
    /// The padding count is 0, or larger than the payload.
    Padding,
}

impl fmt::Display for RtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RtpError::Short => "shorter than an RTP header",
            RtpError::Version => "not RTP version 2",
            RtpError::Rtcp => "RTCP on the RTP port",
            RtpError::Truncated => "header reaches beyond the end of the datagram",
            RtpError::Padding => "padding does not fit into the payload",
        })
    }
}

impl std::error::Error for RtpError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_with_sources_extension_and_padding_gives_the_bare_payload() {
        let mut datagram = header(true, 101).to_bytes().to_vec();
        datagram[0] |= 0x20 | 0x10 | 2;
        datagram.extend([1; 8]);
        datagram.extend([0xBE, 0xDE, 0, 1, 9, 9, 9, 9]);
        datagram.extend([7, 7, 7, 0, 0, 3]);

        let (parsed, payload) = Header::parse(&datagram).expect("is RTP");

        assert_eq!((parsed, payload), (header(true, 101), &[7, 7, 7][..]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        let plain = header(false, 0).to_bytes();
        let with = |first: u8, tail: &[u8]| {
            let mut datagram = plain.to_vec();
            datagram[0] |= first;
            datagram.extend(tail);
            Header::parse(&datagram).map(|_| ()).unwrap_err()
        };

        assert_eq!(Header::parse(&plain[..11]).unwrap_err(), RtpError::Short);
        assert_eq!(Header::parse(&[0; 20]).unwrap_err(), RtpError::Version);
        assert_eq!(Header::parse(&header(true, 72).to_bytes()).unwrap_err(), RtpError::Rtcp);
        assert_eq!(with(3, &[0; 11]), RtpError::Truncated);
        assert_eq!(with(0x10, &[0, 0, 0, 9, 1]), RtpError::Truncated);
        assert_eq!(with(0x20, &[]), RtpError::Padding);
        assert_eq!(with(0x20, &[1, 0]), RtpError::Padding);
        assert_eq!(with(0x20, &[1, 3]), RtpError::Padding);
    }

    proptest! {
        #[test]
        fn any_octets_are_taken_or_refused(datagram in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok((_, payload)) = Header::parse(&datagram) {
                prop_assert!(payload.len() + HEADER_LEN <= datagram.len());
            }
        }

        #[test]
        fn what_is_written_is_read(marker: bool, payload_type in 0u8..64, seq: u16, timestamp: u32, ssrc: u32) {
            let header = Header { marker, payload_type, seq, timestamp, ssrc };
            let bytes = header.to_bytes();
            prop_assert_eq!(Header::parse(&bytes), Ok((header, &[][..])));
        }
    }

    fn header(marker: bool, payload_type: u8) -> Header {
        Header { marker, payload_type, seq: 0xFFFE, timestamp: 0x0102_0304, ssrc: 0xDEAD_BEEF }
    }
}
