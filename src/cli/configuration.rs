//! Reading the configuration, with what the agent room knows of connectors.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::agent;
use crate::config::{self, Config, Connectors, Diagnostics};

/// Reads and checks a configuration. With `moved`, addresses in it stand elsewhere for this run, from and to.
pub(super) fn load(dir: &Path, moved: Vec<(SocketAddr, SocketAddr)>) -> Result<(Config, Diagnostics), Diagnostics> {
    let connectors = Connectors { names: agent::kinds(), check: settings };
    config::load(dir, &config::Options { connectors, moved })
}

/// Reads the files again, as they stand, for a gateway that runs.
pub(super) fn again(dir: &Path) -> Result<(Config, Diagnostics), Diagnostics> {
    load(dir, Vec::new())
}

fn settings(connector: &str, settings: &Value) -> Vec<(String, String, String)> {
    let mistakes = agent::check_settings(connector, settings);
    mistakes.into_iter().map(|mistake| (mistake.pointer, mistake.message, mistake.hint)).collect()
}
