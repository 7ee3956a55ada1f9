//! One job, from where it stands to its end.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde_json::Value;
use tokio::sync::watch;
use tracing::warn;

use super::plan;
use crate::actions::{Effect, Goto, HttpRequest, Input, Phase, Run, RunOutcome, RunResult, Step, Verb};
use crate::model::{Pii, Vars, limits};
use crate::services::{Http, Secrets};
use crate::store::{ClaimedJob, JobState, StepEnd, StepRecord, Store, StoreError};
use crate::webhook::Schedule;

pub(super) struct Worker {
    store: Store,
    http: Http,
    secrets: Arc<Secrets>,
    schedule: Schedule,
    now_unix_ms: fn() -> i64,
    stopped: watch::Receiver<bool>,
}

/// What became of a step that was begun.
enum Tried {
    /// It ended, and set these variables.
    Ended(RunOutcome, Vec<(String, Value)>),
    /// It failed in a way that asking again may mend.
    Again(RunOutcome),
}

impl Worker {
    pub(super) fn new(
        store: Store,
        http: Http,
        secrets: Arc<Secrets>,
        schedule: Schedule,
        now_unix_ms: fn() -> i64,
        stopped: watch::Receiver<bool>,
    ) -> Worker {
        Worker { store, http, secrets, schedule, now_unix_ms, stopped }
    }

    pub(super) async fn claim(&self) -> Result<Option<ClaimedJob>, StoreError> {
        let now = (self.now_unix_ms)();
        self.store.claim_job(now, later(now, LEASE)).await
    }

    /// How long no job will be due.
    pub(super) async fn pause(&self) -> Result<Duration, StoreError> {
        let now = (self.now_unix_ms)();
        let due = self.store.next_job().await?;
        let pause =
            due.map_or(LOOK_AGAIN, |due| Duration::from_millis(due.saturating_sub(now).try_into().unwrap_or(1)));
        Ok(pause.clamp(Duration::from_millis(1), LOOK_AGAIN))
    }

    /// Goes on with a job until it ends, a step must wait to be tried again, the claim is lost, or we are stopped.
    pub(super) async fn perform(&self, mut job: ClaimedJob) -> Result<(), StoreError> {
        if job.lost > LOST_MAX {
            return self.finish(&job, JobState::Dead, "lost").await;
        }
        let mut vars = std::mem::take(&mut job.vars);
        let mut at = Goto::Step(0);
        for step in &job.log {
            if let Some(end) = &step.ended {
                remember(&mut vars, end.sets.iter().map(|(name, value)| (name, value.reveal())));
                at = plan::next(&job.workflow, step.step, &end.code, end.result);
            }
        }
        loop {
            let Goto::Step(index) = at else {
                let failed = job.log.iter().filter_map(|step| step.ended.as_ref()).any(|end| is_failure(end.result));
                return self.finish(&job, JobState::Done, if failed { "error" } else { "success" }).await;
            };
            if done(&job) >= limits::STEPS_WITHOUT_WAITING_MAX {
                return self.finish(&job, JobState::Dead, "too_many_steps").await;
            }
            if *self.stopped.borrow() {
                self.store.postpone_job(&job, (self.now_unix_ms)(), None).await?;
                return Ok(());
            }
            match self.take_step(&mut job, index, &vars).await? {
                Some(end) => {
                    remember(&mut vars, end.sets.iter().map(|(name, value)| (name, value.reveal())));
                    at = plan::next(&job.workflow, index, &end.code, end.result);
                }
                None => return Ok(()),
            }
        }
    }

    /// Does one step and writes it down. `None` when the job is no longer ours to go on with now.
    async fn take_step(&self, job: &mut ClaimedJob, index: usize, vars: &Vars) -> Result<Option<StepEnd>, StoreError> {
        let step = job.workflow.steps[index].clone();
        let earlier = job.log.pop_if(|last| last.ended.is_none());
        // Begun, not ended, and not put off: whoever did it vanished.
        let vanished = earlier.as_ref().is_some_and(|earlier| earlier.waits.is_none());
        let now = (self.now_unix_ms)();
        let mut record = earlier.unwrap_or_else(|| StepRecord {
            at: u32::try_from(job.log.len()).unwrap_or(u32::MAX),
            step: index,
            action: step.id.clone(),
            kind: step.verb.kind().to_owned(),
            tries: 0,
            began_unix_ms: now,
            waits: None,
            ended: None,
        });
        record.tries = record.tries.saturating_add(1);
        record.waits = None;
        if !self.store.begin_step(job, &record, later(now, LEASE + timeout(&step))).await? {
            return Ok(None);
        }
        let tried = if !step.verb.fits(Phase::After) {
            Tried::Ended(plan::call_ended(), Vec::new())
        } else if vanished && !only_reads(&step) {
            Tried::Ended(plan::interrupted(), Vec::new())
        } else {
            self.run(job, &step, vars).await
        };
        let (outcome, sets) = match tried {
            Tried::Ended(outcome, sets) => (outcome, sets),
            Tried::Again(outcome) => match self.schedule.pause_after(record.tries) {
                Some(pause) if record.tries < limits::STEP_TRIES_MAX => {
                    let due = later((self.now_unix_ms)(), pause);
                    self.store.postpone_job(job, due, Some((record.at, &outcome.code))).await?;
                    return Ok(None);
                }
                _ => (outcome, Vec::new()),
            },
        };
        let sets = sets.into_iter().map(|(name, value)| (name, Pii::new(value))).collect();
        let to = plan::next(&job.workflow, index, &outcome.code, outcome.result);
        let end = StepEnd::new(&outcome, branch(job, to), sets, (self.now_unix_ms)());
        if !self.store.end_step(job, record.at, &end).await? {
            return Ok(None);
        }
        let labels = [("phase", "after"), ("kind", step.verb.kind()), ("result", outcome.result.as_str())];
        counter!("ringback_actions_total", &labels).increment(1);
        job.log.push(StepRecord { ended: Some(end.clone()), ..record });
        Ok(Some(end))
    }

    /// Runs a verb that needs nobody on the line.
    async fn run(&self, job: &ClaimedJob, step: &Step, vars: &Vars) -> Tried {
        let mut run = Run::new(step.verb.clone());
        let mut effects = Vec::new();
        run.handle(Input::Started, vars, &mut effects);
        let mut sets = Vec::new();
        let mut again = false;
        loop {
            let mut request = None;
            for effect in effects.drain(..) {
                match effect {
                    Effect::Request(asked) => request = Some(asked),
                    Effect::Set(name, value) => sets.push((name, value)),
                    Effect::Done(outcome) if again => return Tried::Again(outcome),
                    Effect::Done(outcome) => return Tried::Ended(outcome, sets),
                    // There is nobody to hear, wait, or be transferred.
                    Effect::Play(_) | Effect::StopPlaying | Effect::Wait(_) => {}
                    Effect::Transfer(_) | Effect::HangUp { .. } | Effect::Record(_) => {}
                }
            }
            // A verb that neither asks nor ends would wait for a caller who is gone.
            let Some(mut request) = request else { return Tried::Ended(plan::call_ended(), sets) };
            self.mark(&mut request, job, step);
            let reply = self.http.ask(&request, &self.secrets).await;
            again = plan::may_ask_again(request.method, &reply);
            run.handle(Input::Replied(&reply), vars, &mut effects);
        }
    }

    /// Gives a request that changes something the key by which its server can recognise it.
    fn mark(&self, request: &mut HttpRequest, job: &ClaimedJob, step: &Step) {
        let has_key = request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(KEY));
        if plan::only_reads(request.method) || has_key {
            return;
        }
        let earlier = job.log.iter().filter(|done| done.action == step.id).count();
        let mut key = format!("{}-{}-{}", job.call, job.workflow.id, step.id);
        // A workflow that comes back to a step means to do it again.
        if earlier > 0 {
            key.push_str(&format!("-{}", earlier + 1));
        }
        request.headers.push((KEY.to_owned(), Pii::new(key)));
    }

    async fn finish(&self, job: &ClaimedJob, state: JobState, result: &'static str) -> Result<(), StoreError> {
        if state == JobState::Dead {
            warn!(call = %job.call, workflow = job.workflow.id, result, "an after-call workflow is given up");
        }
        if self.store.finish_job(job, (self.now_unix_ms)(), state, result).await? {
            counter!("ringback_after_call_jobs_total", "result" => result).increment(1);
        }
        Ok(())
    }
}

/// As in draft-ietf-httpapi-idempotency-key-header.
const KEY: &str = "idempotency-key";

/// For what happens between two steps.
const LEASE: Duration = Duration::from_secs(30);
/// A job whose holders vanish this often takes them with it.
const LOST_MAX: u32 = 5;
/// How often the store is looked at without being told to.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(60);

fn later(now_unix_ms: i64, by: Duration) -> i64 {
    now_unix_ms.saturating_add(by.as_millis().try_into().unwrap_or(i64::MAX))
}

fn remember<'a>(vars: &mut Vars, sets: impl Iterator<Item = (&'a String, &'a Value)>) {
    for (name, value) in sets {
        // A value that does not fit is not set, as on a call.
        vars.set(name, value.clone());
    }
}

fn done(job: &ClaimedJob) -> usize {
    job.log.iter().filter(|step| step.ended.is_some()).count()
}

fn timeout(step: &Step) -> Duration {
    match &step.verb {
        Verb::Api(api) => api.timeout.min(limits::HTTP_TIMEOUT_MAX),
        Verb::Say(_) | Verb::Menu(_) | Verb::Transfer(_) | Verb::HangUp(_) | Verb::Recording(_) => Duration::ZERO,
    }
}

fn only_reads(step: &Step) -> bool {
    match &step.verb {
        Verb::Api(api) => plan::only_reads(api.method),
        Verb::Say(_) | Verb::Menu(_) | Verb::Transfer(_) | Verb::HangUp(_) | Verb::Recording(_) => true,
    }
}

fn branch(job: &ClaimedJob, to: Goto) -> &str {
    match to {
        Goto::Step(index) => &job.workflow.steps[index].id,
        Goto::End => "end",
    }
}

fn is_failure(result: RunResult) -> bool {
    matches!(result, RunResult::Error | RunResult::Timeout)
}
