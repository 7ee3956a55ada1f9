//! A dialog whose call is answered: the same for both directions.

use std::time::Duration;

use sipx_sip::{Method, Request, Response, TransactionKey};

use super::config::SipTimers;
use super::dialog::{Dialog, Out, Timer, establish};
use super::door;
use super::event::{By, DialogId, SipEvent};
use super::message::{self, Own};
use crate::model::Pii;
use crate::sdp::{self, Offer};

/// An answered call.
#[derive(Debug)]
pub(super) struct Session {
    id: DialogId,
    dialog: Dialog,
    own: Own,
    timers: SipTimers,
    /// The description we gave last; a refresh gets it again.
    ours: String,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    /// We sent a 2xx and wait for its ACK.
    Answered(Box<Answered>),
    /// Nothing is in the air.
    Steady,
    /// We sent BYE.
    Leaving,
    /// Nothing is left.
    Over,
}

#[derive(Debug)]
struct Answered {
    key: TransactionKey,
    response: Response,
    cseq: Option<u32>,
    /// Until the next repetition.
    interval: Duration,
    purpose: Purpose,
    /// Our description was an offer, so the ACK brings the answer (RFC 3261 §13.2.1).
    is_offer: bool,
}

/// What the 2xx in the air is for.
#[derive(Debug)]
enum Purpose {
    /// The call itself.
    Call,
    /// The call itself, and we hung up meanwhile: BYE follows as soon as it may (RFC 3261 §15).
    CallToEnd(Option<u8>),
    /// A re-INVITE.
    Refresh,
}

impl Session {
    /// Sends our 2xx to an INVITE that came in.
    pub(super) fn answer(seed: Seed, key: TransactionKey, invite: &Request, tag: &str, out: &mut Vec<Out>) -> Session {
        let mut session = Session::steady(seed);
        session.accept(key, invite, Some(tag), Purpose::Call, out);
        session
    }

    /// A call of ours that was answered and acknowledged.
    pub(super) fn steady(seed: Seed) -> Session {
        let Seed { id, dialog, own, timers, ours } = seed;
        Session { id, dialog, own, timers, ours, standing: Standing::Steady }
    }

    pub(super) fn is_from_peer(&self, request: &Request) -> bool {
        self.dialog.is_from_peer(request)
    }

    /// A request of the other side, other than ACK.
    pub(super) fn on_request(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        if !self.dialog.take_cseq(request) {
            out.push(Out::Respond(key, message::respond(request, 500, None)));
            return;
        }
        match (&self.standing, &request.method) {
            (Standing::Over, _) => out.push(Out::Respond(key, message::respond(request, 481, None))),
            (_, Method::Bye) => self.on_bye(key, request, out),
            (Standing::Leaving, _) => out.push(Out::Respond(key, message::respond(request, 481, None))),
            (_, Method::Info) => on_info(self.id, key, request, out),
            (_, Method::Options) => out.push(Out::Respond(key, door::capabilities(request, None))),
            (_, Method::Update) if request.body().is_empty() => self.on_refresh(key, request, out),
            // RFC 5407 §3.1.4: our answer may not have reached them, so two exchanges would cross.
            (Standing::Answered(_), Method::Invite | Method::Update) => {
                out.push(Out::Respond(key, message::respond(request, 491, None)));
            }
            (Standing::Steady, Method::Update) => self.on_update(key, request, out),
            (Standing::Steady, Method::Invite) => self.on_reinvite(key, request, out),
            // The front door lets no other method in.
            (Standing::Answered(_) | Standing::Steady, _) => {
                out.push(Out::Respond(key, message::respond(request, 405, None)));
            }
        }
    }

    /// The ACK of our 2xx, or one more copy of it.
    pub(super) fn on_ack(&mut self, ack: &Request, out: &mut Vec<Out>) {
        let answered = match std::mem::replace(&mut self.standing, Standing::Steady) {
            Standing::Answered(answered) if answered.cseq == message::cseq(&ack.headers) => answered,
            // A repeated ACK, or one for another INVITE: nothing waits for it.
            other => {
                self.standing = other;
                return;
            }
        };
        out.extend([Out::Disarm(Timer::Repeat), Out::Disarm(Timer::Patience)]);
        let sdp = if answered.is_offer { message::sdp(&ack.headers, ack.body()) } else { None };
        match answered.purpose {
            Purpose::Call => out.push(Out::Tell(SipEvent::Confirmed { dialog: self.id, sdp })),
            Purpose::CallToEnd(cause) => self.leave(cause, out),
            Purpose::Refresh if sdp.is_some() => {
                out.push(Out::Tell(SipEvent::Reinvited { dialog: self.id, sdp, answer: None }));
            }
            Purpose::Refresh => {}
        }
    }

    pub(super) fn on_timer(&mut self, timer: Timer, out: &mut Vec<Out>) {
        match (&mut self.standing, timer) {
            (Standing::Answered(answered), Timer::Repeat) => {
                out.push(Out::Respond(answered.key.clone(), answered.response.clone()));
                answered.interval = answered.interval.saturating_mul(2).min(self.timers.t2);
                out.push(Out::Arm(Timer::Repeat, answered.interval));
            }
            (Standing::Answered(answered), Timer::Patience) => {
                // RFC 3261 §13.3.1.4: the dialog stands, but nobody is there.
                let is_told = matches!(answered.purpose, Purpose::CallToEnd(_));
                out.push(Out::Disarm(Timer::Repeat));
                self.leave(None, out);
                if !is_told {
                    out.push(Out::Tell(SipEvent::AckMissing { dialog: self.id }));
                }
            }
            // Late timers of an exchange that is complete.
            (Standing::Steady | Standing::Leaving | Standing::Over, _)
            | (_, Timer::Ring | Timer::Linger | Timer::Silence) => {}
        }
    }

    /// We hang up. The gateway is told at once.
    pub(super) fn hang_up(&mut self, cause: Option<u8>, out: &mut Vec<Out>) {
        match &mut self.standing {
            Standing::Answered(answered) if matches!(answered.purpose, Purpose::Call) => {
                answered.purpose = Purpose::CallToEnd(cause);
            }
            Standing::Answered(answered) if matches!(answered.purpose, Purpose::Refresh) => {
                out.extend([Out::Disarm(Timer::Repeat), Out::Disarm(Timer::Patience)]);
                self.leave(cause, out);
            }
            Standing::Steady => self.leave(cause, out),
            // It has been told already.
            Standing::Answered(_) | Standing::Leaving | Standing::Over => return,
        }
        out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Us, cause }));
    }

    /// Our BYE was answered, or never will be.
    pub(super) fn on_bye_done(&mut self, out: &mut Vec<Out>) {
        if matches!(self.standing, Standing::Leaving) {
            self.standing = Standing::Over;
            out.push(Out::Over);
        }
    }

    /// Sends BYE and says nothing to the gateway.
    pub(super) fn leave(&mut self, cause: Option<u8>, out: &mut Vec<Out>) {
        out.push(Out::Bye(self.dialog.bye(cause, &self.own)));
        self.standing = Standing::Leaving;
    }

    fn on_bye(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        out.push(Out::Respond(key, message::respond(request, 200, None)));
        let is_told = match &self.standing {
            Standing::Answered(answered) => matches!(answered.purpose, Purpose::CallToEnd(_)),
            Standing::Leaving | Standing::Over => true,
            Standing::Steady => false,
        };
        if !is_told {
            let cause = message::q850(&request.headers);
            out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Them, cause }));
        }
        self.standing = Standing::Over;
        out.push(Out::Over);
    }

    /// UPDATE without a description (RFC 3311): a sign of life, and perhaps a new Contact.
    fn on_refresh(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        self.dialog.refresh_target(request);
        let mut response = message::respond(request, 200, None);
        establish(&mut response, request, &self.own);
        out.push(Out::Respond(key, response));
    }

    fn on_update(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        let Some(answer) = self.renegotiate(&key, request, out) else { return };
        self.dialog.refresh_target(request);
        let mut response = message::respond(request, 200, None);
        establish(&mut response, request, &self.own);
        message::put_body(&mut response.headers, message::SDP, answer.as_bytes());
        response.set_body(answer.clone().into_bytes().into());
        out.push(Out::Respond(key, response));
        out.push(Out::Tell(SipEvent::Reinvited {
            dialog: self.id,
            sdp: Some(request.body().to_vec()),
            answer: Some(answer),
        }));
    }

    fn on_reinvite(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        if request.body().is_empty() {
            self.dialog.refresh_target(request);
            self.accept(key, request, None, Purpose::Refresh, out);
            out.push(Out::Tell(SipEvent::Reinvited { dialog: self.id, sdp: None, answer: None }));
            return;
        }
        let Some(answer) = self.renegotiate(&key, request, out) else { return };
        self.dialog.refresh_target(request);
        self.accept(key, request, None, Purpose::Refresh, out);
        out.push(Out::Tell(SipEvent::Reinvited {
            dialog: self.id,
            sdp: Some(request.body().to_vec()),
            answer: Some(answer),
        }));
    }

    /// Our answer to a new offer, which becomes our description; or a refusal, and all stays as it was
    /// (RFC 3261 §14.1).
    fn renegotiate(&mut self, key: &TransactionKey, request: &Request, out: &mut Vec<Out>) -> Option<String> {
        match Offer::parse(request.body()).and_then(|offer| sdp::reanswer(&self.ours, &offer)) {
            Ok((_, answer)) => {
                self.ours.clone_from(&answer);
                Some(answer)
            }
            Err(error) => {
                let status = if error.is_malformed() { 400 } else { 488 };
                let mut response = message::respond(request, status, None);
                let warning = message::warning(&self.own.agent, &error.to_string());
                message::put(&mut response.headers, sipx_sip::HeaderName::Warning, warning);
                out.push(Out::Respond(key.clone(), response));
                None
            }
        }
    }

    /// Sends a 2xx with our description and waits for its ACK. RFC 3261 §13.3.1.4: it is repeated by us, not by the
    /// transaction, and over TCP too, because a later hop may be UDP.
    fn accept(
        &mut self,
        key: TransactionKey,
        invite: &Request,
        tag: Option<&str>,
        purpose: Purpose,
        out: &mut Vec<Out>,
    ) {
        let mut response = message::respond(invite, 200, tag);
        establish(&mut response, invite, &self.own);
        message::put_body(&mut response.headers, message::SDP, self.ours.as_bytes());
        response.set_body(self.ours.clone().into_bytes().into());
        out.push(Out::Respond(key.clone(), response.clone()));
        out.push(Out::Arm(Timer::Repeat, self.timers.t1));
        out.push(Out::Arm(Timer::Patience, self.timers.patience()));
        self.standing = Standing::Answered(Box::new(Answered {
            key,
            response,
            cseq: message::cseq(&invite.headers),
            interval: self.timers.t1,
            purpose,
            is_offer: invite.body().is_empty(),
        }));
    }
}

/// What a session grows from.
pub(super) struct Seed {
    pub(super) id: DialogId,
    pub(super) dialog: Dialog,
    pub(super) own: Own,
    pub(super) timers: SipTimers,
    /// The description we gave.
    pub(super) ours: String,
}

/// INFO is answered before anybody looks at it (RFC 6086 in the field is old DTMF).
pub(super) fn on_info(id: DialogId, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
    out.push(Out::Respond(key, message::respond(request, 200, None)));
    if let Some(content_type) = message::content_type(&request.headers) {
        out.push(Out::Tell(SipEvent::Info { dialog: id, content_type, body: Pii::new(request.body().to_vec()) }));
    }
}
