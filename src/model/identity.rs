//! Whether the caller is who it says: the outcome of checking a signed caller identity.

use serde::{Deserialize, Serialize};

/// What is known of a caller's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// What it came to.
    pub verdict: Verdict,
    /// How well the signer knows the caller; only from a signature that holds, or from a trusted trunk.
    pub attestation: Option<Attestation>,
    /// `origid`: who put the call into the network, opaque to everybody else (RFC 8588 §5).
    pub origination_id: Option<String>,
    /// Who checked.
    pub via: Via,
}

impl Verification {
    /// One without anything beside its verdict.
    pub fn bare(verdict: Verdict, via: Via) -> Verification {
        Verification { verdict, attestation: None, origination_id: None, via }
    }

    /// Why it did not pass, in one word.
    pub fn reason(&self) -> Option<&'static str> {
        match self.verdict {
            Verdict::Failed(doubt) => Some(doubt.label()),
            Verdict::Unknown(gap) => Some(gap.label()),
            Verdict::Passed | Verdict::Missing => None,
        }
    }
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The caller's number is vouched for.
    Passed,
    /// There is an identity, and it is not to be believed.
    Failed(Doubt),
    /// There is none.
    Missing,
    /// There is one, and it could not be checked.
    Unknown(Gap),
}

impl Verdict {
    /// The word in variables, records and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "failed",
            Verdict::Missing => "none",
            Verdict::Unknown(_) => "unknown",
        }
    }
}

/// Why an identity is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// It cannot be read, or lacks what it must have.
    Malformed,
    /// Its algorithm is not ES256.
    Algorithm,
    /// The certificate's address is not one that we ask.
    CertificateAddress,
    /// The header and the signed part name different certificates.
    TwoCertificates,
    /// It was signed too long ago, or in the future.
    Stale,
    /// It was signed for another caller.
    OtherCaller,
    /// It was signed for another called number.
    OtherCalled,
    /// The certificate cannot be had.
    CertificateUnreachable,
    /// What came is no certificate for this purpose.
    CertificateUnusable,
    /// The certificate is not yet, or no longer, valid.
    CertificateExpired,
    /// Nobody whom we trust vouches for the certificate.
    Untrusted,
    /// The certificate is for other numbers.
    NotTheirNumber,
    /// The signature does not hold.
    Signature,
    /// A trusted trunk says that it failed.
    ToldByTrunk,
}

impl Doubt {
    /// The word in variables, records and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Doubt::Malformed => "malformed",
            Doubt::Algorithm => "algorithm",
            Doubt::CertificateAddress => "certificate_address",
            Doubt::TwoCertificates => "two_certificates",
            Doubt::Stale => "stale",
            Doubt::OtherCaller => "other_caller",
            Doubt::OtherCalled => "other_called",
            Doubt::CertificateUnreachable => "certificate_unreachable",
            Doubt::CertificateUnusable => "certificate_unusable",
            Doubt::CertificateExpired => "certificate_expired",
            Doubt::Untrusted => "untrusted",
            Doubt::NotTheirNumber => "not_their_number",
            Doubt::Signature => "signature",
            Doubt::ToldByTrunk => "told_by_trunk",
        }
    }
}

/// Why an identity could not be checked. None of these is the caller's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// The certificate did not come in the time that a caller can be made to wait.
    Timeout,
    /// Too many certificates are being fetched.
    Busy,
    /// There is nobody whom we trust.
    NoTrustList,
}

impl Gap {
    /// The word in variables, records and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Gap::Timeout => "timeout",
            Gap::Busy => "busy",
            Gap::NoTrustList => "no_trust_list",
        }
    }
}

/// How well the signer knows the caller (RFC 8588 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Attestation {
    /// Full: it knows its customer, who may use the number.
    A,
    /// Partial: it knows its customer, not the number.
    B,
    /// Gateway: it knows where the call came in.
    C,
}

impl Attestation {
    /// As it is written.
    pub fn of(text: &str) -> Option<Attestation> {
        match text {
            "A" => Some(Attestation::A),
            "B" => Some(Attestation::B),
            "C" => Some(Attestation::C),
            _ => None,
        }
    }

    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            Attestation::A => "A",
            Attestation::B => "B",
            Attestation::C => "C",
        }
    }
}

/// Who checked an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// We did, by its signature.
    Identity,
    /// The trunk did, and is believed.
    Verstat,
}

impl Via {
    /// The word in variables and records.
    pub fn label(self) -> &'static str {
        match self {
            Via::Identity => "identity",
            Via::Verstat => "verstat",
        }
    }
}
