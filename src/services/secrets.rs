//! The credentials of one configuration, read when it was loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::actions::SecretRef;
use crate::model::Secret;

/// What each [`SecretRef`] of a configuration stands for. Missing ones fail the request that needs them, not the load.
/// A clone is another hold on the same credentials.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<ArcSwap<BTreeMap<SecretRef, Secret>>>);

impl Secrets {
    /// The credential itself, if it could be read.
    pub fn get(&self, reference: &SecretRef) -> Option<Secret> {
        self.0.load().get(reference).cloned()
    }

    /// Takes other credentials for these, for everybody who holds them.
    pub fn replace(&self, others: &Secrets) {
        self.0.store(others.0.load_full());
    }
}

impl FromIterator<(SecretRef, Secret)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (SecretRef, Secret)>>(found: I) -> Secrets {
        Secrets(Arc::new(ArcSwap::from_pointee(found.into_iter().collect())))
    }
}
