//! What the room is told at birth.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::limits;

/// Where to listen and how to present ourselves.
#[derive(Clone, Debug)]
pub struct SipConfig {
    /// UDP sockets. Port 0 takes any; `Sip::local_addrs` tells which.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners, as `udp`.
    pub tcp: Vec<SocketAddr>,
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
    /// Events that may wait for the reader; see [`limits::SIP_EVENTS`].
    pub events: usize,
}

impl Default for SipConfig {
    fn default() -> SipConfig {
        SipConfig {
            udp: Vec::new(),
            tcp: Vec::new(),
            user_agent: concat!("ringback/", env!("CARGO_PKG_VERSION")).to_owned(),
            contact_user: "ringback".to_owned(),
            advertised: None,
            keep_alive: Duration::from_secs(60),
            arrival: limits::SIP_MESSAGE_ARRIVES_MAX,
            timers: SipTimers::default(),
            events: limits::SIP_EVENTS,
        }
    }
}

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
            SipError::NoListener => f.write_str("SIP has nothing to listen on: give a UDP or TCP address"),
            SipError::Bind { address, reason } => write!(f, "cannot listen for SIP on {address}: {reason}"),
        }
    }
}

impl std::error::Error for SipError {}
