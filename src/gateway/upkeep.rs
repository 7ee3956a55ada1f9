//! Looking after the trunks: OPTIONS to every gateway, REGISTER to every registrar, each when it is due.
//!
//! One task with one queue of times, however many there are; a question that is out is a small task of its own. The pure
//! machines in `trunk` decide when and whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use metrics::counter;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tracing::warn;

use super::dialling::login;
use super::house::House;
use super::trunks::Tended;
use crate::model::{Time, limits};
use crate::sip::ask::{answer, sign, words};
use crate::sip::{Asked, Conversation, Failure, Question, Reply};
use crate::trunk::gateways::Heard;
use crate::trunk::registrar::Ask;

/// Whoever sends this wants every binding taken away, and to know when that is done.
pub(super) type Leave = oneshot::Receiver<oneshot::Sender<()>>;

/// Looks after the trunks until it is told to leave.
pub(super) async fn keep_up(house: Arc<House>, mut leave: Leave) {
    let mut keeper = Keeper::new(house);
    let house = Arc::clone(&keeper.house);
    loop {
        let next = keeper.queue.first().map(|(at, _)| *at).filter(|_| keeper.asking.len() < limits::UPKEEP_AT_ONCE);
        tokio::select! {
            () = until(&house, next) => keeper.ask_what_is_due(),
            Some(done) = keeper.asking.join_next(), if !keeper.asking.is_empty() => {
                if let Ok(done) = done {
                    keeper.take(done);
                }
            }
            () = house.trunks.hurry.notified() => keeper.hurry(),
            told = &mut leave => {
                let Ok(done) = told else { return };
                // Whoever waits for a registrar that is gone waits in vain.
                if timeout(limits::LEAVE_MAX, keeper.leave()).await.is_err() {
                    warn!("a registrar did not take our goodbye; its binding ends by itself");
                }
                let _ = done.send(());
                return;
            }
        }
    }
}

async fn until(house: &House, at: Option<Time>) {
    match at {
        Some(at) => sleep_until(house.trunks.clock().instant(at)).await,
        None => std::future::pending().await,
    }
}

struct Keeper {
    house: Arc<House>,
    items: Vec<Item>,
    /// By trunk and gateway.
    places: BTreeMap<(String, usize), usize>,
    queue: BTreeSet<(Time, usize)>,
    /// When each item stands in the queue.
    queued: Vec<Option<Time>>,
    asking: JoinSet<Done>,
}

struct Item {
    trunk: Arc<Tended>,
    what: What,
    /// `None` while a question is out.
    conversation: Option<Conversation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Gateway(usize),
    Registration,
}

struct Done {
    item: usize,
    conversation: Conversation,
    asked: Time,
    is_farewell: bool,
    result: Result<Reply, Failure>,
}

impl Keeper {
    fn new(house: Arc<House>) -> Keeper {
        let mut items = Vec::new();
        for trunk in house.trunks.all() {
            for gateway in 0..trunk.gateways.len() {
                let (trunk, what) = (Arc::clone(trunk), What::Gateway(gateway));
                items.push(Item { trunk, what, conversation: Some(Conversation::new(None)) });
            }
            if let Some(registration) = &trunk.registration {
                let configured = house.config.trunks.get(&trunk.id).zip(registration.credentials.as_ref());
                let login = configured.and_then(|(configured, credentials)| login(&house, configured, credentials));
                let (trunk, what) = (Arc::clone(trunk), What::Registration);
                items.push(Item { trunk, what, conversation: Some(Conversation::new(login)) });
            }
        }
        let place = |(at, item): (usize, &Item)| match item.what {
            What::Gateway(gateway) => Some(((item.trunk.id.clone(), gateway), at)),
            What::Registration => None,
        };
        let places = items.iter().enumerate().filter_map(place).collect();
        let queued = vec![None; items.len()];
        let mut keeper = Keeper { house, items, places, queue: BTreeSet::new(), queued, asking: JoinSet::new() };
        for item in 0..keeper.items.len() {
            keeper.enqueue(item);
        }
        keeper
    }

    fn enqueue(&mut self, at: usize) {
        let Some(item) = self.items.get(at) else { return };
        let due = match item.what {
            What::Gateway(gateway) => item.trunk.due(gateway),
            What::Registration => item.trunk.register_due(),
        };
        if let Some(old) = std::mem::replace(&mut self.queued[at], due) {
            self.queue.remove(&(old, at));
        }
        self.queue.extend(due.map(|due| (due, at)));
    }

    fn hurry(&mut self) {
        for key in self.house.trunks.take_hurried() {
            if let Some(item) = self.places.get(&key).copied() {
                self.enqueue(item);
            }
        }
    }

    fn ask_what_is_due(&mut self) {
        let now = self.house.trunks.clock().now();
        while let Some((_, at)) = self.queue.first().copied().filter(|(due, _)| *due <= now) {
            if self.asking.len() >= limits::UPKEEP_AT_ONCE {
                // The rest goes out as answers come in; nothing is lost but time.
                return;
            }
            self.queue.pop_first();
            self.queued[at] = None;
            let Some(item) = self.items.get_mut(at) else { continue };
            match item.what {
                What::Gateway(gateway) => {
                    item.trunk.ask(gateway);
                    let uri = item.trunk.gateways.get(gateway).cloned().unwrap_or_default();
                    let question = Question { asked: Asked::Options, uri, timeout: limits::PROBE_ANSWER_MAX };
                    self.send(at, now, question, false);
                }
                What::Registration => {
                    if let Some(ask) = item.trunk.register() {
                        self.register(at, now, ask);
                    }
                }
            }
        }
    }

    fn register(&mut self, at: usize, now: Time, ask: Ask) {
        let Some(Item { trunk, .. }) = self.items.get(at) else { return };
        let Some(registration) = &trunk.registration else { return };
        let asked = Asked::Register {
            aor: registration.aor.clone(),
            contact_user: trunk.contact_user.clone(),
            expires: ask.expires,
        };
        let uri = registration.registrars.get(ask.registrar).cloned().unwrap_or_default();
        self.send(at, now, Question { asked, uri, timeout: limits::REGISTER_ANSWER_MAX }, ask.expires.is_zero());
    }

    fn send(&mut self, item: usize, asked: Time, question: Question, is_farewell: bool) {
        let Some(mut conversation) = self.items.get_mut(item).and_then(|item| item.conversation.take()) else { return };
        let house = Arc::clone(&self.house);
        self.asking.spawn(async move {
            let result = house.sip.ask(&question, &mut conversation).await;
            Done { item, conversation, asked, is_farewell, result }
        });
    }

    fn take(&mut self, done: Done) {
        let Done { item: at, conversation, asked, is_farewell, result } = done;
        let now = self.house.trunks.clock().now();
        let Some(item) = self.items.get_mut(at) else { return };
        item.conversation = Some(conversation);
        if is_farewell {
            return;
        }
        if let Err(Failure::Unauthorized { denial, .. }) = &result {
            let (trunk, why) = (item.trunk.id.clone(), denial.label());
            counter!("ringback_trunk_denied_total", "trunk" => trunk, "why" => why).increment(1);
        }
        match item.what {
            What::Gateway(gateway) => {
                let round_trip = result.is_ok().then(|| now - asked);
                let heard = Heard { at: now, sign: sign(&result), words: words(&result), round_trip };
                item.trunk.heard(gateway, heard, chance());
            }
            What::Registration => item.trunk.registered(now, answer(&result), words(&result), chance()),
        }
        self.enqueue(at);
    }

    /// Takes every binding away. What is out is waited for first, for a registrar wants its requests in order.
    async fn leave(&mut self) {
        self.queue.clear();
        for at in 0..self.items.len() {
            self.say_goodbye(at);
        }
        while let Some(done) = self.asking.join_next().await {
            let Ok(done) = done else { continue };
            let (at, is_farewell) = (done.item, done.is_farewell);
            self.take(done);
            if !is_farewell {
                self.say_goodbye(at);
            }
        }
    }

    fn say_goodbye(&mut self, at: usize) {
        let now = self.house.trunks.clock().now();
        let Some(item) = self.items.get(at).filter(|item| item.what == What::Registration) else { return };
        if item.conversation.is_none() {
            return;
        }
        if let Some(ask) = item.trunk.leave(now) {
            self.register(at, now, ask);
        }
    }
}

/// Any number.
pub(super) fn chance() -> u64 {
    // Without the system's randomness only the spread of questions suffers.
    getrandom::u64().unwrap_or_default()
}
