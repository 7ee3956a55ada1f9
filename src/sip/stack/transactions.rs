//! Transactions (RFC 3261 §17, RFC 6026): what the layers ask for is done here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sipx_sip::transaction::{Dispatch, Output, Reliability, Timer, TuEvent};
use sipx_sip::{HeaderName, Message, Method, Request, Response, TransactionKey, Via};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::super::counters::Counts;
use super::super::event::Transport;
use super::super::net::Hop;
use super::super::{door, message};
use super::clockwork::{Alarm, Ring};
use super::errands::ErrandId;
use super::links::Route;
use super::{Happening, Incoming, Stack};
use crate::model::limits;

/// Timers of one transaction that run.
type Rings = SmallVec<[(Timer, Ring); 2]>;

/// A transaction of ours.
#[derive(Debug)]
pub(super) struct Asked {
    /// What it is part of. `None` for CANCEL, whose end is nobody's concern.
    pub(super) errand: Option<ErrandId>,
    pub(super) hop: Hop,
    pub(super) endpoint: usize,
    pub(super) route: Route,
    pub(super) is_waiting: bool,
    rings: Rings,
}

/// A transaction of theirs.
#[derive(Debug)]
pub(super) struct Served {
    from: From,
    /// Where RFC 3261 §18.2.2 sends an answer whose connection is gone.
    back: SocketAddr,
    rings: Rings,
    abandon: Ring,
}

/// How a message came.
#[derive(Clone, Debug)]
pub(super) struct From {
    pub(super) peer: Hop,
    pub(super) endpoint: usize,
    /// The way back.
    pub(super) route: Route,
    pub(super) tls_names: Arc<[String]>,
}

impl Stack {
    /// Answers a request. One whose transaction is over gets nothing: its sender has given up, or has an answer.
    pub(in crate::sip) fn respond(&mut self, key: &TransactionKey, response: Response) {
        let is_final = response.status.is_final();
        let outputs = self.server.send_response(key, response);
        if outputs.is_empty() {
            return Counts::add(&self.counts.dropped);
        }
        let now = self.now();
        if let Some(served) = self.served.get_mut(key) {
            self.clockwork.clear(Some(served.abandon));
            if !is_final {
                served.abandon = self.clockwork.set(now, ABANDON_AFTER, Alarm::Abandon(key.clone()));
            }
        }
        self.perform_served(key, outputs, now);
    }

    pub(super) fn on_message(&mut self, message: Message, from: From, now: Instant) {
        match message {
            Message::Request(request) => self.on_request(request, from, now),
            Message::Response(response) => {
                match self.client.receive(Message::Response(response), reliability(from.peer.transport)) {
                    Dispatch::Matched { key, outputs } => self.perform_asked(&key, outputs, now),
                    // A copy that came after the end, or a guess.
                    Dispatch::Created { .. } | Dispatch::Unmatched(_) => Counts::add(&self.counts.stray_responses),
                }
            }
        }
    }

    fn on_request(&mut self, mut request: Request, from: From, now: Instant) {
        Counts::add(&self.counts.requests);
        // Only now, while what their Via says is theirs alone, can it be judged.
        let is_datagram = from.peer.transport == Transport::Udp;
        let Some(back) = way_back(&request, from.peer.addr) else { return Counts::add(&self.counts.dropped) };
        sipx_transport::nat::apply_received_and_rport(&mut request, from.peer.addr);
        if is_datagram && door::is_aimed(&request, from.peer.addr.ip()) {
            return Counts::add(&self.counts.dropped);
        }
        let mut from = from;
        if let Route::Datagram { to, .. } = &mut from.route {
            *to = back;
        }
        if (self.is_behind || self.server.len().1 >= limits::SIP_TRANSACTIONS_MAX) && self.is_new(&request) {
            return self.turn_away(&request, &from);
        }
        match self.server.receive(Message::Request(request), reliability(from.peer.transport)) {
            Dispatch::Created { key, outputs } => {
                let abandon = self.clockwork.set(now, ABANDON_AFTER, Alarm::Abandon(key.clone()));
                self.served.insert(key.clone(), Served { from, back, rings: Rings::new(), abandon });
                self.perform_served(&key, outputs, now);
            }
            Dispatch::Matched { key, outputs } => {
                let copies = outputs.iter().filter(|output| matches!(output, Output::Send(_))).count();
                Counts::add_some(&self.counts.repeated, copies);
                self.perform_served(&key, outputs, now);
            }
            Dispatch::Unmatched(message) => {
                if let Message::Request(request) = *message
                    && let Some(key) = TransactionKey::from_request(&request)
                {
                    self.hand_up(key, request, &from);
                }
            }
        }
    }

    fn is_new(&self, request: &Request) -> bool {
        TransactionKey::from_request(request).is_none_or(|key| !self.served.contains_key(&key))
    }

    /// Refuses a request for which there is no room, and keeps nothing of it.
    fn turn_away(&mut self, request: &Request, from: &From) {
        Counts::add(&self.counts.shed);
        // Strangers get silence, now more than ever.
        if request.method == Method::Ack || !self.links.gate.knows(from.peer.addr.ip()) {
            return;
        }
        let mut response = message::respond(request, 503, None);
        message::put(&mut response.headers, HeaderName::RetryAfter, "5");
        message::finish(&mut response, &self.net.agent);
        self.links.send(from.route, Message::Response(response).to_bytes());
    }

    fn hand_up(&mut self, key: TransactionKey, request: Request, from: &From) {
        let incoming = Incoming {
            key,
            request,
            peer: from.peer.clone(),
            endpoint: from.endpoint,
            tls_names: from.tls_names.clone(),
        };
        self.ready.push_back(Happening::Request(Box::new(incoming)));
    }

    fn perform_served(&mut self, key: &TransactionKey, outputs: Vec<Output>, now: Instant) {
        for output in outputs {
            match output {
                Output::Send(message) => {
                    let is_sent = self.send_back(key, &message);
                    if !is_sent {
                        let rest = self.server.on_transport_error(key);
                        return self.perform_served(key, rest, now);
                    }
                }
                Output::SetTimer { timer, after } => {
                    let ring = self.clockwork.set(now, after, Alarm::Served(key.clone(), timer));
                    if let Some(served) = self.served.get_mut(key) {
                        self.clockwork.clear(arm(&mut served.rings, timer, ring));
                    }
                }
                Output::ClearTimer(timer) => {
                    let ring = self.served.get_mut(key).and_then(|served| disarm(&mut served.rings, timer));
                    self.clockwork.clear(ring);
                }
                Output::ToTu(event) => match *event {
                    TuEvent::Request(request) | TuEvent::Ack(request) => {
                        if let Some(from) = self.served.get(key).map(|served| served.from.clone()) {
                            self.hand_up(key.clone(), *request, &from);
                        }
                    }
                    // The ACK of a refusal never came, or the refusal never left. Nobody waits for either.
                    _ => {}
                },
                Output::Terminated(_) => self.served_over(key),
                // The layer has no other wish today.
                _ => {}
            }
        }
    }

    fn send_back(&mut self, key: &TransactionKey, message: &Message) -> bool {
        let Some(served) = self.served.get_mut(key) else { return false };
        if let Route::Stream(id) = served.from.route
            && self.links.connection(id).is_none()
        {
            // RFC 3261 §18.2.2. What came by TLS or WebSocket has no other way back.
            if served.from.peer.transport != Transport::Tcp {
                return false;
            }
            let hop = Hop::new(served.back, Transport::Tcp);
            let Some(route) = self.links.route(&hop, served.from.endpoint) else { return false };
            served.from.route = route;
        }
        self.links.send(served.from.route, message.to_bytes())
    }

    /// Sends a request as a transaction of its own.
    pub(super) fn ask(
        &mut self,
        request: Request,
        hop: Hop,
        endpoint: usize,
        route: Route,
        errand: Option<ErrandId>,
    ) -> Option<TransactionKey> {
        let now = self.now();
        let (key, outputs) = self.client.send_request(request, reliability(hop.transport))?;
        let asked = Asked { errand, hop, endpoint, route, is_waiting: true, rings: Rings::new() };
        self.asked.insert(key.clone(), asked);
        self.links.wait_for(route, &key);
        self.perform_asked(&key, outputs, now);
        Some(key)
    }

    pub(super) fn perform_asked(&mut self, key: &TransactionKey, outputs: Vec<Output>, now: Instant) {
        for output in outputs {
            match output {
                Output::Send(message) => {
                    let is_sent = self.send_out(key, &message);
                    if !is_sent {
                        let rest = self.client.on_transport_error(key);
                        return self.perform_asked(key, rest, now);
                    }
                }
                Output::SetTimer { timer, after } => {
                    let ring = self.clockwork.set(now, after, Alarm::Asked(key.clone(), timer));
                    if let Some(asked) = self.asked.get_mut(key) {
                        self.clockwork.clear(arm(&mut asked.rings, timer, ring));
                    }
                }
                Output::ClearTimer(timer) => {
                    let ring = self.asked.get_mut(key).and_then(|asked| disarm(&mut asked.rings, timer));
                    self.clockwork.clear(ring);
                }
                Output::ToTu(event) => {
                    self.heard_from(key);
                    self.on_answer(key, *event);
                }
                Output::Terminated(_) => self.asked_over(key),
                _ => {}
            }
        }
    }

    /// RFC 3261 §17.1.1.2: an ACK or a repetition goes where the request went, on a new connection if need be.
    fn send_out(&mut self, key: &TransactionKey, message: &Message) -> bool {
        let Some(asked) = self.asked.get_mut(key) else { return false };
        if let Route::Stream(id) = asked.route
            && self.links.connection(id).is_none()
        {
            let Some(route) = self.links.route(&asked.hop, asked.endpoint) else { return false };
            asked.route = route;
        }
        let route = asked.route;
        self.links.send(route, message.to_bytes())
    }

    /// The peer lives, so the loss of its connection no longer means that the request is lost.
    fn heard_from(&mut self, key: &TransactionKey) {
        if let Some(asked) = self.asked.get_mut(key)
            && asked.is_waiting
        {
            asked.is_waiting = false;
            self.links.no_longer_wait_for(asked.route, key);
        }
    }

    pub(super) fn asked_over(&mut self, key: &TransactionKey) {
        self.heard_from(key);
        if let Some(asked) = self.asked.remove(key) {
            asked.rings.iter().for_each(|(_, ring)| self.clockwork.clear(Some(*ring)));
            if let Some(errand) = asked.errand {
                self.branch_over(errand, key);
            }
        }
    }

    fn served_over(&mut self, key: &TransactionKey) {
        if let Some(served) = self.served.remove(key) {
            self.clockwork.clear(Some(served.abandon));
            served.rings.iter().for_each(|(_, ring)| self.clockwork.clear(Some(*ring)));
        }
    }

    pub(super) fn on_asked_timer(&mut self, key: &TransactionKey, timer: Timer, now: Instant) {
        if let Some(asked) = self.asked.get_mut(key) {
            disarm(&mut asked.rings, timer);
        }
        let outputs = self.client.on_timer(key, timer);
        if matches!(timer, Timer::A | Timer::E) && !outputs.is_empty() {
            Counts::add(&self.counts.repeated);
        }
        self.perform_asked(key, outputs, now);
    }

    pub(super) fn on_served_timer(&mut self, key: &TransactionKey, timer: Timer, now: Instant) {
        if let Some(served) = self.served.get_mut(key) {
            disarm(&mut served.rings, timer);
        }
        let outputs = self.server.on_timer(key, timer);
        if timer == Timer::G && !outputs.is_empty() {
            Counts::add(&self.counts.repeated);
        }
        self.perform_served(key, outputs, now);
    }

    /// The connection that our request went by is gone, and no answer came.
    pub(super) fn on_lost(&mut self, key: &TransactionKey, now: Instant) {
        let outputs = self.client.on_transport_error(key);
        self.perform_asked(key, outputs, now);
    }

    /// Forgets a request that is to get no answer. When it is repeated, it is as new.
    pub(in crate::sip) fn ignore(&mut self, key: &TransactionKey) {
        self.server.abandon(key);
        self.served_over(key);
    }

    pub(super) fn abandon(&mut self, key: &TransactionKey) {
        if self.server.abandon(key) {
            tracing::debug!("a SIP request was never answered by its dialog");
        }
        self.served_over(key);
    }
}

pub(super) fn reliability(transport: Transport) -> Reliability {
    if transport.is_stream() { Reliability::Reliable } else { Reliability::Unreliable }
}

/// Where RFC 3261 §18.2.2 and RFC 3581 §4 send the answer of a request that came from there. The address is always the
/// one it came from: an answer must not be aimed at a third party. `None` when the Via cannot be read.
fn way_back(request: &Request, source: SocketAddr) -> Option<SocketAddr> {
    let via = request.headers.typed::<Via>()?.ok()?;
    let port = match via.rport() {
        Some(_) => source.port(),
        None => via.port.unwrap_or(5060),
    };
    Some(SocketAddr::new(source.ip(), port))
}

fn arm(rings: &mut Rings, timer: Timer, ring: Ring) -> Option<Ring> {
    let old = disarm(rings, timer);
    rings.push((timer, ring));
    old
}

fn disarm(rings: &mut Rings, timer: Timer) -> Option<Ring> {
    let at = rings.iter().position(|(armed, _)| *armed == timer)?;
    Some(rings.swap_remove(at).1)
}

/// Long enough for a call that rings: its dialog says so again every minute. Anything else is answered at once.
const ABANDON_AFTER: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use sipx_sip::Header;

    use super::*;

    #[test]
    fn answers_go_to_where_the_request_came_from_and_nowhere_else() {
        let source: SocketAddr = "203.0.113.9:41234".parse().unwrap();
        for (via, port) in [
            ("192.0.2.1:5066;branch=z9hG4bK1", 5066),
            ("192.0.2.1;branch=z9hG4bK1", 5060),
            ("192.0.2.1:5066;rport;branch=z9hG4bK1", 41234),
            ("192.0.2.1:5066;rport=9;received=198.51.100.1;branch=z9hG4bK1", 41234),
            ("phone.invalid;maddr=198.51.100.1;branch=z9hG4bK1", 5060),
        ] {
            let mut request = Request::new(Method::Options, sipx_sip::Uri::parse("sip:a@b".into()).unwrap());
            request.headers.push(Header::build(HeaderName::Via, format!("SIP/2.0/UDP {via}")).unwrap());

            assert_eq!(way_back(&request, source), Some(SocketAddr::new(source.ip(), port)), "{via}");
        }
    }
}
