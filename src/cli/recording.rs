//! `ringback recording`: open what is sealed, destroy what nobody shall hear.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{EXIT_CODES, Exit, configuration, screen};
use crate::config::Config;
use crate::gateway::{delete, folder, master_key, unix_ms};
use crate::media::{MasterKey, SEALED, SealError, unseal};

/// Open or destroy recordings of calls.
///
/// They lie in `recordings` below the data folder, each with a page about it, ID.json. Works beside a gateway that is
/// running.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The folder of gateway.toml
    #[arg(long, global = true, value_name = "DIR", default_value = "sip-config")]
    config_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a sealed recording out as a file that any player opens
    Open {
        /// The sealed file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where to; the same name without `.sealed` when left out
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// A file with the master key, instead of the one under `[recordings]`: for one that was replaced
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Print one JSON object: out, octets, whole
        #[arg(long)]
        json: bool,
    },
    /// Destroy a recording, its key first, and note that in deleted.jsonl
    Delete {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Why, for deleted.jsonl
        #[arg(long, value_name = "WORDS", default_value = "an operator wanted it")]
        why: String,
    },
}

const EXAMPLES: &str = "\
Examples:
  Listen to a sealed recording
    ringback recording open data/recordings/01935b5e-7d6a-7c3e-9a51-3f1d2c4b5a69.wav.sealed --out call.wav
  Somebody wants to be forgotten
    ringback recording delete data/recordings/01935b5e-7d6a-7c3e-9a51-3f1d2c4b5a69.wav.sealed --why 'request 4711'";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let config = match configuration::load(&arguments.config_dir, Vec::new()) {
        Ok((config, _)) => config,
        Err(_) => {
            eprintln!("ringback recording: the configuration is wrong; `ringback check` says what");
            return Exit::BadConfiguration;
        }
    };
    match &arguments.what {
        What::Open { file, out, key, json } => open(&config, file, out.as_deref(), key.as_deref(), *json),
        What::Delete { file, why } => {
            let beside = file.parent().filter(|dir| !dir.as_os_str().is_empty()).map(Path::to_owned);
            let done = if file.is_file() {
                delete(&beside.unwrap_or_else(|| folder(&config)), file, why, unix_ms())
            } else {
                Err(std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file"))
            };
            match done {
                Ok(()) => Exit::Ok,
                Err(error) => failed(file, &error),
            }
        }
    }
}

fn open(config: &Config, file: &Path, out: Option<&Path>, key: Option<&Path>, as_json: bool) -> Exit {
    let master = match key {
        Some(path) => fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))
            .and_then(|text| MasterKey::parse(&text).map_err(|error| error.to_string())),
        None => master_key(config)
            .and_then(|master| master.ok_or_else(|| "there is no key under [recordings] in gateway.toml".to_owned())),
    };
    let master = match master {
        Ok(master) => master,
        Err(error) => {
            eprintln!("ringback recording: {error}");
            return Exit::BadConfiguration;
        }
    };
    let name = file.to_string_lossy();
    let out = out.map_or_else(|| PathBuf::from(name.strip_suffix(SEALED).unwrap_or(&name)), Path::to_owned);
    match unseal(file, &master, &out) {
        Ok(opened) => {
            if as_json {
                screen::json(&json!({ "out": out, "octets": opened.octets, "whole": opened.is_whole }));
            } else {
                println!("{}", out.display());
            }
            if !opened.is_whole {
                eprintln!("ringback recording: its end is missing: whoever recorded it died, or the copy broke off");
            }
            Exit::Ok
        }
        Err(error @ SealError::Write(_)) => failed(&out, &error),
        Err(error) => failed(file, &error),
    }
}

fn failed(file: &Path, error: &dyn std::fmt::Display) -> Exit {
    eprintln!("ringback recording: {}: {error}", file.display());
    Exit::Failed
}
