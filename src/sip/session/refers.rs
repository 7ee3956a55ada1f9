//! Referrals within a dialog: the other side's, told by NOTIFY how they go, and ours.

use sipx_sip::{HeaderName, Method};

use super::{Session, Standing};
use crate::sip::dialog::{Ask, Out, Reply, Timer};
use crate::sip::event::{ReferOrder, Replaces};
use crate::sip::{message, refer};

impl Session {
    /// The gateway says what becomes of a referral, or wants one.
    pub(in crate::sip) fn on_refer_order(&mut self, order: ReferOrder, out: &mut Vec<Out>) {
        if matches!(self.standing, Standing::Early | Standing::Leaving { .. } | Standing::Over) {
            return;
        }
        match order {
            ReferOrder::Take => self.refers.take(&self.own, out),
            ReferOrder::Refuse { status } => self.refers.refuse(status, out),
            ReferOrder::Rings => self.refers.tell(180),
            ReferOrder::Ended { status } => self.refers.tell(status.max(200)),
            ReferOrder::Send { to, .. } => {
                let (own, referrer) = (self.own.clone(), self.dialog.local_address());
                let ask = self.ask(Method::Refer, out, |letter| {
                    letter.present(&own);
                    message::put(&mut letter.request.headers, HeaderName::ReferTo, to);
                    message::put(&mut letter.request.headers, HeaderName::ReferredBy, referrer);
                });
                self.refers.sent_refer(ask.number);
            }
        }
        self.tell_news(out);
    }

    pub(super) fn on_refer_reply(&mut self, ask: Ask, reply: &Reply, out: &mut Vec<Out>) -> bool {
        let is_mine = self.refers.on_reply(self.id, ask.number, reply, out);
        if is_mine {
            self.tell_news(out);
        }
        is_mine
    }

    /// Sends what is next to be told. A BYE that waited for the last of it goes when that is done.
    fn tell_news(&mut self, out: &mut Vec<Out>) {
        if matches!(self.standing, Standing::Early | Standing::Leaving { .. } | Standing::Over) {
            return;
        }
        if let Some((event, status)) = self.refers.next_news() {
            let own = self.own.clone();
            let ask = self.ask(Method::Notify, out, |letter| {
                letter.present(&own);
                refer::write_news(letter, &event, status);
            });
            self.refers.sent_news(ask.number);
        } else if !self.refers.is_telling() {
            self.leave_at_last(out);
        }
    }

    /// Puts a BYE off until the other side has heard how its referral ended (RFC 5589 §6.1).
    pub(super) fn leave_later(&mut self, cause: Option<u8>, out: &mut Vec<Out>) {
        self.refers.leaving = Some(cause);
        out.push(Out::Arm(Timer::News, refer::LAST_NEWS_MAX));
    }

    /// Sends the BYE that was put off.
    pub(super) fn leave_at_last(&mut self, out: &mut Vec<Out>) {
        if let Some(cause) = self.refers.leaving.take() {
            self.leave(cause, out);
        }
    }

    /// Whether the place of the peer with this tag may be taken in the answered dialog (RFC 3891 §3).
    ///
    /// # Errors
    /// The status for whoever asks: 481 when this is another dialog, 603 when it is over, 486 when only an early one was
    /// meant.
    pub(in crate::sip) fn replaceable(&self, tag: &[u8], early_only: bool) -> Result<(), u16> {
        if !self.dialog.has_remote_tag(tag) {
            return Err(481);
        }
        match self.standing {
            Standing::Answered(_) | Standing::Steady if self.refers.leaving.is_some() => Err(603),
            Standing::Answered(_) | Standing::Steady if early_only => Err(486),
            Standing::Answered(_) | Standing::Steady => Ok(()),
            Standing::Leaving { .. } | Standing::Over => Err(603),
            Standing::Early => Err(481),
        }
    }

    /// Where the other side is reached, and what it calls this dialog.
    pub(in crate::sip) fn as_named_by_peer(&self) -> (String, Replaces) {
        self.dialog.as_named_by_peer()
    }
}
