use std::sync::Arc;

use super::*;
use crate::model::{Time, Vault};
use crate::sim;

#[test]
fn a_journal_holds_no_personal_value_and_still_replays() {
    let (text, values) = written_call();
    assert!(text.contains("INVITE") || text.contains("invited"));
    assert!(!text.contains("+441632960001"), "the caller's number is in the journal");

    let journal = Journal::parse(&text).unwrap();
    let replayed = replay(&journal, &mut Vault::from_values(values)).unwrap();

    assert!(journal.sealed);
    assert_eq!(replayed, Replayed { events: journal.entries.len(), divergence: None });
}

#[test]
fn a_journal_without_its_vault_draws_but_does_not_replay() {
    let (text, _) = written_call();
    let journal = Journal::parse(&text).unwrap();

    let mut ladder = Ladder::default();
    let drawn: Vec<String> = journal.entries.iter().flat_map(|entry| ladder.draw(entry)).collect();

    assert!(drawn[0].ends_with("INVITE from trunk carrier, PCMU"), "{}", drawn[0]);
    assert!(replay(&journal, &mut Vault::default()).is_err());
}

#[test]
fn a_changed_line_is_found() {
    let (text, values) = written_call();
    let mut journal = Journal::parse(&text).unwrap();
    journal.entries[1].at = Time(journal.entries[1].at.0 + 1);

    let replayed = replay(&journal, &mut Vault::from_values(values)).unwrap();

    assert_eq!(replayed.divergence.map(|found| found.line), Some(3));
}

#[test]
fn commands_changed_under_their_digest_are_found() {
    let (text, values) = written_call();
    let mut journal = Journal::parse(&text).unwrap();
    journal.entries[0].commands.remove(0);

    let replayed = replay(&journal, &mut Vault::from_values(values)).unwrap();

    assert_eq!(replayed.divergence.map(|found| found.line), Some(2));
}

#[test]
fn a_line_cut_off_by_a_crash_is_left_out() {
    let (text, values) = written_call();
    let last_entry = text.trim_end().rfind('\n').unwrap();
    let cut = &text[..last_entry - 5];

    let journal = Journal::parse(cut).unwrap();

    assert!(!journal.sealed);
    assert!(replay(&journal, &mut Vault::from_values(values)).unwrap().divergence.is_none());
}

fn written_call() -> (String, Vec<serde_json::Value>) {
    let run = sim::World::new(7, Arc::new(sim::plan())).run();
    (run.journal, run.vault)
}
