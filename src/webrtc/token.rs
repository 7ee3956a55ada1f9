//! Leave to call, for a while: a JSON Web Token (RFC 7519) signed with HS256, made by the site whose page calls.
//!
//! Pure. Only this one algorithm is taken, whatever the token says of itself (RFC 8725 §3.1), and a token must end.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::model::Pii;
use crate::model::limits::{WEBRTC_TOKEN_AGE_MAX, WEBRTC_TOKEN_LEN_MAX};

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// Whom it may call, one or several; without it whoever the gateway lets browsers call.
    pub to: To,
    /// The caller's number or user name, as the site knows it.
    pub sub: Option<Pii<String>>,
    /// The caller's name.
    pub name: Option<Pii<String>>,
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    exp: i64,
    #[serde(default)]
    to: To,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Whom a token may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum To {
    /// Whoever browsers may call.
    #[default]
    Anybody,
    /// This one only.
    One(String),
    /// One of these.
    Some(Vec<String>),
}

impl Claims {
    /// Whether it may call this one.
    pub fn may_call(&self, called: &str) -> bool {
        match &self.to {
            To::Anybody => true,
            To::One(one) => one == called,
            To::Some(all) => all.iter().any(|one| one == called),
        }
    }
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is no token of this kind.
    Malformed,
    /// Somebody else signed it.
    Signature,
    /// It is over.
    Expired,
    /// It lasts longer than we take.
    TooLong,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenError::Malformed => "the token is no JSON Web Token with alg HS256 and exp",
            TokenError::Signature => "the token is signed with another secret",
            TokenError::Expired => "the token has expired",
            TokenError::TooLong => "the token is valid for more than a day",
        })
    }
}

/// Reads a token.
///
/// # Errors
/// [`TokenError`]; what the token says is looked at only when its signature holds.
pub fn read(token: &str, secret: &[u8], now_unix_s: i64) -> Result<Claims, TokenError> {
    if token.len() > WEBRTC_TOKEN_LEN_MAX {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (head, body) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    let open = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
    let head: Head = serde_json::from_slice(&open(head)?).map_err(|_| TokenError::Malformed)?;
    // RFC 7515 §4.1.11: what must be understood is not.
    if head.alg != "HS256" || head.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    mac(secret, signed).verify_slice(&open(signature)?).map_err(|_| TokenError::Signature)?;
    let Written { exp, to, sub, name } = serde_json::from_slice(&open(body)?).map_err(|_| TokenError::Malformed)?;
    let left = exp.saturating_sub(now_unix_s);
    match u64::try_from(left) {
        Ok(0) | Err(_) => Err(TokenError::Expired),
        Ok(left) if Duration::from_secs(left) > WEBRTC_TOKEN_AGE_MAX => Err(TokenError::TooLong),
        Ok(_) => Ok(Claims { exp, to, sub: sub.map(Pii::new), name: name.map(Pii::new) }),
    }
}

/// Makes a token.
pub fn sign(claims: &Claims, secret: &[u8]) -> String {
    let word = |claim: &Option<Pii<String>>| claim.as_ref().map(|word| word.reveal().clone());
    let (sub, name) = (word(&claims.sub), word(&claims.name));
    let body = serde_json::to_vec(&Written { exp: claims.exp, to: claims.to.clone(), sub, name });
    let body = body.expect("it is written because a token has string keys only");
    let part = |json: &[u8]| URL_SAFE_NO_PAD.encode(json);
    let signed = format!("{}.{}", part(br#"{"alg":"HS256","typ":"JWT"}"#), part(&body));
    let signature = mac(secret, &signed).finalize().into_bytes();
    format!("{signed}.{}", part(&signature))
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    crit: Option<serde_json::Value>,
}

fn mac(secret: &[u8], signed: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("it takes the key because HMAC takes keys of every length");
    mac.chain_update(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who_calls_and_whom() {
        let claims = Claims {
            exp: NOW + 60,
            to: To::Some(vec!["support".to_owned(), "100".to_owned()]),
            sub: Some(Pii::new("+442079460000".to_owned())),
            name: Some(Pii::new("Ada".to_owned())),
        };

        let read = read(&sign(&claims, b"secret"), b"secret", NOW).unwrap();

        assert_eq!(read.name.as_ref().map(Pii::reveal), Some(&"Ada".to_owned()));
        assert!(read.may_call("support") && read.may_call("100") && !read.may_call("sales"));
    }

    #[test]
    fn a_token_must_be_signed_and_must_end() {
        let until = |exp| sign(&Claims { exp, ..Claims::default() }, b"secret");

        assert_eq!(read(&until(NOW + 60), b"another", NOW), Err(TokenError::Signature));
        assert_eq!(read(&until(NOW), b"secret", NOW), Err(TokenError::Expired));
        assert_eq!(read(&until(i64::MIN), b"secret", NOW), Err(TokenError::Expired));
        assert_eq!(read(&until(NOW + 200_000), b"secret", NOW), Err(TokenError::TooLong));
        assert_eq!(read("a.b.c", b"secret", NOW), Err(TokenError::Malformed));
        assert!(read(&until(NOW + 60), b"secret", NOW).is_ok());
    }

    #[test]
    fn a_token_of_another_library_is_read_and_one_without_signature_is_not() {
        // {"alg":"HS256","typ":"JWT"} . {"exp":1800000060,"to":"support"}, signed by openssl.
        let theirs = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE4MDAwMDAwNjAsInRvIjoic3VwcG9ydCJ9.51_rTZBrZRfJdMLMJNXkVaIdch05lEzILLciQRJbM6A";
        assert!(read(theirs, b"secret", NOW).unwrap().may_call("support"));

        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let body = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, NOW + 60));
        assert_eq!(read(&format!("{none}.{body}."), b"secret", NOW), Err(TokenError::Malformed));
    }

    const NOW: i64 = 1_800_000_000;
}
