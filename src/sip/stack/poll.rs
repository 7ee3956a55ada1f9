//! What the wire waits for: one look at everything that may have happened.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use sipx_sip::parse_datagram;
use tokio::time::Instant;

use super::super::counters::Counts;
use super::super::event::Transport;
use super::super::net::Hop;
use super::super::wire::new_token;
use super::clockwork::Alarm;
use super::connection::{ConnectionId, Event};
use super::links::Route;
use super::transactions::From;
use super::unreadable;
use super::{Happening, Stack};
use crate::model::limits;

impl Stack {
    /// Waits for the next thing to happen. While `is_behind`, requests that are new are turned away.
    ///
    /// Nothing is lost when the future is dropped.
    pub(in crate::sip) async fn next(&mut self, is_behind: bool) -> Happening {
        self.is_behind = is_behind;
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        loop {
            if let Some(happening) = self.ready.pop_front() {
                return Poll::Ready(happening);
            }
            let now = self.now();
            // All are asked, so that none is starved and each wakes us.
            let mut has_moved = self.poll_datagrams(cx, now);
            has_moved |= self.poll_connections(cx, now);
            has_moved |= self.poll_lookups(cx);
            has_moved |= self.poll_alarms(cx, now);
            self.counts.gauge_network(self.asked.len() + self.served.len(), self.links.connections());
            if !has_moved && self.ready.is_empty() {
                return Poll::Pending;
            }
        }
    }

    fn poll_datagrams(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut has_moved = false;
        for endpoint in 0..self.links.ears.len() {
            for _ in 0..BATCH {
                let mut buffer = std::mem::take(&mut self.buffer);
                let polled = self.links.poll_datagram(endpoint, cx, &mut buffer);
                if let Poll::Ready(Some((length, from))) = polled {
                    self.on_datagram(endpoint, &buffer[..length], from, now);
                }
                self.buffer = buffer;
                if polled.is_pending() {
                    break;
                }
                has_moved = true;
            }
        }
        has_moved
    }

    fn on_datagram(&mut self, endpoint: usize, octets: &[u8], from: SocketAddr, now: Instant) {
        if !self.links.gate.lets_in(from.ip()) {
            return Counts::add(&self.counts.sources_refused);
        }
        // RFC 5626 §3.5.1, and phones that keep a NAT open with a zero or a line end: nothing to answer.
        if octets.iter().all(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
            return;
        }
        let route = Route::Datagram { endpoint, to: from };
        let Ok(message) = parse_datagram(Bytes::copy_from_slice(octets), &self.limits) else {
            Counts::add(&self.counts.garbage);
            // Strangers learn nothing, and nobody is answered at somebody else's request.
            if self.links.gate.knows(from.ip())
                && let Some(refusal) = unreadable::refusal(octets, &new_token())
            {
                self.links.send(route, refusal.into());
            }
            return;
        };
        let from = From { peer: Hop::new(from, Transport::Udp), endpoint, route, tls_names: Arc::default() };
        self.on_message(message, from, now);
    }

    fn poll_connections(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut has_moved = false;
        for endpoint in 0..self.links.ears.len() {
            for _ in 0..BATCH {
                match self.links.poll_accept(endpoint, cx) {
                    Poll::Ready(Ok(())) => has_moved = true,
                    Poll::Ready(Err(())) => {
                        self.clockwork.set(now, ACCEPT_AGAIN, Alarm::Listen(endpoint));
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        for key in std::mem::take(&mut self.links.lost) {
            has_moved = true;
            self.on_lost(&key, now);
        }
        for _ in 0..BATCH {
            let Poll::Ready((id, event)) = self.links.poll_event(cx) else { break };
            has_moved = true;
            self.on_connection(id, event, now);
        }
        has_moved
    }

    fn on_connection(&mut self, id: ConnectionId, event: Event, now: Instant) {
        match event {
            Event::Opened(names) => self.links.opened(id, names),
            Event::Garbage(octets) => self.on_garbage(id, &octets, now),
            Event::Refused => Counts::add(&self.counts.handshakes_failed),
            Event::Message(message) => {
                // One that was forgotten meanwhile had its queue full; what it still says has nowhere to be answered.
                let Some(connection) = self.links.connection(id) else { return };
                let (peer, endpoint) = (connection.hop.clone(), connection.endpoint);
                let tls_names = connection.tls_names.clone();
                let from = From { peer, endpoint, route: Route::Stream(id), tls_names };
                self.on_message(*message, from, now);
            }
            Event::Closed => {
                for key in self.links.forget(id) {
                    self.on_lost(&key, now);
                }
            }
        }
    }

    /// Framing is lost, so the connection is closed; a peer that we know is told why.
    fn on_garbage(&mut self, id: ConnectionId, octets: &[u8], now: Instant) {
        Counts::add(&self.counts.garbage);
        let Some(connection) = self.links.connection(id) else { return };
        let is_known = self.links.gate.knows(connection.hop.addr.ip()) || !connection.tls_names.is_empty();
        // Octets that begin with a good message do not say what was wrong behind it.
        if is_known && parse_datagram(Bytes::copy_from_slice(octets), &self.limits).is_err() {
            let peer = connection.hop.addr;
            tracing::warn!(%peer, "a peer sent what cannot be read, and its connection is closed");
            if let Some(refusal) = unreadable::refusal(octets, &new_token()) {
                self.links.send(Route::Stream(id), refusal.into());
            }
        }
        for key in self.links.forget(id) {
            self.on_lost(&key, now);
        }
    }

    fn poll_lookups(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_moved = false;
        while let Poll::Ready(Some(found)) = self.lookups.poll_join_next(cx) {
            has_moved = true;
            match found {
                Ok(found) => self.on_found(found),
                // Its errand stays without an answer and runs into the patience of its dialog.
                Err(error) => tracing::error!(%error, "a SIP lookup came to a bad end"),
            }
        }
        has_moved
    }

    /// Does what is due, and sees to it that we are woken for the next.
    fn poll_alarms(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut has_moved = false;
        while let Some(alarm) = self.clockwork.take(now) {
            has_moved = true;
            self.on_alarm(alarm, now);
        }
        let Some(next) = self.clockwork.next() else { return has_moved };
        // An alarm that is set too early wakes us for nothing, once; moving it at each change would cost more.
        if next < self.alarm_at || self.alarm_at <= now {
            self.alarm_at = next;
            self.alarm.as_mut().reset(next);
        }
        has_moved || self.alarm.as_mut().poll(cx).is_ready()
    }

    fn on_alarm(&mut self, alarm: Alarm, now: Instant) {
        match alarm {
            Alarm::Asked(key, timer) => self.on_asked_timer(&key, timer, now),
            Alarm::Served(key, timer) => self.on_served_timer(&key, timer, now),
            Alarm::Abandon(key) => self.abandon(&key),
            Alarm::Silence(errand) => self.on_silence(errand),
            Alarm::Listen(endpoint) => self.links.resume(endpoint),
            Alarm::Routes => {
                self.net.forget_routes();
                self.clockwork.set(now, limits::SIP_ROUTES_KNOWN_FOR, Alarm::Routes);
            }
        }
    }
}

/// Datagrams, connections or messages taken before the others are looked at again.
const BATCH: usize = 32;
/// How long we wait when the system has no room for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
