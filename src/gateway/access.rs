//! Who may come in, made from the configuration, and made anew when it changes.

use std::sync::Arc;

use tracing::warn;

use super::house::House;
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

/// Lets the guard follow the configuration.
pub(super) async fn follow(house: Arc<House>) {
    let mut configs = house.configs.subscribe();
    while configs.changed().await.is_ok() {
        let config = Arc::clone(&configs.borrow_and_update());
        house.access.replace(of(&config, &house.contacts));
    }
}
