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
use crate::sip::{Asked, Conversation, Failure, Login, Question, Reply};
use crate::trunk::gateways::Heard;
use crate::trunk::registrar::Ask;

/// Whoever sends this wants every binding taken away, and to know when that is done.
pub(super) type Leave = oneshot::Receiver<oneshot::Sender<()>>;

/// Looks after the trunks until it is told to leave.
pub(super) async fn keep_up(house: Arc<House>, mut leave: Leave) {
    let mut configs = house.configs.subscribe();
    let mut keeper = Keeper::new(Arc::clone(&house));
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
            Ok(()) = configs.changed() => keeper.follow(),
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
    places: BTreeMap<(String, What), usize>,
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
    /// By which we prove who we are, as the files say now.
    login: Option<Login>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Gateway(usize),
    Registration,
    /// The way back from the registrar.
    Flow,
}

struct Done {
    trunk: Arc<Tended>,
    what: What,
    conversation: Conversation,
    asked: Time,
    is_farewell: bool,
    result: Result<Reply, Failure>,
}

impl Keeper {
    fn new(house: Arc<House>) -> Keeper {
        let mut keeper = Keeper {
            house,
            items: Vec::new(),
            places: BTreeMap::new(),
            queue: BTreeSet::new(),
            queued: Vec::new(),
            asking: JoinSet::new(),
        };
        keeper.take_stock();
        keeper
    }

    /// The configuration has changed: bindings that nobody wants any more are taken away, and what is new is looked after.
    fn follow(&mut self) {
        let config = self.house.config();
        self.house.trunks.follow(&config.trunks);
        let now = self.house.trunks.clock().now();
        let before = std::mem::take(&mut self.items);
        self.take_stock();
        for mut old in before {
            let place = self.places.get(&(old.trunk.id.clone(), old.what));
            match place.and_then(|at| self.items.get_mut(*at)).filter(|item| Arc::ptr_eq(&item.trunk, &old.trunk)) {
                // As before; while a question is out, its answer brings the conversation back.
                Some(item) => {
                    let login = item.login.clone();
                    item.conversation = old.conversation.map(|conversation| conversation.logged_in(login));
                }
                None => {
                    let conversation = old.conversation.take().filter(|_| old.what == What::Registration);
                    if let Some((conversation, ask)) = conversation.zip(old.trunk.leave(now)) {
                        self.send(&old.trunk, conversation, now, register(&old.trunk, ask), old.what, true);
                    }
                }
            }
        }
    }

    fn take_stock(&mut self) {
        (self.items, self.places) = (Vec::new(), BTreeMap::new());
        let config = self.house.config();
        for trunk in self.house.trunks.all() {
            let configured = config.trunks.get(&trunk.id);
            let registration = trunk.registration.iter().flat_map(|_| [What::Registration, What::Flow]);
            for what in (0..trunk.gateways.len()).map(What::Gateway).chain(registration) {
                let credentials =
                    configured.and_then(|configured| configured.registration.as_ref()?.credentials.as_ref());
                let login = match what {
                    What::Gateway(_) | What::Flow => None,
                    What::Registration => configured.zip(credentials).and_then(|(of, it)| login(&self.house, of, it)),
                };
                self.places.insert((trunk.id.clone(), what), self.items.len());
                let conversation = Some(Conversation::new(login.clone()));
                self.items.push(Item { trunk: Arc::clone(&trunk), what, conversation, login });
            }
        }
        self.queue.clear();
        self.queued = vec![None; self.items.len()];
        for item in 0..self.items.len() {
            self.enqueue(item);
        }
    }

    fn enqueue(&mut self, at: usize) {
        let Some(item) = self.items.get(at) else { return };
        let due = match item.what {
            What::Gateway(gateway) => item.trunk.due(gateway),
            What::Registration => item.trunk.register_due(),
            What::Flow => item.trunk.flow_due(self.house.trunks.clock().now()),
        };
        if let Some(old) = std::mem::replace(&mut self.queued[at], due) {
            self.queue.remove(&(old, at));
        }
        self.queue.extend(due.map(|due| (due, at)));
    }

    fn enqueue_other(&mut self, trunk: &Tended, what: What) {
        if let Some(at) = self.places.get(&(trunk.id.clone(), what)).copied() {
            self.enqueue(at);
        }
    }

    fn hurry(&mut self) {
        for (trunk, gateway) in self.house.trunks.take_hurried() {
            if let Some(item) = self.places.get(&(trunk, What::Gateway(gateway))).copied() {
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
            // A question that is out comes first; its answer says when the next is due.
            let Some(conversation) = item.conversation.take() else { continue };
            let (trunk, what) = (Arc::clone(&item.trunk), item.what);
            let question = match what {
                What::Gateway(gateway) => {
                    trunk.ask(gateway);
                    let uri = trunk.gateways.get(gateway).cloned().unwrap_or_default();
                    Question { asked: Asked::Options, uri, timeout: limits::PROBE_ANSWER_MAX }
                }
                What::Registration => {
                    let Some(ask) = trunk.register() else { continue };
                    register(&trunk, ask)
                }
                What::Flow => {
                    let Some(uri) = trunk.keep_open(now) else {
                        item.conversation = Some(conversation);
                        continue;
                    };
                    Question { asked: Asked::Options, uri, timeout: limits::PROBE_ANSWER_MAX }
                }
            };
            self.send(&trunk, conversation, now, question, what, false);
        }
    }

    fn send(
        &mut self,
        trunk: &Arc<Tended>,
        mut conversation: Conversation,
        asked: Time,
        question: Question,
        what: What,
        is_farewell: bool,
    ) {
        let (house, trunk) = (Arc::clone(&self.house), Arc::clone(trunk));
        self.asking.spawn(async move {
            let result = house.sip.ask(&question, &mut conversation).await;
            Done { trunk, what, conversation, asked, is_farewell, result }
        });
    }

    fn take(&mut self, done: Done) {
        let Done { trunk, what, conversation, asked, is_farewell, result } = done;
        let now = self.house.trunks.clock().now();
        let Some(at) = self.places.get(&(trunk.id.clone(), what)).copied() else { return };
        // An answer to what an older configuration asked is of no interest.
        let Some(item) = self.items.get_mut(at).filter(|item| Arc::ptr_eq(&item.trunk, &trunk)) else { return };
        // The password may have changed while the question was out.
        item.conversation = Some(conversation.logged_in(item.login.clone()));
        if is_farewell {
            return;
        }
        if let Err(Failure::Unauthorized { denial, .. }) = &result {
            let (trunk, why) = (item.trunk.id.clone(), denial.label());
            counter!("ringback_trunk_denied_total", "trunk" => trunk, "why" => why).increment(1);
        }
        let heard = |result: &Result<Reply, Failure>| {
            let round_trip = result.is_ok().then(|| now - asked);
            Heard { at: now, sign: sign(result), words: words(result), round_trip }
        };
        match what {
            What::Gateway(gateway) => trunk.heard(gateway, heard(&result), chance()),
            What::Registration => {
                trunk.registered(now, answer(&result), words(&result), chance());
                self.enqueue_other(&trunk, What::Flow);
            }
            What::Flow => {
                if trunk.flowed(heard(&result), chance()) {
                    self.enqueue_other(&trunk, What::Registration);
                }
            }
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
            let (key, is_farewell) = ((done.trunk.id.clone(), done.what), done.is_farewell);
            self.take(done);
            if let Some(at) = self.places.get(&key).copied().filter(|_| !is_farewell) {
                self.say_goodbye(at);
            }
        }
    }

    fn say_goodbye(&mut self, at: usize) {
        let now = self.house.trunks.clock().now();
        let Some(item) = self.items.get_mut(at).filter(|item| item.what == What::Registration) else { return };
        let Some(conversation) = item.conversation.take() else { return };
        let trunk = Arc::clone(&item.trunk);
        match trunk.leave(now) {
            Some(ask) => self.send(&trunk, conversation, now, register(&trunk, ask), What::Registration, true),
            None => item.conversation = Some(conversation),
        }
    }
}

/// The question to a registrar.
fn register(trunk: &Tended, ask: Ask) -> Question {
    let registration = trunk.registration.as_ref();
    let asked = Asked::Register {
        aor: registration.map(|registration| registration.aor.clone()).unwrap_or_default(),
        contact_user: trunk.contact_user.clone(),
        expires: ask.expires,
    };
    let uri = registration.and_then(|registration| registration.registrars.get(ask.registrar)).cloned();
    Question { asked, uri: uri.unwrap_or_default(), timeout: limits::REGISTER_ANSWER_MAX }
}

/// Any number.
pub(super) fn chance() -> u64 {
    // Without the system's randomness only the spread of questions suffers.
    getrandom::u64().unwrap_or_default()
}
