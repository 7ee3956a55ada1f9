//! The one WebSocket driver: opens the socket, carries messages, pings, closes. It decides nothing.
//!
//! Each direction waits only for its own receiver. While the worker or the call has no room, the socket is not read
//! and the vendor feels it; while the vendor does not read, the caller's oldest audio is dropped. Silence overtakes
//! everything. The future holds all of it: dropping it closes the socket, and nothing runs on elsewhere.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use super::openai_realtime::{self, OpenAiRealtime};
use super::ringback_ws::{self, RingbackWs};
use super::words::{self, Act, Connect, Ear, Tally, Words};
use super::{AgentCommand, AgentEvent, AgentSpec, FailedKind, check_settings};
use crate::model::limits::{AGENT_CLOSE_MAX, AGENT_MESSAGE_MAX, AGENT_OUTBOX, AGENT_PING_EVERY, CALLER_AUDIO_MAX};
use crate::model::{FRAME_MS, Frame, Heard, Mouth, Speech};

/// The agent's side of its media leg.
#[derive(Debug)]
pub struct Audio {
    /// From the worker: frames, and what was heard. Always taken at once.
    pub heard: Receiver<Heard>,
    /// To the worker. While it is full the socket is not read.
    pub speech: Sender<Speech>,
    /// To the worker, ahead of `speech`.
    pub mouth: Sender<Mouth>,
}

/// Holds one conversation from dialling to the end, and returns what was counted.
///
/// The last event is [`AgentEvent::Failed`] or [`AgentEvent::Left`], unless the call ends it: with
/// [`AgentCommand::Close`], by dropping the sender of `commands`, or by dropping the receiver of `events`. After `Close`
/// keep taking events until this returns; that takes at most [`AGENT_CLOSE_MAX`] twice.
///
/// A vendor ends every session at some age (OpenAI: 60 minutes), which is a `Left` like any other.
pub async fn dial(
    spec: AgentSpec,
    audio: Audio,
    commands: Receiver<AgentCommand>,
    events: Sender<AgentEvent>,
) -> Tally {
    let mistake = check_settings(&spec.connector, &spec.settings)
        .first()
        .map(|error| format!("setting {}: {}", error.pointer, error.message));
    match (mistake, spec.connector.as_str()) {
        (None, openai_realtime::NAME) => {
            Driver::new(OpenAiRealtime::new(spec), audio, commands, events).run(AGENT_PING_EVERY).await
        }
        (None, ringback_ws::NAME) => {
            Driver::new(RingbackWs::new(spec), audio, commands, events).run(AGENT_PING_EVERY).await
        }
        (mistake, _) => {
            let detail = mistake.unwrap_or_else(|| "this connector has no socket".to_owned());
            // Nobody left to tell is no reason to complain.
            let _ = events.send(AgentEvent::Failed { kind: FailedKind::SessionRefused, detail }).await;
            Tally::default()
        }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Driver<W> {
    words: W,
    audio: Audio,
    commands: Receiver<AgentCommand>,
    events: Sender<AgentEvent>,
    /// Messages for the vendor, ahead of the caller's audio.
    outbox: VecDeque<Message>,
    caller: VecDeque<Box<Frame>>,
    to_tell: VecDeque<AgentEvent>,
    to_speak: VecDeque<Speech>,
    to_hush: VecDeque<Mouth>,
    is_heard_open: bool,
    is_ready: bool,
    /// What the call was last told of the agent's voice.
    is_speaking: bool,
    /// Sentences it was given to say.
    says: u32,
    end: Option<End>,
    frames_sent: u64,
    frames_dropped: u64,
}

/// What came from this side of the socket.
enum Local {
    Heard(Option<Heard>),
    Command(Option<AgentCommand>),
}

/// How it ends.
enum End {
    /// The call wants no more.
    Closed,
    Failed(FailedKind, String),
    Left(String),
}

impl<W: Words> Driver<W> {
    fn new(words: W, audio: Audio, commands: Receiver<AgentCommand>, events: Sender<AgentEvent>) -> Driver<W> {
        Driver {
            words,
            audio,
            commands,
            events,
            outbox: VecDeque::new(),
            caller: VecDeque::new(),
            to_tell: VecDeque::new(),
            to_speak: VecDeque::new(),
            to_hush: VecDeque::new(),
            is_heard_open: true,
            is_ready: false,
            is_speaking: false,
            says: 0,
            end: None,
            frames_sent: 0,
            frames_dropped: 0,
        }
    }

    async fn run(mut self, ping_every: Duration) -> Tally {
        // Queued before the socket is up, so that nothing the call says can overtake it.
        self.hear_from(|words, out| words.open(out));
        let connect = self.words.connect();
        let deadline = Instant::now() + Duration::from_millis(connect.timeout_ms);
        let socket = match self.connect(&connect, deadline).await {
            Some(socket) => {
                let (mut sink, mut stream) = socket.split();
                self.talk(&mut sink, &mut stream, deadline, ping_every).await;
                Some((sink, stream))
            }
            None => None,
        };
        self.finish().await;
        if let Some((sink, stream)) = socket {
            close(sink, stream).await;
        }
        Tally { frames_sent: self.frames_sent, frames_dropped: self.frames_dropped, ..self.words.tally() }
    }

    /// Opens the socket, while the call goes on. `None` when it has ended meanwhile.
    async fn connect(&mut self, connect: &Connect, deadline: Instant) -> Option<Socket> {
        let mut opening = pin!(timeout_at(deadline, open(connect)));
        while self.end.is_none() {
            tokio::select! {
                opened = &mut opening => match opened {
                    Ok(Ok(socket)) => return Some(socket),
                    Ok(Err((kind, detail))) => self.end = Some(End::Failed(kind, detail)),
                    Err(_) => self.end = Some(too_late()),
                },
                () = self.local() => {}
            }
        }
        None
    }

    async fn talk(
        &mut self,
        sink: &mut SplitSink<Socket, Message>,
        stream: &mut SplitStream<Socket>,
        deadline: Instant,
        ping_every: Duration,
    ) {
        let mut ping = pinging(ping_every);
        let mut is_flushed = true;
        // Anything read since the last ping, or that we did not care to read.
        let mut is_alive = true;
        while self.end.is_none() {
            let has_message = self.has_message();
            let is_reading = self.to_speak.is_empty() && self.to_tell.is_empty() && self.outbox.len() < AGENT_OUTBOX;
            is_alive |= !is_reading;
            // In this order, so that the caller's audio leaves before more is taken, and a flood from the vendor
            // delays neither the call nor the deadline. Each source runs dry: writing adds nothing to be written, the
            // call and the worker send what they have, and only the vendor could go on for ever; then no ping is needed.
            tokio::select! {
                biased;
                () = sleep_until(deadline), if !self.is_ready => self.end = Some(too_late()),
                done = poll_fn(|cx| match has_message {
                    true => sink.poll_ready_unpin(cx),
                    false => sink.poll_flush_unpin(cx),
                }), if has_message || !is_flushed => {
                    is_flushed = !has_message;
                    let sent = match has_message.then(|| self.next_message()).flatten() {
                        Some(message) => done.and_then(|()| sink.start_send_unpin(message)),
                        None => done,
                    };
                    self.check(sent);
                }
                () = self.local() => {}
                message = stream.next(), if is_reading => {
                    is_alive = true;
                    self.on_message(message);
                }
                _ = ping.tick() => {
                    if is_alive {
                        is_alive = false;
                        self.outbox.push_front(Message::Ping(Default::default()));
                    } else {
                        self.end = Some(self.gone("no sign of life".to_owned()));
                    }
                }
            }
        }
    }

    /// One thing that does not concern the socket. Safe to be dropped while waiting.
    async fn local(&mut self) {
        let has_room = self.outbox.len() < AGENT_OUTBOX && self.to_tell.len() < AGENT_OUTBOX;
        let next = tokio::select! {
            biased;
            // The worker may be gone before the call has noticed; then nobody listens, which is no fault.
            room = self.audio.mouth.reserve(), if !self.to_hush.is_empty() => {
                match (room, self.to_hush.pop_front()) {
                    (Ok(room), Some(hush)) => room.send(hush),
                    _ => self.to_hush.clear(),
                }
                return;
            }
            room = self.events.reserve(), if !self.to_tell.is_empty() => {
                match (room, self.to_tell.pop_front()) {
                    (Ok(room), Some(event)) => room.send(event),
                    _ => self.end = Some(End::Closed),
                }
                return;
            }
            // Before the audio: what the caller says after the answer must find the agent listening.
            command = self.commands.recv(), if has_room => Local::Command(command),
            heard = self.audio.heard.recv(), if self.is_heard_open => Local::Heard(heard),
            room = self.audio.speech.reserve(), if !self.to_speak.is_empty() => {
                match (room, self.to_speak.pop_front()) {
                    (Ok(room), Some(speech)) => room.send(speech),
                    _ => self.to_speak.clear(),
                }
                return;
            }
            () = self.events.closed() => Local::Command(None),
        };
        match next {
            Local::Heard(heard) => self.on_heard(heard),
            Local::Command(Some(AgentCommand::Close) | None) => self.end = Some(End::Closed),
            Local::Command(Some(command)) => self.on_command(command),
        }
    }

    fn on_command(&mut self, command: AgentCommand) {
        let is_say = matches!(command, AgentCommand::Say { .. });
        self.says += u32::from(is_say);
        let was_speaking = self.is_speaking;
        self.hear_from(|words, out| words.on_command(command, out));
        // What it will not say is over at once: whoever waits for it need not.
        if is_say && !was_speaking && !self.is_speaking {
            self.to_tell.push_back(AgentEvent::Quiet { says: self.says });
        }
    }

    fn on_heard(&mut self, heard: Option<Heard>) {
        match heard {
            Some(Heard::Frame(frame)) => {
                self.hear_from(|words, out| words.on_frame(out));
                match self.words.ear() {
                    Ear::Deaf => self.caller.clear(),
                    Ear::Holding | Ear::Open => self.caller.push_back(frame),
                }
                if self.caller.len() > CALLER_FRAMES_MAX {
                    self.caller.pop_front();
                    self.frames_dropped += 1;
                }
            }
            // Its leg was opened for µ-law, the form of all vendors we know.
            Some(Heard::Linear(_)) => {}
            Some(Heard::Stopped { item, heard_ms }) => {
                self.hear_from(|words, out| words.on_stopped(item, heard_ms, out));
            }
            Some(Heard::Finished { item, heard_ms }) => {
                self.hear_from(|words, out| words.on_finished(&item, heard_ms, out));
            }
            // The leg is gone; the call will close us.
            None => self.is_heard_open = false,
        }
    }

    fn on_message(&mut self, message: Option<Result<Message, WsError>>) {
        match message {
            Some(Ok(Message::Text(text))) => self.hear_from(|words, out| words.on_text(&text, out)),
            Some(Ok(Message::Binary(octets))) => self.hear_from(|words, out| words.on_binary(&octets, out)),
            // Ping is answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                let why = frame.map_or_else(|| "closed".to_owned(), |frame| format!("closed with {}", frame.code));
                self.end = Some(self.gone(why));
            }
            Some(Err(error)) => self.check(Err(error)),
            None => self.end = Some(self.gone("closed".to_owned())),
        }
    }

    /// Lets the vendor's file say what to do, and puts it where it belongs.
    fn hear_from(&mut self, ask: impl FnOnce(&mut W, &mut Vec<Act>)) {
        let mut acts = Vec::new();
        ask(&mut self.words, &mut acts);
        for act in acts {
            match act {
                Act::Send(text) => self.outbox.push_back(Message::text(text)),
                Act::Tell(event) => {
                    self.is_ready |= event == AgentEvent::Ready;
                    self.to_tell.push_back(event);
                }
                Act::Speak(speech) => self.to_speak.push_back(speech),
                Act::Hush(hush) => {
                    let Mouth::Stop { epoch } = hush;
                    self.to_speak.retain(|speech| speech.epoch >= epoch);
                    self.to_hush.push_back(hush);
                }
                Act::Fail(kind, detail) => self.end = Some(End::Failed(kind, detail)),
                Act::Leave(reason) => self.end = Some(self.gone(reason)),
            }
        }
        let is_speaking = self.words.is_speaking();
        if is_speaking != self.is_speaking {
            self.is_speaking = is_speaking;
            self.to_tell.push_back(match is_speaking {
                true => AgentEvent::Speaking,
                false => AgentEvent::Quiet { says: self.says },
            });
        }
    }

    fn has_message(&self) -> bool {
        !self.outbox.is_empty() || (!self.caller.is_empty() && self.words.ear() == Ear::Open)
    }

    fn next_message(&mut self) -> Option<Message> {
        if let Some(message) = self.outbox.pop_front() {
            return Some(message);
        }
        let frame = self.caller.pop_front()?;
        self.frames_sent += 1;
        Some(match self.words.append(&frame) {
            words::Message::Text(text) => Message::text(text),
            words::Message::Binary(octets) => Message::binary(octets),
        })
    }

    fn check(&mut self, done: Result<(), WsError>) {
        if let Err(error) = done {
            self.end = Some(self.gone(what(&error)));
        }
    }

    /// The socket is of no use any more.
    fn gone(&self, why: String) -> End {
        if self.is_ready { End::Left(why) } else { End::Failed(FailedKind::BadAnswer, why) }
    }

    /// Tells the call what it does not know yet, the ending last.
    async fn finish(&mut self) {
        let end = self.end.take();
        self.hear_from(|words, out| words.on_gone(out));
        let is_wanted = match end {
            Some(End::Failed(kind, detail)) => {
                self.to_tell.push_back(AgentEvent::Failed { kind, detail });
                true
            }
            Some(End::Left(reason)) => {
                self.to_tell.push_back(AgentEvent::Left { reason });
                true
            }
            Some(End::Closed) | None => false,
        };
        let telling = async {
            for event in self.to_tell.drain(..) {
                if self.events.send(event).await.is_err() {
                    break;
                }
            }
        };
        // An ending is never dropped. After a close the call may have stopped listening: that is its own loss.
        if is_wanted {
            telling.await;
        } else {
            let _ = timeout(AGENT_CLOSE_MAX, telling).await;
        }
    }
}

async fn open(connect: &Connect) -> Result<Socket, (FailedKind, String)> {
    let bad_url = || (FailedKind::SessionRefused, "the address cannot be used".to_owned());
    let mut request = connect.url.as_str().into_client_request().map_err(|_| bad_url())?;
    if let Some(secret) = &connect.bearer {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.reveal()))
            .map_err(|_| (FailedKind::AuthRefused, "the credential holds characters no header may hold".to_owned()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    if let Some(subprotocol) = connect.subprotocol {
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    let host = request.uri().host().ok_or_else(bad_url)?.trim_matches(['[', ']']).to_owned();
    let is_tls = request.uri().scheme_str() == Some("wss");
    let port = request.uri().port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let refused = |error: std::io::Error| (FailedKind::ConnectRefused, error.to_string());
    let stream = TcpStream::connect((host, port)).await.map_err(refused)?;
    stream.set_nodelay(true).map_err(refused)?;

    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        // Every frame of the caller leaves at once; what the socket does not take stays in our own queues.
        .write_buffer_size(0)
        .max_write_buffer_size(AGENT_MESSAGE_MAX)
        .max_message_size(Some(AGENT_MESSAGE_MAX))
        .max_frame_size(Some(AGENT_MESSAGE_MAX));
    match client_async_tls_with_config(request, stream, Some(config), None).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(answer)) => {
            let status = answer.status();
            let kind = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailedKind::AuthRefused,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailedKind::Busy,
                _ => FailedKind::BadAnswer,
            };
            Err((kind, format!("HTTP {}", status.as_u16())))
        }
        Err(error @ (WsError::Io(_) | WsError::Tls(_))) => Err((FailedKind::ConnectRefused, what(&error))),
        Err(error) => Err((FailedKind::BadAnswer, what(&error))),
    }
}

/// Says good-bye, and waits a little for the vendor to do so too.
async fn close(mut sink: SplitSink<Socket, Message>, mut stream: SplitStream<Socket>) {
    let closing = async {
        if sink.close().await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    // A vendor that does not answer is dropped.
    let _ = timeout(AGENT_CLOSE_MAX, closing).await;
}

fn pinging(every: Duration) -> Interval {
    let mut ping = interval_at(Instant::now() + every, every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping
}

fn too_late() -> End {
    End::Failed(FailedKind::Timeout, "the session was not ready in time".to_owned())
}

/// An error of the socket without anything that was sent over it.
fn what(error: &WsError) -> String {
    match error {
        WsError::Io(error) => error.to_string(),
        WsError::Tls(error) => error.to_string(),
        WsError::Capacity(error) => error.to_string(),
        WsError::Protocol(error) => error.to_string(),
        WsError::ConnectionClosed | WsError::AlreadyClosed => "closed".to_owned(),
        WsError::Utf8(_) => "text is not UTF-8".to_owned(),
        _ => "the answer is no WebSocket".to_owned(),
    }
}

const CALLER_FRAMES_MAX: usize = CALLER_AUDIO_MAX.as_millis() as usize / FRAME_MS as usize;

#[cfg(test)]
mod tests {
    use futures_util::SinkExt;
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;
    use crate::agent::FirstWords;
    use crate::model::Pii;

    #[tokio::test]
    async fn a_vendor_without_a_sign_of_life_is_left() {
        let (mut line, _vendor) = Line::open(Duration::from_millis(30)).await;

        // It never reads, so it never answers a ping.
        assert_eq!(line.last().await, AgentEvent::Left { reason: "no sign of life".to_owned() });
    }

    #[tokio::test]
    async fn a_vendor_that_answers_pings_is_kept() {
        // Long enough for a busy machine to answer in.
        let (line, mut vendor) = Line::open(Duration::from_millis(300)).await;
        let mut pings = 0;

        while pings < 3 {
            // Reading answers the ping.
            let message = timeout(Duration::from_secs(10), vendor.next()).await.expect("a ping in time");
            pings += u32::from(matches!(message, Some(Ok(Message::Ping(_)))));
            vendor.flush().await.expect("the socket is open");
        }

        assert!(line.events.is_empty(), "nothing happened");
    }

    #[tokio::test]
    async fn a_call_that_takes_no_events_stops_the_reading() {
        let (mut line, mut vendor) = Line::open(AGENT_PING_EVERY).await;
        let fault = r#"{"type":"error","error":{"type":"server_error","code":"c","message":"m"}}"#;

        for _ in 0..1000 {
            vendor.send(Message::text(fault)).await.expect("the socket is open");
        }
        vendor.close(None).await.expect("the socket is open");

        // Room for two, but none of a thousand is lost, and the ending comes last.
        for at in 0..1000 {
            assert!(matches!(line.event().await, AgentEvent::Fault { .. }), "event {at}");
        }
        assert!(matches!(line.event().await, AgentEvent::Left { .. }));
    }

    struct Line {
        events: Receiver<AgentEvent>,
        _commands: Sender<AgentCommand>,
        _tasks: JoinSet<Tally>,
    }

    impl Line {
        /// A session that is ready.
        async fn open(ping_every: Duration) -> (Line, WebSocketStream<TcpStream>) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let spec = AgentSpec {
                connector: openai_realtime::NAME.to_owned(),
                settings: json!({ "url": format!("ws://{}/", listener.local_addr().unwrap()) }),
                secret: None,
                instructions: Pii::default(),
                first_words: FirstWords::Caller,
                tools: vec![],
            };
            let (_, heard) = mpsc::channel(1);
            let (speech, _) = mpsc::channel(1);
            let (mouth, _) = mpsc::channel(1);
            let (commands, to_obey) = mpsc::channel(1);
            let (to_tell, events) = mpsc::channel(2);
            let driver = Driver::new(OpenAiRealtime::new(spec), Audio { heard, speech, mouth }, to_obey, to_tell);
            let mut tasks = JoinSet::new();
            tasks.spawn(driver.run(ping_every));
            let (stream, _) = listener.accept().await.unwrap();
            let mut vendor = tokio_tungstenite::accept_async(stream).await.unwrap();
            vendor.send(Message::text(r#"{"type":"session.updated","session":{}}"#)).await.unwrap();
            let mut line = Line { events, _commands: commands, _tasks: tasks };
            assert_eq!(line.event().await, AgentEvent::Ready);
            (line, vendor)
        }

        async fn event(&mut self) -> AgentEvent {
            timeout(Duration::from_secs(10), self.events.recv()).await.expect("an event in time").expect("an agent")
        }

        async fn last(&mut self) -> AgentEvent {
            let last = self.event().await;
            assert_eq!(self.events.recv().await, None);
            last
        }
    }
}
