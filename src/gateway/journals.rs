//! Journals on disk: one thread writes them all, so that no call waits for a disk.
//!
//! Waking a thread costs more than most lines do, so a task gathers what calls say for a fiftieth of a second, and the
//! thread gets it in one piece. Whoever speaks after a rest is written at once.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::model::CallId;

/// The writer of all journals.
#[derive(Debug)]
pub(super) struct Journals {
    dir: PathBuf,
    lines: mpsc::Sender<Line>,
    at_work: std::sync::Mutex<Option<(JoinSet<()>, JoinHandle<()>)>>,
}

#[derive(Debug)]
enum Line {
    Journal(CallId, String),
    Vault(CallId, String),
    /// The last lines of a journal.
    Close(CallId, String),
    Stop,
}

/// What one call said since the last piece.
#[derive(Debug, Default)]
struct Page {
    journal: String,
    vault: String,
    is_last: bool,
}

impl Journals {
    /// Starts the writer.
    ///
    /// # Errors
    /// When the folder cannot be made.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub(super) fn start(dir: PathBuf) -> io::Result<Journals> {
        std::fs::create_dir_all(&dir)?;
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        let (pages, to_write) = mpsc::channel(PIECES_MAX);
        let mut writer = Writer { dir: dir.clone(), open: HashMap::new() };
        let thread = std::thread::Builder::new().name("journals".to_owned()).spawn(move || writer.run(to_write))?;
        let mut gatherer = JoinSet::new();
        gatherer.spawn(gather(waiting, pages));
        Ok(Journals { dir, lines, at_work: std::sync::Mutex::new(Some((gatherer, thread))) })
    }

    /// Where a call's journal stands.
    pub(super) fn path(&self, call: CallId) -> PathBuf {
        file_of(&self.dir, call, "jsonl")
    }

    /// Appends lines to a call's journal; each ends with a line feed.
    pub(super) fn write(&self, call: CallId, lines: String) {
        self.send(Line::Journal(call, lines));
    }

    /// Appends lines to a call's vault; each ends with a line feed.
    pub(super) fn keep(&self, call: CallId, lines: String) {
        self.send(Line::Vault(call, lines));
    }

    /// Appends the last lines to a call's journal, and closes it and its vault.
    pub(super) fn close(&self, call: CallId, lines: String) {
        self.send(Line::Close(call, lines));
    }

    /// Writes what waits, and ends the thread.
    pub(super) async fn stop(&self) {
        // A writer that is gone has stopped already.
        let _ = self.lines.send(Line::Stop).await;
        let at_work = self.at_work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some((mut gatherer, thread)) = at_work {
            while gatherer.join_next().await.is_some() {}
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// A disk that stands still makes no call wait: the journal gets a hole, which replaying it finds.
    fn send(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            counter!("ringback_journal_errors_total").increment(1);
        }
    }
}

async fn gather(mut waiting: mpsc::Receiver<Line>, pages: mpsc::Sender<BTreeMap<CallId, Page>>) {
    let mut rest = interval(REST);
    rest.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lines = Vec::new();
    let mut is_over = false;
    while !is_over && waiting.recv_many(&mut lines, LINES_MAX).await > 0 {
        rest.tick().await;
        while lines.len() < LINES_MAX
            && let Ok(line) = waiting.try_recv()
        {
            lines.push(line);
        }
        let mut piece: BTreeMap<CallId, Page> = BTreeMap::new();
        for line in lines.drain(..) {
            match line {
                Line::Journal(call, text) => piece.entry(call).or_default().journal.push_str(&text),
                Line::Vault(call, text) => piece.entry(call).or_default().vault.push_str(&text),
                Line::Close(call, text) => {
                    let page = piece.entry(call).or_default();
                    page.journal.push_str(&text);
                    page.is_last = true;
                }
                Line::Stop => is_over = true,
            }
        }
        if pages.send(piece).await.is_err() {
            // The thread panicked; from now on every line is counted as lost.
            return;
        }
    }
}

struct Writer {
    dir: PathBuf,
    open: HashMap<(CallId, &'static str), File>,
}

impl Writer {
    fn run(&mut self, mut to_write: mpsc::Receiver<BTreeMap<CallId, Page>>) {
        while let Some(piece) = to_write.blocking_recv() {
            for (call, page) in piece {
                self.append(call, "vault", &page.vault);
                self.append(call, "jsonl", &page.journal);
                if page.is_last {
                    self.open.remove(&(call, "jsonl"));
                    self.open.remove(&(call, "vault"));
                }
            }
        }
    }

    fn append(&mut self, call: CallId, kind: &'static str, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Err(error) = self.try_append(call, kind, text.as_bytes()) {
            counter!("ringback_journal_errors_total").increment(1);
            error!(%call, %error, "a journal cannot be written; the call goes on without");
        }
    }

    fn try_append(&mut self, call: CallId, kind: &'static str, text: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(&(call, kind)) {
            let mut options = OpenOptions::new();
            // Nobody but the gateway's user: the vault holds personal values.
            let file = options.create(true).append(true).mode(0o600).open(file_of(&self.dir, call, kind))?;
            self.open.insert((call, kind), file);
        }
        match self.open.get_mut(&(call, kind)) {
            Some(file) => file.write_all(text),
            None => Ok(()),
        }
    }
}

fn file_of(dir: &Path, call: CallId, kind: &str) -> PathBuf {
    dir.join(format!("{call}.{kind}"))
}

/// What waits for the disk, mostly several lines at once. A busy second makes some four thousand; when full, lines are
/// lost and counted.
const LINES_MAX: usize = 8_192;
/// Pieces that wait for the thread. While they do, lines wait before them.
const PIECES_MAX: usize = 4;
/// Between two pieces. So much of a journal is lost when the process is killed.
const REST: Duration = Duration::from_millis(20);
