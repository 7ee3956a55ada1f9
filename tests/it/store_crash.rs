//! A process that is killed between the end of a call and its delivery, and the one that comes after it.

use std::process::{Command, Stdio};

use ringback::call::Status;
use ringback::model::Secret;
use ringback::store::{CallRecord, DeliveryState, NewEvent, Store};
use ringback::webhook::{Endpoint, Schedule, Webhooks};

use crate::outside::{Answer, Disk, PATIENCE, Receiver, http, now, open_call, record, until};

/// Tells the copy of this binary that it is the one to be killed: the store's path and the receiver's address.
const VICTIM: &str = "RINGBACK_TEST_VICTIM";

fn webhooks(store: &Store, url: &str) -> Webhooks {
    let secret = Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let crm = Endpoint::new("crm", url, &[secret], Vec::new(), PATIENCE).unwrap();
    Webhooks::start(store, vec![crm], &http(), &Schedule::exact([]), now)
}

#[tokio::test]
async fn a_killed_process_leaves_every_call_told_once_in_effect() {
    let disk = Disk::new();
    let mut receiver = Receiver::start([Answer::Hold, Answer::Status(200)]).await;
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_crash::the_process_that_is_killed"])
        .env(VICTIM, format!("{}\n{}", disk.path().display(), receiver.url))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();

    let before = receiver.next().await;
    victim.kill().unwrap();
    victim.wait().unwrap();
    let store = disk.open().await;
    let webhooks = webhooks(&store, &receiver.url);
    for orphan in store.orphans().await.unwrap() {
        let crashed = CallRecord::crashed(&orphan, None, now());
        let event = NewEvent::call_ended(&crashed, now(), webhooks.subscribers("call.ended"));
        assert!(store.finish_call(&crashed, &[event], &[], now()).await.unwrap());
    }
    webhooks.wake();
    for number in [1, 2] {
        let delivered = || async {
            let rows = store.deliveries(record(number).id).await.unwrap();
            (rows.len() == 1 && rows[0].state == DeliveryState::Delivered).then_some(())
        };
        until("both ends are told", delivered).await;
    }

    assert_eq!(store.call(record(1).id).await.unwrap(), Some(record(1)));
    assert_eq!(store.call(record(2).id).await.unwrap().unwrap().status, Status::Failed);
    let mut after: Vec<String> = receiver.rest().iter().map(|seen| seen.header("webhook-id").to_owned()).collect();
    after.sort();
    assert_eq!(after.len(), 2);
    assert_eq!(after[0], before.header("webhook-id"));
    assert!(!store.finish_call(&record(2), &[], &[], now()).await.unwrap());
}

/// Not a test by itself: the process above runs it and kills it while call 1 is being told and call 2 is up.
#[tokio::test]
async fn the_process_that_is_killed() {
    let Ok(task) = std::env::var(VICTIM) else { return };
    let (path, url) = task.split_once('\n').unwrap();
    let store = Store::open(path).await.unwrap();
    let webhooks = webhooks(&store, url);
    store.begin_call(&open_call(1)).await.unwrap();
    store.begin_call(&open_call(2)).await.unwrap();
    let event = NewEvent::call_ended(&record(1), now(), webhooks.subscribers("call.ended"));
    store.finish_call(&record(1), &[event], &[], now()).await.unwrap();
    webhooks.wake();
    std::future::pending::<()>().await;
}
