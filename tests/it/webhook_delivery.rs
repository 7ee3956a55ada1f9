//! Events reach their receivers: signed, again after a failure, once in effect.

use std::time::Duration;

use ringback::model::{Secret, limits};
use ringback::store::{DeliveryRecord, DeliveryState, NewEvent, Store};
use ringback::webhook::{Endpoint, Schedule, Webhooks};
use standardwebhooks::Webhook;

use crate::outside::{Answer, Disk, PATIENCE, Receiver, Seen, http, now, record, until};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn endpoint(id: &str, receiver: &Receiver) -> Endpoint {
    let secrets = [Secret::new(SECRET), Secret::new(OLD_SECRET)];
    Endpoint::new(id, format!("{}/hook", receiver.url), &secrets, vec!["call.ended".to_owned()], PATIENCE).unwrap()
}

fn at_once(tries: usize) -> Schedule {
    Schedule::exact(vec![Duration::from_millis(1); tries - 1])
}

fn start(store: &Store, endpoints: Vec<Endpoint>, schedule: &Schedule) -> Webhooks {
    Webhooks::start(store, endpoints, &http(), schedule, now)
}

async fn end_call(store: &Store, webhooks: &Webhooks, number: u128) {
    let record = record(number);
    let event = NewEvent::call_ended(&record, now(), webhooks.subscribers("call.ended"));
    assert!(store.finish_call(&record, &[event], &[], now()).await.unwrap());
    webhooks.wake();
}

async fn settled(store: &Store, number: u128) -> Vec<DeliveryRecord> {
    let look = || async {
        let rows = store.deliveries(record(number).id).await.unwrap();
        rows.iter().all(|row| row.state != DeliveryState::Pending).then_some(rows)
    };
    until("the deliveries are settled", look).await
}

fn verify(seen: &Seen, secret: &str) -> Result<(), standardwebhooks::WebhookError> {
    Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers)
}

#[tokio::test]
async fn a_receiver_can_verify_with_the_new_and_the_old_secret() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut receiver = Receiver::start([Answer::Status(204)]).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(1));

    end_call(&store, &webhooks, 1).await;
    let seen = receiver.next().await;

    verify(&seen, SECRET).unwrap();
    verify(&seen, OLD_SECRET).unwrap();
    assert!(verify(&seen, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").is_err());
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/hook"));
    assert_eq!(seen.header("content-type"), "application/json");
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["type"], "call.ended");
    assert_eq!(body["data"], serde_json::to_value(record(1)).unwrap());
    assert_eq!(settled(&store, 1).await[0].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn a_receiver_that_fails_first_gets_the_same_event_again_and_once_in_effect() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut receiver = Receiver::start([Answer::Status(500), Answer::Status(302), Answer::Status(200)]).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(5));

    end_call(&store, &webhooks, 1).await;
    let attempts = [receiver.next().await, receiver.next().await, receiver.next().await];

    let rows = settled(&store, 1).await;
    assert_eq!((rows[0].state, rows[0].attempts), (DeliveryState::Delivered, 3));
    for seen in &attempts {
        verify(seen, SECRET).unwrap();
        assert_eq!(seen.header("webhook-id"), attempts[0].header("webhook-id"));
        assert_eq!(seen.body, attempts[0].body);
    }
    webhooks.stop(PATIENCE).await;
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_delay_another() {
    let disk = Disk::new();
    let store = disk.open().await;
    let hanging = Receiver::start([Answer::Hold]).await;
    let mut healthy = Receiver::start([Answer::Status(200)]).await;
    let endpoints = vec![endpoint("hanging", &hanging), endpoint("healthy", &healthy)];
    let webhooks = start(&store, endpoints, &at_once(1));

    for number in 0..20 {
        end_call(&store, &webhooks, number).await;
    }

    for _ in 0..20 {
        verify(&healthy.next().await, SECRET).unwrap();
    }
    let mut hanging = hanging;
    for _ in 0..limits::DELIVERIES_AT_ONCE_MAX {
        hanging.next().await;
    }
    assert!(hanging.rest().is_empty(), "more deliveries at once than allowed");
}

#[tokio::test]
async fn a_receiver_that_is_gone_is_not_called_again() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut receiver = Receiver::start([Answer::Status(410)]).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(5));

    end_call(&store, &webhooks, 1).await;
    receiver.next().await;
    let first = settled(&store, 1).await;
    webhooks.stop(PATIENCE).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(5));
    end_call(&store, &webhooks, 2).await;
    let second = settled(&store, 2).await;
    webhooks.stop(PATIENCE).await;

    assert_eq!((first[0].state, first[0].last.as_deref()), (DeliveryState::Dead, Some("status_410")));
    assert_eq!((second[0].state, second[0].last.as_deref()), (DeliveryState::Dead, Some("endpoint_closed")));
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn an_event_that_nobody_takes_is_given_up_and_can_be_replayed() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut receiver =
        Receiver::start([Answer::Status(500), Answer::Status(404), Answer::Status(500), Answer::Status(200)]).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(3));

    end_call(&store, &webhooks, 1).await;
    let id = receiver.next().await.header("webhook-id").to_owned();
    let given_up = settled(&store, 1).await;
    assert_eq!(store.replay(&id, now()).await.unwrap(), 1);
    webhooks.wake();
    let replayed = settled(&store, 1).await;

    assert_eq!((given_up[0].state, given_up[0].attempts), (DeliveryState::Dead, 3));
    assert_eq!((replayed[0].state, replayed[0].attempts), (DeliveryState::Delivered, 1));
    assert!(receiver.rest().iter().all(|seen| seen.header("webhook-id") == id));
}

#[tokio::test]
async fn a_busy_receiver_says_when_to_come_back() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut receiver = Receiver::start([Answer::RetryAfter(503, "3600"), Answer::Status(200)]).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(5));
    let before = now();

    end_call(&store, &webhooks, 1).await;
    receiver.next().await;
    let due = || async {
        let row = store.deliveries(record(1).id).await.unwrap().remove(0);
        let due = store.next_delivery("crm").await.unwrap();
        if row.last.is_some() { due } else { None }
    };
    let due = until("the delivery is put off", due).await;

    assert!(due >= before + 3_600_000, "{} ms later", due - before);
    webhooks.stop(PATIENCE).await;
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn a_crash_between_sending_and_marking_sends_the_same_id_again() {
    let disk = Disk::new();
    let mut receiver = Receiver::start([Answer::Hold, Answer::Status(200)]).await;
    let store = disk.open().await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(5));
    end_call(&store, &webhooks, 1).await;
    let before = receiver.next().await;
    drop(webhooks);
    drop(store);

    let store = disk.open().await;
    let _webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(5));
    let after = receiver.next().await;

    assert_eq!(before.header("webhook-id"), after.header("webhook-id"));
    assert_eq!(before.body, after.body);
    assert_eq!(settled(&store, 1).await[0].state, DeliveryState::Delivered);
    assert!(receiver.rest().is_empty());
}

#[tokio::test]
async fn two_workers_on_one_store_send_each_event_once() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut receiver = Receiver::start([Answer::Hold]).await;
    let one = start(&store, vec![endpoint("crm", &receiver)], &at_once(1));
    let two = start(&store, vec![endpoint("crm", &receiver)], &at_once(1));

    for number in 0..30 {
        end_call(&store, &one, number).await;
        two.wake();
    }
    let first = receiver.next().await;
    receiver.let_go();
    for number in 0..30 {
        assert_eq!(settled(&store, number).await[0].attempts, 1);
    }

    let mut ids: Vec<String> = receiver.rest().iter().map(|seen| seen.header("webhook-id").to_owned()).collect();
    ids.push(first.header("webhook-id").to_owned());
    assert_eq!(ids.len(), 30);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 30);
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_a_timeout() {
    let disk = Disk::new();
    let store = disk.open().await;
    let receiver = Receiver::start([Answer::Hold]).await;
    let secrets = [Secret::new(SECRET)];
    let slow = Endpoint::new("crm", &*receiver.url, &secrets, Vec::new(), Duration::from_millis(50)).unwrap();
    let webhooks = start(&store, vec![slow], &at_once(2));

    end_call(&store, &webhooks, 1).await;

    let rows = settled(&store, 1).await;
    assert_eq!((rows[0].state, rows[0].last.as_deref()), (DeliveryState::Dead, Some("timeout")));
    assert_eq!(rows[0].attempts, 2);
}

#[tokio::test]
async fn a_receiver_that_fails_all_the_time_gets_one_at_a_time_until_it_is_back() {
    let disk = Disk::new();
    let store = disk.open().await;
    let failures = limits::DELIVERY_FAILURES_IN_A_ROW_MAX;
    let script = std::iter::repeat_n(Answer::Status(500), failures).chain([Answer::Hold]);
    let mut receiver = Receiver::start(script).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(1));
    for number in 0..failures as u128 {
        end_call(&store, &webhooks, number).await;
        settled(&store, number).await;
    }
    receiver.rest();

    for number in 100..110 {
        end_call(&store, &webhooks, number).await;
    }
    receiver.next().await;
    let claimed = || async {
        let mut attempts = 0;
        for number in 100..110 {
            attempts += store.deliveries(record(number).id).await.unwrap()[0].attempts;
        }
        attempts
    };

    assert_eq!((claimed().await, receiver.rest().len()), (1, 0));
    receiver.let_go();
    for number in 100..110 {
        assert_eq!(settled(&store, number).await[0].state, DeliveryState::Delivered);
    }
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut receiver = Receiver::start([Answer::Hold]).await;
    let webhooks = start(&store, vec![endpoint("crm", &receiver)], &at_once(1));
    end_call(&store, &webhooks, 1).await;
    receiver.next().await;

    let release = async { receiver.let_go() };
    tokio::join!(webhooks.stop(PATIENCE), release);

    assert_eq!(store.deliveries(record(1).id).await.unwrap()[0].state, DeliveryState::Delivered);
}
