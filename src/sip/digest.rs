//! Proving who we are when a peer asks: digest as a client (RFC 7616, RFC 3261 §22, RFC 8760).
//!
//! One [`Digest`] belongs to one dialog, or to one row of registrations. It remembers the nonces that it was given, so
//! that a later request bears its proof at once, and it knows when another try would only lock us out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use sipx_sip::auth::{self, Algorithm, Challenge};
use sipx_sip::{HeaderName, Headers, Request, Response};

use super::event::{Denial, Failure};
use super::message;
use crate::model::{Secret, limits};

/// A user name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// As the peer writes it.
    pub username: String,
    #[allow(missing_docs)]
    pub password: Secret,
    /// The only protection domain that gets the proof; `None`: any that asks.
    pub realm: Option<String>,
}

/// What was asked of us so far, and what we answered.
#[derive(Clone, Debug)]
pub(super) struct Digest {
    login: Option<Login>,
    /// Random, and ours alone: client nonces are made of it.
    seed: String,
    /// By who asks (a proxy or the peer itself) and realm.
    asked: BTreeMap<(bool, String), Asked>,
    /// Challenges answered in this exchange.
    tries: usize,
}

#[derive(Clone, Debug)]
struct Asked {
    challenge: Challenge,
    /// Requests that bore its nonce.
    count: u32,
    /// Whether it came in this exchange. Then the next one from there says that the password is wrong, unless it says
    /// that the nonce was too old.
    is_fresh: bool,
}

impl Digest {
    /// Whether it proves who this is.
    pub(super) fn is_of(&self, login: Option<&Login>) -> bool {
        self.login.as_ref() == login
    }

    pub(super) fn new(login: Option<Login>, seed: &str) -> Digest {
        Digest { login, seed: seed.to_owned(), asked: BTreeMap::new(), tries: 0 }
    }

    /// A new request begins, which is not a repetition of a challenged one.
    pub(super) fn begin(&mut self) {
        self.tries = 0;
        for asked in self.asked.values_mut() {
            asked.is_fresh = false;
        }
    }

    /// Puts the proof for every challenge known so far into a request, in place of what it bore before.
    pub(super) fn authorize(&mut self, request: &mut Request) {
        forget_proof(&mut request.headers);
        let Some(login) = &self.login else { return };
        let credentials = auth::Credentials::new(&login.username, login.password.reveal());
        let method = message::text(request.method.as_bytes());
        let uri = message::text(&request.uri.to_bytes());
        for asked in self.asked.values_mut() {
            asked.count = asked.count.saturating_add(1);
            // One client nonce for each of theirs: the session algorithms hash it into the key (RFC 7616 §3.4.2).
            let cnonce = cnonce(&self.seed, &asked.challenge.nonce);
            let proof = auth::respond(&asked.challenge, &credentials, &method, &uri, asked.count, &cnonce);
            message::put(&mut request.headers, asked.challenge.response_header(), proof);
        }
    }

    /// Takes a 401 or 407. Afterwards the request is worth another try: with the next CSeq, and [`Digest::authorize`].
    ///
    /// # Errors
    /// [`Failure::Unauthorized`] when it is not.
    pub(super) fn challenged(&mut self, response: &Response) -> Result<(), Failure> {
        let (found, unknown) = challenges(&response.headers);
        let realm = found.first().map(|challenge| challenge.realm.clone()).or(unknown).unwrap_or_default();
        let denied = |denial| {
            let realm = realm.chars().filter(|c| !c.is_control()).take(limits::VAR_NAME_LEN_MAX).collect();
            Err(Failure::Unauthorized { denial, realm })
        };
        let Some(login) = &self.login else { return denied(Denial::NoLogin) };
        if found.is_empty() {
            return denied(Denial::Unsupported);
        }
        let ours: Vec<Challenge> =
            found.into_iter().filter(|c| login.realm.as_ref().is_none_or(|realm| *realm == c.realm)).collect();
        if ours.is_empty() {
            return denied(Denial::OtherRealm);
        }
        let is_wrong = |challenge: &Challenge| {
            let known = self.asked.get(&(challenge.from_proxy, challenge.realm.clone()));
            known.is_some_and(|known| known.is_fresh) && !challenge.stale
        };
        if ours.iter().any(is_wrong) {
            self.asked.clear();
            return denied(Denial::WrongLogin);
        }
        self.tries += 1;
        if self.tries > limits::SIP_CHALLENGES_MAX {
            self.asked.clear();
            return denied(Denial::Endless);
        }
        let mut best: BTreeMap<(bool, String), Challenge> = BTreeMap::new();
        for challenge in ours {
            let key = (challenge.from_proxy, challenge.realm.clone());
            // RFC 8760 §2.4 takes the topmost unless a local policy says otherwise. Ours takes the strongest, for
            // somebody on the way may have turned the order round; among equals the topmost.
            if best.get(&key).is_none_or(|known| strength(challenge.algorithm) > strength(known.algorithm)) {
                best.insert(key, challenge);
            }
        }
        for (key, challenge) in best {
            if self.asked.len() >= limits::SIP_REALMS_MAX && !self.asked.contains_key(&key) {
                return denied(Denial::Endless);
            }
            let known = self.asked.get(&key).filter(|known| known.challenge.nonce == challenge.nonce);
            let count = known.map_or(0, |known| known.count);
            self.asked.insert(key, Asked { challenge, count, is_fresh: true });
        }
        Ok(())
    }
}

/// Copies the proof of an INVITE to its ACK, which cannot be challenged (RFC 3261 §22.1).
pub(super) fn copy_proof(from: &Request, to: &mut Request) {
    for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
        for header in from.headers.get_all(&name) {
            to.headers.push(header.clone());
        }
    }
}

/// The next request after a challenge: the same, with the next number and without Via (RFC 3261 §22.2, §8.1.3.5).
pub(super) fn again(request: &Request, cseq: u32) -> Request {
    let mut next = request.clone();
    for name in [HeaderName::Via, HeaderName::CSeq] {
        next.headers.remove_all(&name);
    }
    let method = message::text(request.method.as_bytes());
    message::put(&mut next.headers, HeaderName::CSeq, format!("{cseq} {method}"));
    next
}

fn forget_proof(headers: &mut Headers) {
    headers.remove_all(&HeaderName::Authorization);
    headers.remove_all(&HeaderName::ProxyAuthorization);
}

fn cnonce(seed: &str, nonce: &str) -> String {
    let whole = Sha256::digest(format!("{seed}:{nonce}").as_bytes());
    let mut out = String::new();
    for octet in whole.iter().take(16) {
        let _ = write!(out, "{octet:02x}");
    }
    out
}

/// Whatever the variant for sessions adds, the hash decides.
fn strength(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Md5 | Algorithm::Md5Sess => 1,
        Algorithm::Sha256 | Algorithm::Sha256Sess => 2,
        _ => 3,
    }
}

/// The challenges that we can answer, top to bottom; and the realm of one that we cannot.
fn challenges(headers: &Headers) -> (Vec<Challenge>, Option<String>) {
    let (mut found, mut unknown) = (Vec::new(), None);
    for (name, from_proxy) in [(HeaderName::WwwAuthenticate, false), (HeaderName::ProxyAuthenticate, true)] {
        for header in headers.get_all(&name).take(limits::SIP_REALMS_MAX) {
            for (scheme, parameters) in split(&message::text(&header.value())).into_iter().take(limits::SIP_REALMS_MAX)
            {
                match understood(&scheme, &parameters, from_proxy) {
                    Some(challenge) => found.push(challenge),
                    None => unknown = unknown.or_else(|| parameters.get("realm").cloned()),
                }
            }
        }
    }
    (found, unknown)
}

fn understood(scheme: &str, parameters: &BTreeMap<String, String>, from_proxy: bool) -> Option<Challenge> {
    // Basic would give the password away.
    if !scheme.eq_ignore_ascii_case("Digest") {
        return None;
    }
    let qop = parameters.get("qop").filter(|qop| !qop.trim().is_empty());
    let qop_auth = qop.is_some_and(|qop| qop.split(',').any(|option| option.trim().eq_ignore_ascii_case("auth")));
    // `auth-int` alone covers the body, which middle boxes change; nobody is known to ask for it.
    if qop.is_some() && !qop_auth {
        return None;
    }
    Some(Challenge {
        realm: parameters.get("realm")?.clone(),
        nonce: parameters.get("nonce")?.clone(),
        opaque: parameters.get("opaque").cloned(),
        algorithm: match parameters.get("algorithm") {
            Some(name) => Algorithm::parse(name)?,
            None => Algorithm::Md5,
        },
        qop_auth,
        stale: parameters.get("stale").is_some_and(|stale| stale.trim().eq_ignore_ascii_case("true")),
        from_proxy,
    })
}

/// Schemes with their parameters, names in lower case. RFC 3261 wants one challenge in a header, and HTTP's grammar,
/// which some peers follow, allows several.
fn split(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let end = rest.find(|c: char| c == '=' || c == ',' || c.is_whitespace()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() && after.is_empty() {
            return found;
        }
        rest = after.trim_start();
        match rest.strip_prefix('=') {
            Some(value) => {
                let (value, after) = value_of(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    // The first of two counts: a second `realm` behind it is somebody's trick.
                    parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            None => found.push((word.to_owned(), BTreeMap::new())),
        }
    }
}

/// A token or quoted string at the beginning of a text, and what is behind it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sipx_sip::{Method, StatusCode, Uri};

    use super::*;

    #[test]
    fn a_challenge_is_answered_and_its_nonce_counted() {
        let mut digest = digest(None);
        digest
            .challenged(&response(&[r#"Digest realm="r", nonce="n", qop="auth,auth-int", opaque="o""#], &[]))
            .unwrap();

        let (first, second) = (proof(&mut digest), proof(&mut digest));

        assert!(first.starts_with(r#"Digest username="alice", realm="r", nonce="n", uri="sip:x.example", response=""#));
        assert!(first.contains("qop=auth, nc=00000001, cnonce=") && first.contains(r#"opaque="o""#), "{first}");
        assert!(second.contains("nc=00000002"), "{second}");
        // By RFC 7616 §3.4.1 with another tool: MD5(HA1:n:00000001:cnonce:auth:HA2).
        assert!(first.contains("response=\"747a3cfef1141fd78c9107585ed1d191\""), "{first}");
    }

    #[test]
    fn sha_256_is_spoken_as_well() {
        let mut digest = digest(None);
        let row = r#"Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256"#;
        digest.challenged(&response(&[row], &[])).unwrap();

        let proof = proof(&mut digest);

        // By RFC 7616 §3.4.1 with another tool.
        let wanted = "6481c2ad82d8cc075ecd3e9518df717506b37bf1ad674dac5045745e3c1d86bc";
        assert!(proof.contains(wanted), "{proof}");
    }

    #[test]
    fn the_strongest_algorithm_is_taken_and_the_topmost_among_equals() {
        let rows = [
            r#"Digest realm="r", nonce="1", algorithm=MD5"#,
            r#"Digest realm="r", nonce="2", algorithm=SHA-256"#,
            r#"Digest realm="r", nonce="3", algorithm=SHA-256"#,
            r#"Digest realm="r", nonce="4", algorithm=SHA-9000"#,
        ];
        let mut digest = digest(None);
        digest.challenged(&response(&rows, &[])).unwrap();

        let proof = proof(&mut digest);

        assert!(proof.contains(r#"nonce="2""#) && proof.contains("algorithm=SHA-256"), "{proof}");
        assert!(!proof.contains("qop"), "none was offered: {proof}");
    }

    #[test]
    fn several_challenges_in_one_header_and_from_proxies_are_all_answered() {
        let mut digest = digest(None);
        let row = r#"Basic realm="b", Digest realm="a, \"b\"", nonce="1,2", Digest nonce="3" , realm = "c""#;
        digest.challenged(&response(&[row], &[r#"Digest realm="p", nonce="4""#])).unwrap();

        let mut request = request();
        digest.authorize(&mut request);

        let own: Vec<_> =
            request.headers.get_all(&HeaderName::Authorization).map(|h| message::text(&h.value())).collect();
        assert_eq!(own.len(), 2);
        assert!(own[0].contains(r#"realm="a, \"b\"", nonce="1,2""#), "{own:?}");
        assert_eq!(request.headers.count(&HeaderName::ProxyAuthorization), 1);
    }

    #[test]
    fn a_wrong_password_is_tried_once() {
        let mut digest = digest(None);
        digest.challenged(&response(&[r#"Digest realm="r", nonce="1""#], &[])).unwrap();
        proof(&mut digest);

        let denied = digest.challenged(&response(&[r#"Digest realm="r", nonce="2""#], &[]));

        assert_eq!(denied, Err(Failure::Unauthorized { denial: Denial::WrongLogin, realm: "r".to_owned() }));
    }

    #[test]
    fn a_stale_nonce_does_not_count_as_wrong_and_does_not_loop() {
        let stale = response(&[r#"Digest realm="r", nonce="2", stale=TRUE"#], &[]);
        let mut digest = digest(None);
        digest.challenged(&response(&[r#"Digest realm="r", nonce="1""#], &[])).unwrap();
        proof(&mut digest);

        digest.challenged(&stale).unwrap();
        assert!(proof(&mut digest).contains(r#"nonce="2""#));
        let tries = (0..100).take_while(|_| digest.challenged(&stale).is_ok()).count();

        assert!(tries < limits::SIP_CHALLENGES_MAX, "{tries}");
    }

    #[test]
    fn a_nonce_that_served_an_earlier_request_may_be_replaced() {
        let mut digest = digest(None);
        digest.challenged(&response(&[r#"Digest realm="r", nonce="1", qop="auth""#], &[])).unwrap();
        proof(&mut digest);
        digest.begin();
        assert!(proof(&mut digest).contains("nc=00000002"));

        digest.challenged(&response(&[r#"Digest realm="r", nonce="2", qop="auth""#], &[])).unwrap();

        let next = proof(&mut digest);
        assert!(next.contains(r#"nonce="2""#) && next.contains("nc=00000001"), "{next}");
    }

    #[test]
    fn what_cannot_be_answered_is_named() {
        let denial = |login: Option<Login>, row: &str| {
            let denied = Digest::new(login, "seed").challenged(&response(&[row], &[]));
            let Err(Failure::Unauthorized { denial, realm }) = denied else { panic!("{denied:?}") };
            (denial, realm)
        };
        let plain = r#"Digest realm="r", nonce="1""#;

        assert_eq!(denial(None, plain), (Denial::NoLogin, "r".to_owned()));
        assert_eq!(denial(Some(login(Some("other"))), plain).0, Denial::OtherRealm);
        assert_eq!(denial(Some(login(None)), r#"Digest realm="r", nonce="1", qop="auth-int""#).0, Denial::Unsupported);
        assert_eq!(denial(Some(login(None)), r#"Basic realm="r""#), (Denial::Unsupported, "r".to_owned()));
        assert_eq!(denial(Some(login(None)), "").0, Denial::Unsupported);
    }

    #[test]
    fn a_password_is_never_printed() {
        let digest = digest(None);

        assert!(!format!("{digest:?}").contains("open sesame"));
    }

    proptest! {
        #[test]
        fn any_challenge_is_read_without_harm(row in "\\PC{0,200}") {
            let mut digest = digest(None);
            let _ = digest.challenged(&response(&[&row], &[]));
            let mut request = request();
            digest.authorize(&mut request);
            prop_assert!(request.headers.len() <= 1 + limits::SIP_REALMS_MAX);
        }

        #[test]
        fn no_row_of_challenges_goes_on_for_ever(rows in proptest::collection::vec((0..3_u8, 0..3_u8, any::<bool>()), 1..60)) {
            let mut digest = digest(None);
            let mut tries = 0;
            for (realm, nonce, stale) in rows {
                let row = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", stale={stale}");
                if digest.challenged(&response(&[&row], &[])).is_err() {
                    break;
                }
                tries += 1;
            }
            prop_assert!(tries <= limits::SIP_CHALLENGES_MAX);
        }
    }

    fn login(realm: Option<&str>) -> Login {
        let realm = realm.map(str::to_owned);
        Login { username: "alice".to_owned(), password: Secret::new("open sesame"), realm }
    }

    fn digest(realm: Option<&str>) -> Digest {
        Digest::new(Some(login(realm)), "seed")
    }

    fn request() -> Request {
        Request::new(Method::Register, Uri::parse(b"sip:x.example".to_vec().into()).unwrap())
    }

    fn proof(digest: &mut Digest) -> String {
        let mut request = request();
        digest.authorize(&mut request);
        message::text(&request.headers.value(&HeaderName::Authorization).expect("a proof"))
    }

    fn response(own: &[&str], proxy: &[&str]) -> Response {
        let mut response = Response::new(StatusCode::new(401).unwrap(), b"Unauthorized".to_vec());
        for row in own {
            message::put(&mut response.headers, HeaderName::WwwAuthenticate, *row);
        }
        for row in proxy {
            message::put(&mut response.headers, HeaderName::ProxyAuthenticate, *row);
        }
        response
    }
}
