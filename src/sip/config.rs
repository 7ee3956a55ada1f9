//! What the room is told at birth.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::guard::{Access, InForce};
use crate::model::{Secret, limits};

/// Where to listen and how to present ourselves.
#[derive(Clone, Debug)]
pub struct SipConfig {
    /// UDP sockets. Port 0 takes any; `Sip::local_addrs` tells which.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners, as `udp`.
    pub tcp: Vec<SocketAddr>,
    /// TLS listeners, as `udp`. They need a certificate in `tls`.
    pub listen_tls: Vec<SocketAddr>,
    /// WebSocket listeners without TLS: for a proxy in front that has it (RFC 7118).
    pub ws: Vec<SocketAddr>,
    /// WebSocket listeners with the certificate of `tls`; they ask no client for one.
    pub wss: Vec<SocketAddr>,
    /// Origins of web pages that may open a WebSocket, in lower case; `None`: all. Who names none may in any case.
    pub origins: Option<Vec<String>>,
    /// Certificates, ours and theirs.
    pub tls: SipTls,
    /// The DNS servers to ask; `None` asks those of the system.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// The `User-Agent` and `Server` headers.
    pub user_agent: String,
    /// The user part of our Contact.
    pub contact_user: String,
    /// The address or host name to write into Via and Contact when the peers see another one than we do (NAT 1:1). An
    /// address counts for peers of its own family.
    pub advertised: Option<String>,
    /// How often we ping on connections that we opened (RFC 5626 §4.4.1), so that no NAT forgets them.
    pub keep_alive: Duration,
    /// How long a message may take to arrive on a connection; see [`limits::SIP_MESSAGE_ARRIVES_MAX`].
    pub arrival: Duration,
    /// T1, T2 and T4.
    pub timers: SipTimers,
    /// Who may come in. It can be replaced while we run.
    pub access: InForce,
    /// Events that may wait for the reader; see [`limits::SIP_EVENTS`].
    pub events: usize,
}

impl Default for SipConfig {
    fn default() -> SipConfig {
        SipConfig {
            udp: Vec::new(),
            tcp: Vec::new(),
            listen_tls: Vec::new(),
            ws: Vec::new(),
            wss: Vec::new(),
            origins: None,
            tls: SipTls::default(),
            nameservers: None,
            user_agent: concat!("ringback/", env!("CARGO_PKG_VERSION")).to_owned(),
            contact_user: "ringback".to_owned(),
            advertised: None,
            keep_alive: Duration::from_secs(60),
            arrival: limits::SIP_MESSAGE_ARRIVES_MAX,
            timers: SipTimers::default(),
            access: InForce::new(Access::open()),
            events: limits::SIP_EVENTS,
        }
    }
}

/// Certificates, ours and theirs. All of it is PEM.
#[derive(Clone, Debug, Default)]
pub struct SipTls {
    /// Who we are: on listeners, and towards servers that ask.
    pub identity: Option<TlsIdentity>,
    /// Whether TLS listeners ask their clients for a certificate.
    pub client_certificates: ClientCertificates,
    /// The roots of those.
    pub client_ca: Option<Vec<u8>>,
    /// The roots that servers must stand on when we connect.
    pub trust: Trust,
    /// Whether `*.example.com` stands for its hosts in the certificates of servers. RFC 5922 §7.2 forbids it, and some
    /// carriers rely on it.
    pub wildcards: bool,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// The chain, ours first.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Secret,
}

/// Whether a TLS listener asks its clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// It does not ask.
    #[default]
    Off,
    /// It asks; who shows none is let in without a name, who shows a bad one is not let in.
    Request,
    /// It insists.
    Require,
}

/// Whose servers are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Whom this machine believes.
    #[default]
    System,
    /// These roots, and no others.
    Pem(Vec<u8>),
}

/// Why TLS cannot be spoken as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// A TLS listener has no certificate to show.
    NoIdentity,
    /// Client certificates are asked for, and nobody says who signs them.
    NoClientCa,
    /// Our certificate and key are of no use.
    Identity(String),
    /// Roots that others must stand on are of no use.
    Roots(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::NoIdentity => f.write_str("a TLS listener needs a certificate and a key"),
            TlsError::NoClientCa => f.write_str("client certificates are asked for, but no CA for them is given"),
            TlsError::Identity(reason) => write!(f, "cannot use our certificate: {reason}"),
            TlsError::Roots(reason) => write!(f, "cannot use the CA certificates: {reason}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// The three times of RFC 3261 §17 from which all others follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipTimers {
    /// Round trip estimate, the first repetition.
    pub t1: Duration,
    /// Longest interval between repetitions.
    pub t2: Duration,
    /// Longest life of a message in the network.
    pub t4: Duration,
}

impl Default for SipTimers {
    fn default() -> SipTimers {
        SipTimers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

impl SipTimers {
    /// 64·T1, after which the other side counts as gone.
    pub fn patience(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// Why we cannot listen.
#[derive(Debug)]
pub enum SipError {
    /// No listener is configured.
    NoListener,
    /// TLS cannot be spoken as configured.
    Tls(TlsError),
    /// The socket could not be opened.
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        reason: String,
    },
}

impl fmt::Display for SipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SipError::NoListener => f.write_str("SIP has nothing to listen on: give it an address"),
            SipError::Tls(error) => write!(f, "SIP over TLS: {error}"),
            SipError::Bind { address, reason } => write!(f, "cannot listen for SIP on {address}: {reason}"),
        }
    }
}

impl std::error::Error for SipError {}
