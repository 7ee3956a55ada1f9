//! The credentials of one configuration, read once when it was loaded.

use std::collections::BTreeMap;

use crate::actions::SecretRef;
use crate::model::Secret;

/// What each [`SecretRef`] of a configuration stands for. Missing ones fail the request that needs them, not the load.
#[derive(Clone, Debug, Default)]
pub struct Secrets(BTreeMap<SecretRef, Secret>);

impl Secrets {
    /// The credential itself, if it could be read.
    pub fn get(&self, reference: &SecretRef) -> Option<&Secret> {
        self.0.get(reference)
    }
}

impl FromIterator<(SecretRef, Secret)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (SecretRef, Secret)>>(found: I) -> Secrets {
        Secrets(found.into_iter().collect())
    }
}
