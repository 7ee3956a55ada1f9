//! Who may dial what, and how much of a trunk is used: the guard's rules, asked with what the gateway knows.
//!
//! Every leg on a trunk holds a [`Pass`] as long as it lives, inbound and outbound. What was used of the day is written
//! down by [`keep_books`], so that no restart, and no `kill -9`, gives it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::clock::unix_ms;
use super::house::House;
use crate::actions::Plan;
use crate::call::Cause;
use crate::config::{Config, Destination};
use crate::guard::dialling::{self, Allowed, Attempt, Rule};
use crate::guard::{Dialled, Kept, Ledger, Ticket};
use crate::model::{Address, CallId};
use crate::store::{CallOpen, Store, StoreError};
use crate::trunk::Trunk;

/// What all calls have used.
#[derive(Debug, Default)]
pub(super) struct Tolls {
    books: Mutex<Books>,
    /// Something begins to cost, which must be on the disk before it has cost much.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Books {
    ledger: Ledger,
    /// Where legs learn that their trunk's money is spent.
    passes: BTreeMap<Ticket, Arc<Notify>>,
    /// Something has changed since it was written down.
    is_dirty: bool,
}

/// A leg that was let in or out. What it uses ends when it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    tolls: Arc<Tolls>,
    /// `None` for what costs nothing and is not counted: emergency calls, and SIP URIs without a trunk.
    ticket: Option<Ticket>,
    spent: Arc<Notify>,
}

/// A leg that a call wants to dial.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) config: &'a Config,
    pub(super) plan: &'a Plan,
    pub(super) open: &'a CallOpen,
    pub(super) trunk: Option<&'a Trunk>,
    pub(super) to: &'a Address,
}

impl Tolls {
    /// Lets a call of a trunk in.
    pub(super) fn let_in(self: &Arc<Tolls>, trunk: &Trunk) -> Result<Pass, Rule> {
        let ticket = self.books().ledger.enter(unix_ms(), &trunk.id, &trunk.limits)?;
        Ok(self.pass(Some(ticket)))
    }

    /// Lets a leg out, or says why not: to the log and the metrics, and as a cause to the call.
    pub(super) fn let_out(self: &Arc<Tolls>, wish: Wish<'_>) -> Result<Pass, Cause> {
        self.judge(wish).map_err(|rule| {
            say(wish.open.id, wish.trunk, rule);
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
                | Rule::Spend
                | Rule::NoPrice
                | Rule::AgentHour => Cause::NotAllowed,
            }
        })
    }

    fn judge(self: &Arc<Tolls>, wish: Wish<'_>) -> Result<Pass, Rule> {
        let Wish { config, plan, open, trunk, to } = wish;
        let allowed = dialling::judge(Attempt { to, is_written: plan.names(to), trunk })?;
        let (trunk, e164) = match (allowed, trunk) {
            (Allowed::Number { e164, .. }, Some(trunk)) => (trunk, e164),
            (Allowed::Home, Some(trunk)) => (trunk, None),
            (Allowed::Emergency | Allowed::Uri, _) | (Allowed::Number { .. } | Allowed::Home, None) => {
                return Ok(self.pass(None));
            }
        };
        let number = dialling::number_of(trunk, to).unwrap_or_default();
        if is_own(config, &number, e164.as_deref()) {
            return Err(Rule::OwnNumber);
        }
        let outbound = trunk.outbound.as_ref();
        let dialled = Dialled {
            trunk: &trunk.id,
            agent: open.agent.as_deref().unwrap_or(""),
            limits: &trunk.limits,
            price: outbound.and_then(|outbound| outbound.price_of(&number, e164.as_deref())),
        };
        let ticket = self.books().ledger.dial(unix_ms(), dialled)?;
        Ok(self.pass(Some(ticket)))
    }

    fn pass(self: &Arc<Tolls>, ticket: Option<Ticket>) -> Pass {
        let spent = Arc::new(Notify::new());
        if let Some(ticket) = ticket {
            self.books().passes.insert(ticket, Arc::clone(&spent));
        }
        Pass { tolls: Arc::clone(self), ticket, spent }
    }

    /// Takes up what earlier processes of this day used.
    pub(super) async fn resume(&self, store: &Store) -> Result<(), StoreError> {
        if let Some(text) = store.kept(KEPT).await? {
            match serde_json::from_str::<Kept>(&text) {
                Ok(kept) => self.books().ledger.resume(kept),
                Err(error) => warn!(%error, "what was used of the trunks today cannot be read; it counts from zero"),
            }
        }
        Ok(())
    }

    /// Writes down what is used, as it will stand when it is written down next; `until_ms` is then.
    pub(super) async fn write_down(&self, store: &Store, until_ms: i64) {
        let kept = {
            let mut books = self.books();
            if !std::mem::take(&mut books.is_dirty) && !books.ledger.is_costing() {
                return;
            }
            books.ledger.kept(until_ms)
        };
        let text = serde_json::to_string(&kept).expect("names and numbers are plain data");
        if let Err(error) = store.keep(KEPT, &text).await {
            self.books().is_dirty = true;
            warn!(%error, "what is used of the trunks cannot be written down");
            counter!("ringback_store_errors_total").increment(1);
        }
    }

    /// Ends what costs money on trunks that have spent theirs, or will have before anybody looks again; and shows what
    /// was used.
    fn look(&self, config: &Config, now_ms: i64) {
        let books = self.books();
        for trunk in config.trunks.values().filter(|trunk| trunk.outbound.is_some()) {
            let spent = books.ledger.spent(now_ms, &trunk.id);
            #[allow(
                clippy::cast_precision_loss,
                reason = "a gauge is a float, and nobody spends 2^53 millionths a day"
            )]
            let (money, minutes) = (spent as f64 / 1e6, books.ledger.used_ms(now_ms, &trunk.id) as f64 / 60_000.0);
            gauge!("ringback_trunk_spent_today", "trunk" => trunk.id.clone()).set(money);
            gauge!("ringback_trunk_minutes_today", "trunk" => trunk.id.clone()).set(minutes);
            let Some(most) = trunk.limits.spend_per_day else { continue };
            if books.ledger.spent(now_ms + KEEP_EVERY_MS, &trunk.id) <= most {
                continue;
            }
            let costing = books.ledger.costing(&trunk.id);
            if !costing.is_empty() {
                warn!(trunk = trunk.id, calls = costing.len(), "the money of the day is spent; calls are ended");
                counter!("ringback_dials_cut_total", "trunk" => trunk.id.clone()).increment(costing.len() as u64);
            }
            for spent in costing.iter().filter_map(|ticket| books.passes.get(ticket)) {
                spent.notify_one();
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down what is used, as soon as something begins to cost and every now and then, and ends what costs too much.
pub(super) async fn keep_books(house: Arc<House>) {
    let tolls = &house.tolls;
    loop {
        // Either is a reason to look.
        let _ = timeout(KEEP_EVERY, tolls.begun.notified()).await;
        let now_ms = unix_ms();
        tolls.look(&house.config(), now_ms);
        tolls.write_down(&house.store, now_ms + KEEP_EVERY_MS).await;
    }
}

impl Pass {
    /// The leg is answered; from now on it costs.
    pub(super) fn answered(&self) {
        if let Some(ticket) = self.ticket {
            let mut books = self.tolls.books();
            books.ledger.answer(unix_ms(), ticket);
            books.is_dirty = true;
            drop(books);
            self.tolls.begun.notify_one();
        }
    }

    /// Where the leg learns that its trunk's money is spent.
    pub(super) fn spent(&self) -> Arc<Notify> {
        Arc::clone(&self.spent)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut books = self.tolls.books();
            books.ledger.close(unix_ms(), ticket);
            books.passes.remove(&ticket);
            books.is_dirty = true;
        }
    }
}

/// Whether a call to this number would come back to one of our agents.
fn is_own(config: &Config, number: &str, e164: Option<&str>) -> bool {
    let bare = |number: &str| number.trim_start_matches('+').to_owned();
    let ours = [Some(bare(number)), e164.map(bare)];
    let mut of_agents = config.routes.iter().filter(|route| matches!(route.to, Destination::Agent(_)));
    of_agents.any(|route| route.rule.called.only().is_some_and(|own| ours.contains(&Some(bare(own)))))
}

/// The number stays out of it: it is personal.
fn say(call: CallId, trunk: Option<&Trunk>, rule: Rule) {
    counter!("ringback_dials_refused_total", "rule" => rule.label()).increment(1);
    let trunk = trunk.map(|trunk| trunk.id.as_str());
    warn!(%call, trunk, rule = rule.label(), remedy = rule.remedy(), "not dialled: {rule}");
}

/// The name that the store has for it.
const KEPT: &str = "tolls";
/// How often what is used is written down while something costs. A process that dies counts this much too much for each
/// call that was up.
const KEEP_EVERY: Duration = Duration::from_millis(KEEP_EVERY_MS.unsigned_abs());
const KEEP_EVERY_MS: i64 = 5_000;
