//! Calls: open, over, orphaned.

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::scribe::{Begun, Ended, EndedRow, Paper};
use super::{CallOpen, CallRecord, Direction, NewEvent, NewJob, Store, StoreError, database, limit};
use crate::call::Status;
use crate::model::{CallId, Pii, Verification};

impl Store {
    /// Writes that a call has begun. Doing it again changes nothing.
    ///
    /// # Errors
    /// When the database fails; the call goes on, and its end writes the row.
    pub async fn begin_call(&self, open: &CallOpen) -> Result<(), StoreError> {
        let begun = Begun {
            id: open.id.to_string(),
            status: word(Status::InProgress),
            began_ms: open.began_unix_ms,
            open: write_open(open),
        };
        self.scribe()?.write(Paper::Begun(begun)).await?;
        Ok(())
    }

    /// Ends a call: record, events, deliveries and jobs, all or nothing, on the disk when it returns. `false` when the
    /// call was ended before; then nothing is written.
    ///
    /// # Errors
    /// When the database fails; nothing is written, and it may be called again.
    pub async fn finish_call(
        &self,
        record: &CallRecord,
        events: &[NewEvent],
        jobs: &[NewJob],
        now_unix_ms: i64,
    ) -> Result<bool, StoreError> {
        let row = EndedRow {
            id: record.id.to_string(),
            status: word(record.status),
            ended_ms: now_unix_ms,
            record: serde_json::to_string(record).expect("a record is plain data with text keys"),
        };
        let ended = Ended { row, events: events.to_vec(), jobs: jobs.to_vec() };
        self.scribe()?.write(Paper::Ended(Box::new(ended))).await
    }

    /// Calls that earlier processes left open, oldest first. Whoever starts the gateway ends them with
    /// [`Store::finish_call`] and [`CallRecord::crashed`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn orphans(&self) -> Result<Vec<CallOpen>, StoreError> {
        let sql = "SELECT open FROM calls WHERE record IS NULL AND boot <> ? ORDER BY began_ms, id";
        let rows: Vec<String> = sqlx::query_scalar(sql)
            .bind(&*self.boot)
            .fetch_all(&self.readers)
            .await
            .map_err(database("look for calls left open"))?;
        rows.iter().map(|row| read_open(row)).collect()
    }

    /// The record of a call that is over; `None` while it is up, and when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn call(&self, id: CallId) -> Result<Option<CallRecord>, StoreError> {
        let sql = "SELECT record FROM calls WHERE id = ? AND record IS NOT NULL";
        let row: Option<String> = sqlx::query_scalar(sql)
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(database("read a call"))?;
        row.map(|row| read_record(&row)).transpose()
    }

    /// The latest calls that are over, latest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn calls(&self, most: usize) -> Result<Vec<CallRecord>, StoreError> {
        let sql = "SELECT record FROM calls WHERE workspace = 'default' AND record IS NOT NULL
                   ORDER BY began_ms DESC, id DESC LIMIT ?";
        let rows: Vec<String> = sqlx::query_scalar(sql)
            .bind(limit(most))
            .fetch_all(&self.readers)
            .await
            .map_err(database("read the latest calls"))?;
        rows.iter().map(|row| read_record(row)).collect()
    }

    /// How many calls are open, whichever process opened them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_calls(&self) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) FROM calls WHERE record IS NULL";
        let count: i64 =
            sqlx::query_scalar(sql).fetch_one(&self.readers).await.map_err(database("count open calls"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

pub(super) async fn insert_deliveries(connection: &mut SqliteConnection, event: &NewEvent) -> Result<(), sqlx::Error> {
    // An endpoint that asked not to be called gets a row all the same: it can be replayed when it is back.
    let sql = "INSERT INTO deliveries (event, endpoint, due_ms, state, ended_ms, last)
               SELECT ?1, ?2, ?3,
                      iif(closed, 'dead', 'pending'), iif(closed, ?3, NULL), iif(closed, 'endpoint_closed', NULL)
               FROM (SELECT EXISTS (SELECT 1 FROM closed_endpoints WHERE id = ?2) AS closed) WHERE true
               ON CONFLICT (event, endpoint) DO NOTHING";
    for endpoint in &event.endpoints {
        sqlx::query(sql).bind(&event.id).bind(endpoint).bind(event.created_unix_ms).execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn insert_job(
    connection: &mut SqliteConnection,
    job: &NewJob,
    now_unix_ms: i64,
) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO jobs (call, workflow, steps, vars, due_ms) VALUES (?, ?, ?, ?, ?)
               ON CONFLICT (call, workflow) DO NOTHING";
    sqlx::query(sql)
        .bind(job.call.to_string())
        .bind(&job.workflow.id)
        .bind(serde_json::to_string(&job.workflow).expect("a workflow is plain data with text keys"))
        .bind(serde_json::to_string(job.vars.reveal()).expect("variables are plain data with text keys"))
        .bind(now_unix_ms)
        .execute(connection)
        .await?;
    Ok(())
}

// As serde writes them, so that the column and the record say the same.
fn word(status: Status) -> &'static str {
    match status {
        Status::InProgress => "IN_PROGRESS",
        Status::Completed => "COMPLETED",
        Status::Canceled => "CANCELED",
        Status::NoAnswer => "NO_ANSWER",
        Status::Transferred => "TRANSFERRED",
        Status::Failed => "FAILED",
    }
}

// Its own shape, because `Pii` does not write itself out.
#[derive(serde::Serialize, serde::Deserialize)]
struct WrittenOpen {
    id: Uuid,
    began_unix_ms: i64,
    direction: Direction,
    agent: Option<String>,
    phone: Option<String>,
    called: String,
    trunk: Option<String>,
    journal: Option<String>,
    revision: String,
    #[serde(default)]
    identity: Option<Verification>,
}

fn write_open(open: &CallOpen) -> String {
    let written = WrittenOpen {
        id: open.id.0,
        began_unix_ms: open.began_unix_ms,
        direction: open.direction,
        agent: open.agent.clone(),
        phone: open.phone.as_ref().map(|phone| phone.reveal().clone()),
        called: open.called.reveal().clone(),
        trunk: open.trunk.clone(),
        journal: open.journal.clone(),
        revision: open.revision.clone(),
        identity: open.identity.clone(),
    };
    serde_json::to_string(&written).expect("plain data with text keys")
}

fn read_open(row: &str) -> Result<CallOpen, StoreError> {
    let written: WrittenOpen = serde_json::from_str(row).map_err(|_| StoreError::Damaged("an open call"))?;
    Ok(CallOpen {
        id: CallId(written.id),
        began_unix_ms: written.began_unix_ms,
        direction: written.direction,
        agent: written.agent,
        phone: written.phone.map(Pii::new),
        called: Pii::new(written.called),
        trunk: written.trunk,
        journal: written.journal,
        revision: written.revision,
        identity: written.identity,
    })
}

fn read_record(row: &str) -> Result<CallRecord, StoreError> {
    serde_json::from_str(row).map_err(|_| StoreError::Damaged("a call's record"))
}
