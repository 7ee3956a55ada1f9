//! What the tests of the outward rooms share: a call that is over, a store of their own, and a receiver that does as
//! it is told.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ringback::call::{Blame, Cause, Outcome, Status};
use ringback::model::{CallId, Pii, Time, Vars};
use ringback::services::{Egress, Http, Private};
use ringback::store::{CallOpen, CallRecord, Direction, Store};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Longer than anything here takes; a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

pub(crate) fn http() -> Http {
    Http::new(Egress { private: Private::Allow, allow: Vec::new() })
}

pub(crate) fn open_call(number: u128) -> CallOpen {
    CallOpen {
        id: CallId(uuid::Uuid::from_u128(number)),
        began_unix_ms: 1_700_000_000_250,
        direction: Direction::Inbound,
        agent: Some("reception".to_owned()),
        phone: Some(Pii::new("+441632960001".to_owned())),
        called: Pii::new("+441632960100".to_owned()),
        trunk: Some("acme".to_owned()),
        journal: Some("journals/1.jsonl".to_owned()),
        revision: "r7".to_owned(),
        identity: None,
    }
}

pub(crate) fn outcome() -> Outcome {
    let mut vars = Vars::default();
    vars.set("customer.name", Value::from("Ada"));
    Outcome {
        status: Status::Completed,
        cause: Cause::Normal,
        ended_by: Blame::Caller,
        answered: Some(Time::from_ms(1_500)),
        ended: Time::from_ms(63_900),
        transferred_to: None,
        vars,
        runs: Vec::new(),
        turns: Vec::new(),
        after: Vec::new(),
        consent: None,
    }
}

pub(crate) fn record(number: u128) -> CallRecord {
    CallRecord::new(&open_call(number), None, &outcome())
}

/// A folder with a store in it, which can be opened again as after a crash.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        Disk { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("data").join("ringback.db")
    }

    /// Waits until whoever had it open is gone, as a new process waits for the old one.
    pub(crate) async fn open(&self) -> Store {
        until("the store is free", || async { Store::open(self.path()).await.ok() }).await
    }
}

/// Looks until there is something to see.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never came: {what}"))
}

/// What a receiver does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16),
    Body(u16, &'static str),
    RetryAfter(u16, &'static str),
    /// Answers 200 when [`Receiver::let_go`] is called.
    Hold,
}

/// A web server on loopback that answers by a script, whose last line holds for ever.
pub(crate) struct Receiver {
    pub(crate) url: String,
    seen: mpsc::Receiver<Seen>,
    release: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: mpsc::Sender<Seen>,
    release: watch::Receiver<bool>,
}

impl Receiver {
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (release, released) = watch::channel(false);
        let (tell, seen) = mpsc::channel(1_000);
        let script = Script { answers: Mutex::new(answers.into_iter().collect()), seen: tell, release: released };
        let app = Router::new().fallback(answer).with_state(Arc::new(script));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Receiver { url, seen, release, _serving: serving }
    }

    /// The next request.
    pub(crate) async fn next(&mut self) -> Seen {
        let next = tokio::time::timeout(PATIENCE, self.seen.recv()).await;
        next.expect("no request came").expect("the receiver is serving")
    }

    /// What else came so far.
    pub(crate) fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    pub(crate) fn let_go(&self) {
        self.release.send_replace(true);
    }
}

async fn answer(
    State(script): State<Arc<Script>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let next = {
        let mut answers = script.answers.lock().unwrap();
        if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
    };
    script.seen.send(Seen { method, path: uri.to_string(), headers, body }).await.unwrap();
    let status = |code| StatusCode::from_u16(code).unwrap();
    match next.unwrap_or(Answer::Status(200)) {
        Answer::Status(code) => status(code).into_response(),
        Answer::Body(code, text) => (status(code), text).into_response(),
        Answer::RetryAfter(code, after) => (status(code), [("retry-after", after)]).into_response(),
        Answer::Hold => {
            let _ = script.release.clone().wait_for(|released| *released).await;
            StatusCode::OK.into_response()
        }
    }
}
