//! `ringback replay`: draw a call from its journal, and prove that today's code would do the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{EXIT_CODES, Exit, screen};
use crate::journal::{Divergence, Journal, Ladder, heading, replay};
use crate::model::Vault;
use crate::model::limits::JOURNAL_FILE_MAX;

/// Draw a call as a ladder from its journal, and replay it against this version.
///
/// The ladder needs the journal only and shows no personal data. The replay needs the vault file beside it
/// (CALL.vault for CALL.jsonl) as well; where that was destroyed, the ladder is still drawn.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The journal, CALL.jsonl
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// Draw the ladder and leave it at that
    #[arg(long)]
    ladder_only: bool,
    /// Print one JSON object: ok, call, sealed, events, ladder, replay
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  What happened on this call, and would it happen again?
    ringback replay data/journals/0193.jsonl
  Only draw it, as for a call whose personal data was destroyed
    ringback replay data/journals/0193.jsonl --ladder-only
  Find calls that a new version would treat otherwise
    for call in data/journals/*.jsonl; do ringback replay $call --json >> verdicts.jsonl; done";

pub(super) fn run(arguments: &Arguments) -> Exit {
    match read(&arguments.journal) {
        Ok(journal) => show(arguments, &journal),
        Err(why) => {
            if arguments.json {
                screen::json(&json!({ "ok": false, "error": why }));
            }
            eprintln!("ringback replay: {}: {why}", arguments.journal.display());
            Exit::Failed
        }
    }
}

/// Replays a journal: how many events were handled alike, or why it does not come to the same.
///
/// # Errors
/// In words.
pub(super) fn judge(path: &Path) -> Result<usize, String> {
    let journal = read(path)?;
    if !journal.sealed {
        return Err("the journal has no seal".to_owned());
    }
    match verdict(path, &journal) {
        Verdict::Same { events } => Ok(events),
        other => Err(other.describe()),
    }
}

fn show(arguments: &Arguments, journal: &Journal) -> Exit {
    let ladder = draw(journal);
    if !arguments.json {
        println!("{}", ladder.join("\n"));
        if !journal.sealed {
            println!("\nThe journal has no seal: the process ended before the call did.");
        }
    }
    let verdict = if arguments.ladder_only { None } else { Some(verdict(&arguments.journal, journal)) };
    if arguments.json {
        screen::json(&json!({
            "ok": verdict.as_ref().is_none_or(Verdict::is_ok),
            "call": journal.header.call,
            "sealed": journal.sealed,
            "events": journal.entries.len(),
            "ladder": ladder,
            "replay": verdict.as_ref().map(Verdict::json),
        }));
    } else if let Some(verdict) = &verdict {
        println!("\n{}", verdict.describe());
    }
    if verdict.as_ref().is_none_or(Verdict::is_ok) { Exit::Ok } else { Exit::Failed }
}

fn draw(journal: &Journal) -> Vec<String> {
    let mut ladder = Ladder::default();
    let lines = journal.entries.iter().flat_map(|entry| ladder.draw(entry));
    std::iter::once(heading()).chain(lines).collect()
}

/// What a replay came to.
enum Verdict {
    Same {
        events: usize,
    },
    Parted {
        events: usize,
        at: Divergence,
    },
    /// Why it cannot be replayed.
    Impossible(String),
}

impl Verdict {
    fn is_ok(&self) -> bool {
        matches!(self, Verdict::Same { .. })
    }

    fn json(&self) -> Value {
        match self {
            Verdict::Same { events } => json!({ "same": true, "events": events }),
            Verdict::Parted { events, at } => json!({
                "same": false,
                "events": events,
                "line": at.line,
                "written": at.written,
                "now": at.now,
            }),
            Verdict::Impossible(why) => json!({ "same": null, "error": why }),
        }
    }

    fn describe(&self) -> String {
        match self {
            Verdict::Same { events } => format!("Replayed {events} events: every command is the same."),
            Verdict::Parted { events, at } => {
                let side = |commands: &[Value]| {
                    let lines: Vec<String> = commands.iter().map(|command| format!("    {command}")).collect();
                    if lines.is_empty() { "    nothing".to_owned() } else { lines.join("\n") }
                };
                format!(
                    "After {events} equal events this version parts from the journal, at line {}.\n  \
                     The journal says:\n{}\n  This version does:\n{}",
                    at.line,
                    side(&at.written),
                    side(&at.now)
                )
            }
            Verdict::Impossible(why) => format!("It cannot be replayed: {why}."),
        }
    }
}

fn verdict(path: &Path, journal: &Journal) -> Verdict {
    let mut vault = match vault(path) {
        Ok(Some(vault)) => vault,
        Ok(None) => {
            return Verdict::Impossible("there is no vault beside the journal; its personal data was destroyed".into());
        }
        Err(why) => return Verdict::Impossible(format!("the vault: {why}")),
    };
    match replay(journal, &mut vault) {
        Ok(replayed) => match replayed.divergence {
            None => Verdict::Same { events: replayed.events },
            Some(at) => Verdict::Parted { events: replayed.events, at },
        },
        Err(error) => Verdict::Impossible(error.to_string()),
    }
}

fn read(path: &Path) -> Result<Journal, String> {
    let text = read_bounded(path).map_err(|error| error.to_string())?;
    Journal::parse(&text).map_err(|error| error.to_string())
}

/// The values of `CALL.vault`, one JSON value in a line; `None` when there is no such file.
fn vault(journal: &Path) -> Result<Option<Vault>, String> {
    let text = match read_bounded(&journal.with_extension("vault")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut values = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            // The process died in the middle of writing it; events that need it will say so.
            Err(_) if !text.ends_with('\n') && at + 1 == text.lines().count() => {}
            // Its words would repeat what stands there, which is personal.
            Err(_) => return Err(format!("line {} is not JSON", at + 1)),
        }
    }
    Ok(Some(Vault::from_values(values)))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > JOURNAL_FILE_MAX {
        return Err(io::Error::other("the file is too large for a journal"));
    }
    fs::read_to_string(path)
}
