//! A peer for SIP tests that writes every octet itself, and checks each message it gets with an independent parser.

use std::net::SocketAddr;
use std::time::Duration;

use ringback::sip::{Sip, SipConfig, SipEvent, SipTimers, Transport};
use rsip::prelude::{HeadersExt, ToTypedHeader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Long enough for a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const SDP: &str = "v=0\r\no=- 7 7 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
    a=ptime:20\r\na=sendrecv\r\n";

pub(crate) struct Gateway {
    pub(crate) sip: Sip,
    pub(crate) events: mpsc::Receiver<SipEvent>,
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
}

impl Gateway {
    /// With the usual timers: nothing is repeated while a test looks away for less than half a second.
    pub(crate) async fn new() -> Gateway {
        Gateway::with(SipConfig::default()).await
    }

    /// With T1 so short that 64·T1 can be waited for.
    pub(crate) async fn hasty(t1_ms: u64) -> Gateway {
        let t1 = Duration::from_millis(t1_ms);
        let timers = SipTimers { t1, t2: t1 * 4, t4: t1 * 5 };
        Gateway::with(SipConfig { timers, ..SipConfig::default() }).await
    }

    pub(crate) async fn with(config: SipConfig) -> Gateway {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let udp = if config.udp.is_empty() { vec![any] } else { config.udp.clone() };
        let (sip, events) = Sip::bind(SipConfig { udp, tcp: vec![any], ..config }).await.unwrap();
        let at = |wanted| sip.local_addrs().into_iter().find(|(_, transport)| *transport == wanted).unwrap().0;
        let (udp, tcp) = (at(Transport::Udp), at(Transport::Tcp));
        Gateway { sip, events, udp, tcp }
    }

    /// Its first listener of a kind.
    pub(crate) fn at(&self, wanted: Transport) -> SocketAddr {
        self.sip.local_addrs().into_iter().find(|(_, transport)| *transport == wanted).unwrap().0
    }

    pub(crate) async fn event(&mut self) -> SipEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the gateway lives")
    }

    /// Nothing more is told. The barrier is a request that is answered after everything before it.
    pub(crate) async fn assert_quiet(&mut self, peer: &Peer) {
        peer.send(Line::new(peer.at, peer.gateway).request("OPTIONS", 1, "z9hG4bKbarrier", "", "")).await;
        peer.expect("SIP/2.0 200").await;
        assert!(self.events.try_recv().is_err(), "an event nobody expected");
    }
}

/// Waits until something holds, by asking again and again.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let asking = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A UDP peer.
pub(crate) struct Peer {
    pub(crate) socket: UdpSocket,
    pub(crate) at: SocketAddr,
    pub(crate) gateway: SocketAddr,
}

impl Peer {
    pub(crate) async fn of(gateway: SocketAddr) -> Peer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Peer { at: socket.local_addr().unwrap(), socket, gateway }
    }

    pub(crate) async fn send(&self, message: impl AsRef<[u8]>) {
        self.socket.send_to(message.as_ref(), self.gateway).await.unwrap();
    }

    pub(crate) async fn recv(&self) -> Msg {
        let mut buffer = vec![0; 65536];
        let (length, _) = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await.expect("a message").unwrap();
        Msg::parse(&buffer[..length])
    }

    /// The next message, which must begin like this.
    pub(crate) async fn expect(&self, start: &str) -> Msg {
        let message = self.recv().await;
        assert!(message.start.starts_with(start), "wanted {start}, got:\n{}", message.text);
        message
    }

    /// The next message, if one comes within this time.
    pub(crate) async fn next_within(&self, during: Duration) -> Option<Msg> {
        let mut buffer = vec![0; 65536];
        let (length, _) = timeout(during, self.socket.recv_from(&mut buffer)).await.ok()?.unwrap();
        Some(Msg::parse(&buffer[..length]))
    }

    /// The next message that begins like this; others are passed over.
    pub(crate) async fn find(&self, start: &str) -> Msg {
        loop {
            let message = self.recv().await;
            if message.start.starts_with(start) {
                return message;
            }
        }
    }

    /// Nothing arrives for this long.
    pub(crate) async fn assert_silent(&self, during: Duration) {
        let mut buffer = [0; 65536];
        let got = timeout(during, self.socket.recv_from(&mut buffer)).await;
        assert!(
            got.is_err(),
            "a message nobody expected:\n{}",
            String::from_utf8_lossy(&buffer[..got.unwrap().unwrap().0])
        );
    }
}

/// A peer on a stream, from either end of the connection.
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
    /// Line ends between messages, whatever they are worth.
    pub(crate) line_ends: usize,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) async fn to(gateway: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect(gateway).await.unwrap())
    }

    pub(crate) async fn accept(listener: &TcpListener) -> Wire {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.expect("a connection").unwrap();
        Wire::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(stream: S) -> Wire<S> {
        Wire { stream, line_ends: 0, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, message: impl AsRef<[u8]>) {
        self.stream.write_all(message.as_ref()).await.unwrap();
    }

    pub(crate) async fn expect(&mut self, start: &str) -> Msg {
        let message = self.next().await.unwrap_or_else(|| panic!("the connection was closed instead of {start}"));
        assert!(message.start.starts_with(start), "wanted {start}, got:\n{}", message.text);
        message
    }

    /// The next message, or `None` when the other side closes the connection first.
    pub(crate) async fn next(&mut self) -> Option<Msg> {
        loop {
            self.skip_line_ends();
            if let Some(end) = self.whole() {
                let octets: Vec<u8> = self.buffer.drain(..end).collect();
                return Some(Msg::parse(&octets));
            }
            let mut chunk = [0; 4096];
            let length = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("a message").unwrap_or(0);
            if length == 0 {
                return None;
            }
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }

    /// Waits for line ends, as an answer to a ping.
    pub(crate) async fn expect_line_ends(&mut self, wanted: usize) {
        loop {
            self.skip_line_ends();
            if self.line_ends >= wanted {
                return;
            }
            let mut chunk = [0; 64];
            let length = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("a line end").unwrap();
            assert!(length > 0, "the connection was closed instead");
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }

    fn skip_line_ends(&mut self) {
        while self.buffer.starts_with(b"\r\n") {
            self.buffer.drain(..2);
            self.line_ends += 1;
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The other side closes the connection, whatever it says before.
    pub(crate) async fn assert_closed(&mut self) {
        let mut chunk = [0; 4096];
        while timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("an end").unwrap_or(0) > 0 {}
    }

    fn whole(&self) -> Option<usize> {
        let head = self.buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>().unwrap();
        (self.buffer.len() >= head + length).then_some(head + length)
    }
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Msg {
    pub(crate) text: String,
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Msg {
    pub(crate) fn parse(octets: &[u8]) -> Msg {
        let text = String::from_utf8_lossy(octets).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no end of headers:\n{text}"));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let headers = lines
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no header: {line}")))
            .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
            .collect();
        let message = Msg { start, headers, body: body.to_owned(), text: text.clone() };
        message.must_pass_a_second_parser(octets);
        message
    }

    /// rsip is strict where ours is tolerant: it knows no compact names, no folding and no Latin-1. Those are echoed
    /// from what a test sent, so such messages are excused; all others must satisfy it.
    fn must_pass_a_second_parser(&self, octets: &[u8]) {
        let is_echo_of_something_odd = std::str::from_utf8(octets).is_err()
            || self.text.contains("\r\n ")
            || self.text.contains("\r\n\t")
            || self.headers.iter().any(|(name, _)| name.len() == 1)
            // It takes no IPv6 references in URIs either.
            || self.text.contains("[")
            || self.start.contains("tel:")
            || ["via", "from", "to", "call-id", "cseq"].iter().any(|name| self.all(name).is_empty());
        if is_echo_of_something_odd {
            return;
        }
        let message = rsip::SipMessage::try_from(octets).unwrap_or_else(|error| panic!("{error}:\n{}", self.text));
        if self.headers.iter().any(|(name, value)| name == "x-odd" || value.contains("odd")) {
            return;
        }
        message.via_header().unwrap().typed().unwrap_or_else(|error| panic!("Via: {error}:\n{}", self.text));
        message.from_header().unwrap().typed().unwrap_or_else(|error| panic!("From: {error}:\n{}", self.text));
        message.to_header().unwrap().typed().unwrap_or_else(|error| panic!("To: {error}:\n{}", self.text));
        // Nor methods that it has never heard of.
        if self.status() == 405 {
            return;
        }
        message.cseq_header().unwrap().typed().unwrap_or_else(|error| panic!("CSeq: {error}:\n{}", self.text));
        if let Ok(contact) = message.contact_header() {
            contact.typed().unwrap_or_else(|error| panic!("Contact: {error}:\n{}", self.text));
        }
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.all(name).first().unwrap_or_else(|| panic!("no {name} in:\n{}", self.text))
    }

    pub(crate) fn status(&self) -> u16 {
        self.start.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)).and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn tag(&self, name: &str) -> Option<String> {
        self.header(name).split(";tag=").nth(1).map(|rest| rest.split(';').next().unwrap().to_owned())
    }

    /// The URI within the angle brackets of a header.
    pub(crate) fn uri(&self, name: &str) -> &str {
        self.header(name).split_once('<').unwrap().1.split_once('>').unwrap().0
    }

    /// A response to this request, as a callee writes it.
    pub(crate) fn response(&self, status: &str, tag: &str, extra: &str, body: &str) -> String {
        let mut out = format!("SIP/2.0 {status}\r\n");
        for name in ["via", "record-route", "from", "to", "call-id", "cseq"] {
            for value in self.all(name) {
                let tag = if name == "to" && !value.contains(";tag=") && !tag.is_empty() { tag } else { "" };
                let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
                out += &format!("{name}: {value}{tag}\r\n");
            }
        }
        let content_type = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        out + &format!("{extra}{content_type}Content-Length: {}\r\n\r\n{body}", body.len())
    }
}

/// One dialog as its caller keeps it.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) call_id: String,
    pub(crate) at: SocketAddr,
    pub(crate) gateway: SocketAddr,
    pub(crate) to_tag: Option<String>,
    pub(crate) transport: &'static str,
    /// The From header up to its tag.
    pub(crate) from: String,
}

impl Line {
    pub(crate) fn new(at: SocketAddr, gateway: SocketAddr) -> Line {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let from = "\"Ada\" <sip:+441234@example.com>".to_owned();
        Line { call_id: format!("call{number}@probe"), at, gateway, to_tag: None, transport: "UDP", from }
    }

    pub(crate) fn request(&self, method: &str, cseq: u32, branch: &str, extra: &str, body: &str) -> String {
        let Line { call_id, at, gateway, transport, from, .. } = self;
        let to_tag = self.to_tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
        let contact = if extra.contains("Contact:") { String::new() } else { format!("Contact: <sip:ada@{at}>\r\n") };
        let content_type =
            if body.is_empty() || extra.contains("Content-Type:") { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:desk@{gateway} SIP/2.0\r\nVia: SIP/2.0/{transport} {at};branch={branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: {from};tag=ada\r\nTo: <sip:desk@{gateway}>{to_tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n{contact}{extra}{content_type}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    pub(crate) fn invite(&self) -> String {
        self.request("INVITE", 1, "z9hG4bKinvite1", "", SDP)
    }

    /// Takes the To tag from a response.
    pub(crate) fn learn(&mut self, response: &Msg) {
        self.to_tag = response.tag("to");
    }

    pub(crate) fn ack(&self) -> String {
        self.request("ACK", 1, "z9hG4bKack1", "", "")
    }
}
