//! Work after a call: one job for each workflow, and a log of its steps from which it is taken up again.

use serde_json::{Map, Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use uuid::Uuid;

use super::{CallRecord, Store, StoreError, begin, database};
use crate::actions::{RunOutcome, RunResult, Workflow};
use crate::model::{CallId, Pii, Vars};

/// A workflow to run after a call, as it is when the call ends: later changes of the configuration do not touch it.
#[derive(Clone, Debug)]
pub struct NewJob {
    pub(super) call: CallId,
    pub(super) workflow: Workflow,
    pub(super) vars: Pii<Map<String, Value>>,
}

impl NewJob {
    /// A job with the call's variables, and what its record says as `call.id`, `call.status`, `call.end_reason`,
    /// `call.ended_by`, `call.duration`, `call.start_time`, `call.end_time`, `call.agent`, `call.phone`, `call.called`,
    /// `call.transferred_to` and `call.recording`.
    pub fn new(record: &CallRecord, workflow: &Workflow) -> NewJob {
        let facts = json!({
            "call.id": record.id,
            "call.status": record.status,
            "call.end_reason": record.end_reason,
            "call.ended_by": record.ended_by,
            "call.duration": record.duration,
            "call.start_time": record.start_time,
            "call.end_time": record.end_time,
            "call.agent": record.agent_id,
            "call.phone": record.phone,
            "call.called": record.called,
            "call.transferred_to": record.transferred_to,
            "call.recording": record.recording,
        });
        let mut vars = match facts {
            Value::Object(facts) => facts,
            _ => Map::new(),
        };
        for (name, value) in &record.context {
            vars.entry(name.clone()).or_insert_with(|| value.clone());
        }
        NewJob { call: record.id, workflow: workflow.clone(), vars: Pii::new(vars) }
    }
}

/// A job that is ours until its lease is over.
#[derive(Clone, Debug)]
pub struct ClaimedJob {
    seq: i64,
    fence: i64,
    /// The call it belongs to.
    pub call: CallId,
    /// What to do.
    pub workflow: Workflow,
    /// What was known when the call ended.
    pub vars: Vars,
    /// What was done already, in order. Only the last may be unfinished: it waits to be tried again, or
    /// whoever began it vanished.
    pub log: Vec<StepRecord>,
    /// How often whoever held it vanished.
    pub lost: u32,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Its place in the log, from 0.
    pub at: u32,
    /// Its index in the workflow.
    pub step: usize,
    /// Its id.
    pub action: String,
    /// The kind of action.
    pub kind: String,
    /// How often it was begun.
    pub tries: u32,
    /// When it was first begun.
    pub began_unix_ms: i64,
    /// Why its last try failed, when it waits to be tried again.
    pub waits: Option<String>,
    /// How it ended; `None` while it runs or waits.
    pub ended: Option<StepEnd>,
}

/// How a step ended (rule R3 of the feature table).
#[derive(Clone, Debug, PartialEq)]
pub struct StepEnd {
    /// When.
    pub unix_ms: i64,
    /// How.
    pub result: RunResult,
    /// More exactly.
    pub code: String,
    /// Where the workflow went: a step's id, or `end`.
    pub branch: String,
    /// Variables it set.
    pub sets: Vec<(String, Pii<Value>)>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Waiting for its time, or under way.
    Pending,
    /// Its workflow came to an end.
    Done,
    /// Given up.
    Dead,
}

/// One job, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    /// The workflow's id.
    pub workflow: String,
    /// Where it stands.
    pub state: JobState,
    /// When it was first taken up.
    pub began_unix_ms: Option<i64>,
    /// When it ended.
    pub ended_unix_ms: Option<i64>,
    /// How it ended, in `snake_case`: `success` when every step did what it should.
    pub result: Option<String>,
    /// What was done.
    pub log: Vec<StepRecord>,
}

impl Store {
    /// Takes the job that has been due longest, if there is one. Nobody else gets it before `lease_until`.
    ///
    /// # Errors
    /// When the database fails. A job that cannot be read back is given up, as [`StoreError::Damaged`].
    pub async fn claim_job(
        &self,
        now_unix_ms: i64,
        lease_until_unix_ms: i64,
    ) -> Result<Option<ClaimedJob>, StoreError> {
        let failed = database("claim a job");
        let sql = "UPDATE jobs SET lost = lost + (lease_ms IS NOT NULL), lease_ms = ?1, fence = fence + 1,
                          began_ms = coalesce(began_ms, ?2)
                   WHERE seq = (SELECT seq FROM (
                                    SELECT * FROM (SELECT seq, lease_ms AS at FROM jobs
                                                   WHERE state = 'pending' AND lease_ms IS NOT NULL AND lease_ms <= ?2
                                                   ORDER BY lease_ms LIMIT 1)
                                    UNION ALL
                                    SELECT * FROM (SELECT seq, due_ms AS at FROM jobs
                                                   WHERE state = 'pending' AND lease_ms IS NULL AND due_ms <= ?2
                                                   ORDER BY due_ms LIMIT 1))
                                ORDER BY at, seq LIMIT 1)
                   RETURNING seq, fence, call, steps, vars, lost";
        let mut connection = self.quick().await?;
        let row = sqlx::query(sql)
            .bind(lease_until_unix_ms)
            .bind(now_unix_ms)
            .fetch_optional(&mut *connection)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let seq: i64 = row.try_get("seq").map_err(&failed)?;
        let log = read_log(&mut connection, seq).await?;
        match claimed(&row, log).map_err(&failed)? {
            Some(job) => Ok(Some(job)),
            None => {
                let sql = "UPDATE jobs SET state = 'dead', ended_ms = ?, result = 'damaged', lease_ms = NULL
                           WHERE seq = ?";
                sqlx::query(sql).bind(now_unix_ms).bind(seq).execute(&mut *connection).await.map_err(&failed)?;
                Err(StoreError::Damaged("a job"))
            }
        }
    }

    /// When the next job can be claimed; `None` when none is waiting.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_job(&self) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT min(at) FROM (
                       SELECT min(due_ms) AS at FROM jobs WHERE state = 'pending' AND lease_ms IS NULL
                       UNION ALL
                       SELECT min(lease_ms) FROM jobs WHERE state = 'pending' AND lease_ms IS NOT NULL)";
        sqlx::query_scalar(sql).fetch_one(&self.readers).await.map_err(database("look for the next job"))
    }

    /// Writes that a step begins, or begins again, and extends the lease: on the disk before its request leaves.
    /// `false` when the claim was lost meanwhile; then the step must not be done.
    ///
    /// # Errors
    /// When the database fails; then the step must not be done either.
    pub async fn begin_step(
        &self,
        job: &ClaimedJob,
        step: &StepRecord,
        lease_until_unix_ms: i64,
    ) -> Result<bool, StoreError> {
        let failed = database("write that a step begins");
        let mut connection = self.durable().await?;
        let mut transaction = begin(&mut connection).await.map_err(&failed)?;
        if !change_claim(&mut transaction, job, Some(lease_until_unix_ms), None).await.map_err(&failed)? {
            return Ok(false);
        }
        let sql =
            "INSERT INTO job_steps (job, at, step, action, kind, tries, began_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                   ON CONFLICT (job, at) DO UPDATE SET tries = ?6, code = NULL";
        sqlx::query(sql)
            .bind(job.seq)
            .bind(step.at)
            .bind(i64::try_from(step.step).unwrap_or(i64::MAX))
            .bind(&step.action)
            .bind(&step.kind)
            .bind(step.tries)
            .bind(step.began_unix_ms)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }

    /// Writes how a step ended: on the disk before the next one begins. `false` when the claim was lost meanwhile.
    ///
    /// # Errors
    /// When the database fails; the step counts as unfinished.
    pub async fn end_step(&self, job: &ClaimedJob, at: u32, end: &StepEnd) -> Result<bool, StoreError> {
        let sql = "UPDATE job_steps SET ended_ms = ?, result = ?, code = ?, branch = ?, sets = ?
                   WHERE job = ?6 AND at = ?7 AND ended_ms IS NULL
                         AND EXISTS (SELECT 1 FROM jobs WHERE seq = ?6 AND fence = ?8 AND state = 'pending')";
        let sets: Vec<(&String, &Value)> = end.sets.iter().map(|(name, value)| (name, value.reveal())).collect();
        let mut connection = self.durable().await?;
        let done = sqlx::query(sql)
            .bind(end.unix_ms)
            .bind(end.result.as_str())
            .bind(&end.code)
            .bind(&end.branch)
            .bind(serde_json::to_string(&sets).expect("names and JSON values are plain data"))
            .bind(job.seq)
            .bind(at)
            .bind(job.fence)
            .execute(&mut *connection)
            .await
            .map_err(database("write the end of a step"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a job back until `due_unix_ms`. With a step's place and a reason in `snake_case`, that step will be tried
    /// again; without, the job goes on where it is. `false` when the claim was lost meanwhile.
    ///
    /// # Errors
    /// When the database fails; it becomes due when its lease is over.
    pub async fn postpone_job(
        &self,
        job: &ClaimedJob,
        due_unix_ms: i64,
        again: Option<(u32, &str)>,
    ) -> Result<bool, StoreError> {
        let failed = database("postpone a job");
        let mut connection = self.durable().await?;
        let mut transaction = begin(&mut connection).await.map_err(&failed)?;
        if !change_claim(&mut transaction, job, None, Some(due_unix_ms)).await.map_err(&failed)? {
            return Ok(false);
        }
        if let Some((at, reason)) = again {
            let sql = "UPDATE job_steps SET code = ? WHERE job = ? AND at = ? AND ended_ms IS NULL";
            let step = sqlx::query(sql).bind(reason).bind(job.seq).bind(at);
            step.execute(&mut *transaction).await.map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }

    /// Ends a job as done or dead, with its result in `snake_case`. `false` when the claim was lost meanwhile.
    ///
    /// # Errors
    /// When the database fails; it is taken up again at its last step.
    pub async fn finish_job(
        &self,
        job: &ClaimedJob,
        now_unix_ms: i64,
        state: JobState,
        result: &str,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE jobs SET state = ?, ended_ms = ?, result = ?, lease_ms = NULL
                   WHERE seq = ? AND fence = ? AND state = 'pending'";
        let mut connection = self.quick().await?;
        let done = sqlx::query(sql)
            .bind(if state == JobState::Dead { "dead" } else { "done" })
            .bind(now_unix_ms)
            .bind(result)
            .bind(job.seq)
            .bind(job.fence)
            .execute(&mut *connection)
            .await
            .map_err(database("write the end of a job"))?;
        Ok(done.rows_affected() == 1)
    }

    /// Every job of a call with what it has done, in the order they were written.
    ///
    /// # Errors
    /// When the database fails, or a step cannot be read back.
    pub async fn jobs(&self, call: CallId) -> Result<Vec<JobRecord>, StoreError> {
        let failed = database("read jobs");
        let mut connection = self.readers.acquire().await.map_err(&failed)?;
        let sql = "SELECT seq, workflow, state, began_ms, ended_ms, result FROM jobs WHERE call = ? ORDER BY seq";
        let rows = sqlx::query(sql).bind(call.to_string()).fetch_all(&mut *connection).await.map_err(&failed)?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in rows {
            let log = read_log(&mut connection, row.try_get("seq").map_err(&failed)?).await?;
            jobs.push(record(&row, log).map_err(&failed)?);
        }
        Ok(jobs)
    }
}

/// Changes when the lease of a job ends, and when it is due if that is said. `false` when the claim was lost meanwhile.
async fn change_claim(
    connection: &mut SqliteConnection,
    job: &ClaimedJob,
    lease_until_unix_ms: Option<i64>,
    due_unix_ms: Option<i64>,
) -> Result<bool, sqlx::Error> {
    let sql = "UPDATE jobs SET lease_ms = ?, due_ms = coalesce(?, due_ms)
               WHERE seq = ? AND fence = ? AND state = 'pending'";
    let change = sqlx::query(sql).bind(lease_until_unix_ms).bind(due_unix_ms).bind(job.seq).bind(job.fence);
    Ok(change.execute(connection).await?.rows_affected() == 1)
}

async fn read_log(connection: &mut sqlx::SqliteConnection, job: i64) -> Result<Vec<StepRecord>, StoreError> {
    let failed = database("read the steps of a job");
    let sql = "SELECT at, step, action, kind, tries, began_ms, ended_ms, result, code, branch, sets
               FROM job_steps WHERE job = ? ORDER BY at";
    let rows = sqlx::query(sql).bind(job).fetch_all(connection).await.map_err(&failed)?;
    rows.iter().map(|row| step(row).map_err(&failed)?.ok_or(StoreError::Damaged("a step"))).collect()
}

// `Ok(None)`: the row is there and makes no sense.
fn step(row: &SqliteRow) -> Result<Option<StepRecord>, sqlx::Error> {
    let mut ended = None;
    if let Some(unix_ms) = row.try_get("ended_ms")? {
        let result = serde_json::from_value(Value::String(row.try_get("result")?));
        let sets = serde_json::from_str::<Vec<(String, Value)>>(row.try_get("sets")?);
        let (Ok(result), Ok(sets)) = (result, sets) else { return Ok(None) };
        ended = Some(StepEnd {
            unix_ms,
            result,
            code: row.try_get("code")?,
            branch: row.try_get("branch")?,
            sets: sets.into_iter().map(|(name, value)| (name, Pii::new(value))).collect(),
        });
    }
    let Ok(step) = usize::try_from(row.try_get::<i64, _>("step")?) else { return Ok(None) };
    let waits = if ended.is_none() { row.try_get("code")? } else { None };
    Ok(Some(StepRecord {
        at: row.try_get("at")?,
        step,
        action: row.try_get("action")?,
        kind: row.try_get("kind")?,
        tries: row.try_get("tries")?,
        began_unix_ms: row.try_get("began_ms")?,
        waits,
        ended,
    }))
}

fn claimed(row: &SqliteRow, log: Vec<StepRecord>) -> Result<Option<ClaimedJob>, sqlx::Error> {
    let call = row.try_get::<&str, _>("call")?.parse::<Uuid>();
    let workflow = serde_json::from_str(row.try_get("steps")?);
    let known = serde_json::from_str::<Map<String, Value>>(row.try_get("vars")?);
    let (Ok(call), Ok(workflow), Ok(known)) = (call, workflow, known) else { return Ok(None) };
    let mut vars = Vars::default();
    for (name, value) in known {
        // What does not fit did not fit on the call either, but for the last few beside our own facts.
        vars.set(&name, value);
    }
    Ok(Some(ClaimedJob {
        seq: row.try_get("seq")?,
        fence: row.try_get("fence")?,
        call: CallId(call),
        workflow,
        vars,
        log,
        lost: row.try_get("lost")?,
    }))
}

fn record(row: &SqliteRow, log: Vec<StepRecord>) -> Result<JobRecord, sqlx::Error> {
    let state = match row.try_get("state")? {
        "done" => JobState::Done,
        "dead" => JobState::Dead,
        _ => JobState::Pending,
    };
    Ok(JobRecord {
        workflow: row.try_get("workflow")?,
        state,
        began_unix_ms: row.try_get("began_ms")?,
        ended_unix_ms: row.try_get("ended_ms")?,
        result: row.try_get("result")?,
        log,
    })
}

impl StepEnd {
    /// The end of a run that went on to `branch`.
    pub fn new(outcome: &RunOutcome, branch: &str, sets: Vec<(String, Pii<Value>)>, now_unix_ms: i64) -> StepEnd {
        StepEnd {
            unix_ms: now_unix_ms,
            result: outcome.result,
            code: outcome.code.to_string(),
            branch: branch.to_owned(),
            sets,
        }
    }
}
