//! The front door: what a request must be before anything else looks at it (RFC 3261 §8.2).
//!
//! Every request gets its defined answer here or is let in; nothing is served half-checked.

use std::net::IpAddr;

use sipx_sip::rel::OPTION_TAG;
use sipx_sip::{HeaderName, Method, Request, Response, validate_request};

use super::bodies;
use super::message::{self, ALLOW, SDP};
use super::refresh::TIMER;
use crate::model::limits;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is let in.
    Serve(Kind),
    /// It is answered, and counted under the answer's status.
    Answer(Box<Response>),
    /// It is not worth an answer, or must not get one.
    Drop,
}

/// What a request that is let in wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new call.
    Call,
    /// Something within a dialog that we are to find.
    InDialog,
    /// To give up an INVITE.
    Cancel,
    /// To acknowledge a 2xx.
    Ack,
}

/// Whether a datagram's Via would send our answers to somebody else than its sender.
///
/// By RFC 3261 §18.2.2 they go to `maddr`, else to `received`. We write `received` ourselves when it is needed, and
/// nobody sends us unicast requests to be answered by multicast; so anything else is aimed at a third party.
pub(super) fn is_aimed(request: &Request, source: IpAddr) -> bool {
    let Some(Ok(via)) = request.headers.typed::<sipx_sip::Via>() else { return true };
    let names_other = |value: Option<&[u8]>| {
        value.is_some_and(|value| message::text(value).trim_matches(['[', ']']).parse() != Ok(source.to_canonical()))
    };
    names_other(via.maddr()) || names_other(via.received())
}

/// Judges a request that the stack could read. `tag` goes on To where the answer needs one.
pub(super) fn judge(request: &Request, tag: &str) -> Verdict {
    if request.method == Method::Ack {
        // RFC 3261 §8.1.1.1: an ACK is never answered.
        return if validate_request(request).iter().all(sipx_sip::Finding::is_repairable) {
            Verdict::Serve(Kind::Ack)
        } else {
            Verdict::Drop
        };
    }
    match object(request, tag) {
        Some(response) => Verdict::Answer(Box::new(response)),
        None => admit(request, tag),
    }
}

/// The first objection, in the order of RFC 3261 §8.2.
fn object(request: &Request, tag: &str) -> Option<Response> {
    let answer = |status| message::respond(request, status, Some(tag));
    // A missing Max-Forwards is the one finding that RFC 2543 allowed.
    let findings = validate_request(request);
    let broken = findings.iter().filter(|finding| !finding.is_repairable()).map(sipx_sip::Finding::status).max();
    if let Some(status) = broken {
        return Some(answer(status));
    }
    if !is_served(&request.method) {
        return Some(with(answer(405), HeaderName::Allow, ALLOW));
    }
    if size(request) > limits::SIP_MESSAGE_MAX {
        return Some(answer(513));
    }
    if request.method == Method::Cancel {
        // RFC 3261 §8.2.2.3: Require is ignored in CANCEL; and there is nothing else in it to object to.
        return None;
    }
    let scheme = request.uri.scheme().as_bytes().to_ascii_lowercase();
    if !matches!(scheme.as_slice(), b"sip" | b"sips" | b"tel") {
        return Some(answer(416));
    }
    let foreign = message::options(&request.headers, &HeaderName::Require)
        .filter(|option| !UNDERSTOOD.iter().any(|known| option.eq_ignore_ascii_case(known)));
    let foreign: Vec<String> = foreign.collect();
    if !foreign.is_empty() {
        return Some(with(answer(420), HeaderName::Unsupported, &foreign.join(", ")));
    }
    content(request, tag)
}

/// Objections to the body (RFC 3261 §8.2.3) and to what an INVITE says of it.
fn content(request: &Request, tag: &str) -> Option<Response> {
    let answer = |status| message::respond(request, status, Some(tag));
    let headers = &request.headers;
    let may_offer = matches!(request.method, Method::Invite | Method::Update | Method::Prack);
    if may_offer && !request.body().is_empty() {
        if message::sdp(headers, request.body()).is_none() && !bodies::is_optional(headers) {
            return Some(with(answer(415), HeaderName::Accept, SDP));
        }
        let encoding = headers.value(&HeaderName::ContentEncoding);
        if encoding.is_some_and(|value| !value.eq_ignore_ascii_case(b"identity")) {
            return Some(with(answer(415), HeaderName::AcceptEncoding, "identity"));
        }
        if request.body().len() > limits::SDP_LEN_MAX {
            return Some(answer(413));
        }
    }
    if request.method != Method::Invite {
        return None;
    }
    if !takes_sdp(request) {
        return Some(answer(406));
    }
    if !is_gmt(headers) {
        return Some(answer(400));
    }
    let contact_is_bad = headers.get(&HeaderName::Contact).is_some() && message::contact(headers).is_none();
    if contact_is_bad || message::record_route(headers).is_none() {
        return Some(answer(400));
    }
    // RFC 3261 §16.3: as a B2BUA we may place a second call on this one, so a loop must end here. An endpoint serves
    // any other request with zero hops left (RFC 4475 §3.3.11).
    let hops = headers.typed::<sipx_sip::headers::MaxForwards>().and_then(Result::ok);
    let is_new = message::tag(headers, &HeaderName::To).is_none();
    if is_new && hops.is_some_and(|hops| hops.0 == 0) {
        return Some(answer(483));
    }
    None
}

fn admit(request: &Request, tag: &str) -> Verdict {
    let in_dialog = message::tag(&request.headers, &HeaderName::To).is_some();
    match request.method {
        Method::Cancel => Verdict::Serve(Kind::Cancel),
        _ if in_dialog => Verdict::Serve(Kind::InDialog),
        Method::Invite => Verdict::Serve(Kind::Call),
        Method::Options => Verdict::Answer(Box::new(capabilities(request, Some(tag)))),
        // Calls are moved within calls; whoever is not on one has nobody to move.
        Method::Refer => Verdict::Answer(Box::new(message::respond(request, 403, Some(tag)))),
        // BYE, INFO, PRACK and UPDATE live only within dialogs.
        _ => Verdict::Answer(Box::new(message::respond(request, 481, Some(tag)))),
    }
}

/// What we can do (RFC 3261 §11.2), in answer to OPTIONS.
pub(super) fn capabilities(request: &Request, tag: Option<&str>) -> Response {
    let response = message::respond(request, 200, tag);
    let response = with(response, HeaderName::Allow, ALLOW);
    let response = with(response, HeaderName::Accept, SDP);
    let response = with(response, HeaderName::AcceptEncoding, "identity");
    with(response, HeaderName::Supported, &format!("{OPTION_TAG}, {}", message::SUPPORTED))
}

fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    message::put(&mut response.headers, name, value);
    response
}

fn is_served(method: &Method) -> bool {
    matches!(
        method,
        Method::Invite
            | Method::Cancel
            | Method::Bye
            | Method::Options
            | Method::Info
            | Method::Prack
            | Method::Update
            | Method::Refer
            | Method::Notify
    )
}

/// RFC 3261 §20.17: a date is in GMT, or it is none (RFC 4475 §3.1.2.12).
fn is_gmt(headers: &sipx_sip::Headers) -> bool {
    headers.value(&HeaderName::Date).is_none_or(|date| date.trim_ascii_end().ends_with(b"GMT"))
}

/// Extensions that a peer may insist on (RFC 3261 §8.2.2.3).
const UNDERSTOOD: [&str; 4] = [OPTION_TAG, TIMER, "replaces", "norefersub"];

fn takes_sdp(request: &Request) -> bool {
    let mut accepts = request.headers.get_all(&HeaderName::Accept).peekable();
    if accepts.peek().is_none() {
        return true;
    }
    accepts.any(|header| {
        let value = message::text(&header.value()).to_ascii_lowercase();
        value.split(',').any(|range| {
            let range = range.split(';').next().unwrap_or("").trim();
            matches!(range, "application/sdp" | "application/*" | "*/*")
        })
    })
}

fn size(request: &Request) -> usize {
    request.headers.iter().map(|header| header.raw_value().len() + 4).sum::<usize>() + request.body().len()
}
