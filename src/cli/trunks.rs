//! `ringback trunks`: which gateways live and where we are registered, asked of a gateway that runs.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{EXIT_CODES, Exit, screen};
use crate::model::limits;

/// Show the trunks of a running gateway: gateways, registrations, and how calls went.
///
/// Ends with 1 when a gateway is down or a registration is missing, so that a watchdog can ask.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The running gateway's admin listener: `listen` under `[admin]` in gateway.toml
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Print one JSON object: now_unix_ms, trunks
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  The gateway on this machine
    ringback trunks
  Another one, for a script that wants those that are down
    ringback trunks --admin 192.0.2.1:9090 --json | jq -r '.trunks[] | select(.up | not) | .id'";

pub(super) async fn run(arguments: Arguments) -> Exit {
    let told = match ask(arguments.admin).await {
        Ok(told) => told,
        Err(why) => {
            eprintln!("ringback trunks: {} does not answer: {why}", arguments.admin);
            eprintln!("is the gateway running, and is this its [admin] listen address?");
            return Exit::Unreachable;
        }
    };
    let Ok(seen) = Seen::deserialize(&told) else {
        eprintln!("ringback trunks: {} is no gateway of this version", arguments.admin);
        return Exit::Unreachable;
    };
    if arguments.json {
        screen::json(&told);
    } else {
        print!("{}", table(&seen));
    }
    if seen.trunks.iter().all(Trunk::is_well) { Exit::Ok } else { Exit::Failed }
}

async fn ask(from: SocketAddr) -> Result<Value, String> {
    let body = get(from, "/trunks").await?;
    serde_json::from_slice(&body).map_err(|_| "its answer is no JSON".to_owned())
}

/// Asks a gateway's admin listener for a path. The error is for people, and names no address.
pub(super) async fn get(admin: SocketAddr, path: &str) -> Result<Vec<u8>, String> {
    crate::services::tls::install();
    let plain = |error: reqwest::Error| error.without_url().to_string();
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().map_err(plain)?;
    let mut response = client.get(format!("http://{admin}{path}")).send().await.map_err(plain)?;
    if !response.status().is_success() {
        return Err(format!("it says {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(plain)? {
        body.extend_from_slice(&chunk);
        if body.len() > limits::TRUNKS_ANSWER_MAX {
            return Err("its answer is too long".to_owned());
        }
    }
    Ok(body)
}

/// What the admin listener says, as far as people want to know it.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) now_unix_ms: i64,
    pub(super) trunks: Vec<Trunk>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(super) struct Trunk {
    pub(super) id: String,
    pub(super) gateways: Vec<Gateway>,
    pub(super) registration: Option<Registration>,
    pub(super) calls: Vec<Calls>,
}

/// Where it is called.
#[derive(Debug, Deserialize)]
pub(super) struct Gateway {
    pub(super) uri: String,
    pub(super) state: String,
    pub(super) since_unix_ms: i64,
    pub(super) last: Option<Last>,
}

/// Where we are to be found.
#[derive(Debug, Deserialize)]
pub(super) struct Registration {
    pub(super) aor: String,
    pub(super) registrar: String,
    pub(super) registered: bool,
    pub(super) since_unix_ms: i64,
    pub(super) expires_unix_ms: Option<i64>,
    pub(super) last: Option<Last>,
}

/// What was said last.
#[derive(Debug, Deserialize)]
pub(super) struct Last {
    pub(super) at_unix_ms: i64,
    pub(super) answer: String,
    pub(super) round_trip_ms: Option<f64>,
}

/// How many calls went which way.
#[derive(Debug, Deserialize)]
pub(super) struct Calls {
    pub(super) direction: String,
    pub(super) cause: String,
    pub(super) count: u64,
}

impl Trunk {
    fn is_well(&self) -> bool {
        self.gateways.iter().all(|gateway| gateway.state != "down")
            && self.registration.as_ref().is_none_or(|registration| registration.registered)
    }
}

/// One line for each gateway and registration, columns as wide as they must be, and one line for the calls.
fn table(seen: &Seen) -> String {
    let ago = |at: i64| time(seen.now_unix_ms.saturating_sub(at));
    let last = |last: &Option<Last>| match last {
        None => "never asked".to_owned(),
        Some(last) => {
            let took = last.round_trip_ms.map(|ms| format!(" in {ms:.1} ms")).unwrap_or_default();
            format!("{}{took}, {} ago", printable(&last.answer), ago(last.at_unix_ms))
        }
    };
    let mut rows = vec![["TRUNK", "WHAT", "STATE", "SINCE", "LAST ANSWER"].map(str::to_owned)];
    for trunk in &seen.trunks {
        let mut id = trunk.id.clone();
        for gateway in &trunk.gateways {
            let (what, since) = (printable(&gateway.uri), ago(gateway.since_unix_ms));
            rows.push([std::mem::take(&mut id), what, printable(&gateway.state), since, last(&gateway.last)]);
        }
        if let Some(it) = &trunk.registration {
            let what = format!("{} at {}", printable(&it.aor), printable(&it.registrar));
            let state = match it.expires_unix_ms {
                Some(until) => format!("registered for {}", time(until.saturating_sub(seen.now_unix_ms))),
                None => "NOT registered".to_owned(),
            };
            rows.push([std::mem::take(&mut id), what, state, ago(it.since_unix_ms), last(&it.last)]);
        }
        let mut calls = String::new();
        for (n, of) in trunk.calls.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            let _ = write!(calls, "{comma}{} {} {}", of.count, printable(&of.direction), printable(&of.cause));
        }
        let calls = if calls.is_empty() { "none".to_owned() } else { calls };
        rows.push([id, format!("calls: {calls}"), String::new(), String::new(), String::new()]);
    }
    let width = |column: usize| {
        // A long list of calls stands alone in its line, and widens no column.
        let cells = rows.iter().filter(|row| !row[4].is_empty()).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let mut out = String::new();
    for row in &rows {
        let [id, what, state, since, last] = row;
        let [a, b, c, d] = widths;
        let line = format!("{id:a$}  {what:b$}  {state:c$}  {since:d$}  {last}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// What peers said must not move the cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn time(ms: i64) -> String {
    let secs = ms.max(0) / 1000;
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_is_down_and_since_when() {
        let seen = Seen::deserialize(serde_json::json!({ "now_unix_ms": 10_000_000, "trunks": [{
            "id": "carrier", "title": "Carrier", "up": false,
            "gateways": [
                { "uri": "sip:a.example", "state": "up", "since_unix_ms": 1_000_000,
                  "last": { "at_unix_ms": 9_995_000, "answer": "200 OK", "round_trip_ms": 12.34 } },
                { "uri": "sip:b.example", "state": "down", "since_unix_ms": 9_700_000,
                  "last": { "at_unix_ms": 9_990_000, "answer": "no answer\u{1b}[2J in time" } },
            ],
            "registration": { "aor": "sip:us@a.example", "registrar": "sip:a.example", "registered": false,
                "since_unix_ms": 9_999_000, "expires_unix_ms": null, "next_unix_ms": null, "failures": 3 },
            "calls": [{ "direction": "outbound", "cause": "answered", "count": 7 }, { "direction": "inbound", "cause": "busy", "count": 1 }],
        }] }))
        .unwrap();

        let table = table(&seen);

        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "TRUNK    WHAT                               STATE           SINCE  LAST ANSWER");
        assert_eq!(
            lines[1],
            "carrier  sip:a.example                      up              2 h    200 OK in 12.3 ms, 5 s ago"
        );
        assert_eq!(
            lines[2],
            "         sip:b.example                      down            5 min  no answer[2J in time, 10 s ago"
        );
        assert_eq!(lines[3], "         sip:us@a.example at sip:a.example  NOT registered  1 s    never asked");
        assert_eq!(lines[4], "         calls: 7 outbound answered, 1 inbound busy");
        assert!(!seen.trunks[0].is_well());
    }
}
