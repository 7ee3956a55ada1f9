//! A call that comes in, until it is answered: the user agent server of RFC 3261 §13.3.

use sipx_sip::{HeaderName, Method, Request, TransactionKey};

use super::config::SipTimers;
use super::dialog::{Dialog, Out, Timer, establish};
use super::door;
use super::event::{By, DialogId, SipCommand, SipEvent};
use super::message::{self, Own};
use super::session::{Seed, Session, on_info};
use crate::model::limits;

/// An inbound call.
#[derive(Debug)]
pub(super) struct Uas {
    id: DialogId,
    key: TransactionKey,
    invite: Request,
    tag: String,
    own: Own,
    timers: SipTimers,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No final answer yet.
    Waiting { dialog: Dialog, rings: bool },
    /// A final answer other than 2xx has gone out; the transaction repeats it until its ACK.
    Refused,
    /// Answered.
    Talking(Session),
}

impl Uas {
    /// A new call. 100 Trying is the first thing out, so that the caller stops repeating itself.
    ///
    /// `None` when the INVITE cannot open a dialog; it has been answered then.
    pub(super) fn invited(birth: Birth, invite: Request, out: &mut Vec<Out>) -> Option<Uas> {
        let Birth { id, key, tag, own, timers } = birth;
        let Some(dialog) = Dialog::incoming(&invite, &tag) else {
            out.push(Out::Respond(key, message::respond(&invite, 400, Some(&tag))));
            return None;
        };
        out.push(Out::Respond(key.clone(), message::respond(&invite, 100, None)));
        out.push(Out::Arm(Timer::Ring, limits::SIP_RING_REPEAT));
        Some(Uas { id, key, invite, tag, own, timers, state: State::Waiting { dialog, rings: false } })
    }

    pub(super) fn is_from_peer(&self, request: &Request) -> bool {
        match &self.state {
            State::Waiting { dialog, .. } => dialog.is_from_peer(request),
            State::Talking(session) => session.is_from_peer(request),
            State::Refused => false,
        }
    }

    pub(super) fn on_command(&mut self, command: SipCommand, out: &mut Vec<Out>) {
        match (&mut self.state, command) {
            (State::Waiting { rings, .. }, SipCommand::Ring) => {
                *rings = true;
                self.provisional(out);
            }
            (State::Waiting { dialog, .. }, SipCommand::Answer { sdp }) => {
                let (dialog, own) = (dialog.clone(), self.own.clone());
                let seed = Seed { id: self.id, dialog, own, timers: self.timers, ours: sdp };
                out.push(Out::Disarm(Timer::Ring));
                let session = Session::answer(seed, self.key.clone(), &self.invite, &self.tag, out);
                self.state = State::Talking(session);
            }
            (State::Waiting { .. }, SipCommand::Reject { status, reason, retry_after_s, warning }) => {
                let status = if (300..700).contains(&status) { status } else { 500 };
                let reason = reason.unwrap_or_else(|| message::reason_phrase(status).to_owned());
                let mut response = message::respond_with(&self.invite, status, &reason, Some(&self.tag));
                if let Some(seconds) = retry_after_s {
                    message::put(&mut response.headers, HeaderName::RetryAfter, seconds.to_string());
                }
                if let Some(sentence) = warning {
                    message::put(
                        &mut response.headers,
                        HeaderName::Warning,
                        message::warning(&self.own.agent, &sentence),
                    );
                }
                self.refuse(response, out);
            }
            (State::Waiting { .. }, SipCommand::HangUp { cause }) => {
                let mut response = message::respond(&self.invite, 480, Some(&self.tag));
                // RFC 6432: a Q.850 reason may stand in a final answer.
                message::put_q850(&mut response.headers, cause);
                self.refuse(response, out);
                out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Us, cause }));
            }
            (State::Talking(session), SipCommand::HangUp { cause }) => session.hang_up(cause, out),
            // The call went on or ended while the command was on its way; `Dial` is for the other direction.
            (State::Waiting { .. }, SipCommand::Dial(_)) | (State::Talking(_) | State::Refused, _) => {}
        }
    }

    /// CANCEL of our INVITE (RFC 3261 §9.2). When it crosses our answer, the answer stands.
    pub(super) fn on_cancel(&mut self, key: TransactionKey, cancel: &Request, out: &mut Vec<Out>) {
        out.push(Out::Respond(key, message::respond(cancel, 200, Some(&self.tag))));
        if let State::Waiting { .. } = self.state {
            self.refuse(message::respond(&self.invite, 487, Some(&self.tag)), out);
            let elsewhere = message::answered_elsewhere(&cancel.headers);
            out.push(Out::Tell(SipEvent::Canceled { dialog: self.id, elsewhere }));
        }
    }

    /// A request within the dialog, other than ACK and CANCEL.
    pub(super) fn on_request(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        let dialog = match &mut self.state {
            State::Talking(session) => return session.on_request(key, request, out),
            State::Refused => {
                out.push(Out::Respond(key, message::respond(request, 481, None)));
                return;
            }
            State::Waiting { dialog, .. } => dialog,
        };
        if !dialog.take_cseq(request) {
            out.push(Out::Respond(key, message::respond(request, 500, None)));
            return;
        }
        match request.method {
            Method::Bye => {
                // RFC 3261 §15.1.2: an early dialog may be ended this way; the INVITE still wants its final answer.
                out.push(Out::Respond(key, message::respond(request, 200, None)));
                self.refuse(message::respond(&self.invite, 487, Some(&self.tag)), out);
                out.push(Out::Tell(SipEvent::Canceled { dialog: self.id, elsewhere: false }));
            }
            Method::Info => on_info(self.id, key, request, out),
            Method::Options => out.push(Out::Respond(key, door::capabilities(request, None))),
            Method::Update if request.body().is_empty() => {
                dialog.refresh_target(request);
                let mut response = message::respond(request, 200, None);
                establish(&mut response, request, &self.own);
                out.push(Out::Respond(key, response));
            }
            // RFC 3261 §14.2 and RFC 3311 §5.2: we owe an answer to the first offer, so the next has to come later.
            _ => {
                let mut response = message::respond(request, 500, None);
                message::put(&mut response.headers, HeaderName::RetryAfter, "5");
                out.push(Out::Respond(key, response));
            }
        }
    }

    pub(super) fn on_ack(&mut self, ack: &Request, out: &mut Vec<Out>) {
        if let State::Talking(session) = &mut self.state {
            session.on_ack(ack, out);
        }
    }

    pub(super) fn on_timer(&mut self, timer: Timer, out: &mut Vec<Out>) {
        match (&mut self.state, timer) {
            (State::Talking(session), timer) => session.on_timer(timer, out),
            (State::Waiting { .. }, Timer::Ring) => self.provisional(out),
            (State::Refused, Timer::Linger) => out.push(Out::Over),
            // Timers of another phase that fired too late to be stopped.
            (State::Waiting { .. } | State::Refused, _) => {}
        }
    }

    pub(super) fn on_bye_done(&mut self, out: &mut Vec<Out>) {
        if let State::Talking(session) = &mut self.state {
            session.on_bye_done(out);
        }
    }

    /// 180 once it rings, 100 before. RFC 3261 §12.1.1: a 180 opens an early dialog, so it bears our tag and Contact.
    fn provisional(&self, out: &mut Vec<Out>) {
        let State::Waiting { rings, .. } = &self.state else { return };
        let response = if *rings {
            let mut response = message::respond(&self.invite, 180, Some(&self.tag));
            establish(&mut response, &self.invite, &self.own);
            response
        } else {
            message::respond(&self.invite, 100, None)
        };
        out.push(Out::Respond(self.key.clone(), response));
        out.push(Out::Arm(Timer::Ring, limits::SIP_RING_REPEAT));
    }

    /// The final answer. The dialog stays a while, so that a late CANCEL still gets its 200 and a merged copy its 482.
    fn refuse(&mut self, response: sipx_sip::Response, out: &mut Vec<Out>) {
        out.push(Out::Respond(self.key.clone(), response));
        out.push(Out::Disarm(Timer::Ring));
        out.push(Out::Arm(Timer::Linger, self.timers.patience()));
        self.state = State::Refused;
    }
}

/// What an inbound call is born with.
pub(super) struct Birth {
    pub(super) id: DialogId,
    pub(super) key: TransactionKey,
    /// Our tag.
    pub(super) tag: String,
    pub(super) own: Own,
    pub(super) timers: SipTimers,
}
