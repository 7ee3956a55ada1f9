//! The end of a call: all of it or nothing of it, once.

use std::os::unix::fs::PermissionsExt;

use ringback::actions::{RunOutcome, Workflow};
use ringback::call::{RunRecord, Speaker, Status, Turn};
use ringback::model::{Address, Attestation, RunId, Time, Verdict, Verification, Via, limits};
use ringback::store::{CallOpen, CallRecord, JobState, NewEvent, NewJob, Store, StoreError};
use serde_json::{Value, json};

use crate::outside::{Disk, now, open_call, outcome, record};

fn workflow(id: &str) -> Workflow {
    Workflow { id: id.to_owned(), title: String::new(), steps: Vec::new() }
}

#[tokio::test]
async fn a_call_ends_once() {
    let disk = Disk::new();
    let store = disk.open().await;
    let record = record(1);
    let event = NewEvent::call_ended(&record, now(), vec!["crm".to_owned()]);
    let job = NewJob::new(&record, &workflow("note"));
    store.begin_call(&open_call(1)).await.unwrap();
    assert_eq!(store.call(record.id).await.unwrap(), None);
    assert_eq!(store.open_calls().await.unwrap(), 1);

    let first = store.finish_call(&record, std::slice::from_ref(&event), std::slice::from_ref(&job), now()).await;
    let mut other = record.clone();
    other.end_reason = "internal".to_owned();
    let second = store.finish_call(&other, &[event], &[job], now()).await;

    assert!(first.unwrap());
    assert!(!second.unwrap());
    assert_eq!(store.call(record.id).await.unwrap().unwrap(), record);
    assert_eq!(store.calls(10).await.unwrap().len(), 1);
    assert_eq!(store.open_calls().await.unwrap(), 0);
    assert_eq!(store.deliveries(record.id).await.unwrap().len(), 1);
    let jobs = store.jobs(record.id).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!((jobs[0].workflow.as_str(), jobs[0].state), ("note", JobState::Pending));
}

#[tokio::test]
async fn two_tasks_that_end_one_call_at_once_write_it_once() {
    let disk = Disk::new();
    let store = disk.open().await;
    let record = record(1);
    let event = [NewEvent::call_ended(&record, now(), vec!["crm".to_owned()])];

    let (one, two) =
        tokio::join!(store.finish_call(&record, &event, &[], now()), store.finish_call(&record, &event, &[], now()));

    assert!(one.unwrap() ^ two.unwrap());
    assert_eq!(store.deliveries(record.id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_whose_beginning_was_not_written_ends_all_the_same() {
    let disk = Disk::new();
    let store = disk.open().await;

    assert!(store.finish_call(&record(1), &[], &[], now()).await.unwrap());

    assert!(store.call(record(1).id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_call_left_open_by_a_crash_is_found_by_the_next_process_only() {
    let disk = Disk::new();
    let store = disk.open().await;
    store.begin_call(&open_call(1)).await.unwrap();
    store.begin_call(&open_call(2)).await.unwrap();
    store.finish_call(&record(2), &[], &[], now()).await.unwrap();
    assert!(store.orphans().await.unwrap().is_empty());
    drop(store);

    let store = disk.open().await;
    store.begin_call(&open_call(3)).await.unwrap();
    let orphans = store.orphans().await.unwrap();
    let crashed = CallRecord::crashed(&orphans[0], None, orphans[0].began_unix_ms + 5_000);
    assert!(store.finish_call(&crashed, &[], &[], now()).await.unwrap());

    assert_eq!(orphans, vec![open_call(1)]);
    assert!(store.orphans().await.unwrap().is_empty());
    let written = serde_json::to_value(store.call(crashed.id).await.unwrap().unwrap()).unwrap();
    assert_eq!(written["status"], "FAILED");
    assert_eq!(written["endReason"], "internal");
    assert_eq!(written["endTime"], "2023-11-14T22:13:25Z");
}

#[tokio::test]
async fn the_store_is_opened_by_one_process_at_a_time_and_read_by_others() {
    let disk = Disk::new();
    let store = disk.open().await;
    store.finish_call(&record(1), &[], &[], now()).await.unwrap();

    let second = Store::open(disk.path()).await;
    let reader = Store::open_for_reading(disk.path()).await.unwrap();

    assert!(matches!(second, Err(StoreError::InUse(_))), "{second:?}");
    assert_eq!(reader.call(record(1).id).await.unwrap(), Some(record(1)));
    assert!(matches!(reader.begin_call(&open_call(2)).await, Err(StoreError::Database(..))));
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let disk = Disk::new();
    let store = disk.open().await;
    store.begin_call(&open_call(1)).await.unwrap();

    let folder = disk.path().parent().unwrap().to_owned();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let disk = Disk::new();
    let file = disk.path().parent().unwrap().to_owned();
    std::fs::write(&file, "in the way").unwrap();
    let in_the_way = Store::open(disk.path()).await.unwrap_err();
    std::fs::remove_file(&file).unwrap();
    drop(disk.open().await);

    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(disk.path());
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("PRAGMA user_version = 99").execute(&pool).await.unwrap();
    pool.close().await;
    let newer = Store::open(disk.path()).await.unwrap_err();
    std::fs::write(disk.path(), "this is no database, whatever its name says, and it is long enough to be read")
        .unwrap();
    let garbage = Store::open(disk.path()).await.unwrap_err();

    assert!(matches!(in_the_way, StoreError::File(..)), "{in_the_way}");
    assert!(matches!(newer, StoreError::Newer { found: 99, .. }), "{newer}");
    assert!(garbage.to_string().contains("not a database"), "{garbage}");
}

#[tokio::test]
async fn an_end_that_fails_half_way_is_not_written_at_all() {
    let disk = Disk::new();
    let store = disk.open().await;
    let record = record(1);
    let event = [NewEvent::call_ended(&record, now(), vec!["crm".to_owned()])];
    let job = [NewJob::new(&record, &workflow("note"))];
    store.begin_call(&open_call(1)).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(disk.path());
    let other = sqlx::SqlitePool::connect_with(options).await.unwrap();

    // Record and event can be written, the job cannot.
    sqlx::query("ALTER TABLE jobs RENAME TO away").execute(&other).await.unwrap();
    let error = store.finish_call(&record, &event, &job, now()).await.unwrap_err();
    let left = (store.call(record.id).await.unwrap(), store.deliveries(record.id).await.unwrap().len());
    sqlx::query("ALTER TABLE away RENAME TO jobs").execute(&other).await.unwrap();
    let again = store.finish_call(&record, &event, &job, now()).await.unwrap();

    assert!(error.to_string().contains("write the end of a call"), "{error}");
    assert!(!error.to_string().contains("+44"), "{error}");
    assert_eq!(left, (None, 0));
    assert!(again);
    assert_eq!(store.jobs(record.id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_closed_store_refuses_and_nothing_is_lost() {
    let disk = Disk::new();
    let store = disk.open().await;
    store.begin_call(&open_call(1)).await.unwrap();
    store.close().await;

    let error = store.finish_call(&record(1), &[], &[], now()).await.unwrap_err();
    drop(store);

    assert!(error.to_string().contains("closed"), "{error}");
    assert_eq!(disk.open().await.orphans().await.unwrap().len(), 1);
}

#[test]
fn a_record_has_the_fields_and_times_of_the_feature_table() {
    let mut outcome = outcome();
    outcome.transferred_to = Some("+441632960200".parse::<Address>().unwrap().into());
    outcome.runs.push(RunRecord {
        run: RunId(3),
        action: "order-status".to_owned(),
        kind: "api".into(),
        began: Time::from_ms(2_000),
        ended: Time::from_ms(2_400),
        outcome: RunOutcome::success("ok"),
    });
    outcome.turns.push(Turn {
        at: Time::from_ms(3_000),
        who: Speaker::Agent,
        text: "Hello Ada".to_owned().into(),
        interrupted: true,
    });

    let identity =
        Verification { attestation: Some(Attestation::B), ..Verification::bare(Verdict::Passed, Via::Verstat) };
    let open = CallOpen { identity: Some(identity), ..open_call(1) };

    let record = CallRecord::new(&open, Some("recordings/1.wav".to_owned()), &outcome);

    let expected = json!({
        "id": "00000000-0000-0000-0000-000000000001",
        "agentId": "reception",
        "phone": "+441632960001",
        "type": "INBOUND",
        "duration": 62,
        "startTime": "2023-11-14T22:13:20Z",
        "endTime": "2023-11-14T22:14:24Z",
        "created": "2023-11-14T22:13:20Z",
        "anonymous": false,
        "recorded": true,
        "status": "COMPLETED",
        "extractors": [],
        "extractedData": {},
        "classifiers": [],
        "consent": null,
        "classificationData": {},
        "context": {"customer.name": "Ada"},
        "summary": null,
        "called": "+441632960100",
        "trunk": "acme",
        "endReason": "normal",
        "endedBy": "caller",
        "answeredAt": 1500,
        "ringMs": 1500,
        "transferredTo": "+441632960200",
        "runs": [{"run": 3, "action": "order-status", "kind": "api", "beganAt": 2000, "endedAt": 2400,
                  "result": "success", "code": "ok"}],
        "transcript": [{"at": 3000, "who": "agent", "text": "Hello Ada", "interrupted": true}],
        "recording": "recordings/1.wav",
        "journal": "journals/1.jsonl",
        "revision": "r7",
        "identity": {"outcome": "passed", "reason": null, "attestation": "B", "origid": null, "via": "verstat"},
    });
    assert_eq!(serde_json::to_value(&record).unwrap(), expected);
    let printed = format!("{record:?} {:?} {:?}", open_call(1), record.transcript);
    assert!(!printed.contains("+4416") && !printed.contains("Ada"), "{printed}");
}

#[test]
fn a_call_that_was_not_answered_lasted_no_time() {
    let mut outcome = outcome();
    outcome.answered = None;
    outcome.status = Status::Canceled;

    let record = CallRecord::new(&open_call(1), None, &outcome);

    assert_eq!((record.duration, record.ring_ms, record.answered_at), (0, 63_900, None));
}

#[test]
fn a_large_record_is_told_in_less_than_20_kb() {
    let turn = |n: u64| Turn {
        at: Time::from_ms(n),
        who: Speaker::Caller,
        text: "äöü words ".repeat(20).into(),
        interrupted: false,
    };
    let mut long = outcome();
    long.turns = (0..10_000).map(turn).collect();
    let mut huge = long.clone();
    for n in 0..limits::VARS_MAX {
        huge.vars.set(&format!("v{n}"), Value::from("x".repeat(10_000)));
    }

    for (outcome, keeps_context) in [(long, true), (huge, false)] {
        let event = NewEvent::call_ended(&CallRecord::new(&open_call(1), None, &outcome), now(), Vec::new());

        let body = event.body().reveal();
        assert!(body.len() < limits::EVENT_BODY_MAX, "{}", body.len());
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["type"], "call.ended");
        assert_eq!(body["data"]["truncated"], true);
        assert_eq!(body["data"]["transcript"], Value::Null);
        assert_eq!(body["data"]["context"].is_object(), keeps_context);
        assert_eq!(body["data"]["status"], "COMPLETED");
        assert!(!event.id().contains('.'));
    }
}
