//! Writing a journal.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::actions::Plan;
use crate::call::{Call, Commands, Event};
use crate::model::{CallId, Time, Vault};

/// The version of the format. A reader takes every version up to its own.
pub const SCHEMA: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`SCHEMA`] of the writer.
    pub ringback_journal: u32,
    /// Whose journal.
    pub call: CallId,
    /// Wall clock at [`Time::ZERO`], milliseconds since 1970.
    pub began_unix_ms: i64,
    /// What the call follows.
    pub plan: Plan,
}

/// One event and what it led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Time,
    /// The event, personal values as tokens.
    pub event: Value,
    /// The commands, personal values as tokens.
    pub commands: Vec<Value>,
    /// Over everything up to and with this entry.
    pub digest: String,
}

/// The last line of a call that ended in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Entries before it.
    pub sealed: usize,
}

/// Writes down one call as it goes.
#[derive(Debug, Default)]
pub struct Recorder {
    vault: Vault,
    entries: usize,
    rolling: [u8; 32],
}

impl Recorder {
    /// Lets the call handle an event, and writes down both what happened and what it led to.
    pub fn step(&mut self, call: &mut Call, now: Time, event: Event) -> (Commands, Entry) {
        let (event, written) = self.vault.open(|| {
            let written = to_value(&event);
            (event, written)
        });
        let commands = call.handle(now, event);
        let done = self.vault.open(|| commands.iter().map(to_value).collect());
        (commands, self.enter(now, written, done))
    }

    /// The vault's values that no earlier call of this gave, to be appended to the vault file.
    pub fn new_values(&mut self) -> Vec<Value> {
        self.vault.take_new()
    }

    /// The last line.
    pub fn seal(&self) -> Seal {
        Seal { sealed: self.entries }
    }

    fn enter(&mut self, at: Time, event: Value, commands: Vec<Value>) -> Entry {
        self.entries += 1;
        let mut hash = Sha256::new();
        hash.update(self.rolling);
        hash.update(at.0.to_be_bytes());
        hash.update(event.to_string());
        for command in &commands {
            hash.update(command.to_string());
        }
        self.rolling = hash.finalize().into();
        let digest = self.rolling[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Entry { at, event, commands, digest }
    }
}

fn to_value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("events and commands have string keys only, because they are our own types")
}
