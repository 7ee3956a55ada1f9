//! Reading the configuration again while calls are up.
//!
//! A tree with a mistake changes nothing. Of a good one, whatever a new call looks up is taken at once: trunks, routes,
//! agents, actions, workflows, limits, credentials. Calls that are up keep what they began with. What was opened at the
//! start, as sockets and the store, stays, and is named when the files want it otherwise. Whoever keeps a table made of
//! the configuration subscribes to [`House::configs`] and makes it anew.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use metrics::counter;
use tracing::{error, info, warn};

use super::access;
use super::house::House;
use super::sip_tls;
use super::start::secrets;
use crate::config::{Config, Diagnostics, Gateway};

/// Reads a folder with `gateway.toml` from the disk: the configuration with its warnings, or the mistakes.
pub type Loader = fn(&Path) -> Result<(Config, Diagnostics), Diagnostics>;

/// What came of reading the files again.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The revision that counts from now on.
    pub revision: String,
    /// The one before.
    pub before: String,
    /// What the files want otherwise, and only a start can change.
    pub needs_a_start: Vec<&'static str>,
    /// What deserves a look.
    pub warnings: Diagnostics,
}

/// Why nothing was changed.
#[derive(Clone, Debug)]
pub enum ReloadError {
    /// There are mistakes in the files.
    Broken(Diagnostics),
    /// Nobody told this gateway how files are read.
    NoLoader,
    /// Reading the files broke.
    Failed,
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::Broken(found) => {
                write!(f, "the configuration has {} errors; nothing is changed", found.errors())
            }
            ReloadError::NoLoader => f.write_str("this gateway was started without files"),
            ReloadError::Failed => f.write_str("reading the files broke; nothing is changed"),
        }
    }
}

impl std::error::Error for ReloadError {}

/// Reads the files again and takes what they say.
pub(super) async fn reload(house: &Arc<House>) -> Result<Reloaded, ReloadError> {
    // One at a time: the files that are read last are those that count.
    let _turn = house.reloading.lock().await;
    let result = read(house).await.map(|(config, warnings)| take(house, config, warnings));
    match &result {
        Ok(done) => {
            counter!("ringback_reloads_total", "result" => "done").increment(1);
            for found in &done.warnings.list {
                warn!(file = found.file, line = found.line, code = found.code, "{}", found.message);
            }
            if !done.needs_a_start.is_empty() {
                warn!(changed = done.needs_a_start.join(", "), "this changes with the next start only");
            }
            info!(revision = done.revision, before = done.before, "the configuration is read again");
        }
        Err(refused) => {
            counter!("ringback_reloads_total", "result" => "refused").increment(1);
            if let ReloadError::Broken(found) = refused {
                for found in &found.list {
                    error!(file = found.file, line = found.line, code = found.code, "{}", found.message);
                }
            }
            error!(error = %refused, "the configuration stays as it is");
        }
    }
    result
}

async fn read(house: &Arc<House>) -> Result<(Config, Diagnostics), ReloadError> {
    let load = house.loader.ok_or(ReloadError::NoLoader)?;
    let dir: PathBuf = house.config().dir.clone();
    let read = tokio::task::spawn_blocking(move || load(&dir)).await;
    read.map_err(|_| ReloadError::Failed)?.map_err(ReloadError::Broken)
}

fn take(house: &House, config: Config, warnings: Diagnostics) -> Reloaded {
    let before = house.config();
    let needs_a_start = fixed(&before, &config);
    // What was opened at the start goes on as it was.
    let gateway = Gateway {
        limits: config.gateway.limits.clone(),
        protection: config.gateway.protection.clone(),
        ..before.gateway.clone()
    };
    let config = Arc::new(Config { gateway, ..config });
    // Credentials first: whoever follows the configuration finds those of the new one.
    house.secrets.replace(&secrets(&config));
    house.clips.forget();
    let revision = config.revision.clone();
    // Whoever is let in by the new files may call as soon as this returns.
    house.access.replace(access::of(&config, &house.trunks.contacts()));
    house.configs.send_replace(config);
    sip_tls::renew(house);
    Reloaded { revision, before: before.revision.clone(), needs_a_start, warnings }
}

/// What differs and cannot be changed under calls.
fn fixed(before: &Config, after: &Config) -> Vec<&'static str> {
    let (old, new) = (&before.gateway, &after.gateway);
    let changed = [
        ("[sip] in gateway.toml", old.sip != new.sip),
        ("[media] in gateway.toml", old.media != new.media),
        ("[store] in gateway.toml", old.store != new.store),
        ("[recordings] in gateway.toml", old.recordings != new.recordings),
        ("[egress] in gateway.toml", old.egress != new.egress),
        ("[admin] in gateway.toml", old.admin != new.admin),
        ("[prompts] in gateway.toml", old.prompts != new.prompts),
        ("webhooks.toml", before.endpoints != after.endpoints),
    ];
    changed.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}
