//! What a trusted trunk found out for us: `verstat` (3GPP TS 24.229 §7.2A.20) and its companions.

use crate::model::{Attestation, Doubt, Verdict, Verification, Via, limits};

/// Where a trunk may have written its result. The caller's own words look the same, so it counts from trusted trunks only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// The URIs that name the caller who is shown; a result in others is about somebody else.
    pub uris: &'a [String],
    /// A header that bears the result by itself, as `TN-Validation-Passed-A`.
    pub header: Option<&'a str>,
    /// `P-Attestation-Indicator`.
    pub attestation: Option<&'a str>,
    /// `P-Origination-ID`.
    pub origination_id: Option<&'a str>,
}

/// What the trunk says; `None` when it says nothing.
pub fn told(told: &Told<'_>) -> Option<Verification> {
    let in_uris = told.uris.iter().find_map(|uri| parameter(uri));
    let (verdict, attestation) = told.header.or(in_uris).and_then(result)?;
    let indicated = told.attestation.and_then(|text| Attestation::of(text.trim()));
    let is_passed = verdict == Verdict::Passed;
    let id = told.origination_id.map(str::trim).filter(|id| {
        !id.is_empty() && id.len() <= limits::VAR_NAME_LEN_MAX && id.bytes().all(|octet| octet.is_ascii_graphic())
    });
    Some(Verification {
        verdict,
        // An attestation of a number that failed would only be misread.
        attestation: attestation.or(indicated).filter(|_| is_passed),
        origination_id: id.map(str::to_owned),
        via: Via::Verstat,
    })
}

/// It is a parameter of the number, so it stands in a SIP URI's user part; some write it behind the host.
fn parameter(uri: &str) -> Option<&str> {
    let parts = uri.split([';', '@', '?', '>']);
    parts
        .filter_map(|part| part.split_once('='))
        .find_map(|(name, value)| name.trim().eq_ignore_ascii_case("verstat").then_some(value.trim()))
}

fn result(text: &str) -> Option<(Verdict, Option<Attestation>)> {
    let text = text.trim();
    let (word, attestation) = match text.rsplit_once('-') {
        Some((word, letter)) if letter.len() == 1 => (word, Attestation::of(letter)),
        _ => (text, None),
    };
    let verdict = match word.to_ascii_lowercase().as_str() {
        "tn-validation-passed" => Verdict::Passed,
        "tn-validation-failed" => Verdict::Failed(Doubt::ToldByTrunk),
        "no-tn-validation" => Verdict::Missing,
        _ => return None,
    };
    Some((verdict, attestation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Option<Verification> {
        told(&Told { uris: &[text.to_owned()], ..Told::default() })
    }

    #[test]
    fn a_result_stands_in_the_number_or_behind_the_host() {
        let passed = Some(Verification::bare(Verdict::Passed, Via::Verstat));

        assert_eq!(uri("tel:+12155551212;verstat=TN-Validation-Passed"), passed);
        assert_eq!(uri("sip:+12155551212;Verstat=TN-Validation-Passed@carrier.example;user=phone"), passed);
        assert_eq!(uri("sip:+12155551212@carrier.example;user=phone;verstat=TN-Validation-Passed"), passed);
        assert_eq!(uri("sip:verstat=TN-Validation-Passed"), None);
        assert_eq!(uri("tel:+12155551212;verstat=Sure"), None);
        assert_eq!(uri("tel:+12155551212"), None);
    }

    #[test]
    fn the_letter_comes_with_the_word_or_beside_it() {
        let by_header = told(&Told { header: Some(" TN-Validation-Passed-B "), ..Told::default() }).unwrap();
        let beside = told(&Told {
            uris: &["tel:+1".to_owned(), "tel:+1;verstat=TN-Validation-Passed".to_owned()],
            attestation: Some("C"),
            origination_id: Some("6c1a8e6c-6d3d-4a3f-8d2a-3f1a2b3c4d5e"),
            ..Told::default()
        })
        .unwrap();

        assert_eq!((by_header.verdict, by_header.attestation), (Verdict::Passed, Some(Attestation::B)));
        assert_eq!(beside.attestation, Some(Attestation::C));
        assert_eq!(beside.origination_id.as_deref(), Some("6c1a8e6c-6d3d-4a3f-8d2a-3f1a2b3c4d5e"));
    }

    #[test]
    fn a_failure_has_no_attestation() {
        let failed = told(&Told { header: Some("TN-Validation-Failed-A"), ..Told::default() }).unwrap();

        assert_eq!(failed, Verification::bare(Verdict::Failed(Doubt::ToldByTrunk), Via::Verstat));
        assert_eq!(uri("tel:+1;verstat=No-TN-Validation").unwrap().verdict, Verdict::Missing);
    }
}
