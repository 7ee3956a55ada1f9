//! Who hears whom.

use serde::{Deserialize, Serialize};

use crate::model::LegId;

/// Who hears whom, whole: it is always sent complete, never as a difference. Who is not listed hears nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// Listener and source.
    pub hears: Vec<(LegId, LegId)>,
}

impl Wiring {
    /// Nobody hears anybody.
    pub fn apart() -> Wiring {
        Wiring::default()
    }

    /// One hears the other, who hears nobody.
    pub fn listening(listener: LegId, source: LegId) -> Wiring {
        Wiring { hears: vec![(listener, source)] }
    }

    /// Two parties talk.
    pub fn between(one: LegId, other: LegId) -> Wiring {
        Wiring { hears: vec![(one, other), (other, one)] }
    }
}
