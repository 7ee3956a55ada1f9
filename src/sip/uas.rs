//! A call that comes in, until it is answered: the user agent server of RFC 3261 §13.3.

use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey};

use super::config::SipTimers;
use super::dialog::{Ask, Dialog, Out, Reply, Timer, establish};
use super::event::{By, DialogId, SipCommand, SipEvent, Terms};
use super::message::{self, Own};
use super::offers::{Offers, Open};
use super::refresh::{self, Refresh};
use super::reliable::Chain;
use super::session::{Dice, Seed, Session};
use crate::model::limits;
use crate::trunk::SessionRules;

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
    /// The provisional answers before the final one: the PRACK of the last may still come.
    answered: Option<Chain>,
}

#[derive(Debug)]
enum State {
    /// No final answer yet.
    Waiting(Box<Waiting>),
    /// A final answer other than 2xx has gone out; the transaction repeats it until its ACK.
    Refused,
    /// Answered.
    Talking(Box<Session>),
}

#[derive(Debug)]
struct Waiting {
    session: Session,
    chain: Chain,
    /// The provisional answer that stands: 100, 180, 183 and their like.
    status: u16,
    /// Our description, should a provisional answer have to bear one.
    sdp: Option<String>,
    /// We are to answer, and the PRACK of a description is still to come.
    answer: Option<String>,
}

impl Uas {
    /// A new call. 100 Trying is the first thing out, so that the caller stops repeating itself.
    ///
    /// `None` when the INVITE cannot open a dialog; it has been answered then.
    pub(super) fn invited(birth: Birth, invite: Request, out: &mut Vec<Out>) -> Option<Uas> {
        let Birth { id, key, tag, own, timers, mut dice } = birth;
        let Some(dialog) = Dialog::incoming(&invite, &tag) else {
            out.push(Out::Respond(key, message::respond(&invite, 400, Some(&tag))));
            return None;
        };
        out.push(Out::Respond(key.clone(), message::respond(&invite, 100, None)));
        out.push(Out::Arm(Timer::Ring, limits::SIP_RING_REPEAT));
        let chain = Chain::new(&invite, &mut dice);
        let offers = Offers::received(message::sdp(&invite.headers, invite.body()));
        let refresh = Refresh::new(SessionRules::default());
        let session = Session::early(Seed { id, dialog, own: own.clone(), timers, offers, refresh, dice, fork: 0 });
        let waiting = Waiting { session, chain, status: 100, sdp: None, answer: None };
        Some(Uas { id, key, invite, tag, own, timers, state: State::Waiting(Box::new(waiting)), answered: None })
    }

    pub(super) fn is_from_peer(&self, request: &Request) -> bool {
        match &self.state {
            State::Waiting(waiting) => waiting.session.is_from_peer(request),
            State::Talking(session) => session.is_from_peer(request),
            State::Refused => false,
        }
    }

    pub(super) fn on_command(&mut self, command: SipCommand, out: &mut Vec<Out>) {
        match (&mut self.state, command) {
            (State::Waiting(waiting), SipCommand::Adopt(terms)) => {
                let Terms { rules, codecs, sdp, credentials } = *terms;
                waiting.chain.set_policy(rules.reliable);
                waiting.session.adopt(rules, codecs, credentials);
                waiting.sdp = sdp;
            }
            (State::Waiting(_), SipCommand::Ring) => self.progress(180, None, out),
            (State::Waiting(_), SipCommand::Progress { status, sdp }) => {
                self.progress(if (101..200).contains(&status) { status } else { 183 }, sdp, out);
            }
            (State::Waiting(waiting), SipCommand::Answer { sdp }) => {
                waiting.answer = Some(sdp);
                self.answer(out);
            }
            (State::Waiting(waiting), SipCommand::Reject { status, reason, retry_after_s, warning }) => {
                let status = if (300..700).contains(&status) { status } else { 500 };
                let reason = reason.unwrap_or_else(|| message::reason_phrase(status).to_owned());
                let mut response = message::respond_with(&self.invite, status, &reason, Some(&self.tag));
                let headers = &mut response.headers;
                if let Some(seconds) = retry_after_s {
                    message::put(headers, HeaderName::RetryAfter, seconds.to_string());
                }
                if let Some(sentence) = warning {
                    message::put(headers, HeaderName::Warning, message::warning(&self.own.agent, &sentence));
                }
                if status == 422 {
                    // RFC 4028 §6: it says what would do.
                    let least = waiting.session.refresh().least_accepted();
                    message::put(headers, HeaderName::MinSe, refresh::seconds(least));
                }
                self.refuse(response, out);
            }
            (State::Waiting(_), SipCommand::HangUp { cause }) => {
                let mut response = message::respond(&self.invite, 480, Some(&self.tag));
                // RFC 6432: a Q.850 reason may stand in a final answer.
                message::put_q850(&mut response.headers, cause);
                self.refuse(response, out);
                out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Us, cause }));
            }
            (State::Waiting(waiting), SipCommand::Reoffer { sdp }) => waiting.session.reoffer(sdp, out),
            (State::Talking(session), SipCommand::Reoffer { sdp }) => session.reoffer(sdp, out),
            (State::Talking(session), SipCommand::HangUp { cause }) => session.hang_up(cause, out),
            (State::Talking(session), SipCommand::Refer(order)) => session.on_refer_order(order, out),
            // The call went on or ended while the command was on its way; `Dial` is for the other direction.
            (State::Waiting(_), SipCommand::Dial(_) | SipCommand::Refer(_))
            | (State::Talking(_) | State::Refused, _) => {}
        }
    }

    /// The answered dialog.
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Talking(session) => Some(session),
            State::Waiting(_) | State::Refused => None,
        }
    }

    /// CANCEL of an INVITE of this dialog (RFC 3261 §9.2). When it crosses our answer, the answer stands; a re-INVITE
    /// has always been answered already.
    pub(super) fn on_cancel(
        &mut self,
        key: TransactionKey,
        cancel: &Request,
        invite: &TransactionKey,
        out: &mut Vec<Out>,
    ) {
        out.push(Out::Respond(key, message::respond(cancel, 200, Some(&self.tag))));
        if matches!(self.state, State::Waiting(_)) && *invite == self.key {
            self.refuse(message::respond(&self.invite, 487, Some(&self.tag)), out);
            let elsewhere = message::answered_elsewhere(&cancel.headers);
            out.push(Out::Tell(SipEvent::Canceled { dialog: self.id, elsewhere }));
        }
    }

    /// A request within the dialog, other than ACK and CANCEL.
    pub(super) fn on_request(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        if request.method == Method::Prack
            && self.answered.as_mut().is_some_and(|chain| chain.acknowledge(request, &self.invite, out))
        {
            // RFC 3262 §3: a final answer without waiting for the PRACK does not make it wrong.
            out.push(Out::Respond(key, message::respond(request, 200, None)));
            return;
        }
        let waiting = match &mut self.state {
            State::Talking(session) => return session.on_request(key, request, out),
            State::Refused => {
                out.push(Out::Respond(key, message::respond(request, 481, None)));
                return;
            }
            State::Waiting(waiting) => waiting,
        };
        match request.method {
            Method::Bye => {
                if waiting.session.take_cseq(&key, request, out) {
                    // RFC 3261 §15.1.2: an early dialog may be ended this way; the INVITE still wants its final answer.
                    out.push(Out::Respond(key, message::respond(request, 200, None)));
                    self.refuse(message::respond(&self.invite, 487, Some(&self.tag)), out);
                    out.push(Out::Tell(SipEvent::Canceled { dialog: self.id, elsewhere: false }));
                }
            }
            Method::Prack => self.on_prack(key, request, out),
            _ => waiting.session.on_request(key, request, out),
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
            (State::Waiting(_), Timer::Ring) => self.say_again(out),
            (State::Waiting(waiting), Timer::Chase) => waiting.chain.repeat(&self.key, out),
            (State::Waiting(_), Timer::ChaseEnd) => {
                // RFC 3262 §3: nobody acknowledges, so nobody is there to talk to.
                self.refuse(message::respond(&self.invite, 504, Some(&self.tag)), out);
                out.push(Out::Tell(SipEvent::AckMissing { dialog: self.id }));
            }
            (State::Waiting(waiting), timer) => waiting.session.on_timer(timer, out),
            (State::Refused, Timer::Linger) => out.push(Out::Over),
            // Timers of another phase that fired too late to be stopped.
            (State::Refused, _) => {}
        }
    }

    pub(super) fn on_reply(&mut self, ask: Ask, reply: Reply, out: &mut Vec<Out>) {
        match &mut self.state {
            State::Waiting(waiting) => waiting.session.on_reply(ask, reply, out),
            State::Talking(session) => session.on_reply(ask, reply, out),
            State::Refused => {}
        }
    }

    /// Says once a minute that the caller still waits, so that no proxy gives up (RFC 3261 §13.3.1.1).
    fn say_again(&mut self, out: &mut Vec<Out>) {
        let State::Waiting(waiting) = &self.state else { return };
        if waiting.status > 100 {
            return self.progress(waiting.status, None, out);
        }
        out.push(Out::Respond(self.key.clone(), message::respond(&self.invite, 100, None)));
        out.push(Out::Arm(Timer::Ring, limits::SIP_RING_REPEAT));
    }

    /// A provisional answer. RFC 3261 §12.1.1: it opens an early dialog, so it bears our tag and Contact.
    fn progress(&mut self, status: u16, sdp: Option<String>, out: &mut Vec<Out>) {
        let State::Waiting(waiting) = &mut self.state else { return };
        waiting.status = status;
        out.push(Out::Arm(Timer::Ring, limits::SIP_RING_REPEAT));
        let Waiting { session, chain, sdp: prepared, .. } = &mut **waiting;
        let offers = &mut session.offers;
        let is_reliable = chain.is_reliable(sdp.is_some());
        if is_reliable && chain.is_waiting() {
            return chain.queue(status, sdp);
        }
        let mut response = message::respond(&self.invite, status, Some(&self.tag));
        establish(&mut response, &self.invite, &self.own);
        let body = match (is_reliable, offers.open()) {
            // RFC 3261 §13.2.1: without an offer of theirs, the first reliable answer has to bear ours.
            (true, Open::Nobody) if !offers.has_begun() => sdp.or_else(|| prepared.clone()).inspect(|sdp| {
                offers.say(sdp.clone());
            }),
            (true, Open::Theirs) => sdp.inspect(|sdp| {
                offers.say(sdp.clone());
            }),
            // It has been settled, or is open.
            (true, Open::Nobody | Open::Ours) => None,
            // What may get lost settles nothing: it only shows what the final answer will say.
            (false, Open::Theirs) => sdp,
            (false, Open::Nobody | Open::Ours) => None,
        };
        if let Some(body) = &body {
            message::put_body(&mut response.headers, message::SDP, body.as_bytes());
            response.set_body(body.clone().into_bytes().into());
        }
        if is_reliable {
            chain.send(&self.key, response, &self.timers, out);
        } else {
            out.push(Out::Respond(self.key.clone(), response));
        }
    }

    fn on_prack(&mut self, key: TransactionKey, prack: &Request, out: &mut Vec<Out>) {
        let State::Waiting(waiting) = &mut self.state else { return };
        if !waiting.session.take_cseq(&key, prack, out) {
            return;
        }
        if !waiting.chain.acknowledge(prack, &self.invite, out) {
            out.push(Out::Respond(key, message::respond(prack, 481, None)));
            return;
        }
        waiting.session.on_prack(key, prack, out);
        match waiting.chain.next() {
            Some((status, sdp)) => self.progress(status, sdp, out),
            None => self.answer(out),
        }
    }

    /// Sends the 2xx that the gateway asked for, as soon as it may go.
    fn answer(&mut self, out: &mut Vec<Out>) {
        let State::Waiting(waiting) = &mut self.state else { return };
        if waiting.chain.holds_answer() || waiting.answer.is_none() {
            return;
        }
        waiting.chain.stop(out);
        out.push(Out::Disarm(Timer::Ring));
        let State::Waiting(waiting) = std::mem::replace(&mut self.state, State::Refused) else { return };
        let Waiting { mut session, chain, answer, .. } = *waiting;
        self.answered = Some(chain);
        session.answer(self.key.clone(), &self.invite, &self.tag, answer.unwrap_or_default(), out);
        self.state = State::Talking(Box::new(session));
    }

    /// The final answer. The dialog stays a while, so that a late CANCEL still gets its 200 and a merged copy its 482.
    fn refuse(&mut self, response: Response, out: &mut Vec<Out>) {
        out.push(Out::Respond(self.key.clone(), response));
        let timers = [Timer::Ring, Timer::Chase, Timer::ChaseEnd, Timer::Glare];
        out.extend(timers.map(Out::Disarm));
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
    pub(super) dice: Dice,
}
