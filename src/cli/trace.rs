//! `ringback trace`: the SIP messages of a call.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::{EXIT_CODES, Exit, configuration, screen};
use crate::model::CallId;
use crate::store::{CallTrace, Store, TracedMessage};

/// Show the SIP messages of a call: a ladder, then each message.
///
/// Kept are those of calls that failed, or of all, as `[trace]` in gateway.toml says. They hold numbers and names, but no
/// passwords and keys. Works beside a gateway that is running.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The call's id, as in its record
    #[arg(value_name = "CALL")]
    call: Uuid,
    /// The folder of gateway.toml
    #[arg(long, value_name = "DIR", default_value = "sip-config")]
    config_dir: PathBuf,
    /// Draw the ladder and leave it at that
    #[arg(long)]
    ladder_only: bool,
    /// Print one JSON object: messages, left_out
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Who said what to whom?
    ringback trace 01935b5e-7d6a-7c3e-9a51-3f1d2c4b5a69 --ladder-only
  The INVITE as it came
    ringback trace 01935b5e-7d6a-7c3e-9a51-3f1d2c4b5a69 --json | jq -r '.messages[0].text'";

pub(super) async fn run(arguments: Arguments) -> Exit {
    let config = match configuration::load(&arguments.config_dir, Vec::new()) {
        Ok((config, _)) => config,
        Err(_) => {
            eprintln!("ringback trace: the configuration is wrong; `ringback check` says what");
            return Exit::BadConfiguration;
        }
    };
    let found = match Store::open_for_reading(&config.gateway.store.path).await {
        Ok(store) => store.trace(CallId(arguments.call)).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(Some(trace)) if arguments.json => screen::json(&json!(trace)),
        Ok(Some(trace)) => {
            print!("{}", ladder(&trace));
            if !arguments.ladder_only {
                print!("{}", texts(&trace));
            }
        }
        Ok(None) => {
            eprintln!("ringback trace: no messages of this call were kept; see [trace] in gateway.toml");
            return Exit::Failed;
        }
        Err(error) => {
            eprintln!("ringback trace: {error}");
            return Exit::Failed;
        }
    }
    Exit::Ok
}

/// One line for each message: when, on which leg, which way, what.
fn ladder(trace: &CallTrace) -> String {
    let mut out = format!("{:>9}  leg  {:<29}message\n", "seconds", "peer");
    for TracedMessage { at, leg, received, peer, transport, text } in &trace.messages {
        let arrow = if *received { "─▶ us" } else { "◀─ us" };
        let _ = writeln!(
            out,
            "{:>5}.{:03}  {leg:>3}  {:<29} {arrow}  {}",
            at / 1000,
            at % 1000,
            format!("{transport} {peer}"),
            label(text)
        );
    }
    if trace.left_out > 0 {
        let _ = writeln!(out, "({} messages were not kept)", trace.left_out);
    }
    out
}

fn texts(trace: &CallTrace) -> String {
    let mut out = String::new();
    for message in &trace.messages {
        let way = if message.received { "from" } else { "to" };
        let _ = writeln!(out, "\n── {} ms, {way} {} by {}", message.at, message.peer, message.transport);
        // A peer's octets must not steer the terminal.
        for line in message.text.lines() {
            let _ = writeln!(out, "{}", line.chars().filter(|c| !c.is_control()).collect::<String>());
        }
    }
    out
}

/// The method, or the status and its words.
fn label(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let label = match first.strip_prefix("SIP/2.0 ") {
        Some(status) => status,
        None => first.split(' ').next().unwrap_or_default(),
    };
    label.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_says_who_sent_what() {
        let message = |at, received, text: &str| TracedMessage {
            at,
            leg: 0,
            received,
            peer: "192.0.2.1:5060".to_owned(),
            transport: "udp".to_owned(),
            text: text.to_owned(),
        };
        let trace = CallTrace {
            messages: vec![
                message(0, true, "INVITE sip:100@x SIP/2.0\r\nFrom: a\r\n\r\n"),
                message(1_042, false, "SIP/2.0 486 Busy\u{1b}[2J Here\r\n\r\n"),
            ],
            left_out: 3,
        };

        assert_eq!(
            ladder(&trace),
            "  seconds  leg  peer                         message\n    \
                 0.000    0  udp 192.0.2.1:5060            ─▶ us  INVITE\n    \
                 1.042    0  udp 192.0.2.1:5060            ◀─ us  486 Busy[2J Here\n\
             (3 messages were not kept)\n"
        );
        assert!(!texts(&trace).contains('\u{1b}'));
    }
}
