//! What the rest of the house holds of SIP: it opens the sockets, gives commands, and reads counters.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ask::Inquiry;
use super::config::{SipConfig, SipError, SipTls, TlsError};
use super::counters::{Counts, SipCounters};
use super::event::{DialogId, SipCommand, SipEvent, Transport};
use super::net::Net;
use super::screen::Screen;
use super::stack::{Gate, Stack, Tls};
use super::trace::{Trace, Tracer};
use super::wire::{Shared, Wire, new_token, next_id};
use crate::model::limits;

/// The SIP side of the house. Clones share it; when the last is dropped, everything it started stops at once.
#[derive(Clone, Debug)]
pub struct Sip {
    net: Arc<Net>,
    gate: Gate,
    tls: Tls,
    screen: Screen,
    began: Instant,
    counts: Arc<Counts>,
    tracer: Tracer,
    orders: mpsc::Sender<Order>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What is asked of the wire.
#[derive(Debug)]
pub(super) enum Order {
    Do(DialogId, SipCommand),
    Inquire(Inquiry),
    ShutDown,
}

impl Sip {
    /// Opens the sockets and begins to serve. The receiver must be read: while it is full, new calls are refused.
    ///
    /// # Errors
    ///
    /// [`SipError::NoListener`], or [`SipError::Bind`] for the first socket that cannot be opened.
    pub async fn bind(config: SipConfig) -> Result<(Sip, mpsc::Receiver<SipEvent>), SipError> {
        let counts = Arc::new(Counts::default());
        let (stack, net) = Stack::bind(&config, counts.clone())?;
        let (gate, tls) = (stack.gate(), stack.tls());
        let (screen, began) = (Screen::new(new_key(), config.access.clone()), Instant::now());
        let sieve = screen.clone();
        gate.set_filter(move |source| sieve.listens_to(began.elapsed(), source));
        let access = config.access.clone();
        gate.set_known(move |source| {
            let access = access.now();
            access.is_open() || access.is_listed(source)
        });
        let (events, events_out) = mpsc::channel(config.events.max(1));
        let (orders, orders_in) = mpsc::channel(limits::SIP_COMMANDS);

        let tracer = Tracer::default();
        let shared =
            Shared { net: net.clone(), counts: counts.clone(), tracer: tracer.clone(), screen: screen.clone(), began };
        let mut tasks = JoinSet::new();
        tasks.spawn(Wire::new(config, stack, shared, events).run(orders_in));
        let tasks = Arc::new(Mutex::new(tasks));
        Ok((Sip { net, gate, tls, screen, began, counts, tracer, orders, tasks }, events_out))
    }

    pub(super) async fn order(&self, order: Order) {
        // After shutdown there is nobody to take it.
        let _ = self.orders.send(order).await;
    }

    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    /// Where we really listen, in the order of the configuration: UDP, TCP, TLS, WebSocket, and that within TLS.
    pub fn local_addrs(&self) -> Vec<(SocketAddr, Transport)> {
        self.net.endpoints.iter().map(|endpoint| (endpoint.bound, endpoint.transport)).collect()
    }

    /// Asks this for each connection and datagram before anything in it is read, and then the guard; whom either refuses
    /// meets silence. It is called for every packet, so it must be quick.
    pub fn filter_sources(&self, filter: impl Fn(IpAddr) -> bool + Send + Sync + 'static) {
        let (sieve, began) = (self.screen.clone(), self.began);
        self.gate.set_filter(move |source| filter(source) && sieve.listens_to(began.elapsed(), source));
    }

    /// Takes other certificates for connections to come. Those that are open keep theirs.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when they are of no use; then nothing changes.
    pub fn reload_tls(&self, tls: SipTls) -> Result<(), TlsError> {
        self.tls.reload(tls)
    }

    /// Whether the messages of dialogs are kept for [`Sip::take_trace`]. They are not until this is called.
    pub fn keep_traces(&self, keeps: bool) {
        self.tracer.switch(keeps);
    }

    /// The messages of a dialog so far, which are then forgotten.
    pub fn take_trace(&self, dialog: DialogId) -> Trace {
        self.tracer.take(dialog, Instant::now())
    }

    /// Lets the messages of a dialog go, which nobody is going to read.
    pub fn forget_trace(&self, dialog: DialogId) {
        self.tracer.forget(dialog);
    }

    /// A name for a call that is about to be placed with [`SipCommand::Dial`].
    pub fn new_dialog(&self) -> DialogId {
        next_id()
    }

    /// Gives a command. Waits only while [`limits::SIP_COMMANDS`] others wait; trouble comes back as an event.
    pub async fn send(&self, dialog: DialogId, command: SipCommand) {
        // After shutdown there is nobody to do it and nothing left to do.
        let _ = self.orders.send(Order::Do(dialog, command)).await;
    }

    /// What has been counted since birth.
    pub fn counters(&self) -> SipCounters {
        let judged = self.screen.counts().into_iter().collect();
        SipCounters { judged, sources_known: self.screen.known() as u64, ..self.counts.snapshot() }
    }

    /// Hangs up whatever is left, waits for the goodbyes for at most T2, and closes the sockets.
    pub async fn shutdown(&self) {
        let _ = self.orders.send(Order::ShutDown).await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        while tasks.join_next().await.is_some() {}
    }
}

/// 256 random bits, for the guard's nonces.
fn new_key() -> [u8; 32] {
    let words: Vec<u8> = std::iter::repeat_with(new_token).take(4).flat_map(String::into_bytes).collect();
    Sha256::digest(words).into()
}
