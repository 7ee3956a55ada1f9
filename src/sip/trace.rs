//! The messages of each dialog, for whoever has to understand a call afterwards.
//!
//! A message is kept as it is, which costs a few counted pointers, and written out when somebody takes the trace: only
//! then passwords and keys are blotted out. What a transaction makes or repeats by itself is not in it: copies, our CANCEL,
//! the ACK of a refusal.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sipx_sip::{Message, Request, Response};
use tokio::time::Instant;

use super::event::{DialogId, Transport};
use super::message;
use super::net::Hop;
use crate::model::{Pii, limits};

/// One message of a dialog.
#[derive(Clone, Debug)]
pub struct Traced {
    /// How long ago it was.
    pub age: Duration,
    /// They sent it, not we.
    pub is_theirs: bool,
    /// The other side.
    pub peer: SocketAddr,
    /// How it travelled.
    pub transport: Transport,
    /// The message, without passwords and keys.
    pub text: Pii<String>,
}

/// The messages of one dialog.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// In the order in which they passed.
    pub messages: Vec<Traced>,
    /// Messages from the middle that were not kept.
    pub left_out: u64,
}

/// All dialogs' messages. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracer {
    shelf: Arc<Mutex<Shelf>>,
    is_on: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Shelf {
    dialogs: HashMap<DialogId, Kept>,
    /// Dialogs that are over and were not taken, oldest first.
    over: VecDeque<DialogId>,
    messages: usize,
}

#[derive(Debug, Default)]
struct Kept {
    first: Vec<Note>,
    last: VecDeque<Note>,
    left_out: u64,
}

#[derive(Debug)]
struct Note {
    at: Instant,
    is_theirs: bool,
    peer: SocketAddr,
    transport: Transport,
    message: Message,
}

impl Tracer {
    pub(super) fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    pub(super) fn request(&self, id: DialogId, now: Instant, is_theirs: bool, peer: &Hop, request: &Request) {
        if self.is_on.load(Ordering::Relaxed) {
            self.note(id, now, is_theirs, peer, Message::Request(request.clone()));
        }
    }

    pub(super) fn response(&self, id: DialogId, now: Instant, is_theirs: bool, peer: &Hop, response: &Response) {
        if self.is_on.load(Ordering::Relaxed) {
            self.note(id, now, is_theirs, peer, Message::Response(response.clone()));
        }
    }

    fn note(&self, id: DialogId, at: Instant, is_theirs: bool, peer: &Hop, message: Message) {
        let note = Note { at, is_theirs, peer: peer.addr, transport: peer.transport, message };
        let mut shelf = self.shelf();
        let is_full = shelf.messages >= limits::SIP_TRACES_MAX;
        let kept = shelf.dialogs.entry(id).or_default();
        if kept.first.len() < limits::SIP_TRACE_HALF && !is_full {
            kept.first.push(note);
        } else if is_full || kept.last.len() >= limits::SIP_TRACE_HALF {
            // How a dialog began and how it ended says most; with no room at all, the newest of it is left out.
            kept.left_out += 1;
            if !is_full {
                kept.last.pop_front();
                kept.last.push_back(note);
            }
            return;
        } else {
            kept.last.push_back(note);
        }
        shelf.messages += 1;
    }

    /// The dialog is over. Nobody may ever take its trace: a call that was refused has none who would.
    pub(super) fn over(&self, id: DialogId) {
        let mut shelf = self.shelf();
        if !shelf.dialogs.contains_key(&id) {
            return;
        }
        shelf.over.push_back(id);
        if shelf.over.len() > limits::SIP_TRACES_OVER_MAX
            && let Some(oldest) = shelf.over.pop_front()
        {
            shelf.remove(oldest);
        }
    }

    /// Lets a dialog's messages go; nobody wants to read them.
    pub(super) fn forget(&self, id: DialogId) {
        let mut shelf = self.shelf();
        shelf.over.retain(|over| *over != id);
        shelf.remove(id);
    }

    /// Takes a dialog's messages, written out.
    pub(super) fn take(&self, id: DialogId, now: Instant) -> Trace {
        let mut shelf = self.shelf();
        shelf.over.retain(|over| *over != id);
        let Some(kept) = shelf.remove(id) else { return Trace::default() };
        drop(shelf);
        let messages = kept.first.into_iter().chain(kept.last).map(|note| Traced {
            age: now.saturating_duration_since(note.at),
            is_theirs: note.is_theirs,
            peer: note.peer,
            transport: note.transport,
            text: Pii::new(without_secrets(&message::text(&note.message.to_bytes()))),
        });
        Trace { messages: messages.collect(), left_out: kept.left_out }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn remove(&mut self, id: DialogId) -> Option<Kept> {
        let kept = self.dialogs.remove(&id)?;
        self.messages = self.messages.saturating_sub(kept.first.len() + kept.last.len());
        Some(kept)
    }
}

/// A message without what lets somebody in: answers to challenges, media keys, and bodies that may hold keys pressed.
fn without_secrets(text: &str) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut out = String::with_capacity(text.len());
    let (mut is_secret, mut kind) = (false, String::new());
    for line in head.split("\r\n") {
        let is_folded = line.starts_with([' ', '\t']);
        if is_folded && is_secret {
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name = name.trim().to_ascii_lowercase();
        is_secret = !is_folded && matches!(name.as_str(), "authorization" | "proxy-authorization");
        if !is_folded && matches!(name.as_str(), "content-type" | "c") {
            kind = value.trim().to_ascii_lowercase();
        }
        if is_secret {
            out.push_str(line.split(':').next().unwrap_or_default());
            out.push_str(": •••\r\n");
        } else {
            out.push_str(line);
            out.push_str("\r\n");
        }
    }
    out.push_str("\r\n");
    if kind.starts_with("application/sdp") {
        for line in body.split_inclusive('\n') {
            let is_key = ["a=crypto:", "a=ice-pwd:", "k="].iter().any(|key| line.starts_with(key));
            match line.split_once("inline:").or_else(|| line.split_once(':')) {
                Some((before, _)) if is_key => out.push_str(&format!("{before}:•••\r\n")),
                _ if is_key => out.push_str("k=•••\r\n"),
                _ => out.push_str(line),
            }
        }
    } else if kind.starts_with("message/sipfrag") {
        out.push_str(body);
    } else if !body.is_empty() {
        out.push_str(&format!("({} octets of {kind} are not kept)\r\n", body.len()));
    }
    out
}

#[cfg(test)]
mod tests {
    use sipx_sip::{Method, Uri};

    use super::*;

    #[test]
    fn passwords_and_keys_are_blotted_out_and_the_rest_stays() {
        let text = "INVITE sip:1@x SIP/2.0\r\nAuthorization: Digest username=\"u\",\r\n response=\"abc\"\r\n\
                    proxy-authorization: Digest response=\"def\"\r\nIdentity: e.f.g\r\nContent-Type: application/sdp\r\n\r\n\
                    v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\na=ice-pwd:secret\r\na=sendrecv\r\n";

        let out = without_secrets(text);

        for secret in ["abc", "def", "c2VjcmV0", "secret", "username"] {
            assert!(!out.contains(secret), "{secret} in {out}");
        }
        for rest in ["Identity: e.f.g", "Authorization: •••", "AES_CM_128_HMAC_SHA1_80", "a=sendrecv"] {
            assert!(out.contains(rest), "{rest} not in {out}");
        }
        let keys = without_secrets("INFO sip:1@x SIP/2.0\r\nc: application/dtmf-relay\r\n\r\nSignal=5\r\n");
        assert!(!keys.contains("Signal=5") && keys.contains("(10 octets of application/dtmf-relay"), "{keys}");
    }

    #[test]
    fn a_long_dialog_keeps_its_beginning_and_its_end() {
        let tracer = Tracer::default();
        let (id, now) = (DialogId(7), Instant::now());
        let hop = Hop::new("192.0.2.1:5060".parse().unwrap(), Transport::Udp);
        let request = |n: usize| Request::new(Method::Options, Uri::parse(format!("sip:{n}@x").into()).unwrap());

        tracer.request(id, now, true, &hop, &request(0));
        tracer.switch(true);
        for n in 0..2 * limits::SIP_TRACE_HALF + 5 {
            tracer.request(id, now, true, &hop, &request(n));
        }
        let trace = tracer.take(id, now);

        assert_eq!((trace.messages.len(), trace.left_out), (2 * limits::SIP_TRACE_HALF, 5));
        assert!(trace.messages[0].text.reveal().starts_with("OPTIONS sip:0@x"));
        let last = format!("OPTIONS sip:{}@x", 2 * limits::SIP_TRACE_HALF + 4);
        assert!(trace.messages.last().unwrap().text.reveal().starts_with(&last));
        assert!(tracer.take(id, now).messages.is_empty(), "it is taken once");
    }

    #[test]
    fn traces_that_nobody_takes_do_not_grow() {
        let tracer = Tracer::default();
        tracer.switch(true);
        let hop = Hop::new("192.0.2.1:5060".parse().unwrap(), Transport::Udp);
        let request = Request::new(Method::Options, Uri::parse("sip:1@x".into()).unwrap());

        for n in 0..10 * limits::SIP_TRACES_OVER_MAX as u64 {
            tracer.request(DialogId(n), Instant::now(), true, &hop, &request);
            tracer.over(DialogId(n));
        }

        let shelf = tracer.shelf();
        assert_eq!((shelf.dialogs.len(), shelf.over.len()), (limits::SIP_TRACES_OVER_MAX, limits::SIP_TRACES_OVER_MAX));
        assert_eq!(shelf.messages, limits::SIP_TRACES_OVER_MAX);
    }
}
