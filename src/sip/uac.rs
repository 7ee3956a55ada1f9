//! A call that we place, until it is answered: the user agent client of RFC 3261 §13.2.

use sipx_sip::rel::{OPTION_TAG, RAck, Received, Sequence};
use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey};

use super::config::SipTimers;
use super::dialog::{Ask, Dialog, Letter, Out, Reply, Timer};
use super::digest::{self, Digest};
use super::door;
use super::event::{By, DialogId, Failure, SipCommand, SipEvent};
use super::message::{self, Own};
use super::offers::{Offers, Open};
use super::refresh::Refresh;
use super::reliable;
use super::session::{Dice, Seed, Session, on_info};
use crate::model::limits;
use crate::trunk::{Reliable, SessionRules};

/// An outbound call.
#[derive(Debug)]
pub(super) struct Uac {
    id: DialogId,
    /// As last written, without Via.
    invite: Request,
    /// Our offer.
    ours: String,
    own: Own,
    timers: SipTimers,
    refresh: Refresh,
    dice: Dice,
    digest: Digest,
    state: State,
    /// Provisional answers told so far.
    rings: usize,
    /// The early dialogs: whoever rang under a tag of its own (RFC 3261 §13.2.2.4).
    forks: Vec<Fork>,
    /// Answers that we did not want.
    surplus: Vec<Surplus>,
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

#[derive(Debug)]
struct Fork {
    tag: Vec<u8>,
    session: Session,
    /// Its reliable provisional answers (RFC 3262 §4).
    numbers: Sequence,
}

/// An answer that we did not want: what it got.
#[derive(Debug)]
struct Surplus {
    tag: Vec<u8>,
    dialog: Dialog,
    ack: Letter,
    bye: Letter,
    /// How often the BYE has been challenged.
    challenges: usize,
}

impl Uac {
    /// Sends the INVITE.
    pub(super) fn dial(beginning: Beginning, mut invite: Request, ours: String, out: &mut Vec<Out>) -> Uac {
        let Beginning { id, own, timers, rules, dice } = beginning;
        let refresh = Refresh::new(rules);
        let headers = &mut invite.headers;
        let supported = match rules.reliable {
            Reliable::Off => message::SUPPORTED.to_owned(),
            Reliable::Supported | Reliable::Required => format!("{OPTION_TAG}, {}", message::SUPPORTED),
        };
        message::put(headers, HeaderName::Supported, supported);
        if rules.reliable == Reliable::Required {
            message::put(headers, HeaderName::Require, OPTION_TAG);
        }
        refresh.ask(headers);
        out.push(Out::Invite(invite.clone()));
        let (forks, surplus) = (Vec::new(), Vec::new());
        let (digest, state) = (Digest::new(None, ""), State::Calling);
        Uac { id, invite, ours, own, timers, refresh, dice, digest, state, rings: 0, forks, surplus }
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
                if status > 100 {
                    self.on_provisional(response, out);
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
            // RFC 4028 §7.3: once more, with an interval that is long enough.
            (State::Calling | State::Ringing, 422) if self.refresh.raise(&response.headers) => self.ask_again(out),
            (State::Calling | State::Ringing, 401 | 407) => self.on_challenge(response, out),
            (State::Calling | State::Ringing, _) => {
                let failure = Failure::Refused {
                    status,
                    reason: message::text(&response.reason),
                    retry_after_s: message::retry_after_s(&response.headers),
                    cause: message::q850(&response.headers),
                    contact: message::contact(&response.headers)
                        .filter(|_| (300..400).contains(&status))
                        .map(|uri| message::text(&uri.to_bytes()).into()),
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
        self.forks.clear();
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
            (State::Ringing, SipCommand::Reoffer { sdp }) => {
                // Whoever has answered the first offer already may be offered more; the one who spoke last, if several.
                if let Some(fork) = self.forks.iter_mut().rev().find(|fork| fork.session.offers.is_settled()) {
                    fork.session.reoffer(sdp, out);
                }
            }
            (State::Talking { session, .. }, SipCommand::HangUp { cause }) => session.hang_up(cause, out),
            (State::Talking { session, .. }, SipCommand::Refer(order)) => session.on_refer_order(order, out),
            (State::Talking { session, .. }, SipCommand::Reoffer { sdp }) => session.reoffer(sdp, out),
            // Already hanging up; and the other commands are for inbound calls.
            _ => {}
        }
    }

    /// The answered dialog.
    pub(super) fn session(&self) -> Option<&Session> {
        match &self.state {
            State::Talking { session, .. } => Some(session),
            // Those that are not answered have no name yet that lasts, or no future.
            _ => None,
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

    /// Whether this is our own INVITE, come back to us over somebody else and sent to the same address still. Sent on to
    /// another address it is a call like any other, as to a colleague on this very gateway (RFC 3261 §16.3).
    pub(super) fn is_loop(&self, invite: &Request) -> bool {
        let passed = invite.headers.get_all(&HeaderName::Via).map(|via| message::text(&via.value()).split(',').count());
        passed.sum::<usize>() > 1 && invite.uri.to_bytes() == self.invite.uri.to_bytes()
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
        let fork = self.forks.iter_mut().find(|fork| fork.session.is_from_peer(request));
        match (&request.method, fork) {
            // RFC 3261 §15: a callee must not send BYE before it has answered.
            (Method::Bye, _) => out.push(Out::Respond(key, message::respond(request, 481, None))),
            (_, Some(fork)) => fork.session.on_request(key, request, out),
            (Method::Info, None) => on_info(self.id, key, request, out),
            (Method::Options, None) => out.push(Out::Respond(key, door::capabilities(request, None))),
            // RFC 3261 §14.2: our own offer is still open.
            (Method::Invite, None) => out.push(Out::Respond(key, message::respond(request, 491, None))),
            (_, None) => out.push(Out::Respond(key, message::respond(request, 481, None))),
        }
    }

    pub(super) fn on_ack(&mut self, ack: &Request, out: &mut Vec<Out>) {
        if let State::Talking { session, .. } = &mut self.state {
            session.on_ack(ack, out);
        }
    }

    pub(super) fn on_cancel(&self, key: TransactionKey, cancel: &Request, out: &mut Vec<Out>) {
        // Only a re-INVITE can have come here, and that has always been answered already (RFC 3261 §9.2).
        out.push(Out::Respond(key, message::respond(cancel, 200, None)));
    }

    pub(super) fn on_timer(&mut self, timer: Timer, out: &mut Vec<Out>) {
        match (&mut self.state, timer) {
            (State::Talking { session, .. }, timer) => session.on_timer(timer, out),
            (State::Canceling, Timer::Patience) => {
                // RFC 3261 §9.1: without a final answer 64·T1 after CANCEL, the INVITE counts as canceled.
                self.state = State::Over;
                out.push(Out::Over);
            }
            (State::Ringing, Timer::Glare) => {
                for fork in &mut self.forks {
                    fork.session.on_timer(timer, out);
                }
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

    pub(super) fn on_reply(&mut self, ask: Ask, reply: Reply, out: &mut Vec<Out>) {
        if ask.fork == SURPLUS {
            return self.on_farewell_answered(ask, &reply, out);
        }
        match &mut self.state {
            State::Talking { session, .. } => session.on_reply(ask, reply, out),
            State::Ringing => {
                if let Some(fork) = self.forks.get_mut(usize::from(ask.fork)) {
                    fork.session.on_reply(ask, reply, out);
                }
            }
            // The early dialog that asked has ended with the INVITE.
            State::Calling | State::CallingToCancel(_) | State::Canceling | State::Over => {}
        }
    }

    /// A provisional answer with more in it than that the request has arrived. It opens an early dialog of its own
    /// under each tag.
    fn on_provisional(&mut self, response: &Response, out: &mut Vec<Out>) {
        let sdp = message::sdp(&response.headers, response.body());
        if let Some(at) = self.fork_of(response) {
            let fork = &mut self.forks[at];
            if let Some(rseq) = reliable::rseq(response) {
                // Each is acknowledged once and in order; a PRACK that gets lost is repeated by its transaction.
                if fork.numbers.accept(rseq) != Received::Acknowledge {
                    return;
                }
                if let (Open::Ours, Some(sdp)) = (fork.session.offers.open(), &sdp) {
                    fork.session.offers.hear_answer(sdp.clone());
                }
                let cseq = message::cseq(&self.invite.headers).unwrap_or(1);
                fork.session.ask(Method::Prack, out, |prack| {
                    let rack = RAck { rseq, cseq, method: b"INVITE".to_vec() };
                    message::put(&mut prack.request.headers, HeaderName::RAck, rack.to_string());
                });
            }
        }
        if self.rings < limits::SIP_RINGS_MAX {
            self.rings += 1;
            out.push(Out::Tell(SipEvent::Ringing { dialog: self.id, status: response.status.code(), sdp }));
        }
    }

    /// The early dialog of a response, which it opens if it is the first. `None` without a tag, and beyond the bound.
    fn fork_of(&mut self, response: &Response) -> Option<usize> {
        let tag = message::tag(&response.headers, &HeaderName::To)?;
        if let Some(at) = self.forks.iter().position(|fork| fork.tag == tag) {
            return Some(at);
        }
        if self.forks.len() >= limits::SIP_FORKS_MAX {
            return None;
        }
        let dialog = Dialog::outgoing(&self.invite, response)?;
        let session = self.session_of(dialog);
        self.forks.push(Fork { tag, session, numbers: Sequence::default() });
        Some(self.forks.len() - 1)
    }

    fn session_of(&mut self, mut dialog: Dialog) -> Session {
        dialog.log_in(self.digest.clone());
        let fork = u16::try_from(self.forks.len()).unwrap_or(u16::MAX);
        let dice = Dice(self.dice.below(u64::MAX));
        let offers = Offers::sent(self.ours.clone());
        let (own, refresh) = (self.own.clone(), self.refresh.clone());
        Session::early(Seed { id: self.id, dialog, own, timers: self.timers, offers, refresh, dice, fork })
    }

    fn on_answer(&mut self, response: &Response, out: &mut Vec<Out>) {
        let cseq = message::cseq(&self.invite.headers).unwrap_or(1);
        let Some(dialog) = Dialog::outgoing(&self.invite, response) else {
            // RFC 3261 §13.2.2.4: even an answer that opens no dialog waits for its ACK.
            self.decline(response, out);
            out.push(Out::Tell(SipEvent::Failed { dialog: self.id, failure: Failure::BadRequest }));
            out.push(Out::Arm(Timer::Patience, self.timers.patience()));
            self.state = State::Canceling;
            return;
        };
        let tag = message::tag(&response.headers, &HeaderName::To).unwrap_or_default();
        let early = self.forks.iter().position(|fork| fork.tag == tag);
        let mut session = match early {
            Some(at) => self.forks.swap_remove(at).session,
            None => self.session_of(dialog.clone()),
        };
        self.forks.clear();
        out.push(Out::Disarm(Timer::Glare));
        let mut ack = session.confirm(dialog, cseq);
        digest::copy_proof(&self.invite, &mut ack.request);
        out.push(Out::Ack(ack.clone()));
        session.hear_confirmation(response, out);
        match session.offers.theirs().filter(|_| session.offers.is_settled()) {
            Some(sdp) => out.push(Out::Tell(SipEvent::Answered { dialog: self.id, sdp: sdp.to_vec() })),
            None => {
                session.leave(None, out);
                out.push(Out::Tell(SipEvent::Failed { dialog: self.id, failure: Failure::NoSdp }));
            }
        }
        self.state = State::Talking { session: Box::new(session), tag, ack: Box::new(ack) };
    }

    /// ACK and BYE for an answer that nobody wants; for its repetitions, ACK again.
    fn decline(&mut self, response: &Response, out: &mut Vec<Out>) {
        let tag = message::tag(&response.headers, &HeaderName::To).unwrap_or_default();
        if let Some(known) = self.surplus.iter().find(|known| known.tag == tag) {
            out.push(Out::Ack(known.ack.clone()));
            return;
        }
        if self.surplus.len() >= limits::SIP_FORKS_MAX {
            return;
        }
        let Some(mut dialog) = Dialog::outgoing_as_well_as_can_be(&self.invite, response) else { return };
        dialog.log_in(self.digest.clone());
        let mut ack = dialog.ack(message::cseq(&self.invite.headers).unwrap_or(1), &self.own);
        digest::copy_proof(&self.invite, &mut ack.request);
        out.push(Out::Ack(ack.clone()));
        let bye = dialog.bye(None, &self.own);
        let number = u32::try_from(self.surplus.len()).unwrap_or(u32::MAX);
        out.push(Out::Ask(Ask { fork: SURPLUS, number }, bye.clone()));
        self.surplus.push(Surplus { tag, dialog, ack, bye, challenges: 0 });
    }

    /// How the goodbye to a surplus answer ends is nobody's concern, unless it wants a proof: whoever does not get it
    /// believes that we talk.
    fn on_farewell_answered(&mut self, ask: Ask, reply: &Reply, out: &mut Vec<Out>) {
        let surplus = usize::try_from(ask.number).ok().and_then(|at| self.surplus.get_mut(at));
        let (Some(surplus), Reply::Response(response)) = (surplus, reply) else { return };
        surplus.challenges += 1;
        if matches!(response.status.code(), 401 | 407)
            && surplus.challenges <= limits::SIP_CHALLENGES_MAX
            && surplus.dialog.is_challenged(response)
        {
            surplus.bye = surplus.dialog.prove(&surplus.bye);
            out.push(Out::Ask(ask, surplus.bye.clone()));
        }
    }

    fn is_surplus(&self, request: &Request) -> bool {
        let tag = message::tag(&request.headers, &HeaderName::From).unwrap_or_default();
        self.surplus.iter().any(|known| known.tag == tag)
    }

    /// The INVITE again under the next number, with the session interval that was asked for.
    fn ask_again(&mut self, out: &mut Vec<Out>) {
        let cseq = message::cseq(&self.invite.headers).unwrap_or(1).saturating_add(1);
        self.invite = digest::again(&self.invite, cseq);
        let headers = &mut self.invite.headers;
        headers.remove_all(&HeaderName::SessionExpires);
        headers.remove_all(&HeaderName::MinSe);
        self.refresh.ask(headers);
        self.digest.begin();
        self.digest.authorize(&mut self.invite);
        self.forks.clear();
        self.state = State::Calling;
        out.push(Out::Invite(self.invite.clone()));
    }

    fn cancel(&mut self, cause: Option<u8>, out: &mut Vec<Out>) {
        out.push(Out::Cancel(cause));
        out.push(Out::Disarm(Timer::Glare));
        out.push(Out::Arm(Timer::Patience, self.timers.patience()));
        self.forks.clear();
        self.state = State::Canceling;
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Out>) {
        self.state = State::Over;
        out.push(Out::Tell(SipEvent::Failed { dialog: self.id, failure }));
        out.push(Out::Over);
    }
}

/// Stands for the early dialog in the name of a goodbye to a surplus answer, which has none.
const SURPLUS: u16 = u16::MAX;

/// What an outbound call begins with.
pub(super) struct Beginning {
    pub(super) id: DialogId,
    pub(super) own: Own,
    pub(super) timers: SipTimers,
    pub(super) rules: SessionRules,
    pub(super) dice: Dice,
}
