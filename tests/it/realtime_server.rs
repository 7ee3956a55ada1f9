//! A voice agent's vendor that speaks the OpenAI Realtime words strictly, and whatever else a test tells it to.
//!
//! Every message of the client is read with unknown fields refused, and the vendor's rules of order are held: one
//! response at a time, no truncation beyond what was generated, no result nobody asked for. What breaks them is
//! answered with `error` as the vendor does, and kept: call [`Session::assert_no_errors`] at the end.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;

/// The key this vendor knows.
pub(crate) const KEY: &str = "sk-test-realtime";

/// How this vendor behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Answers the upgrade with this status.
    pub(crate) status: Option<u16>,
    /// Accepts the socket and never answers `session.update`.
    pub(crate) is_mute: bool,
    /// Answers `session.update` with an error at this field.
    pub(crate) refuses: Option<&'static str>,
    /// Answers each response by itself with this many milliseconds of speech; otherwise the test says what comes.
    pub(crate) speaks_ms: Option<u64>,
}

/// The vendor. It stops when dropped.
pub(crate) struct RealtimeServer {
    address: SocketAddr,
    sessions: Mutex<mpsc::Receiver<Session>>,
    tasks: JoinSet<()>,
}

impl RealtimeServer {
    pub(crate) async fn start() -> RealtimeServer {
        RealtimeServer::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> RealtimeServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("the address just bound");
        let (to_test, sessions) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, options, to_test));
        RealtimeServer { address, sessions: Mutex::new(sessions), tasks }
    }

    /// For the setting `url`.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}/v1/realtime", self.address)
    }

    /// The next conversation, in the order they were opened.
    pub(crate) async fn session(&self) -> Session {
        let next = std::future::poll_fn(|cx| self.sessions.lock().expect("no panic while held").poll_recv(cx));
        in_time("a conversation to be opened", next).await.expect("the vendor runs until it is dropped")
    }

    /// Stops it: every socket is gone without good-bye.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, options: Options, to_test: mpsc::Sender<Session>) {
    let mut sockets = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        sockets.spawn(serve(stream, options.clone(), to_test.clone()));
        while sockets.try_join_next().is_some() {}
    }
}

// The library wants its error type by value.
#[expect(clippy::result_large_err)]
async fn serve(stream: TcpStream, options: Options, to_test: mpsc::Sender<Session>) {
    // As every vendor does: otherwise the second of two small messages waits for the acknowledgement of the first.
    stream.set_nodelay(true).expect("a socket takes the option");
    let status = options.status;
    let mut model = String::new();
    let upgrade = |request: &Request, response: Response| judge(request, response, status, &mut model);
    let Ok(socket) = accept_hdr_async(stream, upgrade).await else { return };
    let (mut sink, mut stream) = socket.split();
    let (orders, mut to_send) = mpsc::channel::<Order>(4096);
    let session = Session {
        state: Arc::new(Mutex::new(State::new(model))),
        changed: Arc::new(watch::channel(0).0),
        orders,
        options: Arc::new(options),
    };
    session.send(json!({ "type": "session.created", "session": { "type": "realtime", "id": "sess_1" } })).await;
    let _ = to_test.send(session.clone()).await;

    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Text(text) => session.on_client(&text).await,
                Message::Close(_) => session.change(|state| state.is_closed_politely = true),
                _ => {}
            }
        }
        session.change(|state| state.is_gone = true);
    };
    let writing = async {
        while let Some(order) = to_send.recv().await {
            let message = match order {
                Order::Send(text) => Message::text(text),
                Order::Close => Message::Close(None),
                Order::Drop => return,
            };
            if sink.send(message).await.is_err() {
                return std::future::pending().await;
            }
            session.change(|state| state.written += 1);
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

// The library wants its error type by value.
#[expect(clippy::result_large_err)]
fn judge(
    request: &Request,
    response: Response,
    status: Option<u16>,
    model: &mut String,
) -> Result<Response, ErrorResponse> {
    let refuse = |status: StatusCode| {
        let mut response = ErrorResponse::new(None);
        *response.status_mut() = status;
        Err(response)
    };
    if let Some(status) = status {
        return refuse(StatusCode::from_u16(status).expect("a status"));
    }
    if request.headers().get("authorization").is_none_or(|it| it != format!("Bearer {KEY}").as_str()) {
        return refuse(StatusCode::UNAUTHORIZED);
    }
    // The header that selects the retired shapes.
    if request.headers().contains_key("openai-beta") || request.uri().path() != "/v1/realtime" {
        return refuse(StatusCode::BAD_REQUEST);
    }
    match request.uri().query().and_then(|query| query.strip_prefix("model=")) {
        Some(name) if !name.is_empty() && !name.contains('&') => *model = name.to_owned(),
        _ => return refuse(StatusCode::BAD_REQUEST),
    }
    Ok(response)
}

/// One conversation, as the test sees it.
#[derive(Clone)]
pub(crate) struct Session {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
    orders: mpsc::Sender<Order>,
    options: Arc<Options>,
}

enum Order {
    Send(String),
    Close,
    Drop,
}

/// Everything that happened in a conversation.
#[derive(Default)]
pub(crate) struct State {
    /// From the address.
    pub(crate) model: String,
    /// Every message of the client but `append`, in order.
    pub(crate) received: Vec<Value>,
    /// What the caller said, as it was appended.
    pub(crate) heard: Vec<u8>,
    pub(crate) appends: usize,
    /// Messages we have written to the socket.
    pub(crate) written: u64,
    /// What the client did wrong, by our answer's code.
    pub(crate) errors: Vec<String>,
    /// Where a response was wanted while one was active, or cancelled when none was: a race, not a mistake.
    pub(crate) collisions: usize,
    /// The socket is gone.
    pub(crate) is_gone: bool,
    /// The client said good-bye before it went.
    pub(crate) is_closed_politely: bool,
    /// The response being generated.
    pub(crate) active: Option<String>,
    /// Of each utterance the milliseconds in the conversation: what was generated, or where it was truncated.
    pub(crate) spoken_ms: HashMap<String, u64>,
    looked_at: HashMap<String, usize>,
    open_calls: HashSet<String>,
    output: Vec<Value>,
    metadata: Value,
    is_interrupting: bool,
    ids: u64,
}

impl State {
    fn new(model: String) -> State {
        State { model, is_interrupting: true, ..State::default() }
    }
}

impl Session {
    /// Waits until this holds; fails the test after some seconds.
    pub(crate) async fn wait(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            while !holds(&self.state()) {
                changes.changed().await.expect("we hold the sender");
            }
        };
        in_time(what, waiting).await;
    }

    /// The next message of this type that was not looked at yet, waiting for it if need be.
    pub(crate) async fn next(&self, kind: &str) -> Value {
        let skip = self.state().looked_at.get(kind).copied().unwrap_or(0);
        let found = |state: &State| state.received.iter().filter(|it| it["type"] == kind).nth(skip).cloned();
        self.wait(kind, |state| found(state).is_some()).await;
        let mut state = self.state();
        state.looked_at.insert(kind.to_owned(), skip + 1);
        found(&state).expect("just seen, and nothing is ever removed")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    pub(crate) fn assert_no_errors(&self) {
        assert_eq!(self.state().errors, Vec::<String>::new());
    }

    /// Begins a response by itself, as after the caller's turn, unless one is active.
    pub(crate) async fn begin_response(&self) {
        let created = self.with(|state| state.active.is_none().then(|| state.begin(Value::Null)));
        self.send_all(created).await;
    }

    /// Generates this much speech in the active response, at once; nothing when the client has cancelled it. The sound
    /// is [`sound`].
    pub(crate) async fn speak(&self, item: &str, ms: u64, transcript: &str) {
        let messages = self.with(|state| state.speak(item, ms, transcript));
        self.send_all(messages).await;
    }

    /// Asks for a function in the active response.
    pub(crate) async fn call_function(&self, call_id: &str, name: &str, arguments: &str) {
        let done = self.with(|state| {
            let response = state.active.clone()?;
            let item = json!({ "id": format!("item_{call_id}"), "object": "realtime.item", "type": "function_call",
                "status": "completed", "call_id": call_id, "name": name, "arguments": arguments });
            state.open_calls.insert(call_id.to_owned());
            state.output.push(item.clone());
            Some(json!({ "type": "response.function_call_arguments.done", "response_id": response, "output_index": 0,
                "item_id": item["id"], "call_id": call_id, "name": name, "arguments": arguments }))
        });
        self.send_all(done).await;
    }

    /// Ends the active response.
    pub(crate) async fn end_response(&self) {
        let done = self.with(|state| state.end("completed", Value::Null));
        self.send_all(done).await;
    }

    /// The caller begins to speak. An active response is cancelled, after this much of it still came through.
    pub(crate) async fn speech_started(&self, late: Option<(&str, u64)>) {
        self.send(json!({ "type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "item_in" }))
            .await;
        if let Some((item, ms)) = late {
            self.speak(item, ms, "late words").await;
        }
        let done = self.with(|state| {
            let details = json!({ "type": "cancelled", "reason": "turn_detected" });
            if state.is_interrupting { state.end("cancelled", details) } else { None }
        });
        self.send_all(done).await;
    }

    /// The caller has said this; the vendor begins to answer.
    pub(crate) async fn speech_stopped(&self, transcript: &str) {
        self.send(json!({ "type": "input_audio_buffer.speech_stopped", "audio_end_ms": 900, "item_id": "item_in" }))
            .await;
        self.send(json!({ "type": "input_audio_buffer.committed", "previous_item_id": null, "item_id": "item_in" }))
            .await;
        self.begin_response().await;
        self.send(json!({ "type": "conversation.item.input_audio_transcription.completed", "item_id": "item_in",
            "content_index": 0, "transcript": transcript, "usage": { "type": "duration", "seconds": 1 } }))
            .await;
        self.reply("Yes.").await;
    }

    /// An error out of the blue.
    pub(crate) async fn fail(&self, code: &str) {
        self.send(failure("server_error", code, &Value::Null)).await;
    }

    /// Anything else, also what is no message at all.
    pub(crate) async fn send_raw(&self, text: &str) {
        let _ = self.orders.send(Order::Send(text.to_owned())).await;
    }

    /// Closes the socket as the protocol wants it.
    pub(crate) async fn close(&self) {
        let _ = self.orders.send(Order::Close).await;
    }

    /// The socket is gone, without good-bye.
    pub(crate) async fn drop_socket(&self) {
        let _ = self.orders.send(Order::Drop).await;
    }

    async fn send(&self, mut message: Value) {
        message["event_id"] = self.with(|state| state.id("event")).into();
        let _ = self.orders.send(Order::Send(message.to_string())).await;
    }

    async fn send_all(&self, messages: impl IntoIterator<Item = Value>) {
        for message in messages {
            self.send(message).await;
        }
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.state());
        self.changed.send_modify(|version| *version += 1);
    }

    fn with<T>(&self, how: impl FnOnce(&mut State) -> T) -> T {
        let done = how(&mut self.state());
        self.changed.send_modify(|version| *version += 1);
        done
    }

    async fn reply(&self, text: &str) {
        let Some(ms) = self.options.speaks_ms else { return };
        let item = self.with(|state| state.id("item"));
        self.speak(&item, ms, text).await;
        self.end_response().await;
    }

    async fn on_client(&self, text: &str) {
        let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let event_id = value["event_id"].clone();
        let event = match serde_json::from_value::<ClientEvent>(value.clone()) {
            Ok(ClientEvent::Append { audio, .. }) => return self.on_append(&audio).await,
            Ok(event) => event,
            Err(error) => {
                self.change(|state| {
                    state.received.push(value);
                    state.errors.push(format!("unknown_parameter: {error}"));
                });
                return self.send(failure("invalid_request_error", "unknown_parameter", &event_id)).await;
            }
        };
        let answers = self.with(|state| {
            state.received.push(value);
            state.on_event(event, &self.options)
        });
        match answers {
            Ok(answers) => {
                let created = answers.iter().find(|it| it["type"] == "response.created").cloned();
                for answer in answers {
                    self.send(answer).await;
                }
                if created.is_some() {
                    let wish = self.state().received.last().and_then(wished).unwrap_or_else(|| "Very well.".to_owned());
                    self.reply(&wish).await;
                }
            }
            Err(code) => {
                self.change(|state| match code {
                    "conversation_already_has_active_response" | "response_cancel_not_active" => state.collisions += 1,
                    _ => state.errors.push(code.to_owned()),
                });
                self.send(failure("invalid_request_error", code, &event_id)).await;
            }
        }
    }

    async fn on_append(&self, audio: &str) {
        let bytes = BASE64.decode(audio).unwrap_or_default();
        let is_right = !bytes.is_empty();
        self.change(|state| {
            state.appends += 1;
            state.heard.extend(bytes);
            if !is_right {
                state.errors.push("invalid_audio".to_owned());
            }
        });
        if !is_right {
            self.send(failure("invalid_request_error", "invalid_audio", &Value::Null)).await;
        }
    }
}

impl State {
    fn on_event(&mut self, event: ClientEvent, options: &Options) -> Result<Vec<Value>, &'static str> {
        match event {
            // Handled before, because it has no answer.
            ClientEvent::Append { .. } => Ok(vec![]),
            ClientEvent::SessionUpdate { session, .. } => self.on_session(*session, options),
            ClientEvent::Commit { .. } if self.heard.is_empty() => Err("input_audio_buffer_commit_empty"),
            ClientEvent::Commit { .. } => Ok(vec![json!({ "type": "input_audio_buffer.committed" })]),
            ClientEvent::Clear { .. } => Ok(vec![json!({ "type": "input_audio_buffer.cleared" })]),
            ClientEvent::ItemCreate { item, .. } => self.on_item(&item),
            ClientEvent::ItemTruncate { item_id, content_index, audio_end_ms, .. } => {
                let generated = self.spoken_ms.get_mut(&item_id).ok_or("item_truncate_invalid_item_id")?;
                if content_index != 0 || audio_end_ms > *generated {
                    return Err("item_truncate_invalid_audio_end_ms");
                }
                *generated = audio_end_ms;
                Ok(vec![json!({ "type": "conversation.item.truncated", "item_id": item_id,
                    "content_index": 0, "audio_end_ms": audio_end_ms })])
            }
            ClientEvent::ItemDelete { item_id, .. } => {
                self.spoken_ms.remove(&item_id).ok_or("item_delete_invalid_item_id")?;
                Ok(vec![json!({ "type": "conversation.item.deleted", "item_id": item_id })])
            }
            ClientEvent::ResponseCreate { .. } if self.active.is_some() => {
                Err("conversation_already_has_active_response")
            }
            ClientEvent::ResponseCreate { response, .. } => {
                let metadata = response.and_then(|it| it.metadata);
                if metadata
                    .as_ref()
                    .is_some_and(|it| it.len() > 16 || it.iter().any(|(k, v)| k.len() > 64 || v.len() > 512))
                {
                    return Err("invalid_metadata");
                }
                Ok(vec![self.begin(json!(metadata))])
            }
            ClientEvent::ResponseCancel { response_id, .. } => match &self.active {
                None => Err("response_cancel_not_active"),
                Some(active) if response_id.as_ref().is_some_and(|id| id != active) => {
                    Err("response_cancel_not_active")
                }
                Some(_) => {
                    let details = json!({ "type": "cancelled", "reason": "client_cancelled" });
                    Ok(self.end("cancelled", details).into_iter().collect())
                }
            },
        }
    }

    fn on_session(&mut self, session: SessionUpdate, options: &Options) -> Result<Vec<Value>, &'static str> {
        if options.is_mute {
            return Ok(vec![]);
        }
        if let Some(param) = options.refuses {
            return Ok(vec![json!({ "type": "error", "error": { "type": "invalid_request_error",
                "code": "invalid_value", "message": "no such thing", "param": param, "event_id": null } })]);
        }
        if session.model.is_some() {
            return Err("cannot_update_model");
        }
        if session.output_modalities.as_ref().is_some_and(|it| it.len() != 1) {
            return Err("invalid_modalities");
        }
        let tools = session.tools.unwrap_or_default();
        if tools.iter().any(|tool| tool.name.is_empty() || tool.name.len() > 64 || tool.parameters["type"] != "object")
        {
            return Err("invalid_tool");
        }
        if let Some(detection) = session.audio.and_then(|it| it.input).and_then(|it| it.turn_detection) {
            self.is_interrupting = match detection {
                TurnDetection::ServerVad { interrupt_response, .. }
                | TurnDetection::SemanticVad { interrupt_response, .. } => interrupt_response.unwrap_or(true),
            };
        }
        let effective = json!({ "type": "realtime", "id": "sess_1", "model": self.model, "audio": {
            "input": { "format": { "type": "audio/pcmu" } }, "output": { "format": { "type": "audio/pcmu" } } } });
        Ok(vec![json!({ "type": "session.updated", "session": effective })])
    }

    fn on_item(&mut self, item: &NewItem) -> Result<Vec<Value>, &'static str> {
        let shown = match item {
            NewItem::FunctionCallOutput { call_id, output } => {
                if !self.open_calls.remove(call_id) {
                    return Err("item_create_unknown_call_id");
                }
                json!({ "type": "function_call_output", "call_id": call_id, "output": output })
            }
            NewItem::Message { role, content } => {
                let is_right = content.len() == 1
                    && match (role, &content[0]) {
                        (Role::User | Role::System, Content::InputText { text })
                        | (Role::Assistant, Content::OutputText { text }) => !text.is_empty(),
                        _ => false,
                    };
                if !is_right {
                    return Err("item_create_invalid_content");
                }
                json!({ "type": "message" })
            }
        };
        let mut shown = shown;
        shown["id"] = self.id("item").into();
        shown["status"] = "completed".into();
        let message = |kind: &str| json!({ "type": kind, "previous_item_id": null, "item": shown });
        Ok(vec![message("conversation.item.added"), message("conversation.item.done")])
    }

    fn begin(&mut self, metadata: Value) -> Value {
        let id = self.id("resp");
        self.active = Some(id.clone());
        self.output.clear();
        self.metadata = metadata.clone();
        json!({ "type": "response.created", "response": { "object": "realtime.response", "id": id,
            "status": "in_progress", "status_details": null, "output": [], "metadata": metadata, "usage": null } })
    }

    fn end(&mut self, status: &str, details: Value) -> Option<Value> {
        let id = self.active.take()?;
        Some(json!({ "type": "response.done", "response": { "object": "realtime.response", "id": id, "status": status,
            "status_details": details, "output": std::mem::take(&mut self.output),
            "metadata": std::mem::take(&mut self.metadata),
            "usage": { "total_tokens": 30, "input_tokens": 20, "output_tokens": 10,
                "input_token_details": { "text_tokens": 15, "audio_tokens": 5, "image_tokens": 0, "cached_tokens": 0 },
                "output_token_details": { "text_tokens": 2, "audio_tokens": 8 } } } }))
    }

    fn speak(&mut self, item: &str, ms: u64, transcript: &str) -> Vec<Value> {
        let Some(response) = self.active.clone() else { return vec![] };
        let before = self.spoken_ms.get(item).copied().unwrap_or(0);
        self.spoken_ms.insert(item.to_owned(), before + ms);
        let message = |kind: &str, key: &str, value: String| {
            let mut message = json!({ "type": format!("response.{kind}"), "response_id": response, "item_id": item,
                "output_index": 0, "content_index": 0 });
            message[key] = value.into();
            message
        };
        let mut messages = vec![message("output_audio_transcript.delta", "delta", transcript.to_owned())];
        for chunk in sound(before, ms).chunks(8 * 1000) {
            messages.push(message("output_audio.delta", "delta", BASE64.encode(chunk)));
        }
        let mut done = message("output_audio.done", "x", String::new());
        done.as_object_mut().expect("built above").remove("x");
        messages.push(done);
        messages.push(message("output_audio_transcript.done", "transcript", transcript.to_owned()));
        messages
    }

    fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}_{}", self.ids)
    }
}

/// The sound of an utterance from a millisecond on: eight equal octets per millisecond that count up, so that a test
/// sees a gap or a repetition.
pub(crate) fn sound(from_ms: u64, ms: u64) -> Vec<u8> {
    (from_ms..from_ms + ms).flat_map(|ms| [(ms % 251) as u8; 8]).collect()
}

/// Waits for something that must come soon.
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), work).await {
        Ok(done) => done,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

fn failure(kind: &str, code: &str, event_id: &Value) -> Value {
    json!({ "type": "error", "error": { "type": kind, "code": code, "message": "as the test wants it",
        "param": null, "event_id": event_id } })
}

/// The words that a `response.create` wants to be said exactly.
fn wished(message: &Value) -> Option<String> {
    let instructions = message["response"]["instructions"].as_str()?;
    serde_json::from_str(&instructions[instructions.find('"')?..]).ok()
}

// What a client may say. Fields are there to be refused when they are not; few are looked at.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
enum ClientEvent {
    #[serde(rename = "session.update")]
    SessionUpdate { event_id: Option<String>, session: Box<SessionUpdate> },
    #[serde(rename = "input_audio_buffer.append")]
    Append { event_id: Option<String>, audio: String },
    #[serde(rename = "input_audio_buffer.commit")]
    Commit { event_id: Option<String> },
    #[serde(rename = "input_audio_buffer.clear")]
    Clear { event_id: Option<String> },
    #[serde(rename = "conversation.item.create")]
    ItemCreate { event_id: Option<String>, previous_item_id: Option<String>, item: NewItem },
    #[serde(rename = "conversation.item.truncate")]
    ItemTruncate { event_id: Option<String>, item_id: String, content_index: u32, audio_end_ms: u64 },
    #[serde(rename = "conversation.item.delete")]
    ItemDelete { event_id: Option<String>, item_id: String },
    #[serde(rename = "response.create")]
    ResponseCreate { event_id: Option<String>, response: Option<ResponseCreate> },
    #[serde(rename = "response.cancel")]
    ResponseCancel { event_id: Option<String>, response_id: Option<String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct SessionUpdate {
    r#type: Realtime,
    model: Option<String>,
    instructions: Option<String>,
    output_modalities: Option<Vec<Modality>>,
    max_output_tokens: Option<u32>,
    audio: Option<AudioOptions>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<ToolChoice>,
    parallel_tool_calls: Option<bool>,
    reasoning: Option<Reasoning>,
    truncation: Option<Truncation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Realtime {
    Realtime,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Modality {
    Audio,
    Text,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToolChoice {
    None,
    Auto,
    Required,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Truncation {
    Auto,
    Disabled,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct Reasoning {
    effort: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct AudioOptions {
    input: Option<Input>,
    output: Option<Output>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct Input {
    format: Option<Format>,
    noise_reduction: Option<NoiseReduction>,
    transcription: Option<Transcription>,
    turn_detection: Option<TurnDetection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct Output {
    format: Option<Format>,
    voice: Option<Value>,
    speed: Option<f64>,
}

// PCM at 24 kHz exists too; a telephone must not ask for it.
#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum Format {
    #[serde(rename = "audio/pcmu")]
    Pcmu {},
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct NoiseReduction {
    r#type: String,
    strength: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct Transcription {
    model: String,
    language: Option<String>,
    prompt: Option<String>,
    keywords: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
enum TurnDetection {
    ServerVad {
        threshold: Option<f64>,
        prefix_padding_ms: Option<u32>,
        silence_duration_ms: Option<u32>,
        idle_timeout_ms: Option<u32>,
        create_response: Option<bool>,
        interrupt_response: Option<bool>,
    },
    SemanticVad {
        eagerness: Option<String>,
        create_response: Option<bool>,
        interrupt_response: Option<bool>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct Tool {
    r#type: Function,
    name: String,
    description: String,
    parameters: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Function {
    Function,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a field that is listed is allowed; that is its use")]
struct ResponseCreate {
    instructions: Option<String>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<ToolChoice>,
    output_modalities: Option<Vec<Modality>>,
    metadata: Option<HashMap<String, String>>,
    max_output_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum NewItem {
    Message { role: Role, content: Vec<Content> },
    FunctionCallOutput { call_id: String, output: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    User,
    System,
    Assistant,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Content {
    InputText { text: String },
    OutputText { text: String },
}
