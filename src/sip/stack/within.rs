//! Requests within dialogs, whose every answer is reported.

use sipx_sip::{Method, Request, Response, TransactionKey};

use super::super::dialog::{Ask, Reply};
use super::super::event::DialogId;
use super::super::net::Way;
use super::errands::{Branch, Errand, ErrandId, Purpose};
use super::{Happening, Report, Stack};

impl Stack {
    /// Sends a request within a dialog by the first way that works.
    pub(in crate::sip) fn ask_within(
        &mut self,
        dialog: DialogId,
        ask: Ask,
        request: Request,
        ways: Vec<Way>,
        prefer: usize,
    ) {
        self.begin(Purpose::Within(dialog, ask), request, ways, Some(prefer), self.patience());
    }

    /// Reports the answers of a dialog's INVITEs that are still on their way to nobody: they end with the dialog.
    pub(in crate::sip) fn forget_invites_within(&mut self, dialog: DialogId) {
        // A BYE goes on by itself, until it is answered or given up.
        let is_meant = |errand: &Errand| {
            matches!(errand.purpose, Purpose::Within(of, _) if of == dialog) && errand.request.method == Method::Invite
        };
        let errands = self.errands.iter();
        let found = errands.filter(|(_, errand)| is_meant(errand)).map(|(id, _)| *id);
        for id in found.collect::<Vec<_>>() {
            if let Some(errand) = self.errands.remove(&id) {
                self.clockwork.clear(errand.silence);
                self.drop_unanswered(errand.branches);
            }
        }
    }

    pub(super) fn on_reply(
        &mut self,
        id: ErrandId,
        key: &TransactionKey,
        dialog: DialogId,
        ask: Ask,
        response: Box<Response>,
    ) {
        let is_invite = self.errands.get(&id).is_some_and(|errand| errand.request.method == Method::Invite);
        let is_over = response.status.is_final() && !is_invite;
        if is_over && self.tries_another_host(id, key, &response) {
            return;
        }
        self.ready.push_back(Happening::Report(Report::Reply(dialog, ask, Reply::Response(response))));
        if is_over {
            self.settle(id);
        }
    }

    /// Ends transactions that wait for an answer which nobody wants any more. An INVITE that has got a provisional answer
    /// has no timer of its own to end it (RFC 3261 §17.1.1.2).
    pub(super) fn drop_unanswered(&mut self, branches: Vec<Branch>) {
        for branch in branches.into_iter().filter(|branch| !branch.is_final) {
            self.client.on_transport_error(&branch.key);
            self.asked_over(&branch.key);
        }
    }
}
