//! A call that we place, until it is answered: the user agent client of RFC 3261 §13.2.

use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey};

use super::config::SipTimers;
use super::dialog::{Dialog, Letter, Out, Timer};
use super::digest::{self, Digest};
use super::door;
use super::event::{By, DialogId, Failure, SipCommand, SipEvent};
use super::message::{self, Own};
use super::session::{Seed, Session, on_info};
use crate::model::limits;

/// An outbound call.
#[derive(Debug)]
pub(super) struct Uac {
    id: DialogId,
    /// As first written, without Via.
    invite: Request,
    /// Our offer.
    ours: String,
    own: Own,
    timers: SipTimers,
    digest: Digest,
    state: State,
    /// Provisional answers told so far.
    rings: usize,
    /// Answers that we did not want, by tag, with the ACK they got (RFC 3261 §13.2.2.4).
    surplus: Vec<(Vec<u8>, Letter)>,
}

#[derive(Debug)]
enum State {
    /// Nothing heard yet.
    Calling,
    /// Nothing heard yet, and we hung up: CANCEL must wait for a provisional answer (RFC 3261 §9.1).
    CallingToCancel(Option<u8>),
    /// A provisional answer has come.
    Ringing,
    /// CANCEL is out.
    Canceling,
    /// Answered by the fork with this tag, which got this ACK.
    Talking { session: Box<Session>, tag: Vec<u8>, ack: Box<Letter> },
    /// It came to nothing.
    Over,
}

impl Uac {
    /// Sends the INVITE.
    pub(super) fn dial(
        id: DialogId,
        invite: Request,
        ours: String,
        own: Own,
        timers: SipTimers,
        out: &mut Vec<Out>,
    ) -> Uac {
        out.push(Out::Invite(invite.clone()));
        let digest = Digest::new(None, "");
        Uac { id, invite, ours, own, timers, digest, state: State::Calling, rings: 0, surplus: Vec::new() }
    }

    /// Who we are when challenged.
    pub(super) fn log_in(&mut self, digest: Digest) {
        self.digest = digest;
    }

    /// An answer to our INVITE, provisional or final.
    pub(super) fn on_response(&mut self, response: &Response, out: &mut Vec<Out>) {
        let status = response.status.code();
        match (&mut self.state, status) {
            (State::Calling | State::Ringing, ..200) => {
                if matches!(self.state, State::Calling) {
                    out.push(Out::Disarm(Timer::Silence));
                }
                self.state = State::Ringing;
                // A bare 100 only says that the next hop is alive.
                if status > 100 && self.rings < limits::SIP_RINGS_MAX {
                    self.rings += 1;
                    let sdp = message::sdp(&response.headers, response.body());
                    out.push(Out::Tell(SipEvent::Ringing { dialog: self.id, status, sdp }));
                }
            }
            (State::CallingToCancel(cause), ..200) => {
                let cause = *cause;
                self.cancel(cause, out);
            }
            (State::Calling | State::Ringing, 200..300) => self.on_answer(response, out),
            // The 200 and our CANCEL crossed, or a second fork answered.
            (State::CallingToCancel(_) | State::Canceling, 200..300) => {
                self.decline(response, out);
                if matches!(self.state, State::CallingToCancel(_)) {
                    self.state = State::Canceling;
                    out.push(Out::Arm(Timer::Patience, self.timers.patience()));
                }
            }
            (State::Talking { tag, ack, .. }, 200..300) => {
                if message::tag(&response.headers, &HeaderName::To).unwrap_or_default() == *tag {
                    // Their copy of the ACK was lost, so they said 200 again.
                    out.push(Out::Ack((**ack).clone()));
                } else {
                    self.decline(response, out);
                }
            }
            (State::Calling | State::Ringing, 401 | 407) => self.on_challenge(response, out),
            (State::Calling | State::Ringing, _) => {
                let failure = Failure::Refused {
                    status,
                    reason: message::text(&response.reason),
                    retry_after_s: message::retry_after_s(&response.headers),
                    cause: message::q850(&response.headers),
                };
                self.fail(failure, out);
            }
            // 487 as asked for, or whatever they said instead. After a surplus 200 the transaction is past this.
            (State::CallingToCancel(_) | State::Canceling, 300..) => {
                self.state = State::Over;
                out.push(Out::Over);
            }
            // Provisional answers of slow forks, and answers after the end.
            (State::Canceling | State::Talking { .. } | State::Over, _) => {}
        }
    }

    /// The same INVITE again, with a proof (RFC 3261 §22.2): a new transaction within the same Call-ID and From tag.
    fn on_challenge(&mut self, response: &Response, out: &mut Vec<Out>) {
        if let Err(failure) = self.digest.challenged(response) {
            return self.fail(failure, out);
        }
        let cseq = message::cseq(&self.invite.headers).unwrap_or(1).saturating_add(1);
        self.invite = digest::again(&self.invite, cseq);
        self.digest.authorize(&mut self.invite);
        self.state = State::Calling;
        out.push(Out::Disarm(Timer::Silence));
        out.push(Out::Invite(self.invite.clone()));
    }

    /// The INVITE got no answer, or could not be sent.
    pub(super) fn on_failure(&mut self, failure: Failure, out: &mut Vec<Out>) {
        match self.state {
            State::Calling | State::Ringing => self.fail(failure, out),
            State::CallingToCancel(_) | State::Canceling => {
                self.state = State::Over;
                out.push(Out::Over);
            }
            // The call stands on its own once it is answered.
            State::Talking { .. } | State::Over => {}
        }
    }

    /// The INVITE's transaction is gone, so no further answer can come.
    pub(super) fn on_invite_over(&mut self, out: &mut Vec<Out>) {
        self.on_failure(Failure::Timeout, out);
    }

    pub(super) fn on_command(&mut self, command: SipCommand, out: &mut Vec<Out>) {
        match (&mut self.state, command) {
            (State::Calling, SipCommand::HangUp { cause }) => {
                self.state = State::CallingToCancel(cause);
                out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Us, cause }));
            }
            (State::Ringing, SipCommand::HangUp { cause }) => {
                self.cancel(cause, out);
                out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Us, cause }));
            }
            (State::Talking { session, .. }, SipCommand::HangUp { cause }) => session.hang_up(cause, out),
            // Already hanging up; and the other commands are for inbound calls.
            _ => {}
        }
    }

    pub(super) fn is_from_peer(&self, request: &Request) -> bool {
        match &self.state {
            State::Talking { session, .. } => session.is_from_peer(request) || self.is_surplus(request),
            // Forks ring under many tags; any of them may speak.
            State::Calling | State::CallingToCancel(_) | State::Ringing | State::Canceling => true,
            State::Over => false,
        }
    }

    /// A request within the dialog, other than ACK and CANCEL.
    pub(super) fn on_request(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        if request.method == Method::Bye && self.is_surplus(request) {
            out.push(Out::Respond(key, message::respond(request, 200, None)));
            return;
        }
        if let State::Talking { session, .. } = &mut self.state {
            session.on_request(key, request, out);
            return;
        }
        match request.method {
            Method::Info => on_info(self.id, key, request, out),
            Method::Options => out.push(Out::Respond(key, door::capabilities(request, None))),
            // RFC 3261 §14.2, RFC 3311 §5.2: our own offer is still open.
            Method::Invite => out.push(Out::Respond(key, message::respond(request, 491, None))),
            Method::Update if !request.body().is_empty() => {
                out.push(Out::Respond(key, message::respond(request, 491, None)));
            }
            Method::Update => out.push(Out::Respond(key, message::respond(request, 200, None))),
            // RFC 3261 §15: a callee must not send BYE before it has answered.
            _ => out.push(Out::Respond(key, message::respond(request, 481, None))),
        }
    }

    pub(super) fn on_ack(&mut self, ack: &Request, out: &mut Vec<Out>) {
        if let State::Talking { session, .. } = &mut self.state {
            session.on_ack(ack, out);
        }
    }

    pub(super) fn on_timer(&mut self, timer: Timer, out: &mut Vec<Out>) {
        match (&mut self.state, timer) {
            (State::Talking { session, .. }, timer) => session.on_timer(timer, out),
            (State::Canceling, Timer::Patience) => {
                // RFC 3261 §9.1: without a final answer 64·T1 after CANCEL, the INVITE counts as canceled.
                self.state = State::Over;
                out.push(Out::Over);
            }
            (State::Calling, Timer::Silence) => {
                // CANCEL must wait for a provisional answer, and an answer that comes late gets ACK and BYE.
                self.state = State::CallingToCancel(None);
                out.push(Out::Tell(SipEvent::Failed { dialog: self.id, failure: Failure::Silent }));
            }
            // Late timers of a phase that is past.
            _ => {}
        }
    }

    pub(super) fn on_bye_done(&mut self, out: &mut Vec<Out>) {
        if let State::Talking { session, .. } = &mut self.state {
            session.on_bye_done(out);
        }
    }

    fn on_answer(&mut self, response: &Response, out: &mut Vec<Out>) {
        let cseq = message::cseq(&self.invite.headers).unwrap_or(1);
        let Some(mut dialog) = Dialog::outgoing(&self.invite, response) else {
            return self.fail(Failure::BadRequest, out);
        };
        dialog.log_in(self.digest.clone());
        let mut ack = dialog.ack(cseq, &self.own);
        digest::copy_proof(&self.invite, &mut ack.request);
        out.push(Out::Ack(ack.clone()));
        let seed = Seed { id: self.id, dialog, own: self.own.clone(), timers: self.timers, ours: self.ours.clone() };
        let mut session = Session::steady(seed);
        match message::sdp(&response.headers, response.body()) {
            Some(sdp) => out.push(Out::Tell(SipEvent::Answered { dialog: self.id, sdp })),
            None => {
                session.leave(None, out);
                out.push(Out::Tell(SipEvent::Failed { dialog: self.id, failure: Failure::NoSdp }));
            }
        }
        let tag = message::tag(&response.headers, &HeaderName::To).unwrap_or_default();
        self.state = State::Talking { session: Box::new(session), tag, ack: Box::new(ack) };
    }

    /// ACK and BYE for an answer that nobody wants; for its repetitions, ACK again.
    fn decline(&mut self, response: &Response, out: &mut Vec<Out>) {
        let tag = message::tag(&response.headers, &HeaderName::To).unwrap_or_default();
        if let Some((_, ack)) = self.surplus.iter().find(|(known, _)| *known == tag) {
            out.push(Out::Ack(ack.clone()));
            return;
        }
        if self.surplus.len() >= limits::SIP_FORKS_MAX {
            return;
        }
        let Some(mut dialog) = Dialog::outgoing(&self.invite, response) else { return };
        dialog.log_in(self.digest.clone());
        let mut ack = dialog.ack(message::cseq(&self.invite.headers).unwrap_or(1), &self.own);
        digest::copy_proof(&self.invite, &mut ack.request);
        out.push(Out::Ack(ack.clone()));
        out.push(Out::Farewell(dialog.bye(None, &self.own)));
        self.surplus.push((tag, ack));
    }

    fn is_surplus(&self, request: &Request) -> bool {
        let tag = message::tag(&request.headers, &HeaderName::From).unwrap_or_default();
        self.surplus.iter().any(|(known, _)| *known == tag)
    }

    fn cancel(&mut self, cause: Option<u8>, out: &mut Vec<Out>) {
        out.push(Out::Cancel(cause));
        out.push(Out::Arm(Timer::Patience, self.timers.patience()));
        self.state = State::Canceling;
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Out>) {
        self.state = State::Over;
        out.push(Out::Tell(SipEvent::Failed { dialog: self.id, failure }));
        out.push(Out::Over);
    }
}
