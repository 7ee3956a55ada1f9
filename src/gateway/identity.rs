//! Whether a caller is who it says: what is asked of each INVITE, and what becomes of the answer.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use metrics::counter;

use super::certificates::Certificates;
use super::clock::unix_ms;
use super::translate;
use crate::call::Cause;
use crate::model::{Doubt, Verdict, Verification, Via};
use crate::sip::Invite;
use crate::stir::{self, Claim, Names, Presented, Told};
use crate::trunk::numbers::{Country, normalise};
use crate::trunk::{Believed, Trunk, Verify};

/// What a look at an INVITE comes to.
pub(super) enum Look {
    /// All that will be known. `None`: nobody asked.
    Known(Option<Verification>),
    /// It takes certificates to know.
    Open(Box<Open>),
}

/// An identity that only certificates can prove.
pub(super) struct Open {
    claim: Claim,
    /// What the trunk found out, when it is believed.
    told: Option<Verification>,
}

/// Looks at what an INVITE of a trunk says of its caller.
pub(super) fn look(trunk: &Trunk, invite: &Invite) -> Look {
    let believed = Believed::read(trunk, &translate::shows(invite));
    let told = if trunk.is_trusted { told_by(invite, &believed) } else { None };
    if trunk.identity.verify == Verify::Off {
        return Look::Known(told);
    }
    let presented = presented(trunk, invite, &believed);
    match stir::read(&presented, now_s()) {
        Ok(claim) => Look::Open(Box::new(Open { claim, told })),
        Err(verdict) => Look::Known(Some(weigh(Verification::bare(verdict, Via::Identity), told))),
    }
}

impl Open {
    /// Waits for the certificates, for a bounded time, and judges.
    pub(super) async fn settle(self, certificates: &Arc<Certificates>) -> Verification {
        let urls = self.claim.certificates();
        let found = join_all(urls.iter().map(|url| certificates.find(url))).await;
        let found: HashMap<&str, _> = urls.iter().copied().zip(found).collect();
        let find = |url: &str| found.get(url).cloned().unwrap_or(Err(Verdict::Failed(Doubt::CertificateUnreachable)));
        let judged = self.claim.judge(find, now_s());
        weigh(judged, self.told)
    }
}

/// A signature that we could judge counts more than what the trunk says of it.
fn weigh(ours: Verification, told: Option<Verification>) -> Verification {
    match (ours.verdict, told) {
        (Verdict::Missing | Verdict::Unknown(_), Some(told)) => told,
        (Verdict::Passed | Verdict::Failed(_) | Verdict::Missing | Verdict::Unknown(_), _) => ours,
    }
}

/// Counts a result, and says with what cause the call is refused under these rules (RFC 8224 §6.2.2).
pub(super) fn refusal(rules: Verify, identity: Option<&Verification>) -> Option<Cause> {
    let identity = identity?;
    let reason = identity.reason().unwrap_or("");
    counter!("ringback_identities_total", "outcome" => identity.verdict.label(), "reason" => reason).increment(1);
    match (rules, identity.verdict) {
        (Verify::Off | Verify::Note, _) | (_, Verdict::Passed) => None,
        (Verify::RefuseBad, Verdict::Missing | Verdict::Unknown(_)) => None,
        (Verify::Require, Verdict::Missing) => Some(Cause::NoIdentity),
        // Whoever wants proof is not content with a certificate that was too slow.
        (Verify::Require, Verdict::Unknown(_)) => Some(Cause::NoCertificate),
        (Verify::RefuseBad | Verify::Require, Verdict::Failed(doubt)) => Some(cause(doubt)),
    }
}

fn cause(doubt: Doubt) -> Cause {
    match doubt {
        Doubt::Stale => Cause::StaleIdentity,
        Doubt::CertificateAddress | Doubt::CertificateUnreachable => Cause::NoCertificate,
        Doubt::Algorithm
        | Doubt::CertificateUnusable
        | Doubt::CertificateExpired
        | Doubt::Untrusted
        | Doubt::NotTheirNumber => Cause::BadCertificate,
        Doubt::Malformed
        | Doubt::TwoCertificates
        | Doubt::OtherCaller
        | Doubt::OtherCalled
        | Doubt::Signature
        | Doubt::ToldByTrunk => Cause::BadIdentity,
    }
}

fn presented<'a>(trunk: &Trunk, invite: &'a Invite, believed: &Believed) -> Presented<'a> {
    let country = trunk.country.as_deref().and_then(Country::of);
    let normal = |number: &str| normalise(number, country.as_deref(), "");
    let (to_uri, to_user) = (invite.to.uri.reveal(), invite.to.user.reveal());
    let own = [believed.user.as_str(), &believed.number];
    let (called, to) = (normal(&invite.called_user), normal(to_user));
    Presented {
        identities: headers(invite, "identity").collect(),
        // The number that is shown, and no other: a signature for a number that nobody sees proves nothing.
        caller: Names::new(believed.uris.iter().map(String::as_str).chain(own)),
        called: Names::new([invite.request_uri.as_str(), &invite.called_user, &called, to_uri, to_user, &to]),
    }
}

fn told_by(invite: &Invite, believed: &Believed) -> Option<Verification> {
    stir::told(&Told {
        uris: &believed.uris,
        header: None,
        attestation: headers(invite, "p-attestation-indicator").next(),
        origination_id: headers(invite, "p-origination-id").next(),
    })
}

fn headers<'a>(invite: &'a Invite, name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = invite.headers.iter().filter(move |(written, _)| written.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.reveal().as_str())
}

fn now_s() -> i64 {
    unix_ms().div_euclid(1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attestation, Gap};

    #[test]
    fn each_rule_refuses_what_it_says_and_no_more() {
        let refused = |rules, verdict| refusal(rules, Some(&Verification::bare(verdict, Via::Identity)));
        let (stale, slow) = (Verdict::Failed(Doubt::Stale), Verdict::Unknown(Gap::Timeout));

        for verdict in [Verdict::Passed, stale, Verdict::Missing, slow] {
            assert_eq!(refused(Verify::Off, verdict), None);
            assert_eq!(refused(Verify::Note, verdict), None);
        }
        assert_eq!(refused(Verify::RefuseBad, stale), Some(Cause::StaleIdentity));
        assert_eq!(refused(Verify::RefuseBad, Verdict::Missing), None);
        assert_eq!(refused(Verify::RefuseBad, slow), None);
        assert_eq!(refused(Verify::Require, Verdict::Passed), None);
        assert_eq!(refused(Verify::Require, Verdict::Missing), Some(Cause::NoIdentity));
        assert_eq!(refused(Verify::Require, slow), Some(Cause::NoCertificate));
        assert_eq!(refusal(Verify::Note, None), None);
    }

    #[test]
    fn every_doubt_has_the_status_of_rfc_8224() {
        assert_eq!(cause(Doubt::Stale).status(), 403);
        assert_eq!(cause(Doubt::CertificateUnreachable).status(), 436);
        assert_eq!(cause(Doubt::Untrusted).status(), 437);
        assert_eq!(cause(Doubt::Signature).status(), 438);
        assert_eq!(Cause::NoIdentity.status(), 428);
    }

    #[test]
    fn our_own_judgement_counts_more_than_what_we_are_told() {
        let ours = |verdict| Verification::bare(verdict, Via::Identity);
        let told =
            Verification { attestation: Some(Attestation::A), ..Verification::bare(Verdict::Passed, Via::Verstat) };

        let failed = weigh(ours(Verdict::Failed(Doubt::Signature)), Some(told.clone()));
        let missing = weigh(ours(Verdict::Missing), Some(told.clone()));

        assert_eq!(failed.verdict, Verdict::Failed(Doubt::Signature));
        assert_eq!(missing, told);
        assert_eq!(weigh(ours(Verdict::Missing), None).verdict, Verdict::Missing);
    }
}
