//! Work after a call: durable, leased, retried, idempotent.
//!
//! A job is one workflow of one call, written with the call's record. Each step is written down before it is done and
//! after, so that whoever takes the job up after a crash goes on where it stopped. What has side effects is never
//! repeated blindly: a request that may have been carried out counts as failed, and the workflow's error branch decides.
//! Start at [`Workflows`]; where a workflow goes is in `plan.rs`, what a step does in `job.rs`.

mod job;
mod plan;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::error;

use crate::model::limits;
use crate::services::{Http, Secrets};
use crate::store::{Store, StoreError};
use crate::webhook::Schedule;
use job::Worker;

/// The after-call jobs under way. Dropping it ends them at once; they are taken up again later.
pub struct Workflows {
    bell: Arc<Notify>,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Workflows {
    /// Begins to do what is due, and what will be. `schedule` says when a failed step is tried again, up to
    /// [`limits::STEP_TRIES_MAX`] tries; `now_unix_ms` is the wall clock.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(
        store: &Store,
        http: &Http,
        secrets: Arc<Secrets>,
        schedule: Schedule,
        now_unix_ms: fn() -> i64,
    ) -> Workflows {
        let (stop, stopped) = watch::channel(false);
        let bell = Arc::new(Notify::new());
        let worker = Worker::new(store.clone(), http.clone(), secrets, schedule, now_unix_ms, stopped.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(run(Arc::new(worker), bell.clone(), stopped));
        Workflows { bell, stop, tasks: Mutex::new(tasks) }
    }

    /// Says that a job was written. Without it, it is noticed within a minute.
    pub fn wake(&self) {
        self.bell.notify_one();
    }

    /// Begins nothing more and waits up to `grace` for the steps under way; their jobs go on when the store is opened
    /// next. A step that takes longer is ended and counts as interrupted.
    pub async fn stop(&self, grace: Duration) {
        let _ = self.stop.send(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tasks.shutdown().await;
        }
    }
}

impl fmt::Debug for Workflows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workflows")
    }
}

async fn run(worker: Arc<Worker>, bell: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
    let mut under_way = JoinSet::new();
    while !*stopped.borrow_and_update() {
        let pause = advance(&worker, &mut under_way).await.unwrap_or_else(|error| {
            error!(%error, "cannot do after-call work");
            STORE_FAILED
        });
        tokio::select! {
            Some(done) = under_way.join_next() => settle(done),
            _ = tokio::time::timeout(pause, bell.notified()) => {}
            _ = stopped.changed() => {}
        }
    }
    while let Some(done) = under_way.join_next().await {
        settle(done);
    }
}

/// Begins what is due; returns how long nothing else will be.
async fn advance(
    worker: &Arc<Worker>,
    under_way: &mut JoinSet<Result<(), StoreError>>,
) -> Result<Duration, StoreError> {
    while under_way.len() < limits::JOBS_AT_ONCE_MAX {
        let Some(job) = worker.claim().await? else {
            return worker.pause().await;
        };
        let worker = worker.clone();
        under_way.spawn(async move { worker.perform(job).await });
    }
    Ok(job::LOOK_AGAIN)
}

fn settle(done: Result<Result<(), StoreError>, tokio::task::JoinError>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => error!(%error, "a job stopped; it goes on when its lease is over"),
        Err(error) => error!(%error, "a job broke; it goes on when its lease is over"),
    }
}

/// How long to leave a store alone that just failed.
const STORE_FAILED: Duration = Duration::from_secs(1);
