//! The sockets, and how to get from here to a peer.

use std::net::{IpAddr, SocketAddr};

use sipx_sip::{Header, HeaderName, Host, Message, Request, Timers, Uri};
use sipx_transport::{CleartextTransports, Config, Handle, Incoming, Target, TransportKind};
use tokio::sync::mpsc;

use super::config::{SipConfig, SipError};
use super::event::Transport;
use super::message::Own;
use crate::model::limits;

/// Everything that listens. Never changes once bound.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) endpoints: Vec<Endpoint>,
    advertised: Option<IpAddr>,
    contact_user: String,
    pub(super) agent: String,
}

/// One socket or listener, with the stack's loop behind it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) handle: Handle,
    pub(super) transport: Transport,
    pub(super) bound: SocketAddr,
}

/// One way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) addr: SocketAddr,
    pub(super) transport: Transport,
}

/// Where a URI leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight to an address.
    Known(Hop),
    /// To a name that has to be looked up.
    Named { host: String, port: u16, transport: Transport },
    /// Nowhere: not a SIP URI, or over a transport that we do not speak.
    Nowhere,
}

impl Net {
    /// Opens every socket, or none.
    pub(super) async fn bind(config: &SipConfig) -> Result<(Net, Vec<mpsc::Receiver<Incoming>>), SipError> {
        let udp = config.udp.iter().map(|address| (*address, Transport::Udp));
        let tcp = config.tcp.iter().map(|address| (*address, Transport::Tcp));
        let (mut endpoints, mut receivers) = (Vec::new(), Vec::new());
        for (address, transport) in udp.chain(tcp) {
            let (handle, receiver) = sipx_transport::bind(stack_config(config, address, transport))
                .await
                .map_err(|error| SipError::Bind { address, reason: error.to_string() })?;
            endpoints.push(Endpoint { bound: handle.local_addr(), handle, transport });
            receivers.push(receiver);
        }
        if endpoints.is_empty() {
            return Err(SipError::NoListener);
        }
        let net = Net {
            endpoints,
            advertised: config.advertised,
            contact_user: config.contact_user.clone(),
            agent: config.user_agent.clone(),
        };
        Ok((net, receivers))
    }

    /// How we name ourselves to a peer that we reach from this endpoint by this transport.
    pub(super) fn own(&self, endpoint: usize, hop: Hop) -> Own {
        let bound = self.endpoints.get(endpoint).map_or(hop.addr, |endpoint| endpoint.bound);
        let ip = self.advertised.unwrap_or_else(|| {
            if bound.ip().is_unspecified() { local_address_towards(hop.addr).unwrap_or(bound.ip()) } else { bound.ip() }
        });
        let address = SocketAddr::new(ip, bound.port());
        let host = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let parameter = match hop.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        Own {
            sent_by: address.to_string(),
            host,
            contact: format!("<sip:{}@{address}{parameter}>", self.contact_user),
            agent: self.agent.clone(),
        }
    }

    /// The endpoint to send from: `prefer` when it fits, else one of the right transport, else any of the right
    /// address family (the stack can open a TCP connection without a listener).
    pub(super) fn endpoint_for(&self, hop: Hop, prefer: Option<usize>) -> Option<usize> {
        let reaches = |endpoint: &Endpoint| endpoint.bound.is_ipv4() == hop.addr.is_ipv4();
        let fits = |endpoint: &Endpoint| reaches(endpoint) && endpoint.transport == hop.transport;
        if let Some(at) = prefer
            && self.endpoints.get(at).is_some_and(fits)
        {
            return Some(at);
        }
        let is_tcp = hop.transport == Transport::Tcp;
        self.endpoints
            .iter()
            .position(fits)
            .or_else(|| if is_tcp { self.endpoints.iter().position(reaches) } else { None })
    }

    /// The request with a Via of its own, ready to leave; `None` when no endpoint reaches that far.
    pub(super) fn address(
        &self,
        request: &Request,
        hop: Hop,
        prefer: Option<usize>,
    ) -> Option<(usize, Request, Target)> {
        let endpoint = self.endpoint_for(hop, prefer)?;
        let own = self.own(endpoint, hop);
        let (kind, name) = match hop.transport {
            Transport::Udp => (TransportKind::Udp, "UDP"),
            Transport::Tcp => (TransportKind::Tcp, "TCP"),
        };
        // RFC 3581: `rport` asks for the answer to come back to the port that we send from.
        let via = format!("SIP/2.0/{name} {};rport;branch={}", own.sent_by, sipx_transport::new_branch());
        let mut request = request.clone();
        request.headers.push_front(Header::build(HeaderName::Via, via.into_bytes()).ok()?);
        Some((endpoint, request, Target::new(hop.addr, kind)))
    }

    /// Whether that is one of our own ears. The stack cannot keep both ends of one transaction apart.
    pub(super) fn is_self(&self, hop: Hop) -> bool {
        self.endpoints.iter().any(|endpoint| {
            let same_ip = endpoint.bound.ip() == hop.addr.ip()
                || (endpoint.bound.ip().is_unspecified() && local_address_towards(hop.addr) == Some(hop.addr.ip()));
            same_ip && endpoint.bound.port() == hop.addr.port() && endpoint.transport == hop.transport
        })
    }
}

/// The hops to try in turn. RFC 3261 §18.1.1: above 1300 octets TCP comes first, and UDP only when it is refused.
pub(super) fn hops(request: &Request, hop: Hop) -> Vec<Hop> {
    let size = Message::Request(request.clone()).to_bytes().len() + VIA_LEN;
    match hop.transport {
        Transport::Udp if size > UDP_REQUEST_MAX => vec![Hop { transport: Transport::Tcp, ..hop }, hop],
        Transport::Udp | Transport::Tcp => vec![hop],
    }
}

/// Where a URI leads; `default` is the transport when it names none.
pub(super) fn way(uri: &Uri, default: Transport) -> Way {
    let transport = match uri.transport().map(<[u8]>::to_ascii_lowercase).as_deref() {
        None => default,
        Some(b"udp") => Transport::Udp,
        Some(b"tcp") => Transport::Tcp,
        Some(_) => return Way::Nowhere,
    };
    // TLS is not spoken yet, and a `sips:` URI must not travel in the clear.
    if uri.scheme().as_bytes() != b"sip" {
        return Way::Nowhere;
    }
    let port = uri.port().unwrap_or(5060);
    match uri.host() {
        Some(Host::Ip(ip)) => Way::Known(Hop { addr: SocketAddr::new(*ip, port), transport }),
        Some(name) => Way::Named { host: String::from_utf8_lossy(&name.to_bytes()).into_owned(), port, transport },
        None => Way::Nowhere,
    }
}

/// Whether a peer met at `met` cannot be reached at the `named` address: it names a private network that is not ours,
/// since it was met on a public address or on this very machine. Where both are private, no NAT need be between.
pub(super) fn is_hidden(named: IpAddr, met: IpAddr) -> bool {
    named != met && is_private(named) && (met.is_loopback() || !is_private(met))
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The address that packets to a peer leave from. Asks the routing table; sends nothing.
fn local_address_towards(peer: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn stack_config(config: &SipConfig, address: SocketAddr, transport: Transport) -> Config {
    let mut stack = Config::new(address);
    stack.cleartext = match transport {
        Transport::Udp => CleartextTransports::Udp,
        Transport::Tcp => CleartextTransports::Tcp,
    };
    if let Some(ip) = config.advertised {
        stack.sent_by = ip.to_string();
    }
    stack.timers = Timers { t1: config.timers.t1, t2: config.timers.t2, t4: config.timers.t4 };
    // Twice what we serve, so that a message somewhat too long gets its 513 instead of a broken connection.
    stack.limits.max_message_bytes = 2 * limits::SIP_MESSAGE_MAX;
    stack.limits.max_body_bytes = 2 * limits::SIP_MESSAGE_MAX;
    // We choose between UDP and TCP ourselves, because the Via is ours; see `hops`.
    stack.path_mtu = Some(usize::from(u16::MAX) + 200);
    // BYE for a caller on TCP travels on the connection it opened. The pool is keyed by the peer's full address, so
    // this carries nothing else.
    stack.pool.reuse_inbound_for_outbound = true;
    stack
}

const UDP_REQUEST_MAX: usize = 1300;
/// What the Via will add.
const VIA_LEN: usize = 100;
