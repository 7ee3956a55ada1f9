//! The demonstration's CRM: a small web server that knows one customer, keeps some callers waiting for ever, and takes
//! events only at the second attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::super::stopwatch;
use crate::model::CallId;
use crate::model::limits::DEMO_HOOKS_MAX;

/// Whom the CRM knows; her name and the state of her order stand in its answers.
pub(super) const KNOWN: &str = "+441632960001";
/// The CRM never answers a question about these callers.
pub(super) const HANGS: [&str; 2] = ["+441632960002", "+441632960003"];

/// A web server that runs until it is dropped.
#[derive(Debug)]
pub(super) struct Crm {
    seen: watch::Receiver<Seen>,
    _task: JoinSet<()>,
}

/// What the CRM was asked and told so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Lookups that came.
    pub(super) lookups: u32,
    /// Lookups given up by the one who asked, before there was an answer.
    pub(super) dropped: Vec<(String, Instant)>,
    /// Questions for the state of an order.
    pub(super) orders: u32,
    /// Calls that a note came for.
    pub(super) notes: Vec<String>,
    /// Attempts to deliver an event.
    pub(super) hooks: Vec<Hook>,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) call: Option<CallId>,
    pub(super) kind: String,
    pub(super) status: String,
    /// The signature is right.
    pub(super) is_signed: bool,
    /// It was taken; the first attempt of each event never is.
    pub(super) is_taken: bool,
    pub(super) at: Instant,
}

impl Seen {
    /// The attempts to tell of this call's end.
    pub(super) fn hooks_of(&self, call: CallId) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(move |hook| hook.call == Some(call))
    }

    /// When a lookup of this caller was given up.
    pub(super) fn dropped(&self, number: &str) -> Option<Instant> {
        self.dropped.iter().find(|(dropped, _)| dropped == number).map(|(_, at)| *at)
    }

    /// Whether the end of this call was told and taken.
    pub(super) fn was_told(&self, call: CallId) -> bool {
        self.hooks_of(call).any(|hook| hook.is_taken)
    }
}

impl Crm {
    /// Serves on this socket and expects events to be signed with this secret.
    ///
    /// # Errors
    /// When the secret is no secret for webhooks.
    pub(super) fn start(listener: TcpListener, secret: &str) -> Result<Crm, String> {
        let webhook = Webhook::new(secret).map_err(|error| error.to_string())?;
        let (tell, seen) = watch::channel(Seen::default());
        let desk = Arc::new(Desk { tell, webhook, attempts: std::sync::Mutex::default() });
        let router = Router::new()
            .route("/contacts", get(contacts))
            .route("/orders/{order}", get(order))
            .route("/notes", post(note))
            .route("/hooks", post(hook))
            .with_state(desk);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // It ends only with the socket, and then the demonstration sees that nothing comes any more.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Crm { seen, _task: task })
    }

    /// What happened so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits for something to have happened; `false` when the time is over before.
    pub(super) async fn until(&mut self, deadline: Instant, is_so: impl Fn(&Seen) -> bool) -> bool {
        tokio::time::timeout_at(deadline, self.seen.wait_for(|seen| is_so(seen))).await.is_ok_and(|seen| seen.is_ok())
    }
}

struct Desk {
    tell: watch::Sender<Seen>,
    webhook: Webhook,
    /// By event id, as the sender names it.
    attempts: std::sync::Mutex<BTreeMap<String, u32>>,
}

async fn contacts(State(desk): State<Arc<Desk>>, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    desk.tell.send_modify(|seen| seen.lookups += 1);
    let number = query.get("number").map_or("", String::as_str);
    if HANGS.contains(&number) {
        // axum drops this future when the asking side closes the connection; that is how we see it.
        let _waiting = Waiting { desk, number: number.to_owned() };
        std::future::pending::<()>().await;
    }
    sleep_until(stopwatch::now() + LOOKUP_TAKES).await;
    if number == KNOWN {
        Json(json!({ "contacts": [{ "first_name": "Ada", "order_id": "A-1815" }] }))
    } else {
        Json(json!({ "contacts": [] }))
    }
}

/// A CRM that is neither quick nor slow; long enough to see that the caller hears it ring meanwhile.
const LOOKUP_TAKES: Duration = Duration::from_millis(300);

struct Waiting {
    desk: Arc<Desk>,
    number: String,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let number = std::mem::take(&mut self.number);
        self.desk.tell.send_modify(|seen| {
            if seen.dropped.len() < DEMO_HOOKS_MAX {
                seen.dropped.push((number, stopwatch::now()));
            }
        });
    }
}

async fn order(State(desk): State<Arc<Desk>>, Path(order): Path<String>) -> Response {
    desk.tell.send_modify(|seen| seen.orders += 1);
    if order == "A-1815" {
        Json(json!({ "order": { "status": "shipped" } })).into_response()
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

async fn note(State(desk): State<Arc<Desk>>, Json(note): Json<Value>) -> StatusCode {
    let call = note["call"].as_str().unwrap_or_default().to_owned();
    desk.tell.send_modify(|seen| {
        if seen.notes.len() < DEMO_HOOKS_MAX {
            seen.notes.push(call);
        }
    });
    StatusCode::NO_CONTENT
}

async fn hook(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let at = stopwatch::now();
    let is_signed = desk.webhook.verify(&body, &headers).is_ok();
    let event = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let attempt = {
        let mut attempts = desk.attempts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if attempts.len() >= DEMO_HOOKS_MAX {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let attempt = attempts.entry(event.to_owned()).or_default();
        *attempt += 1;
        *attempt
    };
    let is_taken = is_signed && attempt > 1;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hook = Hook {
        call: serde_json::from_value(body["data"]["id"].clone()).ok(),
        kind: text(&body["type"]),
        status: text(&body["data"]["status"]),
        is_signed,
        is_taken,
        at,
    };
    desk.tell.send_modify(|seen| {
        if seen.hooks.len() < DEMO_HOOKS_MAX {
            seen.hooks.push(hook);
        }
    });
    match (is_signed, is_taken) {
        (false, _) => StatusCode::UNAUTHORIZED,
        (true, false) => StatusCode::INTERNAL_SERVER_ERROR,
        (true, true) => StatusCode::NO_CONTENT,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn an_event_is_taken_at_the_second_attempt_and_only_when_signed() {
        let (crm, address) = crm().await;
        let body = r#"{"type":"call.ended","data":{"id":"0190a5c8-0000-7000-8000-000000000001","status":"COMPLETED"}}"#;

        let unsigned = post(address, "evt_1", sign("evt_1", body).0, "v1,AAAA", body).await;
        let seen_unsigned = crm.seen();
        let (time, signature) = sign("evt_2", body);
        let first = post(address, "evt_2", time, &signature, body).await;
        let second = post(address, "evt_2", time, &signature, body).await;
        let forged = post(address, "evt_2", time, &signature, &body.replace("COMPLETED", "CANCELED")).await;

        assert_eq!((unsigned, first, second, forged), (401, 500, 204, 401));
        assert!(!seen_unsigned.hooks[0].is_signed);
        let call = crm.seen().hooks[0].call.expect("the body names a call");
        assert!(crm.seen().was_told(call) && !seen_unsigned.was_told(call));
        assert_eq!(crm.seen().hooks_of(call).filter(|hook| hook.is_taken).count(), 1);
    }

    #[tokio::test]
    async fn a_lookup_that_is_given_up_is_noticed() {
        let (mut crm, address) = crm().await;
        let mut asking = TcpStream::connect(address).await.expect("the CRM listens");
        let query = format!("GET /contacts?number={} HTTP/1.1\r\nhost: crm\r\n\r\n", HANGS[0].replace('+', "%2B"));
        asking.write_all(query.as_bytes()).await.expect("the CRM reads");
        assert!(crm.until(soon(), |seen| seen.lookups == 1).await);

        let before = crm.seen().dropped(HANGS[0]).is_some();
        drop(asking);

        assert!(!before);
        assert!(crm.until(soon(), |seen| seen.dropped(HANGS[0]).is_some()).await);
    }

    async fn crm() -> (Crm, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has ports");
        let address = listener.local_addr().expect("it is bound");
        (Crm::start(listener, SECRET).expect("it is a secret"), address)
    }

    /// The time of the signature, and the signature.
    fn sign(event: &str, body: &str) -> (i64, String) {
        let time = crate::gateway::unix_ms() / 1000;
        let webhook = Webhook::new(SECRET).expect("it is a secret");
        (time, webhook.sign(event, time, body.as_bytes()).expect("it can be signed"))
    }

    async fn post(address: SocketAddr, event: &str, time: i64, signature: &str, body: &str) -> u16 {
        let mut connection = TcpStream::connect(address).await.expect("the CRM listens");
        let request = format!(
            "POST /hooks HTTP/1.1\r\nhost: crm\r\nconnection: close\r\nwebhook-id: {event}\r\n\
             webhook-timestamp: {time}\r\nwebhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(request.as_bytes()).await.expect("the CRM reads");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.expect("the CRM answers in text");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it is HTTP")
    }

    fn soon() -> Instant {
        stopwatch::now() + Duration::from_secs(5)
    }

    const SECRET: &str = "whsec_cmluZ2JhY2stZGVtby1jcm0tdGVzdHMh";
}
