//! Whether a caller's identity is true (RFC 8224 §6.2).

use std::sync::Arc;

use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::Verifier as _;

use super::header;
use super::name::{Name, Names};
use super::numbers::TnAuthList;
use super::passport::{self, Kind, Passport};
use crate::model::{Doubt, Gap, Verdict, Verification, Via, limits};

/// What an INVITE says of who calls whom.
#[derive(Clone, Debug, Default)]
pub struct Presented<'a> {
    /// Its Identity headers. Beyond [`limits::STIR_IDENTITIES_MAX`] they are not looked at.
    pub identities: Vec<&'a str>,
    /// The caller as we would show it, in every form that we know of.
    pub caller: Names,
    /// The called number: of the request URI, and of To, which RFC 8224 §4.1 signs.
    pub called: Names,
}

/// A certificate that holds, and what it is for.
#[derive(Clone, Debug)]
pub struct Credential {
    pub(super) key: VerifyingKey,
    pub(super) numbers: TnAuthList,
    /// Unix seconds of the first moment at which the whole chain is valid.
    pub(super) from: i64,
    /// Unix seconds of the last.
    pub(super) until: i64,
}

impl Credential {
    /// Unix seconds until which the whole chain is valid.
    pub fn until(&self) -> i64 {
        self.until
    }
}

/// An identity that is right as far as can be seen without certificates.
#[derive(Clone, Debug)]
pub struct Claim {
    statement: Passport,
    /// Those who sent the call on, last first, until the number that `statement` was made for.
    diversions: Vec<Passport>,
}

/// Judges what needs no certificate: form, age, and whether it is about this call.
///
/// # Errors
/// The verdict, when no certificate could change it.
pub fn read(presented: &Presented<'_>, now_unix_s: i64) -> Result<Claim, Verdict> {
    let mut first_doubt = None;
    let mut statements = Vec::new();
    let mut diversions = Vec::new();
    for value in presented.identities.iter().take(limits::STIR_IDENTITIES_MAX) {
        let read = match header::parse(value) {
            Ok(header) => passport::read(&header),
            Err(doubt) => Some(Err(doubt)),
        };
        match read {
            // A kind that we do not know is as good as none.
            None => {}
            Some(Err(doubt)) => first_doubt = first_doubt.or(Some(doubt)),
            Some(Ok(passport)) if matches!(passport.kind, Kind::Diverted { .. }) => diversions.push(passport),
            Some(Ok(passport)) => statements.push(passport),
        }
    }
    // The one that says more about the caller comes first.
    statements.sort_by_key(|statement| statement.kind == Kind::Plain);
    for statement in statements {
        match fits(statement, &diversions, presented, now_unix_s) {
            Ok(claim) => return Ok(claim),
            Err(doubt) => first_doubt = first_doubt.or(Some(doubt)),
        }
    }
    match first_doubt {
        Some(doubt) => Err(Verdict::Failed(doubt)),
        // A diversion without what was diverted vouches for nobody.
        None if diversions.is_empty() => Err(Verdict::Missing),
        None => Err(Verdict::Failed(Doubt::OtherCalled)),
    }
}

fn fits(statement: Passport, others: &[Passport], presented: &Presented<'_>, now: i64) -> Result<Claim, Doubt> {
    if is_stale(&statement, now) {
        return Err(Doubt::Stale);
    }
    if !presented.caller.holds(&statement.caller) {
        return Err(Doubt::OtherCaller);
    }
    if presented.called.holds_one_of(&statement.called) {
        return Ok(Claim { statement, diversions: Vec::new() });
    }
    // RFC 8946 §5: from the number that was called now, back to the one that the statement was made for. Each token is
    // used once, so a ring of them ends.
    let signed_for = Names::of(&statement.called);
    let mut unused: Vec<&Passport> = others.iter().filter(|other| other.caller == statement.caller).collect();
    let mut diversions: Vec<Passport> = Vec::new();
    let mut reached = presented.called.clone();
    while let Some(at) = unused.iter().position(|other| reached.holds_one_of(&other.called)) {
        let diversion = unused.remove(at);
        let Kind::Diverted { from } = &diversion.kind else { continue };
        if is_stale(diversion, now) {
            return Err(Doubt::Stale);
        }
        diversions.push(diversion.clone());
        if signed_for.holds(from) {
            return Ok(Claim { statement, diversions });
        }
        reached = Names::of(std::slice::from_ref(from));
    }
    Err(Doubt::OtherCalled)
}

fn is_stale(passport: &Passport, now: i64) -> bool {
    // Both sides: a clock of theirs that runs ahead is no reason to believe a token for longer.
    now.abs_diff(passport.issued) > limits::STIR_AGE_MAX.as_secs()
}

impl Claim {
    /// Where the certificates can be had that it takes, each once.
    pub fn certificates(&self) -> Vec<&str> {
        let mut urls: Vec<&str> = self.passports().map(|passport| passport.certificate.as_str()).collect();
        urls.sort_unstable();
        urls.dedup();
        urls
    }

    fn passports(&self) -> impl Iterator<Item = &Passport> {
        std::iter::once(&self.statement).chain(&self.diversions)
    }

    /// Checks every signature with the certificates that were found; `find` says for each address what came of it.
    pub fn judge(&self, find: impl Fn(&str) -> Result<Arc<Credential>, Verdict>, now_unix_s: i64) -> Verification {
        for passport in self.passports() {
            let verdict = match find(&passport.certificate) {
                Ok(credential) => check(passport, &credential, now_unix_s).err().map(Verdict::Failed),
                Err(verdict) => Some(verdict),
            };
            if let Some(verdict) = verdict {
                return Verification::bare(verdict, Via::Identity);
            }
        }
        let (attestation, origination_id) = match &self.statement.kind {
            Kind::Shaken { attestation, origination_id } => (Some(*attestation), Some(origination_id.clone())),
            Kind::Plain | Kind::Diverted { .. } => (None, None),
        };
        Verification { verdict: Verdict::Passed, attestation, origination_id, via: Via::Identity }
    }

    /// The same verdict for all, when no certificate was asked for.
    pub fn unchecked(&self, gap: Gap) -> Verification {
        Verification::bare(Verdict::Unknown(gap), Via::Identity)
    }
}

fn check(passport: &Passport, credential: &Credential, now: i64) -> Result<(), Doubt> {
    if !(credential.from..=credential.until).contains(&now) {
        return Err(Doubt::CertificateExpired);
    }
    // RFC 8946 §4.1: a diversion is signed by whoever may speak for the number that the call was sent on from.
    let speaks_for = match &passport.kind {
        Kind::Diverted { from } => from,
        Kind::Plain | Kind::Shaken { .. } => &passport.caller,
    };
    let may_speak = match speaks_for {
        Name::Number(number) => credential.numbers.covers(number),
        // RFC 8226 certificates are for numbers; a provider's code says nothing of a domain.
        Name::Uri(_) => false,
    };
    if !may_speak {
        return Err(Doubt::NotTheirNumber);
    }
    // RFC 7518 §3.4 allows both forms of `s`, and so does this.
    credential.key.verify(passport.signed.as_bytes(), &passport.signature).map_err(|_| Doubt::Signature)
}
