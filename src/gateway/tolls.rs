//! Who may dial what, and how much of a trunk is used: the guard's rules, asked with what the gateway knows.
//!
//! Every leg on a trunk holds a [`Pass`] as long as it lives, inbound and outbound.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use metrics::counter;
use tracing::warn;

use super::clock::unix_ms;
use crate::actions::Plan;
use crate::call::Cause;
use crate::config::{Config, Destination};
use crate::guard::dialling::{self, Allowed, Attempt, Rule};
use crate::guard::{Ledger, Ticket};
use crate::model::{Address, CallId};
use crate::store::{CallOpen, Store, StoreError};
use crate::trunk::Trunk;

/// What all calls have used.
#[derive(Debug, Default)]
pub(super) struct Tolls {
    ledger: Mutex<Ledger>,
}

/// A leg that was let in or out. What it uses ends when it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    tolls: Arc<Tolls>,
    /// `None` for what costs nothing and is not counted: emergency calls, and SIP URIs without a trunk.
    ticket: Option<Ticket>,
}

impl Tolls {
    /// Lets a call of a trunk in.
    pub(super) fn let_in(self: &Arc<Tolls>, trunk: &Trunk) -> Result<Pass, Rule> {
        let ticket = self.ledger().enter(unix_ms(), &trunk.id, &trunk.limits)?;
        Ok(Pass { tolls: Arc::clone(self), ticket: Some(ticket) })
    }

    /// Lets a leg out, or says why not: to the log and the metrics, and as a cause to the call.
    pub(super) fn let_out(
        self: &Arc<Tolls>,
        config: &Config,
        plan: &Plan,
        trunk: Option<&Trunk>,
        to: &Address,
        open: &CallOpen,
    ) -> Result<Pass, Cause> {
        self.judge(config, plan, trunk, to, open).map_err(|rule| {
            say(open.id, trunk, rule);
            match rule {
                Rule::NoTrunk => Cause::Unavailable,
                Rule::Calls | Rule::CallsPerSecond => Cause::Overload,
                Rule::NoNumber => Cause::NotFound,
                Rule::NotPlain
                | Rule::RefusedPrefix
                | Rule::Country
                | Rule::Premium
                | Rule::ShortCode
                | Rule::Host
                | Rule::OwnNumber
                | Rule::Minutes
                | Rule::AgentHour => Cause::NotAllowed,
            }
        })
    }

    /// Counts what earlier processes of this day used, as far as records tell: the whole of every call that was given to
    /// somebody, by the trunk it came over. That is rather too much than too little. Asked only when minutes are limited.
    pub(super) async fn recall(&self, store: &Store, config: &Config) -> Result<(), StoreError> {
        if config.trunks.values().all(|trunk| trunk.limits.minutes_per_day.is_none()) {
            return Ok(());
        }
        let now = unix_ms();
        let midnight = Timestamp::from_millisecond(now - now.rem_euclid(DAY_MS)).unwrap_or_default();
        for record in store.calls(RECALLED_MAX).await? {
            let is_today = record.end_time.parse::<Timestamp>().is_ok_and(|end| end >= midnight);
            if let (true, Some(trunk), Some(_)) = (is_today, &record.trunk, &record.transferred_to) {
                let used_ms = i64::try_from(record.duration).unwrap_or(0).saturating_mul(1_000);
                self.ledger().already(now, trunk, used_ms);
            }
        }
        Ok(())
    }

    fn judge(
        self: &Arc<Tolls>,
        config: &Config,
        plan: &Plan,
        trunk: Option<&Trunk>,
        to: &Address,
        open: &CallOpen,
    ) -> Result<Pass, Rule> {
        let allowed = dialling::judge(Attempt { to, is_written: plan.names(to), trunk })?;
        let pass = |ticket| Pass { tolls: Arc::clone(self), ticket };
        let (trunk, e164) = match (allowed, trunk) {
            (Allowed::Number { e164, .. }, Some(trunk)) => (trunk, e164),
            (Allowed::Emergency | Allowed::Uri, _) | (Allowed::Number { .. }, None) => return Ok(pass(None)),
        };
        if is_own(config, to.as_str(), e164.as_deref()) {
            return Err(Rule::OwnNumber);
        }
        let agent = open.agent.as_deref().unwrap_or("");
        let ticket = self.ledger().dial(unix_ms(), &trunk.id, agent, &trunk.limits)?;
        Ok(pass(Some(ticket)))
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The leg is answered; from now on it costs.
    pub(super) fn answered(&self) {
        if let Some(ticket) = self.ticket {
            self.tolls.ledger().answer(unix_ms(), ticket);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.tolls.ledger().close(unix_ms(), ticket);
        }
    }
}

/// Whether a call to this number would come back to one of our agents.
fn is_own(config: &Config, number: &str, e164: Option<&str>) -> bool {
    let bare = |number: &str| number.trim_start_matches('+').to_owned();
    let ours = [Some(bare(number)), e164.map(bare)];
    config.routes.iter().any(|route| match (route.rule.called.only(), &route.to) {
        (Some(own), Destination::Agent(_)) => ours.contains(&Some(bare(own))),
        (Some(_) | None, _) => false,
    })
}

/// The number stays out of it: it is personal.
fn say(call: CallId, trunk: Option<&Trunk>, rule: Rule) {
    counter!("ringback_dials_refused_total", "rule" => rule.label()).increment(1);
    let trunk = trunk.map(|trunk| trunk.id.as_str());
    warn!(%call, trunk, rule = rule.label(), remedy = rule.remedy(), "not dialled: {rule}");
}

/// Records that are looked at when the gateway starts. A day of more calls than this begins with what the latest of them
/// used.
const RECALLED_MAX: usize = 10_000;
const DAY_MS: i64 = 24 * 3_600_000;
