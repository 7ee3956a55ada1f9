//! What is known of the trunks right now: which gateways live, whether we are registered, how many calls went how.
//!
//! Calls ask it for the order of gateways and tell it what became of them; `upkeep` keeps it true; the admin listener
//! shows it. Nothing here waits, and no lock is held for longer than a look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use metrics::counter;
use serde::Serialize;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::clock::HouseClock;
use super::upkeep;
use crate::guard::Contacts;
use crate::model::{Time, limits};
use crate::trunk::gateways::{self, Heard, Pulse, Sign, Standing};
use crate::trunk::registrar::{Answer, Ask, Change, Registrar};
use crate::trunk::{Outbound, Registration, Trunk};

/// All trunks.
#[derive(Debug)]
pub(super) struct Trunks {
    clock: HouseClock,
    of: RwLock<BTreeMap<String, Arc<Tended>>>,
    /// Calls that come to one of these users come over a registration. Shared with whoever judges calls.
    contacts: Contacts,
    /// Gateways that are to be asked sooner than planned.
    hurried: Mutex<BTreeSet<(String, usize)>>,
    pub(super) hurry: Notify,
}

/// One trunk, looked after.
#[derive(Debug)]
pub(super) struct Tended {
    pub(super) id: String,
    title: String,
    pub(super) gateways: Vec<String>,
    probe: Option<Duration>,
    pub(super) registration: Option<Registration>,
    /// User part of the Contact that we register: unguessable, and the same for the life of the process.
    pub(super) contact_user: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pulses: Vec<Pulse>,
    registrar: Option<Registrar>,
    /// Whether the way to the registrar that has us is open.
    flow: Option<Pulse>,
    /// The last answer to REGISTER, in words.
    registered: Option<(Time, String)>,
    calls: BTreeMap<(&'static str, &'static str), u64>,
}

impl Trunks {
    /// Every trunk of a configuration, as it is before anybody was asked.
    pub(super) fn new(clock: HouseClock, trunks: &BTreeMap<String, Trunk>) -> Trunks {
        let (of, contacts, hurried) = (RwLock::default(), Contacts::default(), Mutex::default());
        let all = Trunks { clock, of, contacts, hurried, hurry: Notify::new() };
        all.follow(trunks);
        all
    }

    /// Takes another configuration over. What is known of trunks that are reached as before stays.
    pub(super) fn follow(&self, trunks: &BTreeMap<String, Trunk>) {
        let now = self.clock.now();
        let count = |trunk: &Trunk| trunk.outbound.as_ref().map_or(0, |outbound| outbound.gateways.len()) + 1;
        let asked = u32::try_from(trunks.values().map(count).sum::<usize>()).unwrap_or(u32::MAX);
        // All that there is to ask is spread so that no more than this many go out in a second.
        let spread = Duration::from_secs(1).saturating_mul(asked) / limits::UPKEEP_STARTS_PER_SECOND;
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *of);
        for (id, trunk) in trunks {
            let tended = match before.remove(id) {
                Some(known) if known.is_reached_as(trunk) => known,
                known => {
                    let tended = Tended::new(now, trunk, spread, &upkeep::chance);
                    if let Some(known) = known {
                        tended.state().calls = std::mem::take(&mut known.state().calls);
                        self.contacts.remove(&known.contact_user);
                    }
                    if tended.registration.is_some() {
                        self.contacts.add(&tended.contact_user, id);
                    }
                    Arc::new(tended)
                }
            };
            of.insert(id.clone(), tended);
        }
        for gone in before.values() {
            self.contacts.remove(&gone.contact_user);
        }
    }

    pub(super) fn clock(&self) -> HouseClock {
        self.clock
    }

    /// The contacts that we register, for whoever judges calls.
    pub(super) fn contacts(&self) -> Contacts {
        self.contacts.clone()
    }

    pub(super) fn all(&self) -> Vec<Arc<Tended>> {
        self.of.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn get(&self, trunk: &str) -> Option<Arc<Tended>> {
        self.of.read().unwrap_or_else(PoisonError::into_inner).get(trunk).cloned()
    }

    /// The order in which a call tries the gateways of a trunk, as places in its configuration.
    pub(super) fn order(&self, trunk: &str, outbound: &Outbound) -> Vec<usize> {
        let count = outbound.gateways.len();
        match self.get(trunk) {
            Some(tended) if tended.gateways.len() == count => gateways::order(&tended.state().pulses, self.clock.now()),
            _ => (0..count).collect(),
        }
    }

    /// Routes for calls over a trunk that a registrar gave (RFC 3608); empty when there are none.
    pub(super) fn service_route(&self, trunk: &str) -> Vec<String> {
        let Some(tended) = self.get(trunk) else { return Vec::new() };
        let state = tended.state();
        state.registrar.as_ref().map(|registrar| registrar.service_route(self.clock.now()).to_vec()).unwrap_or_default()
    }

    /// What became of a call on a gateway.
    pub(super) fn called(&self, trunk: &str, gateway: &str, sign: Sign) {
        let Some(tended) = self.get(trunk) else { return };
        let Some(at) = tended.gateways.iter().position(|known| known == gateway) else { return };
        let change = tended.state().pulses.get_mut(at).and_then(|pulse| pulse.called(self.clock.now(), sign));
        tended.tell(at, change, "a call");
        if sign != Sign::Alive {
            self.hurried.lock().unwrap_or_else(PoisonError::into_inner).insert((tended.id.clone(), at));
            self.hurry.notify_one();
        }
    }

    /// Gateways whose next question has been moved forward since this was last asked.
    pub(super) fn take_hurried(&self) -> BTreeSet<(String, usize)> {
        std::mem::take(&mut *self.hurried.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A call by a trunk has come to its end, or to nothing.
    pub(super) fn count(&self, trunk: &str, direction: &'static str, cause: &'static str) {
        let Some(tended) = self.get(trunk) else { return };
        *tended.state().calls.entry((direction, cause)).or_default() += 1;
        let labels = [("trunk", tended.id.clone()), ("direction", direction.into()), ("cause", cause.into())];
        counter!("ringback_trunk_calls_total", &labels).increment(1);
    }

    /// Everything, for whoever looks.
    pub(super) fn snapshot(&self) -> Vec<TrunkState> {
        let now = self.clock.now();
        self.all().iter().map(|tended| tended.snapshot(now, &self.clock)).collect()
    }
}

impl Tended {
    fn new(now: Time, trunk: &Trunk, spread: Duration, chance: &impl Fn() -> u64) -> Tended {
        let outbound = trunk.outbound.as_ref();
        let gateways = outbound.map(|outbound| outbound.gateways.clone()).unwrap_or_default();
        let probe = outbound.and_then(|outbound| outbound.probe);
        let within = probe.map_or(spread, |every| every.min(spread));
        let pulses = gateways.iter().map(|_| Pulse::new(now, probe, within, chance())).collect();
        let keep_alive = trunk.registration.as_ref().and_then(|registration| registration.keep_alive);
        let flow = keep_alive.map(|every| Pulse::new(now, Some(every), Duration::ZERO, 0));
        let registrar = trunk.registration.as_ref().map(|registration| {
            Registrar::new(now, registration.registrars.len(), registration.expires, spread, chance())
        });
        Tended {
            id: trunk.id.clone(),
            title: trunk.title.clone(),
            gateways,
            probe,
            registration: trunk.registration.clone(),
            contact_user: format!("{:016x}{:016x}", chance(), chance()),
            state: Mutex::new(State { pulses, registrar, flow, registered: None, calls: BTreeMap::new() }),
        }
    }

    /// Whether a trunk of a new configuration is reached like this one.
    fn is_reached_as(&self, trunk: &Trunk) -> bool {
        let outbound = trunk.outbound.as_ref();
        let gateways = outbound.map(|outbound| outbound.gateways.as_slice()).unwrap_or_default();
        self.title == trunk.title
            && self.gateways == gateways
            && self.probe == outbound.and_then(|outbound| outbound.probe)
            && self.registration == trunk.registration
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a gateway is to be asked.
    pub(super) fn due(&self, gateway: usize) -> Option<Time> {
        self.state().pulses.get(gateway).and_then(Pulse::due)
    }

    pub(super) fn ask(&self, gateway: usize) {
        if let Some(pulse) = self.state().pulses.get_mut(gateway) {
            pulse.asked();
        }
    }

    pub(super) fn heard(&self, gateway: usize, heard: Heard, chance: u64) {
        let words = heard.words.clone();
        let change = self.state().pulses.get_mut(gateway).and_then(|pulse| pulse.heard(heard, chance));
        self.tell(gateway, change, &words);
    }

    /// When a REGISTER is to be sent.
    pub(super) fn register_due(&self) -> Option<Time> {
        self.state().registrar.as_ref().and_then(Registrar::due)
    }

    pub(super) fn register(&self) -> Option<Ask> {
        self.state().registrar.as_mut().map(Registrar::ask)
    }

    /// When the way to the registrar is to be kept open; `None` while there is none.
    pub(super) fn flow_due(&self, now: Time) -> Option<Time> {
        let state = self.state();
        state.registrar.as_ref()?.bound_until(now)?;
        state.flow.as_ref()?.due()
    }

    /// The registrar that has us gets a sign of life.
    pub(super) fn keep_open(&self, now: Time) -> Option<String> {
        let mut state = self.state();
        let registrar = state.registrar.as_ref()?;
        registrar.bound_until(now)?;
        let uri = self.registration.as_ref()?.registrars.get(registrar.registrar()).cloned();
        state.flow.as_mut()?.asked();
        uri
    }

    /// What came back; `true` when nothing comes any more, so that we had better register again.
    pub(super) fn flowed(&self, heard: Heard, chance: u64) -> bool {
        let (now, mut state) = (heard.at, self.state());
        let change = state.flow.as_mut().and_then(|flow| flow.heard(heard, chance));
        let is_dead = matches!(change, Some((_, Standing::Down)));
        if let Some(registrar) = state.registrar.as_mut().filter(|_| is_dead) {
            warn!(trunk = self.id, "the registrar keeps silent; registering again");
            registrar.hurry(now);
        }
        is_dead
    }

    pub(super) fn leave(&self, now: Time) -> Option<Ask> {
        self.state().registrar.as_mut().and_then(|registrar| registrar.leave(now))
    }

    pub(super) fn registered(&self, now: Time, answer: Answer, words: String, chance: u64) {
        let mut state = self.state();
        let is_bound = matches!(answer, Answer::Granted { .. });
        let Some(registrar) = &mut state.registrar else { return };
        let change = registrar.answered(now, answer, chance);
        let in_s = registrar.due().map_or(0, |due| (due - now).as_secs());
        let was_bound = registrar.bound_until(now).is_some();
        let is_news = state.registered.as_ref().is_none_or(|(_, last)| *last != words);
        state.registered = Some((now, words.clone()));
        drop(state);
        let trunk = &self.id;
        match change {
            Some(Change::Registered) => info!(trunk, answer = words, "registered"),
            Some(Change::Lost) => warn!(trunk, answer = words, "the registration is lost; nobody can call us over it"),
            // The same trouble again and again is told once.
            None if !is_bound && is_news => {
                warn!(trunk, answer = words, was_bound, in_s, "not registered; trying again")
            }
            None => {}
        }
    }

    fn tell(&self, gateway: usize, change: Option<(Standing, Standing)>, words: &str) {
        let (trunk, gateway) = (&self.id, self.gateways.get(gateway).map_or("", String::as_str));
        match change {
            Some((Standing::Unknown, Standing::Up)) => info!(trunk, gateway, "gateway is up"),
            Some((Standing::Down, _)) => info!(trunk, gateway, answer = words, "gateway is up again"),
            Some((_, Standing::Down)) => {
                warn!(trunk, gateway, answer = words, "gateway is down; calls try the others first")
            }
            // Suspicion comes and goes.
            Some(_) | None => {}
        }
    }

    fn snapshot(&self, now: Time, clock: &HouseClock) -> TrunkState {
        let state = self.state();
        let gateways: Vec<GatewayState> = self
            .gateways
            .iter()
            .zip(&state.pulses)
            .map(|(uri, pulse)| GatewayState {
                uri: uri.clone(),
                state: pulse.standing().label(),
                since_unix_ms: clock.unix_ms(pulse.since()),
                last: pulse.last().map(|heard| LastAnswer {
                    at_unix_ms: clock.unix_ms(heard.at),
                    answer: heard.words.clone(),
                    round_trip_ms: heard.round_trip.map(|time| time.as_secs_f64() * 1e3),
                }),
            })
            .collect();
        let registration = self.registration.as_ref().zip(state.registrar.as_ref()).map(|(registration, registrar)| {
            let until = registrar.bound_until(now);
            RegistrationState {
                aor: registration.aor.clone(),
                registrar: registration.registrars.get(registrar.registrar()).cloned().unwrap_or_default(),
                registered: until.is_some(),
                since_unix_ms: clock.unix_ms(registrar.since()),
                expires_unix_ms: until.map(|until| clock.unix_ms(until)),
                next_unix_ms: registrar.due().map(|due| clock.unix_ms(due)),
                failures: registrar.failures(),
                last: state.registered.as_ref().map(|(at, words)| LastAnswer {
                    at_unix_ms: clock.unix_ms(*at),
                    answer: words.clone(),
                    round_trip_ms: None,
                }),
            }
        });
        let has_way = gateways.is_empty() || gateways.iter().any(|gateway| gateway.state != Standing::Down.label());
        let is_bound = registration.as_ref().is_none_or(|registration| registration.registered);
        let calls = state.calls.iter();
        TrunkState {
            id: self.id.clone(),
            title: self.title.clone(),
            up: has_way && is_bound,
            gateways,
            registration,
            calls: calls.map(|((direction, cause), count)| Calls { direction, cause, count: *count }).collect(),
        }
    }
}

/// One trunk as it is seen from outside.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrunkState {
    #[allow(missing_docs)]
    pub id: String,
    /// For people.
    pub title: String,
    /// At least one gateway is not down, and we are registered where we should be.
    pub up: bool,
    /// In the order of the configuration.
    pub gateways: Vec<GatewayState>,
    #[allow(missing_docs)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationState>,
    /// Calls that ended, or came to nothing, since the gateway started.
    pub calls: Vec<Calls>,
}

/// One gateway.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GatewayState {
    #[allow(missing_docs)]
    pub uri: String,
    /// `up`, `down`, `suspect` or `unknown`.
    pub state: &'static str,
    /// Since when.
    pub since_unix_ms: i64,
    /// The last answer to OPTIONS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastAnswer>,
}

/// A registration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RegistrationState {
    /// The address of record.
    pub aor: String,
    /// The registrar that has us, or that is asked next.
    pub registrar: String,
    /// Calls can reach us over it.
    pub registered: bool,
    /// Since when it is so.
    pub since_unix_ms: i64,
    /// When the binding ends if it is not renewed.
    pub expires_unix_ms: Option<i64>,
    /// When it is renewed, or tried again; `None` while an answer is waited for.
    pub next_unix_ms: Option<i64>,
    /// Rounds in a row in which every registrar failed.
    pub failures: u32,
    /// The last answer to REGISTER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastAnswer>,
}

/// What came last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LastAnswer {
    /// When.
    pub at_unix_ms: i64,
    /// The status line, or why there was none.
    pub answer: String,
    /// From question to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
}

/// Calls with the same end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// Why they ended.
    pub cause: &'static str,
    #[allow(missing_docs)]
    pub count: u64,
}
