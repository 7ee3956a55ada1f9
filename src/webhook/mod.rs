//! Events out: signing, delivery, back-off, replay.
//!
//! What to tell whom stands in the store, written in the same transaction as what happened; this room only carries it
//! there, at least once, always with the same id, so that a receiver who remembers ids gets it exactly once. Each
//! endpoint has a lane of its own: a receiver that hangs delays nobody but itself.
//! Start at [`Webhooks`]; a lane is in `lane.rs`.

mod endpoint;
mod lane;
mod schedule;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use endpoint::{Endpoint, EndpointError};
pub use schedule::Schedule;

use crate::services::Http;
use crate::store::Store;
use lane::Lane;

/// The deliveries under way. Dropping it ends them at once; what was not reported is delivered again later.
pub struct Webhooks {
    store: Store,
    http: Http,
    schedule: Schedule,
    now_unix_ms: fn() -> i64,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    open: Vec<Open>,
    /// Of those that are open, and of those that finish what they began.
    tasks: JoinSet<()>,
}

/// An endpoint that is delivered to.
struct Open {
    endpoint: Arc<Endpoint>,
    bell: Arc<Notify>,
    stop: watch::Sender<bool>,
}

impl Webhooks {
    /// Begins to deliver what is due, and what will be. `now_unix_ms` is the wall clock.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(
        store: &Store,
        endpoints: Vec<Endpoint>,
        http: &Http,
        schedule: &Schedule,
        now_unix_ms: fn() -> i64,
    ) -> Webhooks {
        let (store, http, schedule) = (store.clone(), http.clone(), schedule.clone());
        let webhooks = Webhooks { store, http, schedule, now_unix_ms, lanes: Mutex::default() };
        webhooks.replace(endpoints);
        webhooks
    }

    /// Delivers to these from now on. One that is as before goes on undisturbed; of one that is gone or changed, what is
    /// under way is finished, and what waits for one that is gone waits until it comes back.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn replace(&self, endpoints: Vec<Endpoint>) {
        let mut lanes = self.lanes();
        while lanes.tasks.try_join_next().is_some() {}
        let mut before = std::mem::take(&mut lanes.open);
        for endpoint in endpoints {
            match before.iter().position(|open| open.endpoint.is_same(&endpoint)) {
                Some(at) => lanes.open.push(before.swap_remove(at)),
                None => lanes.open(self, endpoint),
            }
        }
        for gone in before {
            // Nobody listens any more when its receiver asked not to be called.
            let _ = gone.stop.send(true);
        }
    }

    /// The endpoints, by id, that want this kind of event.
    pub fn subscribers(&self, kind: &str) -> Vec<String> {
        let lanes = self.lanes();
        let subscribed = lanes.open.iter().filter(|open| open.endpoint.wants(kind));
        subscribed.map(|open| open.endpoint.id.clone()).collect()
    }

    /// Says that an event was written. Without it, it is noticed within a minute.
    pub fn wake(&self) {
        for open in &self.lanes().open {
            open.bell.notify_one();
        }
    }

    /// Begins nothing more, waits up to `grace` for what is under way, then ends it. What was not reported is delivered
    /// again by whoever opens the store next.
    pub async fn stop(&self, grace: Duration) {
        let mut lanes = std::mem::take(&mut *self.lanes());
        for open in &lanes.open {
            let _ = open.stop.send(true);
        }
        let all = async { while lanes.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            lanes.tasks.shutdown().await;
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn open(&mut self, webhooks: &Webhooks, endpoint: Endpoint) {
        let Webhooks { store, http, schedule, now_unix_ms, .. } = webhooks;
        let (endpoint, bell) = (Arc::new(endpoint), Arc::new(Notify::new()));
        let (stop, stopped) = watch::channel(false);
        let lane = Lane::new(store.clone(), endpoint.clone(), http.clone(), schedule.clone(), *now_unix_ms);
        self.tasks.spawn(lane.run(bell.clone(), stopped));
        self.open.push(Open { endpoint, bell, stop });
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhooks({} endpoints)", self.lanes().open.len())
    }
}
