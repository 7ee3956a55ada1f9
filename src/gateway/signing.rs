//! Our own signature on calls that we place.

use metrics::counter;
use tracing::warn;

use super::clock::unix_ms;
use super::house::House;
use crate::model::{Address, Attestation, Pii};
use crate::sip::Dial;
use crate::stir::{SigningKey, Statement, sign};
use crate::trunk::numbers::{Country, normalise};
use crate::trunk::{Signing, Trunk};

/// Adds `Date` and `Identity` to a call, when the trunk signs and both sides are numbers. A call that cannot be signed
/// goes out without: whoever is called sees it unsigned, and that is counted.
pub(super) fn signed(house: &House, trunk: &Trunk, to: &Address, mut dial: Dial) -> Dial {
    let Some(rules) = &trunk.identity.sign else { return dial };
    let (Address::Number(called), Some(key)) = (to, key(house, trunk, rules)) else {
        counter!("ringback_calls_signed_total", "result" => "not_signed").increment(1);
        return dial;
    };
    let country = trunk.country.as_deref().and_then(Country::of);
    let normal = |number: &str| normalise(number, country.as_deref(), "");
    // Whoever checks it compares with P-Asserted-Identity where there is one (RFC 8224 §6.2 step 2 leaves it to policy, and
    // carriers do).
    let policy = trunk.outbound.as_ref().map(|outbound| &outbound.caller);
    let asserted = policy.filter(|policy| policy.asserts).and_then(|policy| policy.number.as_deref());
    let headers = sign(
        &key,
        &Statement {
            caller: &normal(asserted.unwrap_or(dial.from_user.reveal())),
            called: &normal(called),
            attestation: Attestation::of(rules.attestation.encode_utf8(&mut [0; 4])).unwrap_or(Attestation::C),
            origination_id: &rules.origination_id,
            certificate_url: &rules.certificate_url,
            issued: unix_ms().div_euclid(1000),
        },
    );
    let result = if headers.is_some() { "signed" } else { "not_signed" };
    counter!("ringback_calls_signed_total", "result" => result).increment(1);
    dial.headers.extend(headers.into_iter().flatten().map(|(name, value)| (name.to_owned(), Pii::new(value))));
    dial
}

/// Read anew for each call, so that a key that was replaced is in force at once; it takes 0.1 ms.
fn key(house: &House, trunk: &Trunk, rules: &Signing) -> Option<SigningKey> {
    let pem = house.secrets.get(&rules.key);
    let key = pem.and_then(|pem| SigningKey::from_pem(&pem).ok());
    if key.is_none() {
        warn!(trunk = trunk.id, "the key for signing callers' identities is missing; calls go out unsigned");
    }
    key
}
