//! One party reached by RTP.

use std::net::SocketAddr;

use crate::model::Codec;

/// What an answered SDP says about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPeer {
    /// How audio is written, both ways.
    pub codec: Codec,
    /// The payload type of `codec` towards the peer, 0 to 127; packets of the static types 0 and 8 are always taken.
    pub payload_type: u8,
    /// The payload type of telephone-event towards the peer; `None` when it takes none.
    pub dtmf_out: Option<u8>,
    /// The payload type of telephone-event from the peer.
    pub dtmf_in: Option<u8>,
    /// Where the SDP says audio goes. Replaced by where it comes from, once that is settled.
    pub remote: SocketAddr,
}
