//! The token: a JWS whose payload says who calls whom (RFC 8225).

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use p256::ecdsa::Signature;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::header::Header;
use super::name::{Name, number, uri};
use crate::model::{Attestation, Doubt, limits};

/// A token that can be read; whether it is true is another question.
#[derive(Clone, Debug)]
pub(super) struct Passport {
    /// The octets that were signed, as they came: RFC 8225 §9 orders the keys, and not everybody obeys.
    pub(super) signed: String,
    pub(super) signature: Signature,
    /// Where the certificate can be had.
    pub(super) certificate: String,
    pub(super) kind: Kind,
    pub(super) caller: Name,
    pub(super) called: Vec<Name>,
    /// `iat`, Unix seconds.
    pub(super) issued: i64,
}

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A caller's identity and no more.
    Plain,
    /// `shaken`.
    Shaken { attestation: Attestation, origination_id: String },
    /// `div`: a call to this name was sent on.
    Diverted { from: Name },
}

/// Reads a token. `None` for kinds that we do not know: RFC 8224 §6.2 step 1 ignores them.
pub(super) fn read(header: &Header<'_>) -> Option<Result<Passport, Doubt>> {
    match header.kind {
        None | Some("shaken" | "div") => Some(read_known(header)),
        Some(_) => None,
    }
}

fn read_known(header: &Header<'_>) -> Result<Passport, Doubt> {
    let [head, payload, signature] = header.token;
    // The compact form cannot say `attest` and `origid`, so `shaken` forbids it (RFC 8588 §6), and nobody sends it.
    let head: Head = json(head)?;
    if header.algorithm != "ES256" || head.alg != "ES256" {
        return Err(Doubt::Algorithm);
    }
    if !head.typ.eq_ignore_ascii_case("passport") || head.ppt.as_deref() != header.kind {
        return Err(Doubt::Malformed);
    }
    if head.x5u != header.info {
        return Err(Doubt::TwoCertificates);
    }
    let scheme = head.x5u.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("https" | "http")) {
        return Err(Doubt::CertificateAddress);
    }
    let claims: Claims = json(payload)?;
    let kind = claims.kind(header.kind).ok_or(Doubt::Malformed)?;
    let octets = BASE64.decode(signature).map_err(|_| Doubt::Malformed)?;
    Ok(Passport {
        signed: format!("{}.{}", header.token[0], header.token[1]),
        signature: Signature::from_slice(&octets).map_err(|_| Doubt::Malformed)?,
        certificate: head.x5u,
        kind,
        caller: claims.orig.name().ok_or(Doubt::Malformed)?,
        called: claims.dest.names().ok_or(Doubt::Malformed)?,
        issued: claims.iat,
    })
}

fn json<T: DeserializeOwned>(part: &str) -> Result<T, Doubt> {
    let octets = BASE64.decode(part).map_err(|_| Doubt::Malformed)?;
    // The parser bounds the depth, the header's length bounds the rest, and a key that comes twice is an error.
    serde_json::from_slice(&octets).map_err(|_| Doubt::Malformed)
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    typ: String,
    ppt: Option<String>,
    x5u: String,
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    orig: One,
    dest: Many,
    attest: Option<String>,
    origid: Option<String>,
    div: Option<One>,
}

#[derive(Deserialize)]
struct One {
    tn: Option<String>,
    uri: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Many {
    tn: Vec<String>,
    uri: Vec<String>,
}

impl Claims {
    fn kind(&self, written: Option<&str>) -> Option<Kind> {
        match written {
            Some("shaken") => {
                let origination_id = self.origid.clone()?;
                let is_plain = origination_id.bytes().all(|b| b.is_ascii_graphic());
                let fits = !origination_id.is_empty() && origination_id.len() <= limits::VAR_NAME_LEN_MAX;
                let attestation = Attestation::of(self.attest.as_deref()?)?;
                (is_plain && fits).then_some(Kind::Shaken { attestation, origination_id })
            }
            Some(_) => Some(Kind::Diverted { from: self.div.as_ref()?.name()? }),
            None => Some(Kind::Plain),
        }
    }
}

impl One {
    fn name(&self) -> Option<Name> {
        match (&self.tn, &self.uri) {
            (Some(tn), None) => Some(Name::Number(number(tn)?)),
            (None, Some(text)) => Some(Name::Uri(uri(text)?)),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }
}

impl Many {
    fn names(&self) -> Option<Vec<Name>> {
        let numbers = self.tn.iter().map(|tn| Some(Name::Number(number(tn)?)));
        let uris = self.uri.iter().map(|text| Some(Name::Uri(uri(text)?)));
        let names: Option<Vec<Name>> = numbers.chain(uris).collect();
        names.filter(|names| !names.is_empty())
    }
}

/// Some signers pad, which RFC 7515 §2 forbids and which changes nothing.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
