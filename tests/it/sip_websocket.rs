//! SIP over WebSocket (RFC 7118), as a browser speaks it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ringback::sip::{ClientCertificates, SipCommand, SipConfig, SipEvent, SipTls, Transport};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::sip_probe::{Gateway, Line, Msg, SDP, until};
use crate::sip_tls::Authority;

struct Browser<S = TcpStream> {
    socket: WebSocketStream<S>,
    pings: usize,
}

impl Browser {
    async fn connect(at: SocketAddr, subprotocol: Option<&'static str>) -> Result<Browser, Error> {
        let mut request = format!("ws://{at}/").into_client_request().unwrap();
        if let Some(name) = subprotocol {
            request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(name));
        }
        let stream = TcpStream::connect(at).await.unwrap();
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
        assert_eq!(response.headers()["sec-websocket-protocol"], "sip");
        Ok(Browser { socket, pings: 0 })
    }
}

impl Browser<TlsStream<TcpStream>> {
    /// Within TLS, to a server that this authority vouches for.
    async fn connect_safely(at: SocketAddr, authority: &Authority) -> Result<Browser<TlsStream<TcpStream>>, Error> {
        let mut request = "wss://gateway.test/".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sip"));
        let config = ClientConfig::builder().with_root_certificates(authority.store()).with_no_client_auth();
        let stream = TcpStream::connect(at).await?;
        let name = ServerName::try_from("gateway.test").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(Browser { socket, pings: 0 })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Browser<S> {
    async fn send(&mut self, message: String) {
        self.socket.send(Message::text(message)).await.unwrap();
    }

    async fn expect(&mut self, start: &str) -> Msg {
        loop {
            let message =
                timeout(Duration::from_secs(10), self.socket.next()).await.expect("a message").unwrap().unwrap();
            match message {
                Message::Text(text) => {
                    let message = Msg::parse(text.as_bytes());
                    assert!(message.start.starts_with(start), "wanted {start}, got:\n{}", message.text);
                    return message;
                }
                Message::Ping(_) => self.pings += 1,
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn gateway() -> (Gateway, SocketAddr) {
    let ws = vec!["127.0.0.1:0".parse().unwrap()];
    let keep_alive = Duration::from_millis(100);
    let gateway = Gateway::with(SipConfig { ws, keep_alive, ..SipConfig::default() }).await;
    let at = gateway.at(Transport::Ws);
    (gateway, at)
}

/// A browser knows no address of its own, so it makes a name up (RFC 7118 §5).
fn line(at: SocketAddr) -> Line {
    Line { transport: "WS", ..Line::new("127.0.0.1:9".parse().unwrap(), at) }
}

fn unreachable(message: String) -> String {
    message.replace("WS 127.0.0.1:9;", "WS df7jal23ls0d.invalid;")
}

const CONTACT: &str = "Contact: <sip:ada@df7jal23ls0d.invalid;transport=ws>\r\n";

#[tokio::test]
async fn a_browser_calls_and_is_hung_up_on_its_own_connection() {
    let (mut gateway, at) = gateway().await;
    let mut browser = Browser::connect(at, Some("mqtt, sip")).await.unwrap();
    let mut line = line(at);
    browser.send(unreachable(line.request("INVITE", 1, "z9hG4bKinvite1", CONTACT, SDP))).await;
    browser.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, invite } = gateway.event().await else { panic!() };
    assert_eq!(invite.transport, Transport::Ws);
    gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
    let ok = browser.expect("SIP/2.0 200").await;
    assert_eq!(ok.uri("contact"), format!("sip:ringback@{at};transport=ws"));
    line.learn(&ok);
    browser.send(unreachable(line.request("ACK", 1, "z9hG4bKack1", CONTACT, ""))).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));

    gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;

    let bye = browser.expect("BYE sip:ada@df7jal23ls0d.invalid;transport=ws").await;
    assert!(bye.header("via").starts_with(&format!("SIP/2.0/WS {at};")));
    browser.send(bye.response("200 OK", "", "", "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ended { .. }));
    drop(browser);
    until("no connection is left", || gateway.sip.counters().connections == 0).await;
}

#[tokio::test]
async fn a_browser_calls_within_tls_and_hangs_up() {
    ringback::services::tls::install();
    let (authority, stranger) = (Authority::new(), Authority::new());
    // Browsers have no certificates of their own, whatever other peers must show.
    let tls = SipTls {
        identity: Some(authority.card(&["gateway.test"]).identity()),
        client_certificates: ClientCertificates::Require,
        client_ca: Some(stranger.pem.clone().into_bytes()),
        ..SipTls::default()
    };
    let wss = vec!["127.0.0.1:0".parse().unwrap()];
    let mut gateway = Gateway::with(SipConfig { wss, tls, ..SipConfig::default() }).await;
    let at = gateway.at(Transport::Wss);
    let safe = |message: String| message.replace("WS 127.0.0.1:9;", "WSS df7jal23ls0d.invalid;");
    assert!(Browser::connect_safely(at, &stranger).await.is_err(), "it must prove its name");

    let mut browser = Browser::connect_safely(at, &authority).await.unwrap();
    let mut line = line(at);
    browser.send(safe(line.request("INVITE", 1, "z9hG4bKinvite1", CONTACT, SDP))).await;
    browser.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, invite } = gateway.event().await else { panic!() };
    gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
    let ok = browser.expect("SIP/2.0 200").await;
    line.learn(&ok);
    browser.send(safe(line.request("ACK", 1, "z9hG4bKack1", CONTACT, ""))).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));
    browser.send(safe(line.request("BYE", 2, "z9hG4bKbye", CONTACT, ""))).await;
    browser.expect("SIP/2.0 200").await;

    assert_eq!(invite.transport, Transport::Wss);
    // RFC 7118 §8: `ws` in URIs, for both; the Via says which.
    assert!(ok.uri("contact").starts_with(&format!("sip:ringback@{at};transport=ws")), "{}", ok.text);
    assert!(matches!(gateway.event().await, SipEvent::Ended { .. }));
    drop(browser);
    until("no connection is left", || gateway.sip.counters().connections == 0).await;
}

#[tokio::test]
async fn nobody_is_served_without_the_subprotocol() {
    let (gateway, at) = gateway().await;

    for offered in [None, Some("chat"), Some("sipx, xsip")] {
        let refused = Browser::connect(at, offered).await.err().expect("a refusal");
        assert!(matches!(refused, Error::Http(response) if response.status() == 400), "{offered:?}");
    }

    until("each is counted", || gateway.sip.counters().handshakes_failed == 3).await;
}

#[tokio::test]
async fn a_browser_is_kept_awake_and_a_broken_one_is_cut_off() {
    let (gateway, at) = gateway().await;
    let mut browser = Browser::connect(at, Some("sip")).await.unwrap();
    while browser.pings < 3 {
        let message = timeout(Duration::from_secs(10), browser.socket.next()).await.expect("a ping").unwrap().unwrap();
        browser.pings += usize::from(message.is_ping());
    }
    // Two messages in one, which RFC 7118 §5 does not allow.
    let options = unreachable(line(at).request("OPTIONS", 1, "z9hG4bKtwice", CONTACT, ""));
    browser.send(options.repeat(2)).await;

    until("it is cut off", || gateway.sip.counters().connections == 0).await;

    assert_eq!(gateway.sip.counters().garbage, 1);
    assert_eq!(gateway.sip.counters().requests, 0);
}

#[tokio::test]
async fn a_browser_that_says_nothing_is_forgotten() {
    let (gateway, at) = gateway().await;
    // It never reads, so that no pong leaves.
    let _browser = Browser::connect(at, Some("sip")).await.unwrap();
    until("it is known", || gateway.sip.counters().connections == 1).await;

    until("it is forgotten", || gateway.sip.counters().connections == 0).await;
}
