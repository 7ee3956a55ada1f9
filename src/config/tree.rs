//! The configuration as the house works with it: checked, complete, and the same for the whole life of a call.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Origin;
use super::check::inside;
use super::raw::{ClientCertificates, RecordingFormat};
use crate::actions::{Action, Agent, Forward, Plan, SecretRef, Workflow};
use crate::guard::Protection;
use crate::route::{Asked, Pattern, Rule};
use crate::trunk::Trunk;

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
    /// The route of a call.
    pub fn route(&self, asked: &Asked<'_>) -> Option<&Route> {
        self.routes.iter().find(|route| route.rule.why_not(asked).is_none())
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
    /// How recordings are kept.
    pub recordings: Recordings,
    /// How much work is taken.
    pub limits: Limits,
    /// How strangers are kept out.
    pub protection: Protection,
    /// Whom actions and webhooks may reach.
    pub egress: Egress,
    /// Of which calls the SIP messages are kept.
    pub trace: KeepTrace,
    /// Whose signatures of callers' identities are believed.
    pub identity: Signers,
    /// Where health and metrics are served; `None` serves none.
    pub admin: Option<SocketAddr>,
    /// How browsers call; `None`: they do not.
    pub browsers: Option<Browsers>,
    /// The folder of the prompt clips.
    pub prompts: PathBuf,
}

/// How recordings are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recordings {
    /// What is in the files.
    pub format: RecordingFormat,
    /// The master key that seals them; `None` keeps them in the clear.
    pub key: Option<SecretRef>,
    /// After which they are destroyed; `None` keeps them.
    pub keep: Option<Duration>,
}

/// Where SIP is spoken; at least one socket in all. Port 0 takes any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SipListeners {
    /// UDP sockets.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners.
    pub tcp: Vec<SocketAddr>,
    /// TLS listeners.
    pub tls: Vec<SocketAddr>,
    /// WebSocket listeners without TLS.
    pub ws: Vec<SocketAddr>,
    /// WebSocket listeners within TLS.
    pub wss: Vec<SocketAddr>,
    /// Origins of web pages that may connect to those two; `None`: all.
    pub origins: Option<Vec<String>>,
    /// The address or host name that others reach us by; `None`: the one that we listen on.
    pub advertised: Option<String>,
    /// DNS servers; `None`: the system's.
    pub nameservers: Option<Vec<SocketAddr>>,
    /// How often a connection that we opened is kept awake.
    pub keep_alive: Duration,
    /// Certificates, ours and theirs.
    pub certificates: Certificates,
}

/// Where certificates are. Paths are complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// Our chain.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<SecretRef>,
    /// Whether TLS listeners ask for certificates.
    pub client: ClientCertificates,
    /// The authorities of those.
    pub client_ca: Option<PathBuf>,
    /// The authorities of servers that we connect to; `None`: the system's.
    pub trust: Option<PathBuf>,
    /// Whether a `*` in their names stands for one label.
    pub wildcards: bool,
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
    /// Mean time between two RTCP reports; `None`: none are sent.
    pub rtcp_interval: Option<Duration>,
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

/// Of which calls the SIP messages are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepTrace {
    /// Of none.
    Off,
    /// Of those that failed or were not answered.
    #[default]
    Failed,
    /// Of all.
    All,
}

/// Whose signatures of callers' identities are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers {
    /// A PEM file with the roots of all signers; `None` believes nobody.
    pub trust: Option<PathBuf>,
}

/// How browsers call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browsers {
    /// The HTTP listener.
    pub listen: SocketAddr,
    /// Where their audio comes, one for each family.
    pub udp: Vec<SocketAddr>,
    /// The addresses they are told; port 0 for that of the socket. None: those of `udp`.
    pub advertised: Vec<SocketAddr>,
    /// We look for a way as well.
    pub is_full: bool,
    /// Who tells us our address.
    pub stun: Option<SocketAddr>,
    /// Servers for the browsers themselves.
    pub ice_servers: Vec<IceServer>,
    /// The trunk that their calls come by.
    pub trunk: String,
    /// Whom they may call.
    pub numbers: Vec<Pattern>,
    /// Pages that may call, as browsers write them.
    pub origins: Vec<String>,
    /// What signs their tokens; `None`: they need none.
    pub secret: Option<SecretRef>,
    /// Calls of one address in a minute.
    pub calls_per_minute: u32,
    /// Serve a page that calls.
    pub page: bool,
}

/// A STUN or TURN server for browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:` or `turn:` and where.
    pub url: String,
    /// Its name and password for them.
    pub username: Option<String>,
    /// See `username`.
    pub credential: Option<SecretRef>,
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

/// Where some calls go.
#[derive(Clone, Debug)]
pub struct Route {
    /// Which calls.
    pub rule: Rule,
    /// Where they go.
    pub to: Destination,
    pub(super) plan: Arc<Plan>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the agent of this id.
    Agent(String),
    /// To another trunk.
    Forward(Forward),
    /// Nowhere: the caller gets a SIP status.
    Refuse {
        /// 400 to 699.
        status: u16,
        /// The words beside it; the usual ones when `None`.
        reason: Option<String>,
        /// Seconds after which to try again.
        retry_after_s: Option<u32>,
    },
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
