//! A request of ours and its targets: each is tried in turn with a branch of its own (RFC 3263 §4.3), until one speaks.
//!
//! A target that is given up because it was silent may still answer. Of an INVITE, each such branch is a fork like any
//! other: when it rings it is cancelled, and when it answers the dialog hears of it.

use std::collections::VecDeque;
use std::time::Duration;

use sipx_sip::transaction::TuEvent;
use sipx_sip::{Request, Response, TransactionKey};

use super::super::dialog::{Ask, Reply};
use super::super::event::{DialogId, Failure};
use super::super::message;
use super::super::net::{self, Hop, Way};
use super::clockwork::{Alarm, Ring};
use super::{Happening, Report, Stack};
use crate::model::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ErrandId(u64);

/// A request of ours that is under way.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) purpose: Purpose,
    /// Without Via.
    pub(super) request: Request,
    /// Where it may go, best first.
    ways: VecDeque<Way>,
    /// What the first of them came to.
    hops: VecDeque<Hop>,
    /// Our Contact towards the first target.
    contact: String,
    /// The listener to speak from, when it fits.
    prefer: Option<usize>,
    pub(super) branches: Vec<Branch>,
    /// How long a target may be silent while there is another.
    patience: Duration,
    /// Set when the next target is tried because this one is silent.
    pub(super) silence: Option<Ring>,
    /// The dialog wants the INVITE taken back, for this Q.850 cause.
    cancel: Option<Option<u8>>,
    /// A name is being looked up.
    is_looking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Nothing is sent: the dialog wants to know where a name leads.
    Find(DialogId),
    Invite(DialogId),
    /// A request within a dialog, which hears of every answer.
    Within(DialogId, Ask),
    /// A question outside of any dialog, whose final answer is reported.
    Inquire(DialogId),
    /// No transaction: it goes out once.
    Ack,
}

/// One attempt at one target.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) key: TransactionKey,
    /// As it went out, for CANCEL.
    sent: Request,
    hop: Hop,
    has_spoken: bool,
    /// Silent for too long, so another target is being tried.
    is_given_up: bool,
    is_canceled: bool,
    /// It has its final answer.
    pub(super) is_final: bool,
}

/// What a lookup came to.
pub(super) type Found = (ErrandId, Vec<Hop>);

impl Stack {
    /// Finds where a name leads, and reports it.
    pub(in crate::sip) fn look_up(&mut self, id: DialogId, way: Way) {
        let request =
            Request::new(sipx_sip::Method::Invite, sipx_sip::Uri::sip(sipx_sip::Host::Ip([0, 0, 0, 0].into())));
        self.begin(Purpose::Find(id), request, vec![way], None, self.patience());
    }

    /// Sends an INVITE to the first of these hops that takes it, and reports every answer until the transaction ends.
    /// Each hop may be silent for this long while there is another one to try; 8·T1 when `None`.
    ///
    /// What an earlier INVITE of the dialog still has to say is no longer reported: it was challenged, and this one
    /// brings the proof.
    pub(in crate::sip) fn invite(
        &mut self,
        id: DialogId,
        request: Request,
        hops: Vec<Hop>,
        prefer: usize,
        silence: Option<Duration>,
    ) {
        self.forget_invite(id);
        let ways = hops.into_iter().map(Way::Known).collect();
        let patience = silence.unwrap_or(self.patience());
        if let Some(errand) = self.begin(Purpose::Invite(id), request, ways, Some(prefer), patience) {
            self.inviting.insert(id, errand);
        }
    }

    /// Takes an INVITE back.
    pub(in crate::sip) fn cancel(&mut self, id: DialogId, cause: Option<u8>) {
        let Some(errand) = self.inviting.get(&id).copied() else { return };
        let Some(state) = self.errands.get_mut(&errand) else { return };
        state.cancel = Some(cause);
        state.ways.clear();
        state.hops.clear();
        self.cancel_what_spoke(errand);
    }

    /// The dialog no longer wants to hear of its INVITE.
    pub(in crate::sip) fn forget_invite(&mut self, id: DialogId) {
        self.ready.retain(|happening| match happening {
            Happening::Report(Report::Response(of, ..) | Report::Failed(of, _) | Report::InviteOver(of)) => *of != id,
            Happening::Report(Report::Looked(..) | Report::Reply(..) | Report::Answered(..))
            | Happening::Request(_) => true,
        });
        if let Some(errand) = self.inviting.remove(&id).and_then(|errand| self.errands.remove(&errand)) {
            self.clockwork.clear(errand.silence);
            // One that was canceled and never answered would wait for ever.
            self.drop_unanswered(errand.branches);
        }
    }

    /// Sends a request that belongs to no dialog, and reports its final answer.
    pub(in crate::sip) fn inquire(&mut self, id: DialogId, request: Request, hops: Vec<Hop>, prefer: usize) {
        let ways = hops.into_iter().map(Way::Known).collect();
        self.begin(Purpose::Inquire(id), request, ways, Some(prefer), self.patience());
    }

    /// Sends the ACK of a 2xx, once; the next copy of the 2xx brings the next.
    pub(in crate::sip) fn acknowledge(&mut self, request: Request, ways: Vec<Way>, prefer: usize) {
        self.begin(Purpose::Ack, request, ways, Some(prefer), self.patience());
    }

    /// How long one of several targets may be silent, when nobody said so.
    pub(super) fn patience(&self) -> Duration {
        self.timers.t1.saturating_mul(limits::SIP_HOP_SILENCE_T1)
    }

    pub(super) fn begin(
        &mut self,
        purpose: Purpose,
        request: Request,
        ways: Vec<Way>,
        prefer: Option<usize>,
        patience: Duration,
    ) -> Option<ErrandId> {
        self.last_errand += 1;
        let id = ErrandId(self.last_errand);
        let contact = match ways.first() {
            Some(Way::Known(hop)) => {
                self.net.endpoint_for(hop, prefer).map(|endpoint| self.net.own(endpoint, hop).contact)
            }
            _ => None,
        };
        let mut errand = Errand {
            purpose,
            request,
            ways: ways.into(),
            hops: VecDeque::new(),
            contact: contact.unwrap_or_default(),
            prefer,
            branches: Vec::new(),
            patience,
            silence: None,
            cancel: None,
            is_looking: false,
        };
        if self.errands.len() >= limits::SIP_ERRANDS_MAX {
            errand.ways.clear();
        }
        self.errands.insert(id, errand);
        self.try_next(id, Failure::Transport);
        self.errands.contains_key(&id).then_some(id)
    }

    /// Tries the next target; when there is none, the errand has failed like this.
    fn try_next(&mut self, id: ErrandId, failure: Failure) {
        loop {
            let Some(errand) = self.errands.get_mut(&id) else { return };
            self.clockwork.clear(errand.silence.take());
            if let Some(hop) = errand.hops.pop_front() {
                if self.try_hop(id, hop) {
                    return;
                }
                continue;
            }
            match errand.ways.pop_front() {
                Some(Way::Known(hop)) => errand.hops = net::hops(&errand.request, hop).into(),
                Some(Way::Named(name)) if self.lookups.len() < limits::SIP_LOOKUPS_MAX => {
                    errand.is_looking = true;
                    let dns = self.dns.clone();
                    self.lookups.spawn(async move { (id, dns.find(&name).await) });
                    return;
                }
                Some(Way::Named(_) | Way::Nowhere) => {}
                None => return self.fail(id, failure),
            }
        }
    }

    pub(super) fn on_found(&mut self, (id, mut hops): Found) {
        hops.retain(|hop| self.net.endpoint_for(hop, None).is_some());
        let Some(errand) = self.errands.get_mut(&id) else { return };
        errand.is_looking = false;
        if let Purpose::Find(dialog) = errand.purpose {
            self.errands.remove(&id);
            self.ready.push_back(Happening::Report(Report::Looked(dialog, hops)));
            return;
        }
        errand.hops = hops.into_iter().flat_map(|hop| net::hops(&errand.request, hop)).collect();
        self.try_next(id, Failure::Unresolved);
    }

    /// `false` when it could not even leave, and nothing has come of it.
    fn try_hop(&mut self, id: ErrandId, hop: Hop) -> bool {
        let Some(errand) = self.errands.get(&id) else { return true };
        let Some(endpoint) = self.net.endpoint_for(&hop, errand.prefer) else { return false };
        let Some(route) = self.links.route(&hop, endpoint) else { return false };
        let request = match errand.purpose {
            // The dialog wrote its Contact for the first target.
            Purpose::Invite(_) => self.net.address_anew(&errand.request, &hop, endpoint, &errand.contact),
            Purpose::Within(..) | Purpose::Inquire(_) | Purpose::Ack | Purpose::Find(_) => {
                self.net.address(&errand.request, &hop, endpoint)
            }
        };
        if errand.purpose == Purpose::Ack {
            let is_sent = self.links.send(route, sipx_sip::Message::Request(request).to_bytes());
            if is_sent {
                self.errands.remove(&id);
            }
            return is_sent;
        }
        let Some(key) = TransactionKey::from_sent_request(&request) else { return false };
        let now = self.now();
        let more = !errand.hops.is_empty() || !errand.ways.is_empty();
        if let Some(errand) = self.errands.get_mut(&id) {
            let sent = request.clone();
            errand.branches.push(Branch {
                key,
                sent,
                hop: hop.clone(),
                has_spoken: false,
                is_given_up: false,
                is_canceled: false,
                is_final: false,
            });
            if more {
                errand.silence = Some(self.clockwork.set(now, errand.patience, Alarm::Silence(id)));
            }
        }
        // When it cannot leave, `on_answer` hears of it at once and goes on from there.
        self.ask(request, hop, endpoint, route, Some(id));
        true
    }

    /// The target says nothing: another one may.
    pub(super) fn on_silence(&mut self, id: ErrandId) {
        let Some(errand) = self.errands.get_mut(&id) else { return };
        errand.silence = None;
        if let Some(branch) = errand.branches.last_mut() {
            branch.is_given_up = true;
        }
        self.try_next(id, Failure::Timeout);
    }

    pub(super) fn on_answer(&mut self, key: &TransactionKey, event: TuEvent) {
        let Some(id) = self.asked.get(key).and_then(|asked| asked.errand) else { return };
        let Some(errand) = self.errands.get_mut(&id) else { return };
        let Some(branch) = errand.branches.iter_mut().find(|branch| branch.key == *key) else { return };
        match event {
            TuEvent::Response(response) => {
                branch.has_spoken = true;
                branch.is_final = response.status.is_final();
                let is_given_up = branch.is_given_up;
                if !is_given_up {
                    self.clockwork.clear(errand.silence.take());
                }
                match errand.purpose {
                    Purpose::Invite(dialog) => self.on_invite_answer(id, key, dialog, *response),
                    Purpose::Within(dialog, ask) => self.on_reply(id, key, dialog, ask, response),
                    Purpose::Inquire(asker) if response.status.is_final() => {
                        self.on_inquired(id, asker, key, response);
                    }
                    Purpose::Inquire(_) | Purpose::Find(_) | Purpose::Ack => {}
                }
            }
            TuEvent::Timeout if !branch.is_given_up => self.lose(id, key, Failure::Timeout),
            TuEvent::TransportError if !branch.is_given_up => self.lose(id, key, Failure::Transport),
            // Nothing else is told to a client, and a target that was given up need not say so again.
            _ => {}
        }
    }

    fn on_invite_answer(&mut self, id: ErrandId, key: &TransactionKey, dialog: DialogId, response: Response) {
        let Some(errand) = self.errands.get_mut(&id) else { return };
        let Some(branch) = errand.branches.iter().find(|branch| branch.key == *key) else { return };
        let (is_given_up, hop) = (branch.is_given_up, branch.hop.clone());
        let (is_final, is_success) = (response.status.is_final(), response.status.is_success());
        if !is_given_up && is_unavailable(&response) && errand.cancel.is_none() {
            // RFC 3263 §4.3. The same machine by another transport is no other target.
            errand.hops.retain(|other| other.addr != hop.addr);
            errand.ways.retain(|way| !matches!(way, Way::Known(other) if other.addr == hop.addr));
            if !errand.hops.is_empty() || !errand.ways.is_empty() {
                return self.try_next(id, Failure::Transport);
            }
        }
        if is_final && !is_given_up {
            errand.ways.clear();
            errand.hops.clear();
        }
        if !is_given_up || is_success {
            self.ready.push_back(Happening::Report(Report::Response(dialog, Box::new(response), hop)));
        }
        if !is_final {
            self.cancel_what_spoke(id);
        }
    }

    /// Whether another host of the same name is asked instead (RFC 3263 §4.3).
    pub(super) fn tries_another_host(&mut self, id: ErrandId, key: &TransactionKey, response: &Response) -> bool {
        let Some(errand) = self.errands.get_mut(&id).filter(|_| is_unavailable(response)) else { return false };
        let at = errand.branches.iter().find(|branch| branch.key == *key).map(|branch| branch.hop.addr);
        errand.hops.retain(|hop| Some(hop.addr) != at);
        let has_more = !errand.hops.is_empty();
        if has_more {
            self.try_next(id, Failure::Transport);
        }
        has_more
    }

    fn on_inquired(&mut self, id: ErrandId, asker: DialogId, key: &TransactionKey, response: Box<Response>) {
        let Some(errand) = self.errands.get_mut(&id) else { return };
        let Some(hop) = errand.branches.iter().find(|branch| branch.key == *key).map(|branch| branch.hop.clone())
        else {
            return;
        };
        if is_unavailable(&response) {
            errand.ways.retain(|way| !matches!(way, Way::Known(other) if other.addr == hop.addr));
            errand.hops.retain(|other| other.addr != hop.addr);
            if !errand.hops.is_empty() || !errand.ways.is_empty() {
                return self.try_next(id, Failure::Transport);
            }
        }
        self.settle(id);
        self.ready.push_back(Happening::Report(Report::Answered(asker, Ok((response, hop)))));
    }

    /// No answer came by this branch.
    fn lose(&mut self, id: ErrandId, key: &TransactionKey, failure: Failure) {
        let Some(errand) = self.errands.get_mut(&id) else { return };
        let Some(branch) = errand.branches.iter().find(|branch| branch.key == *key) else { return };
        let has_spoken = branch.has_spoken;
        errand.branches.retain(|branch| branch.key != *key);
        if has_spoken { self.fail(id, failure) } else { self.try_next(id, failure) }
    }

    /// There is nobody left to try.
    fn fail(&mut self, id: ErrandId, failure: Failure) {
        let Some(errand) = self.errands.get_mut(&id) else { return };
        // A target that was given up for its silence may just be slow: now it is the best that we have.
        if let Some(branch) = errand.branches.iter_mut().find(|branch| branch.is_given_up && !branch.is_final) {
            branch.is_given_up = false;
            return;
        }
        match errand.purpose {
            Purpose::Find(dialog) => {
                self.errands.remove(&id);
                self.ready.push_back(Happening::Report(Report::Looked(dialog, Vec::new())));
            }
            Purpose::Invite(dialog) => {
                self.ready.push_back(Happening::Report(Report::Failed(dialog, failure)));
                self.end_if_over(id);
            }
            Purpose::Within(dialog, ask) => {
                self.settle(id);
                self.ready.push_back(Happening::Report(Report::Reply(dialog, ask, Reply::Lost)));
            }
            Purpose::Inquire(asker) => {
                self.settle(id);
                self.ready.push_back(Happening::Report(Report::Answered(asker, Err(failure))));
            }
            Purpose::Ack => {
                self.errands.remove(&id);
            }
        }
    }

    pub(super) fn settle(&mut self, id: ErrandId) {
        if let Some(errand) = self.errands.remove(&id) {
            self.clockwork.clear(errand.silence);
        }
    }

    /// A transaction of the errand is gone.
    pub(super) fn branch_over(&mut self, id: ErrandId, key: &TransactionKey) {
        if let Some(errand) = self.errands.get_mut(&id) {
            errand.branches.retain(|branch| branch.key != *key);
            self.end_if_over(id);
        }
    }

    fn end_if_over(&mut self, id: ErrandId) {
        let Some(errand) = self.errands.get(&id) else { return };
        let is_over =
            errand.branches.is_empty() && errand.hops.is_empty() && errand.ways.is_empty() && !errand.is_looking;
        match errand.purpose {
            Purpose::Invite(dialog) if is_over => {
                self.errands.remove(&id);
                self.inviting.remove(&dialog);
                self.ready.push_back(Happening::Report(Report::InviteOver(dialog)));
            }
            Purpose::Within(dialog, ask) if is_over => {
                self.errands.remove(&id);
                self.ready.push_back(Happening::Report(Report::Reply(dialog, ask, Reply::Over)));
            }
            // The others are over with their first final answer.
            Purpose::Invite(_) | Purpose::Within(..) | Purpose::Inquire(_) | Purpose::Find(_) | Purpose::Ack => {}
        }
    }

    /// RFC 3261 §9.1: CANCEL goes where the INVITE went, once that has spoken.
    fn cancel_what_spoke(&mut self, id: ErrandId) {
        let Some(errand) = self.errands.get_mut(&id) else { return };
        let (wanted, cause) = (errand.cancel.is_some(), errand.cancel.flatten());
        let mut cancels = Vec::new();
        for branch in &mut errand.branches {
            if branch.has_spoken && !branch.is_final && !branch.is_canceled && (wanted || branch.is_given_up) {
                branch.is_canceled = true;
                cancels.push((branch.key.clone(), message::cancel(&branch.sent, cause)));
            }
        }
        for (key, cancel) in cancels {
            if let Some(asked) = self.asked.get(&key) {
                let (hop, endpoint, route) = (asked.hop.clone(), asked.endpoint, asked.route);
                self.ask(cancel, hop, endpoint, route, None);
            }
        }
    }
}

fn is_unavailable(response: &Response) -> bool {
    response.status.code() == 503
}
