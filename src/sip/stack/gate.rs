//! Who may connect at all and who is told of garbage: filters that others feed, and a bound on connections in all and of
//! one source.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use crate::model::limits;

type Filter = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Clones share it.
#[derive(Clone, Default)]
pub(in crate::sip) struct Gate {
    filter: Arc<ArcSwapOption<Filter>>,
    known: Arc<ArcSwapOption<Filter>>,
    seats: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Seat {
    gate: Gate,
    source: IpAddr,
}

impl Gate {
    /// Asked for each connection and datagram, before anything in it is read: `false` meets silence.
    pub(in crate::sip) fn set_filter(&self, filter: impl Fn(IpAddr) -> bool + Send + Sync + 'static) {
        self.filter.store(Some(Arc::new(Box::new(filter))));
    }

    /// Whom we tell that we could not read something. Without it, nobody is told.
    pub(in crate::sip) fn set_known(&self, known: impl Fn(IpAddr) -> bool + Send + Sync + 'static) {
        self.known.store(Some(Arc::new(Box::new(known))));
    }

    pub(super) fn knows(&self, source: IpAddr) -> bool {
        self.known.load().as_ref().is_some_and(|known| known(source))
    }

    pub(super) fn lets_in(&self, source: IpAddr) -> bool {
        self.filter.load().as_ref().is_none_or(|filter| filter(source))
    }

    /// A place for one more connection, if there is one.
    pub(super) fn take_seat(&self, source: IpAddr) -> Option<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = seats.values().sum();
        let own = seats.get(&source).copied().unwrap_or_default();
        if all >= limits::SIP_CONNECTIONS_MAX || own >= limits::SIP_CONNECTIONS_PER_SOURCE_MAX {
            return None;
        }
        seats.insert(source, own + 1);
        Some(Seat { gate: self.clone(), source })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.gate.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = seats.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                seats.remove(&self.source);
            }
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_takes_no_more_than_its_share_and_gives_it_back() {
        let gate = Gate::default();
        let ada: IpAddr = "192.0.2.1".parse().unwrap();
        let mut seats: Vec<Seat> =
            (0..limits::SIP_CONNECTIONS_PER_SOURCE_MAX).map(|_| gate.take_seat(ada).unwrap()).collect();

        assert!(gate.take_seat(ada).is_none());
        assert!(gate.take_seat("192.0.2.2".parse().unwrap()).is_some());
        seats.pop();

        assert!(gate.take_seat(ada).is_some());
        drop(seats);
        assert!(gate.seats.lock().unwrap().is_empty());
    }

    #[test]
    fn whom_the_filter_refuses_is_not_let_in() {
        let gate = Gate::default();
        let scanner: IpAddr = "198.51.100.1".parse().unwrap();
        assert!(gate.lets_in(scanner));

        gate.set_filter(move |source| source != scanner);

        assert!(!gate.lets_in(scanner));
        assert!(gate.lets_in("192.0.2.1".parse().unwrap()));
    }
}
