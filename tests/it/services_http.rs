//! Web services that behave badly, each on a socket of its own.

use std::io::ErrorKind;
use std::time::Duration;

use ringback::actions::{HttpFailure, HttpReply, HttpRequest, Method, SecretRef};
use ringback::model::{Pii, Secret, limits};
use ringback::services::{Egress, Http, Private, Secrets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::outside::{PATIENCE, http};

/// What a server writes after it has read a request's head, and what it does then.
#[derive(Clone)]
enum Then {
    Close,
    Keep,
    Hang,
    /// With unread data and no linger, which is what a crash looks like.
    Reset,
}

struct Server {
    port: u16,
    heads: mpsc::Receiver<String>,
    connections: mpsc::Receiver<()>,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>, then: Then) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell_head, heads) = mpsc::channel(100);
        let (tell_connection, connections) = mpsc::channel(100);
        let answer = answer.into();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = tell_connection.send(()).await;
                talks.spawn(talk(stream, answer.clone(), then.clone(), tell_head.clone()));
            }
        });
        Server { port, heads, connections, _serving: serving }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/contacts", self.port)
    }

    fn connections(&mut self) -> usize {
        std::iter::from_fn(|| self.connections.try_recv().ok()).count()
    }
}

async fn talk(mut stream: TcpStream, answer: Vec<u8>, then: Then, heads: mpsc::Sender<String>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let _ = heads.send(String::from_utf8_lossy(&head).into_owned()).await;
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        match then {
            Then::Close => return,
            Then::Keep => {}
            Then::Hang => {
                // Until the client goes away.
                let _ = stream.read_u8().await;
                return;
            }
            Then::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
        }
    }
}

fn get(url: &str) -> HttpRequest {
    HttpRequest {
        method: Method::Get,
        url: Pii::new(url.to_owned()),
        headers: Vec::new(),
        body: None,
        bearer: None,
        timeout: PATIENCE,
    }
}

async fn ask(http: &Http, request: &HttpRequest) -> HttpReply {
    http.ask(request, &Secrets::default()).await
}

async fn answer_to(answer: impl Into<Vec<u8>>, then: Then) -> HttpReply {
    let server = Server::start(answer, then).await;
    ask(&http(), &get(&server.url())).await
}

fn answered(status: u16, body: &str) -> HttpReply {
    HttpReply::Answered { status, body: Pii::new(body.to_owned()) }
}

#[tokio::test]
async fn an_html_page_is_text_like_any_other() {
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>oh</html>";

    assert_eq!(answer_to(page, Then::Close).await, answered(200, "<html>oh</html>"));
}

#[tokio::test]
async fn nothing_is_an_empty_answer_and_a_closed_connection_is_none() {
    assert_eq!(answer_to("HTTP/1.1 204 No Content\r\n\r\n", Then::Close).await, answered(204, ""));
    assert_eq!(answer_to("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Close).await, answered(200, ""));
    assert_eq!(answer_to("", Then::Close).await, HttpReply::Failed(HttpFailure::Unreachable));
    assert_eq!(answer_to("", Then::Reset).await, HttpReply::Failed(HttpFailure::Unreachable));
    assert_eq!(answer_to("220 mail.example ESMTP\r\n", Then::Close).await, HttpReply::Failed(HttpFailure::Unreachable));
}

#[tokio::test]
async fn ten_megabytes_are_not_read() {
    let size = 10 * 1024 * 1024;
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
    let body = vec![b'x'; size];
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let chunked = [chunked, format!("{size:x}\r\n").into_bytes(), body].concat();

    // The first server never sends its body: the announcement is enough.
    assert_eq!(answer_to(announced, Then::Hang).await, HttpReply::Failed(HttpFailure::TooLarge));
    assert_eq!(answer_to(chunked, Then::Hang).await, HttpReply::Failed(HttpFailure::TooLarge));
}

#[tokio::test]
async fn the_longest_answer_allowed_is_read_whole() {
    for (more, fits) in [(0, true), (1, false)] {
        let body = "x".repeat(limits::API_BODY_MAX + more);

        let reply = answer_to(format!("HTTP/1.1 200 OK\r\n\r\n{body}"), Then::Close).await;

        assert_eq!(reply == answered(200, &body), fits);
        assert_eq!(reply == HttpReply::Failed(HttpFailure::TooLarge), !fits);
    }
}

#[tokio::test]
async fn a_server_that_hangs_anywhere_is_a_timeout() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"name\":"] {
        let server = Server::start(answer, Then::Hang).await;
        let request = HttpRequest { timeout: Duration::from_millis(100), ..get(&server.url()) };

        let reply = tokio::time::timeout(PATIENCE, ask(&http(), &request)).await;

        assert_eq!(reply.unwrap(), HttpReply::Failed(HttpFailure::Timeout), "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}";

    assert_eq!(answer_to(short, Then::Close).await, HttpReply::Failed(HttpFailure::Unreachable));
    assert_eq!(answer_to(short, Then::Reset).await, HttpReply::Failed(HttpFailure::Unreachable));
}

#[tokio::test]
async fn an_answer_longer_than_it_says_is_cut_there() {
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{} and more";

    assert_eq!(answer_to(long, Then::Close).await, answered(200, "{}"));
}

#[tokio::test]
async fn what_is_not_text_is_refused_and_nothing_is_unpacked() {
    let not_text = HttpReply::Failed(HttpFailure::NotText);
    let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n".to_vec();

    assert_eq!(answer_to([head, vec![0x1f, 0x8b, 8, 0]].concat(), Then::Close).await, not_text);
    assert_eq!(answer_to("HTTP/1.1 200 OK\r\n\r\na\0b", Then::Close).await, not_text);
    assert_eq!(answer_to("HTTP/1.1 200 OK\r\n\r\n\u{feff}{}", Then::Close).await, answered(200, "{}"));
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    let inside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let to = inside.local_addr().unwrap();
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: http://{to}/admin\r\ncontent-length: 0\r\n\r\n");

    assert_eq!(answer_to(redirect, Then::Close).await, answered(302, ""));

    assert_eq!(inside.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[tokio::test]
async fn private_addresses_are_not_even_connected_to() {
    let mut server = Server::start("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep).await;
    let strict = Http::new(Egress::default());
    let port = server.port;

    // By number, by a name that resolves there, and through the v6 form of a v4 address.
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254"] {
        let reply = ask(&strict, &get(&format!("http://{host}:{port}/"))).await;
        assert_eq!(reply, HttpReply::Failed(HttpFailure::Refused), "{host}");
    }
    assert_eq!(server.connections(), 0);

    let allow = vec![format!("http://localhost:{port}").parse().unwrap()];
    let listed = Http::new(Egress { private: Private::Deny, allow });
    assert_eq!(ask(&listed, &get(&format!("http://localhost:{port}/"))).await, answered(204, ""));
    assert_eq!(ask(&listed, &get(&format!("http://127.0.0.1:{port}/"))).await, HttpReply::Failed(HttpFailure::Refused));
}

#[tokio::test]
async fn requests_that_smuggle_are_refused() {
    let mut server = Server::start("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep).await;
    let with = |name: &str, value: &str| HttpRequest {
        headers: vec![(name.to_owned(), Pii::new(value.to_owned()))],
        ..get(&server.url())
    };
    let requests = [
        with("x-name", "Ada\r\nx-admin: 1"),
        with("x name", "1"),
        with("Host", "internal"),
        with("Content-Length", "5"),
        with("transfer-encoding", "chunked"),
        get(&format!("{}\r\nx-admin: 1", server.url())),
        get(&format!("http://user:pw@127.0.0.1:{}/", server.port)),
        get("not a url"),
        get("/contacts"),
        get("file:///etc/passwd"),
    ];

    for request in requests {
        assert_eq!(ask(&http(), &request).await, HttpReply::Failed(HttpFailure::Refused), "{request:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_credential_is_sent_and_a_missing_one_stops_the_request() {
    let mut server = Server::start("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep).await;
    let reference = SecretRef::Env("CRM_KEY".to_owned());
    let secrets: Secrets = [(reference.clone(), Secret::new("k3y"))].into_iter().collect();
    let request = HttpRequest { bearer: Some(reference), ..get(&server.url()) };

    assert_eq!(ask(&http(), &request).await, HttpReply::Failed(HttpFailure::NoSecret));
    assert_eq!(http().ask(&request, &secrets).await, answered(204, ""));

    assert!(server.heads.recv().await.unwrap().contains("authorization: Bearer k3y\r\n"));
    assert_eq!(server.connections(), 1);
    assert!(!format!("{secrets:?}").contains("k3y"));
}

#[tokio::test]
async fn a_connection_is_used_again_and_not_after_an_answer_too_large() {
    let mut server = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Then::Keep).await;
    let http = http();

    for _ in 0..5 {
        assert_eq!(ask(&http, &get(&server.url())).await, answered(200, "{}"));
    }
    assert_eq!(server.connections(), 1);

    let mut large = Server::start("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n", Then::Keep).await;
    for _ in 0..2 {
        assert_eq!(ask(&http, &get(&large.url())).await, HttpReply::Failed(HttpFailure::TooLarge));
    }
    assert_eq!(large.connections(), 2);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

    let reply = ask(&http(), &get(&format!("http://127.0.0.1:{port}/"))).await;
    let no_name = ask(&http(), &get("http://no-such-host.invalid/")).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", plain.local_addr().unwrap());
    let speak_http = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    };
    let (no_tls, ()) = tokio::join!(async { ask(&http(), &get(&url)).await }, speak_http);

    assert_eq!(reply, HttpReply::Failed(HttpFailure::Unreachable));
    assert_eq!(no_name, HttpReply::Failed(HttpFailure::Unreachable));
    assert_eq!(no_tls, HttpReply::Failed(HttpFailure::Unreachable));
}
