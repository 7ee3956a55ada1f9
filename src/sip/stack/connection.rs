//! One connection: a task that reads messages, and writes what it is given within a time limit.
//!
//! A peer that does not read loses its own connection and delays nobody. When framing is lost, the connection is closed:
//! guessing where the next message begins is how a body becomes a request (RFC 4475 §3.1.2.3).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sipx_sip::{Limits, Message, StreamParser};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::gate::Seat;
use crate::model::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// What a connection tells.
#[derive(Debug)]
pub(super) enum Event {
    /// It can be used; these names stand in the peer's verified certificate.
    Opened(Arc<[String]>),
    /// A message came.
    Message(Box<Message>),
    /// What came cannot be read: the octets of the last look. Only writing goes on.
    Garbage(Bytes),
    /// TLS or WebSocket could not be agreed on; [`Event::Closed`] follows.
    Refused,
    /// It is gone. Nothing follows.
    Closed,
}

/// What a connection's task needs.
pub(super) struct Line {
    pub(super) id: ConnectionId,
    pub(super) events: mpsc::Sender<(ConnectionId, Event)>,
    pub(super) out: mpsc::Receiver<Bytes>,
    /// To answer a ping with. Weak, so that the writer sees when nobody else wants to send.
    pub(super) pong: mpsc::WeakSender<Bytes>,
    pub(super) limits: Limits,
    /// How long a message may take to arrive.
    pub(super) arrival: Duration,
    /// How often we ping.
    pub(super) ping: Duration,
    /// The place it takes when others opened it. Then it is theirs to keep alive, unless it is a WebSocket.
    pub(super) seat: Option<Seat>,
}

impl Line {
    pub(super) async fn tell(&self, event: Event) {
        // The stack outlives its connections, or else nobody is left to be told.
        let _ = self.events.send((self.id, event)).await;
    }

    /// Counts a handshake that failed, and says why to whoever looks for it.
    pub(super) async fn refuse(&self, kind: &str, error: &(dyn std::fmt::Display + Sync)) {
        tracing::debug!(%error, kind, "a SIP connection could not be agreed on");
        self.tell(Event::Refused).await;
    }

    /// Carries messages in both directions until one of them ends.
    pub(super) async fn carry<IO: AsyncRead + AsyncWrite>(&mut self, io: IO) {
        let (reader, writer) = tokio::io::split(io);
        let (pong, events) = (self.pong.clone(), self.events.clone());
        let listen = Listen {
            id: self.id,
            events,
            pong,
            limits: self.limits,
            arrival: self.arrival,
            is_ours: self.seat.is_none(),
        };
        let keep_alive = self.seat.is_none().then_some(self.ping);
        tokio::select! {
            () = read(reader, listen) => {}
            () = write(writer, &mut self.out, keep_alive) => {}
        }
    }
}

struct Listen {
    id: ConnectionId,
    events: mpsc::Sender<(ConnectionId, Event)>,
    pong: mpsc::WeakSender<Bytes>,
    limits: Limits,
    arrival: Duration,
    is_ours: bool,
}

async fn read(mut reader: impl AsyncRead + Unpin, listen: Listen) {
    let mut parser = StreamParser::new(listen.limits);
    if !listen.is_ours {
        // Who connects has something to say; whoever says half of it only is not waited for.
        let first = async {
            loop {
                match listen.take(&mut reader, &mut parser, listen.arrival).await {
                    Took::Octets => {}
                    took => return took,
                }
            }
        };
        match timeout(listen.arrival, first).await {
            Ok(Took::Message) => {}
            Ok(Took::Garbage) => return drain(reader).await,
            Ok(Took::Octets | Took::End) | Err(_) => return,
        }
    }
    loop {
        let patience = if parser.pending() > 0 { listen.arrival } else { limits::SIP_IDLE_MAX };
        match listen.take(&mut reader, &mut parser, patience).await {
            Took::Message | Took::Octets => {}
            Took::Garbage => return drain(reader).await,
            Took::End => return,
        }
    }
}

/// Lets a refusal leave: a socket that is closed with something unread in it takes back what was written.
async fn drain(mut reader: impl AsyncRead + Unpin) {
    let rest = async {
        let mut buffer = [0; READ_LEN];
        while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
    };
    let _ = timeout(limits::SIP_WRITE_MAX, rest).await;
}

#[derive(PartialEq, Eq)]
enum Took {
    /// At least one message.
    Message,
    /// Some octets, or a ping.
    Octets,
    /// What cannot be read, and nothing behind it can be.
    Garbage,
    /// The connection is done with.
    End,
}

impl Listen {
    async fn take(&self, reader: &mut (impl AsyncRead + Unpin), parser: &mut StreamParser, patience: Duration) -> Took {
        let mut buffer = [0; READ_LEN];
        let Ok(Ok(length @ 1..)) = timeout(patience, reader.read(&mut buffer)).await else { return Took::End };
        let is_whole = parser.pending() == 0;
        let Ok(messages) = parser.push(&buffer[..length]) else {
            // The beginning of a request that came in pieces is gone: it cannot be named in an answer.
            let octets = if is_whole { &buffer[..length] } else { &[] };
            let _ = self.events.send((self.id, Event::Garbage(Bytes::copy_from_slice(octets)))).await;
            return Took::Garbage;
        };
        // RFC 5626 §4.4.1: two line ends ask for one.
        if parser.take_keepalives() >= 2
            && let Some(out) = self.pong.upgrade()
        {
            // A full queue says that we are alive as well.
            let _ = out.try_send(Bytes::from_static(PONG));
        }
        if messages.is_empty() {
            return Took::Octets;
        }
        for message in messages {
            if self.events.send((self.id, Event::Message(Box::new(message)))).await.is_err() {
                return Took::End;
            }
        }
        Took::Message
    }
}

async fn write(mut writer: impl AsyncWrite + Unpin, out: &mut mpsc::Receiver<Bytes>, keep_alive: Option<Duration>) {
    loop {
        let next = match keep_alive {
            Some(every) => timeout(every, out.recv()).await.unwrap_or(Some(Bytes::from_static(PING))),
            None => out.recv().await,
        };
        let Some(octets) = next else { break };
        let say = async {
            writer.write_all(&octets).await?;
            // What else waits leaves in the same breath.
            while let Ok(octets) = out.try_recv() {
                writer.write_all(&octets).await?;
            }
            writer.flush().await
        };
        if !matches!(timeout(limits::SIP_WRITE_MAX, say).await, Ok(Ok(()))) {
            return;
        }
    }
    // Nobody has anything to say any more: a goodbye of TLS or TCP, if the peer takes it.
    let _ = timeout(limits::SIP_WRITE_MAX, writer.shutdown()).await;
}

/// RFC 5626 §4.4.1.
const PING: &[u8] = b"\r\n\r\n";
const PONG: &[u8] = b"\r\n";
const READ_LEN: usize = 4096;
