//! `ringback check`: all mistakes of a configuration at once.

use std::path::PathBuf;

use clap::Args;

use super::{EXIT_CODES, Exit, configuration, screen};
use crate::config::Diagnostics;

/// Check a configuration, and show every mistake at once with its file, line and a hint.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The folder with gateway.toml
    #[arg(long, value_name = "DIR", default_value = "sip-config")]
    config_dir: PathBuf,
    /// Take a warning for an error
    #[arg(long)]
    deny_warnings: bool,
    /// Print one JSON object: ok, errors, warnings, left_out, diagnostics
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Check sip-config/ of the working directory
    ringback check
  Check before a deployment, where warnings count too
    ringback check --config-dir /etc/ringback --deny-warnings
  The places of all mistakes, for a script
    ringback check --json | jq -r '.diagnostics[] | \"\\(.file):\\(.line) \\(.message)\"'";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let (found, is_usable) = match configuration::load(&arguments.config_dir, Vec::new()) {
        Ok((_, warnings)) => (warnings, true),
        Err(mistakes) => (mistakes, false),
    };
    show(&found, arguments.json);
    match is_usable && !(arguments.deny_warnings && found.warnings() > 0) {
        true => Exit::Ok,
        false => Exit::BadConfiguration,
    }
}

fn show(found: &Diagnostics, as_json: bool) {
    if as_json {
        screen::json(&found.json());
    } else {
        print!("{}", found.human(screen::results_in_color()));
    }
}
