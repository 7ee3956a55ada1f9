//! A leg whose datagrams come and go by another thread of ours and not by a socket: that thread speaks to the network
//! in its own way (ICE and DTLS, say) and hands plain RTP in and out.
//!
//! Bounded on both sides and never waited for: what finds no room is lost, as on a network. The worker looks into its
//! pipes in every slot, so a datagram waits for less than a millisecond.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::sync::mpsc;

use crate::model::limits::PIPE_DATAGRAMS_MAX;

/// The worker's end.
#[derive(Debug)]
pub struct Pipe {
    pub(super) inward: mpsc::Receiver<Vec<u8>>,
    pub(super) outward: mpsc::Sender<Vec<u8>>,
}

/// The end of the thread that speaks to the network. The leg stays when it is dropped, and hears nothing any more.
#[derive(Debug)]
pub struct PipeEnd {
    /// RTP from the party, one datagram each; `try_send` what came.
    pub inward: mpsc::Sender<Vec<u8>>,
    /// RTP to the party. Ends when the leg is closed.
    pub outward: mpsc::Receiver<Vec<u8>>,
}

/// Both ends of a new pipe.
pub fn pipe() -> (Pipe, PipeEnd) {
    let (inward, from_network) = mpsc::channel(PIPE_DATAGRAMS_MAX);
    let (to_network, outward) = mpsc::channel(PIPE_DATAGRAMS_MAX);
    (Pipe { inward: from_network, outward: to_network }, PipeEnd { inward, outward })
}

/// What stands for the address of a party behind a pipe. Nothing is ever sent there: port 9 discards.
pub const PIPED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
