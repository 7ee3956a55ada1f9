//! The driver under the wire: sockets, connections, transactions and their timers.
//!
//! It has no task of its own: the wire polls it with [`Stack::next`] and tells it what to send, so that a message passes
//! no queue between the socket and its dialog. Only connections have a task each, because a peer may be slow there.
//! It knows requests and where they go, never what they are about.
//! Start at `poll`, then `transactions` (RFC 3261 §17), `errands` (a request and its targets, RFC 3263 §4.3), `links`
//! (how octets leave) and `connection`.

mod clockwork;
mod connection;
mod dns;
mod errands;
mod gate;
mod links;
mod poll;
mod tls;
mod transactions;
mod unreadable;
mod websocket;
mod within;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use sipx_sip::transaction::TransactionLayer;
use sipx_sip::{Limits, Request, Response, Timers, TransactionKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use super::config::{SipConfig, SipError, SipTimers};
use super::counters::Counts;
use super::dialog::{Ask, Reply};
use super::event::{DialogId, Failure};
use super::net::{Hop, Net};
use crate::model::limits;

use clockwork::{Alarm, Clockwork};
use dns::Dns;
use errands::{Errand, ErrandId, Found};
use links::Links;
use transactions::{Asked, Served};

pub(super) use gate::Gate;
pub(super) use tls::Tls;

/// What the network or a timer brought.
#[derive(Debug)]
pub(super) enum Happening {
    /// A request that no transaction knows, or the ACK of a 2xx.
    Request(Box<Incoming>),
    /// What became of something that we sent.
    Report(Report),
}

/// A request, and how it came.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Its transaction; of an ACK, the one it acknowledges.
    pub(super) key: TransactionKey,
    pub(super) request: Request,
    pub(super) peer: Hop,
    /// The listener it came by; see [`Net::endpoints`].
    pub(super) endpoint: usize,
    /// What the peer's verified TLS certificate calls it.
    pub(super) tls_names: Arc<[String]>,
}

/// What became of something that we sent.
#[derive(Debug)]
pub(super) enum Report {
    /// Where the target of a call leads, best first; empty when nowhere.
    Looked(DialogId, Vec<Hop>),
    /// An answer to our INVITE, and the hop it came from.
    Response(DialogId, Box<Response>, Hop),
    /// Our INVITE got none.
    Failed(DialogId, Failure),
    /// Our INVITE can get no further answer.
    InviteOver(DialogId),
    /// What came of another request within a dialog.
    Reply(DialogId, Ask, Reply),
    /// The final answer to a question outside of any dialog, and the hop it came from; or why there is none.
    Answered(DialogId, Result<(Box<Response>, Hop), Failure>),
}

impl Report {
    pub(super) fn dialog(&self) -> DialogId {
        match self {
            Report::Looked(id, _)
            | Report::Response(id, ..)
            | Report::Failed(id, _)
            | Report::InviteOver(id)
            | Report::Reply(id, ..)
            | Report::Answered(id, _) => *id,
        }
    }
}

/// The driver. Dropping it closes everything at once.
pub(super) struct Stack {
    net: Arc<Net>,
    counts: Arc<Counts>,
    links: Links,
    // A call to ourselves has both ends of one transaction here, under one key: hence two layers.
    client: TransactionLayer,
    server: TransactionLayer,
    asked: HashMap<TransactionKey, Asked>,
    served: HashMap<TransactionKey, Served>,
    errands: HashMap<ErrandId, Errand>,
    inviting: HashMap<DialogId, ErrandId>,
    last_errand: u64,
    dns: Arc<Dns>,
    /// Names being looked up.
    lookups: JoinSet<Found>,
    clockwork: Clockwork,
    alarm: Pin<Box<Sleep>>,
    alarm_at: Instant,
    ready: VecDeque<Happening>,
    timers: SipTimers,
    limits: Limits,
    /// Whether requests that are new must be turned away, because the wire lags behind.
    is_behind: bool,
    /// The longest datagram there is.
    buffer: Vec<u8>,
}

impl Stack {
    /// Opens every socket, or none.
    pub(super) fn bind(config: &SipConfig, counts: Arc<Counts>) -> Result<(Stack, Arc<Net>), SipError> {
        let (links, endpoints) = Links::bind(config, counts.clone())?;
        let net = Arc::new(Net::new(config, endpoints));
        let timers = Timers { t1: config.timers.t1, t2: config.timers.t2, t4: config.timers.t4 };
        let now = Instant::now();
        let mut stack = Stack {
            net: net.clone(),
            counts,
            links,
            client: TransactionLayer::new(timers),
            server: TransactionLayer::new(timers),
            asked: HashMap::new(),
            served: HashMap::new(),
            errands: HashMap::new(),
            inviting: HashMap::new(),
            last_errand: 0,
            dns: Arc::new(Dns::new(config.nameservers.as_deref())),
            lookups: JoinSet::new(),
            clockwork: Clockwork::default(),
            alarm: Box::pin(tokio::time::sleep_until(now)),
            alarm_at: now,
            ready: VecDeque::new(),
            timers: config.timers,
            limits: message_limits(),
            is_behind: false,
            buffer: vec![0; usize::from(u16::MAX)],
        };
        stack.clockwork.set(now, limits::SIP_ROUTES_KNOWN_FOR, Alarm::Routes);
        Ok((stack, net))
    }

    /// Where a filter of sources is set.
    pub(super) fn gate(&self) -> Gate {
        self.links.gate.clone()
    }

    /// Where certificates are changed.
    pub(super) fn tls(&self) -> Tls {
        self.links.tls.clone()
    }

    /// Whether something that we sent still waits for its end.
    pub(super) fn is_busy(&self) -> bool {
        !self.errands.is_empty()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Lets the connections say what is left, for at most T2, and closes them.
    pub(super) async fn finish(mut self) {
        let within = self.timers.t2;
        self.links.finish(within).await;
        self.lookups.shutdown().await;
        self.counts.gauge_network(0, 0);
    }
}

/// Twice what we serve, so that a message somewhat too long gets its 513 instead of a broken connection.
fn message_limits() -> Limits {
    Limits {
        max_message_bytes: 2 * limits::SIP_MESSAGE_MAX,
        max_body_bytes: 2 * limits::SIP_MESSAGE_MAX,
        ..Limits::datagram()
    }
}
