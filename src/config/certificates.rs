//! Looking at the certificates that a configuration names, before a peer does.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::check::{At, Mistake};
use super::diagnostic::code;
use super::secret;
use super::tree::{Certificates, Config};
use crate::model::limits;

/// What is wrong with them, now. `at` is where they stand.
pub(super) fn judge(dir: &Path, at: &At, certificates: &Certificates) -> Vec<Mistake> {
    let mut found = Vec::new();
    if let Some(path) = &certificates.certificate {
        match chain(&dir.join(path)) {
            Ok(chain) => {
                found.extend(chain.iter().find_map(|certificate| age(&at.key("certificate"), certificate)));
                found.extend(pair(dir, at, certificates, chain));
            }
            Err(why) => found.push(unusable(at.key("certificate"), &why)),
        }
    }
    let roots = [("client_ca", &certificates.client_ca), ("trust", &certificates.trust)];
    for (key, path) in roots {
        if let Some(Err(why)) = path.as_ref().map(|path| chain(&dir.join(path))) {
            found.push(unusable(at.key(key), &why));
        }
    }
    found
}

/// How long the certificates of a file are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// What they are for, in words.
    pub what: &'static str,
    /// Whether they are authorities, of which one good one may do.
    pub is_list: bool,
    /// Where they stand.
    pub file: PathBuf,
    /// For each, in whole days from today; negative when it has expired. An error says why nothing can be read.
    pub days: Result<Vec<i64>, String>,
}

/// How long each certificate that a configuration names is good.
pub fn lifetimes(config: &Config) -> Vec<Lifetime> {
    let named = &config.gateway.sip.certificates;
    let files = [
        ("our certificate", false, &named.certificate),
        ("the authorities of peers' certificates", true, &named.client_ca),
        ("the authorities of servers", true, &named.trust),
        ("the roots of signed callers", true, &config.gateway.identity.trust),
    ];
    let named = files.into_iter().filter_map(|(what, is_list, file)| Some((what, is_list, file.clone()?)));
    let lifetimes = named.map(|(what, is_list, file)| {
        let days = chain(&file).map(|chain| chain.iter().filter_map(days_left).collect());
        Lifetime { what, is_list, file, days }
    });
    lifetimes.collect()
}

fn days_left(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some((certificate.validity().not_after.timestamp() - today_s()).div_euclid(DAY_S))
}

fn unusable(at: At, why: &str) -> Mistake {
    Mistake::error(code::CERTIFICATE, at, format!("this file {why}"))
        .hint("name a PEM file that the gateway may read; a relative path starts at the configuration's folder")
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limits::CERTIFICATES_LEN_MAX + 1).read_to_end(&mut pem))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if pem.len() as u64 > limits::CERTIFICATES_LEN_MAX {
        return Err("is too long to hold certificates".to_owned());
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|_| "is no PEM".to_owned())?;
    let is_readable = |certificate: &CertificateDer<'_>| X509Certificate::from_der(certificate).is_ok();
    match chain.iter().position(|certificate| !is_readable(certificate)) {
        _ if chain.is_empty() => Err("holds no certificate".to_owned()),
        Some(at) => Err(format!("holds something else than a certificate, as number {}", at + 1)),
        None => Ok(chain),
    }
}

/// Whether the key is the certificate's. A key that is not to be had has been told of among the secrets.
fn pair(dir: &Path, at: &At, certificates: &Certificates, chain: Vec<CertificateDer<'static>>) -> Option<Mistake> {
    let key = secret(dir, certificates.key.as_ref()?).ok()?;
    let wrong = |what: &str| Some(Mistake::error(code::CERTIFICATE, at.key("key"), what));
    let Ok(key) = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()) else {
        return wrong("this is no private key in PEM").map(|mistake| mistake.hint("write it as openssl does: PKCS #8"));
    };
    let Ok(key) = rustls::crypto::ring::sign::any_supported_type(&key) else {
        return wrong("no key of this kind can be used").map(|mistake| mistake.hint("use ECDSA P-256, or RSA 2048"));
    };
    // An answer of neither yes nor no comes from kinds of keys that do not tell.
    match CertifiedKey::new(chain, key).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            wrong("this key belongs to another certificate")
                .map(|mistake| mistake.hint("put certificate and key of one order together"))
        }
        _ => None,
    }
}

/// What its dates say today.
fn age(at: &At, certificate: &CertificateDer<'_>) -> Option<Mistake> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let (from, until) = (certificate.validity().not_before, certificate.validity().not_after);
    let today = today_s();
    if today < from.timestamp() {
        let what = format!("this certificate is valid from {from} only");
        return Some(Mistake::error(code::CERTIFICATE, at.clone(), what).hint("is the clock of this machine right?"));
    }
    if today >= until.timestamp() {
        let what = format!("this certificate has expired on {until}");
        return Some(Mistake::error(code::CERTIFICATE, at.clone(), what).hint("renew it; peers refuse it"));
    }
    let days = (until.timestamp() - today) / DAY_S;
    (days < WARNING_DAYS).then(|| {
        let what = format!("this certificate expires in {days} days, on {until}");
        Mistake::warning(code::CERTIFICATE, at.clone(), what).hint("renew it in time")
    })
}

#[allow(clippy::disallowed_methods, reason = "a certificate is good or bad today")]
fn today_s() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

const DAY_S: i64 = 24 * 3600;
/// Long enough to get a new one, short enough that a 30-day renewal of an ACME client never shows.
const WARNING_DAYS: i64 = 14;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::actions::SecretRef;
    use crate::config::Severity;

    #[test]
    fn each_fault_of_a_certificate_is_named_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let (ours, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let until = |at: i64| {
            let mut params = CertificateParams::new(vec!["sbc.test".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after =
                params.not_before + std::time::Duration::from_secs(u64::try_from(at - 946_684_800).unwrap());
            params.self_signed(&ours).unwrap().pem()
        };
        put("good.pem", &until(today_s() + 30 * DAY_S));
        put("late.pem", &until(today_s() + 3 * DAY_S + 60));
        put("past.pem", &until(today_s() - DAY_S));
        put("none.pem", "nothing\n");
        put("ours.key", &ours.serialize_pem());
        put("other.key", &other.serialize_pem());
        put("no.key", "hunter2\n");
        let judge = |certificate: &str, key: &str, ca: Option<&str>| {
            let certificates = Certificates {
                certificate: Some(PathBuf::from(certificate)),
                key: Some(SecretRef::File(key.to_owned())),
                client_ca: ca.map(PathBuf::from),
                ..Certificates::default()
            };
            let found = super::judge(dir.path(), &At::file("gateway.toml").key("tls"), &certificates);
            found.into_iter().map(|mistake| (mistake.at.pointer, mistake.severity, mistake.message)).collect::<Vec<_>>()
        };

        assert_eq!(judge("good.pem", "ours.key", Some("good.pem")), []);
        for (certificate, key, ca, at, severity, words) in [
            ("late.pem", "ours.key", None, "/tls/certificate", Severity::Warning, "expires in 3 days"),
            ("past.pem", "ours.key", None, "/tls/certificate", Severity::Error, "has expired on"),
            ("none.pem", "ours.key", None, "/tls/certificate", Severity::Error, "holds no certificate"),
            ("gone.pem", "ours.key", None, "/tls/certificate", Severity::Error, "cannot be read"),
            ("good.pem", "other.key", None, "/tls/key", Severity::Error, "belongs to another certificate"),
            ("good.pem", "no.key", None, "/tls/key", Severity::Error, "no private key"),
            ("good.pem", "ours.key", Some("ours.key"), "/tls/client_ca", Severity::Error, "holds no certificate"),
        ] {
            let found = judge(certificate, key, ca);
            let [(pointer, found_severity, message)] = found.as_slice() else {
                panic!("{certificate} {key}: {found:?}")
            };
            assert_eq!((pointer.as_str(), *found_severity), (at, severity));
            assert!(message.contains(words) && !message.contains("hunter2"), "{message}");
        }
    }
}
