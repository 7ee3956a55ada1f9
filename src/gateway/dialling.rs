//! Placing a call: the ways to try in turn, and what is left of them.
//!
//! Every outbound call passes through [`attempts`]. Who may dial what, how numbers are written, whom we show and which
//! headers go along is settled there, once, before anything is sent; [`Dialling`] then only counts down. The heart sees
//! one leg, however many gateways it took.

use std::collections::VecDeque;
use std::sync::Arc;

use metrics::counter;
use tokio::task::AbortHandle;
use tracing::warn;

use super::house::House;
use super::signing;
use super::tolls::Pass;
use crate::call::Cause;
use crate::model::{Address, CallId, LegId};
use crate::sip::ask::sign_of_call;
use crate::sip::{Dial, Failure, Login};
use crate::trunk::gateways::Sign;
use crate::trunk::{Credentials, Presented, Trunk};

/// One way to place a call: an INVITE to one gateway, complete but for our description.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Which gateway of the trunk, by its URI; `None` for a SIP URI that is dialled directly.
    pub(super) gateway: Option<String>,
    /// What is sent.
    pub(super) dial: Dial,
}

/// The ways to reach an address, best first; never empty. `said` is what the INVITE says beside.
///
/// # Errors
/// The cause that the leg fails with, when there is no way or none is allowed.
pub(super) fn attempts(
    house: &House,
    trunk: Option<&Trunk>,
    to: &Address,
    presented: Presented,
    said: Dial,
) -> Result<VecDeque<Attempt>, Cause> {
    let outbound = trunk.and_then(|trunk| trunk.outbound.as_ref());
    let rules = trunk.map(|trunk| trunk.session).unwrap_or_default();
    let plain =
        Dial { from_user: presented.user, from_display: presented.display, from_host: presented.host, rules, ..said };
    match (to, trunk.zip(outbound)) {
        // Directly, wherever it leads. The trunk's password is not shown to strangers.
        (Address::Uri(uri), _) => {
            // RFC 3325 §5: an asserted identity is for those who are trusted. That somebody hides is for everybody.
            let privacy = presented.headers.into_iter().filter(|(name, _)| name == "Privacy");
            let headers = plain.headers.iter().cloned().chain(privacy).collect();
            let dial = Dial { to: uri.clone(), headers, ..plain };
            Ok(VecDeque::from([Attempt { gateway: None, dial }]))
        }
        // A number, and no trunk that would carry it.
        (Address::Number(_), None) => Err(Cause::Unavailable),
        (Address::Number(_), Some((trunk, outbound))) => {
            let credentials = outbound.credentials.as_ref().and_then(|credentials| login(house, trunk, credentials));
            let plain = signing::signed(house, trunk, to, plain);
            let headers: Vec<_> = plain.headers.iter().cloned().chain(presented.headers).collect();
            let route = house.trunks.service_route(&trunk.id);
            let order = house.trunks.order(&trunk.id, outbound);
            let gateways = order.into_iter().filter_map(|at| outbound.gateways.get(at));
            let attempts = gateways.map(|gateway| Attempt {
                gateway: Some(gateway.clone()),
                dial: Dial {
                    to: trunk.dialled_uri(outbound, gateway, to),
                    headers: headers.clone(),
                    credentials: credentials.clone(),
                    silence: Some(outbound.silence),
                    route: route.clone(),
                    ..plain.clone()
                },
            });
            Ok(attempts.collect())
        }
    }
}

/// Credentials with their password; `None` when that cannot be had, which was said at the start.
pub(super) fn login(house: &House, trunk: &Trunk, credentials: &Credentials) -> Option<Login> {
    let Some(password) = house.secrets.get(&credentials.password) else {
        warn!(trunk = trunk.id, "the trunk's password is missing; the call goes on without");
        return None;
    };
    let Credentials { username, realm, .. } = credentials.clone();
    Some(Login { username, password, realm })
}

/// A task that is not needed any more when the leg is gone.
#[derive(Debug)]
struct Ending(AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A leg that is being dialled. When it is let go before its fate was told, it was canceled.
pub(super) struct Dialling {
    house: Arc<House>,
    trunk: Option<String>,
    /// What it uses of the trunk, until the leg is gone.
    pass: Pass,
    /// Ends it when it has lasted too long.
    ending: Option<Ending>,
    /// Still to be tried.
    left: VecDeque<Attempt>,
    /// The gateway that is being tried.
    gateway: Option<String>,
    /// Somebody's telephone rings: a 18x came.
    rang: bool,
    is_counted: bool,
}

impl Dialling {
    pub(super) fn new(house: &Arc<House>, trunk: Option<&Trunk>, pass: Pass, attempts: VecDeque<Attempt>) -> Dialling {
        Dialling {
            house: Arc::clone(house),
            trunk: trunk.map(|trunk| trunk.id.clone()),
            pass,
            left: attempts,
            gateway: None,
            rang: false,
            is_counted: false,
            ending: None,
        }
    }

    /// The next INVITE.
    pub(super) fn next(&mut self) -> Option<Dial> {
        let attempt = self.left.pop_front()?;
        self.gateway = attempt.gateway;
        Some(attempt.dial)
    }

    /// It rings; `true` the first time.
    pub(super) fn rings(&mut self) -> bool {
        !std::mem::replace(&mut self.rang, true)
    }

    /// Somebody is there, and costs from now on. The task ends it when it has lasted too long.
    pub(super) fn answered(&mut self, ending: AbortHandle) {
        self.pass.answered();
        self.ending = Some(Ending(ending));
        self.note(Sign::Alive);
        self.count("answered");
    }

    /// The attempt failed. Says so to whoever is on call, and whether the next is to be tried.
    pub(super) fn failed(&mut self, call: CallId, leg: LegId, failure: &Failure, cause: Cause) -> bool {
        self.note(sign_of_call(failure));
        let goes_on = failure.is_worth_another_way(self.rang) && !self.left.is_empty();
        let trunk = self.trunk.as_deref().unwrap_or("");
        if let Failure::Unauthorized { denial, .. } = failure {
            counter!("ringback_trunk_denied_total", "trunk" => trunk.to_owned(), "why" => denial.label()).increment(1);
            warn!(%call, %leg, trunk, gateway = self.gateway, %failure, "the trunk does not let us in");
        } else if goes_on {
            warn!(%call, %leg, trunk, gateway = self.gateway, %failure, "the next gateway is tried");
        } else if !matches!(failure, Failure::Refused { .. }) {
            // Somebody busy or away is no trouble; these are.
            warn!(%call, %leg, trunk, gateway = self.gateway, %failure, "a call cannot be placed");
        }
        if !goes_on {
            self.count(match failure {
                Failure::Unauthorized { denial, .. } => denial.label(),
                _ => cause.label(),
            });
        }
        goes_on
    }

    fn note(&self, sign: Sign) {
        if let (Some(trunk), Some(gateway)) = (&self.trunk, &self.gateway) {
            self.house.trunks.called(trunk, gateway, sign);
        }
    }

    fn count(&mut self, cause: &'static str) {
        if let Some(trunk) = self.trunk.as_ref().filter(|_| !std::mem::replace(&mut self.is_counted, true)) {
            self.house.trunks.count(trunk, "outbound", cause);
        }
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.count(Cause::Canceled.label());
    }
}
