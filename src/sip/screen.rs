//! The guard at the door: what it is shown of a request, and what its verdict says on the wire.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sipx_sip::{HeaderName, Request, Response};

use super::event::Transport;
use super::message;
use crate::guard::{Access, Approach, Guard, InForce, Reason, Verdict};

/// The guard of all listeners. Clones share it. Times are since it was made.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    guard: Arc<Mutex<Guard>>,
    access: InForce,
}

/// What becomes of a request that belongs to nothing we have.
#[derive(Debug)]
pub(super) enum Screened {
    /// It is let in, as this trunk's.
    Admitted(Option<Arc<str>>),
    /// It gets this answer, and nothing else.
    Answer(Box<Response>),
    /// It gets none.
    Ignore,
}

impl Screen {
    /// The key must be drawn at random.
    pub(super) fn new(key: [u8; 32], access: InForce) -> Screen {
        Screen { guard: Arc::new(Mutex::new(Guard::new(key))), access }
    }

    pub(super) fn access(&self) -> Arc<Access> {
        self.access.now()
    }

    /// Asked for every datagram and connection, before anything in it is read.
    pub(super) fn listens_to(&self, now: Duration, source: IpAddr) -> bool {
        let access = self.access.now();
        self.guard().listens_to(now, &access, source)
    }

    /// We have a dialog with this address.
    pub(super) fn befriend(&self, address: IpAddr) {
        self.guard().befriend(address);
    }

    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        self.guard().counts().iter().map(|(reason, count)| (reason.label(), *count)).collect()
    }

    pub(super) fn known(&self) -> usize {
        self.guard().known()
    }

    pub(super) fn judge(
        &self,
        now: Duration,
        request: &Request,
        from: (IpAddr, Transport),
        tls_names: &[String],
        tag: &str,
    ) -> Screened {
        let (source, transport) = from;
        let method = message::text(request.method.as_bytes());
        let user = message::user(&request.uri);
        let agent =
            request.headers.value(&HeaderName::UserAgent).map(|agent| message::text(&agent)).unwrap_or_default();
        let authorization: Vec<String> =
            request.headers.get_all(&HeaderName::Authorization).map(|header| message::text(&header.value())).collect();
        let approach = Approach {
            source,
            is_connected: transport != Transport::Udp,
            tls_names,
            method: &method,
            user: &user,
            agent: &agent,
            authorization: &authorization,
        };
        let access = self.access.now();
        let judged = self.guard().judge(now, &access, &approach);
        if judged.is_news {
            say(source, transport, &method, judged.reason);
        }
        let answer = |status| message::respond(request, status, Some(tag));
        match judged.verdict {
            Verdict::Admit(trunk) => Screened::Admitted(trunk),
            Verdict::Challenge(challenges) => {
                let mut response = answer(401);
                for challenge in challenges {
                    message::put(&mut response.headers, HeaderName::WwwAuthenticate, challenge);
                }
                Screened::Answer(Box::new(response))
            }
            Verdict::Forbid => Screened::Answer(Box::new(answer(403))),
            Verdict::TooMany { retry_after_s } => {
                let mut response = answer(503);
                message::put(&mut response.headers, HeaderName::RetryAfter, retry_after_s.to_string());
                Screened::Answer(Box::new(response))
            }
            Verdict::Ignore => Screened::Ignore,
        }
    }

    fn guard(&self) -> std::sync::MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At most once for each source and minute, and not more than the guard thinks a log can take.
fn say(source: IpAddr, transport: Transport, method: &str, reason: Reason) {
    let remedy = match reason {
        Reason::Stranger => "if this is a trunk, add the address to its allowed_addresses",
        Reason::WrongPassword => "if this is a trunk, compare username and password with [inbound.login]",
        Reason::TrunkRate => "if the peer is well, raise trunk_requests_per_second under [protection]",
        Reason::StrangerRate | Reason::Scanner => "if this is a trunk, add the address to its allowed_addresses",
        Reason::Open
        | Reason::Recognised
        | Reason::Proved
        | Reason::StrangersRate
        | Reason::Silenced
        | Reason::Unproved
        | Reason::StaleNonce
        | Reason::Replayed
        | Reason::LockedOut => "none needed",
    };
    // What a stranger wrote is cut short and escaped.
    let method: String = method.chars().take(16).collect();
    tracing::warn!(%source, %transport, ?method, reason = reason.label(), remedy, "a SIP request was not let in");
}
