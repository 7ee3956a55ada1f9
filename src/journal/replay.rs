//! Reading a journal, and proving that it tells the truth.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::entry::{Entry, Header, Recorder, SCHEMA, Seal};
use crate::call::{Call, Event};
use crate::model::Vault;

/// A journal that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    /// The first line.
    pub header: Header,
    /// One per event.
    pub entries: Vec<Entry>,
    /// Whether the call ended in order; without a seal the process died in the middle of it.
    pub sealed: bool,
}

impl Journal {
    /// Reads a journal. A last line that was cut off in the middle of writing is left out.
    ///
    /// # Errors
    /// The first line that is not what it should be, by number.
    pub fn parse(text: &str) -> Result<Journal, JournalError> {
        let mut lines = text.lines().enumerate();
        let first = lines.next().map_or("", |(_, line)| line);
        let header: Header = serde_json::from_str(first).map_err(|error| JournalError::at(1, error.to_string()))?;
        if header.ringback_journal > SCHEMA {
            let what = format!("written by a newer version (format {}, we read {SCHEMA})", header.ringback_journal);
            return Err(JournalError::at(1, what));
        }
        let mut journal = Journal { header, entries: Vec::new(), sealed: false };
        let whole = text.ends_with('\n');
        let count = text.lines().count();
        for (at, line) in lines {
            match serde_json::from_str::<Entry>(line) {
                _ if journal.sealed => return Err(JournalError::at(at + 1, "something follows the seal".to_owned())),
                Ok(entry) => journal.entries.push(entry),
                Err(error) => match serde_json::from_str::<Seal>(line) {
                    Ok(seal) if seal.sealed == journal.entries.len() => journal.sealed = true,
                    Ok(_) => return Err(JournalError::at(at + 1, "entries are missing before the seal".to_owned())),
                    Err(_) if at + 1 == count && !whole => {}
                    Err(_) => return Err(JournalError::at(at + 1, error.to_string())),
                },
            }
        }
        Ok(journal)
    }
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Events handled alike.
    pub events: usize,
    /// Where the replay parted from the journal, if it did.
    pub divergence: Option<Divergence>,
}

/// The first entry at which today's code does something else than the journal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Line in the journal, from 1.
    pub line: usize,
    /// The commands in the journal.
    pub written: Vec<Value>,
    /// The commands now.
    pub now: Vec<Value>,
}

/// Lets a fresh call handle the journal's events, and compares every command by digest.
///
/// # Errors
/// An event that cannot be read, as when its personal values were destroyed.
pub fn replay(journal: &Journal, vault: &mut Vault) -> Result<Replayed, JournalError> {
    let mut call = Call::new(Arc::new(journal.header.plan.clone()));
    let mut recorder = Recorder::default();
    for (at, entry) in journal.entries.iter().enumerate() {
        let line = at + 2;
        let event: Event = vault
            .open(|| serde_json::from_value(entry.event.clone()))
            .map_err(|error| JournalError::at(line, error.to_string()))?;
        let (_, now) = recorder.step(&mut call, entry.at, event);
        // The digest finds what differs anywhere before; the commands, what was changed under an old digest.
        if now.digest != entry.digest || now.commands != entry.commands {
            let divergence = Divergence { line, written: entry.commands.clone(), now: now.commands };
            return Ok(Replayed { events: at, divergence: Some(divergence) });
        }
    }
    Ok(Replayed { events: journal.entries.len(), divergence: None })
}

/// A line of a journal that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalError {
    /// From 1.
    pub line: usize,
    what: String,
}

impl JournalError {
    fn at(line: usize, what: String) -> JournalError {
        JournalError { line, what }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the journal cannot be read: {}", self.line, self.what)
    }
}

impl std::error::Error for JournalError {}
