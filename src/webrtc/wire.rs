//! The thread of the browsers: all of them on one UDP port for each family.
//!
//! A datagram finds its browser by what only the two of us know: a check by the name in it, an answer to a check of ours
//! by its transaction, and everything else by the address, once a signed check has come from there. What finds nobody is
//! counted and gets no answer.
#![allow(
    clippy::disallowed_methods,
    reason = "the thread waits for its peers' timers, and reads how late it is; no call sees these times"
)]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token};
use tokio::sync::mpsc;

use super::ice::{Agent, Credentials, Taken};
use super::offer::Fragment;
use super::peer::{Fate, Peer};
use super::secure::Secure;
use super::stun::{self, Class, Message, Transaction};
use super::{Audio, Ending, News, PeerId, Shared, What};

/// What the gateway wants of the thread.
pub(super) enum Order {
    /// A browser that got our answer.
    Add(Box<Seed>),
    /// What it sent later.
    Trickle { peer: PeerId, fragment: Fragment, anew: Option<(Credentials, Credentials)> },
    /// We end it.
    HangUp { peer: PeerId },
}

/// Everything of a peer but the time it begins.
pub(super) struct Seed {
    pub(super) peer: PeerId,
    pub(super) local: Credentials,
    pub(super) remote: Credentials,
    pub(super) candidates: Vec<SocketAddr>,
    pub(super) secure: Secure,
    pub(super) audio: Audio,
    pub(super) listens: bool,
}

pub(super) struct Wire {
    poll: Poll,
    sockets: Vec<Socket>,
    orders: Receiver<Order>,
    news: mpsc::Sender<News>,
    /// News that found no room.
    untold: VecDeque<News>,
    peers: HashMap<PeerId, Peer>,
    by_name: HashMap<String, PeerId>,
    by_address: HashMap<SocketAddr, PeerId>,
    shared: Arc<Shared>,
    /// Rings for audio.
    bell: Waker,
}

struct Socket {
    io: UdpSocket,
    local: SocketAddr,
    is_readable: bool,
    /// Our question to the STUN server, and when it is asked again.
    question: Transaction,
    ask: Instant,
}

impl Wire {
    /// The token of the waker.
    pub(super) const WAKER: Token = Token(usize::MAX);

    pub(super) fn new(
        poll: Poll,
        sockets: Vec<UdpSocket>,
        orders: Receiver<Order>,
        news: mpsc::Sender<News>,
        shared: Arc<Shared>,
        bell: Waker,
    ) -> io::Result<Wire> {
        let now = now();
        let mut registered = Vec::new();
        for (n, mut io) in sockets.into_iter().enumerate() {
            poll.registry().register(&mut io, Token(n), Interest::READABLE)?;
            let local = io.local_addr()?;
            registered.push(Socket { io, local, is_readable: true, question: Transaction::default(), ask: now });
        }
        Ok(Wire {
            poll,
            sockets: registered,
            orders,
            news,
            untold: VecDeque::new(),
            peers: HashMap::new(),
            by_name: HashMap::new(),
            by_address: HashMap::new(),
            shared,
            bell,
        })
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut buffer = [0; DATAGRAM_MAX];
        while !self.shared.is_stopping() {
            let wait = self.wait(now());
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return tracing::error!(%error, "the thread of the browsers cannot wait for its sockets");
            }
            for event in &events {
                if let Some(socket) = self.sockets.get_mut(event.token().0) {
                    socket.is_readable = true;
                }
            }
            let now = now();
            while let Ok(order) = self.orders.try_recv() {
                self.carry_out(now, order);
            }
            for n in 0..self.sockets.len() {
                self.read(now, n, &mut buffer);
            }
            self.ask(now);
            self.tick(now);
            self.tell();
        }
        let now = now();
        for peer in self.peers.values_mut() {
            peer.hang_up(now);
            flush(&self.sockets, peer);
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        if self.sockets.iter().any(|socket| socket.is_readable) {
            return Duration::ZERO;
        }
        let questions = self.sockets.iter().filter(|_| self.shared.stun.is_some()).map(|socket| socket.ask);
        let due = self.peers.values().map(Peer::due).chain(questions).min();
        let wait = due.map_or(IDLE, |due| due.saturating_duration_since(now).min(IDLE));
        if self.untold.is_empty() { wait } else { wait.min(RETELL) }
    }

    fn carry_out(&mut self, now: Instant, order: Order) {
        match order {
            Order::Add(seed) => {
                let Seed { peer: id, local, remote, candidates, secure, audio, listens } = *seed;
                self.by_name.insert(local.ufrag.clone(), id);
                let crypto = Arc::clone(&self.shared.identity.crypto);
                let mut agent = Agent::new(now, self.shared.mode, local, remote, id.0, crypto);
                for candidate in candidates {
                    agent.add(now, candidate);
                }
                self.peers.insert(id, Peer::new(agent, secure, audio, listens));
            }
            Order::Trickle { peer: id, fragment, anew } => {
                let Some(peer) = self.peers.get_mut(&id) else { return };
                self.by_name.remove(peer.agent.ufrag());
                if anew.is_some() {
                    // Addresses of the ICE before are over, but the one that audio still takes.
                    let kept = peer.agent.selected();
                    self.by_address.retain(|address, of| *of != id || Some(*address) == kept);
                }
                peer.trickle(now, &fragment, anew);
                self.by_name.insert(peer.agent.ufrag().to_owned(), id);
            }
            Order::HangUp { peer: id } => {
                if let Some(mut peer) = self.remove(id) {
                    peer.hang_up(now);
                    flush(&self.sockets, &mut peer);
                }
            }
        }
    }

    fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let peer = self.peers.remove(&id)?;
        self.by_name.remove(peer.agent.ufrag());
        self.by_address.retain(|_, of| *of != id);
        self.shared.counters.peers.set(self.peers.len() as u64);
        Some(peer)
    }

    /// Takes what a socket has, so much at once that the others and the timers get their turn.
    fn read(&mut self, now: Instant, n: usize, buffer: &mut [u8]) {
        for _ in 0..READS_MAX {
            let Some(socket) = self.sockets.get_mut(n).filter(|socket| socket.is_readable) else { return };
            match socket.io.recv_from(buffer) {
                Ok((length, from)) => self.take(now, n, from, &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.is_readable = false,
                // An ICMP message about something sent earlier; the next datagram is not its fault.
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, now: Instant, n: usize, from: SocketAddr, datagram: &[u8]) {
        let counters = Arc::clone(&self.shared);
        let counters = &counters.counters;
        // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d.
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if self.shared.loopback_only && !from.ip().is_loopback() {
            return counters.strangers.add();
        }
        // RFC 7983: the first byte tells what it is.
        let id = match datagram {
            [0..=3, ..] => {
                let Some(message) = Message::read(datagram) else { return counters.garbage.add() };
                return self.take_stun(now, n, from, &message);
            }
            [20..=63 | 128..=191, ..] => self.by_address.get(&from),
            _ => return counters.garbage.add(),
        };
        let Some((id, peer)) = id.and_then(|id| Some((*id, self.peers.get_mut(id)?))) else {
            return counters.strangers.add();
        };
        let was_open = peer.is_open();
        match peer.take(now, datagram) {
            Fate::Signal | Fate::Ignored => {}
            Fate::Audio => counters.packets_in.add(),
            Fate::Dropped => counters.dropped.add(),
            Fate::Forged => counters.forged.add(),
        }
        if peer.is_open() && !was_open {
            self.untold.push_back(News { peer: id, what: What::Connected });
        }
        self.look_after(id);
    }

    fn take_stun(&mut self, now: Instant, n: usize, from: SocketAddr, message: &Message<'_>) {
        let id = match message.class {
            Class::Request => message.called().and_then(|name| self.by_name.get(name)).copied(),
            Class::Success if self.shared.stun == Some(from) => return self.learn(n, message),
            Class::Success => message.transaction.first_chunk().map(|mark| PeerId(u32::from_be_bytes(*mark))),
            Class::Other => None,
        };
        let Some((id, peer)) = id.and_then(|id| Some((id, self.peers.get_mut(&id)?))) else {
            return self.shared.counters.strangers.add();
        };
        match peer.take_stun(now, from, message) {
            Taken::Believed => {
                self.by_address.insert(from, id);
            }
            Taken::Refused => self.shared.counters.forged.add(),
        }
        self.look_after(id);
    }

    /// A STUN server saw us.
    fn learn(&mut self, n: usize, message: &Message<'_>) {
        let Some(socket) = self.sockets.get(n).filter(|socket| socket.question == message.transaction) else { return };
        if let Some(seen) = message.mapped {
            *self.shared.reflexive.lock().unwrap_or_else(PoisonError::into_inner) = Some((seen, socket.local));
        }
    }

    /// Asks the STUN server where it sees us, again and again, which keeps the way through the NAT open as well.
    fn ask(&mut self, now: Instant) {
        let Some(server) = self.shared.stun else { return };
        let is_known = self.shared.reflexive.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let crypto = &self.shared.identity.crypto;
        for socket in &mut self.sockets {
            if socket.ask > now || socket.local.is_ipv4() != server.is_ipv4() {
                socket.ask = socket.ask.max(now + Duration::from_secs(1));
                continue;
            }
            socket.ask = now + if is_known { REASK } else { ASK };
            if crypto.random().fill(&mut socket.question).is_ok() {
                // A lost one is asked again.
                let _ = socket.io.send_to(&stun::question(socket.question, crypto.crypto()), server);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let mut over = Vec::new();
        let packets_out = &self.shared.counters.packets_out;
        let mut bell = Context::from_waker(&self.bell);
        for (id, peer) in &mut self.peers {
            if peer.due() <= now {
                peer.tick(now);
            }
            flush(&self.sockets, peer);
            peer.poll_audio(&mut bell, |to, srtp| {
                send(&self.sockets, to, srtp);
                packets_out.add();
            });
            if let Some(ending) = peer.take_ending() {
                over.push((*id, ending));
            }
        }
        for (id, ending) in over {
            self.end(id, ending);
        }
        self.shared.counters.peers.set(self.peers.len() as u64);
    }

    /// Sends what a datagram led to, and ends what it ended.
    fn look_after(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        flush(&self.sockets, peer);
        if let Some(ending) = peer.take_ending() {
            self.end(id, ending);
        }
    }

    fn end(&mut self, id: PeerId, ending: Ending) {
        self.remove(id);
        self.untold.push_back(News { peer: id, what: What::Ended(ending) });
    }

    /// There are at most two news of each browser, so what waits is bounded by how many there are.
    fn tell(&mut self) {
        while let Some(news) = self.untold.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(news)) = self.news.try_send(news) {
                return self.untold.push_front(news);
            }
        }
    }
}

/// Checks, handshakes and their time limits live by it; no call sees it.
#[allow(clippy::disallowed_methods, reason = "this is their clock")]
fn now() -> Instant {
    Instant::now()
}

fn flush(sockets: &[Socket], peer: &mut Peer) {
    peer.poll(|to, datagram| send(sockets, to, datagram));
}

/// Sends by the socket of the address's family. What the network does not take is lost, as if on the way.
fn send(sockets: &[Socket], to: SocketAddr, datagram: &[u8]) {
    if let Some(socket) = sockets.iter().find(|socket| socket.local.is_ipv4() == to.is_ipv4()) {
        let _ = socket.io.send_to(datagram, to);
    }
}

/// Longer ones are cut, and then no check, handshake or packet any more.
const DATAGRAM_MAX: usize = 2_048;
/// Datagrams of one socket before everything else gets its turn: some 10 ms of a thousand calls.
const READS_MAX: usize = 512;
/// Nothing is due; there is a waker for everything.
const IDLE: Duration = Duration::from_secs(60);
/// News that found no room are told again.
const RETELL: Duration = Duration::from_millis(20);
/// Until the STUN server answers.
const ASK: Duration = Duration::from_millis(500);
/// RFC 8445 §11: ways through a NAT are kept open every 15 s.
const REASK: Duration = Duration::from_secs(15);
