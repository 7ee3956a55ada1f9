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
use std::sync::{Arc, Mutex, PoisonError};
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
    endpoints: Vec<Arc<Endpoint>>,
    bells: Vec<Arc<Notify>>,
    stop: watch::Sender<bool>,
    lanes: Mutex<JoinSet<()>>,
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
        let endpoints: Vec<Arc<Endpoint>> = endpoints.into_iter().map(Arc::new).collect();
        let (stop, stopped) = watch::channel(false);
        let mut lanes = JoinSet::new();
        let mut bells = Vec::new();
        for endpoint in &endpoints {
            let bell = Arc::new(Notify::new());
            let lane = Lane::new(store.clone(), endpoint.clone(), http.clone(), schedule.clone(), now_unix_ms);
            lanes.spawn(lane.run(bell.clone(), stopped.clone()));
            bells.push(bell);
        }
        Webhooks { endpoints, bells, stop, lanes: Mutex::new(lanes) }
    }

    /// The endpoints, by id, that want this kind of event.
    pub fn subscribers(&self, kind: &str) -> Vec<String> {
        self.endpoints.iter().filter(|endpoint| endpoint.wants(kind)).map(|endpoint| endpoint.id.clone()).collect()
    }

    /// Says that an event was written. Without it, it is noticed within a minute.
    pub fn wake(&self) {
        for bell in &self.bells {
            bell.notify_one();
        }
    }

    /// Begins nothing more, waits up to `grace` for what is under way, then ends it. What was not reported is delivered
    /// again by whoever opens the store next.
    pub async fn stop(&self, grace: Duration) {
        let _ = self.stop.send(true);
        let mut lanes = std::mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            lanes.shutdown().await;
        }
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhooks({} endpoints)", self.endpoints.len())
    }
}
