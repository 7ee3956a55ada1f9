//! The one who writes down how calls begin and end.
//!
//! A transaction costs the same for one call as for fifty: its statements pass to SQLite's own thread and back, and its
//! end waits for the disk. So one task writes for all calls that wait, in one transaction, and rests a little after
//! each; whoever comes after a rest is written at once. Each call is still all or nothing, and is told only when
//! its own transaction is on the disk.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::calls::{insert_deliveries, insert_job};
use super::{NewEvent, NewJob, StoreError, begin, database};
use crate::model::limits::{STORE_BATCH_MAX, STORE_PAPERS_MAX};

/// The way to the task. It ends when this is dropped; [`Scribe::stop`] lets it finish first.
pub(super) struct Scribe {
    slips: mpsc::Sender<Slip>,
    task: Mutex<JoinSet<()>>,
}

/// Something to be written.
pub(super) enum Paper {
    /// A call has begun.
    Begun(Begun),
    /// A call is over.
    Ended(Box<Ended>),
}

/// A row of an open call.
#[derive(Serialize)]
pub(super) struct Begun {
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) began_ms: i64,
    pub(super) open: String,
}

/// What a call leaves.
pub(super) struct Ended {
    pub(super) row: EndedRow,
    pub(super) events: Vec<NewEvent>,
    pub(super) jobs: Vec<NewJob>,
}

#[derive(Serialize)]
pub(super) struct EndedRow {
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) ended_ms: i64,
    pub(super) record: String,
}

enum Slip {
    Write(Paper, oneshot::Sender<Result<bool, StoreError>>),
    Stop,
}

impl Scribe {
    /// Starts the task on the writing connection.
    pub(super) fn start(writer: SqlitePool, boot: &str) -> Scribe {
        let (slips, waiting) = mpsc::channel(STORE_PAPERS_MAX);
        let mut task = JoinSet::new();
        task.spawn(write_what_comes(writer, boot.to_owned(), waiting));
        Scribe { slips, task: Mutex::new(task) }
    }

    /// Writes a paper and returns when it is on the disk: whether it changed anything.
    ///
    /// # Errors
    /// When the database fails; nothing of it is written.
    pub(super) async fn write(&self, paper: Paper) -> Result<bool, StoreError> {
        let gone = || database("write about a call")(sqlx::Error::PoolClosed);
        let (tell, told) = oneshot::channel();
        self.slips.send(Slip::Write(paper, tell)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }

    /// Writes what waits, and ends.
    pub(super) async fn stop(&self) {
        // One that has ended takes no more, which is what we want.
        let _ = self.slips.send(Slip::Stop).await;
        let mut task = std::mem::take(&mut *self.task.lock().unwrap_or_else(PoisonError::into_inner));
        while task.join_next().await.is_some() {}
    }
}

async fn write_what_comes(writer: SqlitePool, boot: String, mut waiting: mpsc::Receiver<Slip>) {
    let mut rest = interval(REST);
    // Whoever comes later than this is written at once.
    rest.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut slips = Vec::new();
    loop {
        if waiting.recv_many(&mut slips, STORE_BATCH_MAX).await == 0 {
            return;
        }
        rest.tick().await;
        while slips.len() < STORE_BATCH_MAX
            && let Ok(slip) = waiting.try_recv()
        {
            slips.push(slip);
        }
        let (mut papers, mut to_tell, mut is_over) = (Vec::new(), Vec::new(), false);
        for slip in slips.drain(..) {
            match slip {
                Slip::Write(paper, tell) => {
                    papers.push(paper);
                    to_tell.push(tell);
                }
                Slip::Stop => is_over = true,
            }
        }
        for (told, tell) in write_or_try_each(&writer, &boot, &papers).await.into_iter().zip(to_tell) {
            // Whoever does not wait for it any more has its reasons.
            let _ = tell.send(told);
        }
        if is_over {
            return;
        }
    }
}

/// All in one transaction; when that fails, each in its own, so that one call's trouble is no other's.
async fn write_or_try_each(writer: &SqlitePool, boot: &str, papers: &[Paper]) -> Vec<Result<bool, StoreError>> {
    match write_all(writer, boot, papers).await {
        Ok(done) => done.into_iter().map(Ok).collect(),
        Err(error) if papers.len() == 1 => vec![Err(error)],
        Err(_) => {
            let mut done = Vec::with_capacity(papers.len());
            for paper in papers {
                let one = write_all(writer, boot, std::slice::from_ref(paper)).await;
                done.push(one.map(|done| done.first().copied().unwrap_or_default()));
            }
            done
        }
    }
}

async fn write_all(writer: &SqlitePool, boot: &str, papers: &[Paper]) -> Result<Vec<bool>, StoreError> {
    let is_end = papers.iter().any(|paper| paper.ended().is_some());
    let failed = database(if is_end { "write the end of a call" } else { "write that a call began" });
    let begun: Vec<&Begun> = papers.iter().filter_map(Paper::begun).collect();
    let ended: Vec<&Ended> = papers.iter().filter_map(Paper::ended).collect();
    let mut connection = writer.acquire().await.map_err(database("wait for the database"))?;
    // The beginning of a call need not outlive the machine, its end must; see `Store::durable`.
    let mode = if ended.is_empty() { "PRAGMA synchronous = NORMAL" } else { "PRAGMA synchronous = FULL" };
    sqlx::query::<Sqlite>(mode).execute(&mut *connection).await.map_err(database("set up the database"))?;
    let mut transaction = begin(&mut connection).await.map_err(&failed)?;
    if !begun.is_empty() {
        insert_open(&mut transaction, boot, &begun).await.map_err(&failed)?;
    }
    let closed = match ended.is_empty() {
        true => HashSet::new(),
        false => close(&mut transaction, boot, &ended).await.map_err(&failed)?,
    };
    // The first end of a call is the one that counts.
    let mut seen = HashSet::new();
    let done: Vec<bool> = papers
        .iter()
        .map(|paper| paper.ended().is_none_or(|ended| closed.contains(&ended.row.id) && seen.insert(&ended.row.id)))
        .collect();
    let new = papers.iter().zip(&done).filter(|(_, done)| **done).filter_map(|(paper, _)| paper.ended());
    let new: Vec<&Ended> = new.collect();
    let events: Vec<&NewEvent> = new.iter().flat_map(|ended| &ended.events).collect();
    if !events.is_empty() {
        insert_events(&mut transaction, &events).await.map_err(&failed)?;
    }
    for event in events {
        insert_deliveries(&mut transaction, event).await.map_err(&failed)?;
    }
    for ended in new {
        for job in &ended.jobs {
            insert_job(&mut transaction, job, ended.row.ended_ms).await.map_err(&failed)?;
        }
    }
    transaction.commit().await.map_err(&failed)?;
    Ok(done)
}

impl Paper {
    fn begun(&self) -> Option<&Begun> {
        match self {
            Paper::Begun(begun) => Some(begun),
            Paper::Ended(_) => None,
        }
    }

    fn ended(&self) -> Option<&Ended> {
        match self {
            Paper::Ended(ended) => Some(ended),
            Paper::Begun(_) => None,
        }
    }
}

async fn insert_open(connection: &mut SqliteConnection, boot: &str, begun: &[&Begun]) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO calls (id, boot, status, began_ms, open)
               SELECT value ->> 'id', ?1, value ->> 'status', value ->> 'began_ms', value ->> 'open'
               FROM json_each(?2) WHERE true
               ON CONFLICT (id) DO NOTHING";
    sqlx::query(sql).bind(boot).bind(rows(begun)).execute(connection).await?;
    Ok(())
}

/// The ids of those that were not closed before. A call whose begin could not be written is written now.
async fn close(
    connection: &mut SqliteConnection,
    boot: &str,
    ended: &[&Ended],
) -> Result<HashSet<String>, sqlx::Error> {
    let sql = "INSERT INTO calls (id, boot, status, began_ms, ended_ms, open, record)
               SELECT value ->> 'id', ?1, value ->> 'status', value ->> 'ended_ms', value ->> 'ended_ms', '{}',
                      value ->> 'record'
               FROM json_each(?2) WHERE true
               ON CONFLICT (id) DO UPDATE
               SET status = excluded.status, ended_ms = excluded.ended_ms, record = excluded.record
               WHERE calls.record IS NULL
               RETURNING id";
    let ended: Vec<&EndedRow> = ended.iter().map(|ended| &ended.row).collect();
    let closed: Vec<String> = sqlx::query_scalar(sql).bind(boot).bind(rows(&ended)).fetch_all(connection).await?;
    Ok(closed.into_iter().collect())
}

async fn insert_events(connection: &mut SqliteConnection, events: &[&NewEvent]) -> Result<(), sqlx::Error> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        kind: &'a str,
        call: String,
        created_ms: i64,
        body: &'a str,
    }
    let events = events.iter().map(|event| Row {
        id: &event.id,
        kind: &event.kind,
        call: event.call.to_string(),
        created_ms: event.created_unix_ms,
        body: event.body.reveal(),
    });
    let sql = "INSERT INTO events (id, kind, call, created_ms, body)
               SELECT value ->> 'id', value ->> 'kind', value ->> 'call', value ->> 'created_ms', value ->> 'body'
               FROM json_each(?1) WHERE true
               ON CONFLICT (id) DO NOTHING";
    sqlx::query(sql).bind(rows(&events.collect::<Vec<_>>())).execute(connection).await?;
    Ok(())
}

fn rows<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("rows are plain data with text keys")
}

/// Between two transactions. A call's answer waits for its row, so this must not be felt; at 500 calls in a second it
/// lets twenty papers share one.
const REST: Duration = Duration::from_millis(20);
