//! Requests outside of any dialog: OPTIONS to see whether a peer lives, REGISTER to be found by it.
//!
//! A question is a plain future: whoever drops it asks no more, and nothing else of the room knows of it. Requests that
//! belong together (all registrations of one address) share a [`Conversation`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use sipx_sip::headers::{Address, Expires};
use sipx_sip::{HeaderName, Headers, Method, Request, Response, Uri};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Sip;
use super::digest::{Digest, Login};
use super::event::{DialogId, Failure, Transport};
use super::handle::Order;
use super::message::{self, Own};
use super::net::{self, Hop, Way};
use super::stack::{Report, Stack};
use crate::model::limits;
use crate::trunk::gateways::Sign;
use crate::trunk::registrar::Answer;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Whether anybody is there (RFC 3261 §11).
    Options,
    /// To be bound (RFC 3261 §10.2).
    Register {
        /// The address of record, as `sip:user@domain`.
        aor: String,
        /// User part of our Contact: unguessable, so that whoever calls it must have it from the registrar.
        contact_user: String,
        /// For how long; zero takes the binding away.
        expires: Duration,
    },
}

/// A request, and how long an answer is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    #[allow(missing_docs)]
    pub asked: Asked,
    /// Whom, as a SIP URI.
    pub uri: String,
    /// All in all: looking the name up, every address, and challenges.
    pub timeout: Duration,
}

/// Requests that belong together: one Call-ID, CSeq counting up (RFC 3261 §10.2), challenges remembered.
#[derive(Clone, Debug)]
pub struct Conversation {
    call_id: String,
    tag: String,
    cseq: u32,
    digest: Digest,
}

/// A final answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 699.
    pub status: u16,
    /// The words beside it.
    pub reason: String,
    /// Who answered.
    pub by: SocketAddr,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `Min-Expires`, with a 423.
    pub min_expires: Option<Duration>,
    /// How long the binding that we asked for lives.
    pub expires: Duration,
    /// `Service-Route` (RFC 3608), in order.
    pub service_route: Vec<String>,
}

impl Conversation {
    /// A new one; the login answers challenges.
    pub fn new(login: Option<Login>) -> Conversation {
        let digest = Digest::new(login, &super::wire::new_token());
        Conversation { call_id: super::wire::new_token(), tag: super::wire::new_token(), cseq: 0, digest }
    }

    /// The same conversation under this login: challenges are remembered as long as it stays the same.
    pub fn logged_in(self, login: Option<Login>) -> Conversation {
        if self.digest.is_of(login.as_ref()) {
            return self;
        }
        Conversation { digest: Digest::new(login, &super::wire::new_token()), ..self }
    }
}

impl Sip {
    /// Asks, and waits for the final answer. The addresses of a name are tried in turn, and challenges answered.
    ///
    /// # Errors
    /// [`Failure::Timeout`] when no answer came in time, and why none could come.
    pub async fn ask(&self, question: &Question, conversation: &mut Conversation) -> Result<Reply, Failure> {
        let asking = self.ask_patiently(question, conversation);
        timeout(question.timeout, asking).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn ask_patiently(&self, question: &Question, conversation: &mut Conversation) -> Result<Reply, Failure> {
        let uri = Uri::parse(question.uri.clone().into_bytes().into()).map_err(|_| Failure::BadRequest)?;
        let hops = match net::way(&uri, Transport::Udp) {
            Way::Nowhere => return Err(Failure::BadRequest),
            Way::Known(hop) => vec![hop],
            named => self.inquire(|answer| Inquiry::Find(named, answer)).await?,
        };
        let first = hops.first().ok_or(Failure::Unresolved)?;
        let endpoint = self.net().endpoint_for(first, None).ok_or(Failure::Transport)?;
        let own = self.net().own(endpoint, first);
        conversation.digest.begin();
        loop {
            conversation.cseq = conversation.cseq.saturating_add(1);
            let mut request = write(&own, &uri, &question.asked, conversation).ok_or(Failure::BadRequest)?;
            conversation.digest.authorize(&mut request);
            let hops = hops.clone();
            let (response, hop) =
                self.inquire(|answer| Inquiry::Ask(Box::new(request), hops, endpoint, answer)).await??;
            match response.status.code() {
                401 | 407 if question.asked != Asked::Options => conversation.digest.challenged(&response)?,
                // Whoever asks for a proof lives, and that is all that OPTIONS wants to know.
                _ => return Ok(reply(&response, &hop, &question.asked)),
            }
        }
    }

    async fn inquire<A>(&self, inquiry: impl FnOnce(oneshot::Sender<A>) -> Inquiry) -> Result<A, Failure> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Inquire(inquiry(answer))).await;
        // After shutdown there is nobody to ask.
        answered.await.map_err(|_| Failure::Transport)
    }
}

/// What came back, and from where.
type Answered = Result<(Box<Response>, Hop), Failure>;

/// What a question needs of the wire.
#[derive(Debug)]
pub(super) enum Inquiry {
    /// Where a name leads.
    Find(Way, oneshot::Sender<Vec<Hop>>),
    /// A request to the first of these hops that speaks, from this endpoint.
    Ask(Box<Request>, Vec<Hop>, usize, oneshot::Sender<Answered>),
}

/// Who waits for what on the wire. Bounded by the errands of the stack, each of which ends within 64·T1.
#[derive(Debug, Default)]
pub(super) struct Inquiries(HashMap<DialogId, Waiting>);

#[derive(Debug)]
enum Waiting {
    Hops(oneshot::Sender<Vec<Hop>>),
    Answer(oneshot::Sender<Answered>),
}

impl Inquiries {
    pub(super) fn begin(&mut self, id: DialogId, inquiry: Inquiry, stack: &mut Stack) {
        match inquiry {
            Inquiry::Find(way, answer) => {
                self.0.insert(id, Waiting::Hops(answer));
                stack.look_up(id, way);
            }
            Inquiry::Ask(request, hops, endpoint, answer) => {
                self.0.insert(id, Waiting::Answer(answer));
                stack.inquire(id, *request, hops, endpoint);
            }
        }
    }

    /// Takes the reports that somebody here waits for, and gives the others back.
    pub(super) fn take(&mut self, report: Report) -> Option<Report> {
        let Some(waiting) = self.0.remove(&report.dialog()) else { return Some(report) };
        // Whoever asked may have gone meanwhile.
        match (waiting, report) {
            (Waiting::Hops(answer), Report::Looked(_, hops)) => drop(answer.send(hops)),
            (Waiting::Answer(answer), Report::Answered(_, answered)) => drop(answer.send(answered)),
            (_, report) => return Some(report),
        }
        None
    }
}

fn write(own: &Own, uri: &Uri, asked: &Asked, conversation: &Conversation) -> Option<Request> {
    let text = message::text(&uri.to_bytes());
    let Conversation { call_id, tag, cseq, .. } = conversation;
    let (method, word, from, to, contact) = match asked {
        Asked::Options => (Method::Options, "OPTIONS", ours(own), text, without_user(own)?),
        Asked::Register { aor, contact_user, .. } => {
            (Method::Register, "REGISTER", aor.clone(), aor.clone(), contact_of(own, contact_user)?)
        }
    };
    let mut request = Request::new(method, uri.clone());
    let headers = &mut request.headers;
    message::put(headers, HeaderName::MaxForwards, "70");
    message::put(headers, HeaderName::From, format!("<{from}>;tag={tag}"));
    message::put(headers, HeaderName::To, format!("<{to}>"));
    message::put(headers, HeaderName::CallId, format!("{call_id}@{}", own.host));
    message::put(headers, HeaderName::CSeq, format!("{cseq} {word}"));
    message::put(headers, HeaderName::Contact, contact);
    if let Asked::Register { expires, .. } = asked {
        message::put(headers, HeaderName::Expires, expires.as_secs().to_string());
        // RFC 3327 §5.1: proxies on the way may ask to stay in it.
        message::put(headers, HeaderName::Supported, "path");
    }
    message::put(headers, HeaderName::Allow, message::ALLOW);
    message::put(headers, HeaderName::Accept, message::SDP);
    message::put(headers, HeaderName::UserAgent, own.agent.clone());
    message::put(headers, HeaderName::ContentLength, "0");
    // A header that could not be written is not there; without these the request is none.
    let is_whole =
        [HeaderName::From, HeaderName::To, HeaderName::Contact].iter().all(|name| headers.get(name).is_some());
    is_whole.then_some(request)
}

fn ours(own: &Own) -> String {
    contact_uri(own).map_or_else(|| format!("sip:{}", own.host), str::to_owned)
}

/// Our Contact as a place and nobody's: some peers know us by the host alone, and want nothing before it.
fn without_user(own: &Own) -> Option<String> {
    let (scheme, rest) = contact_uri(own)?.split_once(':')?;
    Some(format!("<{scheme}:{}>", rest.split_once('@').map_or(rest, |(_, host)| host)))
}

/// Our Contact under another user.
fn contact_of(own: &Own, user: &str) -> Option<String> {
    let (scheme, rest) = contact_uri(own)?.split_once(':')?;
    let (_, host) = rest.split_once('@')?;
    Some(format!("<{scheme}:{user}@{host}>"))
}

fn contact_uri(own: &Own) -> Option<&str> {
    own.contact.split_once('<')?.1.split_once('>').map(|(uri, _)| uri)
}

fn reply(response: &Response, hop: &Hop, asked: &Asked) -> Reply {
    let headers = &response.headers;
    let seconds = |secs: u32| Duration::from_secs(secs.into());
    Reply {
        status: response.status.code(),
        reason: message::text(&response.reason),
        by: hop.addr,
        retry_after: message::retry_after_s(headers).map(seconds),
        min_expires: headers.value(&HeaderName::MinExpires).and_then(|value| number(&value)).map(seconds),
        expires: match asked {
            Asked::Options => Duration::ZERO,
            Asked::Register { contact_user, expires, .. } => granted(headers, contact_user).map_or(*expires, seconds),
        },
        service_route: service_route(headers),
    }
}

/// How long our binding lives (RFC 3261 §10.3): what stands beside our Contact, or else for all of them. A registrar lists
/// the bindings of all who registered the address.
fn granted(headers: &Headers, contact_user: &str) -> Option<u32> {
    let beside = headers.get_all(&HeaderName::Contact).take(limits::SIP_HEADERS_MAX).find_map(|header| {
        let contacts = Address::parse_list(&header.value(), "Contact").ok()?;
        let ours = contacts
            .iter()
            .find(|contact| contact.uri.decoded_user().is_some_and(|user| message::text(&user) == contact_user))?;
        number(ours.param("expires")?)
    });
    beside.or_else(|| headers.typed::<Expires>()?.ok().map(|expires| expires.0))
}

fn service_route(headers: &Headers) -> Vec<String> {
    let rows = headers.get_all(&HeaderName::ServiceRoute);
    let routes = rows.filter_map(|row| Address::parse_list(&row.value(), "Service-Route").ok()).flatten();
    routes.map(|route| message::text(&route.uri.to_bytes())).take(limits::SIP_ROUTES_MAX).collect()
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

/// What an answer to OPTIONS says of a gateway.
pub fn sign(result: &Result<Reply, Failure>) -> Sign {
    match result {
        Ok(Reply { status: 503, retry_after, .. }) => Sign::Busy { retry_after: *retry_after },
        Ok(Reply { status: 408, .. }) | Err(_) => Sign::Silent,
        Ok(_) => Sign::Alive,
    }
}

/// What an answer to an INVITE says of the gateway that it went to.
pub fn sign_of_call(failure: &Failure) -> Sign {
    match failure {
        Failure::Refused { status: 503, retry_after_s, .. } => {
            Sign::Busy { retry_after: retry_after_s.map(|secs| Duration::from_secs(secs.into())) }
        }
        Failure::Timeout | Failure::Silent | Failure::Transport | Failure::Unresolved => Sign::Silent,
        Failure::Refused { .. } | Failure::Unauthorized { .. } | Failure::BadRequest | Failure::NoSdp => Sign::Alive,
    }
}

/// What an answer to REGISTER says.
pub fn answer(result: &Result<Reply, Failure>) -> Answer {
    match result {
        Ok(reply) => match reply.status {
            200..300 => Answer::Granted { expires: reply.expires, service_route: reply.service_route.clone() },
            423 => match reply.min_expires {
                Some(least) => Answer::TooBrief { least },
                None => Answer::Refused { retry_after: None },
            },
            // The server's own trouble, or its network's; others may be better off.
            408 | 480 | 500.. => Answer::Refused { retry_after: reply.retry_after },
            _ if reply.retry_after.is_some() => Answer::Refused { retry_after: reply.retry_after },
            _ => Answer::Denied,
        },
        Err(Failure::Unauthorized { .. } | Failure::BadRequest) => Answer::Denied,
        Err(_) => Answer::Silent,
    }
}

/// The answer in words for people: the status line, or why there is none.
pub fn words(result: &Result<Reply, Failure>) -> String {
    match result {
        Ok(reply) => {
            let reason: String = reply.reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
            format!("{} {reason}", reply.status)
        }
        Err(failure @ Failure::Unauthorized { .. }) => failure.to_string(),
        Err(Failure::Timeout | Failure::Silent) => "no answer in time".to_owned(),
        Err(Failure::Transport) => "could not be sent: connection refused, or no route".to_owned(),
        Err(Failure::Unresolved) => "the host name has no address".to_owned(),
        Err(_) => "cannot be written as a SIP request".to_owned(),
    }
}

/// Reason phrases are a few words; a peer may write a novel.
const REASON_MAX: usize = 80;
