//! A whole gateway inside the test: a configuration written for it, and a small CRM beside it.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use ringback::agent;
use ringback::config::{self, Config, Connectors, Diagnostics};
use ringback::gateway::{Gateway, Options};
use ringback::journal::Journal;
use ringback::model::{CallId, Vault};
use ringback::store::CallRecord;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A gateway that takes calls on loopback.
pub(crate) struct House {
    pub(crate) gateway: Gateway,
    pub(crate) crm: Crm,
    dir: TempDir,
}

/// Files of a configuration beside those every test has.
pub(crate) type Files<'a> = &'a [(&'a str, String)];

impl House {
    /// Opens a house with a trunk for loopback, route `100` to the agent `desk`, and these files.
    pub(crate) async fn open(crm: Crm, files: Files<'_>) -> House {
        House::open_with(crm, files, "").await
    }

    /// As [`House::open`], with these tables more in `gateway.toml`.
    pub(crate) async fn open_with(crm: Crm, files: Files<'_>, tables: &str) -> House {
        House::open_among(crm, files, tables, PORTS).await
    }

    /// As [`House::open_with`], with audio on these ports.
    pub(crate) async fn open_among(crm: Crm, files: Files<'_>, tables: &str, ports: RangeInclusive<u16>) -> House {
        let dir = tempfile::tempdir().expect("a folder");
        let mut gateway = gateway_toml(dir.path(), &crm, ports) + tables;
        if files.iter().any(|(name, _)| *name == "signers.pem") {
            gateway += "[identity]\ntrust = \"signers.pem\"\n";
        }
        for (name, text) in
            [("gateway.toml", gateway.as_str()), ("routes.toml", ROUTES), ("trunks/carrier.toml", TRUNK)]
        {
            write(dir.path(), name, text);
        }
        for (name, text) in files {
            // The CRM's address is known only now.
            write(dir.path(), name, &text.replace("http://CRM", &format!("http://{}", crm.address)));
        }
        let config = match load(&dir.path().join("sip-config")) {
            Ok((config, _)) => config,
            Err(mistakes) => panic!("{:#}", mistakes.json()),
        };
        let options = Options { loader: Some(load), ..Options::default() };
        let gateway = Gateway::start(config, options).await.expect("the gateway starts");
        House { gateway, crm, dir }
    }

    /// Writes a file of the configuration anew.
    pub(crate) fn write(&self, name: &str, text: &str) {
        write(self.dir.path(), name, text);
    }

    /// Changes a file of the configuration in one place.
    pub(crate) fn change(&self, name: &str, from: &str, to: &str) {
        let path = self.dir.path().join("sip-config").join(name);
        let text = fs::read_to_string(path).expect("a file");
        assert!(text.contains(from), "{from} stands in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// Takes a file of the configuration away.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join("sip-config").join(name)).expect("a file");
    }

    /// The SIP URI of a number here.
    pub(crate) fn uri(&self, number: &str) -> String {
        let (address, _) = self.gateway.sip_addrs()[0];
        format!("sip:{number}@{address}")
    }

    /// The record of the only call, once it is over.
    pub(crate) async fn record(&self) -> CallRecord {
        self.gateway.drain(Duration::from_secs(20)).await;
        let mut calls = self.gateway.store().calls(10).await.expect("the store answers");
        assert_eq!(calls.len(), 1, "one call");
        calls.remove(0)
    }

    /// The journal of a call, sealed and replayed: what stands in it is what the call does today as well.
    pub(crate) async fn replayed(self, call: CallId) -> Journal {
        let file = |kind: &str| self.dir.path().join("data/journals").join(format!("{call}.{kind}"));
        let (journal, vault) = (file("jsonl"), file("vault"));
        self.gateway.shutdown().await;
        let journal = Journal::parse(&fs::read_to_string(journal).expect("a journal")).expect("a whole journal");
        let values = fs::read_to_string(vault).expect("a vault");
        let values: Vec<Value> = values.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let replayed =
            ringback::journal::replay(&journal, &mut Vault::from_values(values)).expect("a readable journal");
        assert_eq!(replayed.divergence, None);
        assert!(journal.sealed);
        journal
    }
}

const PORTS: RangeInclusive<u16> = 30_000..=39_999;

fn gateway_toml(dir: &Path, crm: &Crm, ports: RangeInclusive<u16>) -> String {
    let data = dir.join("data");
    let (first, last) = ports.into_inner();
    format!(
        r#"version = 1
[sip]
udp = ["127.0.0.1:0"]
tcp = ["127.0.0.1:0"]
[media]
address = "127.0.0.1"
port_first = {first}
port_last = {last}
threads = 1
loopback_only = true
[store]
path = "{data}/ringback.db"
data_dir = "{data}"
[limits]
max_calls = 100
max_calls_per_second = 100
[egress]
private = "deny"
allow = ["http://{crm}"]
[prompts]
dir = "{prompts}"
"#,
        data = data.display(),
        crm = crm.address,
        prompts = concat!(env!("CARGO_MANIFEST_DIR"), "/audio-fixtures"),
    )
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join("sip-config").join(name);
    fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}

fn load(dir: &Path) -> Result<(Config, Diagnostics), Diagnostics> {
    let connectors = Connectors { names: agent::kinds(), check: settings };
    config::load(dir, &config::Options { connectors, moved: Vec::new() })
}

fn settings(connector: &str, settings: &Value) -> Vec<(String, String, String)> {
    let mistakes = agent::check_settings(connector, settings);
    mistakes.into_iter().map(|it| (it.pointer, it.message, it.hint)).collect()
}

/// A CRM: answers what it was told to, by path, and remembers what it was asked.
pub(crate) struct Crm {
    pub(crate) address: SocketAddr,
    desk: Arc<Desk>,
    _tasks: JoinSet<()>,
}

struct Desk {
    answers: HashMap<&'static str, Answer>,
    asked: watch::Sender<Vec<String>>,
    held: Mutex<Vec<watch::Sender<()>>>,
}

/// What the CRM does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// This status and body.
    Says(u16, &'static str),
    /// Never a word.
    Hangs,
}

impl Crm {
    pub(crate) async fn open(answers: &[(&'static str, Answer)]) -> Crm {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("the address just bound");
        let (asked, _) = watch::channel(Vec::new());
        let desk = Arc::new(Desk { answers: answers.iter().cloned().collect(), asked, held: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&desk));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.expect("the CRM serves") });
        Crm { address, desk, _tasks: tasks }
    }

    /// Every path and query asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.desk.asked.borrow().clone()
    }
}

async fn answer(State(desk): State<Arc<Desk>>, uri: Uri) -> (StatusCode, &'static str) {
    desk.asked.send_modify(|asked| asked.push(uri.to_string()));
    match desk.answers.get(uri.path()) {
        Some(Answer::Says(status, body)) => (StatusCode::from_u16(*status).expect("a status"), *body),
        Some(Answer::Hangs) => {
            let (hold, mut held) = watch::channel(());
            desk.held.lock().expect("no panic while held").push(hold);
            // Ends with the test, or with the client's patience.
            let _ = held.changed().await;
            (StatusCode::OK, "")
        }
        None => (StatusCode::NOT_FOUND, ""),
    }
}

/// A moment that no test should reach.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(15)
}

const ROUTES: &str = r#"version = 1
[[route]]
called = "100"
agent = "desk"
[[route]]
called = "*"
reject = "not_found"
"#;

const TRUNK: &str = r#"version = 1
title = "Carrier"
[inbound]
allowed_addresses = ["127.0.0.0/8"]
[outbound]
uri = "sip:127.0.0.1:5999"
"#;
