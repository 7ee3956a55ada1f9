//! `ringback run`: the gateway itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::signals::{Hangups, Signals};
use super::{EXIT_CODES, Exit, configuration, screen};
use crate::gateway::{Gateway, Options};

/// Run the gateway until it is told to stop.
///
/// SIGHUP, or POST /reload on the admin listener, reads the files again: new calls follow them, calls that are up stay as
/// they are, and files with a mistake change nothing. SIGTERM or SIGINT lets calls that are up come to their end and takes no new ones; a second signal ends at once.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The folder with gateway.toml
    #[arg(long, value_name = "DIR", default_value = "sip-config")]
    config_dir: PathBuf,
    /// How long calls may go on after a signal, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Print one JSON object when calls are taken: ready, sip, admin
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Run with sip-config/ of the working directory
    ringback run
  Run as a service that may take ten minutes to drain
    ringback run --config-dir /etc/ringback --patience 600
  Wait in a script until calls are taken
    ringback run --json | head -n 1";

pub(super) async fn run(arguments: Arguments) -> Exit {
    let (config, warnings) = match configuration::load(&arguments.config_dir, Vec::new()) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprint!("{}", mistakes.human(screen::chatter_in_color()));
            eprintln!("ringback run: the configuration cannot be used; `ringback check` shows the same");
            return Exit::BadConfiguration;
        }
    };
    if !warnings.is_empty() {
        eprint!("{}", warnings.human(screen::chatter_in_color()));
    }
    // Caught from here on, so that a signal during the start is not lost.
    let (mut signals, mut hangups) = match Signals::catch().and_then(|signals| Ok((signals, Hangups::catch()?))) {
        Ok(caught) => caught,
        Err(error) => {
            eprintln!("ringback run: cannot wait for signals: {error}");
            return Exit::Failed;
        }
    };
    let gateway =
        match Gateway::start(config, Options { loader: Some(configuration::again), ..Options::default() }).await {
            Ok(gateway) => gateway,
            Err(error) => {
                eprintln!("ringback run: {error}");
                return Exit::Failed;
            }
        };

    let sip = gateway.sip_addrs();
    let places: Vec<String> = sip.iter().map(|(address, transport)| format!("{transport} {address}")).collect();
    eprintln!("ready: SIP on {}", places.join(", "));
    if arguments.json {
        let sip: Vec<_> = sip
            .iter()
            .map(|(address, transport)| json!({ "transport": transport.to_string(), "address": address }))
            .collect();
        screen::json(&json!({ "ready": true, "sip": sip, "admin": gateway.admin_addr() }));
    }

    loop {
        tokio::select! {
            () = signals.next() => break,
            // What came of it stands in the log, mistakes with their places.
            () = hangups.next() => match gateway.reload().await {
                Ok(done) => eprintln!("reloaded: revision {}, before {}", done.revision, done.before),
                Err(refused) => eprintln!("not reloaded: {refused}"),
            },
        }
    }
    eprintln!("draining: no new calls; again to stop at once");
    tokio::select! {
        () = gateway.drain(Duration::from_secs(arguments.patience)) => {}
        () = signals.next() => eprintln!("stopping at once"),
    }
    gateway.shutdown().await;
    Exit::Ok
}
