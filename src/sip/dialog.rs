//! The part of a dialog that both sides keep alike (RFC 3261 §12): tags, numbers, and the way to the other side.

use std::time::Duration;

use sipx_sip::{HeaderName, Headers, Method, Request, Response, TransactionKey, Uri, update};

use super::digest::{self, Digest};
use super::event::{Replaces, SipEvent};
use super::message::{self, Own};
use crate::model::limits;

/// What a dialog wants done. The wire does it in this order.
#[derive(Debug)]
pub(super) enum Out {
    /// Answer a request.
    Respond(TransactionKey, Response),
    /// Start the INVITE of an outbound call.
    Invite(Request),
    /// Cancel that INVITE.
    Cancel(Option<u8>),
    /// Acknowledge a 2xx.
    Ack(Letter),
    /// Send another request, and report what comes back under this name.
    Ask(Ask, Letter),
    /// Wake the dialog after this long.
    Arm(Timer, Duration),
    /// Or do not.
    Disarm(Timer),
    /// Tell the gateway.
    Tell(SipEvent),
    /// Forget the dialog.
    Over,
}

/// A request of ours within a dialog, so that its answers find it: the early dialog it belongs to, and a number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) fork: u16,
    pub(super) number: u32,
}

/// What came of an [`Out::Ask`].
#[derive(Debug)]
pub(super) enum Reply {
    /// An answer. For an INVITE every one, copies of the 2xx too; else the final one.
    Response(Box<Response>),
    /// Nobody answered within 64·T1, or it could not be sent.
    Lost,
    /// It was an INVITE, and no further answer can come.
    Over,
}

/// A request within a dialog, and where it goes first.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) request: Request,
    /// The first route, or else the target (RFC 3261 §12.2.1.1).
    pub(super) next: Uri,
    /// Whether a proxy asked to stay in the path.
    pub(super) is_routed: bool,
}

/// What a dialog may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Send the 2xx again, T1 after the first and then ever slower up to T2.
    Repeat,
    /// 64·T1: the ACK will not come, or no final answer after CANCEL.
    Patience,
    /// Say once more that it rings.
    Ring,
    /// Forget an INVITE that was refused.
    Linger,
    /// Half the session's interval is over: give a sign of life (RFC 4028 §7.2).
    Refresh,
    /// No sign of life came: the session is over (RFC 4028 §10).
    Expire,
    /// Send a reliable provisional answer again: after T1, 2·T1 and so on (RFC 3262 §3).
    Chase,
    /// 64·T1: its PRACK will not come.
    ChaseEnd,
    /// The other side has had its time to hear how its referral ended; now BYE goes.
    News,
    /// Two requests collided; ours may be tried again (RFC 3261 §14.1).
    Glare,
    /// Not even a 100 has come to our INVITE.
    Silence,
}

/// Tags, numbers, routes.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    call_id: Vec<u8>,
    /// Our From in requests, with our tag.
    local: Vec<u8>,
    /// Their To in requests, with their tag.
    remote: Vec<u8>,
    remote_tag: Vec<u8>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    route: Vec<Uri>,
    target: Uri,
    /// We sent the first INVITE, so the Call-ID is ours.
    pub(super) is_ours: bool,
    /// The other side takes UPDATE, as far as its Allow says.
    pub(super) takes_update: bool,
    digest: Digest,
}

impl Dialog {
    /// From an INVITE that we received (RFC 3261 §12.1.1). `None` when it lacks what the front door asks for.
    pub(super) fn incoming(invite: &Request, tag: &str) -> Option<Dialog> {
        let headers = &invite.headers;
        let from = message::value(headers, &HeaderName::From)?;
        let from_uri = sipx_sip::Address::parse(&from, "From").ok()?.uri;
        let mut local = message::value(headers, &HeaderName::To)?;
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(tag.as_bytes());
        Some(Dialog {
            call_id: message::call_id(headers),
            local,
            remote: from,
            remote_tag: message::tag(headers, &HeaderName::From).unwrap_or_default(),
            local_cseq: 0,
            remote_cseq: message::cseq(headers),
            route: message::record_route(headers)?,
            // RFC 2543 peers send no Contact; their From is the best that is known.
            target: message::contact(headers).unwrap_or(from_uri),
            is_ours: false,
            takes_update: update::peer_allows(headers),
            digest: Digest::new(None, ""),
        })
    }

    /// From the answer to an INVITE that we sent (RFC 3261 §12.1.2).
    pub(super) fn outgoing(invite: &Request, response: &Response) -> Option<Dialog> {
        let mut route = message::record_route(&response.headers)?;
        route.reverse();
        Some(Dialog {
            call_id: message::call_id(&invite.headers),
            local: message::value(&invite.headers, &HeaderName::From)?,
            remote: message::value(&response.headers, &HeaderName::To)?,
            remote_tag: message::tag(&response.headers, &HeaderName::To).unwrap_or_default(),
            local_cseq: message::cseq(&invite.headers)?,
            remote_cseq: None,
            route,
            target: message::contact(&response.headers).unwrap_or_else(|| invite.uri.clone()),
            is_ours: true,
            takes_update: update::peer_allows(&response.headers),
            digest: Digest::new(None, ""),
        })
    }

    /// The same of a response that no dialog can be made of: what cannot be read is taken from the INVITE.
    pub(super) fn outgoing_as_well_as_can_be(invite: &Request, response: &Response) -> Option<Dialog> {
        Dialog::outgoing(invite, response).or_else(|| {
            let headers = &response.headers;
            Some(Dialog {
                call_id: message::call_id(&invite.headers),
                local: message::value(&invite.headers, &HeaderName::From)?,
                remote: message::value(headers, &HeaderName::To)
                    .or_else(|| message::value(&invite.headers, &HeaderName::To))?,
                remote_tag: message::tag(headers, &HeaderName::To).unwrap_or_default(),
                local_cseq: message::cseq(&invite.headers)?,
                remote_cseq: None,
                route: Vec::new(),
                target: message::contact(headers).unwrap_or_else(|| invite.uri.clone()),
                is_ours: true,
                takes_update: false,
                digest: Digest::new(None, ""),
            })
        })
    }

    /// Who we are when challenged, and which challenges we know already.
    pub(super) fn log_in(&mut self, digest: Digest) {
        self.digest = digest;
    }

    /// Whether a request names the other side of this dialog.
    pub(super) fn is_from_peer(&self, request: &Request) -> bool {
        message::tag(&request.headers, &HeaderName::From).unwrap_or_default() == self.remote_tag
    }

    pub(super) fn has_remote_tag(&self, tag: &[u8]) -> bool {
        self.remote_tag == tag
    }

    /// Our address as they know it, without our tag.
    pub(super) fn local_address(&self) -> Vec<u8> {
        match sipx_sip::Address::parse(&self.local, "From") {
            Ok(address) => [b"<".as_slice(), &address.uri.to_bytes(), b">"].concat(),
            Err(_) => self.local.clone(),
        }
    }

    /// Where the other side is reached, and how it knows this dialog: the tags the other way round (RFC 3891 §3).
    pub(super) fn as_named_by_peer(&self) -> (String, Replaces) {
        let address = sipx_sip::Address::parse(&self.local, "From").ok();
        let our_tag = address.as_ref().and_then(sipx_sip::Address::tag).unwrap_or_default();
        let replaces = Replaces {
            call_id: message::text(&self.call_id),
            to_tag: message::text(&self.remote_tag),
            from_tag: message::text(our_tag),
            early_only: false,
            dialog: None,
        };
        (message::text(&bare(&self.target).to_bytes()), replaces)
    }

    /// Takes the number of a request; `false` when it comes after a later one (RFC 3261 §12.2.2). Gaps are fine.
    pub(super) fn take_cseq(&mut self, request: &Request) -> bool {
        let Some(cseq) = message::cseq(&request.headers) else { return false };
        if self.remote_cseq.is_some_and(|last| cseq < last) {
            return false;
        }
        self.remote_cseq = Some(cseq);
        true
    }

    /// A target refresh (RFC 3261 §12.2.2): from now on they are reached at this Contact. What they allow is kept, too.
    pub(super) fn refresh_target(&mut self, headers: &Headers) {
        if let Some(contact) = message::contact(headers) {
            self.target = contact;
        }
        if headers.get(&HeaderName::Allow).is_some() {
            self.takes_update = update::peer_allows(headers);
        }
    }

    /// Becomes the dialog that the 2xx describes: its route, target and name (RFC 3261 §13.2.2.4).
    pub(super) fn confirm(&mut self, answered: Dialog) {
        let (local_cseq, remote_cseq) = (self.local_cseq.max(answered.local_cseq), self.remote_cseq);
        let digest = std::mem::replace(&mut self.digest, Digest::new(None, ""));
        *self = Dialog { local_cseq, remote_cseq, digest, ..answered };
    }

    /// The ACK of our INVITE number `cseq` (RFC 3261 §13.2.2.4).
    pub(super) fn ack(&self, cseq: u32, own: &Own) -> Letter {
        self.write(Method::Ack, cseq, own)
    }

    /// The number of our latest request.
    pub(super) fn cseq(&self) -> u32 {
        self.local_cseq
    }

    /// The next request, but ACK and CANCEL.
    pub(super) fn request(&mut self, method: Method, own: &Own) -> Letter {
        self.digest.begin();
        self.again(method, own)
    }

    /// The next request, which repeats one that was challenged.
    pub(super) fn again(&mut self, method: Method, own: &Own) -> Letter {
        self.local_cseq = self.local_cseq.saturating_add(1);
        let mut letter = self.write(method, self.local_cseq, own);
        // Where we know what will be asked, the proof goes along at once.
        self.digest.authorize(&mut letter.request);
        letter
    }

    /// The same request under the next number, with the proof that was asked for (RFC 3261 §22.2).
    pub(super) fn prove(&mut self, letter: &Letter) -> Letter {
        self.local_cseq = self.local_cseq.saturating_add(1);
        let mut request = digest::again(&letter.request, self.local_cseq);
        self.digest.authorize(&mut request);
        Letter { request, ..letter.clone() }
    }

    /// Takes a challenge; `false` when another try would be in vain.
    pub(super) fn is_challenged(&mut self, response: &Response) -> bool {
        self.digest.challenged(response).is_ok()
    }

    /// The next BYE.
    pub(super) fn bye(&mut self, cause: Option<u8>, own: &Own) -> Letter {
        let mut bye = self.request(Method::Bye, own);
        message::put_q850(&mut bye.request.headers, cause);
        bye
    }

    fn write(&self, method: Method, cseq: u32, own: &Own) -> Letter {
        // RFC 3261 §12.2.1.1: a first route without `lr` is an old strict router; it wants to be the Request-URI, and
        // the target goes to the end of the list.
        let (uri, routes) = match self.route.split_first() {
            Some((first, rest)) if !is_loose(first) => (first, rest.iter().chain([&self.target]).collect::<Vec<_>>()),
            _ => (&self.target, self.route.iter().collect()),
        };
        let cseq_value = format!("{cseq} {}", message::text(method.as_bytes()));
        let mut request = Request::new(method, bare(uri));
        let headers = &mut request.headers;
        for route in routes {
            message::put(headers, HeaderName::Route, [b"<".as_slice(), &route.to_bytes(), b">"].concat());
        }
        message::put(headers, HeaderName::MaxForwards, "70");
        message::put(headers, HeaderName::From, self.local.clone());
        message::put(headers, HeaderName::To, self.remote.clone());
        message::put(headers, HeaderName::CallId, self.call_id.clone());
        message::put(headers, HeaderName::CSeq, cseq_value);
        message::put(headers, HeaderName::UserAgent, own.agent.clone());
        message::put(headers, HeaderName::ContentLength, "0");
        let next = self.route.first().unwrap_or(&self.target).clone();
        Letter { request, next, is_routed: !self.route.is_empty() }
    }
}

impl Letter {
    /// Gives it a description.
    pub(super) fn describe(&mut self, sdp: &str) {
        self.request.headers.remove_all(&HeaderName::ContentLength);
        message::put_body(&mut self.request.headers, message::SDP, sdp.as_bytes());
        self.request.set_body(sdp.to_owned().into_bytes().into());
    }

    /// Says where we are reached and what we can, as every request does that may change either.
    pub(super) fn present(&mut self, own: &Own) {
        message::put(&mut self.request.headers, HeaderName::Contact, own.contact.clone());
        message::put(&mut self.request.headers, HeaderName::Allow, message::ALLOW);
        message::put(&mut self.request.headers, HeaderName::Supported, message::SUPPORTED);
    }
}

/// Adds to a response what makes it open a dialog: the recorded route, and where we are reached (RFC 3261 §12.1.1).
pub(super) fn establish(response: &mut Response, invite: &Request, own: &Own) {
    for route in invite.headers.get_all(&HeaderName::RecordRoute).take(limits::SIP_ROUTES_MAX) {
        response.headers.push(route.clone());
    }
    message::put(&mut response.headers, HeaderName::Contact, own.contact.clone());
    message::put(&mut response.headers, HeaderName::Allow, message::ALLOW);
    message::put(&mut response.headers, HeaderName::Supported, message::SUPPORTED);
}

fn is_loose(route: &Uri) -> bool {
    route.params().is_some_and(|params| params.get("lr").is_some())
}

/// The URI without the `?header` part, which a Request-URI must not have (RFC 3261 §19.1.1).
fn bare(uri: &Uri) -> Uri {
    if !uri.has_headers() {
        return uri.clone();
    }
    let octets = uri.to_bytes();
    let end = octets.iter().rposition(|octet| *octet == b'?').unwrap_or(octets.len());
    Uri::parse(octets.slice(..end)).unwrap_or_else(|_| uri.clone())
}
