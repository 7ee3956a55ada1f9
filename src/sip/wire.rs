//! The one task that drives all dialogs: requests and answers in, commands in, timers; and what they lead to, out.
//!
//! It decides nothing: `door` judges requests, `uas`, `uac` and `session` say what to do, and `stack` carries it to the
//! network without waiting for anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey, Uri};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ask::{Inquiries, Inquiry};
use super::config::{SipConfig, SipError, SipTls, TlsError};
use super::counters::{Counts, SipCounters};
use super::dialog::{Ask, Letter, Out, Reply, Timer};
use super::digest::Digest;
use super::door::{self, Kind, Verdict};
use super::event::{
    By, Dial, DialogId, Failure, Invite, ReferNews, ReferOrder, Replaces, SipCommand, SipEvent, Transport,
};
use super::message;
use super::net::{self, Hop, Net, Way};
use super::places::Places;
use super::refer;
use super::screen::{Screen, Screened};
use super::session::{Dice, Session};
use super::stack::{Gate, Happening, Incoming, Report, Stack, Tls};
use super::trace::{Trace, Tracer};
use super::uac::{Beginning, Uac};
use super::uas::{Birth, Uas};
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
        let mut tasks = JoinSet::new();
        let wire = Wire {
            tracer: tracer.clone(),
            net: net.clone(),
            counts: counts.clone(),
            config,
            calls: HashMap::new(),
            names: HashMap::new(),
            invites: HashMap::new(),
            unmerged: HashMap::new(),
            alarms: BTreeSet::new(),
            backlog: VecDeque::new(),
            stack,
            inquiries: Inquiries::default(),
            screen: screen.clone(),
            began,
            events,
        };
        tasks.spawn(wire.run(orders_in));
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

fn next_id() -> DialogId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    DialogId(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Call-ID and our tag: how a request names one of our dialogs.
type Name = (Vec<u8>, Vec<u8>);
/// Call-ID, From tag and CSeq of an INVITE: equal in all copies of it (RFC 3261 §8.2.2.2).
type Origin = (Vec<u8>, Vec<u8>, u32);

struct Wire {
    net: Arc<Net>,
    counts: Arc<Counts>,
    tracer: Tracer,
    config: SipConfig,
    calls: HashMap<DialogId, Call>,
    names: HashMap<Name, DialogId>,
    /// For CANCEL, which names its INVITE by transaction.
    invites: HashMap<TransactionKey, DialogId>,
    unmerged: HashMap<Origin, TransactionKey>,
    alarms: BTreeSet<(Instant, DialogId, Timer)>,
    /// Events that found the channel full. Bounded: see [`limits::SIP_BACKLOG_MAX`].
    backlog: VecDeque<SipEvent>,
    stack: Stack,
    /// Questions outside of dialogs.
    inquiries: Inquiries,
    screen: Screen,
    /// When the screen was put up.
    began: Instant,
    events: mpsc::Sender<SipEvent>,
}

struct Call {
    leg: Leg,
    /// Where the other side was first met.
    peer: Hop,
    /// Where our INVITE may go, best first.
    hops: Vec<Hop>,
    /// How long each of them may be silent.
    silence: Option<Duration>,
    endpoint: usize,
    name: Option<Name>,
    origin: Option<Origin>,
    /// The trunk that an inbound call is of.
    trunk: Option<Arc<str>>,
    /// Where the other side said that it is.
    places: Places,
    /// INVITE transactions of the other side that may still be answered.
    keys: Vec<TransactionKey>,
    timers: BTreeMap<Timer, Instant>,
    /// An INVITE of ours has gone out within it, and may still wait for its answer.
    has_reinvited: bool,
}

enum Leg {
    In(Box<Uas>),
    /// The name it is to be sent to is being looked up.
    Lookup(Box<Dial>),
    Out(Box<Uac>),
}

impl Wire {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let events = self.events.clone();
        let mut closing: Option<Instant> = None;
        loop {
            let alarm = self.alarms.first().map(|(at, ..)| *at);
            let wake = [alarm, closing].into_iter().flatten().min();
            tokio::select! {
                order = orders.recv(), if closing.is_none() => match order {
                    Some(Order::Do(dialog, command)) => self.on_command(dialog, command).await,
                    Some(Order::Inquire(inquiry)) => self.inquiries.begin(next_id(), inquiry, &mut self.stack),
                    Some(Order::ShutDown) | None => {
                        closing = Some(Instant::now() + self.config.timers.t2);
                        self.end_all().await;
                    }
                },
                happening = self.stack.next(self.backlog.len() >= limits::SIP_BACKLOG_MAX) => match happening {
                    Happening::Request(incoming) => self.on_request(*incoming).await,
                    Happening::Report(report) => self.on_report(report).await,
                },
                () = sleep_until(wake) => self.on_alarms().await,
                permit = events.reserve(), if !self.backlog.is_empty() => match (permit, self.backlog.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    // Nobody listens any more.
                    (Err(_), _) | (_, None) => self.backlog.clear(),
                },
            }
            if closing.is_some_and(|at| !self.stack.is_busy() || Instant::now() >= at) {
                break;
            }
        }
        self.stack.finish().await;
    }

    async fn on_command(&mut self, id: DialogId, command: SipCommand) {
        let command = match command {
            SipCommand::Refer(ReferOrder::Send { to, replacing: Some(other) }) => {
                let session = self.calls.get(&other).and_then(|call| call.leg.session());
                let to = session
                    .map(Session::as_named_by_peer)
                    .map_or(to, |(target, replaces)| refer::refer_to_replacing(&target, &replaces));
                SipCommand::Refer(ReferOrder::Send { to, replacing: None })
            }
            command => command,
        };
        let mut out = Vec::new();
        match (self.calls.get_mut(&id), command) {
            (None, SipCommand::Dial(dial)) => return self.dial(id, dial).await,
            (Some(Call { leg: Leg::In(uas), .. }), command) => uas.on_command(command, &mut out),
            (Some(Call { leg: Leg::Out(uac), .. }), command) => uac.on_command(command, &mut out),
            (Some(Call { leg: Leg::Lookup(_), .. }), SipCommand::HangUp { cause }) => {
                out.push(Out::Tell(SipEvent::Ended { dialog: id, by: By::Us, cause }));
                out.push(Out::Over);
            }
            // The dialog is gone, and what ended it has been told.
            (None, _) | (Some(_), _) => {}
        }
        self.carry_out(id, out).await;
    }

    async fn on_request(&mut self, incoming: Incoming) {
        let tag = new_token();
        let belongs = self.belongs(&incoming);
        let mut trunk = None;
        // An ACK is never answered, so there is nothing to tell a stranger.
        if !belongs && incoming.request.method != Method::Ack {
            let Incoming { request, peer, tls_names, .. } = &incoming;
            let from = (peer.addr.ip(), peer.transport);
            match self.screen.judge(self.began.elapsed(), request, from, tls_names, &tag) {
                Screened::Admitted(known) => trunk = known,
                Screened::Answer(response) => {
                    self.counts.refuse(response.status.code());
                    return self.respond(&incoming.key, *response);
                }
                Screened::Ignore => return self.stack.ignore(&incoming.key),
            }
        }
        let kind = match door::judge(&incoming.request, &tag) {
            Verdict::Serve(kind) => kind,
            Verdict::Answer(response) => {
                if !response.status.is_success() {
                    self.counts.refuse(response.status.code());
                }
                return self.respond(&incoming.key, *response);
            }
            Verdict::Drop => return Counts::add(&self.counts.dropped),
        };
        match kind {
            Kind::Call => self.on_invite(incoming, trunk, tag).await,
            Kind::Ack if !belongs => Counts::add(&self.counts.dropped),
            Kind::Cancel | Kind::InDialog if !belongs => {
                self.counts.refuse(481);
                let tag = (kind == Kind::Cancel).then_some(tag.as_str());
                self.respond(&incoming.key, message::respond(&incoming.request, 481, tag));
            }
            Kind::Cancel => self.on_cancel(incoming.key, &incoming.request, &tag).await,
            Kind::InDialog | Kind::Ack => self.on_inner_request(incoming.key, &incoming.request).await,
        }
    }

    /// Whether a request is for something that we have, and comes from where its other side may be.
    ///
    /// Who knows the names of a dialog may speak in it. Over UDP they can be overheard and an address can be forged, so a
    /// BYE or a re-INVITE out of nowhere is an attack. It must come from where the other side was met, from an address of
    /// the same trunk, or from where the other side said that it is (Contact and Record-Route, RFC 3261 §12.1). A name
    /// there may be anywhere. Behind a certificate, whoever knows the names is believed.
    fn belongs(&mut self, incoming: &Incoming) -> bool {
        let Incoming { request, peer, .. } = incoming;
        let id = if request.method == Method::Cancel {
            TransactionKey::for_cancelled_invite(request).and_then(|invite| self.invites.get(&invite))
        } else {
            let tag = message::tag(&request.headers, &HeaderName::To).unwrap_or_default();
            self.names.get(&(message::call_id(&request.headers), tag))
        };
        let Some(call) = id.and_then(|id| self.calls.get(id)) else { return false };
        let source = peer.addr.ip().to_canonical();
        let access = self.screen.access();
        let is_of_trunk = match (&call.trunk, access.by_address(source)) {
            (Some(trunk), Some(theirs)) => **trunk == *theirs,
            // Of a call that we placed the trunk is not known here.
            (None, _) => matches!(call.leg, Leg::Out(_)) && access.is_listed(source),
            (Some(_), None) => false,
        };
        let is_in_place = access.is_open()
            || !matches!(peer.transport, Transport::Udp | Transport::Tcp)
            || call.peer.addr.ip().to_canonical() == source
            || is_of_trunk
            || call.places.hold(source);
        if !is_in_place {
            Counts::add(&self.counts.misplaced);
        }
        is_in_place
    }

    async fn on_invite(&mut self, incoming: Incoming, trunk: Option<Arc<str>>, tag: String) {
        let Incoming { key, request, peer, endpoint, tls_names } = incoming;
        let headers = &request.headers;
        let from_tag = message::tag(headers, &HeaderName::From).unwrap_or_default();
        let ours = self.names.get(&(message::call_id(headers), from_tag.clone())).and_then(|id| self.calls.get(id));
        if matches!(ours, Some(Call { leg: Leg::Out(uac), .. }) if uac.is_loop(&request)) {
            self.counts.refuse(482);
            return self.respond(&key, message::respond(&request, 482, Some(&tag)));
        }
        let origin = (message::call_id(headers), from_tag, message::cseq(headers).unwrap_or_default());
        if self.unmerged.get(&origin).is_some_and(|first| *first != key) {
            Counts::add(&self.counts.merged);
            return self.respond(&key, message::respond(&request, 482, Some(&tag)));
        }
        // The channel is looked at first: a call that the gateway cannot hear of must not be left to ring.
        let is_deaf = self.events.is_closed() || self.events.capacity() == 0 || !self.backlog.is_empty();
        if is_deaf || self.calls.len() >= limits::SIP_DIALOGS_MAX {
            Counts::add(&self.counts.shed);
            let mut response = message::respond(&request, 503, Some(&tag));
            message::put(&mut response.headers, HeaderName::RetryAfter, "5");
            return self.respond(&key, response);
        }

        let replaces = match refer::replaces(headers) {
            Ok(replaces) => replaces.map(|replaces| self.replaced(&replaces)),
            Err(status) => {
                self.counts.refuse(status);
                return self.respond(&key, message::respond(&request, status, Some(&tag)));
            }
        };

        let id = next_id();
        let own = self.net.own(endpoint, &peer);
        let own = if request.uri.scheme().is_secure() { own.secured() } else { own };
        let name = (message::call_id(headers), tag.clone().into_bytes());
        let invite = Invite {
            tls_names: tls_names.to_vec(),
            trunk: trunk.as_deref().map(str::to_owned),
            replaces,
            ..message::invite(&request, peer.addr, peer.transport)
        };
        let places = Places::of(&request.headers);
        self.screen.befriend(peer.addr.ip());
        self.tracer.request(id, Instant::now(), true, &peer, &request);
        let birth = Birth { id, key: key.clone(), tag, own, timers: self.config.timers, dice: new_dice() };
        let mut out = Vec::new();
        let uas = Uas::invited(birth, request, &mut out);
        if let Some(uas) = uas {
            self.names.insert(name.clone(), id);
            self.invites.insert(key.clone(), id);
            self.unmerged.insert(origin.clone(), key.clone());
            let keys = vec![key];
            let (name, origin) = (Some(name), Some(origin));
            let leg = Leg::In(Box::new(uas));
            let call = Call { name, origin, keys, trunk, places, ..Call::new(leg, peer, endpoint) };
            self.calls.insert(id, call);
            self.counts.dialogs.store(self.calls.len() as u64, Ordering::Relaxed);
            out.push(Out::Tell(SipEvent::Invited { dialog: id, invite: Box::new(invite) }));
        } else {
            self.tracer.over(id);
        }
        self.carry_out(id, out).await;
    }

    /// The dialog that is to be replaced (RFC 3891 §3), or the status for one that is not there or may not be.
    fn replaced(&self, replaces: &Replaces) -> Result<DialogId, u16> {
        let name = (replaces.call_id.clone().into_bytes(), replaces.to_tag.clone().into_bytes());
        let id = self.names.get(&name).copied().ok_or(481_u16)?;
        let session = self.calls.get(&id).and_then(|call| call.leg.session());
        match session.filter(|session| session.may_be_replaced_by(replaces.from_tag.as_bytes())) {
            // It asked for one that is not answered yet, and it has been.
            Some(_) if replaces.early_only => Err(486),
            Some(_) => Ok(id),
            None => Err(481),
        }
    }

    async fn on_cancel(&mut self, key: TransactionKey, cancel: &Request, tag: &str) {
        let invite = TransactionKey::for_cancelled_invite(cancel);
        let found = invite.and_then(|invite| Some((self.invites.get(&invite).copied()?, invite)));
        let mut out = Vec::new();
        if let Some((id, call)) = found.as_ref().and_then(|(id, _)| Some((*id, self.calls.get(id)?))) {
            self.tracer.request(id, Instant::now(), true, &call.peer, cancel);
        }
        match found.and_then(|(id, invite)| Some((id, &mut self.calls.get_mut(&id)?.leg, invite))) {
            Some((id, Leg::In(uas), invite)) => {
                uas.on_cancel(key, cancel, &invite, &mut out);
                self.carry_out(id, out).await;
            }
            Some((id, Leg::Out(uac), _)) => {
                uac.on_cancel(key, cancel, &mut out);
                self.carry_out(id, out).await;
            }
            Some((_, Leg::Lookup(_), _)) | None => {
                self.counts.refuse(481);
                self.respond(&key, message::respond(cancel, 481, Some(tag)));
            }
        }
    }

    /// A request that names a dialog, ACK included.
    async fn on_inner_request(&mut self, key: TransactionKey, request: &Request) {
        let is_ack = request.method == Method::Ack;
        let tag = message::tag(&request.headers, &HeaderName::To).unwrap_or_default();
        let name = (message::call_id(&request.headers), tag);
        let found = self.names.get(&name).copied().filter(|id| {
            self.calls.get(id).is_some_and(|call| match &call.leg {
                Leg::In(uas) => uas.is_from_peer(request),
                Leg::Out(uac) => uac.is_from_peer(request),
                Leg::Lookup(_) => false,
            })
        });
        let Some((id, call)) = found.and_then(|id| Some((id, self.calls.get_mut(&id)?))) else {
            if is_ack {
                return Counts::add(&self.counts.dropped);
            }
            self.counts.refuse(481);
            return self.respond(&key, message::respond(request, 481, None));
        };
        call.places.add(&request.headers);
        self.tracer.request(id, Instant::now(), true, &call.peer, request);
        if request.method == Method::Invite {
            // The first stays, since its 2xx may have to be said again; of re-INVITEs only the last matters.
            for old in call.keys.drain(1.min(call.keys.len())..) {
                self.invites.remove(&old);
            }
            call.keys.push(key.clone());
            self.invites.insert(key.clone(), id);
        }
        let mut out = Vec::new();
        match (&mut call.leg, is_ack) {
            (Leg::In(uas), true) => uas.on_ack(request, &mut out),
            (Leg::Out(uac), true) => uac.on_ack(request, &mut out),
            (Leg::In(uas), false) => uas.on_request(key, request, &mut out),
            (Leg::Out(uac), false) => uac.on_request(key, request, &mut out),
            (Leg::Lookup(_), _) => {}
        }
        self.carry_out(id, out).await;
    }

    async fn on_report(&mut self, report: Report) {
        let Some(report) = self.inquiries.take(report) else { return };
        let id = report.dialog();
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Report::Reply(_, _, Reply::Response(response)) = &report {
            self.tracer.response(id, Instant::now(), true, &call.peer, response);
        }
        let mut out = Vec::new();
        match (&mut call.leg, report) {
            (Leg::Lookup(dial), Report::Looked(_, found)) => {
                let dial = dial.clone();
                return match found {
                    hops if hops.is_empty() => self.fail(id, Failure::Unresolved).await,
                    hops => self.place(id, *dial, hops).await,
                };
            }
            (Leg::Out(uac), Report::Response(_, response, hop)) => {
                self.tracer.response(id, Instant::now(), true, &hop, &response);
                // From now on the other side is the one that spoke, not the one that was tried first.
                self.screen.befriend(hop.addr.ip());
                call.peer = hop;
                call.places.add(&response.headers);
                uac.on_response(&response, &mut out);
            }
            (Leg::Out(uac), Report::Failed(_, failure)) => uac.on_failure(failure, &mut out),
            (Leg::Out(uac), Report::InviteOver(_)) => uac.on_invite_over(&mut out),
            (Leg::In(uas), Report::Reply(_, ask, reply)) => uas.on_reply(ask, reply, &mut out),
            (Leg::Out(uac), Report::Reply(_, ask, reply)) => uac.on_reply(ask, reply, &mut out),
            // What comes too late for its phase.
            (Leg::In(_) | Leg::Out(_) | Leg::Lookup(_), _) => {}
        }
        self.carry_out(id, out).await;
    }

    async fn on_alarms(&mut self) {
        let now = Instant::now();
        while let Some((_, id, timer)) = self.alarms.first().copied().filter(|(at, ..)| *at <= now) {
            self.alarms.pop_first();
            let Some(call) = self.calls.get_mut(&id) else { continue };
            call.timers.remove(&timer);
            let mut out = Vec::new();
            match &mut call.leg {
                Leg::In(uas) => uas.on_timer(timer, &mut out),
                Leg::Out(uac) => uac.on_timer(timer, &mut out),
                Leg::Lookup(_) => {}
            }
            if matches!(timer, Timer::Repeat | Timer::Chase) && out.iter().any(|out| matches!(out, Out::Respond(..))) {
                Counts::add(&self.counts.answers_repeated);
            }
            self.carry_out(id, out).await;
        }
    }

    async fn dial(&mut self, id: DialogId, dial: Box<Dial>) {
        let way = match dial.target {
            Some((addr, transport)) => Way::Known(Hop::new(addr, transport)),
            None => match Uri::parse(dial.route.first().unwrap_or(&dial.to).clone().into_bytes().into()) {
                Ok(uri) => net::way(&uri, Transport::Udp),
                Err(_) => Way::Nowhere,
            },
        };
        match way {
            Way::Known(hop) => self.place(id, *dial, vec![hop]).await,
            Way::Named(_) => {
                // Nobody is met before the name is found.
                let peer = Hop::new(([0, 0, 0, 0], 0).into(), Transport::Udp);
                self.calls.insert(id, Call::new(Leg::Lookup(dial), peer, 0));
                self.stack.look_up(id, way);
            }
            Way::Nowhere => self.fail(id, Failure::BadRequest).await,
        }
    }

    async fn place(&mut self, id: DialogId, dial: Dial, hops: Vec<Hop>) {
        let reached = hops.first().cloned().and_then(|hop| Some((self.net.endpoint_for(&hop, None)?, hop)));
        let Some((endpoint, hop)) = reached else {
            return self.fail(id, Failure::Transport).await;
        };
        for hop in &hops {
            self.screen.befriend(hop.addr.ip());
        }
        let own = self.net.own(endpoint, &hop);
        let is_secure = dial.to.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"));
        let own = if is_secure { own.secured() } else { own };
        let (call_id, tag) = (format!("{}@{}", new_token(), own.host), new_token());
        let Some(invite) = message::dial(&dial, &call_id, &tag, &own) else {
            return self.fail(id, Failure::BadRequest).await;
        };
        let mut out = Vec::new();
        let (timers, rules, dice) = (self.config.timers, dial.rules, new_dice());
        let mut uac = Uac::dial(Beginning { id, own, timers, rules, dice }, invite, dial.sdp, &mut out);
        uac.log_in(Digest::new(dial.credentials, &new_token()));
        if let Some(silence) = dial.silence {
            // Each of the hops gets so long.
            out.push(Out::Arm(Timer::Silence, silence.saturating_mul(u32::try_from(hops.len()).unwrap_or(u32::MAX))));
        }
        let name = (call_id.into_bytes(), tag.into_bytes());
        self.names.insert(name.clone(), id);
        let call =
            Call { name: Some(name), hops, silence: dial.silence, ..Call::new(Leg::Out(Box::new(uac)), hop, endpoint) };
        self.calls.insert(id, call);
        self.counts.dialogs.store(self.calls.len() as u64, Ordering::Relaxed);
        self.carry_out(id, out).await;
    }

    async fn fail(&mut self, id: DialogId, failure: Failure) {
        let out = vec![Out::Tell(SipEvent::Failed { dialog: id, failure }), Out::Over];
        self.carry_out(id, out).await;
    }

    /// Does what a dialog wants, in order.
    async fn carry_out(&mut self, id: DialogId, outs: Vec<Out>) {
        for out in outs {
            match out {
                Out::Respond(key, mut response) => {
                    message::finish(&mut response, &self.net.agent);
                    if let Some(call) = self.calls.get(&id) {
                        self.tracer.response(id, Instant::now(), false, &call.peer, &response);
                    }
                    self.stack.respond(&key, response);
                }
                Out::Invite(request) => self.invite(id, request),
                Out::Cancel(cause) => self.stack.cancel(id, cause),
                Out::Ack(letter) => self.acknowledge(id, letter),
                Out::Ask(ask, letter) => self.ask(id, ask, letter),
                Out::Arm(timer, after) => self.arm(id, timer, Some(Instant::now() + after)),
                Out::Disarm(timer) => self.arm(id, timer, None),
                Out::Tell(event) => self.tell(event),
                Out::Over => self.forget(id),
            }
        }
    }

    fn respond(&mut self, key: &TransactionKey, mut response: Response) {
        message::finish(&mut response, &self.net.agent);
        self.stack.respond(key, response);
    }

    fn invite(&mut self, id: DialogId, request: Request) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let hops = std::mem::take(&mut call.hops);
        let hops = if hops.is_empty() { vec![call.peer.clone()] } else { hops };
        self.tracer.request(id, Instant::now(), false, hops.first().unwrap_or(&call.peer), &request);
        self.stack.invite(id, request, hops, call.endpoint, call.silence);
    }

    /// An ACK to a 2xx is no transaction: it goes straight out, and again with each copy of the 2xx.
    fn acknowledge(&mut self, id: DialogId, letter: Letter) {
        let Some((ways, endpoint)) = self.ways(id, &letter) else { return };
        self.trace_ours(id, &letter);
        self.stack.acknowledge(letter.request, ways, endpoint);
    }

    fn ask(&mut self, id: DialogId, ask: Ask, letter: Letter) {
        let Some((ways, endpoint)) = self.ways(id, &letter) else { return };
        if letter.request.method == Method::Invite
            && let Some(call) = self.calls.get_mut(&id)
        {
            call.has_reinvited = true;
        }
        self.trace_ours(id, &letter);
        self.stack.ask_within(id, ask, letter.request, ways, endpoint);
    }

    fn trace_ours(&self, id: DialogId, letter: &Letter) {
        if let Some(call) = self.calls.get(&id) {
            self.tracer.request(id, Instant::now(), false, &call.peer, &letter.request);
        }
    }

    /// The ways to try for a request within a dialog, best first.
    fn ways(&self, id: DialogId, letter: &Letter) -> Option<(Vec<Way>, usize)> {
        let call = self.calls.get(&id)?;
        let met = Way::Known(call.peer.clone());
        let way = net::way(&letter.next, call.peer.transport);
        let is_hidden = match &way {
            // Behind a NAT a peer writes an address of its own network; then where we met it is all we know.
            Way::Known(hop) => net::is_hidden(hop.addr.ip(), call.peer.addr.ip()),
            Way::Nowhere => true,
            Way::Named(_) => false,
        };
        // A caller on TCP has a connection open; a new one to its Contact often meets a closed door.
        let has_connection = matches!(call.leg, Leg::In(_)) && call.peer.transport.is_stream();
        let stays = !letter.is_routed && (is_hidden || has_connection);
        Some((if stays { vec![met, way] } else { vec![way, met] }, call.endpoint))
    }

    fn arm(&mut self, id: DialogId, timer: Timer, at: Option<Instant>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if let Some(old) = call.timers.remove(&timer) {
            self.alarms.remove(&(old, id, timer));
        }
        if let Some(at) = at {
            call.timers.insert(timer, at);
            self.alarms.insert((at, id, timer));
        }
    }

    fn tell(&mut self, mut event: SipEvent) {
        if let SipEvent::Refer { news: ReferNews::Asked(refer), .. } = &mut event
            && let Some(replaces) = &mut refer.replaces
        {
            replaces.dialog = self.replaced(replaces).ok();
        }
        if !self.backlog.is_empty() {
            self.backlog.push_back(event);
            return;
        }
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            self.backlog.push_back(event);
        }
    }

    fn forget(&mut self, id: DialogId) {
        self.tracer.over(id);
        let Some(call) = self.calls.remove(&id) else { return };
        for (timer, at) in call.timers {
            self.alarms.remove(&(at, id, timer));
        }
        if let Some(name) = call.name {
            self.names.remove(&name);
        }
        if let Some(origin) = call.origin {
            self.unmerged.remove(&origin);
        }
        for key in call.keys {
            self.invites.remove(&key);
        }
        self.stack.forget_invite(id);
        if call.has_reinvited {
            self.stack.forget_invites_within(id);
        }
        self.counts.dialogs.store(self.calls.len() as u64, Ordering::Relaxed);
    }

    async fn end_all(&mut self) {
        let all: Vec<DialogId> = self.calls.keys().copied().collect();
        for id in all {
            let is_inbound = self.calls.get(&id).is_some_and(|call| matches!(call.leg, Leg::In(_)));
            if is_inbound {
                let refusal = SipCommand::Reject { status: 503, reason: None, retry_after_s: Some(5), warning: None };
                self.on_command(id, refusal).await;
            }
            self.on_command(id, SipCommand::HangUp { cause: None }).await;
        }
    }
}

impl Leg {
    /// The dialog, once it is answered.
    fn session(&self) -> Option<&Session> {
        match self {
            Leg::In(uas) => uas.session(),
            Leg::Out(uac) => uac.session(),
            Leg::Lookup(_) => None,
        }
    }
}

impl Call {
    fn new(leg: Leg, peer: Hop, endpoint: usize) -> Call {
        let (hops, keys, timers) = (Vec::new(), Vec::new(), BTreeMap::new());
        let (name, origin, trunk, places) = (None, None, None, Places::default());
        let has_reinvited = false;
        Call { leg, peer, hops, silence: None, endpoint, name, origin, trunk, places, keys, timers, has_reinvited }
    }
}

/// 256 random bits, for the guard's nonces.
fn new_key() -> [u8; 32] {
    let words: Vec<u8> = std::iter::repeat_with(new_token).take(4).flat_map(String::into_bytes).collect();
    Sha256::digest(words).into()
}

/// 64 random bits, for tags and Call-IDs. The stack draws them for branches; the rest is its cookie.
pub(super) fn new_token() -> String {
    sipx_transport::new_branch().trim_start_matches("z9hG4bK").to_owned()
}

fn new_dice() -> Dice {
    Dice(new_token().bytes().fold(0, |sum: u64, octet| sum.rotate_left(5) ^ u64::from(octet)))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
