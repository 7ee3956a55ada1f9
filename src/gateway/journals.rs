//! Journals on disk: one thread writes them all, so that no call waits for a disk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use metrics::counter;
use tokio::sync::mpsc;
use tracing::error;

use crate::model::CallId;

/// The writer of all journals.
#[derive(Debug)]
pub(super) struct Journals {
    dir: PathBuf,
    lines: mpsc::Sender<Line>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Line {
    Journal(CallId, String),
    Vault(CallId, String),
    /// The last lines of a journal.
    Close(CallId, String),
    Stop,
}

impl Journals {
    /// Starts the writer.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn start(dir: PathBuf) -> io::Result<Journals> {
        std::fs::create_dir_all(&dir)?;
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        let mut writer = Writer { dir: dir.clone(), open: HashMap::new() };
        let thread = std::thread::Builder::new().name("journals".to_owned()).spawn(move || writer.run(waiting))?;
        Ok(Journals { dir, lines, thread: std::sync::Mutex::new(Some(thread)) })
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
        let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(thread) = thread {
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

struct Writer {
    dir: PathBuf,
    open: HashMap<(CallId, &'static str), File>,
}

impl Writer {
    fn run(&mut self, mut waiting: mpsc::Receiver<Line>) {
        while let Some(line) = waiting.blocking_recv() {
            match line {
                Line::Journal(call, text) => self.append(call, "jsonl", &text),
                Line::Vault(call, text) => self.append(call, "vault", &text),
                Line::Close(call, text) => {
                    self.append(call, "jsonl", &text);
                    self.open.remove(&(call, "jsonl"));
                    self.open.remove(&(call, "vault"));
                }
                Line::Stop => return,
            }
        }
    }

    fn append(&mut self, call: CallId, kind: &'static str, text: &str) {
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
