use std::sync::Arc;

use p256::ecdsa::VerifyingKey;
use p256::pkcs8::DecodePublicKey as _;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};

use super::*;
use crate::model::{Attestation, Doubt, Gap, Secret, Verdict, Verification};

const NOW: i64 = 1_795_000_000;
const URL: &str = "https://certificates.example/signer.pem";
const ORIGIN: &str = "6c1a8e6c-6d3d-4a3f-8d2a-3f1a2b3c4d5e";

#[test]
fn a_token_that_openssl_signed_holds() {
    // Key and signature by OpenSSL 3.0 (`genpkey`, `dgst -sha256 -sign`, the two integers of its DER put side by side).
    // RFC 8225 has an example as well, but the key printed there does not fit the signature printed there.
    let token = concat!(
        "eyJhbGciOiJFUzI1NiIsInBwdCI6InNoYWtlbiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3Jn",
        "L3Bhc3Nwb3J0LnBlbSJ9.eyJhdHRlc3QiOiJBIiwiZGVzdCI6eyJ0biI6WyIxMjE1NTU1MTIxMyJdfSwiaWF0IjoxNDcxMzc1NDE4LCJ",
        "vcmlnIjp7InRuIjoiMTIxNTU1NTEyMTIifSwib3JpZ2lkIjoiMTIzZTQ1NjctZTg5Yi0xMmQzLWE0NTYtNDI2NjU1NDQwMDAwIn0.A1n",
        "rt3alGyeCV5Otto2hrMc440FKwhg6C9q1Xo6ky1aq4wbwxCnP1vrE6rLFLCpxr_ZBrDhPGk6UUo6xOhB39w",
    );
    let header = format!("{token};info=<https://cert.example.org/passport.pem>;alg=ES256;ppt=shaken");
    let key = VerifyingKey::from_public_key_pem(concat!(
        "-----BEGIN PUBLIC KEY-----\n",
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhKrlN2ux4WBCfBGJcOOeCcbKtQac\n",
        "x7bczty7H522lL9OToJCF0BfsLk3+a/00rzm5Sc6AAsUvYUcKfT458o7BQ==\n",
        "-----END PUBLIC KEY-----\n",
    ))
    .unwrap();
    let presented = Presented {
        identities: vec![&header],
        caller: Names::new(["tel:+1-215-555-1212"]),
        called: Names::new(["sip:+12155551213@example.com:5060;user=phone"]),
    };
    let signed_at = 1_471_375_418;

    let claim = read(&presented, signed_at + 60).unwrap();
    let credential = Arc::new(credential_of(key, signed_at));

    assert_eq!(claim.certificates(), ["https://cert.example.org/passport.pem"]);
    assert_eq!(claim.judge(|_| Ok(Arc::clone(&credential)), signed_at).verdict, Verdict::Passed);
    assert_eq!(read(&presented, signed_at + 61).unwrap_err(), Verdict::Failed(Doubt::Stale));
    assert_eq!(read(&presented, signed_at - 61).unwrap_err(), Verdict::Failed(Doubt::Stale));
}

#[test]
fn what_we_sign_passes_with_its_attestation() {
    let signer = Signer::new(&provider());

    let verification = signer.check(&signer.identity("+12155551212", "+12155551213"));

    assert_eq!(
        verification,
        Verification {
            verdict: Verdict::Passed,
            attestation: Some(Attestation::B),
            origination_id: Some(ORIGIN.to_owned()),
            via: crate::model::Via::Identity,
        }
    );
}

#[test]
fn our_token_has_its_keys_in_order_and_no_spaces() {
    let signer = Signer::new(&provider());

    let identity = signer.identity("+12155551212", "+12155551213");
    let part = |at: usize| {
        use base64::Engine as _;
        let part = identity.split(['.', ';']).nth(at).unwrap();
        String::from_utf8(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };

    assert_eq!(part(0), format!(r#"{{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"{URL}"}}"#));
    assert_eq!(
        part(1),
        format!(
            r#"{{"attest":"B","dest":{{"tn":["12155551213"]}},"iat":{NOW},"orig":{{"tn":"12155551212"}},"origid":"{ORIGIN}"}}"#
        )
    );
    assert!(identity.ends_with(&format!(";info=<{URL}>;alg=ES256;ppt=shaken")));
}

#[test]
fn order_and_spaces_of_a_token_are_the_signers_own() {
    let signer = Signer::new(&provider());
    let payload = format!(
        r#"{{ "origid": "{ORIGIN}", "orig": {{"tn": "+1 215 555 1212"}}, "iat": {NOW},
            "dest": {{"tn": ["12155551213"]}}, "attest": "A", "more": [1, {{}}] }}"#
    );
    let head = format!(r#"{{"x5u":"{URL}","typ":"passport","ppt":"shaken","alg":"ES256"}}"#);

    let verification = signer.check(&signer.signed(&head, &payload, r#"alg=ES256;ppt="shaken""#));

    assert_eq!((verification.verdict, verification.attestation), (Verdict::Passed, Some(Attestation::A)));
}

#[test]
fn every_way_to_be_wrong_has_its_own_word() {
    let signer = Signer::new(&provider());
    let head = format!(r#"{{"alg":"ES256","ppt":"shaken","typ":"passport","x5u":"{URL}"}}"#);
    let claims = |more: &str| {
        format!(
            r#"{{"attest":"A","dest":{{"tn":["12155551213"]}},"iat":{NOW},"orig":{{"tn":"12155551212"}},"origid":"{ORIGIN}"{more}}}"#
        )
    };
    let good = claims("");
    let signed = |head: &str, payload: &str| signer.signed(head, payload, "alg=ES256;ppt=shaken");
    let cases = [
        (Doubt::Malformed, "no-token".to_owned()),
        (Doubt::Malformed, signed("not json", &good)),
        (Doubt::Malformed, signed(&head, "[]")),
        (Doubt::Malformed, signed(&head, &claims(r#","attest":"A""#))),
        (Doubt::Malformed, signed(&head, &good.replace(r#""attest":"A","#, ""))),
        (Doubt::Malformed, signed(&head, &good.replace(r#""attest":"A""#, r#""attest":"D""#))),
        (Doubt::Malformed, signed(&head, &good.replace(&format!(r#","origid":"{ORIGIN}""#), ""))),
        (Doubt::Malformed, signed(&head, &good.replace(r#"["12155551213"]"#, "[]"))),
        (Doubt::Malformed, signed(&head.replace("passport\"", "jwt\""), &good)),
        (Doubt::Malformed, signed(&head.replace("shaken", "div"), &good)),
        (Doubt::Malformed, signed(&head, &good).replace(&format!("info=<{URL}>"), "info=x")),
        (Doubt::Malformed, format!("..{}", signed(&head, &good).rsplit('.').nth(2).unwrap())),
        (Doubt::Algorithm, signed(&head.replace("ES256", "none"), &good)),
        (Doubt::Algorithm, signed(&head, &good).replace("alg=ES256", "alg=RS256")),
        (Doubt::TwoCertificates, signed(&head.replace("signer.pem", "other.pem"), &good)),
        (Doubt::CertificateAddress, signed(&head.replace("https", "ftp"), &good).replace("https", "ftp")),
        (Doubt::Stale, signed(&head, &good.replace(&NOW.to_string(), &(NOW - 61).to_string()))),
        (Doubt::Stale, signed(&head, &good.replace(&NOW.to_string(), &(NOW + 61).to_string()))),
        (Doubt::Stale, signed(&head, &good.replace(&NOW.to_string(), &i64::MIN.to_string()))),
        (Doubt::OtherCaller, signed(&head, &good.replace("12155551212", "12155551299"))),
        (Doubt::OtherCalled, signed(&head, &good.replace("12155551213", "12155551299"))),
        (Doubt::Signature, signed(&head, &good).replacen("eyJhdHRlc3QiOiJBI", "eyJhdHRlc3QiOiJCI", 1)),
    ];

    for (doubt, identity) in cases {
        assert_eq!(signer.check(&identity).verdict, Verdict::Failed(doubt), "{identity}");
    }
    assert_eq!(signer.check(&signed(&head, &good)).verdict, Verdict::Passed);
}

#[test]
fn an_unknown_kind_is_as_good_as_none() {
    let signer = Signer::new(&provider());
    let identity = signer.identity("12155551212", "12155551213");
    let unknown = identity.replace("ppt=shaken", "ppt=rcd");

    assert_eq!(signer.check(&unknown).verdict, Verdict::Missing);
    assert_eq!(signer.check_all(&[]).verdict, Verdict::Missing);
    assert_eq!(signer.check_all(&[&unknown, &identity]).verdict, Verdict::Passed);
}

#[test]
fn one_good_identity_among_bad_ones_is_enough() {
    let signer = Signer::new(&provider());
    let stale = sign(&signer.key, &Statement { issued: NOW - 600, ..signer.statement("12155551212", "12155551213") });
    let [_, (_, stale)] = stale.unwrap();
    let good = signer.identity("12155551212", "12155551213");

    assert_eq!(signer.check_all(&["garbage", &stale, &good]).verdict, Verdict::Passed);
    assert_eq!(signer.check_all(&["garbage", &stale]).verdict, Verdict::Failed(Doubt::Malformed));
}

#[test]
fn a_call_that_was_sent_on_is_followed_back_by_its_diversions() {
    let signer = Signer::new(&provider());
    let shaken = signer.identity("12155551212", "12155550001");
    let div = |to: &str, from: &str| {
        let head = format!(r#"{{"alg":"ES256","ppt":"div","typ":"passport","x5u":"{URL}"}}"#);
        let claims = format!(
            r#"{{"dest":{{"tn":["{to}"]}},"div":{{"tn":"{from}"}},"iat":{NOW},"orig":{{"tn":"12155551212"}}}}"#
        );
        signer.signed(&head, &claims, "alg=ES256;ppt=div")
    };
    let (first, second) = (div("12155550002", "12155550001"), div("12155551213", "12155550002"));
    let elsewhere = div("12155551213", "12155559999");
    let ring = div("12155550002", "12155551213");

    assert_eq!(signer.check_all(&[&shaken, &first, &second]).verdict, Verdict::Passed);
    assert_eq!(signer.check_all(&[&second, &shaken, &first]).verdict, Verdict::Passed);
    assert_eq!(signer.check_all(&[&shaken, &second]).verdict, Verdict::Failed(Doubt::OtherCalled));
    assert_eq!(signer.check_all(&[&shaken, &elsewhere]).verdict, Verdict::Failed(Doubt::OtherCalled));
    assert_eq!(signer.check_all(&[&shaken, &second, &ring]).verdict, Verdict::Failed(Doubt::OtherCalled));
    assert_eq!(signer.check_all(&[&first]).verdict, Verdict::Failed(Doubt::OtherCalled));
    let forged = second.replacen("eyJkZXN0", "eyJkZXN1", 1);
    assert_ne!(signer.check_all(&[&shaken, &first, &forged]).verdict, Verdict::Passed);
}

#[test]
fn a_certificate_speaks_for_its_own_numbers_only() {
    // SEQUENCE { [2] "12155551212" }
    let one = [&[0x30, 15, 0xA2, 13, 0x16, 11][..], b"12155551212"].concat();
    let signer = Signer::new(&one);

    let theirs = signer.check(&signer.identity("12155551212", "12155551213"));
    let other = signer.check_as("12155551299", &[&signer.identity("12155551299", "12155551213")]);

    assert_eq!(theirs.verdict, Verdict::Passed);
    assert_eq!(other.verdict, Verdict::Failed(Doubt::NotTheirNumber));
}

#[test]
fn a_certificate_must_be_vouched_for_valid_and_made_for_this() {
    let authority = Authority::new();
    let other = Authority::new();
    let valid = |authority: &Authority| authority.leaf(&KeyPair::generate().unwrap(), Some(&provider()), 2000, 2060);
    let expired = authority.leaf(&KeyPair::generate().unwrap(), Some(&provider()), 2000, 2001);
    let plain = authority.leaf(&KeyPair::generate().unwrap(), None, 2000, 2060);
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p384 = authority.leaf(&p384, Some(&provider()), 2000, 2060);
    let judge = |served: &str| credential(served.as_bytes(), &authority.trust(), NOW).map(drop);

    assert_eq!(judge(&valid(&authority)), Ok(()));
    assert_eq!(judge(&valid(&other)), Err(Doubt::Untrusted));
    assert_eq!(judge(&expired), Err(Doubt::CertificateExpired));
    assert_eq!(judge(&plain), Err(Doubt::CertificateUnusable));
    assert_eq!(judge(&p384), Err(Doubt::CertificateUnusable));
    assert_eq!(judge(""), Err(Doubt::CertificateUnusable));
    assert_eq!(judge("<html>not found</html>"), Err(Doubt::CertificateUnusable));
    assert_eq!(judge(&valid(&authority).repeat(9)), Err(Doubt::CertificateUnusable));
    assert_eq!(credential(&[0x30, 3, 1, 1, 1], &authority.trust(), NOW).map(drop), Err(Doubt::CertificateUnusable));
}

#[test]
fn a_chain_lasts_as_long_as_its_shortest_link() {
    let root = Authority::new();
    let between = root.below(2000, 2030);
    let leaf = between.leaf(&KeyPair::generate().unwrap(), Some(&provider()), 2010, 2060);

    let served = format!("{leaf}{}", between.pem);
    let credential = credential(served.as_bytes(), &root.trust(), NOW).unwrap();

    // 2030-01-01 and 2010-01-01.
    assert_eq!((credential.from, credential.until()), (1_262_304_000, 1_893_456_000));
    assert!(super::credential(leaf.as_bytes(), &root.trust(), NOW).is_err(), "without the link between");
}

#[test]
fn a_certificate_that_was_good_when_fetched_is_judged_by_the_hour_of_the_call() {
    let signer = Signer::new(&provider());
    let identity = signer.identity("12155551212", "12155551213");
    let presented = signer.presented("12155551212", &[&identity]);
    let mut credential = Credential::clone(&signer.credential);
    credential.until = NOW - 1;
    let credential = Arc::new(credential);

    let verdict = read(&presented, NOW).unwrap().judge(|_| Ok(Arc::clone(&credential)), NOW).verdict;

    assert_eq!(verdict, Verdict::Failed(Doubt::CertificateExpired));
}

#[test]
fn without_a_certificate_nothing_is_known() {
    let signer = Signer::new(&provider());
    let identity = signer.identity("12155551212", "12155551213");
    let claim = read(&signer.presented("12155551212", &[&identity]), NOW).unwrap();

    assert_eq!(claim.judge(|_| Err(Verdict::Unknown(Gap::Timeout)), NOW).reason(), Some("timeout"));
    assert_eq!(claim.unchecked(Gap::NoTrustList).verdict, Verdict::Unknown(Gap::NoTrustList));
}

#[test]
fn a_trust_list_is_certificates_and_nothing_else() {
    let authority = Authority::new();

    assert!(Trust::from_pem(format!("# roots\n{}{}", authority.pem, authority.pem).as_bytes()).is_ok());
    assert_eq!(Trust::from_pem(b"").unwrap_err(), TrustError::Empty);
    let broken = format!("{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", authority.pem);
    assert_eq!(Trust::from_pem(broken.as_bytes()).unwrap_err(), TrustError::Broken(2));
}

#[test]
fn a_key_of_another_kind_is_refused_without_repeating_it() {
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    let p256 = KeyPair::generate().unwrap().serialize_pem();

    assert_eq!(SigningKey::from_pem(&Secret::new(p384)).unwrap_err(), KeyError);
    assert_eq!(SigningKey::from_pem(&Secret::new("")).unwrap_err(), KeyError);
    assert_eq!(format!("{:?}", SigningKey::from_pem(&Secret::new(p256)).unwrap()), "SigningKey(•••)");
}

#[test]
fn what_has_no_number_is_not_signed() {
    let signer = Signer::new(&provider());

    assert!(sign(&signer.key, &signer.statement("anonymous", "12155551213")).is_none());
    assert!(sign(&signer.key, &signer.statement("12155551212", "sip:desk@10.0.0.1")).is_none());
}

/// The list of a provider: SEQUENCE { [0] "1234" }.
fn provider() -> Vec<u8> {
    vec![0x30, 8, 0xA0, 6, 0x16, 4, b'1', b'2', b'3', b'4']
}

fn credential_of(key: VerifyingKey, at: i64) -> Credential {
    Credential { key, numbers: TnAuthList::parse(&provider()).unwrap(), from: at - 1, until: at + 100 }
}

struct Signer {
    key: SigningKey,
    raw: p256::ecdsa::SigningKey,
    credential: Arc<Credential>,
}

impl Signer {
    fn new(numbers: &[u8]) -> Signer {
        use p256::pkcs8::DecodePrivateKey as _;

        let authority = Authority::new();
        let pair = KeyPair::generate().unwrap();
        let leaf = authority.leaf(&pair, Some(numbers), 2000, 2060);
        let pem = pair.serialize_pem();
        Signer {
            key: SigningKey::from_pem(&Secret::new(pem.clone())).unwrap(),
            raw: p256::ecdsa::SigningKey::from_pkcs8_pem(&pem).unwrap(),
            credential: Arc::new(credential(leaf.as_bytes(), &authority.trust(), NOW).unwrap()),
        }
    }

    fn statement<'a>(&self, caller: &'a str, called: &'a str) -> Statement<'a> {
        Statement {
            caller,
            called,
            attestation: Attestation::B,
            origination_id: ORIGIN,
            certificate_url: URL,
            issued: NOW,
        }
    }

    fn identity(&self, caller: &str, called: &str) -> String {
        let [(date, _), (name, identity)] = sign(&self.key, &self.statement(caller, called)).unwrap();
        assert_eq!((date, name), ("Date", "Identity"));
        identity
    }

    /// Any header and payload, signed.
    fn signed(&self, head: &str, payload: &str, parameters: &str) -> String {
        use base64::Engine as _;
        use p256::ecdsa::signature::Signer as _;

        let encode = |octets: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(octets);
        let signed = format!("{}.{}", encode(head.as_bytes()), encode(payload.as_bytes()));
        let signature: p256::ecdsa::Signature = self.raw.sign(signed.as_bytes());
        format!("{signed}.{};info=<{URL}>;{parameters}", encode(&signature.to_bytes()))
    }

    fn presented<'a>(&self, caller: &'a str, identities: &[&'a str]) -> Presented<'a> {
        let caller = Names::new([caller]);
        Presented { identities: identities.to_vec(), caller, called: Names::new(["+12155551213"]) }
    }

    fn check(&self, identity: &str) -> Verification {
        self.check_all(&[identity])
    }

    fn check_all(&self, identities: &[&str]) -> Verification {
        self.check_as("sip:+12155551212@carrier.example", identities)
    }

    fn check_as(&self, caller: &str, identities: &[&str]) -> Verification {
        match read(&self.presented(caller, identities), NOW) {
            Ok(claim) => claim.judge(|_| Ok(Arc::clone(&self.credential)), NOW),
            Err(verdict) => Verification::bare(verdict, crate::model::Via::Identity),
        }
    }
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let pair = KeyPair::generate().unwrap();
        let params = Authority::params(2000, 2060);
        let pem = params.self_signed(&pair).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, pair) }
    }

    fn params(from: i32, until: i32) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority until {until}"));
        params
    }

    fn below(&self, from: i32, until: i32) -> Authority {
        let pair = KeyPair::generate().unwrap();
        let params = Authority::params(from, until);
        let pem = params.signed_by(&pair, &self.issuer).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, pair) }
    }

    fn leaf(&self, pair: &KeyPair, numbers: Option<&[u8]>, from: i32, until: i32) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let list = numbers.map(|der| CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], der.to_vec()));
        params.custom_extensions.extend(list);
        params.signed_by(pair, &self.issuer).unwrap().pem()
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(self.pem.as_bytes()).unwrap()
    }
}
