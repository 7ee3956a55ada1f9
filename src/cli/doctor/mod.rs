//! `ringback doctor`: what is wrong with the configuration, the machine and the last calls, and what helps.
//!
//! Each check is one small function in [`CHECKS`]; it looks at one thing and names a remedy. What the system says of
//! itself is read once into [`Machine`], so that a test can play another one.

mod checks;
mod machine;
mod peers;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{EXIT_CODES, Exit, configuration, screen};
use crate::config::{Config, Diagnostic, Severity};
use crate::store::{CallRecord, Store};
use checks::CHECKS;
use machine::Machine;
use peers::{Heard, Running};

/// Look for what is wrong with the configuration, the machine and the last calls, and name what helps.
///
/// Nothing is changed. It can be run beside a gateway that is running, whose listeners it then leaves alone.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The folder with gateway.toml
    #[arg(long, value_name = "DIR", default_value = "sip-config")]
    config_dir: PathBuf,
    /// Ask the peers too: every gateway and registrar gets an OPTIONS, which shows names, addresses and certificates
    #[arg(long)]
    online: bool,
    /// The admin listener of the gateway that runs, where gateway.toml does not say
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Print one JSON object: ok, findings
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Is this machine ready, and why did the last calls fail?
    ringback doctor
  The same, and does every carrier answer?
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
    /// What that gateway says of itself, or why it does not; `None` when none runs.
    running: Option<Result<Running, String>>,
    /// What the peers answered, or why none could be asked; `None` when nobody asked.
    heard: Option<Result<Vec<Heard>, String>>,
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
            show(&mistakes.list.iter().map(mistake).collect::<Vec<_>>(), arguments.json);
            return Exit::BadConfiguration;
        }
    };
    let mut findings: Vec<Finding> = warnings.list.iter().map(mistake).collect();
    let patient = examine(config, arguments.online, arguments.admin).await;
    for (name, check) in CHECKS {
        findings.extend(check(&patient).into_iter().map(|finding| Finding { check: name, ..finding }));
    }
    show(&findings, arguments.json);
    let is_ill = findings.iter().any(|finding| finding.verdict == Verdict::Error);
    if is_ill { Exit::Failed } else { Exit::Ok }
}

/// A mistake in the files, with what helps against it.
fn mistake(found: &Diagnostic) -> Finding {
    let remedy = found.hint.clone().unwrap_or_else(|| "run `ringback check`, which shows the line".to_owned());
    let says = format!("{}:{} {}", found.file, found.line, found.message);
    let finding = match found.severity {
        Severity::Error => Finding::error(says, remedy),
        Severity::Warning => Finding::warning(says, remedy),
    };
    Finding { check: "configuration", ..finding }
}

async fn examine(config: Config, online: bool, admin: Option<SocketAddr>) -> Patient {
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
    let running = match (admin.or(config.gateway.admin), is_running || admin.is_some()) {
        (_, false) => None,
        (Some(at), true) => Some(peers::running(at).await),
        (None, true) => Some(Err("it has no admin listener".to_owned())),
    };
    let heard = if online { Some(peers::ask(&config).await) } else { None };
    Patient { machine: Machine::read(), config, is_running, calls, store_fault, running, heard }
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
