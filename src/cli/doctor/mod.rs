//! `ringback doctor`: what is wrong with the configuration, the machine and the last calls, and what helps.
//!
//! Each check is one small function in [`CHECKS`]; it looks at one thing and names a remedy. What the system says of
//! itself is read once into [`Machine`], so that a test can play another one.

mod checks;
mod machine;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{EXIT_CODES, Exit, configuration, screen};
use crate::config::Config;
use crate::store::{CallRecord, Store};
use checks::CHECKS;
use machine::Machine;

/// Look for what is wrong with the configuration, the machine and the last calls, and name what helps.
///
/// Nothing is changed. It can be run beside a gateway that is running, whose listeners it then leaves alone.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The folder with gateway.toml
    #[arg(long, value_name = "DIR", default_value = "sip-config")]
    config_dir: PathBuf,
    /// Ask the network too: whether the names of trunks' gateways have addresses
    #[arg(long)]
    online: bool,
    /// Print one JSON object: ok, findings
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Is this machine ready, and why did the last calls fail?
    ringback doctor
  The same with the names of all gateways looked up
    ringback doctor --online
  What must be done, for a script
    ringback doctor --json | jq -r '.findings[] | select(.verdict == \"error\") | .remedy'";

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// Which check.
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    says: String,
    /// What helps.
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warning,
    Error,
}

/// Everything that a check may look at.
struct Patient {
    config: Config,
    machine: Machine,
    /// A gateway has the store open, and so the listeners.
    is_running: bool,
    /// The latest calls that are over, latest first.
    calls: Vec<CallRecord>,
    store_fault: Option<String>,
    /// Hosts of trunks' gateways without an address; `None` when nobody asked.
    unresolved: Option<Vec<String>>,
}

impl Finding {
    fn ok(says: impl Into<String>) -> Finding {
        Finding { check: "", verdict: Verdict::Ok, says: says.into(), remedy: None }
    }

    fn warning(says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { check: "", verdict: Verdict::Warning, says: says.into(), remedy: Some(remedy.into()) }
    }

    fn error(says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Error, ..Finding::warning(says, remedy) }
    }
}

pub(super) async fn run(arguments: Arguments) -> Exit {
    let (config, warnings) = match configuration::load(&arguments.config_dir, Vec::new()) {
        Ok(read) => read,
        Err(mistakes) => {
            let says = format!("the configuration has {} mistakes", mistakes.errors());
            let finding = Finding { check: "configuration", ..Finding::error(says, "run `ringback check`") };
            show(&[finding], arguments.json);
            return Exit::BadConfiguration;
        }
    };
    let mut findings: Vec<Finding> = warnings
        .list
        .iter()
        .map(|one| {
            let remedy = one.hint.clone().unwrap_or_else(|| "run `ringback check`".to_owned());
            Finding {
                check: "configuration",
                ..Finding::warning(format!("{}:{} {}", one.file, one.line, one.message), remedy)
            }
        })
        .collect();
    let patient = examine(config, arguments.online).await;
    for (name, check) in CHECKS {
        findings.extend(check(&patient).into_iter().map(|finding| Finding { check: name, ..finding }));
    }
    show(&findings, arguments.json);
    let is_ill = findings.iter().any(|finding| finding.verdict == Verdict::Error);
    if is_ill { Exit::Failed } else { Exit::Ok }
}

async fn examine(config: Config, online: bool) -> Patient {
    let path = &config.gateway.store.path;
    let (mut calls, mut store_fault) = (Vec::new(), None);
    // A store that is not there yet is made by the first start.
    if path.exists() {
        let read = match Store::open_for_reading(path).await {
            Ok(store) => store.calls(CALLS_LOOKED_AT).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(found) => calls = found,
            Err(error) => store_fault = Some(error.to_string()),
        }
    }
    let is_running = machine::is_locked(&path.with_added_extension("lock"));
    let unresolved = if online { Some(unresolved(&config).await) } else { None };
    Patient { machine: Machine::read(), config, is_running, calls, store_fault, unresolved }
}

async fn unresolved(config: &Config) -> Vec<String> {
    let mut lost = Vec::new();
    for gateway in config.trunks.values().filter_map(|trunk| trunk.outbound.as_ref()).flat_map(|out| &out.gateways) {
        let Some(host) = host_of(gateway) else { continue };
        // A name may have SRV records only; then it needs the gateway's own way of asking, and this says nothing of it.
        let found = tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((host, 5060))).await;
        let is_found = found.is_ok_and(|found| found.is_ok_and(|mut addresses| addresses.next().is_some()));
        if !is_found {
            lost.push(host.to_owned());
        }
    }
    lost
}

/// The host of a SIP URI without a user.
fn host_of(uri: &str) -> Option<&str> {
    let rest = uri.split_once(':')?.1.split([';', '?']).next()?;
    match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => rest.split(':').next().filter(|host| !host.is_empty()),
    }
}

fn show(findings: &[Finding], as_json: bool) {
    if as_json {
        let ok = findings.iter().all(|finding| finding.verdict != Verdict::Error);
        return screen::json(&json!({ "ok": ok, "findings": findings }));
    }
    for finding in findings {
        let mark = match finding.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Error => "error  ",
        };
        println!("{mark}  {:<14} {}", finding.check, finding.says);
        if let Some(remedy) = &finding.remedy {
            println!("{:<26}→ {remedy}", "");
        }
    }
}

/// Some hours of a busy gateway; what failed before was asked about before.
const CALLS_LOOKED_AT: usize = 500;
/// A name server that takes longer is itself the finding.
const LOOKUP_MAX: std::time::Duration = std::time::Duration::from_secs(3);
