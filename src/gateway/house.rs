//! What all calls share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{Mutex, broadcast, watch};

use super::certificates::Certificates;
use super::clips::Clips;
use super::journals::Journals;
use super::recordings::Shelf;
use super::registry::Registry;
use super::reload::Loader;
use super::tolls::Tolls;
use super::trunks::Trunks;
use crate::config::Config;
use crate::guard::InForce;
use crate::journal::Entry;
use crate::media::Workers;
use crate::model::CallId;
use crate::services::{Http, Secrets};
use crate::sip::Sip;
use crate::store::Store;
use crate::webhook::Webhooks;
use crate::workflow::Workflows;

/// What all calls share. Calls hold it, and it holds no call.
pub(super) struct House {
    /// As it was read last; see [`House::config`].
    pub(super) configs: watch::Sender<Arc<Config>>,
    pub(super) sip: Sip,
    pub(super) workers: Workers,
    pub(super) http: Http,
    pub(super) secrets: Secrets,
    pub(super) certificates: Arc<Certificates>,
    pub(super) store: Store,
    pub(super) webhooks: Webhooks,
    pub(super) workflows: Workflows,
    pub(super) clips: Arc<Clips>,
    pub(super) journals: Journals,
    /// Where recordings go.
    pub(super) shelf: Shelf,
    pub(super) registry: Registry,
    pub(super) trunks: Trunks,
    pub(super) tolls: Arc<Tolls>,
    /// Who may come in now.
    pub(super) access: InForce,
    /// How the files are read again; `None` for a house that was built without any.
    pub(super) loader: Option<Loader>,
    /// Held while the files are read again.
    pub(super) reloading: Mutex<()>,
    pub(super) watch: broadcast::Sender<Watched>,
    /// No more calls are taken.
    pub(super) is_draining: AtomicBool,
}

impl House {
    /// The configuration as it was read last. It may be another one at the next look: whoever needs two things of it that
    /// belong together takes it once and holds it. A call holds the one that it began with.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.configs.borrow())
    }
}

/// A step of a call, for whoever looks on.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The call.
    pub call: CallId,
    /// What happened and what it led to, without personal values.
    pub entry: Arc<Entry>,
}

impl fmt::Debug for House {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("House").field("revision", &self.config().revision).finish_non_exhaustive()
    }
}
