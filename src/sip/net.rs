//! Where we are, and how to get from here to a peer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use sipx_sip::{Header, HeaderName, Host, Request, Uri};

use super::config::SipConfig;
use super::event::Transport;
use super::message::Own;
use crate::model::limits;

/// Everything that listens, and how it is named to others.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) endpoints: Vec<Endpoint>,
    /// A host name or an address that the peers see instead of ours.
    advertised: Option<String>,
    contact_user: String,
    pub(super) agent: String,
    /// Which of our addresses leads to a peer, as the routing table said lately.
    routes: Mutex<HashMap<IpAddr, IpAddr>>,
}

/// One socket or listener.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) transport: Transport,
    pub(super) bound: SocketAddr,
}

/// One way to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hop {
    pub(super) addr: SocketAddr,
    pub(super) transport: Transport,
    /// The host that the URI names, which a TLS certificate must prove (RFC 5922 §4). `None` takes a connection that is
    /// there, or else asks for the address itself.
    pub(super) host: Option<Arc<str>>,
}

/// Where a URI leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight to an address.
    Known(Hop),
    /// To a name that has to be looked up.
    Named(Name),
    /// Nowhere: not a SIP URI, or over a transport that we do not speak.
    Nowhere,
}

/// A host that has to be looked up, and what its URI says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) transport: Option<Transport>,
    /// The transport when neither the URI nor DNS names one.
    pub(super) default: Transport,
    /// A `sips:` URI.
    pub(super) is_secure: bool,
}

impl Hop {
    pub(super) fn new(addr: SocketAddr, transport: Transport) -> Hop {
        Hop { addr, transport, host: None }
    }
}

impl Net {
    pub(super) fn new(config: &SipConfig, endpoints: Vec<Endpoint>) -> Net {
        Net {
            endpoints,
            advertised: config.advertised.clone(),
            contact_user: config.contact_user.clone(),
            agent: config.user_agent.clone(),
            routes: Mutex::default(),
        }
    }

    /// How we name ourselves to a peer that we reach from this endpoint by this transport.
    pub(super) fn own(&self, endpoint: usize, hop: &Hop) -> Own {
        let at = self.endpoints.get(endpoint);
        let bound = at.map_or(hop.addr, |endpoint| endpoint.bound);
        let (host, port) = (self.host_towards(bound, hop.addr.ip()), bound.port());
        // Where nobody listens for connections, the Contact names the socket that does hear.
        let transport = at.map_or(hop.transport, |endpoint| endpoint.transport);
        let parameter = match transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
            Transport::Tls => ";transport=tls",
            // RFC 7118 §5.2: `ws` for both.
            Transport::Ws | Transport::Wss => ";transport=ws",
        };
        Own {
            sent_by: format!("{host}:{port}"),
            contact: format!("<sip:{}@{host}:{port}{parameter}>", self.contact_user),
            host,
            agent: self.agent.clone(),
        }
    }

    /// The endpoint to send from: `prefer` when it fits, else one of the right transport, else any of the right
    /// address family, since a connection can be opened without a listener.
    pub(super) fn endpoint_for(&self, hop: &Hop, prefer: Option<usize>) -> Option<usize> {
        let reaches = |endpoint: &Endpoint| endpoint.bound.is_ipv4() == hop.addr.is_ipv4();
        let fits = |endpoint: &Endpoint| reaches(endpoint) && endpoint.transport == hop.transport;
        if let Some(at) = prefer
            && self.endpoints.get(at).is_some_and(fits)
        {
            return Some(at);
        }
        self.endpoints
            .iter()
            .position(fits)
            .or_else(|| if hop.transport.is_stream() { self.endpoints.iter().position(reaches) } else { None })
    }

    /// The request with a Via of its own, ready to leave from this endpoint.
    pub(super) fn address(&self, request: &Request, hop: &Hop, endpoint: usize) -> Request {
        let own = self.own(endpoint, hop);
        // RFC 3581: `rport` asks for the answer to come back to the port that we send from.
        let via =
            format!("SIP/2.0/{} {};rport;branch={}", hop.transport.via(), own.sent_by, sipx_transport::new_branch());
        let mut request = request.clone();
        let via = Header::build(HeaderName::Via, via.into_bytes());
        request.headers.push_front(via.expect("a Via that we wrote has no line break in it"));
        request
    }

    /// Forgets which of our addresses lead where, since routes change.
    pub(super) fn forget_routes(&self) {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Our host as this peer should write it, IPv6 in brackets.
    fn host_towards(&self, bound: SocketAddr, peer: IpAddr) -> String {
        if let Some(advertised) = &self.advertised {
            match advertised.trim_matches(['[', ']']).parse::<IpAddr>() {
                // An IPv4 address in front of us says nothing about IPv6.
                Ok(ip) if ip.is_ipv4() == bound.is_ipv4() => return bracketed(ip),
                Ok(_) => {}
                Err(_) => return advertised.clone(),
            }
        }
        if !bound.ip().is_unspecified() {
            return bracketed(bound.ip());
        }
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ip) = routes.get(&peer) {
            return bracketed(*ip);
        }
        let ip = local_address_towards(peer).unwrap_or(bound.ip());
        if routes.len() >= limits::SIP_ROUTES_KNOWN_MAX {
            routes.clear();
        }
        routes.insert(peer, ip);
        bracketed(ip)
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// The hops to try for a request at this one. RFC 3261 §18.1.1: above 1300 octets TCP comes first, and UDP only when it
/// is refused.
pub(super) fn hops(request: &Request, hop: Hop) -> Vec<Hop> {
    if hop.transport == Transport::Udp {
        let mut octets = Vec::with_capacity(2048);
        request.write_to(&mut octets);
        if octets.len() + VIA_LEN > UDP_REQUEST_MAX {
            return vec![Hop { transport: Transport::Tcp, ..hop.clone() }, hop];
        }
    }
    vec![hop]
}

/// Where a URI leads; `default` is the transport when it names none.
pub(super) fn way(uri: &Uri, default: Transport) -> Way {
    let is_secure = uri.scheme().is_secure();
    if !uri.scheme().is_sip() {
        return Way::Nowhere;
    }
    let transport = match (uri.transport().map(<[u8]>::to_ascii_lowercase).as_deref(), is_secure) {
        (None, false) => None,
        (Some(b"udp"), false) => Some(Transport::Udp),
        (Some(b"tcp"), false) => Some(Transport::Tcp),
        // RFC 3261 §26.2.2: what is secure travels within TLS, whatever lies below.
        (None | Some(b"tcp"), true) | (Some(b"tls"), _) => Some(Transport::Tls),
        // Nobody connects to a WebSocket client: it is reached on the connection that it opened.
        (Some(_), _) => return Way::Nowhere,
    };
    match uri.host() {
        Some(Host::Ip(ip)) => {
            let transport = transport.unwrap_or(default);
            let port = uri.port().unwrap_or(if transport == Transport::Tls { 5061 } else { 5060 });
            Way::Known(Hop::new(SocketAddr::new(*ip, port), transport))
        }
        Some(name) => {
            let host = String::from_utf8_lossy(&name.to_bytes()).to_ascii_lowercase();
            Way::Named(Name { host, port: uri.port(), transport, default, is_secure })
        }
        None => Way::Nowhere,
    }
}

impl Own {
    /// The Contact of a dialog that is secure from end to end (RFC 3261 §12.1.1).
    pub(super) fn secured(mut self) -> Own {
        self.contact = self.contact.replacen("<sip:", "<sips:", 1).replace(";transport=tls", "");
        self
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
fn local_address_towards(peer: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    // Any port does: nothing is sent there.
    socket.connect(SocketAddr::new(peer, 5060)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

const UDP_REQUEST_MAX: usize = 1300;
/// What the Via will add.
const VIA_LEN: usize = 100;
