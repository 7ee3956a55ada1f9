//! Certificates of those who sign callers' identities: fetched under the egress policy, once for all calls that wait for
//! the same one, and kept a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use reqwest::header::{CACHE_CONTROL, HeaderMap};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::clock::unix_ms;
use crate::actions::Method;
use crate::model::{Doubt, Gap, Pii, Verdict, limits};
use crate::services::{Exchange, Http};
use crate::stir::{self, Credential, Trust};

/// What is known of one address.
type Found = Result<Arc<Credential>, Doubt>;

/// All certificates of signers that this process knows.
pub(super) struct Certificates {
    http: Http,
    trust: Mutex<Option<Arc<Trust>>>,
    shelf: Mutex<HashMap<String, Slot>>,
    fetches: Mutex<JoinSet<()>>,
}

enum Slot {
    Kept {
        found: Found,
        /// Unix milliseconds.
        until: i64,
    },
    Coming(watch::Receiver<Option<Found>>),
}

impl Certificates {
    /// With the roots that a signer's chain must lead to; `None`: nobody is trusted, and nothing is fetched.
    pub(super) fn new(http: Http, trust: Option<Trust>) -> Certificates {
        let trust = Mutex::new(trust.map(Arc::new));
        Certificates { http, trust, shelf: Mutex::default(), fetches: Mutex::default() }
    }

    /// Believes these roots from now on. Whatever was judged by the former ones is fetched and judged again.
    pub(super) fn believe(&self, trust: Option<Trust>) {
        *self.trust.lock().unwrap_or_else(PoisonError::into_inner) = trust.map(Arc::new);
        // Whoever waits for one that is on its way is told that it came to nothing yet.
        self.shelf().clear();
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    fn trust(&self) -> Option<Arc<Trust>> {
        self.trust.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The credential at an address. A caller is on the line: after [`limits::STIR_WAIT_MAX`] the answer is that there is
    /// none yet, and what comes later serves the next call.
    ///
    /// # Errors
    /// The verdict on whoever relies on it.
    pub(super) async fn find(self: &Arc<Self>, url: &str) -> Result<Arc<Credential>, Verdict> {
        if self.trust().is_none() {
            return Err(Verdict::Unknown(Gap::NoTrustList));
        }
        let mut coming = match self.look_up(url) {
            Some(Slot::Kept { found, .. }) => return found.map_err(Verdict::Failed),
            Some(Slot::Coming(coming)) => coming,
            None => return Err(Verdict::Unknown(Gap::Busy)),
        };
        let arrived = timeout(limits::STIR_WAIT_MAX, coming.wait_for(Option::is_some)).await;
        match arrived {
            Ok(Ok(found)) => found.clone().unwrap_or(Err(Doubt::CertificateUnreachable)).map_err(Verdict::Failed),
            // Late, or the fetch broke.
            Ok(Err(_)) | Err(_) => Err(Verdict::Unknown(Gap::Timeout)),
        }
    }

    /// What stands on the shelf, or is now on its way; `None` when too many are.
    fn look_up(self: &Arc<Self>, url: &str) -> Option<Slot> {
        let now = unix_ms();
        let mut shelf = self.shelf();
        match shelf.get(url) {
            Some(Slot::Kept { found, until }) if *until > now => {
                return Some(Slot::Kept { found: found.clone(), until: *until });
            }
            // One whose fetch broke is fetched again.
            Some(Slot::Coming(coming)) if coming.has_changed().is_ok() => return Some(Slot::Coming(coming.clone())),
            Some(Slot::Kept { .. } | Slot::Coming(_)) | None => {}
        }
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = fetches.try_join_next() {
            if ended.is_err_and(|error| error.is_panic()) {
                counter!("ringback_task_panics_total").increment(1);
            }
        }
        if fetches.len() >= limits::STIR_FETCHES_MAX {
            return None;
        }
        make_room(&mut shelf, now);
        let (tell, coming) = watch::channel(None);
        shelf.insert(url.to_owned(), Slot::Coming(coming.clone()));
        let (certificates, url) = (Arc::clone(self), url.to_owned());
        fetches.spawn(async move {
            let trust = certificates.trust();
            let (found, kept) = certificates.fetch(&url, trust.as_deref()).await;
            let result = found.as_ref().map_or_else(|doubt| doubt.label(), |_| "fetched");
            counter!("ringback_identity_fetches_total", "result" => result).increment(1);
            let until = unix_ms().saturating_add(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
            let mut shelf = certificates.shelf();
            // Looked at under the lock that `believe` needs next: nothing judged by former roots stays.
            if trust.as_ref().map(Arc::as_ptr) == certificates.trust().as_ref().map(Arc::as_ptr) {
                shelf.insert(url, Slot::Kept { found: found.clone(), until });
            }
            drop(shelf);
            tell.send_replace(Some(found));
        });
        Some(Slot::Coming(coming))
    }

    fn shelf(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate, and for how long to keep it, or that there is none.
    async fn fetch(&self, url: &str, trust: Option<&Trust>) -> (Found, Duration) {
        let refused = |doubt| (Err(doubt), limits::STIR_REFUSED_KEPT);
        let Some(trust) = trust else { return refused(Doubt::Untrusted) };
        // RFC 8225 §5.1.3 wants https. In a laboratory, an origin that the admin listed as http will do.
        let is_secure = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        if !is_secure && !self.http.lists(url) {
            return refused(Doubt::CertificateAddress);
        }
        let exchange = Exchange {
            method: Method::Get,
            url: Pii::new(url.to_owned()),
            headers: HeaderMap::new(),
            body: None,
            timeout: limits::STIR_FETCH_MAX,
            body_max: limits::STIR_CERTIFICATE_LEN_MAX,
        };
        let answer = match self.http.exchange(exchange).await {
            Ok(answer) if answer.is_success() && answer.is_whole => answer,
            Ok(_) | Err(_) => return refused(Doubt::CertificateUnreachable),
        };
        match stir::credential(&answer.body, trust, unix_ms().div_euclid(1000)) {
            Ok(credential) => (Ok(Arc::new(credential)), kept(&answer.headers)),
            Err(doubt) => refused(doubt),
        }
    }
}

/// Room for one more: what is stale goes, and when nothing is, what would be stale first.
fn make_room(shelf: &mut HashMap<String, Slot>, now: i64) {
    if shelf.len() < limits::STIR_CERTIFICATES_MAX {
        return;
    }
    shelf.retain(|_, slot| match slot {
        Slot::Kept { until, .. } => *until > now,
        Slot::Coming(_) => true,
    });
    while shelf.len() >= limits::STIR_CERTIFICATES_MAX {
        let first = shelf.iter().filter_map(|(url, slot)| match slot {
            Slot::Kept { until, .. } => Some((*until, url)),
            Slot::Coming(_) => None,
        });
        let Some(url) = first.min().map(|(_, url)| url.clone()) else { return };
        shelf.remove(&url);
    }
}

/// How long an answer may be kept (RFC 9111 §5.2.2), within our own bounds. The chain's own dates hold beside it: they
/// are looked at for every call.
fn kept(headers: &HeaderMap) -> Duration {
    let said = headers.get(CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut kept = limits::STIR_KEPT;
    for directive in said.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return limits::STIR_KEPT_MIN,
            "max-age" => {
                if let Ok(seconds) = value.trim_matches('"').parse() {
                    kept = Duration::from_secs(seconds);
                }
            }
            // The others are for caches that many share.
            _ => {}
        }
    }
    kept.clamp(limits::STIR_KEPT_MIN, limits::STIR_KEPT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_as_its_server_says_within_bounds() {
        for (said, seconds) in [
            ("", 3_600),
            ("max-age=600", 600),
            ("public, Max-Age=\"7200\"", 7_200),
            ("max-age=1", 60),
            ("max-age=31536000", 86_400),
            ("max-age=99999999999999999999", 3_600),
            ("no-store", 60),
        ] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, said.parse().unwrap())]);

            assert_eq!(kept(&headers).as_secs(), seconds, "{said}");
        }
    }

    #[test]
    fn a_full_shelf_loses_what_would_be_stale_first() {
        let slot = |until| Slot::Kept { found: Err(Doubt::Untrusted), until };
        let full = |first: i64| -> HashMap<String, Slot> {
            (0..limits::STIR_CERTIFICATES_MAX as i64).map(|n| (n.to_string(), slot(first + n))).collect()
        };
        let (mut stale, mut fresh) = (full(-5), full(100));

        make_room(&mut stale, 0);
        make_room(&mut fresh, 0);

        assert_eq!(stale.len(), limits::STIR_CERTIFICATES_MAX - 6);
        assert_eq!(fresh.len(), limits::STIR_CERTIFICATES_MAX - 1);
        assert!(!fresh.contains_key("0"));
    }
}
