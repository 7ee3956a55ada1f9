//! Our own identities (RFC 8224 §6.1, RFC 8588).

use std::fmt;

use base64::Engine as _;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey as P256};
use p256::pkcs8::DecodePrivateKey as _;
use serde::Serialize;

use super::date;
use super::name::number;
use super::passport::BASE64;
use crate::model::{Attestation, Secret};

/// A private key for P-256. It prints as nothing.
#[derive(Clone)]
pub struct SigningKey(P256);

/// The text is no private key for P-256 in PKCS #8 PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl SigningKey {
    /// Reads an unencrypted PKCS #8 PEM.
    ///
    /// # Errors
    /// When it is anything else; the error does not repeat it.
    pub fn from_pem(pem: &Secret) -> Result<SigningKey, KeyError> {
        P256::from_pkcs8_pem(pem.reveal().trim()).map(SigningKey).map_err(|_| KeyError)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(•••)")
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a private key for P-256 in PKCS #8 PEM")
    }
}

impl std::error::Error for KeyError {}

/// What we state of a call of ours.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// The number that we show, in E.164; as digits or with `+`.
    pub caller: &'a str,
    /// The number that is called, in E.164.
    pub called: &'a str,
    /// How well we know the caller.
    pub attestation: Attestation,
    /// Who we are.
    pub origination_id: &'a str,
    /// Where our certificate can be had.
    pub certificate_url: &'a str,
    /// Now, Unix seconds.
    pub issued: i64,
}

/// The headers that state it, by name: `Date` and `Identity`. `None` when either side is no number: `shaken` speaks of
/// numbers only. The signature is deterministic (RFC 6979), so the same statement is the same header.
pub fn sign(key: &SigningKey, statement: &Statement<'_>) -> Option<[(&'static str, String); 2]> {
    let (caller, called) = (number(statement.caller)?, number(statement.called)?);
    let head = Head { alg: "ES256", ppt: "shaken", typ: "passport", x5u: statement.certificate_url };
    let claims = Claims {
        attest: statement.attestation.label(),
        dest: Dest { tn: [&called] },
        iat: statement.issued,
        orig: Orig { tn: &caller },
        origid: statement.origination_id,
    };
    let signed = format!("{}.{}", part(&head), part(&claims));
    let signature: Signature = key.0.sign(signed.as_bytes());
    let signature = BASE64.encode(signature.to_bytes());
    let identity = format!("{signed}.{signature};info=<{}>;alg=ES256;ppt=shaken", statement.certificate_url);
    Some([("Date", date::write(statement.issued)), ("Identity", identity)])
}

fn part<T: Serialize>(value: &T) -> String {
    BASE64.encode(serde_json::to_vec(value).expect("text and numbers under text keys are always JSON"))
}

// RFC 8225 §9: the keys in lexicographic order, without whitespace. They are written in the order of these fields.
#[derive(Serialize)]
struct Head<'a> {
    alg: &'a str,
    ppt: &'a str,
    typ: &'a str,
    x5u: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    attest: &'a str,
    dest: Dest<'a>,
    iat: i64,
    orig: Orig<'a>,
    origid: &'a str,
}

#[derive(Serialize)]
struct Dest<'a> {
    tn: [&'a str; 1],
}

#[derive(Serialize)]
struct Orig<'a> {
    tn: &'a str,
}
