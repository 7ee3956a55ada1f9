//! A dialog, early or answered: the same for both directions.
//!
//! Requests of the other side are served here, and our own sent: offers and refreshes (`ours`), one at a time.

mod ours;
mod refers;

use std::time::Duration;

use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey};

use self::ours::Mine;
use super::config::SipTimers;
use super::dialog::{Dialog, Letter, Out, Timer, establish};
use super::digest::{Digest, Login};
use super::door;
use super::event::{By, DialogId, Loss, SipEvent};
use super::message::{self, Own};
use super::offers::{Offers, Open};
use super::refer::Refers;
use super::refresh::{self, Refresh};
use crate::model::{Codec, Pii};
use crate::trunk::SessionRules;

/// One dialog.
#[derive(Debug)]
pub(super) struct Session {
    id: DialogId,
    dialog: Dialog,
    own: Own,
    timers: SipTimers,
    pub(super) offers: Offers,
    refresh: Refresh,
    dice: Dice,
    standing: Standing,
    mine: Mine,
    refers: Refers,
}

#[derive(Debug)]
enum Standing {
    /// Not answered yet.
    Early,
    /// We sent a 2xx and wait for its ACK.
    Answered(Box<Answered>),
    /// Nothing of theirs is in the air.
    Steady,
    /// We sent BYE; or they did, and an INVITE of ours is still in the air. `is_done`: the BYE was answered, or will
    /// not be.
    Leaving { is_done: bool },
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
    /// The description in it is an offer, so the ACK brings the answer (RFC 3261 §13.2.1).
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
    /// A dialog that is not answered yet.
    pub(super) fn early(seed: Seed) -> Session {
        let Seed { id, dialog, own, timers, offers, refresh, dice, fork } = seed;
        Session {
            id,
            dialog,
            own,
            timers,
            offers,
            refresh,
            dice,
            standing: Standing::Early,
            mine: Mine::new(fork),
            refers: Refers::default(),
        }
    }

    /// What is agreed with the peer on dialogs, what we can speak, and who we are when it asks; before the dialog is
    /// answered.
    pub(super) fn adopt(&mut self, rules: SessionRules, codecs: Vec<Codec>, login: Option<Login>) {
        self.refresh.set_rules(rules);
        self.offers.set_codecs(codecs);
        let seed = format!("{:016x}{:016x}", self.dice.below(u64::MAX), self.dice.below(u64::MAX));
        self.dialog.log_in(Digest::new(login, &seed));
    }

    pub(super) fn refresh(&self) -> &Refresh {
        &self.refresh
    }

    pub(super) fn is_from_peer(&self, request: &Request) -> bool {
        self.dialog.is_from_peer(request)
    }

    /// Takes the number of a request that is served elsewhere; answers it when it comes too late.
    pub(super) fn take_cseq(&mut self, key: &TransactionKey, request: &Request, out: &mut Vec<Out>) -> bool {
        let is_new = self.dialog.take_cseq(request);
        if !is_new {
            out.push(Out::Respond(key.clone(), message::respond(request, 500, None)));
        }
        is_new
    }

    /// Sends our 2xx to the INVITE that began the dialog. `sdp` is what we say if nothing has been said.
    pub(super) fn answer(&mut self, key: TransactionKey, invite: &Request, tag: &str, sdp: String, out: &mut Vec<Out>) {
        // RFC 3262 §5, RFC 6337 §2.2: what a reliable answer settled is not said again.
        let is_silent = self.offers.is_settled() || self.offers.open() == Open::Ours;
        let is_offer = !is_silent && self.offers.say(sdp);
        let body = (!is_silent).then(|| self.offers.ours().to_owned());
        // Whether the caller's interval is too short has been looked at before the call was let in.
        let running = self.refresh.judge(&invite.headers).unwrap_or(None);
        let mut response = message::respond(invite, 200, Some(tag));
        establish(&mut response, invite, &self.own);
        self.refresh.grant(running, &mut response.headers, out);
        self.accept(key, invite, response, body, is_offer, Purpose::Call, out);
    }

    /// Our INVITE was answered. Returns the ACK to send.
    pub(super) fn confirm(&mut self, dialog: Dialog, cseq: u32) -> Letter {
        // RFC 3261 §13.2.2.4: the route is that of the 2xx; what was counted in the early dialog goes on.
        self.dialog.confirm(dialog);
        self.standing = Standing::Steady;
        self.dialog.ack(cseq, &self.own)
    }

    /// What the 2xx to our INVITE says.
    pub(super) fn hear_confirmation(&mut self, response: &Response, out: &mut Vec<Out>) {
        if let (Open::Ours, Some(sdp)) = (self.offers.open(), message::sdp(&response.headers, response.body())) {
            self.offers.hear_answer(sdp);
        }
        self.refresh.adopt(&response.headers, out);
    }

    /// A PRACK that has been matched. It bears the answer to our offer, or a new offer of theirs, or neither
    /// (RFC 3262 §5).
    pub(super) fn on_prack(&mut self, key: TransactionKey, prack: &Request, out: &mut Vec<Out>) {
        let mut response = message::respond(prack, 200, None);
        match (self.offers.open(), message::sdp(&prack.headers, prack.body())) {
            (Open::Ours, Some(sdp)) => {
                self.offers.hear_answer(sdp.clone());
                let offer = Some(self.offers.ours().to_owned());
                let event = SipEvent::Reinvited { dialog: self.id, sdp: Some(sdp), answer: None, offer };
                out.extend([Out::Respond(key, response), Out::Tell(event)]);
            }
            (Open::Nobody, Some(_)) => {
                let Some((sdp, answer)) = self.renegotiate(&key, prack, out) else { return };
                describe(&mut response, &answer);
                let (sdp, answer) = (Some(sdp), Some(answer));
                let event = SipEvent::Reinvited { dialog: self.id, sdp, answer, offer: None };
                out.extend([Out::Respond(key, response), Out::Tell(event)]);
            }
            // What is missing here has to come with the ACK; and two offers at once are none.
            (Open::Ours | Open::Nobody, None) | (Open::Theirs, _) => out.push(Out::Respond(key, response)),
        }
    }

    /// A request of the other side, other than ACK and PRACK.
    pub(super) fn on_request(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        if !self.take_cseq(&key, request, out) {
            return;
        }
        let refuse = |status| Out::Respond(key.clone(), message::respond(request, status, None));
        match (&self.standing, &request.method) {
            (Standing::Over, _) => out.push(refuse(481)),
            (_, Method::Bye) => self.on_bye(key, request, out),
            (Standing::Leaving { .. }, _) => out.push(refuse(481)),
            (_, Method::Info) => on_info(self.id, key, request, out),
            (_, Method::Options) => out.push(Out::Respond(key, door::capabilities(request, None))),
            (_, Method::Update) if message::sdp(&request.headers, request.body()).is_none() => {
                self.on_sign_of_life(key, request, out);
            }
            // Whatever it acknowledges, nothing of this dialog waits for it.
            (_, Method::Prack) => out.push(refuse(481)),
            // RFC 5407 §3.1.4: our answer may not have reached them, so two exchanges would cross.
            (Standing::Answered(_), Method::Invite | Method::Update) => out.push(refuse(491)),
            // RFC 3261 §14.2, RFC 3311 §5.2: we owe an answer, so the next offer has to come later; or they owe one.
            (Standing::Early, Method::Invite | Method::Update) if self.offers.open() == Open::Theirs => {
                out.push(self.later(key, request));
            }
            (Standing::Early, Method::Invite) => {
                out.push(if self.dialog.is_ours { refuse(491) } else { self.later(key, request) });
            }
            (_, Method::Invite | Method::Update) if self.has_offer_out() => out.push(refuse(491)),
            (Standing::Early, Method::Update) if !self.offers.is_settled() => out.push(self.later(key, request)),
            (Standing::Early | Standing::Steady, Method::Update) => self.on_update(key, request, out),
            (Standing::Steady, Method::Invite) => self.on_reinvite(key, request, out),
            (Standing::Early, Method::Refer | Method::Notify) => out.push(refuse(481)),
            (_, Method::Refer) => self.refers.on_refer(self.id, key, request, out),
            (_, Method::Notify) => self.refers.on_notify(self.id, key, request, out),
            // The front door lets no other method in.
            (Standing::Early | Standing::Answered(_) | Standing::Steady, _) => {
                let mut response = message::respond(request, 405, None);
                message::put(&mut response.headers, HeaderName::Allow, message::ALLOW);
                out.push(Out::Respond(key, response));
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
        if let Some(sdp) = &sdp {
            self.offers.hear_answer(sdp.clone());
        }
        match answered.purpose {
            Purpose::Call => out.push(Out::Tell(SipEvent::Confirmed { dialog: self.id, sdp })),
            Purpose::CallToEnd(cause) => return self.leave(cause, out),
            // An offer that they left without an answer changes nothing; we shall not wait for it for ever.
            Purpose::Refresh if answered.is_offer && sdp.is_none() => self.offers.withdraw(),
            Purpose::Refresh if answered.is_offer => {
                let offer = Some(self.offers.ours().to_owned());
                out.push(Out::Tell(SipEvent::Reinvited { dialog: self.id, sdp, answer: None, offer }));
            }
            Purpose::Refresh => {}
        }
        self.ask_next(out);
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
            // The last answer to an INVITE of ours will not come.
            (Standing::Leaving { .. }, Timer::Patience) => self.finish(out),
            (Standing::Answered(answered), Timer::Expire) if matches!(answered.purpose, Purpose::CallToEnd(_)) => {}
            (Standing::Answered(_) | Standing::Steady, Timer::Expire) => self.lose(Loss::Expired, out),
            (Standing::Answered(_) | Standing::Steady, Timer::Refresh) => {
                self.mine.wants_refresh = true;
                self.ask_next(out);
            }
            // They do not answer our NOTIFY; they have had their time.
            (Standing::Answered(_) | Standing::Steady, Timer::News) => self.leave_at_last(out),
            (Standing::Early | Standing::Answered(_) | Standing::Steady, Timer::Glare) => {
                self.mine.waits = false;
                self.ask_next(out);
            }
            // Late timers of an exchange that is complete, or of another phase.
            (Standing::Early | Standing::Steady | Standing::Leaving { .. } | Standing::Over, _) => {}
            (Standing::Answered(_), _) => {}
        }
    }

    /// We hang up. The gateway is told at once.
    pub(super) fn hang_up(&mut self, cause: Option<u8>, out: &mut Vec<Out>) {
        if self.refers.leaving.is_some() {
            return;
        }
        let is_told = self.refers.is_telling();
        match &mut self.standing {
            Standing::Answered(answered) if matches!(answered.purpose, Purpose::Call) => {
                answered.purpose = Purpose::CallToEnd(cause);
            }
            Standing::Answered(answered) if matches!(answered.purpose, Purpose::Refresh) => self.leave(cause, out),
            Standing::Steady if is_told => self.leave_later(cause, out),
            Standing::Steady => self.leave(cause, out),
            // It has been told already, or is not answered, which is another way to end.
            Standing::Early | Standing::Answered(_) | Standing::Leaving { .. } | Standing::Over => return,
        }
        out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Us, cause }));
    }

    /// Our BYE was answered, or never will be.
    fn on_bye_done(&mut self, out: &mut Vec<Out>) {
        if let Standing::Leaving { is_done } = &mut self.standing {
            *is_done = true;
            if !self.mine.is_inviting() {
                self.finish(out);
            }
        }
    }

    /// Sends BYE and says nothing to the gateway.
    pub(super) fn leave(&mut self, cause: Option<u8>, out: &mut Vec<Out>) {
        let bye = self.dialog.bye(cause, &self.own);
        self.mine.bye = Some(self.say(bye, out));
        self.fall_silent(false, out);
    }

    /// The dialog cannot go on: BYE, and the gateway is told why.
    fn lose(&mut self, loss: Loss, out: &mut Vec<Out>) {
        let mut bye = self.dialog.bye(Some(Q850_TIMER_EXPIRED), &self.own);
        let reason = match loss {
            Loss::Expired => "SIP;cause=408;text=\"Session timer expired\"",
            Loss::Unanswered => "SIP;cause=408;text=\"Request timed out\"",
            Loss::Unknown => "SIP;cause=481;text=\"Dialog unknown\"",
        };
        message::put(&mut bye.request.headers, HeaderName::Reason, reason);
        self.mine.bye = Some(self.say(bye, out));
        self.fall_silent(false, out);
        out.push(Out::Tell(SipEvent::Lost { dialog: self.id, loss }));
    }

    /// Nothing more is asked or awaited, but what an INVITE of ours in the air still brings: its 2xx wants an ACK.
    fn fall_silent(&mut self, is_done: bool, out: &mut Vec<Out>) {
        let timers = [Timer::Repeat, Timer::Patience, Timer::Refresh, Timer::Expire, Timer::Glare, Timer::News];
        self.refers.leaving = None;
        self.refers.refuse(603, out);
        out.extend(timers.map(Out::Disarm));
        self.standing = Standing::Leaving { is_done };
        if self.mine.is_inviting() {
            out.push(Out::Arm(Timer::Patience, self.timers.patience()));
        } else if is_done {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Out>) {
        self.standing = Standing::Over;
        out.push(Out::Over);
    }

    fn on_bye(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        out.push(Out::Respond(key, message::respond(request, 200, None)));
        let is_told = match &self.standing {
            Standing::Answered(answered) => matches!(answered.purpose, Purpose::CallToEnd(_)),
            Standing::Leaving { .. } | Standing::Over => true,
            Standing::Early | Standing::Steady => self.refers.leaving.is_some(),
        };
        if !is_told {
            let cause = message::q850(&request.headers);
            out.push(Out::Tell(SipEvent::Ended { dialog: self.id, by: By::Them, cause }));
        }
        self.fall_silent(true, out);
    }

    /// UPDATE without a description (RFC 3311): a sign of life, and perhaps a new Contact.
    fn on_sign_of_life(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        let Some(mut response) = self.consent(&key, request, out) else { return };
        self.dialog.refresh_target(&request.headers);
        self.grant(request, &mut response, out);
        out.push(Out::Respond(key, response));
    }

    fn on_update(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        let Some(mut response) = self.consent(&key, request, out) else { return };
        let Some((sdp, answer)) = self.renegotiate(&key, request, out) else { return };
        self.dialog.refresh_target(&request.headers);
        self.grant(request, &mut response, out);
        describe(&mut response, &answer);
        out.push(Out::Respond(key, response));
        let (sdp, answer) = (Some(sdp), Some(answer));
        out.push(Out::Tell(SipEvent::Reinvited { dialog: self.id, sdp, answer, offer: None }));
    }

    fn on_reinvite(&mut self, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        let Some(mut response) = self.consent(&key, request, out) else { return };
        let (body, event) = if message::sdp(&request.headers, request.body()).is_none() {
            let offer = self.offers.offer_all().to_owned();
            (offer, SipEvent::Reinvited { dialog: self.id, sdp: None, answer: None, offer: None })
        } else {
            let Some((sdp, answer)) = self.renegotiate(&key, request, out) else { return };
            let (sdp, said) = (Some(sdp), Some(answer.clone()));
            (answer, SipEvent::Reinvited { dialog: self.id, sdp, answer: said, offer: None })
        };
        self.dialog.refresh_target(&request.headers);
        self.grant(request, &mut response, out);
        let is_offer = self.offers.open() == Open::Ours;
        self.accept(key, request, response, Some(body), is_offer, Purpose::Refresh, out);
        out.push(Out::Tell(event));
    }

    /// The 200 to a request that refreshes the session, or the 422 that it gets.
    fn consent(&self, key: &TransactionKey, request: &Request, out: &mut Vec<Out>) -> Option<Response> {
        if let Err(least) = self.refresh.judge(&request.headers) {
            let mut response = message::respond(request, 422, None);
            message::put(&mut response.headers, HeaderName::MinSe, refresh::seconds(least));
            out.push(Out::Respond(key.clone(), response));
            return None;
        }
        let mut response = message::respond(request, 200, None);
        establish(&mut response, request, &self.own);
        Some(response)
    }

    /// Before the answer only the INVITE speaks of the timer.
    fn grant(&mut self, request: &Request, response: &mut Response, out: &mut Vec<Out>) {
        if !matches!(self.standing, Standing::Early)
            && let Ok(running) = self.refresh.judge(&request.headers)
        {
            self.mine.wants_refresh = false;
            self.refresh.grant(running, &mut response.headers, out);
        }
    }

    /// Their new offer and our answer to it, which becomes our description; or a refusal, and all stays as it was
    /// (RFC 3261 §14.1).
    fn renegotiate(
        &mut self,
        key: &TransactionKey,
        request: &Request,
        out: &mut Vec<Out>,
    ) -> Option<(Vec<u8>, String)> {
        let sdp = message::sdp(&request.headers, request.body())?;
        match self.offers.answer(&sdp) {
            Ok(answer) => Some((sdp, answer)),
            Err(error) => {
                let status = if error.is_malformed() { 400 } else { 488 };
                let mut response = message::respond(request, status, None);
                let warning = message::warning(&self.own.agent, &error.to_string());
                message::put(&mut response.headers, HeaderName::Warning, warning);
                out.push(Out::Respond(key.clone(), response));
                None
            }
        }
    }

    /// 500 with a Retry-After drawn between 0 and 10 s, so that two who collide part (RFC 3261 §14.2).
    fn later(&mut self, key: TransactionKey, request: &Request) -> Out {
        let mut response = message::respond(request, 500, None);
        let seconds = self.dice.below(11).to_string();
        message::put(&mut response.headers, HeaderName::RetryAfter, seconds);
        Out::Respond(key, response)
    }

    /// Sends a 2xx and waits for its ACK. RFC 3261 §13.3.1.4: it is repeated by us, not by the transaction, and over
    /// TCP too, because a later hop may be UDP.
    #[allow(clippy::too_many_arguments, reason = "they are the parts of one message")]
    fn accept(
        &mut self,
        key: TransactionKey,
        invite: &Request,
        mut response: Response,
        body: Option<String>,
        is_offer: bool,
        purpose: Purpose,
        out: &mut Vec<Out>,
    ) {
        if let Some(body) = body {
            describe(&mut response, &body);
        }
        out.push(Out::Respond(key.clone(), response.clone()));
        out.push(Out::Arm(Timer::Repeat, self.timers.t1));
        out.push(Out::Arm(Timer::Patience, self.timers.patience()));
        self.standing = Standing::Answered(Box::new(Answered {
            key,
            response,
            cseq: message::cseq(&invite.headers),
            interval: self.timers.t1,
            purpose,
            is_offer,
        }));
    }
}

/// What a session grows from.
pub(super) struct Seed {
    pub(super) id: DialogId,
    pub(super) dialog: Dialog,
    pub(super) own: Own,
    pub(super) timers: SipTimers,
    pub(super) offers: Offers,
    pub(super) refresh: Refresh,
    pub(super) dice: Dice,
    /// Which of the early dialogs of an INVITE it is.
    pub(super) fork: u16,
}

/// Numbers that nobody need guess, from a seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// The next number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

fn describe(response: &mut Response, sdp: &str) {
    message::put_body(&mut response.headers, message::SDP, sdp.as_bytes());
    response.set_body(sdp.to_owned().into_bytes().into());
}

/// INFO is answered before anybody looks at it: in the field it is old DTMF. A package we never agreed to is refused, with
/// the list of those we know, which is empty (RFC 6086 §4.2.2).
pub(super) fn on_info(id: DialogId, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
    if request.headers.get(&HeaderName::parse(&b"Info-Package".as_slice().into())).is_some() {
        let mut response = message::respond(request, 469, None);
        message::put(&mut response.headers, HeaderName::parse(&b"Recv-Info".as_slice().into()), "");
        out.push(Out::Respond(key, response));
        return;
    }
    out.push(Out::Respond(key, message::respond(request, 200, None)));
    if let Some(content_type) = message::content_type(&request.headers) {
        out.push(Out::Tell(SipEvent::Info { dialog: id, content_type, body: Pii::new(request.body().to_vec()) }));
    }
}

/// Q.850 §2.2.7.7: recovery on timer expiry.
const Q850_TIMER_EXPIRED: u8 = 102;
