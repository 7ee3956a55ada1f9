//! Telephone numbers as peers write them, and as we do: `+` and the digits of E.164.
//!
//! The plan of each country (its code, its prefixes for calls abroad and within, the shapes of its numbers) is that of
//! libphonenumber, read once and compiled once per country. The reading itself is our own, because a number on a trunk
//! is not text from a form: it holds no words, it may be any garbage, and it is better left alone than guessed at.
//! Start at [`normalise`] and [`written`].

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use phonenumber::metadata::{DATABASE, Metadata};
use regex::{Regex, RegexBuilder};

use super::NumberFormat;
use crate::model::limits;

/// The numbering plan of one country.
#[derive(Debug)]
pub struct Country {
    /// ISO 3166-1 alpha-2.
    pub id: String,
    /// What is dialled behind `+`: `39`.
    pub code: String,
    /// Prefixes for calls abroad.
    abroad: Option<Regex>,
    /// The one to write.
    abroad_written: String,
    /// What stands before a number within the country.
    trunk: Option<Regex>,
    /// With groups of `trunk`, what takes the place of a whole match.
    trunk_becomes: Option<String>,
    trunk_written: String,
    /// Shapes of numbers without any prefix.
    general: Regex,
    ordinary: Vec<Regex>,
}

impl Country {
    /// The plan of a country by its two capital letters; `None` when there is no such country.
    pub fn of(id: &str) -> Option<Arc<Country>> {
        static PLANS: LazyLock<Mutex<BTreeMap<String, Arc<Country>>>> = LazyLock::new(Mutex::default);
        let metadata = DATABASE.by_id(id)?;
        // Bounded by the number of countries there are.
        let mut plans = PLANS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(id) {
            return Some(Arc::clone(plan));
        }
        let plan = Arc::new(Country::compile(metadata)?);
        plans.insert(id.to_owned(), Arc::clone(&plan));
        Some(plan)
    }

    /// The main country of a code: `1` is the United States.
    fn of_code(code: &str) -> Option<Arc<Country>> {
        let regions = DATABASE.region(&code.parse::<u16>().ok()?)?;
        Country::of(regions.first()?)
    }

    /// The countries that share a code: `+1` has some twenty.
    fn sharing(code: &str) -> Vec<Arc<Country>> {
        let regions = code.parse::<u16>().ok().and_then(|code| DATABASE.region(&code)).unwrap_or_default();
        regions.into_iter().filter_map(Country::of).collect()
    }

    fn compile(plan: &Metadata) -> Option<Country> {
        let whole = |pattern: &str| shape(&format!("^(?:{pattern}\n)$"));
        let head = |pattern: &str| shape(&format!("^(?:{pattern}\n)"));
        let kinds = plan.descriptors();
        let ordinary = [kinds.fixed_line(), kinds.mobile(), kinds.toll_free()];
        let abroad = plan.international_prefix().map(|it| it.as_str().to_owned());
        let abroad_written = match (plan.preferred_international_prefix(), &abroad) {
            (Some(preferred), _) => preferred.replace('~', ""),
            (None, Some(only)) if is_digits(only) => only.clone(),
            // A country where every carrier has its own; the one that most others have.
            _ => "00".to_owned(),
        };
        let trunk = match (plan.national_prefix_for_parsing(), plan.national_prefix()) {
            (Some(pattern), _) => head(pattern.as_str()),
            (None, Some(prefix)) if is_digits(prefix) => head(prefix),
            (None, _) => None,
        };
        Some(Country {
            id: plan.id().to_owned(),
            code: plan.country_code().to_string(),
            abroad: abroad.and_then(|pattern| head(&pattern)),
            abroad_written,
            trunk,
            trunk_becomes: plan.national_prefix_transform_rule().map(str::to_owned),
            trunk_written: plan.national_prefix().filter(|it| is_digits(it)).unwrap_or_default().to_owned(),
            general: whole(kinds.general().national_number().as_str())?,
            ordinary: ordinary
                .into_iter()
                .flatten()
                .filter_map(|kind| whole(kind.national_number().as_str()))
                .collect(),
        })
    }

    /// A number as dialled within the country, without the prefix; `None` when it is none, or a short one.
    fn national(&self, digits: &str) -> Option<String> {
        let bare = self.without_trunk(digits);
        // A number that is one as it stands is not cut: `0…` of Italy, `800…` of Russia.
        [bare.as_deref(), Some(digits)].into_iter().flatten().find(|it| self.is_number(it)).map(str::to_owned)
    }

    fn without_trunk(&self, digits: &str) -> Option<String> {
        let found = self.trunk.as_ref()?.captures(digits)?;
        let whole = found.get(0).filter(|whole| !whole.is_empty())?;
        let last = found.iter().skip(1).last().flatten();
        match (&self.trunk_becomes, last) {
            (Some(rule), Some(_)) => {
                let mut written = String::new();
                found.expand(rule, &mut written);
                Some(written + &digits[whole.end()..])
            }
            _ => Some(digits[whole.end()..].to_owned()),
        }
    }

    /// Whether it is a subscriber's number without any prefix. Short numbers of services are not.
    fn is_number(&self, national: &str) -> bool {
        let is_ordinary = || self.ordinary.iter().any(|kind| kind.is_match(national));
        self.general.is_match(national) && (national.len() >= NATIONAL_LEN_MIN || is_ordinary())
    }
}

/// Below this, a number counts only when it is somebody's telephone: `116117` and `892424` are services, dialled as
/// they stand, while some islands have telephones of four digits.
const NATIONAL_LEN_MIN: usize = 7;

/// A pattern of the plans; they are written over several lines, and of ASCII digits.
fn shape(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).ignore_whitespace(true).unicode(false).build().ok()
}

/// A number as a peer of this country wrote it, in E.164 with `+` where it is one. What is not, a short code, a name, or
/// garbage, stays as it was written, without the parameters of a `tel:` number.
///
/// With a `prefix`, the peer may have written a technical prefix before it.
pub fn normalise(written: &str, country: Option<&Country>, prefix: &str) -> String {
    if written.len() > limits::NUMBER_LEN_MAX {
        return written.to_owned();
    }
    let (subscriber, context) = parts(written);
    let Some(plain) = plain(subscriber) else { return subscriber.to_owned() };
    let read = |digits: &str| read(digits, country, context);
    read(&plain)
        .or_else(|| {
            let rest = plain.strip_prefix(prefix).filter(|_| !prefix.is_empty())?;
            read(rest)
        })
        .unwrap_or_else(|| subscriber.to_owned())
}

/// A number as it is written towards a peer of this country. What is no number of E.164 stays as it is.
pub fn written(number: &str, format: NumberFormat, country: Option<&Country>) -> String {
    if format == NumberFormat::AsIs {
        return number.to_owned();
    }
    let number = normalise(number, country, "");
    let Some(digits) = number.strip_prefix('+').filter(|digits| is_digits(digits)) else { return number };
    match (format, country) {
        (NumberFormat::AsIs | NumberFormat::Plus, _) => number,
        (NumberFormat::National, Some(home)) => match digits.strip_prefix(&home.code) {
            Some(national) => format!("{}{national}", home.trunk_written),
            None => format!("{}{digits}", home.abroad_written),
        },
        (NumberFormat::International, Some(home)) => format!("{}{digits}", home.abroad_written),
        (NumberFormat::Digits | NumberFormat::National | NumberFormat::International, _) => digits.to_owned(),
    }
}

/// Whether a number is written as E.164 with `+`.
pub fn is_e164(number: &str) -> bool {
    number.strip_prefix('+').is_some_and(|digits| is_digits(digits) && E164_LEN.contains(&digits.len()))
}

/// ITU-T E.164 §6.2.1 allows 15 digits; no country has numbers below seven with its code.
const E164_LEN: std::ops::RangeInclusive<usize> = 7..=15;

/// The number itself, and the global context of a `tel:` number (RFC 3966 §5.1.5), without `+`.
fn parts(written: &str) -> (&str, Option<&str>) {
    let written = written.trim();
    let number = match written.split_once(':') {
        Some((scheme, rest)) if ["tel", "sip", "sips"].iter().any(|it| it.eq_ignore_ascii_case(scheme)) => {
            rest.split('@').next().unwrap_or_default()
        }
        _ => written,
    };
    let mut pieces = number.split(';');
    let subscriber = pieces.next().unwrap_or_default();
    // `ext`, `isub`, `npdi`, `rn` and `cic` (RFC 4694) say nothing about who it is.
    let context = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.eq_ignore_ascii_case("phone-context").then_some(value)
    });
    (subscriber, context.and_then(|context| context.strip_prefix('+')).filter(|digits| is_digits(digits)))
}

/// The digits, with `+` before them where it was, and without what only people need; `None` when it holds anything else.
fn plain(subscriber: &str) -> Option<String> {
    let mut plain = String::with_capacity(subscriber.len());
    // A zero that is dialled at home only: +44 (0)20.
    let subscriber = match subscriber.trim_start().starts_with('+') {
        true => subscriber.replacen("(0)", "", 1),
        false => subscriber.to_owned(),
    };
    for letter in subscriber.chars() {
        match letter {
            '0'..='9' => plain.push(letter),
            '+' if plain.is_empty() => plain.push(letter),
            ' ' | '-' | '.' | '(' | ')' | '/' => {}
            _ => return None,
        }
    }
    plain.bytes().any(|b| b.is_ascii_digit()).then_some(plain)
}

fn read(plain: &str, country: Option<&Country>, context: Option<&str>) -> Option<String> {
    if let Some(digits) = plain.strip_prefix('+') {
        return global(digits);
    }
    if let Some(context) = context {
        // The context is a country's code, or a longer beginning of the number.
        return match Country::of_code(context) {
            Some(home) => home.national(plain).and_then(|national| global(&format!("{context}{national}"))),
            None => global(&format!("{context}{plain}")),
        };
    }
    let home = country?;
    let abroad = home.abroad.as_ref().and_then(|prefix| prefix.find(plain)).filter(|found| !found.is_empty());
    if let Some(number) = abroad.and_then(|found| global(&plain[found.end()..])) {
        return Some(number);
    }
    if let Some(national) = home.national(plain) {
        return global(&format!("{}{national}", home.code));
    }
    // E.164 without its `+`, as many carriers write it: believed when it is a number of the country it names.
    let code = code_of(plain)?;
    let national = &plain[code.len()..];
    let is_number = |country: &Arc<Country>| country.is_number(national);
    Country::sharing(code).iter().any(is_number).then(|| global(plain)).flatten()
}

/// Digits of E.164 with a country's code that exists, with `+`.
fn global(digits: &str) -> Option<String> {
    (E164_LEN.contains(&digits.len()) && code_of(digits).is_some()).then(|| format!("+{digits}"))
}

/// The country's code at the beginning; codes are free of prefixes, so at most one fits.
fn code_of(digits: &str) -> Option<&str> {
    (1..=3)
        .filter_map(|len| digits.get(..len))
        .find(|code| !code.starts_with('0') && code.parse::<u16>().is_ok_and(|code| DATABASE.region(&code).is_some()))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(country: &str, written: &str) -> String {
        normalise(written, Country::of(country).as_deref(), "")
    }

    #[test]
    fn numbers_of_a_country_become_e164_however_they_are_dialled() {
        let cases = [
            ("FR", "06 12 34 56 78", "+33612345678"),
            ("FR", "0033612345678", "+33612345678"),
            ("FR", "33612345678", "+33612345678"),
            ("FR", "+33 6 12 34 56 78", "+33612345678"),
            ("IT", "02 1234 5678", "+390212345678"),
            ("IT", "390212345678", "+390212345678"),
            ("IT", "3401234567", "+393401234567"),
            ("IT", "0039 340 123 4567", "+393401234567"),
            ("IT", "800123456", "+39800123456"),
            ("US", "2125550123", "+12125550123"),
            ("US", "1-212-555-0123", "+12125550123"),
            ("US", "011442079460000", "+442079460000"),
            ("US", "442079460000", "+442079460000"),
            ("GB", "020 7946 0000", "+442079460000"),
            ("GB", "+44 (0)20 7946 0000", "+442079460000"),
            ("RU", "8 (495) 123-45-67", "+74951234567"),
            ("RU", "810390212345678", "+390212345678"),
            ("HU", "0612345678", "+3612345678"),
            ("AR", "011 15 2345-6789", "+5491123456789"),
            ("BR", "0 21 11 2345-6789", "+551123456789"),
        ];
        for (country, written, expected) in cases {
            assert_eq!(from(country, written), expected, "{written} in {country}");
        }
    }

    #[test]
    fn parameters_say_nothing_about_who_it_is() {
        assert_eq!(from("IT", "+390212345678;npdi;rn=+39021"), "+390212345678");
        assert_eq!(from("IT", "tel:+39-02-1234-5678;isub=12"), "+390212345678");
        assert_eq!(from("IT", "tel:020-7946-0000;phone-context=+44"), "+442079460000");
        assert_eq!(from("IT", "0212345678;phone-context=carrier.example"), "+390212345678");
        assert_eq!(from("US", "sip:+390212345678;ext=5@10.0.0.1"), "+390212345678");
        assert_eq!(normalise("tel:7946-0000;phone-context=+4420", None, ""), "+442079460000");
    }

    #[test]
    fn what_is_no_number_of_a_subscriber_is_left_alone() {
        for written in
            ["112", "1170", "116117", "*31#", "desk-1", "anonymous", "", "+", "+0012345678", "++39", "+999123456789"]
        {
            assert_eq!(from("IT", written), written);
        }
        assert_eq!(from("US", "911"), "911");
        assert_eq!(from("US", "5550123"), "5550123");
        assert_eq!(from("IT", "0".repeat(200).as_str()), "0".repeat(200));
        assert_eq!(from("IT", "+3902123456789012"), "+3902123456789012", "16 digits");
        assert_eq!(normalise("0212345678", None, ""), "0212345678");
        assert_eq!(normalise("00390212345678", None, ""), "00390212345678");
    }

    #[test]
    fn a_technical_prefix_is_taken_off_where_a_number_follows() {
        let italy = Country::of("IT");
        let read = |written| normalise(written, italy.as_deref(), "9977");

        assert_eq!(read("9977390212345678"), "+390212345678");
        assert_eq!(read("99770212345678"), "+390212345678");
        assert_eq!(read("9977"), "9977");
        assert_eq!(read("0212345678"), "+390212345678");
    }

    #[test]
    fn numbers_are_written_as_the_peer_wants_them() {
        let (italy, us, britain) = (Country::of("IT"), Country::of("US"), Country::of("GB"));
        let it = |format| written("+390212345678", format, italy.as_deref());

        assert_eq!(it(NumberFormat::Plus), "+390212345678");
        assert_eq!(it(NumberFormat::Digits), "390212345678");
        assert_eq!(it(NumberFormat::National), "0212345678");
        assert_eq!(it(NumberFormat::International), "00390212345678");
        assert_eq!(written("02 1234 5678", NumberFormat::Digits, italy.as_deref()), "390212345678");
        assert_eq!(written("02 1234 5678", NumberFormat::AsIs, italy.as_deref()), "02 1234 5678");
        assert_eq!(written("+442079460000", NumberFormat::National, britain.as_deref()), "02079460000");
        assert_eq!(written("+442079460000", NumberFormat::National, us.as_deref()), "011442079460000");
        assert_eq!(written("112", NumberFormat::Plus, italy.as_deref()), "112");
        assert_eq!(written("+390212345678", NumberFormat::Digits, None), "390212345678");
    }

    #[test]
    fn every_country_has_a_plan() {
        let without: Vec<&str> =
            DATABASE.iter().map(Metadata::id).filter(|id| id.len() == 2 && Country::of(id).is_none()).collect();

        assert_eq!(without, Vec::<&str>::new());
        assert!(Country::of("ZZ").is_none() && Country::of("it").is_none() && Country::of("").is_none());
    }

    #[test]
    fn reading_a_number_takes_no_time_that_a_call_would_notice() {
        let italy = Country::of("IT");
        let texts = ["0212345678", "+390212345678", "0044 20 7946 0000", "442079460000", "desk", "116117"];
        #[allow(clippy::disallowed_methods, reason = "this measures")]
        let began = std::time::Instant::now();

        let read: usize = (0..600).map(|n| normalise(texts[n % texts.len()], italy.as_deref(), "").len()).sum();

        assert!(read > 0);
        // A millisecond each, in a test build on a busy machine: a pattern that is compiled on every call takes longer.
        assert!(began.elapsed().as_millis() < 600, "{:?}", began.elapsed());
    }

    proptest! {
        #[test]
        fn any_text_can_be_read_and_what_is_a_number_stays_one(text in "\\PC{0,40}", at in 0..6_usize) {
            let country = ["IT", "US", "AR", "BR", "JP", "SM"][at];
            let once = from(country, &text);
            prop_assert!(!is_e164(&once) || from(country, &once) == once);
        }

        #[test]
        fn any_digits_can_be_read_and_written(text in "[+]?[0-9*#(). -]{0,24}(;[a-z=+0-9]{0,12})?", at in 0..6_usize) {
            let country = Country::of(["IT", "US", "AR", "BR", "JP", "SM"][at]);
            let read = normalise(&text, country.as_deref(), "99");
            for format in [NumberFormat::Plus, NumberFormat::Digits, NumberFormat::National, NumberFormat::International] {
                let shown = written(&read, format, country.as_deref());
                prop_assert!(shown.len() <= text.len() + 8);
            }
        }
    }
}
