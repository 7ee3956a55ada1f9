//! Claims: one holder at a time, and whoever lost it is not believed.

use ringback::store::{ClaimedDelivery, DeliveryState, NewEvent, Store};

use crate::outside::{Disk, record};

async fn tell(store: &Store, number: u128, endpoints: &[&str], now: i64) {
    let record = record(number);
    let endpoints = endpoints.iter().map(|id| id.to_string()).collect();
    store.finish_call(&record, &[NewEvent::call_ended(&record, now, endpoints)], &[], now).await.unwrap();
}

async fn claim(store: &Store, now: i64, lease_until: i64) -> Vec<ClaimedDelivery> {
    store.claim_deliveries("crm", now, lease_until, 10).await.unwrap()
}

#[tokio::test]
async fn a_delivery_is_claimed_by_one_and_free_again_when_the_lease_is_over() {
    let disk = Disk::new();
    let store = disk.open().await;
    tell(&store, 1, &["crm", "other"], 1_000).await;

    let first = claim(&store, 1_000, 5_000).await;
    assert!(claim(&store, 4_999, 9_000).await.is_empty());
    assert_eq!(store.next_delivery("crm").await.unwrap(), Some(5_000));
    let second = claim(&store, 5_000, 9_000).await;

    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!((first[0].attempt, second[0].attempt), (1, 2));
    assert_eq!(first[0].event, second[0].event);
    assert!(!store.delivered(&first[0], 5_001).await.unwrap());
    assert!(!store.postpone_delivery(&first[0], 6_000, "timeout").await.unwrap());
    assert!(store.delivered(&second[0], 5_002).await.unwrap());
    assert!(!store.delivered(&second[0], 5_003).await.unwrap());
    assert_eq!(store.next_delivery("crm").await.unwrap(), None);
    assert_eq!(store.next_delivery("other").await.unwrap(), Some(1_000));
}

#[tokio::test]
async fn claimers_at_the_same_time_get_different_deliveries() {
    let disk = Disk::new();
    let store = disk.open().await;
    for number in 0..40 {
        tell(&store, number, &["crm"], 1_000).await;
    }

    let (a, b, c, d) = tokio::join!(
        claim(&store, 1_000, 9_000),
        claim(&store, 1_000, 9_000),
        claim(&store, 1_000, 9_000),
        claim(&store, 1_000, 9_000)
    );

    let mut events: Vec<String> = [a, b, c, d].concat().into_iter().map(|claim| claim.event).collect();
    events.sort();
    events.dedup();
    assert_eq!(events.len(), 40);
}

#[tokio::test]
async fn a_postponed_delivery_waits_for_its_time_and_keeps_its_id() {
    let disk = Disk::new();
    let store = disk.open().await;
    tell(&store, 1, &["crm"], 1_000).await;
    let first = claim(&store, 1_000, 5_000).await;

    assert!(store.postpone_delivery(&first[0], 7_000, "status_500").await.unwrap());

    assert!(claim(&store, 6_999, 9_000).await.is_empty());
    let second = claim(&store, 7_000, 9_000).await;
    assert_eq!(second[0].event, first[0].event);
    assert_eq!(second[0].body, first[0].body);
    let rows = store.deliveries(record(1).id).await.unwrap();
    assert_eq!((rows[0].attempts, rows[0].last.as_deref()), (2, Some("status_500")));
}

#[tokio::test]
async fn what_a_dead_process_held_is_free_at_once() {
    let disk = Disk::new();
    let store = disk.open().await;
    tell(&store, 1, &["crm"], 1_000).await;
    let before = claim(&store, 1_000, i64::MAX).await;
    drop(store);

    let store = disk.open().await;
    let after = claim(&store, 1_001, 2_000).await;

    assert_eq!(after.len(), 1);
    assert!(!store.delivered(&before[0], 1_002).await.unwrap());
    assert!(store.delivered(&after[0], 1_003).await.unwrap());
}

#[tokio::test]
async fn a_closed_endpoint_is_told_nothing_until_its_address_changes() {
    let disk = Disk::new();
    let store = disk.open().await;
    tell(&store, 1, &["crm"], 1_000).await;

    store.close_endpoint("crm", "old address", 1_001).await.unwrap();
    tell(&store, 2, &["crm"], 1_002).await;

    assert!(claim(&store, 2_000, 3_000).await.is_empty());
    assert!(!store.open_endpoint("crm", "old address").await.unwrap());
    assert!(store.open_endpoint("crm", "new address").await.unwrap());
    for number in [1, 2] {
        let rows = store.deliveries(record(number).id).await.unwrap();
        assert_eq!((rows[0].state, rows[0].last.as_deref()), (DeliveryState::Dead, Some("endpoint_closed")));
    }
    assert_eq!(store.replay(&claim_id(1), 2_000).await.unwrap(), 1);
    assert_eq!(claim(&store, 2_000, 3_000).await[0].attempt, 1);
}

fn claim_id(number: u128) -> String {
    NewEvent::call_ended(&record(number), 0, Vec::new()).id().to_owned()
}
