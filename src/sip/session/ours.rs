//! Our own requests within a dialog: offers and refreshes, one at a time, tried again when they collide.

use std::time::Duration;

use sipx_sip::{HeaderName, Method, Response};

use super::{Session, Standing};
use crate::model::limits;
use crate::sip::dialog::{Ask, Letter, Out, Reply, Timer};
use crate::sip::event::{Loss, SipEvent};
use crate::sip::message;
use crate::sip::offers::Open;

/// What we want of the other side, and what we have asked.
#[derive(Debug)]
pub(super) struct Mine {
    fork: u16,
    asked: u32,
    /// A description that the gateway wants.
    wish: Option<String>,
    /// Half the interval is over.
    pub(super) wants_refresh: bool,
    /// Tries that collided, in a row.
    collisions: u32,
    /// The time to try again has not come.
    pub(super) waits: bool,
    /// The next one repeats one that was challenged.
    proves: bool,
    /// In the air.
    asking: Option<Asking>,
    /// Our other requests in the air, so that one that is challenged can be repeated.
    said: Vec<Said>,
    /// Our BYE.
    pub(super) bye: Option<Ask>,
    /// Our last INVITE's ACK, for copies of its 2xx.
    acked: Option<(Ask, Letter)>,
}

#[derive(Debug)]
struct Asking {
    ask: Ask,
    is_invite: bool,
    cseq: u32,
    /// The offer in it; `None` in an UPDATE that only gives a sign of life.
    offer: Option<String>,
    /// The gateway wants to hear of it.
    is_wish: bool,
}

/// A request that has no rules of its own beyond those of its kind.
#[derive(Debug)]
struct Said {
    ask: Ask,
    letter: Letter,
    /// How often it has been challenged.
    challenges: usize,
}

impl Mine {
    pub(super) fn new(fork: u16) -> Mine {
        Mine {
            fork,
            asked: 0,
            wish: None,
            wants_refresh: false,
            collisions: 0,
            waits: false,
            proves: false,
            asking: None,
            said: Vec::new(),
            bye: None,
            acked: None,
        }
    }

    /// Whether an INVITE of ours waits for its final answer.
    pub(super) fn is_inviting(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.is_invite)
    }

    fn next(&mut self) -> Ask {
        self.asked += 1;
        Ask { fork: self.fork, number: self.asked }
    }
}

impl Session {
    /// The gateway wants another description. The last wish counts.
    pub(in crate::sip) fn reoffer(&mut self, sdp: String, out: &mut Vec<Out>) {
        if matches!(self.standing, Standing::Leaving { .. } | Standing::Over) {
            return;
        }
        self.mine.wish = Some(sdp);
        self.ask_next(out);
    }

    /// Sends a request that has no rules of its own beyond those of its kind; but for a challenge, its answers are not
    /// looked at here.
    pub(in crate::sip) fn ask(&mut self, method: Method, out: &mut Vec<Out>, fill: impl FnOnce(&mut Letter)) -> Ask {
        let mut letter = self.dialog.request(method, &self.own);
        fill(&mut letter);
        self.say(letter, out)
    }

    pub(super) fn say(&mut self, letter: Letter, out: &mut Vec<Out>) -> Ask {
        let ask = self.mine.next();
        self.mine.said.push(Said { ask, letter: letter.clone(), challenges: 0 });
        out.push(Out::Ask(ask, letter));
        ask
    }

    /// Repeats a request that was challenged, with the proof; `false` when this is no challenge, or no proof would help.
    fn proves(&mut self, ask: Ask, reply: &Reply, out: &mut Vec<Out>) -> bool {
        let Some(at) = self.mine.said.iter().position(|said| said.ask == ask) else { return false };
        if matches!(reply, Reply::Response(response) if response.status.is_provisional()) {
            return false;
        }
        let mut said = self.mine.said.swap_remove(at);
        said.challenges += 1;
        let Reply::Response(response) = reply else { return false };
        let is_challenge = matches!(response.status.code(), 401 | 407) && said.challenges <= limits::SIP_CHALLENGES_MAX;
        if !is_challenge || !self.dialog.is_challenged(response) {
            return false;
        }
        said.letter = self.dialog.prove(&said.letter);
        out.push(Out::Ask(ask, said.letter.clone()));
        self.mine.said.push(said);
        true
    }

    /// Whether an offer of ours waits for its answer.
    pub(super) fn has_offer_out(&self) -> bool {
        let in_request = self.mine.asking.as_ref().is_some_and(|asking| asking.is_invite || asking.offer.is_some());
        in_request || self.offers.open() == Open::Ours
    }

    /// Sends what is wanted, once nothing is in the way.
    pub(super) fn ask_next(&mut self, out: &mut Vec<Out>) {
        let may_offer = match self.standing {
            Standing::Steady => self.offers.open() == Open::Nobody,
            // RFC 3311 §5.1: in an early dialog only UPDATE, and only after the first offer has been answered.
            Standing::Early => self.offers.is_settled() && self.dialog.takes_update,
            Standing::Answered(_) | Standing::Leaving { .. } | Standing::Over => false,
        };
        if !may_offer || self.mine.waits || self.mine.asking.is_some() {
            return;
        }
        if let Some(wish) = self.mine.wish.clone() {
            let offer = self.offers.following(&wish);
            let is_early = matches!(self.standing, Standing::Early);
            self.send(if is_early { Method::Update } else { Method::Invite }, Some(offer), true, out);
        } else if self.mine.wants_refresh && self.dialog.takes_update {
            self.send(Method::Update, None, false, out);
        } else if self.mine.wants_refresh {
            // RFC 4028 §7.4: the same description to the letter.
            self.send(Method::Invite, Some(self.offers.ours().to_owned()), false, out);
        }
    }

    fn send(&mut self, method: Method, offer: Option<String>, is_wish: bool, out: &mut Vec<Out>) {
        let ask = self.mine.next();
        let is_invite = method == Method::Invite;
        let mut letter = if std::mem::take(&mut self.mine.proves) {
            self.dialog.again(method, &self.own)
        } else {
            self.dialog.request(method, &self.own)
        };
        letter.present(&self.own);
        if !matches!(self.standing, Standing::Early) {
            self.refresh.ask(&mut letter.request.headers);
        }
        if let Some(offer) = &offer {
            letter.describe(offer);
        }
        let cseq = self.dialog.cseq();
        self.mine.asking = Some(Asking { ask, is_invite, cseq, offer, is_wish });
        out.push(Out::Ask(ask, letter));
    }

    /// What came of a request of ours.
    pub(in crate::sip) fn on_reply(&mut self, ask: Ask, reply: Reply, out: &mut Vec<Out>) {
        if let (Some((acked, letter)), Reply::Response(response)) = (&self.mine.acked, &reply)
            && *acked == ask
            && response.status.is_success()
        {
            // Their copy of the ACK was lost.
            out.push(Out::Ack(letter.clone()));
            return;
        }
        if ask.fork != self.mine.fork || self.proves(ask, &reply, out) {
            return;
        }
        if self.mine.bye == Some(ask) {
            if !matches!(&reply, Reply::Response(response) if response.status.is_provisional()) {
                self.on_bye_done(out);
            }
            return;
        }
        if self.on_refer_reply(ask, &reply, out) || !self.mine.asking.as_ref().is_some_and(|asking| asking.ask == ask) {
            return;
        }
        if matches!(&reply, Reply::Response(response) if response.status.is_provisional()) {
            return;
        }
        let Some(asking) = self.mine.asking.take() else { return };
        match (&self.standing, reply) {
            (Standing::Over, _) => {}
            (Standing::Leaving { is_done }, reply) => {
                let is_done = *is_done;
                if let Reply::Response(response) = reply
                    && response.status.is_success()
                {
                    self.acknowledge(&asking, out);
                }
                if asking.is_invite {
                    out.push(Out::Disarm(Timer::Patience));
                }
                if is_done {
                    self.finish(out);
                }
            }
            (_, Reply::Response(response)) if response.status.is_success() => self.on_consent(asking, &response, out),
            (_, Reply::Response(response)) => self.on_refusal(asking, &response, out),
            (Standing::Early, Reply::Lost | Reply::Over) => self.give_up(&asking, 408, out),
            (_, Reply::Lost | Reply::Over) => self.lose(Loss::Unanswered, out),
        }
    }

    fn acknowledge(&mut self, asking: &Asking, out: &mut Vec<Out>) {
        if asking.is_invite {
            let ack = self.dialog.ack(asking.cseq, &self.own);
            out.push(Out::Ack(ack.clone()));
            self.mine.acked = Some((asking.ask, ack));
        }
    }

    fn on_consent(&mut self, asking: Asking, response: &Response, out: &mut Vec<Out>) {
        self.dialog.refresh_target(&response.headers);
        self.acknowledge(&asking, out);
        if !matches!(self.standing, Standing::Early) {
            self.refresh.adopt(&response.headers, out);
        }
        self.mine.collisions = 0;
        self.mine.wants_refresh = false;
        let answer = message::sdp(&response.headers, response.body());
        match (asking.offer, answer) {
            (Some(offer), Some(answer)) => {
                if asking.is_wish {
                    self.mine.wish = None;
                }
                self.offers.settle(offer.clone(), answer.clone());
                let (sdp, offer) = (Some(answer), Some(offer));
                out.push(Out::Tell(SipEvent::Reinvited { dialog: self.id, sdp, answer: None, offer }));
            }
            // Without an answer nothing has changed; a refresh needs none.
            (Some(_), None) if asking.is_wish => {
                self.mine.wish = None;
                out.push(Out::Tell(SipEvent::ReofferFailed { dialog: self.id, status: 488 }));
            }
            (Some(_) | None, _) => {}
        }
        self.ask_next(out);
    }

    fn on_refusal(&mut self, asking: Asking, response: &Response, out: &mut Vec<Out>) {
        let status = response.status.code();
        let is_early = matches!(self.standing, Standing::Early);
        match status {
            491 if self.mine.collisions < limits::SIP_COLLISIONS_MAX => {
                // RFC 3261 §14.1, in steps of 10 ms: the owner of the Call-ID waits longer.
                let wait_10_ms = if self.dialog.is_ours { 210 + self.dice.below(191) } else { self.dice.below(201) };
                self.wait(Duration::from_millis(10 * wait_10_ms), out);
            }
            500 | 503 if self.mine.collisions < limits::SIP_COLLISIONS_MAX && has_short_wait(response) => {
                let wait = message::retry_after_s(&response.headers).unwrap_or(0);
                self.wait(Duration::from_secs(u64::from(wait)), out);
            }
            401 | 407 if self.dialog.is_challenged(response) => {
                self.mine.proves = true;
                self.ask_next(out);
            }
            422 if self.refresh.raise(&response.headers) => self.ask_next(out),
            405 | 501 if !asking.is_invite => {
                self.dialog.takes_update = false;
                if is_early {
                    self.give_up(&asking, status, out);
                } else {
                    self.ask_next(out);
                }
            }
            // RFC 3261 §14.1, §12.2.1.2: the other side knows nothing of the dialog.
            481 if !is_early => self.lose(Loss::Unknown, out),
            408 if !is_early => self.lose(Loss::Unanswered, out),
            _ => self.give_up(&asking, status, out),
        }
    }

    fn wait(&mut self, wait: Duration, out: &mut Vec<Out>) {
        self.mine.collisions += 1;
        self.mine.waits = true;
        out.push(Out::Arm(Timer::Glare, wait));
    }

    /// What was agreed before stands. A refresh gets another try while the session lasts.
    fn give_up(&mut self, asking: &Asking, status: u16, out: &mut Vec<Out>) {
        self.mine.collisions = 0;
        if asking.is_wish {
            self.mine.wish = None;
            out.push(Out::Tell(SipEvent::ReofferFailed { dialog: self.id, status }));
        } else {
            self.mine.wants_refresh = false;
            out.push(Out::Arm(Timer::Refresh, self.refresh.second_try()));
        }
        self.ask_next(out);
    }
}

fn has_short_wait(response: &Response) -> bool {
    response.headers.get(&HeaderName::RetryAfter).is_some()
        && message::retry_after_s(&response.headers).is_some_and(|seconds| seconds <= 10)
}
