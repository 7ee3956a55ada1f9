//! The one task that drives all dialogs: requests and answers in, commands in, timers; and what they lead to, out.
//!
//! It decides nothing: `door` judges requests, `uas`, `uac` and `session` say what to do, and `stack` carries it to the
//! network without waiting for anybody. What comes in is sorted in `arriving`, and finds its way out in `leaving`.

mod arriving;
mod leaving;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sipx_sip::{Response, TransactionKey};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ask::{Inquiries, Inquiry};
use super::config::SipConfig;
use super::counters::Counts;
use super::dialog::{Out, Reply, Timer};
use super::event::{By, Dial, DialogId, Failure, ReferNews, ReferOrder, SipCommand, SipEvent};
use super::handle::Order;
use super::message;
use super::net::{Hop, Net};
use super::places::Places;
use super::refer;
use super::screen::Screen;
use super::session::{Dice, Session};
use super::stack::{Happening, Report, Stack};
use super::trace::Tracer;
use super::uac::Uac;
use super::uas::Uas;
use crate::model::limits;

/// Call-ID and our tag: how a request names one of our dialogs.
type Name = (Vec<u8>, Vec<u8>);
/// Call-ID, From tag and CSeq of an INVITE: equal in all copies of it (RFC 3261 §8.2.2.2).
type Origin = (Vec<u8>, Vec<u8>, u32);

pub(super) struct Wire {
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

/// What it shares with whoever holds [`super::Sip`].
pub(super) struct Shared {
    pub(super) net: Arc<Net>,
    pub(super) counts: Arc<Counts>,
    pub(super) tracer: Tracer,
    pub(super) screen: Screen,
    pub(super) began: Instant,
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
    pub(super) fn new(config: SipConfig, stack: Stack, shared: Shared, events: mpsc::Sender<SipEvent>) -> Wire {
        let Shared { net, counts, tracer, screen, began } = shared;
        Wire {
            net,
            counts,
            tracer,
            config,
            calls: HashMap::new(),
            names: HashMap::new(),
            invites: HashMap::new(),
            unmerged: HashMap::new(),
            alarms: BTreeSet::new(),
            backlog: VecDeque::new(),
            stack,
            inquiries: Inquiries::default(),
            screen,
            began,
            events,
        }
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    /// How long the screen has been up.
    fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let events = self.events.clone();
        let mut closing: Option<Instant> = None;
        loop {
            let alarm = self.alarms.first().map(|(at, ..)| *at);
            let wake = [alarm, closing].into_iter().flatten().min();
            tokio::select! {
                order = orders.recv(), if closing.is_none() => match order {
                    Some(Order::Do(dialog, command)) => self.on_command(dialog, command).await,
                    Some(Order::Inquire(inquiry)) => {
                        if let Inquiry::Ask(_, hops, ..) = &inquiry {
                            // Whom we ask is heard, whatever somebody sends in its name.
                            hops.iter().for_each(|hop| self.screen.befriend(hop.addr.ip()));
                        }
                        self.inquiries.begin(next_id(), inquiry, &mut self.stack);
                    }
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

pub(super) fn next_id() -> DialogId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    DialogId(NEXT.fetch_add(1, Ordering::Relaxed))
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
