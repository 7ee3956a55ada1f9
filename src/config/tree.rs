//! The configuration as the house works with it: checked, complete, and the same for the whole life of a call.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::Origin;
use super::check::inside;
use crate::actions::{Action, Agent, Plan, SecretRef, Workflow};
use crate::model::Address;

/// Everything under one `sip-config/`, free of mistakes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names this state of the files: the first 12 hexadecimal digits of the SHA-256 over all of them.
    pub revision: String,
    /// The folder it was read from; [`super::secret()`] looks there for secret files.
    pub dir: PathBuf,
    /// The gateway's own affairs.
    pub gateway: Gateway,
    /// In order; the first that fits decides, and the last fits every call.
    pub routes: Vec<Route>,
    /// By id.
    pub trunks: BTreeMap<String, Trunk>,
    /// Who is told of events.
    pub endpoints: Vec<Endpoint>,
    /// By id.
    pub agents: BTreeMap<String, Agent>,
    /// By id; those that steps refer to stand in the steps as well.
    pub actions: BTreeMap<String, Action>,
    /// By id.
    pub workflows: BTreeMap<String, Workflow>,
}

impl Config {
    /// The route of a call to `called`, the user part of the request URI, that came in by a trunk.
    pub fn route(&self, called: &str, trunk: &str) -> Option<&Route> {
        self.routes.iter().find(|route| {
            route.called.fits(called) && route.trunk.as_ref().is_none_or(|wanted| wanted.as_str() == trunk)
        })
    }

    /// What a call on this route needs to know, made once when the files were read.
    pub fn plan(&self, route: &Route) -> Arc<Plan> {
        Arc::clone(&route.plan)
    }

    /// The file of a clip by its name with the variables filled in; `None` when the name, which a value may have
    /// bent, leads out of the folder of prompts.
    pub fn clip(&self, name: &str) -> Option<PathBuf> {
        inside(name).is_ok().then(|| self.gateway.prompts.join(name))
    }

    /// The trunk that calls from this address belong to: the one with the narrowest network that holds it.
    pub fn trunk_of(&self, source: IpAddr) -> Option<&Trunk> {
        // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d.
        let source = source.to_canonical();
        let narrowest = |trunk: &Trunk| trunk.allowed.iter().filter(|c| c.holds(source)).map(|c| c.prefix).max();
        self.trunks
            .values()
            .filter_map(|trunk| Some((narrowest(trunk)?, trunk)))
            .max_by_key(|(p, _)| *p)
            .map(|(_, t)| t)
    }
}

/// The gateway's own affairs: where it listens, what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Where SIP is spoken.
    pub sip: SipListeners,
    /// Where audio flows.
    pub media: Media,
    /// Where things are kept.
    pub store: Store,
    /// How much work is taken.
    pub limits: Limits,
    /// Whom actions and webhooks may reach.
    pub egress: Egress,
    /// Where health and metrics are served; `None` serves none.
    pub admin: Option<SocketAddr>,
    /// The folder of the prompt clips.
    pub prompts: PathBuf,
}

/// Where SIP is spoken; at least one socket in all. Port 0 takes any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SipListeners {
    /// UDP sockets.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners.
    pub tcp: Vec<SocketAddr>,
}

/// Where audio flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// The address in our SDP; never unspecified.
    pub address: IpAddr,
    /// The first RTP port, even.
    pub port_first: u16,
    /// The last port, its RTCP included.
    pub port_last: u16,
    /// Media threads.
    pub threads: usize,
    /// Audio is neither sent to nor taken from another machine.
    pub loopback_only: bool,
}

/// Where things are kept. Relative paths start at the working directory, as everywhere on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The SQLite database.
    pub path: PathBuf,
    /// The folder of journals and recordings.
    pub data_dir: PathBuf,
}

/// How much work is taken; more is answered with 503 and Retry-After.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once.
    pub max_calls: u32,
    /// New calls in a second.
    pub max_calls_per_second: u32,
}

/// Whom actions and webhooks may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Whether private, loopback and link-local addresses may be reached.
    pub private: Private,
    /// Origins that may be reached even if private.
    pub allow: Vec<Origin>,
}

/// What happens to a request for a private address that is not on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    /// It is refused.
    Deny,
    /// It is made.
    Allow,
}

/// Where calls to a number go.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which numbers.
    pub called: Called,
    /// Only calls of this trunk; `None`: of every trunk.
    pub trunk: Option<String>,
    /// Where they go.
    pub to: Destination,
    pub(super) plan: Arc<Plan>,
}

/// Which called numbers a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// This one.
    Exactly(String),
    /// Those that begin like this.
    Prefix(String),
    /// All.
    Any,
}

impl Called {
    /// Whether a called user part is meant.
    pub fn fits(&self, called: &str) -> bool {
        match self {
            Called::Exactly(number) => number == called,
            Called::Prefix(prefix) => called.starts_with(prefix.as_str()),
            Called::Any => true,
        }
    }

    /// Whether every number that fits `other` fits this as well.
    pub fn covers(&self, other: &Called) -> bool {
        match (self, other) {
            (Called::Any, _) => true,
            (Called::Prefix(prefix), Called::Exactly(longer) | Called::Prefix(longer)) => longer.starts_with(prefix),
            (Called::Exactly(a), Called::Exactly(b)) => a == b,
            (Called::Exactly(_), Called::Prefix(_) | Called::Any) | (Called::Prefix(_), Called::Any) => false,
        }
    }
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Called::Exactly(number) => f.write_str(number),
            Called::Prefix(prefix) => write!(f, "{prefix}*"),
            Called::Any => f.write_str("*"),
        }
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the agent of this id.
    Agent(String),
    /// Nowhere: the caller gets a SIP status.
    Refuse {
        /// 400 to 699.
        status: u16,
        /// Seconds after which to try again.
        retry_after_s: Option<u32>,
    },
}

/// One SIP peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// The file's stem.
    pub id: String,
    /// For people.
    pub title: String,
    /// Networks it calls us from; at least one.
    pub allowed: Vec<Cidr>,
    /// How we call out through it; `None`: we do not.
    pub outbound: Option<Outbound>,
}

/// How we call out through a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Where numbers are dialled: a SIP URI without a user part.
    pub uri: String,
    /// The number we show; `None` shows the caller's.
    pub caller_id: Option<String>,
}

impl Outbound {
    /// The request URI for an address: a number becomes the user part of the trunk's URI, a SIP URI stays as it is.
    pub fn uri_of(&self, to: &Address) -> String {
        match to {
            Address::Uri(uri) => uri.clone(),
            // RFC 3261 §25.1: `#` may not stand bare in a user part.
            Address::Number(number) => match self.uri.split_once(':') {
                Some((scheme, host)) => format!("{scheme}:{}@{host}", number.replace('#', "%23")),
                None => self.uri.clone(),
            },
        }
    }
}

/// Somebody who is told of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name in deliveries.
    pub id: String,
    /// Where events are posted to.
    pub url: String,
    /// Which events.
    pub events: Vec<String>,
    /// The signing secret, `whsec_…`.
    pub secret: SecretRef,
    /// One attempt, from resolving the name to the answer.
    pub timeout: Duration,
    /// Whether it is told at all.
    pub enabled: bool,
}

/// A network: `203.0.113.0/28`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    /// The network's address; bits behind the prefix are zero.
    pub network: IpAddr,
    /// Bits that count.
    pub prefix: u8,
}

impl Cidr {
    /// Whether an address lies in it.
    pub fn holds(&self, address: IpAddr) -> bool {
        Cidr::masked(address, self.prefix).is_some_and(|network| network == self.network)
    }

    fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
        match address {
            IpAddr::V4(v4) if prefix <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Some(IpAddr::V4((u32::from(v4) & mask).into()))
            }
            IpAddr::V6(v6) if prefix <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Some(IpAddr::V6((u128::from(v6) & mask).into()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// The error is a hint: what to write instead.
    fn from_str(text: &str) -> Result<Cidr, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let wrong = || "write a network as 203.0.113.0/28 or 2001:db8::/32, or one address".to_owned();
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix: u8 = match prefix {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
            None => longest,
        };
        let network = Cidr::masked(address, prefix).ok_or_else(|| format!("the prefix is at most {longest}"))?;
        if network != address {
            return Err(format!("bits are set behind the prefix; write {network}/{prefix}"));
        }
        Ok(Cidr { network, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        let office: Cidr = "203.0.113.16/28".parse().unwrap();
        let world: Cidr = "::/0".parse().unwrap();

        assert!(office.holds("203.0.113.31".parse().unwrap()));
        assert!(!office.holds("203.0.113.32".parse().unwrap()));
        assert!(!office.holds("::1".parse().unwrap()));
        assert!(world.holds("2001:db8::1".parse().unwrap()) && !world.holds("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_network_with_stray_bits_is_corrected_not_guessed() {
        assert_eq!("10.0.0.1/8".parse::<Cidr>().unwrap_err(), "bits are set behind the prefix; write 10.0.0.0/8");
        assert!("10.0.0.0/33".parse::<Cidr>().is_err());
        assert!("10.0.0.0/+8".parse::<Cidr>().is_err());
        assert!("carrier.example".parse::<Cidr>().is_err());
    }

    #[test]
    fn a_pattern_covers_what_is_narrower() {
        let prefix = Called::Prefix("+44".into());

        assert!(prefix.covers(&Called::Exactly("+4420".into())) && prefix.covers(&Called::Prefix("+442".into())));
        assert!(!prefix.covers(&Called::Any) && Called::Any.covers(&prefix));
        assert!(prefix.fits("+4420") && !prefix.fits("4420"));
    }

    #[test]
    fn numbers_are_dialled_at_the_trunk_and_uris_directly() {
        let out = Outbound { uri: "sip:sbc.example:5070;transport=tcp".into(), caller_id: None };

        assert_eq!(out.uri_of(&"+4420".parse().unwrap()), "sip:+4420@sbc.example:5070;transport=tcp");
        assert_eq!(out.uri_of(&"*31#".parse().unwrap()), "sip:*31%23@sbc.example:5070;transport=tcp");
        assert_eq!(out.uri_of(&"sip:desk@10.0.0.1".parse().unwrap()), "sip:desk@10.0.0.1");
    }
}
