//! How octets come and leave: sockets, listeners, and the table of connections.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use sipx_sip::{Limits, TransactionKey};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::super::config::{SipConfig, SipError, TlsError};
use super::super::counters::Counts;
use super::super::event::Transport;
use super::super::net::{Endpoint, Hop};
use super::connection::{ConnectionId, Event, Line};
use super::gate::{Gate, Seat};
use super::tls::{self, Tls};
use super::websocket;
use crate::model::limits;

pub(super) struct Links {
    /// In the order of the endpoints.
    pub(super) ears: Vec<Ear>,
    pub(super) gate: Gate,
    connections: HashMap<ConnectionId, Connection>,
    by_peer: HashMap<(SocketAddr, Transport), Vec<ConnectionId>>,
    /// Requests of ours that lost their way while something else was sent.
    pub(super) lost: Vec<TransactionKey>,
    last: u64,
    tasks: JoinSet<()>,
    events: mpsc::Sender<(ConnectionId, Event)>,
    events_in: mpsc::Receiver<(ConnectionId, Event)>,
    counts: Arc<Counts>,
    pub(super) tls: Tls,
    limits: Limits,
    keep_alive: Duration,
    arrival: Duration,
}

pub(super) enum Ear {
    Datagrams {
        socket: UdpSocket,
        /// The same socket. Sending waits for nothing: what the system does not take at once is lost like any datagram.
        mouth: std::net::UdpSocket,
    },
    Connections {
        listener: TcpListener,
        transport: Transport,
        /// Accepting failed a moment ago.
        is_paused: bool,
    },
}

/// A connection, opened by either side.
pub(super) struct Connection {
    pub(super) hop: Hop,
    /// The listener it came by, or in whose name it was opened.
    pub(super) endpoint: usize,
    pub(super) tls_names: Arc<[String]>,
    out: mpsc::Sender<Bytes>,
    /// Our requests that went this way and are not answered.
    waiting: Vec<TransactionKey>,
}

/// Which way a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Datagram { endpoint: usize, to: SocketAddr },
    Stream(ConnectionId),
}

impl Links {
    pub(super) fn bind(config: &SipConfig, counts: Arc<Counts>) -> Result<(Links, Vec<Endpoint>), SipError> {
        let tls = Tls::new(config.tls.clone()).map_err(SipError::Tls)?;
        let needs_certificate = !config.listen_tls.is_empty() || !config.wss.is_empty();
        if needs_certificate && tls.server().is_none() {
            return Err(SipError::Tls(TlsError::NoIdentity));
        }
        let listeners = [
            (&config.udp, Transport::Udp),
            (&config.tcp, Transport::Tcp),
            (&config.listen_tls, Transport::Tls),
            (&config.ws, Transport::Ws),
            (&config.wss, Transport::Wss),
        ];
        let (mut ears, mut endpoints) = (Vec::new(), Vec::new());
        for (address, transport) in listeners.iter().flat_map(|(all, kind)| all.iter().map(|address| (*address, *kind)))
        {
            let bind = if transport == Transport::Udp { bind_udp(address) } else { bind_tcp(address, transport) };
            let (ear, bound) = bind.map_err(|error| SipError::Bind { address, reason: error.to_string() })?;
            ears.push(ear);
            endpoints.push(Endpoint { transport, bound });
        }
        if ears.is_empty() {
            return Err(SipError::NoListener);
        }
        let (events, events_in) = mpsc::channel(limits::SIP_CONNECTION_EVENTS);
        let links = Links {
            ears,
            gate: Gate::default(),
            connections: HashMap::new(),
            by_peer: HashMap::new(),
            lost: Vec::new(),
            last: 0,
            tasks: JoinSet::new(),
            events,
            events_in,
            counts,
            tls,
            limits: super::message_limits(),
            keep_alive: config.keep_alive,
            arrival: config.arrival,
        };
        Ok((links, endpoints))
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(&id)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The way to a hop: the socket, a connection that is there, or a new one in the name of this endpoint.
    pub(super) fn route(&mut self, hop: &Hop, endpoint: usize) -> Option<Route> {
        if hop.transport == Transport::Udp {
            return Some(Route::Datagram { endpoint, to: hop.addr });
        }
        if let Some(id) = self.find(hop) {
            return Some(Route::Stream(id));
        }
        self.open(hop, endpoint).map(Route::Stream)
    }

    /// Sends; `false` when that can never arrive. A datagram that is lost on the way is not known to be.
    pub(super) fn send(&mut self, route: Route, octets: Bytes) -> bool {
        let is_sent = match route {
            Route::Datagram { endpoint, to } => match self.ears.get(endpoint) {
                Some(Ear::Datagrams { mouth, .. }) => match mouth.send_to(&octets, to) {
                    Ok(_) => true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        Counts::add(&self.counts.send_failures);
                        return true;
                    }
                    Err(_) => false,
                },
                _ => false,
            },
            Route::Stream(id) => match self.connections.get(&id).map(|connection| connection.out.try_send(octets)) {
                Some(Ok(())) => true,
                // It has not read for a whole queue of messages.
                Some(Err(_)) => {
                    let lost = self.forget(id);
                    self.lost.extend(lost);
                    false
                }
                None => false,
            },
        };
        if !is_sent {
            Counts::add(&self.counts.send_failures);
        }
        is_sent
    }

    /// Remembers that a request of ours waits for an answer on this way.
    pub(super) fn wait_for(&mut self, route: Route, key: &TransactionKey) {
        if let Route::Stream(id) = route
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.waiting.push(key.clone());
        }
    }

    pub(super) fn no_longer_wait_for(&mut self, route: Route, key: &TransactionKey) {
        if let Route::Stream(id) = route
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.waiting.retain(|waiting| waiting != key);
        }
    }

    pub(super) fn opened(&mut self, id: ConnectionId, tls_names: Arc<[String]>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.tls_names = tls_names;
        }
    }

    /// Closes a connection once everything has been written, and tells which requests of ours lose their way.
    pub(super) fn forget(&mut self, id: ConnectionId) -> Vec<TransactionKey> {
        let Some(connection) = self.connections.remove(&id) else { return Vec::new() };
        let peer = (connection.hop.addr, connection.hop.transport);
        if let Some(ids) = self.by_peer.get_mut(&peer) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
        connection.waiting
    }

    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<(ConnectionId, Event)> {
        // Reaped here, so that nothing of a connection is left when it is gone.
        while let Poll::Ready(Some(done)) = self.tasks.poll_join_next(cx) {
            if done.is_err_and(|error| error.is_panic()) {
                tracing::error!("a SIP connection panicked");
            }
        }
        // There is always one sender: ours.
        self.events_in.poll_recv(cx).map(|event| event.expect("we hold a sender, so the channel is open"))
    }

    /// One datagram into the buffer.
    pub(super) fn poll_datagram(
        &self,
        endpoint: usize,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Option<(usize, SocketAddr)>> {
        let Some(Ear::Datagrams { socket, .. }) = self.ears.get(endpoint) else { return Poll::Pending };
        let mut buffer = ReadBuf::new(buffer);
        // An error is one of an earlier datagram that met a closed port; its own transaction sees to it.
        socket.poll_recv_from(cx, &mut buffer).map(|from| from.ok().map(|from| (buffer.filled().len(), from)))
    }

    /// Takes one connection. `Err` when the system has no room for it and the listener was paused.
    pub(super) fn poll_accept(&mut self, endpoint: usize, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        let Some(Ear::Connections { listener, transport, is_paused }) = self.ears.get_mut(endpoint) else {
            return Poll::Pending;
        };
        if *is_paused {
            return Poll::Pending;
        }
        match listener.poll_accept(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok((stream, from))) => {
                let transport = *transport;
                self.accept(endpoint, transport, stream, from);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                tracing::warn!(%error, "cannot accept SIP connections for a moment");
                *is_paused = true;
                Poll::Ready(Err(()))
            }
        }
    }

    pub(super) fn resume(&mut self, endpoint: usize) {
        if let Some(Ear::Connections { is_paused, .. }) = self.ears.get_mut(endpoint) {
            *is_paused = false;
        }
    }

    /// Lets connections say what is left, and closes them.
    pub(super) async fn finish(&mut self, within: Duration) {
        self.connections.clear();
        self.ears.clear();
        let said = async {
            loop {
                tokio::select! {
                    done = self.tasks.join_next() => if done.is_none() { break },
                    // Nobody looks at what comes now, but a full channel must not hold a connection up.
                    _ = self.events_in.recv() => {}
                }
            }
        };
        // What is not said by then meets a peer that does not read.
        let _ = timeout(within, said).await;
        self.tasks.shutdown().await;
    }

    fn find(&self, hop: &Hop) -> Option<ConnectionId> {
        let ids = self.by_peer.get(&(hop.addr, hop.transport))?;
        ids.iter().rev().copied().find(|id| {
            self.connections.get(id).is_some_and(|connection| match &hop.host {
                // A connection proves one name only, unless the certificate bears the other one too.
                Some(host) => {
                    connection.hop.host.as_ref() == Some(host)
                        || connection.tls_names.iter().any(|name| **name == **host)
                }
                None => true,
            })
        })
    }

    fn accept(&mut self, endpoint: usize, transport: Transport, stream: TcpStream, from: SocketAddr) {
        let seat = if self.gate.lets_in(from.ip()) { self.gate.take_seat(from.ip()) } else { None };
        let Some(seat) = seat else {
            Counts::add(&self.counts.connections_refused);
            return;
        };
        let hop = Hop { addr: from, transport, host: None };
        let line = self.draw(hop, endpoint, Some(seat));
        self.tasks.spawn(serve(line, stream, transport, self.tls.clone()));
    }

    fn open(&mut self, hop: &Hop, endpoint: usize) -> Option<ConnectionId> {
        // A WebSocket client has no door of its own.
        let has_door = matches!(hop.transport, Transport::Tcp | Transport::Tls);
        if !has_door || self.connections.len() >= 2 * limits::SIP_CONNECTIONS_MAX {
            return None;
        }
        let line = self.draw(hop.clone(), endpoint, None);
        let id = line.id;
        self.tasks.spawn(connect(line, hop.clone(), self.tls.clone()));
        Some(id)
    }

    fn draw(&mut self, hop: Hop, endpoint: usize, seat: Option<Seat>) -> Line {
        self.last += 1;
        let id = ConnectionId(self.last);
        let (out, out_in) = mpsc::channel(limits::SIP_CONNECTION_QUEUE);
        let line = Line {
            id,
            events: self.events.clone(),
            out: out_in,
            pong: out.downgrade(),
            limits: self.limits,
            arrival: self.arrival,
            ping: self.keep_alive,
            peer: hop.addr,
            is_known: seat.is_none() || self.gate.knows(hop.addr.ip()),
            seat,
        };
        self.by_peer.entry((hop.addr, hop.transport)).or_default().push(id);
        let connection = Connection { hop, endpoint, tls_names: Arc::default(), out, waiting: Vec::new() };
        self.connections.insert(id, connection);
        line
    }
}

/// A connection that somebody else opened.
async fn serve(mut line: Line, stream: TcpStream, transport: Transport, tls: Tls) {
    let _ = stream.set_nodelay(true);
    match transport {
        Transport::Tcp | Transport::Udp => {
            line.tell(Event::Opened(Arc::default())).await;
            line.carry(stream).await;
        }
        Transport::Tls => match timeout(limits::SIP_HANDSHAKE_MAX, accept_tls(stream, tls.server())).await {
            Ok(Ok(stream)) => {
                line.tell(Event::Opened(proven(stream.get_ref().1.peer_certificates()))).await;
                line.carry(stream).await;
            }
            Ok(Err(error)) => line.refuse("TLS", &error).await,
            Err(late) => line.refuse("TLS", &late).await,
        },
        Transport::Ws => match timeout(limits::SIP_HANDSHAKE_MAX, websocket::accept(stream)).await {
            Ok(Ok(socket)) => {
                line.tell(Event::Opened(Arc::default())).await;
                line.carry_frames(socket).await;
            }
            Ok(Err(error)) => line.refuse("WebSocket", &error).await,
            Err(late) => line.refuse("WebSocket", &late).await,
        },
        Transport::Wss => {
            let shake_hands = async {
                let stream = accept_tls(stream, tls.browsers()).await?;
                websocket::accept(stream).await.map_err(io::Error::other)
            };
            match timeout(limits::SIP_HANDSHAKE_MAX, shake_hands).await {
                Ok(Ok(socket)) => {
                    line.tell(Event::Opened(Arc::default())).await;
                    line.carry_frames(socket).await;
                }
                Ok(Err(error)) => line.refuse("WebSocket", &error).await,
                Err(late) => line.refuse("WebSocket", &late).await,
            }
        }
    }
    line.tell(Event::Closed).await;
}

async fn accept_tls(stream: TcpStream, config: Option<Arc<ServerConfig>>) -> io::Result<server::TlsStream<TcpStream>> {
    // Whoever has no certificate has no such listener; a reload can take it away all the same.
    let config = config.ok_or_else(|| io::Error::other("there is no certificate"))?;
    TlsAcceptor::from(config).accept(stream).await
}

/// A connection of ours.
async fn connect(mut line: Line, hop: Hop, tls: Tls) {
    match timeout(limits::SIP_HANDSHAKE_MAX, TcpStream::connect(hop.addr)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            if hop.transport == Transport::Tls {
                match timeout(limits::SIP_HANDSHAKE_MAX, connect_tls(stream, &hop, tls)).await {
                    Ok(Ok(stream)) => {
                        line.tell(Event::Opened(proven(stream.get_ref().1.peer_certificates()))).await;
                        line.carry(stream).await;
                    }
                    Ok(Err(error)) => line.refuse("TLS", &error).await,
                    Err(late) => line.refuse("TLS", &late).await,
                }
            } else {
                line.tell(Event::Opened(Arc::default())).await;
                line.carry(stream).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, peer = %hop.addr, "cannot connect for SIP"),
        Err(_) => tracing::debug!(peer = %hop.addr, "connecting for SIP takes too long"),
    }
    line.tell(Event::Closed).await;
}

async fn connect_tls(stream: TcpStream, hop: &Hop, tls: Tls) -> io::Result<client::TlsStream<TcpStream>> {
    let name = match &hop.host {
        Some(host) => host.trim_matches(['[', ']']).to_owned(),
        None => hop.addr.ip().to_string(),
    };
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    // The first use reads the system's roots.
    let config = tokio::task::spawn_blocking(move || tls.client()).await.map_err(io::Error::other)?;
    TlsConnector::from(config.map_err(io::Error::other)?).connect(name, stream).await
}

fn proven(certificates: Option<&[CertificateDer<'static>]>) -> Arc<[String]> {
    certificates.and_then(<[_]>::first).map(tls::names).unwrap_or_default().into()
}

fn bind_udp(address: SocketAddr) -> io::Result<(Ear, SocketAddr)> {
    let socket = open(address, Type::DGRAM, Protocol::UDP)?;
    // The system may grant less; then bursts are lost earlier and repeated by their senders.
    let _ = socket.set_recv_buffer_size(limits::SIP_SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(limits::SIP_SOCKET_BUFFER);
    socket.bind(&address.into())?;
    let mouth: std::net::UdpSocket = socket.into();
    let socket = UdpSocket::from_std(mouth.try_clone()?)?;
    let bound = socket.local_addr()?;
    Ok((Ear::Datagrams { socket, mouth }, bound))
}

fn bind_tcp(address: SocketAddr, transport: Transport) -> io::Result<(Ear, SocketAddr)> {
    let socket = open(address, Type::STREAM, Protocol::TCP)?;
    // A restart must not wait for the connections of the last run.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((Ear::Connections { listener, transport, is_paused: false }, bound))
}

fn open(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // One listener for each family: an IPv4 peer must not appear under an IPv6 name in Via and Contact.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Connections that the system keeps until we take them.
const LISTEN_BACKLOG: i32 = 1024;
