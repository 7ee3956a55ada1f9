//! HTTP for browsers: offers in, answers out (WHIP, RFC 9725), and a page to try it.
//!
//! | request | what it does |
//! |---|---|
//! | `POST /whip/{called}` | calls; `application/sdp` in, 201 with the answer, `Location` and `ETag` out |
//! | `PATCH` the location | more addresses, or ICE anew (RFC 8840); needs `If-Match` |
//! | `DELETE` the location | hangs up |
//! | `GET` the location `/events` | how the call stands, as server-sent events, until `ended` with its cause |
//! | `GET /call` | a page that calls |

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::{Event as SseEvent, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use futures_util::stream;
use metrics::counter;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::browsers::{Browsers, Standing};
use super::clock::{now, unix_ms};
use super::house::House;
use super::switchboard::{Ask, BrowserComer, Turned};
use crate::call::Cause;
use crate::config;
use crate::model::limits::{SDP_LEN_MAX, WEBRTC_CALLED_LEN_MAX, WEBRTC_SOURCES_KNOWN_MAX};
use crate::webrtc::{Claims, Fragment, Offer, OfferError, read_token};

/// What every request needs.
struct Desk {
    house: Arc<House>,
    settings: config::Browsers,
    asks: mpsc::Sender<Ask>,
    rates: Mutex<Rates>,
}

/// Serves browsers.
pub(super) async fn serve(
    house: Arc<House>,
    settings: config::Browsers,
    asks: mpsc::Sender<Ask>,
    tasks: &mut JoinSet<()>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(settings.listen).await?;
    let bound = listener.local_addr()?;
    let has_page = settings.page;
    let desk = Arc::new(Desk { house, settings, asks, rates: Mutex::default() });
    let mut router = Router::new()
        .route("/whip/{called}", post(call).options(preflight))
        .route("/whip/calls/{name}", patch(change).delete(hang_up).options(preflight))
        .route("/whip/calls/{name}/events", get(events).options(preflight));
    if has_page {
        router = router
            .route("/call", get(|| page("text/html; charset=utf-8", include_str!("page/call.html"))))
            .route("/call.js", get(|| page("text/javascript; charset=utf-8", include_str!("page/call.js"))))
            .route("/call.css", get(|| page("text/css; charset=utf-8", include_str!("page/call.css"))));
    }
    let router = router
        .layer(DefaultBodyLimit::max(SDP_LEN_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&desk), guard))
        .with_state(desk);
    tasks.spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "the browsers' listener broke");
        }
    });
    Ok(bound)
}

/// Lets in pages that may call, and tells their browsers so.
async fn guard(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if let Some(origin) = &origin
        && !desk.takes(origin, request.headers())
    {
        counter!("ringback_webrtc_calls_total", "result" => "origin").increment(1);
        return refuse(
            StatusCode::FORBIDDEN,
            "origin",
            "this page may not call; [webrtc] origins names those that may",
        );
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("Location, ETag, Link, Retry-After");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, PATCH, DELETE, GET"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
        (HeaderName::from_static("accept-post"), SDP),
        (HeaderName::from_static("accept-patch"), FRAGMENT),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

async fn call(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(called): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let response = match desk.call(source(peer, &headers), called, &headers, &body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    if response.status() == StatusCode::CREATED {
        counter!("ringback_webrtc_calls_total", "result" => "taken").increment(1);
    }
    response
}

impl Desk {
    async fn call(&self, from: IpAddr, called: String, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        if !self.rates.lock().unwrap_or_else(PoisonError::into_inner).takes(now(), from, self.settings.calls_per_minute)
        {
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "rate", "too many calls from this address")
                .after(60_u32.div_ceil(self.settings.calls_per_minute)));
        }
        let claims = self.claims(headers)?;
        if !is(headers, SDP) {
            return Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                "the body must be application/sdp",
            ));
        }
        let is_allowed = called.len() <= WEBRTC_CALLED_LEN_MAX
            && self.settings.numbers.iter().any(|pattern| pattern.fits(&called))
            && claims.may_call(&called);
        if !is_allowed {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "called",
                "browsers, or this token, may not call this one",
            ));
        }
        let offer = Offer::parse(body)?;
        let (reply, replied) = oneshot::channel();
        let comer = Box::new(BrowserComer { offer, called, claims, trunk: self.settings.trunk.clone() });
        let broken = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too much work; try again").after(1);
        self.asks.try_send(Ask::Browser(comer, reply)).map_err(|_| broken())?;
        let taken = replied.await.map_err(|_| broken())??;
        let mut response = (StatusCode::CREATED, [(header::CONTENT_TYPE, SDP)], taken.answer).into_response();
        let location = format!("/whip/calls/{}", taken.name);
        let headers = response.headers_mut();
        for server in &self.settings.ice_servers {
            // RFC 9725 §4.6.
            let mut link = format!("<{}>; rel=\"ice-server\"", server.url);
            let credential = server.credential.as_ref().and_then(|secret| self.house.secrets.get(secret));
            if let (Some(username), Some(credential)) = (&server.username, credential) {
                link += &format!("; username={username:?}; credential={:?}", credential.reveal());
                link += "; credential-type=\"password\"";
            }
            headers.extend(HeaderValue::try_from(link).map(|link| (header::LINK, link)));
        }
        let events = format!("<{location}/events>; rel=\"urn:ringback:events\"");
        headers.extend(HeaderValue::try_from(events).map(|link| (header::LINK, link)));
        headers.extend(HeaderValue::try_from(location).map(|location| (header::LOCATION, location)));
        headers.extend(HeaderValue::try_from(taken.etag).map(|etag| (header::ETAG, etag)));
        headers.insert(HeaderName::from_static("accept-patch"), HeaderValue::from_static(FRAGMENT));
        Ok(response)
    }

    /// Who calls, and what it may.
    fn claims(&self, headers: &HeaderMap) -> Result<Claims, Refusal> {
        let Some(secret) = &self.settings.secret else { return Ok(Claims::default()) };
        let refused = |why: String| Refusal::new(StatusCode::UNAUTHORIZED, "token", why);
        // A secret that cannot be read lets nobody in.
        let secret =
            self.house.secrets.get(secret).ok_or_else(|| refused("tokens cannot be checked now".to_owned()))?;
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token =
            bearer.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let (_, token) = token.ok_or_else(|| refused("a bearer token is needed".to_owned()))?;
        let at = unix_ms().div_euclid(1_000);
        read_token(token.trim(), secret.reveal().trim().as_bytes(), at).map_err(|error| refused(error.to_string()))
    }

    /// Whether a page may call: one of the list, or one that was served by this machine's own address. A name is no proof
    /// of that, because whoever owns a name can have it lead here.
    fn takes(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        let Ok(origin) = origin.to_str().map(str::to_ascii_lowercase) else { return false };
        if self.settings.origins.contains(&origin) {
            return true;
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let is_own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        let name = host.parse::<SocketAddr>().map_or_else(
            |_| host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned(),
            |address| address.ip().to_string(),
        );
        is_own && (name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
    }

    fn browsers(&self) -> Result<&Browsers, Refusal> {
        self.house.browsers.as_ref().ok_or_else(gone)
    }
}

async fn change(
    State(desk): State<Arc<Desk>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let browsers = desk.browsers()?;
    let seen = browsers.find(&name).ok_or_else(gone)?;
    if matches!(*seen.standing.borrow(), Standing::Ended(_)) {
        return Err(gone());
    }
    if !is(&headers, FRAGMENT) {
        let what = "the body must be application/trickle-ice-sdpfrag";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", what));
    }
    let fragment = Fragment::parse(&body)?;
    // RFC 9725 §4.3.1: a trickle names the state that it belongs to, a restart none.
    match headers.get(header::IF_MATCH).map(HeaderValue::as_bytes) {
        None => {
            return Err(Refusal::new(
                StatusCode::PRECONDITION_REQUIRED,
                "if_match",
                "If-Match with the ETag is needed",
            ));
        }
        Some(etag) if etag == b"*" || etag == seen.etag.as_bytes() => {}
        Some(_) => return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, "etag", "ICE has started anew since")),
    }
    let theirs = fragment.ufrag().map(str::to_owned);
    match browsers.webrtc.trickle(seen.peer, &seen.ufrag, fragment) {
        Ok(None) => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(Some((ours, etag))) => {
            browsers.restarted(&name, etag.clone(), theirs.unwrap_or_default());
            let headers = [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, etag)];
            Ok((StatusCode::OK, headers, ours).into_response())
        }
        Err(_) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too much work; try again").after(1)),
    }
}

async fn hang_up(State(desk): State<Arc<Desk>>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    let browsers = desk.browsers()?;
    let seen = browsers.find(&name).ok_or_else(gone)?;
    browsers.left(seen.peer, Cause::Normal);
    Ok(StatusCode::OK)
}

async fn events(State(desk): State<Arc<Desk>>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let seen = desk.browsers()?.find(&name).ok_or_else(gone)?;
    let told = stream::unfold(Some((seen.standing, true)), |next| async move {
        let (mut standing, is_first): (watch::Receiver<Standing>, bool) = next?;
        if !is_first && standing.changed().await.is_err() {
            return None;
        }
        let now = *standing.borrow_and_update();
        let told = match now {
            Standing::Calling => json!({ "state": "calling" }),
            Standing::Ringing => json!({ "state": "ringing" }),
            Standing::Answered => json!({ "state": "answered" }),
            Standing::Ended(cause) => json!({ "state": "ended", "cause": cause.label() }),
        };
        let event = SseEvent::default().event("state").data(told.to_string());
        let is_over = matches!(now, Standing::Ended(_));
        Some((Ok::<_, Infallible>(event), (!is_over).then_some((standing, false))))
    });
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(AWAKE)).into_response())
}

async fn page(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text).into_response()
}

/// Whether the body is of this kind, whatever parameters it has.
fn is(headers: &HeaderMap, kind: &str) -> bool {
    let written = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    written.split(';').next().is_some_and(|written| written.trim().eq_ignore_ascii_case(kind))
}

/// Where a request comes from. A proxy on this machine says it in the last of `X-Forwarded-For`, which it wrote itself;
/// from elsewhere that header proves nothing.
fn source(peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
    let peer = peer.ip().to_canonical();
    // A proxy adds to the last line, or adds a line; what the caller wrote itself stands before either.
    let named = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = named.and_then(|named| named.rsplit(',').next()?.trim().parse().ok());
    match last.filter(|_| peer.is_loopback()).unwrap_or(peer) {
        // Whoever has one address of IPv6 has 2⁶⁴ of them.
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Why a request is not carried out: a code for programs and words for people.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after_s: Option<u32>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into(), retry_after_s: None }
    }

    fn after(self, retry_after_s: u32) -> Refusal {
        Refusal { retry_after_s: Some(retry_after_s), ..self }
    }
}

impl From<OfferError> for Refusal {
    fn from(error: OfferError) -> Refusal {
        match error {
            OfferError::Malformed(_) => Refusal::new(StatusCode::BAD_REQUEST, "bad_sdp", error.to_string()),
            OfferError::Unusable(_) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "no_media", error.to_string()),
        }
    }
}

impl From<Turned> for Refusal {
    fn from(turned: Turned) -> Refusal {
        match turned {
            Turned::Away(code, retry_after_s) => {
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, "no call can be taken now").after(retry_after_s)
            }
            Turned::NoRoute => Refusal::new(StatusCode::NOT_FOUND, "no_route", "no route takes this call"),
            Turned::Unusable(error) => error.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        counter!("ringback_webrtc_calls_total", "result" => self.code).increment(1);
        let mut response = refuse(self.status, self.code, &self.message);
        let after = self.retry_after_s.map(HeaderValue::from);
        response.headers_mut().extend(after.map(|after| (header::RETRY_AFTER, after)));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn refuse(status: StatusCode, code: &'static str, message: &str) -> Response {
    (status, Json(json!({ "code": code, "message": message }))).into_response()
}

fn gone() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no_call", "there is no such call, or it is over")
}

/// Calls of each address, as buckets that fill by the minute.
#[derive(Debug, Default)]
struct Rates {
    /// What is left of each, and when that was.
    left: HashMap<IpAddr, (f64, Instant)>,
}

impl Rates {
    fn takes(&mut self, now: Instant, from: IpAddr, per_minute: u32) -> bool {
        let most = f64::from(per_minute);
        let filled = |(left, at): (f64, Instant)| (left + now.duration_since(at).as_secs_f64() * most / 60.0).min(most);
        if self.left.len() >= WEBRTC_SOURCES_KNOWN_MAX && !self.left.contains_key(&from) {
            self.left.retain(|_, known| filled(*known) < most);
            if self.left.len() >= WEBRTC_SOURCES_KNOWN_MAX {
                return false;
            }
        }
        let left = self.left.get(&from).copied().map_or(most, filled);
        let is_taken = left >= 1.0;
        self.left.insert(from, (if is_taken { left - 1.0 } else { left }, now));
        is_taken
    }
}

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Proxies end what is silent for a minute.
const AWAKE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_calls_too_often_waits_and_others_do_not() {
        let (mut rates, at) = (Rates::default(), now());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        assert!((0..3).all(|_| rates.takes(at, one, 3)));

        assert!(!rates.takes(at, one, 3));
        assert!(rates.takes(at, other, 3));
        assert!(rates.takes(at + Duration::from_secs(20), one, 3));
        assert!(!rates.takes(at + Duration::from_secs(20), one, 3));
    }

    #[test]
    fn only_a_proxy_here_says_where_a_request_comes_from() {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_static("198.51.100.1, 203.0.113.9"),
        )]);

        assert_eq!(source("127.0.0.1:5000".parse().unwrap(), &headers), IpAddr::from([203, 0, 113, 9]));
        assert_eq!(source("192.0.2.1:5000".parse().unwrap(), &headers), IpAddr::from([192, 0, 2, 1]));
    }
}
