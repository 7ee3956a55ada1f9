//! Reading and writing messages, in terms of the stack's types. Nothing here fails: what cannot be read is absent,
//! and what cannot be written is left out.

use sipx_sip::headers::{Address, ContentType, From, Reason, ReasonValue};
use sipx_sip::session::SessionExpires;
use sipx_sip::{Header, HeaderName, Headers, Method, Request, Response, StatusCode, Uri};

use super::bodies;
use super::event::{Caller, Dial, Invite, Transport};
use super::refresh::TIMER;
use crate::model::{Pii, limits};

/// The methods we serve, as the Allow header lists them.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY";
/// The extensions we know, as the Supported header lists them within a dialog. `100rel` is for INVITEs that begin one.
pub(super) const SUPPORTED: &str = "timer, replaces, norefersub";
pub(super) const SDP: &str = "application/sdp";

/// Octets as text: UTF-8, or else Latin-1, which every octet is.
pub(super) fn text(octets: &[u8]) -> String {
    match std::str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        Err(_) => octets.iter().map(|octet| char::from(*octet)).collect(),
    }
}

/// Adds a header; one that could smuggle in a line break is left out.
pub(super) fn put(headers: &mut Headers, name: HeaderName, value: impl Into<Vec<u8>>) {
    if let Ok(header) = Header::build(name, value.into()) {
        headers.push(header);
    }
}

pub(super) fn put_body(headers: &mut Headers, content_type: &str, body: &[u8]) {
    put(headers, HeaderName::ContentType, content_type);
    put(headers, HeaderName::ContentLength, body.len().to_string());
}

/// A response with the headers of RFC 3261 §8.2.6.2, as far as the request has them, and our tag on To.
///
/// Unlike the stack's own builder it serves a request whose headers are missing: half a response is better for a
/// confused peer than silence for 32 seconds.
pub(super) fn respond(request: &Request, status: u16, tag: Option<&str>) -> Response {
    respond_with(request, status, reason_phrase(status), tag)
}

/// As [`respond`], in other words.
pub(super) fn respond_with(request: &Request, status: u16, reason: &str, tag: Option<&str>) -> Response {
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(limits::ADDRESS_LEN_MAX).collect();
    // The last fallback cannot happen: 500 is a status code.
    let code = StatusCode::new(status).or(StatusCode::new(500));
    let mut response =
        Response::new(code.expect("500 is within 100..=699, so it is a status code"), reason.into_bytes());
    let out = &mut response.headers;
    for name in [HeaderName::Via, HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq] {
        for header in request.headers.get_all(&name) {
            match tag {
                Some(tag) if name == HeaderName::To => put(out, HeaderName::To, tagged(&header.value(), tag)),
                _ => out.push(header.clone()),
            }
        }
    }
    if status == 100
        && let Some(timestamp) = request.headers.get(&HeaderName::Timestamp)
    {
        out.push(timestamp.clone());
    }
    response
}

/// The last touch on every response: who we are, and how long the body is when nobody said it.
pub(super) fn finish(response: &mut Response, agent: &str) {
    put(&mut response.headers, HeaderName::Server, agent);
    if response.headers.get(&HeaderName::ContentLength).is_none() {
        put(&mut response.headers, HeaderName::ContentLength, "0");
    }
}

fn tagged(value: &[u8], tag: &str) -> Vec<u8> {
    let has_tag = Address::parse(value, "To").is_ok_and(|to| to.tag().is_some());
    let mut value = value.to_vec();
    if !has_tag {
        value.extend_from_slice(b";tag=");
        value.extend_from_slice(tag.as_bytes());
    }
    value
}

/// The value of a header, unfolded.
pub(super) fn value(headers: &Headers, name: &HeaderName) -> Option<Vec<u8>> {
    headers.value(name).map(std::borrow::Cow::into_owned)
}

/// The tag of From or To; `None` when it has none or cannot be read.
pub(super) fn tag(headers: &Headers, name: &HeaderName) -> Option<Vec<u8>> {
    let value = headers.value(name)?;
    Address::parse(&value, "tag").ok()?.tag().map(<[u8]>::to_vec)
}

pub(super) fn call_id(headers: &Headers) -> Vec<u8> {
    value(headers, &HeaderName::CallId).unwrap_or_default()
}

pub(super) fn cseq(headers: &Headers) -> Option<u32> {
    headers.typed::<sipx_sip::CSeq>()?.ok().map(|cseq| cseq.sequence)
}

/// The first address of Contact.
pub(super) fn contact(headers: &Headers) -> Option<Uri> {
    headers.typed::<sipx_sip::headers::Contact>()?.ok().map(|contact| contact.0.uri)
}

/// The values of Record-Route, in order; `None` when one cannot be read or there are too many.
pub(super) fn record_route(headers: &Headers) -> Option<Vec<Uri>> {
    let mut routes = Vec::new();
    for route in headers.typed_all::<sipx_sip::headers::RecordRoute>() {
        routes.push(route.ok()?.0.uri);
        if routes.len() > limits::SIP_ROUTES_MAX {
            return None;
        }
    }
    Some(routes)
}

/// The media type of the body in lower case, without parameters. `None` when there is no body or no type.
pub(super) fn content_type(headers: &Headers) -> Option<String> {
    let parsed = headers.typed::<ContentType>()?.ok()?;
    Some(format!("{}/{}", text(&parsed.media_type), text(&parsed.subtype)).to_ascii_lowercase())
}

/// Whether a list of option tags, as Supported or Require, names this one.
pub(super) fn names_option(headers: &Headers, name: &HeaderName, option: &str) -> bool {
    options(headers, name).any(|known| known.eq_ignore_ascii_case(option))
}

/// The option tags of a header, in order.
pub(super) fn options(headers: &Headers, name: &HeaderName) -> impl Iterator<Item = String> {
    let values: Vec<String> = headers.get_all(name).map(|header| text(&header.value())).collect();
    values.into_iter().flat_map(|value| value.split(',').map(|tag| tag.trim().to_owned()).collect::<Vec<_>>())
}

/// The session description in the body: all of it, or one of its parts (RFC 5621).
pub(super) fn sdp(headers: &Headers, body: &[u8]) -> Option<Vec<u8>> {
    if body.is_empty() {
        return None;
    }
    match content_type(headers)? {
        whole if whole == SDP => Some(body.to_vec()),
        parts if parts.starts_with("multipart/") => bodies::sdp_part(headers, body).map(<[u8]>::to_vec),
        _ => None,
    }
}

/// The Q.850 cause of the Reason header (RFC 3326).
pub(super) fn q850(headers: &Headers) -> Option<u8> {
    let cause = reasons(headers).find(|reason| reason.protocol().eq_ignore_ascii_case(b"Q.850"))?.cause();
    u8::try_from(cause).ok().filter(|cause| *cause < 128)
}

/// Whether a CANCEL says that somebody else took the call.
pub(super) fn answered_elsewhere(headers: &Headers) -> bool {
    reasons(headers).any(|reason| reason.protocol().eq_ignore_ascii_case(b"SIP") && reason.cause() == 200)
}

fn reasons(headers: &Headers) -> impl Iterator<Item = ReasonValue> {
    headers.typed_all::<Reason>().filter_map(Result::ok).flat_map(|reason| reason.0)
}

pub(super) fn put_q850(headers: &mut Headers, cause: Option<u8>) {
    if let Some(cause) = cause {
        put(headers, HeaderName::Reason, format!("Q.850;cause={cause}"));
    }
}

pub(super) fn retry_after_s(headers: &Headers) -> Option<u32> {
    let value = headers.value(&HeaderName::RetryAfter)?;
    let digits: String =
        value.iter().take_while(|octet| octet.is_ascii_digit()).map(|octet| char::from(*octet)).collect();
    digits.parse().ok()
}

/// An INVITE in our own words.
pub(super) fn invite(request: &Request, source: std::net::SocketAddr, transport: Transport) -> Invite {
    let headers = &request.headers;
    let from = value(headers, &HeaderName::From).map(|value| caller(&value)).unwrap_or_default();
    let privacy = headers.value(&HeaderName::Privacy).map(|value| text(&value).to_ascii_lowercase());
    let asks_privacy = privacy.is_some_and(|value| !value.is_empty() && value.trim() != "none");
    Invite {
        // RFC 3323 §4.1.1.3: an anonymous caller writes this user or this host.
        anonymous: asks_privacy
            || from.user.reveal().eq_ignore_ascii_case("anonymous")
            || from.uri.reveal().to_ascii_lowercase().contains("@anonymous.invalid"),
        from,
        to: value(headers, &HeaderName::To).map(|value| caller(&value)).unwrap_or_default(),
        request_uri: text(&request.uri.to_bytes()),
        called_user: user(&request.uri),
        source,
        transport,
        max_forwards: max_forwards(headers),
        tls_names: Vec::new(),
        replaces: None,
        call_id: text(&call_id(headers)),
        trunk: None,
        headers: passed_on(headers),
        sdp: sdp(headers, request.body()),
        expires: headers
            .typed::<SessionExpires>()
            .and_then(Result::ok)
            .map(|asked| asked.interval)
            .filter(|_| names_option(headers, &HeaderName::Supported, TIMER) || requires_timer(headers)),
    }
}

fn requires_timer(headers: &Headers) -> bool {
    names_option(headers, &HeaderName::Require, TIMER)
}

/// The hops that are left; 70 when the request does not say, as RFC 2543 peers.
fn max_forwards(headers: &Headers) -> u8 {
    let hops = headers.typed::<sipx_sip::headers::MaxForwards>().and_then(Result::ok);
    hops.map_or(HOPS, |hops| hops.0)
}

fn caller(value: &[u8]) -> Caller {
    let Ok(address) = Address::parse(value, "From") else { return Caller::default() };
    Caller {
        uri: Pii::new(text(&address.uri.to_bytes())),
        user: Pii::new(user(&address.uri)),
        display: Pii::new(address.display_name.as_deref().map(text).unwrap_or_default()),
    }
}

/// The user part of a URI, unescaped; the number of a `tel:` URI. Empty when there is none.
pub(super) fn user(uri: &Uri) -> String {
    if let Some(tel) = uri.tel_parts() {
        return text(tel.subscriber());
    }
    uri.decoded_user().map(|user| text(&user)).unwrap_or_default()
}

fn passed_on(headers: &Headers) -> Vec<(String, Pii<String>)> {
    headers
        .iter()
        .filter(|header| !steers_sip(header.name()) && header.value().len() <= limits::SIP_HEADER_LEN_MAX)
        .take(limits::SIP_HEADERS_MAX)
        .map(|header| (text(header.name().canonical()), Pii::new(text(&header.value()))))
        .collect()
}

/// Headers that belong to this room alone, in both directions.
fn steers_sip(name: &HeaderName) -> bool {
    matches!(
        name,
        HeaderName::Via
            | HeaderName::From
            | HeaderName::To
            | HeaderName::CallId
            | HeaderName::CSeq
            | HeaderName::Contact
            | HeaderName::MaxForwards
            | HeaderName::ContentLength
            | HeaderName::ContentType
            | HeaderName::ContentEncoding
            | HeaderName::Route
            | HeaderName::RecordRoute
            | HeaderName::Require
            | HeaderName::ProxyRequire
            | HeaderName::Supported
            | HeaderName::Allow
            | HeaderName::Authorization
            | HeaderName::ProxyAuthorization
            | HeaderName::UserAgent
    )
}

/// The INVITE of a call that we place, without Via. `None` when the URI or a header cannot be written.
pub(super) fn dial(dial: &Dial, call_id: &str, tag: &str, own: &Own) -> Option<Request> {
    let uri = Uri::parse(dial.to.clone().into_bytes().into()).ok()?;
    if !uri.scheme().is_sip() || uri.has_headers() {
        return None;
    }
    let host = dial.from_host.as_deref().unwrap_or(&own.host);
    let user = escape_user(dial.from_user.reveal());
    let from = if user.is_empty() { format!("<sip:{host}>") } else { format!("<sip:{user}@{host}>") };
    let display = quoted(dial.from_display.reveal());
    let from = if display.is_empty() { format!("{from};tag={tag}") } else { format!("{display} {from};tag={tag}") };

    // In To and From a URI bears no port-steering parameters beyond what was dialled.
    let mut request = Request::new(Method::Invite, uri);
    let headers = &mut request.headers;
    for route in dial.route.iter().take(limits::SIP_ROUTES_MAX) {
        Uri::parse(route.clone().into_bytes().into()).ok()?;
        put(headers, HeaderName::Route, format!("<{route}>"));
    }
    put(headers, HeaderName::MaxForwards, dial.max_forwards.unwrap_or(HOPS).to_string());
    put(headers, HeaderName::From, from);
    put(headers, HeaderName::To, format!("<{}>", dial.to));
    put(headers, HeaderName::CallId, call_id);
    put(headers, HeaderName::CSeq, "1 INVITE");
    put(headers, HeaderName::Contact, own.contact.clone());
    put(headers, HeaderName::Allow, ALLOW);
    put(headers, HeaderName::UserAgent, own.agent.clone());
    if let Some(called) = &dial.diverted_from {
        let called = escape_user(called.reveal());
        put(headers, name("Diversion"), format!("<sip:{called}@{}>;reason=unconditional;counter=1", own.host));
    }
    if let Some(refer) = &dial.referred {
        if let Some(replaces) = &refer.replaces {
            put(headers, HeaderName::Replaces, super::refer::write_replaces(replaces));
        }
        // RFC 3892 §2.2: the new party learns who sent the caller.
        if let Some(by) = &refer.referred_by {
            put(headers, HeaderName::ReferredBy, by.reveal().clone());
        }
        for (name, value) in &refer.headers {
            put(headers, HeaderName::parse(&name.clone().into_bytes().into()), value.reveal().clone());
        }
    }
    for (name, value) in dial.headers.iter().take(limits::SIP_HEADERS_MAX) {
        let name = HeaderName::parse(&name.clone().into_bytes().into());
        if !steers_sip(&name) && value.reveal().len() <= limits::SIP_HEADER_LEN_MAX {
            put(headers, name, value.reveal().clone());
        }
    }
    put_body(headers, SDP, dial.sdp.as_bytes());
    request.set_body(dial.sdp.clone().into_bytes().into());
    // A From that could not be written shows here: the request would be refused by anybody.
    (request.headers.typed::<From>()?.is_ok() && request.headers.typed::<sipx_sip::headers::To>()?.is_ok())
        .then_some(request)
}

/// A header that the stack has no name of its own for.
pub(super) fn name(text: &'static str) -> HeaderName {
    HeaderName::parse(&text.as_bytes().to_vec().into())
}

/// RFC 3261 §20.22.
const HOPS: u8 = 70;

/// How we name ourselves towards one peer.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// `host:port` for Via.
    pub(super) sent_by: String,
    /// Host alone, for From.
    pub(super) host: String,
    /// The Contact header.
    pub(super) contact: String,
    /// The Server and User-Agent headers.
    pub(super) agent: String,
}

fn quoted(display: &str) -> String {
    let clean: String = display.chars().filter(|c| !c.is_control()).take(limits::VAR_NAME_LEN_MAX).collect();
    if clean.is_empty() { clean } else { format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Escapes what RFC 3261 §25.1 does not allow in a user part.
fn escape_user(user: &str) -> String {
    let mut out = String::new();
    for octet in user.bytes() {
        if octet.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}

/// `Warning: 399`, a sentence for the log of the other side.
pub(super) fn warning(agent: &str, sentence: &str) -> String {
    let agent = agent.split(['/', ' ']).next().filter(|name| !name.is_empty()).unwrap_or("ringback");
    format!("399 {agent} {}", quoted(sentence))
}

/// The usual words for a status (RFC 3261 §21).
pub(super) fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        422 => "Session Interval Too Small",
        428 => "Use Identity Header",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        _ if status < 200 => "Session Progress",
        _ if status < 300 => "OK",
        _ if status < 400 => "Redirected",
        _ if status < 500 => "Request Failed",
        _ => "Server Failure",
    }
}

/// The CANCEL of an INVITE as it went out (RFC 3261 §9.1): same Via, so that the other side finds it.
pub(super) fn cancel(invite: &Request, cause: Option<u8>) -> Request {
    let mut request = Request::new(Method::Cancel, invite.uri.clone());
    for name in [HeaderName::Via, HeaderName::Route, HeaderName::From, HeaderName::To, HeaderName::CallId] {
        for header in invite.headers.get_all(&name) {
            request.headers.push(header.clone());
        }
    }
    let headers = &mut request.headers;
    put(headers, HeaderName::CSeq, format!("{} CANCEL", cseq(&invite.headers).unwrap_or(1)));
    put(headers, HeaderName::MaxForwards, "70");
    put_q850(headers, cause);
    put(headers, HeaderName::ContentLength, "0");
    request
}
