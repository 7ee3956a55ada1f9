//! A real browser on the page that the gateway serves: Chromium, with a tone for a microphone, driven and listened to by
//! its own protocol for developers.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::caller::tone_in;
use crate::house::House;
use crate::rig::{Program, shared, write_tone};
use crate::webrtc_calls::open;

#[allow(
    clippy::await_holding_lock,
    reason = "it keeps other tests off the machine; nobody in this runtime waits for it"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_hears_itself_and_ends_its_call_by_closing_the_tab() {
    let _shared = shared();
    let house = open("access = \"open\"").await;
    let chromium = Chromium::start(&house).await;
    let mut first = chromium.tab(&house).await;
    let mut second = chromium.tab(&house).await;

    for tab in [&mut first, &mut second] {
        tab.call().await;
        let heard = tab.listen().await;
        let (rate, samples) = heard;
        let (from, to) = tone_in(&samples, TONE, rate).expect("its own tone comes back");
        assert!(to - from >= 800, "{from} to {to} ms of a second");
    }
    let (one, two) = (first.stats().await, second.stats().await);
    for stats in [&one, &two] {
        assert!(stats["sent"].as_u64() > Some(50) && stats["received"].as_u64() > Some(50), "{stats}");
        assert_eq!(stats["codec"], "audio/opus", "{stats}");
        assert_eq!(stats["dtls"], "connected");
    }
    assert_eq!(one["port"], two["port"], "both on one port");
    assert_eq!(house.gateway.calls(), 2);

    let closed = Instant::now();
    first.close(&chromium).await;
    ended(&house, 1).await;
    let clean = closed.elapsed();
    assert!(clean < Duration::from_secs(5), "a closed tab ends its call at once: {clean:?}");
    let killed = Instant::now();
    drop(chromium);
    ended(&house, 0).await;
    let lost = killed.elapsed();
    assert!(lost < Duration::from_secs(25), "a browser that is gone is noticed: {lost:?}");
    println!("closed tab: {clean:?}; killed browser: {lost:?}");

    house.gateway.drain(Duration::from_secs(1)).await;
    let reasons: Vec<String> =
        house.gateway.store().calls(10).await.unwrap().into_iter().map(|call| call.end_reason).collect();
    assert!(reasons.contains(&"normal".to_owned()), "{reasons:?}");
}

async fn ended(house: &House, left: usize) {
    let until = Instant::now() + Duration::from_secs(40);
    while house.gateway.calls() != left {
        assert!(Instant::now() < until, "the call ends");
        tokio::task::yield_now().await;
    }
}

struct Chromium {
    devtools: String,
    _program: Program,
    _folder: TempDir,
}

impl Chromium {
    async fn start(house: &House) -> Chromium {
        let folder = tempfile::tempdir().unwrap();
        let microphone = folder.path().join("microphone.wav");
        write_tone(&microphone, TONE, 5_000, 48_000);
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--remote-debugging-port=0",
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            "--allow-loopback-in-peer-connection",
            "--autoplay-policy=no-user-gesture-required",
        ]);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg(format!("--use-file-for-fake-audio-capture={}", microphone.display()));
        command.arg(format!("http://{}/call", house.gateway.whip_addr().unwrap()));
        let program = Program::start_group(command);
        let port = folder.path().join("profile/DevToolsActivePort");
        let until = Instant::now() + Duration::from_secs(30);
        let devtools = loop {
            let written = std::fs::read_to_string(&port).unwrap_or_default();
            if let Some((port, _)) = written.split_once('\n') {
                break format!("http://127.0.0.1:{port}");
            }
            assert!(Instant::now() < until, "chromium starts; ./test installs it");
            tokio::task::yield_now().await;
        };
        Chromium { devtools, _program: program, _folder: folder }
    }

    /// A new tab on the gateway's page.
    async fn tab(&self, house: &House) -> Tab {
        let page = format!("http://{}/call", house.gateway.whip_addr().unwrap());
        let request = reqwest::Client::new().put(format!("{}/json/new?{page}", self.devtools));
        let opened: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
        let url = opened["webSocketDebuggerUrl"].as_str().unwrap();
        let (socket, _) = connect_async(url).await.unwrap();
        let mut tab = Tab { id: opened["id"].as_str().unwrap().to_owned(), socket, asked: 0 };
        tab.until("location.pathname === '/call' && document.readyState === 'complete'").await;
        tab
    }
}

struct Tab {
    id: String,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u64,
}

impl Tab {
    /// Presses "Call" and waits until somebody is there.
    async fn call(&mut self) {
        // What the page does is watched, and the microphone is taken as it is: an echo is what this is about.
        self.run(
            "const take = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
             navigator.mediaDevices.getUserMedia = () => take({ audio: {
               echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
             window.peers = [];
             window.RTCPeerConnection = class extends RTCPeerConnection {
               constructor(...with_) { super(...with_); window.peers.push(this); }
             };
             document.getElementById('called').value = '100';
             document.getElementById('form').requestSubmit(); 0",
        )
        .await;
        self.until("document.getElementById('state').textContent === 'Connected.'").await;
        self.until("document.getElementById('audio').srcObject !== null").await;
    }

    /// A second of what it hears: the rate and the samples.
    async fn listen(&mut self) -> (usize, Vec<i16>) {
        let heard = self
            .run(
                "new Promise((done) => {
                   const context = new AudioContext();
                   const source = context.createMediaStreamSource(document.getElementById('audio').srcObject);
                   const tap = context.createScriptProcessor(4096, 1, 1);
                   const heard = [];
                   let skip = context.sampleRate;
                   tap.onaudioprocess = ({ inputBuffer }) => {
                     const samples = inputBuffer.getChannelData(0);
                     if (skip > 0) { skip -= samples.length; return; }
                     for (const sample of samples) heard.push(Math.round(sample * 32767));
                     if (heard.length >= context.sampleRate) {
                       tap.onaudioprocess = null;
                       done({ rate: context.sampleRate, heard: heard.slice(0, context.sampleRate) });
                     }
                   };
                   source.connect(tap); tap.connect(context.destination);
                 })",
            )
            .await;
        let samples = heard["heard"].as_array().unwrap().iter();
        let samples = samples.map(|sample| i16::try_from(sample.as_i64().unwrap()).unwrap_or(i16::MAX)).collect();
        (usize::try_from(heard["rate"].as_u64().unwrap()).unwrap(), samples)
    }

    /// What the browser itself counts.
    async fn stats(&mut self) -> Value {
        self.run(
            "(async () => {
               const all = [...(await window.peers[0].getStats()).values()];
               const of = (type) => all.find((one) => one.type === type) ?? {};
               const transport = of('transport');
               const pair = all.find((one) => one.id === transport.selectedCandidatePairId) ?? {};
               const remote = all.find((one) => one.id === pair.remoteCandidateId) ?? {};
               return { sent: of('outbound-rtp').packetsSent, received: of('inbound-rtp').packetsReceived,
                 codec: of('codec').mimeType, port: remote.port, dtls: transport.dtlsState };
             })()",
        )
        .await
    }

    async fn close(self, chromium: &Chromium) {
        let closed = reqwest::get(format!("{}/json/close/{}", chromium.devtools, self.id)).await.unwrap();
        assert!(closed.status().is_success());
    }

    async fn until(&mut self, condition: &str) {
        let wait = format!(
            "new Promise((done, failed) => {{
               const end = performance.now() + 20000;
               const look = () => ({condition}) ? done(true)
                 : performance.now() > end ? failed(new Error(document.body?.innerText)) : setTimeout(look, 20);
               look();
             }})"
        );
        self.run(&wait).await;
    }

    /// Runs a script in the page and returns what it comes to.
    async fn run(&mut self, script: &str) -> Value {
        self.asked += 1;
        let parameters =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let ask = json!({ "id": self.asked, "method": "Runtime.evaluate", "params": parameters });
        self.socket.send(Message::text(ask.to_string())).await.unwrap();
        loop {
            let message = tokio::time::timeout(Duration::from_secs(40), self.socket.next()).await.expect("an answer");
            let Message::Text(text) = message.unwrap().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.asked {
                let result = &answer["result"];
                assert!(result["exceptionDetails"].is_null(), "{}", result["exceptionDetails"]);
                return result["result"]["value"].clone();
            }
        }
    }
}

/// In Hz.
const TONE: f64 = 500.0;
