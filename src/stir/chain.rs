//! Certificates of signers: read, followed up to somebody whom we trust, and reduced to what a check needs (RFC 8226).

use std::fmt;
use std::time::Duration;

use p256::ecdsa::VerifyingKey;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::numbers::TnAuthList;
use super::verify::Credential;
use crate::model::{Doubt, limits};

/// Whom we trust to vouch for signers: the roots of the list.
#[derive(Clone)]
pub struct Trust {
    roots: Vec<TrustAnchor<'static>>,
}

/// Why a trust list cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustError {
    /// There is no certificate in it.
    Empty,
    /// The certificate at this place, counted from one, cannot be read.
    Broken(usize),
}

impl Trust {
    /// Reads certificates in PEM, one after the other.
    ///
    /// # Errors
    /// When there is none, or one cannot be read.
    pub fn from_pem(pem: &[u8]) -> Result<Trust, TrustError> {
        let mut roots = Vec::new();
        for (at, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let broken = TrustError::Broken(at + 1);
            let certificate = certificate.map_err(|_| broken)?;
            roots.push(anchor_from_trusted_cert(&certificate).map_err(|_| broken)?.to_owned());
        }
        if roots.is_empty() { Err(TrustError::Empty) } else { Ok(Trust { roots }) }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} roots)", self.roots.len())
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::Empty => f.write_str("there is no certificate in PEM in it"),
            TrustError::Broken(at) => write!(f, "certificate {at} in it cannot be read"),
        }
    }
}

impl std::error::Error for TrustError {}

/// What a signer's address served: its certificate, and those between it and a root, in PEM; or one in DER.
///
/// # Errors
/// Why it is not believed at this time (Unix seconds).
pub fn credential(served: &[u8], trust: &Trust, now_unix_s: i64) -> Result<Credential, Doubt> {
    let chain = certificates(served)?;
    let (own, between) = chain.split_first().ok_or(Doubt::CertificateUnusable)?;
    let parsed = read(own)?;
    let key = key(&parsed)?;
    let numbers = parsed
        .get_extension_unique(&TN_AUTH_LIST)
        .ok()
        .flatten()
        .and_then(|extension| TnAuthList::parse(extension.value))
        .ok_or(Doubt::CertificateUnusable)?;

    let own = EndEntityCert::try_from(own).map_err(|_| Doubt::CertificateUnusable)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_unix_s).unwrap_or(0)));
    // Certificates of signers bear no extended key usage; one that does must be good for a peer of ours.
    let path = own
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &trust.roots,
            between,
            now,
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|error| doubt(&error))?;
    let mut valid = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    for certificate in path.intermediate_certificates() {
        let der = certificate.der();
        let validity = read(&der)?.validity().clone();
        valid = (valid.0.max(validity.not_before.timestamp()), valid.1.min(validity.not_after.timestamp()));
    }
    Ok(Credential { key, numbers, from: valid.0, until: valid.1 })
}

fn certificates(served: &[u8]) -> Result<Vec<CertificateDer<'_>>, Doubt> {
    if served.first() == Some(&DER_SEQUENCE) {
        return Ok(vec![CertificateDer::from(served)]);
    }
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(served) {
        chain.push(certificate.map_err(|_| Doubt::CertificateUnusable)?);
        if chain.len() > limits::STIR_CHAIN_MAX {
            return Err(Doubt::CertificateUnusable);
        }
    }
    Ok(chain)
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Doubt> {
    let (rest, certificate) = X509Certificate::from_der(certificate).map_err(|_| Doubt::CertificateUnusable)?;
    if rest.is_empty() { Ok(certificate) } else { Err(Doubt::CertificateUnusable) }
}

fn key(certificate: &X509Certificate<'_>) -> Result<VerifyingKey, Doubt> {
    let key = certificate.public_key();
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    // The algorithm need not be compared: these octets are a point of this curve, or no key.
    if curve.is_none_or(|curve| curve != PRIME256V1) {
        return Err(Doubt::CertificateUnusable);
    }
    VerifyingKey::from_sec1_bytes(&key.subject_public_key.data).map_err(|_| Doubt::CertificateUnusable)
}

fn doubt(error: &webpki::Error) -> Doubt {
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => Doubt::CertificateExpired,
        // Whatever else is wrong with a chain: nobody whom we trust stands at its end.
        _ => Doubt::Untrusted,
    }
}

/// `1.3.6.1.5.5.7.1.26` (RFC 8226 §9).
const TN_AUTH_LIST: x509_parser::der_parser::Oid<'static> = x509_parser::der_parser::oid!(1.3.6.1.5.5.7.1.26);
/// `1.2.840.10045.3.1.7`: P-256.
const PRIME256V1: x509_parser::der_parser::Oid<'static> = x509_parser::der_parser::oid!(1.2.840.10045.3.1.7);
const DER_SEQUENCE: u8 = 0x30;
