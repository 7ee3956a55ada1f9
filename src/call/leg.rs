//! The parties of a call.

use crate::model::{Address, LegId, Pii};

/// One party.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    pub(super) role: Role,
    pub(super) state: LegState,
    /// It has rung: a server is there, and only the person did not come.
    rang: bool,
    /// It can be heard before it answers.
    sounded: bool,
}

/// What a party is to the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Caller,
    Agent,
    Target(Pii<Address>),
}

/// Where a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegState {
    /// On its way: the caller rings at our door, or we ring at somebody's.
    Coming,
    Up,
    Gone,
}

/// Everybody who ever was on the call; a leg's id is its index.
#[derive(Clone, Debug, Default)]
pub(super) struct Legs {
    all: Vec<Leg>,
}

impl Legs {
    pub(super) fn add(&mut self, role: Role) -> LegId {
        let id = LegId(u16::try_from(self.all.len()).unwrap_or(u16::MAX));
        self.all.push(Leg { role, state: LegState::Coming, rang: false, sounded: false });
        id
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, id: LegId) -> Option<&Leg> {
        self.all.get(usize::from(id.0))
    }

    /// Moves a leg on; `false` when there is no such leg, or it is gone: what comes late has nothing to say.
    pub(super) fn set(&mut self, id: LegId, state: LegState) -> bool {
        match self.all.get_mut(usize::from(id.0)) {
            Some(leg) if leg.state != LegState::Gone => {
                leg.state = state;
                true
            }
            _ => false,
        }
    }

    /// It rings; `true` the first time.
    pub(super) fn ring(&mut self, id: LegId) -> bool {
        let leg = self.all.get_mut(usize::from(id.0));
        leg.is_some_and(|leg| leg.state == LegState::Coming && !std::mem::replace(&mut leg.rang, true))
    }

    /// It can be heard before it answers; `true` the first time.
    pub(super) fn sound(&mut self, id: LegId) -> bool {
        let leg = self.all.get_mut(usize::from(id.0));
        leg.is_some_and(|leg| leg.state == LegState::Coming && !std::mem::replace(&mut leg.sounded, true))
    }

    pub(super) fn has_rung(&self, id: LegId) -> bool {
        self.get(id).is_some_and(|leg| leg.rang)
    }

    pub(super) fn is_up(&self, id: LegId) -> bool {
        self.get(id).is_some_and(|leg| leg.state == LegState::Up)
    }

    /// Everybody who is not gone, in the order they came.
    pub(super) fn present(&self) -> impl Iterator<Item = LegId> + '_ {
        let ids = (0..=u16::MAX).map(LegId);
        ids.zip(&self.all).filter(|(_, leg)| leg.state != LegState::Gone).map(|(id, _)| id)
    }
}
