//! Offers and answers within one dialog (RFC 3264, RFC 6337): whose is open, and what both sides said last.

use crate::model::Codec;
use crate::sdp::{self, Offer, SdpError};

/// The state of a dialog's descriptions.
#[derive(Clone, Debug)]
pub(super) struct Offers {
    /// What we said last; empty before.
    ours: String,
    /// What they said last.
    theirs: Option<Vec<u8>>,
    /// What we can speak, also when `ours` named less.
    codecs: Vec<Codec>,
    open: Open,
}

/// Whose offer waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    /// Nobody's.
    Nobody,
    /// We owe the answer.
    Theirs,
    /// They do.
    Ours,
}

impl Offers {
    /// A call that came in, with their offer or without.
    pub(super) fn received(theirs: Option<Vec<u8>>) -> Offers {
        let open = if theirs.is_some() { Open::Theirs } else { Open::Nobody };
        Offers { ours: String::new(), theirs, codecs: Vec::new(), open }
    }

    /// A call that we placed with this offer.
    pub(super) fn sent(ours: String) -> Offers {
        let codecs = Offer::parse(ours.as_bytes()).map(|offer| offer.codecs()).unwrap_or_default();
        Offers { ours, theirs: None, codecs, open: Open::Ours }
    }

    pub(super) fn set_codecs(&mut self, codecs: Vec<Codec>) {
        self.codecs = codecs;
    }

    pub(super) fn open(&self) -> Open {
        self.open
    }

    /// Whether both sides have spoken and nothing is open.
    pub(super) fn is_settled(&self) -> bool {
        self.open == Open::Nobody && self.has_begun()
    }

    /// Whether anything has been said at all.
    pub(super) fn has_begun(&self) -> bool {
        !self.ours.is_empty() || self.theirs.is_some()
    }

    pub(super) fn ours(&self) -> &str {
        &self.ours
    }

    pub(super) fn theirs(&self) -> Option<&[u8]> {
        self.theirs.as_deref()
    }

    /// We say this: the answer when we owe one, else an offer. Returns whether it is an offer.
    pub(super) fn say(&mut self, ours: String) -> bool {
        self.ours = ours;
        let is_offer = self.open != Open::Theirs;
        self.open = if is_offer { Open::Ours } else { Open::Nobody };
        is_offer
    }

    /// They answered our offer.
    pub(super) fn hear_answer(&mut self, theirs: Vec<u8>) {
        self.theirs = Some(theirs);
        self.open = Open::Nobody;
    }

    /// Our offer came to nothing, and what was agreed before stands.
    pub(super) fn withdraw(&mut self) {
        self.open = Open::Nobody;
    }

    /// Our answer to an offer in the middle of a call, which becomes our description.
    ///
    /// # Errors
    ///
    /// As [`sdp::reanswer_with`]; all stays as it was (RFC 3261 §14.1).
    pub(super) fn answer(&mut self, theirs: &[u8]) -> Result<String, SdpError> {
        let (_, answer) = sdp::reanswer_with(&self.ours, &self.codecs, &Offer::parse(theirs)?)?;
        self.ours.clone_from(&answer);
        self.theirs = Some(theirs.to_vec());
        Ok(answer)
    }

    /// Our offer to a request that brought none.
    pub(super) fn offer_all(&mut self) -> &str {
        if let Ok(offer) = sdp::reoffer(&self.ours, &self.codecs) {
            self.ours = offer;
        }
        self.open = Open::Ours;
        &self.ours
    }

    /// Our new description as it has to be written after the last one.
    pub(super) fn following(&self, next: &str) -> String {
        sdp::follow(&self.ours, next)
    }

    /// Their answer to an offer of ours came: `ours` is our description now.
    pub(super) fn settle(&mut self, ours: String, theirs: Vec<u8>) {
        self.ours = ours;
        self.hear_answer(theirs);
    }
}
