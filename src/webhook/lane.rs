//! One endpoint's deliveries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use metrics::{counter, histogram};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::{Endpoint, Schedule};
use crate::actions::{HttpFailure, Method};
use crate::model::limits;
use crate::services::{Answer, Exchange, Http};
use crate::store::{ClaimedDelivery, Store, StoreError};

pub(super) struct Lane {
    store: Store,
    endpoint: Arc<Endpoint>,
    http: Http,
    schedule: Schedule,
    now_unix_ms: fn() -> i64,
    /// Failures since the last success.
    failures: usize,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Taken.
    Taken,
    /// The receiver asked not to be called again.
    Closed,
    /// Not taken, why in `snake_case`, and how long the receiver asked us to wait at least.
    Failed(String, Option<Duration>),
}

impl Lane {
    pub(super) fn new(
        store: Store,
        endpoint: Arc<Endpoint>,
        http: Http,
        schedule: Schedule,
        now_unix_ms: fn() -> i64,
    ) -> Lane {
        Lane { store, endpoint, http, schedule, now_unix_ms, failures: 0 }
    }

    /// Delivers until told to stop, or until the receiver asks not to be called again.
    pub(super) async fn run(mut self, bell: Arc<Notify>, mut stopped: watch::Receiver<bool>) {
        let mut under_way = JoinSet::new();
        let mut is_open = None;
        while is_open != Some(false) && !*stopped.borrow_and_update() {
            let pause = match self.advance(&mut is_open, &mut under_way).await {
                Ok(pause) => pause,
                Err(error) => {
                    // Whoever reads this must look at the disk; until then nothing is lost, only late.
                    error!(endpoint = self.endpoint.id, %error, "cannot deliver events");
                    STORE_FAILED
                }
            };
            tokio::select! {
                Some(done) = under_way.join_next() => is_open = self.settle(done).await.or(is_open),
                _ = tokio::time::timeout(pause, bell.notified()) => {}
                _ = stopped.changed() => {}
            }
        }
        while let Some(done) = under_way.join_next().await {
            self.settle(done).await;
        }
    }

    /// Begins what is due; returns how long nothing else will be.
    async fn advance(
        &self,
        is_open: &mut Option<bool>,
        under_way: &mut JoinSet<(ClaimedDelivery, Verdict)>,
    ) -> Result<Duration, StoreError> {
        if is_open.is_none() {
            *is_open = Some(self.store.open_endpoint(&self.endpoint.id, &self.endpoint.digest()).await?);
            if *is_open == Some(false) {
                warn!(endpoint = self.endpoint.id, "the receiver has asked not to be called: no events are sent to it");
                return Ok(Duration::ZERO);
            }
        }
        // A receiver that fails all the time gets one at a time: enough to see that it is back.
        let is_failing = self.failures >= limits::DELIVERY_FAILURES_IN_A_ROW_MAX;
        let most = if is_failing { 1 } else { limits::DELIVERIES_AT_ONCE_MAX };
        let room = most.saturating_sub(under_way.len());
        if room == 0 {
            return Ok(LOOK_AGAIN);
        }
        let now = (self.now_unix_ms)();
        // Longer than any attempt, so that a lease never ends under one.
        let lease = later(now, self.endpoint.timeout.min(limits::HTTP_TIMEOUT_MAX) + LEASE_MARGIN);
        let claimed = self.store.claim_deliveries(&self.endpoint.id, now, lease, room).await?;
        let is_full = claimed.len() == room;
        for claim in claimed {
            under_way.spawn(attempt(self.http.clone(), self.endpoint.clone(), claim, self.now_unix_ms));
        }
        if is_full {
            return Ok(LOOK_AGAIN);
        }
        let due = self.store.next_delivery(&self.endpoint.id).await?;
        let pause =
            due.map_or(LOOK_AGAIN, |due| Duration::from_millis(due.saturating_sub(now).try_into().unwrap_or(1)));
        Ok(pause.clamp(Duration::from_millis(1), LOOK_AGAIN))
    }

    /// Reports an attempt. `Some(false)` when the receiver asked not to be called again.
    async fn settle(&mut self, done: Result<(ClaimedDelivery, Verdict), tokio::task::JoinError>) -> Option<bool> {
        let (claim, verdict) = match done {
            Ok(done) => done,
            Err(error) => {
                error!(endpoint = self.endpoint.id, %error, "an attempt broke; it is made again when its lease is over");
                return None;
            }
        };
        let now = (self.now_unix_ms)();
        let closes = verdict == Verdict::Closed;
        match self.report(&claim, verdict, now).await {
            // Replayed, closed, or taken by somebody else meanwhile: the row says what counts.
            Ok(false) => {
                warn!(endpoint = self.endpoint.id, event = claim.event, "a delivery is no longer ours to report")
            }
            Ok(true) => {}
            Err(error) => error!(endpoint = self.endpoint.id, event = claim.event, %error, "cannot report a delivery"),
        }
        closes.then_some(false)
    }

    async fn report(&mut self, claim: &ClaimedDelivery, verdict: Verdict, now: i64) -> Result<bool, StoreError> {
        let (reason, asked) = match verdict {
            Verdict::Taken => {
                self.failures = 0;
                count("delivered");
                return self.store.delivered(claim, now).await;
            }
            Verdict::Closed => {
                warn!(endpoint = self.endpoint.id, "the receiver asks not to be called again (410)");
                count("closed");
                let ours = self.store.bury_delivery(claim, now, "status_410").await?;
                self.store.close_endpoint(&self.endpoint.id, &self.endpoint.digest(), now).await?;
                return Ok(ours);
            }
            Verdict::Failed(reason, asked) => (reason, asked),
        };
        self.failures = self.failures.saturating_add(1);
        match self.schedule.pause_after(claim.attempt) {
            Some(pause) => {
                let due = later(now, asked.map_or(pause, |asked| pause.max(asked.min(limits::RETRY_AFTER_MAX))));
                self.store.postpone_delivery(claim, due, &reason).await
            }
            None => {
                warn!(endpoint = self.endpoint.id, event = claim.event, reason, "a delivery is given up");
                count("dead");
                self.store.bury_delivery(claim, now, &reason).await
            }
        }
    }
}

fn count(result: &'static str) {
    counter!("ringback_webhook_deliveries_total", "result" => result).increment(1);
}

fn later(now_unix_ms: i64, by: Duration) -> i64 {
    now_unix_ms.saturating_add(by.as_millis().try_into().unwrap_or(i64::MAX))
}

async fn attempt(
    http: Http,
    endpoint: Arc<Endpoint>,
    claim: ClaimedDelivery,
    now_unix_ms: fn() -> i64,
) -> (ClaimedDelivery, Verdict) {
    let began = now_unix_ms();
    let exchange = Exchange {
        method: Method::Post,
        url: endpoint.url.clone(),
        headers: headers(&endpoint, &claim, began.div_euclid(1000)),
        body: Some(Bytes::from(claim.body.reveal().clone())),
        timeout: endpoint.timeout,
        body_max: limits::RECEIVER_ANSWER_MAX,
    };
    let answer = http.exchange(exchange).await;
    let took_ms = now_unix_ms().saturating_sub(began).max(0);
    histogram!("ringback_webhook_attempt_seconds").record(took_ms as f64 / 1000.0);
    let verdict = judge(&answer, now_unix_ms());
    let result = match &answer {
        Ok(_) if verdict == Verdict::Taken => "taken",
        Ok(_) => "status",
        Err(failure) => failure.code(),
    };
    counter!("ringback_webhook_attempts_total", "result" => result).increment(1);
    (claim, verdict)
}

fn headers(endpoint: &Endpoint, claim: &ClaimedDelivery, unix_s: i64) -> HeaderMap {
    let signature = endpoint.sign(&claim.event, unix_s, claim.body.reveal());
    let ours = [
        (HEADER_WEBHOOK_ID, claim.event.as_str()),
        (HEADER_WEBHOOK_TIMESTAMP, &unix_s.to_string()),
        (HEADER_WEBHOOK_SIGNATURE, &signature),
        (CONTENT_TYPE.as_str(), "application/json"),
    ];
    let header = |(name, value): (&'static str, &str)| {
        let value = HeaderValue::from_str(value).expect("ids, numbers and base64 are visible ASCII");
        (HeaderName::from_static(name), value)
    };
    ours.into_iter().map(header).collect()
}

// Standard Webhooks 1.0.0: any 2xx is success, redirects are not followed, 410 ends it.
fn judge(answer: &Result<Answer, HttpFailure>, now_unix_ms: i64) -> Verdict {
    match answer {
        Ok(Answer { status: 200..300, .. }) => Verdict::Taken,
        Ok(Answer { status: 410, .. }) => Verdict::Closed,
        Ok(Answer { status, headers, .. }) => {
            let asked = matches!(status, 429 | 502 | 503 | 504).then(|| retry_after(headers, now_unix_ms)).flatten();
            Verdict::Failed(format!("status_{status}"), asked)
        }
        Err(failure) => Verdict::Failed(failure.code().to_owned(), None),
    }
}

// RFC 9110 §10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now_unix_ms: i64) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at: Timestamp = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::from_millis(at.as_millisecond().saturating_sub(now_unix_ms).try_into().ok()?))
}

/// How often the store is looked at without being told to: after a wall clock that jumped, or a replay by another hand.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long to leave a store alone that just failed.
const STORE_FAILED: Duration = Duration::from_secs(1);
/// For writing the report.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Result<Answer, HttpFailure> {
        let headers = retry_after.map(|text| (RETRY_AFTER, HeaderValue::from_str(text).unwrap())).into_iter().collect();
        Ok(Answer { status, headers, body: Vec::new(), is_whole: true })
    }

    #[test]
    fn only_2xx_is_success() {
        assert_eq!(judge(&answer(204, None), 0), Verdict::Taken);
        assert_eq!(judge(&answer(302, None), 0), Verdict::Failed("status_302".into(), None));
        assert_eq!(judge(&answer(410, None), 0), Verdict::Closed);
        assert_eq!(judge(&Err(HttpFailure::Timeout), 0), Verdict::Failed("timeout".into(), None));
    }

    #[test]
    fn a_busy_receiver_may_say_when_to_come_back() {
        let asked = |status, text| match judge(&answer(status, Some(text)), 784_111_770_000) {
            Verdict::Failed(_, asked) => asked.map(|asked| asked.as_secs()),
            other => panic!("{other:?}"),
        };

        assert_eq!(asked(429, "120"), Some(120));
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(asked(503, "Sun, 06 Nov 1994 08:49:00 GMT"), None);
        assert_eq!(asked(504, "soon"), None);
        assert_eq!(asked(500, "120"), None);
    }
}
