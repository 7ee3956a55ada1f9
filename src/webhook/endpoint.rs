//! Who is told, and how they know that it was us.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};
use standardwebhooks::Webhook;

use crate::model::{Pii, Secret};

/// A receiver of events.
pub struct Endpoint {
    /// The name under which the store keeps its deliveries.
    pub id: String,
    pub(super) url: Pii<String>,
    pub(super) timeout: Duration,
    kinds: Vec<String>,
    signers: Vec<Webhook>,
}

impl Endpoint {
    /// How long a receiver may take when nothing else is said. Standard Webhooks suggests 15 to 30 s.
    pub const TIMEOUT: Duration = Duration::from_secs(15);

    /// An endpoint that is told these kinds of events; an empty list is every kind. Each attempt is signed with every
    /// secret, newest first, so that a secret can be replaced while both are known.
    ///
    /// # Errors
    /// When there is no secret, or one of them is not `whsec_` and the base64 of 24 to 64 bytes.
    pub fn new(
        id: impl Into<String>,
        url: impl Into<String>,
        secrets: &[Secret],
        kinds: Vec<String>,
        timeout: Duration,
    ) -> Result<Endpoint, EndpointError> {
        if secrets.is_empty() {
            return Err(EndpointError::NoSecret);
        }
        let signers = secrets.iter().map(signer).collect::<Result<_, _>>()?;
        Ok(Endpoint { id: id.into(), url: Pii::new(url.into()), timeout, kinds, signers })
    }

    /// Whether it wants to be told of this kind of event.
    pub fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }

    /// Whether it is told the same, at the same place, with the same signature.
    pub(super) fn is_same(&self, other: &Endpoint) -> bool {
        let signs = |endpoint: &Endpoint| endpoint.sign("", 0, "");
        let told = |endpoint: &Endpoint| (endpoint.id.clone(), endpoint.timeout, endpoint.kinds.clone());
        told(self) == told(other) && self.url.reveal() == other.url.reveal() && signs(self) == signs(other)
    }

    /// The `webhook-signature` of an attempt at `unix_s`.
    pub(super) fn sign(&self, id: &str, unix_s: i64, body: &str) -> String {
        let signed = self.signers.iter().map(|signer| {
            signer.sign(id, unix_s, body.as_bytes()).expect("signing fails only for bodies that are not UTF-8")
        });
        signed.collect::<Vec<_>>().join(" ")
    }

    /// Tells addresses apart without keeping one, which may hold a token.
    pub(super) fn digest(&self) -> String {
        Sha256::digest(self.url.reveal().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("id", &self.id).field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

/// Why an endpoint cannot be signed for. It never repeats the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// There is none.
    NoSecret,
    /// One is not what it should be.
    BadSecret,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndpointError::NoSecret => "the endpoint has no signing secret",
            EndpointError::BadSecret => "a signing secret must be whsec_ and the base64 of 24 to 64 random bytes",
        })
    }
}

impl std::error::Error for EndpointError {}

fn signer(secret: &Secret) -> Result<Webhook, EndpointError> {
    use base64::Engine as _;

    let text = secret.reveal().trim();
    let text = text.strip_prefix("whsec_").unwrap_or(text);
    let key = base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| EndpointError::BadSecret)?;
    if !(24..=64).contains(&key.len()) {
        return Err(EndpointError::BadSecret);
    }
    Webhook::from_bytes(key).map_err(|_| EndpointError::BadSecret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(secrets: &[&str]) -> Result<Endpoint, EndpointError> {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        Endpoint::new("crm", "https://crm.example/hook", &secrets, Vec::new(), Endpoint::TIMEOUT)
    }

    #[test]
    fn a_signature_is_the_one_of_the_specification_for_each_secret() {
        let both = endpoint(&["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap();

        let signature = both.sign(
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
        );

        let (first, second) = signature.split_once(' ').unwrap();
        assert_eq!(first, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        assert!(second.starts_with("v1,") && second != first);
    }

    #[test]
    fn a_secret_that_receivers_could_not_use_is_refused() {
        assert_eq!(endpoint(&[]).unwrap_err(), EndpointError::NoSecret);
        assert_eq!(endpoint(&["whsec_!!"]).unwrap_err(), EndpointError::BadSecret);
        assert_eq!(endpoint(&["whsec_c2hvcnQ="]).unwrap_err(), EndpointError::BadSecret);
    }

    #[test]
    fn an_address_is_never_printed() {
        let one = Endpoint::new(
            "crm",
            "https://h/?token=t0p",
            &[Secret::new("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")],
            vec![],
            Endpoint::TIMEOUT,
        );

        assert!(!format!("{one:?}").contains("t0p"));
    }
}
