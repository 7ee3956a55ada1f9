//! An HTTP server for tests: a CRM and a receiver of webhooks that answers as it is told, and remembers what it was asked.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// What the mock does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// JSON with this status.
    Json(u16, Value),
    /// A page for people.
    Html,
    /// This many octets of JSON text.
    Large(usize),
    /// Closes the connection without a word.
    Nothing,
    /// Never says anything.
    Hang,
    /// JSON after a while.
    Late(Duration, Value),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.path))
    }
}

/// The server. It stops when it is dropped.
pub(crate) struct Mock {
    pub(crate) address: SocketAddr,
    seen: Receiver<Seen>,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book {
    /// By the first part of the path: answers in order, the last for ever.
    answers: Mutex<BTreeMap<String, VecDeque<Answer>>>,
    closed: Mutex<bool>,
    closing: Condvar,
}

impl Mock {
    pub(crate) fn start() -> Mock {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = sync_channel(4096);
        let book = Arc::new(Book::default());
        let shared = Arc::clone(&book);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), false) = (stream, *shared.closed.lock().unwrap()) else { return };
                let (tell, book) = (tell.clone(), Arc::clone(&shared));
                thread::spawn(move || talk(stream, &tell, &book));
            }
        });
        Mock { address, seen, book }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on requests whose path begins with `/first` get these answers, the last of them for ever.
    pub(crate) fn answer(&self, first: &str, answers: impl IntoIterator<Item = Answer>) {
        self.book.answers.lock().unwrap().insert(first.to_owned(), answers.into_iter().collect());
    }

    /// The next request for this first part of a path; others are passed over.
    pub(crate) fn next(&self, first: &str, within: Duration) -> Option<Seen> {
        let until = Instant::now() + within;
        loop {
            let seen = self.seen.recv_timeout(until.saturating_duration_since(Instant::now())).ok()?;
            if first_part(&seen.path) == first {
                return Some(seen);
            }
        }
    }

    /// The next event that was posted, which must come.
    pub(crate) fn event(&self) -> Seen {
        self.next("hooks", Duration::from_secs(30)).expect("an event is posted")
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        *self.book.closed.lock().unwrap() = true;
        self.book.closing.notify_all();
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

impl Book {
    fn next(&self, path: &str) -> Answer {
        let mut answers = self.answers.lock().unwrap();
        let Some(queue) = answers.get_mut(first_part(path)) else { return Answer::Json(200, Value::Null) };
        match queue.len() {
            0 => Answer::Json(200, Value::Null),
            1 => queue[0].clone(),
            _ => queue.pop_front().unwrap(),
        }
    }

    fn wait(&self, most: Duration) {
        let closed = self.closed.lock().unwrap();
        let _ = self.closing.wait_timeout_while(closed, most, |closed| !*closed);
    }
}

fn first_part(path: &str) -> &str {
    path.trim_start_matches('/').split(['/', '?']).next().unwrap_or("")
}

fn talk(mut stream: TcpStream, tell: &SyncSender<Seen>, book: &Book) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut buffer = Vec::new();
    while let Some(seen) = read_request(&mut stream, &mut buffer) {
        let answer = book.next(&seen.path);
        let _ = tell.try_send(seen);
        if !give(&mut stream, answer, book) {
            return;
        }
    }
}

// Answers; false when the connection is over.
fn give(stream: &mut TcpStream, answer: Answer, book: &Book) -> bool {
    let (status, kind, body) = match answer {
        Answer::Json(status, value) => (status, "application/json", value.to_string()),
        Answer::Html => (200, "text/html", "<!doctype html><title>Sorry</title><p>Please sign in.".to_owned()),
        Answer::Large(octets) => (200, "application/json", format!("\"{}\"", "x".repeat(octets))),
        Answer::Nothing => return false,
        Answer::Hang => {
            book.wait(Duration::from_secs(120));
            return false;
        }
        Answer::Late(after, value) => {
            book.wait(after);
            (200, "application/json", value.to_string())
        }
    };
    let head = format!("HTTP/1.1 {status} Answer\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_ok()
}

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, buffer)?;
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let mut start = lines.next()?.split(' ');
    let (method, path) = (start.next()?.to_owned(), start.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
    while buffer.len() < head_end + length {
        read_more(stream, buffer)?;
    }
    let body = buffer[head_end..head_end + length].to_vec();
    buffer.drain(..head_end + length);
    Some(Seen { method, path, headers, body })
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 8192];
    let length = stream.read(&mut chunk).ok().filter(|length| *length > 0)?;
    buffer.extend_from_slice(&chunk[..length]);
    Some(())
}
