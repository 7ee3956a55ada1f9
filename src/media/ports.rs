//! Which UDP ports carry RTP.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::SockRef;

/// Where RTP is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPorts {
    /// The local address to bind.
    pub ip: IpAddr,
    /// The first port; an odd one is rounded up, RTP ports are even (RFC 3550 §11).
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// The even ports of the range, each with the one above it. Sockets in use and sockets that rest are both bound, so the kernel knows what is free.
#[derive(Debug)]
pub(super) struct Ports {
    range: RtpPorts,
    bound: AtomicUsize,
}

impl Ports {
    pub(super) fn new(range: RtpPorts) -> Ports {
        Ports { range, bound: AtomicUsize::new(0) }
    }

    /// Binds a free port, the first one from a random place on, so that a late packet of an old call is unlikely to
    /// find a new one.
    ///
    /// # Errors
    /// `AddrInUse` when every port is taken or rests; otherwise what the system says about the address.
    pub(super) fn bind(self: &Arc<Self>) -> io::Result<BoundPort> {
        let first = u32::from(self.range.first).next_multiple_of(2);
        let pairs = (u32::from(self.range.last) + 1).saturating_sub(first) / 2;
        let full = || io::Error::new(io::ErrorKind::AddrInUse, "every RTP port is taken or rests");
        if pairs == 0 || self.bound.load(Ordering::Relaxed) >= pairs as usize {
            return Err(full());
        }
        let start = getrandom::u32()? % pairs;
        for at in 0..pairs {
            let port = (first + (start + at) % pairs * 2) as u16;
            let pair = UdpSocket::bind(SocketAddr::new(self.range.ip, port))
                .and_then(|audio| Ok((audio, UdpSocket::bind(SocketAddr::new(self.range.ip, port + 1))?)));
            match pair {
                Ok((audio, reports)) => return self.prepare(audio, reports),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(full())
    }

    fn prepare(self: &Arc<Self>, socket: UdpSocket, reports: UdpSocket) -> io::Result<BoundPort> {
        socket.set_nonblocking(true)?;
        reports.set_nonblocking(true)?;
        // Best effort: a system that refuses either still carries calls.
        let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        let _ = SockRef::from(&socket).set_tos_v4(EXPEDITED_FORWARDING);
        self.bound.fetch_add(1, Ordering::Relaxed);
        let (socket, reports) = (mio::net::UdpSocket::from_std(socket), mio::net::UdpSocket::from_std(reports));
        Ok(BoundPort { socket, reports, ports: self.clone() })
    }
}

/// A bound socket, counted until it is dropped.
#[derive(Debug)]
pub(super) struct BoundPort {
    pub(super) socket: mio::net::UdpSocket,
    /// The port above, for RTCP (RFC 3550 §11).
    pub(super) reports: mio::net::UdpSocket,
    ports: Arc<Ports>,
}

impl Drop for BoundPort {
    fn drop(&mut self) {
        self.ports.bound.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Half a second and more of packets: the kernel counts its own bookkeeping into it.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// RFC 4594: telephony, DSCP 46.
const EXPEDITED_FORWARDING: u32 = 0xB8;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ports_are_even_and_the_last_one_is_followed_by_an_error() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let ports = Arc::new(Ports::new(RtpPorts { ip, first: 28_001, last: 28_006 }));

        let bound: Vec<BoundPort> = std::iter::from_fn(|| ports.bind().ok()).take(9).collect();

        let mut numbers: Vec<u16> = bound.iter().map(|port| port.socket.local_addr().expect("bound").port()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [28_002, 28_004]);
        assert_eq!(ports.bind().expect_err("full").kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(ports.bind().is_ok());
    }
}
