//! Asking web services.
//!
//! A caller is waiting on the line while we ask, so everything has an end: one time limit over the whole exchange, one
//! size limit on the answer, no redirects. A server that behaves badly costs its own request and nothing else.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::counter;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};
use tracing::warn;

use super::egress::{Guarded, Reach, Refused};
use super::{Egress, Secrets, tls};
use crate::actions::{HttpFailure, HttpReply, HttpRequest, Method};
use crate::model::{Pii, limits};

/// The one way out to web services. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Http {
    egress: Arc<Egress>,
    /// Two clients, because what a name may resolve to depends on the origin, which a resolver does not see.
    public: Client,
    private: Client,
}

impl Http {
    /// A client under this policy. Without root certificates on this machine `https:` requests will fail as
    /// unreachable, and a warning says so now.
    pub fn new(egress: Egress) -> Http {
        tls::install();
        Http { egress: Arc::new(egress), public: client(Reach::Public), private: client(Reach::Private) }
    }

    /// Makes one request and waits for the whole answer. Never retries; never takes longer than the request's timeout
    /// or [`limits::HTTP_TIMEOUT_MAX`].
    pub async fn ask(&self, request: &HttpRequest, secrets: &Secrets) -> HttpReply {
        let reply = match self.prepare(request, secrets) {
            Ok(exchange) => self.exchange(exchange).await.and_then(text),
            Err(failure) => Err(failure),
        };
        let result = reply.as_ref().map_or_else(|failure| failure.code(), |_| "answered");
        counter!("ringback_http_requests_total", "result" => result).increment(1);
        reply.unwrap_or_else(HttpReply::Failed)
    }

    fn prepare(&self, request: &HttpRequest, secrets: &Secrets) -> Result<Exchange, HttpFailure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HttpFailure::Refused)?;
            let value = HeaderValue::from_bytes(value.reveal().as_bytes()).map_err(|_| HttpFailure::Refused)?;
            if OURS.contains(&name.as_str()) {
                return Err(HttpFailure::Refused);
            }
            headers.append(name, value);
        }
        if let Some(reference) = &request.bearer {
            let secret = secrets.get(reference).ok_or(HttpFailure::NoSecret)?;
            let bearer = format!("Bearer {}", secret.reveal());
            let mut value = HeaderValue::from_str(&bearer).map_err(|_| HttpFailure::NoSecret)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Exchange {
            method: request.method,
            url: request.url.clone(),
            headers,
            body: request.body.as_ref().map(|body| Bytes::from(body.reveal().clone())),
            timeout: request.timeout,
            body_max: limits::API_BODY_MAX,
        })
    }

    /// Whether an admin listed the origin of this URL by name.
    pub(crate) fn lists(&self, url: &str) -> bool {
        address(url).is_ok_and(|url| self.egress.lists(&url))
    }

    /// As [`Http::ask`], with headers and body as they are.
    pub(crate) async fn exchange(&self, exchange: Exchange) -> Result<Answer, HttpFailure> {
        let url = address(exchange.url.reveal())?;
        let client = match self.egress.reach(&url) {
            Some(Reach::Public) => &self.public,
            Some(Reach::Private) => &self.private,
            Some(Reach::Never) | None => return Err(HttpFailure::Refused),
        };
        let timeout = exchange.timeout.min(limits::HTTP_TIMEOUT_MAX);
        // Dropped when the time is over, and with it the connection: nothing goes on behind our back.
        tokio::time::timeout(timeout, talk(client, url, exchange)).await.unwrap_or(Err(HttpFailure::Timeout))
    }
}

/// A request with everything on it.
pub(crate) struct Exchange {
    pub(crate) method: Method,
    pub(crate) url: Pii<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) timeout: Duration,
    /// Reading stops here.
    pub(crate) body_max: usize,
}

/// What a server answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// At most `body_max` bytes.
    pub(crate) body: Vec<u8>,
    /// Whether that is all of it.
    pub(crate) is_whole: bool,
}

impl Answer {
    /// Whether it is what was asked for.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

// What frames the message or chooses the host is ours to write.
const OURS: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];

fn client(most: Reach) -> Client {
    let build = || {
        Client::builder()
            .user_agent(concat!("Ringback/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Guarded(most))
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(limits::HTTP_IDLE_CONNECTIONS_MAX)
    };
    build().build().unwrap_or_else(|_| {
        warn!("no root certificates on this machine: https requests will fail; install ca-certificates");
        build().tls_certs_only([]).build().expect("a client builds, because nothing in it depends on the machine now")
    })
}

/// Shorter than what servers and their load balancers commonly keep (60 s), so that we rarely write to a closing one.
const IDLE_MAX: Duration = Duration::from_secs(30);

fn address(text: &str) -> Result<Url, HttpFailure> {
    // The parser drops tabs and line ends silently; a URL that has them was tampered with.
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(HttpFailure::Refused);
    }
    Url::parse(text).map_err(|_| HttpFailure::Refused)
}

async fn talk(client: &Client, url: Url, exchange: Exchange) -> Result<Answer, HttpFailure> {
    let mut request = client.request(method(exchange.method), url).headers(exchange.headers);
    if let Some(body) = exchange.body {
        request = request.body(body);
    }
    let mut response = request.send().await.map_err(|error| failure(&error))?;
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // What is too long anyway is not worth the caller's time; dropping the response drops the connection.
    if announced.is_some_and(|length| length > exchange.body_max as u64) {
        return Ok(Answer { status, headers, body, is_whole: false });
    }
    while let Some(piece) = response.chunk().await.map_err(|error| failure(&error))? {
        let room = exchange.body_max - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            return Ok(Answer { status, headers, body, is_whole: false });
        }
    }
    Ok(Answer { status, headers, body, is_whole: true })
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

fn failure(error: &reqwest::Error) -> HttpFailure {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<Refused>() {
            return HttpFailure::Refused;
        }
        cause = inner.source();
    }
    if error.is_timeout() { HttpFailure::Timeout } else { HttpFailure::Unreachable }
}

fn text(answer: Answer) -> Result<HttpReply, HttpFailure> {
    if !answer.is_whole {
        return Err(HttpFailure::TooLarge);
    }
    let body = String::from_utf8(answer.body).map_err(|_| HttpFailure::NotText)?;
    if body.contains('\0') {
        return Err(HttpFailure::NotText);
    }
    // RFC 8259 §8.1: a reader may skip a byte order mark, and some servers send one.
    let body = body.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(body);
    Ok(HttpReply::Answered { status: answer.status, body: Pii::new(body) })
}
