//! Opening and closing the house.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use super::certificates::Certificates;
use super::clips::Clips;
use super::clock::{HouseClock, unix_ms};
use super::house::{House, Watched};
use super::journals::Journals;
use super::recordings::{self, Shelf};
use super::registry::Registry;
use super::reload::{self, Loader, ReloadError, Reloaded};
use super::switchboard::{Ask, Switchboard};
use super::trunks::{TrunkState, Trunks};
use super::{access, admin, ears, finish, sip_tls, upkeep};
use crate::actions::{Action, Connector, SecretRef, Verb};
use crate::call::Cause;
use crate::config::{self, Config};
use crate::guard::{self, InForce};
use crate::media::{RtpPorts, Workers, WorkersConfig};
use crate::services::{Egress, Http, Private, Secrets};
use crate::sip::{Sip, SipConfig, SipCounters, Transport};
use crate::stir::Trust;
use crate::store::Store;
use crate::trunk::numbers;
use crate::webhook::{self, Schedule, Webhooks};
use crate::workflow::Workflows;

/// A gateway that takes calls.
#[derive(Debug)]
pub struct Gateway {
    house: Arc<House>,
    asks: mpsc::Sender<Ask>,
    admin: Option<SocketAddr>,
    leave: oneshot::Sender<oneshot::Sender<()>>,
    tasks: Mutex<JoinSet<()>>,
}

/// What a configuration does not say.
#[derive(Clone, Debug)]
pub struct Options {
    /// When a webhook is tried again.
    pub webhooks: Schedule,
    /// How the files are read again while calls are up; `None`: they are not.
    pub loader: Option<Loader>,
}

impl Default for Options {
    fn default() -> Options {
        Options { webhooks: Schedule::webhooks(), loader: None }
    }
}

impl Gateway {
    /// Opens everything, ends what an earlier process left open, and takes calls.
    ///
    /// # Errors
    /// The first thing that cannot be opened, by name.
    pub async fn start(config: Config, options: Options) -> Result<Gateway, StartError> {
        crate::services::tls::install();
        crate::observe::install();
        // Or the first caller would wait for it.
        let countries: Vec<String> = config.trunks.values().filter_map(|trunk| trunk.country.clone()).collect();
        let read = tokio::task::spawn_blocking(move || read_numbering_plans(&countries));
        let gateway = &config.gateway;
        let data = gateway.store.data_dir.clone();
        for folder in ["recordings", "journals"] {
            let folder = data.join(folder);
            std::fs::create_dir_all(&folder)
                .map_err(|error| StartError::new("data folder", folder.display(), error))?;
        }
        let path = &gateway.store.path;
        let store = Store::open(path).await.map_err(|error| StartError::new("store", path.display(), error))?;
        let journals = Journals::start(data.join("journals"))
            .map_err(|error| StartError::new("journals", data.display(), error))?;
        let shelf = Shelf::new(&config).map_err(|error| StartError::new("master key of recordings", "", error))?;
        let media = &gateway.media;
        let workers = WorkersConfig {
            threads: media.threads,
            rtp: RtpPorts { ip: media.address, first: media.port_first, last: media.port_last },
            loopback_only: media.loopback_only,
        };
        let (workers, notices) =
            Workers::start(workers).map_err(|error| StartError::new("media workers", "", error))?;
        let trunks = Trunks::new(HouseClock::start(), &config.trunks);
        let access = InForce::new(access::of(&config, &trunks.contacts()));
        let (sip, events) = Sip::bind(SipConfig {
            access: access.clone(),
            udp: gateway.sip.udp.clone(),
            tcp: gateway.sip.tcp.clone(),
            listen_tls: gateway.sip.tls.clone(),
            ws: gateway.sip.ws.clone(),
            wss: gateway.sip.wss.clone(),
            tls: sip_tls::read(&config)?,
            nameservers: gateway.sip.nameservers.clone(),
            advertised: gateway.sip.advertised.clone(),
            keep_alive: gateway.sip.keep_alive,
            user_agent: concat!("Ringback/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..SipConfig::default()
        })
        .await
        .map_err(|error| StartError::new("SIP", "", error))?;
        let http = Http::new(egress(&gateway.egress));
        sip.keep_traces(config.gateway.trace != config::KeepTrace::Off);
        let certificates = Arc::new(Certificates::new(http.clone(), trust(&config)?));
        let secrets = secrets(&config);
        let webhooks = Webhooks::start(&store, endpoints(&config)?, &http, &options.webhooks, unix_ms);
        let workflows = Workflows::start(&store, &http, Arc::new(secrets.clone()), Schedule::steps(), unix_ms);
        let (watch, _) = broadcast::channel(WATCH_MAX);
        let house = Arc::new(House {
            clips: Arc::new(Clips::new(gateway.prompts.clone())),
            registry: Registry::default(),
            trunks,
            tolls: Arc::default(),
            access,
            configs: watch::Sender::new(Arc::new(config)),
            sip,
            workers,
            http,
            certificates,
            secrets,
            store,
            webhooks,
            workflows,
            journals,
            shelf,
            watch,
            loader: options.loader,
            reloading: Mutex::new(()),
            is_draining: AtomicBool::new(false),
        });
        let orphans = finish::end_orphans(&house).await.map_err(|error| StartError::new("store", "", error))?;
        if orphans > 0 {
            warn!(orphans, "calls of a process that died have been ended");
        }
        house.tolls.recall(&house.store, &house.config()).await.map_err(|error| StartError::new("store", "", error))?;
        let mut tasks = JoinSet::new();
        let admin = match house.config().gateway.admin {
            Some(address) => {
                let bound = admin::serve(Arc::clone(&house), address, &mut tasks).await;
                Some(bound.map_err(|error| StartError::new("admin listener", address, error))?)
            }
            None => None,
        };
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        tasks.spawn(ears::listen(Arc::clone(&house), notices));
        let (leave, told) = oneshot::channel();
        tasks.spawn(upkeep::keep_up(Arc::clone(&house), told));
        tasks.spawn(recordings::clear_away(Arc::clone(&house)));
        tasks.spawn(Switchboard::new(Arc::clone(&house)).run(events, asked));
        // It panics on no number, and a plan that were missing would only cost the first caller its time.
        let _ = read.await;
        info!(revision = house.config().revision, "taking calls");
        Ok(Gateway { house, asks, admin, leave, tasks: Mutex::new(tasks) })
    }

    /// Where SIP is spoken.
    pub fn sip_addrs(&self) -> Vec<(SocketAddr, Transport)> {
        self.house.sip.local_addrs()
    }

    /// Where health and metrics are served.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What SIP has seen so far.
    pub fn sip_counters(&self) -> SipCounters {
        self.house.sip.counters()
    }

    /// Which gateways live, where we are registered, and how calls went, trunk by trunk.
    pub fn trunks(&self) -> Vec<TrunkState> {
        self.house.trunks.snapshot()
    }

    /// Calls that are up.
    pub fn calls(&self) -> usize {
        self.house.registry.len()
    }

    /// Looks on at every call from now on. Whoever does not keep up loses the oldest steps.
    pub fn watch(&self) -> broadcast::Receiver<Watched> {
        self.house.watch.subscribe()
    }

    /// What is kept.
    pub fn store(&self) -> &Store {
        &self.house.store
    }

    /// Reads the files again and takes what they say, without touching calls that are up.
    ///
    /// # Errors
    /// When there is a mistake in the files; then nothing is changed.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        reload::reload(&self.house).await
    }

    /// Takes no more calls and waits for those that are up; after `patience` they are ended.
    pub async fn drain(&self, patience: Duration) {
        self.house.is_draining.store(true, Ordering::Relaxed);
        let (done, mut drained) = oneshot::channel();
        // A switchboard that is gone has no calls left.
        if self.asks.send(Ask::Drain(done)).await.is_ok() && timeout(patience, &mut drained).await.is_err() {
            warn!(calls = self.calls(), "calls are ended, for patience is over");
            self.house.registry.end_all(Cause::Overload);
            let _ = timeout(ENDING_MAX, drained).await;
        }
    }

    /// Ends everything. Calls that are still up get a moment to end.
    pub async fn shutdown(self) {
        self.drain(Duration::ZERO).await;
        self.house.webhooks.stop(STOPPING_MAX).await;
        self.house.workflows.stop(STOPPING_MAX).await;
        let (done, left) = oneshot::channel();
        if self.leave.send(done).is_ok() {
            // It has a time limit of its own.
            let _ = left.await;
        }
        self.house.sip.shutdown().await;
        self.tasks.lock().await.shutdown().await;
        self.house.journals.stop().await;
        self.house.store.close().await;
        // The media workers end with the last hold on the house, and are waited for, which takes a moment.
        let house = self.house;
        let _ = tokio::task::spawn_blocking(move || drop(house)).await;
    }
}

fn read_numbering_plans(countries: &[String]) {
    guard::dialling::warm();
    let plans = countries.iter().map(|country| numbers::Country::of(country));
    for plan in plans.chain([None]) {
        numbers::normalise("+442079460000", plan.as_deref(), "");
    }
}

fn egress(egress: &config::Egress) -> Egress {
    Egress {
        private: match egress.private {
            config::Private::Deny => Private::Deny,
            config::Private::Allow => Private::Allow,
        },
        allow: egress.allow.iter().filter_map(|origin| origin.to_string().parse().ok()).collect(),
    }
}

fn endpoints(config: &Config) -> Result<Vec<webhook::Endpoint>, StartError> {
    let enabled = config.endpoints.iter().filter(|endpoint| endpoint.enabled);
    enabled
        .map(|endpoint| {
            let wrong = |error: &dyn fmt::Display| StartError::new("webhook endpoint", &endpoint.id, error);
            let secret = config::secret(&config.dir, &endpoint.secret).map_err(|error| wrong(&error))?;
            webhook::Endpoint::new(&endpoint.id, &endpoint.url, &[secret], endpoint.events.clone(), endpoint.timeout)
                .map_err(|error| wrong(&error))
        })
        .collect()
}

/// The roots of the signers whom we believe.
fn trust(config: &Config) -> Result<Option<Trust>, StartError> {
    let Some(path) = &config.gateway.identity.trust else { return Ok(None) };
    let wrong = |error: &dyn fmt::Display| StartError::new("list of trusted signers", path.display(), error);
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    Trust::from_pem(&pem).map(Some).map_err(|error| wrong(&error))
}

/// Every credential that an action or an agent may need. One that is missing fails what needs it, and says so now.
pub(super) fn secrets(config: &Config) -> Secrets {
    let of_agents = config.agents.values().filter_map(|agent| match &agent.connector {
        Connector::Vendor { secret, .. } => secret.clone(),
        Connector::Flow(_) | Connector::Echo => None,
    });
    let of_actions = config.actions.values().map(|Action { verb, .. }| verb);
    let of_steps = config.workflows.values().flat_map(|workflow| &workflow.steps).map(|step| &step.verb);
    let of_verbs = of_actions.chain(of_steps).filter_map(|verb| match verb {
        Verb::Api(api) => api.bearer.clone(),
        Verb::Say(_) | Verb::Menu(_) | Verb::Transfer(_) | Verb::HangUp(_) | Verb::Recording(_) => None,
    });
    let of_trunks = config.trunks.values().flat_map(|trunk| {
        let outbound = trunk.outbound.as_ref().and_then(|outbound| outbound.credentials.as_ref());
        let registration = trunk.registration.as_ref().and_then(|registration| registration.credentials.as_ref());
        outbound.into_iter().chain(registration).map(|credentials| credentials.password.clone())
    });
    let of_signing = config.trunks.values().filter_map(|trunk| Some(trunk.identity.sign.as_ref()?.key.clone()));
    let fetched = |reference: SecretRef| match config::secret(&config.dir, &reference) {
        Ok(secret) => Some((reference, secret)),
        Err(error) => {
            warn!(%error, "a credential is missing; what needs it will fail");
            None
        }
    };
    of_agents.chain(of_verbs).chain(of_trunks).chain(of_signing).filter_map(fetched).collect()
}

/// Why the gateway cannot open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    what: &'static str,
    which: String,
    why: String,
}

impl StartError {
    pub(super) fn new(what: &'static str, which: impl fmt::Display, why: impl fmt::Display) -> StartError {
        StartError { what, which: which.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gap = if self.which.is_empty() { "" } else { " " };
        write!(f, "cannot open {}{gap}{}: {}", self.what, self.which, self.why)
    }
}

impl std::error::Error for StartError {}

/// Steps kept for whoever looks on; a busy second makes a thousand. Slow onlookers lose the oldest.
const WATCH_MAX: usize = 4_096;
/// Requests of operators and shutdowns to the switchboard; there are hardly ever two.
const ASKS_MAX: usize = 8;
/// Calls that were told to end need a journal line, a record and, at most, the end of their recording.
const ENDING_MAX: Duration = Duration::from_secs(10);
/// A delivery under way gets this long before it is left to the next start.
const STOPPING_MAX: Duration = Duration::from_secs(5);
