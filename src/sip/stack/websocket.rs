//! SIP over WebSocket (RFC 7118): one message in each, to clients that we could never reach by ourselves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use sipx_sip::{Limits, parse_frame};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use super::connection::{ConnectionId, Event, Line};
use crate::model::limits;

/// Origins of web pages that may connect, in lower case; `None`: all.
pub(super) type Origins = Option<Arc<[String]>>;

/// Shakes hands with whoever offers the subprotocol `sip`, and with nobody else (RFC 7118 §4); and with pages of these
/// origins (RFC 6455 §10.2).
pub(super) async fn accept<IO>(io: IO, origins: Origins) -> Result<WebSocketStream<IO>, tungstenite::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let longest = Some(2 * limits::SIP_MESSAGE_MAX);
    let config = WebSocketConfig::default().max_message_size(longest).max_frame_size(longest);
    #[allow(clippy::result_large_err, reason = "the handshake wants it so")]
    let judge = move |request: &Request, response: Response| agree(request, response, &origins);
    tokio_tungstenite::accept_hdr_async_with_config(io, judge, Some(config)).await
}

#[allow(clippy::result_large_err, reason = "the handshake wants it so")]
fn agree(request: &Request, mut response: Response, origins: &Origins) -> Result<Response, ErrorResponse> {
    let origin = request.headers().get(header::ORIGIN);
    let is_known = |origin: &HeaderValue| {
        let listed = |known: &String| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes());
        origins.as_ref().is_none_or(|origins| origins.iter().any(listed))
    };
    if !origin.is_none_or(is_known) {
        let mut refusal = ErrorResponse::new(Some("this page may not connect\n".to_owned()));
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        return Err(refusal);
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offered.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if offered.any(|name| name.trim().eq_ignore_ascii_case(SUBPROTOCOL)) {
        let echo = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, echo);
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(Some("offer the subprotocol sip (RFC 7118)\n".to_owned()));
    *refusal.status_mut() = StatusCode::BAD_REQUEST;
    Err(refusal)
}

impl Line {
    /// Carries messages in both directions until one of them ends.
    pub(super) async fn carry_frames<IO: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: WebSocketStream<IO>) {
        let (sink, stream) = socket.split();
        let (events, pong) = (self.events.clone(), self.pong.clone());
        let frames = Frames { id: self.id, events, pong, limits: self.limits };
        tokio::select! {
            // Whoever says nothing for three pings is gone; the library answers their pings when we read or write.
            () = read(stream, self.ping.saturating_mul(3), frames) => {}
            () = write(sink, &mut self.out, self.ping) => {}
        }
    }
}

struct Frames {
    id: ConnectionId,
    events: mpsc::Sender<(ConnectionId, Event)>,
    pong: mpsc::WeakSender<Bytes>,
    limits: Limits,
}

async fn read(
    mut stream: impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
    patience: Duration,
    frames: Frames,
) {
    while let Ok(Some(Ok(message))) = timeout(patience, stream.next()).await {
        let goes_on = match message {
            Message::Text(text) => frames.take(Bytes::from(text)).await,
            Message::Binary(octets) => frames.take(octets).await,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => true,
            Message::Close(_) => false,
        };
        if !goes_on {
            return;
        }
    }
}

impl Frames {
    async fn take(&self, frame: Bytes) -> bool {
        if frame.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
            // RFC 5626 §4.4.1, which RFC 7118 does not forbid.
            if frame.len() >= 4
                && let Some(out) = self.pong.upgrade()
            {
                let _ = out.try_send(Bytes::from_static(b"\r\n"));
            }
            return true;
        }
        match parse_frame(frame.clone(), &self.limits) {
            Ok(message) => self.events.send((self.id, Event::Message(Box::new(message)))).await.is_ok(),
            // One frame is one message (RFC 7118 §5), so whoever wrote it is told; the stack closes.
            Err(_) => self.events.send((self.id, Event::Garbage(frame))).await.is_ok(),
        }
    }
}

async fn write(
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    out: &mut mpsc::Receiver<Bytes>,
    every: Duration,
) {
    loop {
        let message = match timeout(every, out.recv()).await {
            Ok(Some(octets)) => frame(octets),
            Ok(None) => break,
            Err(_) => Message::Ping(Bytes::new()),
        };
        if !matches!(timeout(limits::SIP_WRITE_MAX, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(limits::SIP_WRITE_MAX, sink.close()).await;
}

/// RFC 7118 §5: text when it is text; browsers like it better.
fn frame(octets: Bytes) -> Message {
    match std::str::from_utf8(&octets) {
        Ok(text) => Message::text(text),
        Err(_) => Message::Binary(octets),
    }
}

const SUBPROTOCOL: &str = "sip";
