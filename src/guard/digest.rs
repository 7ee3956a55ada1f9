//! Passwords as SIP proves them: digest (RFC 3261 §22, RFC 7616, and RFC 8760 for SHA-256), on the asked side.
//!
//! Only arithmetic and reading; what a right or a wrong answer leads to is the guard's affair.

use std::fmt;

use md5::Md5;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::model::limits;
pub(super) use crate::trunk::DigestAlgorithm as Algorithm;

/// What we know of a user: enough to check an answer, and not the password itself.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) username: String,
    pub(super) realm: String,
    /// `HA1` by each algorithm, in hexadecimal digits.
    md5: String,
    sha256: String,
}

impl Proof {
    pub(super) fn new(username: &str, realm: &str, password: &str) -> Proof {
        let a1 = format!("{username}:{realm}:{password}");
        Proof {
            username: username.to_owned(),
            realm: realm.to_owned(),
            md5: Algorithm::Md5.hash(&a1),
            sha256: Algorithm::Sha256.hash(&a1),
        }
    }

    /// Whether whoever wrote this answer knows the password.
    pub(super) fn is_right(&self, answer: &Answer, method: &str) -> bool {
        let algorithm = answer.algorithm;
        let ha1 = match algorithm {
            Algorithm::Md5 => &self.md5,
            Algorithm::Sha256 => &self.sha256,
        };
        let ha2 = algorithm.hash(&format!("{method}:{}", answer.uri));
        let wanted = match &answer.count {
            Some(Count { nc, cnonce, .. }) => {
                algorithm.hash(&format!("{ha1}:{}:{nc}:{cnonce}:auth:{ha2}", answer.nonce))
            }
            // RFC 3261 §22.4: clients of RFC 2069 know no `qop`.
            None => algorithm.hash(&format!("{ha1}:{}:{ha2}", answer.nonce)),
        };
        let is_theirs = self.username == answer.username && self.realm == answer.realm;
        // How much of it was right must not be told by how long we looked.
        bool::from(wanted.as_bytes().ct_eq(answer.response.to_ascii_lowercase().as_bytes())) & is_theirs
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("username", &self.username).field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl Algorithm {
    pub(super) fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }

    pub(super) fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Sha256 => hex(&Sha256::digest(text.as_bytes())),
            Algorithm::Md5 => hex(&<Md5 as md5::Digest>::digest(text.as_bytes())),
        }
    }
}

/// The value of a `WWW-Authenticate` header.
pub(super) fn challenge(realm: &str, nonce: &str, algorithm: Algorithm, is_stale: bool) -> String {
    let stale = if is_stale { ", stale=true" } else { "" };
    let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
    format!(r#"Digest realm="{realm}", nonce="{nonce}", algorithm={}, qop="auth"{stale}"#, algorithm.name())
}

/// An `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) username: String,
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) uri: String,
    response: String,
    pub(super) algorithm: Algorithm,
    /// `None` without `qop`.
    pub(super) count: Option<Count>,
}

/// How often a nonce was used, by whoever used it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// As written: eight hexadecimal digits.
    nc: String,
    cnonce: String,
    pub(super) value: u32,
}

impl Answer {
    /// Reads the value of an `Authorization` header. `None` when it is of another scheme, or does not answer what we ask.
    pub(super) fn parse(value: &str) -> Option<Answer> {
        if value.len() > limits::SIP_HEADER_LEN_MAX {
            return None;
        }
        let value = value.trim_start();
        let rest = value.get(..6).filter(|scheme| scheme.eq_ignore_ascii_case("digest")).and(value.get(6..))?;
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        let mut known: [Option<String>; NAMES.len()] = Default::default();
        for (name, value) in Parameters(rest) {
            if let Some(at) = NAMES.iter().position(|wanted| name.eq_ignore_ascii_case(wanted)) {
                // Said twice, nobody knows which is meant.
                if known[at].replace(value).is_some() {
                    return None;
                }
            }
        }
        let [username, realm, nonce, uri, response, algorithm, qop, nc, cnonce] = known;
        let algorithm = match algorithm {
            // RFC 7616 §3.3.
            None => Algorithm::Md5,
            Some(name) => Algorithm::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(&name))?,
        };
        let count = match qop {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let nc = nc.filter(|nc| nc.len() == 8)?;
                let value = u32::from_str_radix(&nc, 16).ok().filter(|_| !nc.starts_with('+'))?;
                Some(Count { value, nc, cnonce: cnonce? })
            }
            Some(_) => return None,
        };
        Some(Answer {
            username: username?,
            realm: realm?,
            nonce: nonce?,
            uri: uri?,
            response: response?,
            algorithm,
            count,
        })
    }
}

const NAMES: [&str; 9] = ["username", "realm", "nonce", "uri", "response", "algorithm", "qop", "nc", "cnonce"];

/// The parameters of a challenge or an answer: `name=token` or `name="quoted"`, with commas between.
struct Parameters<'a>(&'a str);

impl Iterator for Parameters<'_> {
    type Item = (String, String);

    fn next(&mut self) -> Option<(String, String)> {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
        let (name, rest) = self.0.split_once('=')?;
        let rest = rest.trim_start_matches([' ', '\t']);
        let mut value = String::new();
        match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut characters = quoted.char_indices();
                let end = loop {
                    match characters.next() {
                        Some((_, '\\')) => value.extend(characters.next().map(|(_, c)| c)),
                        Some((at, '"')) => break at + 1,
                        Some((_, c)) => value.push(c),
                        // It never ends, so nothing after it can be told from it.
                        None => break quoted.len(),
                    }
                };
                self.0 = quoted.get(end..).unwrap_or("");
            }
            None => {
                let (token, rest) = rest.split_once(',').unwrap_or((rest, ""));
                value.push_str(token.trim_end());
                self.0 = rest;
            }
        }
        Some((name.trim().to_owned(), value))
    }
}

pub(super) fn hex(octets: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let nibbles = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    nibbles.map(|nibble| DIGITS[usize::from(nibble)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7616 §3.9.1, by both algorithms.
    #[test]
    fn the_published_example_is_right() {
        let mufasa = Proof::new("Mufasa", "http-auth@example.org", "Circle of Life");
        let answer = |algorithm: &str, response: &str| {
            format!(
                r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm={algorithm},
                nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, qop=auth,
                cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", response="{response}",
                opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#
            )
            .replace('\n', "")
        };
        let sha = answer("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
        let md5 = answer("MD5", "8ca523f5e9506fed4657c9700eebdbec");

        for text in [sha, md5] {
            let answer = Answer::parse(&text).expect("a readable answer");
            assert!(mufasa.is_right(&answer, "GET"));
            assert!(!mufasa.is_right(&answer, "POST"));
            assert!(!Proof::new("Mufasa", "http-auth@example.org", "circle of life").is_right(&answer, "GET"));
        }
    }

    #[test]
    fn our_challenge_is_answered_by_a_client_that_we_did_not_write() {
        let proof = Proof::new("pbx", "sip \"one\"", "geheim");
        for algorithm in Algorithm::ALL {
            let header = challenge("sip \"one\"", "abc", algorithm, false);
            let theirs = sipx_sip::auth::Challenge::parse(header.as_bytes(), false).expect("a readable challenge");
            let credentials = sipx_sip::auth::Credentials::new("pbx", "geheim");
            let header = sipx_sip::auth::respond(&theirs, &credentials, "INVITE", "sip:100@gw", 3, "xyz");

            let answer = Answer::parse(&header).expect("a readable answer");

            assert!(proof.is_right(&answer, "INVITE"));
            assert_eq!(answer.count.as_ref().map(|count| count.value), Some(3));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_no_answer() {
        let good = r#"Digest username="a", realm="r", nonce="n", uri="u", response="x""#;

        assert!(Answer::parse(good).is_some());
        for bad in [
            "Basic QWxhZGRpbg==",
            "Digestusername=\"a\"",
            r#"Digest username="a", realm="r", nonce="n", uri="u""#,
            r#"Digest username="a", username="b", realm="r", nonce="n", uri="u", response="x""#,
            r#"Digest username="a", realm="r", nonce="n", uri="u", response="x", algorithm=MD9"#,
            r#"Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth-int, nc=00000001, cnonce="c""#,
            r#"Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=1, cnonce="c""#,
            r#"Digest username="a", realm="r", nonce="n", uri="u", response="x", qop=auth, nc=+0000001, cnonce="c""#,
            r#"Digest username="a"#,
            "",
            "Digéšt x=1",
        ] {
            assert_eq!(Answer::parse(bad), None, "{bad}");
        }
    }
}
