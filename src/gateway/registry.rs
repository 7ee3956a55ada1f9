//! Who is on the line: calls by id, and legs by SIP dialog.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::mpsc;

use super::mailbox::{Mailbox, Post};
use crate::call::{Cause, Event};
use crate::model::{CallId, Heard, LegId};
use crate::sip::DialogId;

/// The way into one call, for everybody but its own task.
#[derive(Debug, Default)]
pub(super) struct Door {
    pub(super) mailbox: Mailbox,
    /// Sockets of agents that listen, by leg.
    ears: Mutex<HashMap<LegId, mpsc::Sender<Heard>>>,
}

impl Door {
    pub(super) fn listen(&self, leg: LegId, ear: mpsc::Sender<Heard>) {
        self.ears.lock().unwrap_or_else(PoisonError::into_inner).insert(leg, ear);
    }

    /// Gives an agent's socket what it hears; `false` when it does not keep up.
    pub(super) fn hear(&self, leg: LegId, heard: Heard) -> bool {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        match ears.get(&leg).map(|ear| ear.try_send(heard)) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => false,
            // An agent that has left hears nothing, and that is no fault.
            Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) | None => true,
        }
    }
}

/// Every call that is up.
#[derive(Debug, Default)]
pub(super) struct Registry {
    calls: RwLock<HashMap<CallId, Arc<Door>>>,
    dialogs: RwLock<HashMap<DialogId, (CallId, LegId)>>,
    /// Every dialog that a call has had.
    traced: Mutex<HashMap<CallId, Vec<(DialogId, LegId)>>>,
}

impl Registry {
    pub(super) fn add(&self, call: CallId, door: Arc<Door>) {
        self.calls.write().unwrap_or_else(PoisonError::into_inner).insert(call, door);
    }

    pub(super) fn add_dialog(&self, dialog: DialogId, call: CallId, leg: LegId) {
        self.dialogs.write().unwrap_or_else(PoisonError::into_inner).insert(dialog, (call, leg));
        self.traced.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default().push((dialog, leg));
    }

    /// Every dialog that a call has had, which is then forgotten.
    pub(super) fn take_dialogs(&self, call: CallId) -> Vec<(DialogId, LegId)> {
        self.traced.lock().unwrap_or_else(PoisonError::into_inner).remove(&call).unwrap_or_default()
    }

    pub(super) fn remove_dialog(&self, dialog: DialogId) {
        self.dialogs.write().unwrap_or_else(PoisonError::into_inner).remove(&dialog);
    }

    pub(super) fn remove(&self, call: CallId) {
        let of_it = |(of, _): &(CallId, LegId)| *of == call;
        debug_assert!(
            !self.dialogs.read().unwrap_or_else(PoisonError::into_inner).values().any(of_it),
            "every leg of a call is let go before the call"
        );
        self.calls.write().unwrap_or_else(PoisonError::into_inner).remove(&call);
    }

    pub(super) fn door(&self, call: CallId) -> Option<Arc<Door>> {
        self.calls.read().unwrap_or_else(PoisonError::into_inner).get(&call).cloned()
    }

    pub(super) fn by_dialog(&self, dialog: DialogId) -> Option<(Arc<Door>, LegId)> {
        let (call, leg) = *self.dialogs.read().unwrap_or_else(PoisonError::into_inner).get(&dialog)?;
        self.door(call).map(|door| (door, leg))
    }

    pub(super) fn len(&self) -> usize {
        self.calls.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Asks every call to end.
    pub(super) fn end_all(&self, cause: Cause) {
        for door in self.calls.read().unwrap_or_else(PoisonError::into_inner).values() {
            door.mailbox.post(Post::Event(Event::EndAsked { cause }));
        }
    }
}
