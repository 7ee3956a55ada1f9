//! Watching the gateway's calls: draws their ladders as they grow, and knows when they end.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::screen::Progress;
use super::super::stopwatch;
use crate::gateway::Watched;
use crate::journal::{Ladder, heading};
use crate::model::CallId;

/// Everybody who watches from the stalls.
#[derive(Debug)]
pub(super) struct Stage {
    calls: watch::Receiver<Calls>,
    _task: JoinSet<()>,
}

/// The calls so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    /// In the order they came.
    order: Vec<CallId>,
    /// When each was over.
    over: BTreeMap<CallId, Instant>,
}

impl Calls {
    /// The call that came after so many others.
    pub(super) fn after(&self, others: usize) -> Option<CallId> {
        self.order.get(others).copied()
    }

    /// How many came so far.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// When a call was over.
    pub(super) fn over(&self, call: CallId) -> Option<Instant> {
        self.over.get(&call).copied()
    }
}

impl Stage {
    /// Watches from now on. With `draws`, every line is printed above the progress line.
    pub(super) fn open(mut watched: broadcast::Receiver<Watched>, progress: Arc<Progress>, draws: bool) -> Stage {
        let (tell, calls) = watch::channel(Calls::default());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ladders: BTreeMap<CallId, Ladder> = BTreeMap::new();
            loop {
                let Watched { call, entry } = match watched.recv().await {
                    Ok(watched) => watched,
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "the ladder leaves out what came too fast");
                        continue;
                    }
                    Err(RecvError::Closed) => return,
                };
                let is_new = !ladders.contains_key(&call);
                let lines = ladders.entry(call).or_default().draw(&entry);
                if draws {
                    progress.above(|| {
                        if is_new {
                            println!("{}", heading());
                        }
                        lines.iter().for_each(|line| println!("{line}"));
                    });
                }
                let is_over = entry.commands.iter().any(is_finish);
                tell.send_modify(|calls| {
                    if is_new {
                        calls.order.push(call);
                    }
                    if is_over {
                        calls.over.insert(call, stopwatch::now());
                    }
                });
            }
        });
        Stage { calls, _task: task }
    }

    /// The calls so far.
    pub(super) fn calls(&self) -> Calls {
        self.calls.borrow().clone()
    }
}

fn is_finish(command: &Value) -> bool {
    command.get("finish").is_some()
}
