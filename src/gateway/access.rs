//! Who may come in, made from the configuration, and made anew when it changes.

use tracing::warn;

use crate::config::{self, Config};
use crate::guard::{Access, Contacts};

/// The guard's table for a configuration. A password that cannot be read lets nobody in, and says so now.
pub(super) fn of(config: &Config, contacts: &Contacts) -> Access {
    let secret = |credentials: &crate::trunk::Credentials| match config::secret(&config.dir, &credentials.password) {
        Ok(secret) => Some(secret),
        Err(error) => {
            warn!(%error, "a trunk's inbound password is missing; nobody can prove it");
            None
        }
    };
    Access::new(config.trunks.values(), secret, config.gateway.protection.clone(), contacts.clone())
}
