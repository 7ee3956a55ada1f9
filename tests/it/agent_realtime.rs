//! A real socket between the agent room and a strict vendor; channels stand for the media worker and the call.

use ringback::agent::{
    AgentCommand, AgentEvent, AgentSpec, Audio, FailedKind, FirstWords, Tally, ToolSpec, Usage, Who, dial,
};
use ringback::model::{Heard, ItemId, Mouth, Pii, Secret, Speech, Voice};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

use crate::realtime_server::{KEY, Options, RealtimeServer, Session, in_time, sound};

#[tokio::test]
async fn the_greeting_is_ready_while_it_rings_and_leaves_at_the_answer() {
    let vendor = RealtimeServer::start().await;
    let mut phone = Phone::dial(spec(&vendor.url()));
    let session = vendor.session().await;
    assert_eq!(phone.event().await, AgentEvent::Ready);
    let update = session.next("session.update").await;

    phone.hear(0..10).await;
    phone.all_taken().await;
    phone.tell(AgentCommand::Start).await;
    let create = session.next("response.create").await;
    assert_eq!(session.state().appends, 0, "nobody is heard before the answer");
    session.speak("item_1", 600, "Good morning.").await;
    session.end_response().await;
    let heard = phone.utterance().await;
    phone.heard.send(Heard::Finished { item: "item_1".into(), heard_ms: 600 }).await.unwrap();

    assert!(create["response"]["instructions"].as_str().unwrap().ends_with("\"Good morning.\""));
    assert_eq!(update["session"]["tools"][0]["name"], "order_status");
    assert_eq!(heard, ("item_1".to_owned(), sound(0, 600)));
    assert_eq!(
        phone.event().await,
        AgentEvent::Usage(Usage {
            input_tokens: 20,
            input_cached_tokens: 0,
            input_audio_tokens: 5,
            output_tokens: 10,
            output_audio_tokens: 8
        })
    );
    assert_eq!(phone.event().await, said(Who::Agent, "Good morning.", false));
    session.assert_no_errors();
}

#[tokio::test]
async fn every_frame_of_the_caller_is_appended_in_order() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;

    // No more at once than may wait for the socket.
    for start in [0, 50, 100] {
        phone.hear(start..start + 50).await;
        session.wait("these frames", |state| state.appends == usize::from(start) + 50).await;
    }
    session.wait("all frames", |state| state.appends == 150).await;

    let expected: Vec<u8> = (0..150).flat_map(|number| [number; 160]).collect();
    assert_eq!(session.state().heard, expected);
    assert_eq!(phone.close().await.frames_sent, 150);
    session.assert_no_errors();
}

#[tokio::test]
async fn barging_in_truncates_at_the_millisecond_that_was_heard() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
    session.begin_response().await;
    session.speak("item_1", 2000, "one two three four").await;
    session.speak("item_2", 500, "five").await;
    assert_eq!(phone.utterance().await.1, sound(0, 2000));
    assert_eq!(phone.utterance().await.1, sound(0, 500));

    session.speech_started(Some(("item_2", 300))).await;
    assert_eq!(phone.mouth.recv().await, Some(Mouth::Stop { epoch: 1 }));
    phone.heard.send(Heard::Stopped { item: Some("item_1".into()), heard_ms: 1100 }).await.unwrap();
    let truncate = session.next("conversation.item.truncate").await;
    let delete = session.next("conversation.item.delete").await;
    session.speech_stopped("Wait!").await;
    session.speak("item_3", 100, "Yes?").await;

    assert_eq!(truncate["audio_end_ms"], 1100);
    assert_eq!(delete["item_id"], "item_2");
    let events = phone.events_until(|event| matches!(event, AgentEvent::Said { who: Who::Caller, .. })).await;
    assert!(events.contains(&AgentEvent::SpeechStarted));
    assert!(events.contains(&AgentEvent::BargedIn { item: "item_1".into(), heard_ms: 1100 }));
    assert!(events.contains(&said(Who::Agent, "one two", true)));
    // The late deltas of the interrupted answer never came: the next sound is of the new one.
    let next = phone.speech.recv().await.unwrap();
    assert_eq!((&*next.item, next.epoch), ("item_3", 1));
    assert_eq!(phone.close().await.late_deltas, 4);
    session.assert_no_errors();
}

#[tokio::test]
async fn a_tool_is_asked_answered_and_spoken_about() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
    session.begin_response().await;
    session.call_function("call_1", "order_status", r#"{"number":"17"}"#).await;
    session.end_response().await;
    let asked = phone.events_until(|event| matches!(event, AgentEvent::Asked { .. })).await.pop().unwrap();

    let output = Pii::new(r#"{"status":"baking"}"#.to_owned());
    phone.tell(AgentCommand::Result { tool_call_id: "call_1".into(), output, respond: true }).await;
    let item = session.next("conversation.item.create").await;
    session.next("response.create").await;

    let arguments = Pii::new(r#"{"number":"17"}"#.to_owned());
    let expected = AgentEvent::Asked { tool_call_id: "call_1".into(), name: "order_status".into(), arguments };
    assert_eq!(asked, expected);
    assert_eq!(item["item"]["output"], r#"{"status":"baking"}"#);
    session.assert_no_errors();
}

#[tokio::test]
async fn a_result_waits_until_the_agent_has_finished_its_sentence() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
    session.begin_response().await;
    session.call_function("call_1", "order_status", "{}").await;
    session.end_response().await;
    phone.events_until(|event| matches!(event, AgentEvent::Asked { .. })).await;
    phone.tell(AgentCommand::Say { text: Pii::new("One moment.".into()) }).await;
    session.next("response.create").await;

    let output = Pii::new("{}".to_owned());
    phone.tell(AgentCommand::Result { tool_call_id: "call_1".into(), output, respond: true }).await;
    session.next("conversation.item.create").await;
    session.end_response().await;
    session.next("response.create").await;

    assert_eq!(session.state().collisions, 0);
    session.assert_no_errors();
}

#[tokio::test]
async fn an_error_does_not_end_the_conversation() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;

    session.fail("overloaded").await;
    session.send_raw("{ this is no JSON").await;
    session.send_raw(r#"{"type":"response.of_tomorrow"}"#).await;
    session.begin_response().await;
    session.speak("item_1", 40, "Still here.").await;

    assert!(matches!(phone.event().await, AgentEvent::Fault { code, .. } if code == "overloaded"));
    assert!(matches!(phone.event().await, AgentEvent::Fault { code, .. } if code == "malformed_message"));
    assert_eq!(phone.utterance().await.1, sound(0, 40));
    let tally = phone.close().await;
    assert_eq!((tally.malformed_messages, tally.unknown_messages), (1, 1));
}

#[tokio::test]
async fn an_unknown_result_is_not_sent() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;

    let output = Pii::new("{}".to_owned());
    phone.tell(AgentCommand::Result { tool_call_id: "call_9".into(), output, respond: true }).await;

    assert!(matches!(phone.event().await, AgentEvent::Fault { code, .. } if code == "tool_call_id"));
    phone.close().await;
    session.wait("the end", |state| state.is_gone).await;
    assert!(session.state().received.iter().all(|it| it["type"] != "conversation.item.create"));
}

#[tokio::test]
async fn a_socket_that_breaks_is_left() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;

    session.drop_socket().await;

    assert!(matches!(phone.event().await, AgentEvent::Left { .. }));
    assert_eq!(phone.events.recv().await, None);
}

#[tokio::test]
async fn a_vendor_that_says_goodbye_is_left() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;

    session.close().await;

    assert!(matches!(phone.event().await, AgentEvent::Left { .. }));
}

#[tokio::test]
async fn nobody_there_is_a_refused_connection() {
    // Taken and given back, so that nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();

    let mut phone = Phone::dial(spec(&format!("ws://127.0.0.1:{port}/v1/realtime")));

    assert_eq!(phone.failed().await, FailedKind::ConnectRefused);
}

#[tokio::test]
async fn a_wrong_key_is_refused_as_such() {
    let vendor = RealtimeServer::start().await;
    for secret in [None, Some(Secret::new("sk-wrong"))] {
        let mut phone = Phone::dial(AgentSpec { secret, ..spec(&vendor.url()) });

        assert_eq!(phone.failed().await, FailedKind::AuthRefused);
    }
}

#[tokio::test]
async fn every_way_not_to_begin_is_told_apart() {
    let status = |status| Options { status: Some(status), ..Options::default() };
    for (options, kind) in [
        (status(403), FailedKind::AuthRefused),
        (status(429), FailedKind::Busy),
        (status(503), FailedKind::Busy),
        (status(404), FailedKind::BadAnswer),
        (Options { refuses: Some("session.audio.output.voice"), ..Options::default() }, FailedKind::SessionRefused),
        (Options { is_mute: true, ..Options::default() }, FailedKind::Timeout),
    ] {
        let vendor = RealtimeServer::start_with(options.clone()).await;
        let mut spec = spec(&vendor.url());
        // Short only where it is waited for.
        spec.settings["connect_timeout_ms"] = if options.is_mute { 300 } else { 10_000 }.into();

        let mut phone = Phone::dial(spec);

        assert_eq!(phone.failed().await, kind, "{options:?}");
        vendor.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_a_bad_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/v1/realtime", listener.local_addr().unwrap());
    let mut phone = Phone::dial(spec(&url));

    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();

    assert_eq!(phone.failed().await, FailedKind::BadAnswer);
}

#[tokio::test]
async fn a_secure_address_is_never_spoken_to_in_the_clear() {
    let vendor = RealtimeServer::start().await;
    let url = vendor.url().replace("ws://", "wss://");

    // The server takes the TLS hello for a broken request.
    assert_eq!(Phone::dial(spec(&url)).failed().await, FailedKind::ConnectRefused);
}

#[tokio::test]
async fn a_prompt_that_changed_while_it_rang_is_the_prompt() {
    let vendor = RealtimeServer::start().await;
    let phone = Phone::dial(spec(&vendor.url()));
    let session = vendor.session().await;

    let instructions = Some(Pii::new("The caller is Ada.".to_owned()));
    let first_words = Some(FirstWords::Agent(Pii::new("Good morning, Ada.".to_owned())));
    phone.tell(AgentCommand::Update { instructions, first_words }).await;
    phone.tell(AgentCommand::Start).await;
    session.next("session.update").await;
    let update = session.next("session.update").await;
    let create = session.next("response.create").await;

    assert_eq!(update["session"], json!({ "type": "realtime", "instructions": "The caller is Ada." }));
    assert!(create["response"]["instructions"].as_str().unwrap().ends_with("\"Good morning, Ada.\""));
    session.assert_no_errors();
}

#[tokio::test]
async fn the_call_knows_when_the_agents_last_word_was_heard() {
    let vendor = RealtimeServer::start_with(Options { speaks_ms: Some(200), ..Options::default() }).await;
    let first_words = FirstWords::Agent(Pii::new("Good morning.".to_owned()));
    let mut phone = Phone::dial(AgentSpec { first_words, ..spec(&vendor.url()) });
    assert_eq!(phone.event().await, AgentEvent::Ready);

    phone.tell(AgentCommand::Start).await;
    assert_eq!(phone.any_event().await, AgentEvent::Speaking);
    let (item, _) = phone.utterance().await;
    let item: ItemId = item.as_str().into();
    phone.heard.send(Heard::Finished { item, heard_ms: 200 }).await.unwrap();

    // Nothing is quiet before the worker says that it was heard.
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(AgentEvent::Quiet { .. })) {
        seen.push(phone.any_event().await);
    }
    assert!(seen.iter().any(|event| matches!(event, AgentEvent::Said { .. })), "{seen:?}");
}

#[tokio::test]
async fn wrong_settings_and_connectors_without_socket_are_not_dialled() {
    let mut wrong = spec("ws://127.0.0.1:9/");
    wrong.settings["voiec"] = "marin".into();
    let echo = AgentSpec { connector: "echo".into(), settings: Value::Null, ..spec("ws://127.0.0.1:9/") };

    for spec in [wrong, echo] {
        assert_eq!(Phone::dial(spec).failed().await, FailedKind::SessionRefused);
    }
}

#[tokio::test]
async fn a_slow_listener_stops_the_reading_and_loses_nothing() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
    // Half an hour of speech as base64 is more than all buffers between here and there hold.
    const MS: u64 = 1_800_000;
    session.begin_response().await;
    session.wait("the client", |state| state.written > 0).await;
    let speaking = async {
        session.speak("item_1", MS, "A long story.").await;
        session.end_response().await;
    };
    let listening = async {
        let written = phone.until_the_vendor_is_stuck(&session).await;
        assert!(written < MS / 1000, "the socket was read although nobody listened");
        assert_eq!(phone.speech.len(), SPEECH_MAX);
        phone.utterance().await
    };

    let ((), (item, sound_heard)) = tokio::join!(speaking, listening);

    assert_eq!(item, "item_1");
    assert!(sound_heard == sound(0, MS), "something was lost or repeated");
    session.assert_no_errors();
}

#[tokio::test]
async fn silence_overtakes_audio_that_waits() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
    session.begin_response().await;
    session.speak("item_1", 60_000, "A story.").await;
    phone.until_the_vendor_is_stuck(&session).await;

    phone.tell(AgentCommand::Interrupt).await;
    assert_eq!(phone.mouth.recv().await, Some(Mouth::Stop { epoch: 1 }));
    phone.heard.send(Heard::Stopped { item: Some("item_1".into()), heard_ms: 120 }).await.unwrap();
    let truncate = session.next("conversation.item.truncate").await;

    assert_eq!(truncate["audio_end_ms"], 120);
    assert_eq!(session.next("response.cancel").await["type"], "response.cancel");
    // The worker has taken nothing since, and yet the socket is read again: what was interrupted is out of the way.
    session.fail("overloaded").await;
    phone.events_until(|event| matches!(event, AgentEvent::Fault { code, .. } if code == "overloaded")).await;
    session.assert_no_errors();
}

#[tokio::test]
async fn a_stalled_socket_loses_the_oldest_of_the_caller_and_counts_it() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let mut phone = Phone::dial(AgentSpec {
        first_words: FirstWords::Caller,
        ..spec(&format!("ws://{}/v1/realtime", listener.local_addr().unwrap()))
    });
    let (stream, _) = listener.accept().await.unwrap();
    let mut vendor = tokio_tungstenite::accept_async(stream).await.unwrap();
    let updated = r#"{"type":"session.updated","session":{}}"#;
    futures_util::SinkExt::send(&mut vendor, tokio_tungstenite::tungstenite::Message::text(updated)).await.unwrap();
    assert_eq!(phone.event().await, AgentEvent::Ready);
    phone.tell(AgentCommand::Start).await;

    // The vendor never reads: some megabytes fit into the kernel, 14 do not.
    const FRAMES: u64 = 50_000;
    for number in 0..FRAMES {
        phone.heard.send(Heard::Frame(Box::new([(number % 256) as u8; 160]))).await.unwrap();
    }
    phone.all_taken().await;
    let tally = phone.close().await;

    assert!(tally.frames_dropped > 0);
    // What was neither sent nor dropped waited for the socket, two seconds at most.
    assert!((FRAMES - 100..=FRAMES).contains(&(tally.frames_sent + tally.frames_dropped)), "{tally:?}");
}

#[tokio::test]
async fn closing_says_goodbye_and_reports_what_was_heard() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
    session.begin_response().await;
    session.speak("item_1", 1000, "one two three four").await;
    session.end_response().await;
    phone.utterance().await;
    phone.hear(0..25).await;
    session.wait("half a second", |state| state.appends == 25).await;

    phone.tell(AgentCommand::Close).await;
    let events = in_time("the end", phone.events_to_the_end()).await;

    assert_eq!(events.last(), Some(&said(Who::Agent, "one two", true)));
    session.wait("the good-bye", |state| state.is_closed_politely).await;
    session.assert_no_errors();
}

#[tokio::test]
async fn a_caller_who_gives_up_while_it_rings_leaves_no_conversation_behind() {
    let vendor = RealtimeServer::start_with(Options { is_mute: true, ..Options::default() }).await;
    let mut phone = Phone::dial(spec(&vendor.url()));
    let session = vendor.session().await;

    phone.tell(AgentCommand::Close).await;

    assert_eq!(in_time("the end", phone.events_to_the_end()).await, []);
    session.wait("the end", |state| state.is_gone).await;
}

#[tokio::test]
async fn a_call_that_is_gone_takes_its_agent_with_it() {
    let vendor = RealtimeServer::start().await;
    let (phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
    let Phone { events, mut tasks, heard: _heard, speech: _speech, mouth: _mouth, commands: _commands } = phone;

    drop(events);

    in_time("the end", tasks.join_next()).await;
    session.wait("the end", |state| state.is_gone).await;
}

#[tokio::test]
async fn a_message_larger_than_any_is_not_swallowed() {
    let vendor = RealtimeServer::start().await;
    let (mut phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;

    session.send_raw(&"x".repeat(3 * 1024 * 1024)).await;

    assert!(matches!(phone.event().await, AgentEvent::Left { .. }));
}

#[tokio::test]
async fn a_vendor_that_answers_by_itself_holds_a_conversation() {
    let vendor = RealtimeServer::start_with(Options { speaks_ms: Some(200), ..Options::default() }).await;
    let words = FirstWords::Agent(Pii::new("Good morning.".to_owned()));
    let (mut phone, session) = Phone::answered(&vendor, words).await;
    let greeting = phone.utterance().await;
    phone.heard.send(Heard::Finished { item: greeting.0.into(), heard_ms: 200 }).await.unwrap();
    phone.events_until(|event| *event == said(Who::Agent, "Good morning.", false)).await;

    session.speech_started(None).await;
    assert_eq!(phone.mouth.recv().await, Some(Mouth::Stop { epoch: 1 }));
    phone.heard.send(Heard::Stopped { item: None, heard_ms: 0 }).await.unwrap();
    session.speech_stopped("Are you open?").await;

    let answer = phone.utterance().await;
    assert_eq!(answer.1, sound(0, 200));
    phone.heard.send(Heard::Finished { item: answer.0.into(), heard_ms: 200 }).await.unwrap();
    phone.events_until(|event| *event == said(Who::Agent, "Yes.", false)).await;
    assert_eq!(session.state().collisions, 0);
    session.assert_no_errors();
}

#[tokio::test]
async fn whatever_happens_in_whatever_order_breaks_no_rule_of_the_vendor() {
    for seed in 1..=40 {
        let vendor = RealtimeServer::start().await;
        let (phone, session) = Phone::answered(&vendor, FirstWords::Caller).await;
        let mut story = Story::new(seed, phone, session.clone());

        for _ in 0..120 {
            story.step().await;
        }
        story.settle().await;

        let state = session.state();
        assert_eq!(state.errors, Vec::<String>::new(), "seed {seed}");
        assert_eq!(story.asked, story.answered, "seed {seed}: every question is asked once, and answered once");
    }
}

/// A conversation in which anything may happen.
struct Story {
    random: u64,
    phone: Phone,
    session: Session,
    epoch: u32,
    /// What the worker has to play: item, milliseconds, whether it is whole.
    queue: Vec<(String, u64, bool)>,
    names: u32,
    asked: u32,
    answered: u32,
    open: Vec<String>,
    is_caller_speaking: bool,
}

impl Story {
    fn new(seed: u64, phone: Phone, session: Session) -> Story {
        Story {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            phone,
            session,
            epoch: 0,
            queue: Vec::new(),
            names: 0,
            asked: 0,
            answered: 0,
            open: Vec::new(),
            is_caller_speaking: false,
        }
    }

    async fn step(&mut self) {
        let text = Pii::new("words".to_owned());
        match self.random(14) {
            0 | 1 => self.session.begin_response().await,
            2 | 3 => {
                let (item, ms) = (self.name("item"), 20 * (1 + self.random(100)));
                self.session.speak(&item, ms, "some words that are said").await;
            }
            4 => {
                let call_id = self.name("call");
                let arguments = if self.random(4) == 0 { "[]" } else { "{}" };
                self.session.call_function(&call_id, "order_status", arguments).await;
            }
            5 | 6 => self.session.end_response().await,
            7 if !self.is_caller_speaking => {
                self.is_caller_speaking = true;
                let item = self.name("item");
                let late = (self.random(2) == 0).then_some((item.as_str(), 60));
                self.session.speech_started(late).await;
            }
            7 | 8 if self.is_caller_speaking => {
                self.is_caller_speaking = false;
                self.session.speech_stopped("something").await;
            }
            9 => self.phone.tell(AgentCommand::Say { text }).await,
            10 => {
                let respond = self.random(2) == 0;
                self.phone.tell(AgentCommand::Inform { text, respond }).await;
            }
            11 => self.phone.tell(AgentCommand::Interrupt).await,
            12 => self.answer().await,
            _ => self.phone.hear(0..5).await,
        }
        for _ in 0..self.random(30) {
            tokio::task::yield_now().await;
        }
        self.play().await;
    }

    /// The worker's part, and the call's ear.
    async fn play(&mut self) {
        while let Ok(event) = self.phone.events.try_recv() {
            match event {
                AgentEvent::Asked { tool_call_id, .. } => {
                    self.asked += 1;
                    self.open.push(tool_call_id);
                }
                AgentEvent::Left { reason } => panic!("left: {reason}"),
                _ => {}
            }
        }
        while let Ok(speech) = self.phone.speech.try_recv() {
            if speech.epoch < self.epoch {
                continue;
            }
            let ms = speech.voice.len() as u64 / 8;
            match self.queue.iter_mut().find(|it| it.0 == *speech.item) {
                Some(known) => (known.1, known.2) = (known.1 + ms, speech.last),
                None => self.queue.push((speech.item.to_string(), ms, speech.last)),
            }
        }
        while let Ok(Mouth::Stop { epoch }) = self.phone.mouth.try_recv() {
            assert!(epoch > self.epoch);
            self.epoch = epoch;
            let front = self.queue.first().cloned().filter(|_| self.random(4) > 0);
            self.queue.clear();
            let item = front.as_ref().map(|it| it.0.as_str().into());
            // A worker may count a frame more than there was.
            let heard_ms = front.map_or(0, |it| self.random(it.1 + 20));
            self.phone.heard.send(Heard::Stopped { item, heard_ms }).await.expect("the agent listens");
        }
        if self.queue.first().is_some_and(|it| it.2) && self.random(3) == 0 {
            let (item, heard_ms, _) = self.queue.remove(0);
            self.phone.heard.send(Heard::Finished { item: item.into(), heard_ms }).await.expect("the agent listens");
        }
    }

    async fn answer(&mut self) {
        if let Some(tool_call_id) = self.open.pop() {
            self.answered += 1;
            let respond = self.random(3) > 0;
            let output = Pii::new("{}".to_owned());
            self.phone.tell(AgentCommand::Result { tool_call_id, output, respond }).await;
        }
    }

    /// Lets everything come to its end, and shows that the agent still speaks when it is told to.
    async fn settle(&mut self) {
        if self.is_caller_speaking {
            self.session.speech_stopped("the end").await;
        }
        let last_words =
            |it: &Value| it["response"]["instructions"].as_str().is_some_and(|it| it.ends_with("\"the end\""));
        let mut is_told = false;
        for _ in 0..100_000 {
            self.session.end_response().await;
            self.answer().await;
            self.play().await;
            self.phone.hear(0..1).await;
            tokio::task::yield_now().await;
            if !is_told && self.open.is_empty() && self.queue.is_empty() {
                is_told = true;
                self.phone.tell(AgentCommand::Say { text: Pii::new("the end".to_owned()) }).await;
            }
            if self.session.state().received.last().is_some_and(last_words) && self.session.state().active.is_some() {
                return;
            }
        }
        panic!("the agent fell silent");
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}_{}", self.names + 1000)
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

/// The call and the media worker of one conversation.
struct Phone {
    heard: Sender<Heard>,
    speech: Receiver<Speech>,
    mouth: Receiver<Mouth>,
    commands: Sender<AgentCommand>,
    events: Receiver<AgentEvent>,
    tasks: JoinSet<Tally>,
}

impl Phone {
    fn dial(spec: AgentSpec) -> Phone {
        let (heard, to_agent) = mpsc::channel(100);
        let (from_agent, speech) = mpsc::channel(SPEECH_MAX);
        let (to_mouth, mouth) = mpsc::channel(8);
        let (commands, to_obey) = mpsc::channel(8);
        let (to_tell, events) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let audio = Audio { heard: to_agent, speech: from_agent, mouth: to_mouth };
        tasks.spawn(dial(spec, audio, to_obey, to_tell));
        Phone { heard, speech, mouth, commands, events, tasks }
    }

    /// A conversation in which the caller is answered.
    async fn answered(vendor: &RealtimeServer, first_words: FirstWords) -> (Phone, Session) {
        let mut phone = Phone::dial(AgentSpec { first_words, ..spec(&vendor.url()) });
        let session = vendor.session().await;
        assert_eq!(phone.event().await, AgentEvent::Ready);
        phone.tell(AgentCommand::Start).await;
        (phone, session)
    }

    async fn tell(&self, command: AgentCommand) {
        self.commands.send(command).await.expect("the agent takes commands");
    }

    async fn hear(&self, numbers: std::ops::Range<u8>) {
        for number in numbers {
            self.heard.send(Heard::Frame(Box::new([number; 160]))).await.expect("the agent listens");
        }
    }

    /// Takes no audio of the agent until nothing moves any more, while the caller is still heard. Returns how many
    /// messages the vendor got rid of.
    async fn until_the_vendor_is_stuck(&self, session: &Session) -> u64 {
        let (mut written, mut still, mut appends) = (0, 0, 0);
        while still < 50 {
            self.hear(0..10).await;
            appends += 10;
            session.wait("the caller", |state| state.appends == appends).await;
            let now = session.state().written;
            still = if now == written { still + 1 } else { 0 };
            written = now;
        }
        written
    }

    /// Waits until the agent has taken every frame.
    async fn all_taken(&self) {
        let all = in_time("the frames to be taken", self.heard.reserve_many(self.heard.max_capacity())).await;
        drop(all.expect("the agent listens"));
    }

    /// The next event that is not about whether the agent speaks.
    async fn event(&mut self) -> AgentEvent {
        loop {
            let event = self.any_event().await;
            if !matches!(event, AgentEvent::Speaking | AgentEvent::Quiet { .. }) {
                return event;
            }
        }
    }

    async fn any_event(&mut self) -> AgentEvent {
        in_time("an event", self.events.recv()).await.expect("the agent is there")
    }

    async fn events_until(&mut self, mut is_last: impl FnMut(&AgentEvent) -> bool) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        while !events.last().is_some_and(&mut is_last) {
            events.push(self.event().await);
        }
        events
    }

    async fn events_to_the_end(&mut self) -> Vec<AgentEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.events.recv().await {
            if !matches!(event, AgentEvent::Speaking | AgentEvent::Quiet { .. }) {
                events.push(event);
            }
        }
        events
    }

    async fn failed(&mut self) -> FailedKind {
        match self.event().await {
            AgentEvent::Failed { kind, .. } => kind,
            other => panic!("expected a failure, got {other:?}"),
        }
    }

    /// One utterance to its end.
    async fn utterance(&mut self) -> (String, Vec<u8>) {
        let mut ulaw = Vec::new();
        loop {
            let speech = in_time("speech", self.speech.recv()).await.expect("the agent is there");
            let Voice::Ulaw(codes) = speech.voice else { panic!("speech in another form than the leg's") };
            ulaw.extend(codes);
            if speech.last {
                return (speech.item.to_string(), ulaw);
            }
        }
    }

    async fn close(&mut self) -> Tally {
        self.tell(AgentCommand::Close).await;
        in_time("the end", self.tasks.join_next()).await.expect("one task").expect("no panic")
    }
}

fn said(who: Who, text: &str, interrupted: bool) -> AgentEvent {
    AgentEvent::Said { who, text: Pii::new(text.to_owned()), interrupted }
}

fn spec(url: &str) -> AgentSpec {
    AgentSpec {
        connector: "openai-realtime".to_owned(),
        settings: json!({ "url": url, "voice": "marin", "turn_detection": { "type": "semantic_vad" } }),
        secret: Some(Secret::new(KEY)),
        instructions: Pii::new("You answer for the bakery.".to_owned()),
        first_words: FirstWords::Agent(Pii::new("Good morning.".to_owned())),
        tools: vec![ToolSpec {
            name: "order_status".to_owned(),
            description: "Where an order is.".to_owned(),
            parameters: json!({ "type": "object", "properties": { "number": { "type": "string" } } }),
        }],
    }
}

/// Pieces of speech the worker takes before it is full.
const SPEECH_MAX: usize = 4;
