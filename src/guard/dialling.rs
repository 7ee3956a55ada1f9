//! Which numbers and addresses may be dialled out: the guard against toll fraud.
//!
//! Fraud works by making somebody else's gateway dial numbers that earn money: premium ranges, satellites, countries that
//! nobody here ever calls. A voice agent dials what it is told to, so the number is judged, never the one who asked for it.
//! Start at [`judge`].

use std::fmt;

use phonenumber::metadata::DATABASE;
use phonenumber::{Metadata, Mode, country};

use crate::model::Address;
use crate::trunk::{self, Dialling, Trunk};

/// Somebody is to be dialled.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Whom.
    pub to: &'a Address,
    /// An admin wrote this very address; it did not come from a variable, a header or an agent's argument.
    pub is_written: bool,
    /// The trunk that would carry it; `None` when there is none, as for a SIP URI dialled directly.
    pub trunk: Option<&'a Trunk>,
}

/// What may be dialled, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// An emergency number; no quota may stand in its way.
    Emergency,
    /// A number.
    Number {
        /// As `+442079460000`; `None` when it is a short code, an extension, or of an unknown country.
        e164: Option<String>,
        /// ISO 3166-1 alpha-2, when it could be told.
        country: Option<String>,
    },
    /// A SIP URI, dialled without a trunk.
    Uri,
    /// A SIP URI at the trunk's own host that asks for no number: a call of the trunk's all the same.
    Home,
}

/// Why something may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No trunk, or one without `[outbound]`.
    NoTrunk,
    /// `*` and `#` switch features on and off at exchanges, forwarding among them.
    NotPlain,
    /// No number of any plan we know, and no admin wrote it.
    NoNumber,
    /// A prefix that is refused.
    RefusedPrefix,
    /// A country that is not on the list.
    Country,
    /// Premium-rate, shared-cost, personal and satellite numbers.
    Premium,
    /// A short code that is not on the list.
    ShortCode,
    /// A SIP URI at a host that is not on the list.
    Host,
    /// One of our own numbers: the call would come back to us.
    OwnNumber,
    /// The trunk's minutes of the day are used up.
    Minutes,
    /// The trunk's money of the day is spent.
    Spend,
    /// The trunk's money is counted, and nobody said what this number costs.
    NoPrice,
    /// The agent's calls of the hour are used up.
    AgentHour,
    /// The trunk has as many calls as it may.
    Calls,
    /// The trunk had as many new calls in this second as it may.
    CallsPerSecond,
}

impl Rule {
    /// The name in metrics and records.
    pub fn label(self) -> &'static str {
        match self {
            Rule::NoTrunk => "no_trunk",
            Rule::NotPlain => "not_plain",
            Rule::NoNumber => "no_number",
            Rule::RefusedPrefix => "refused_prefix",
            Rule::Country => "country",
            Rule::Premium => "premium",
            Rule::ShortCode => "short_code",
            Rule::Host => "host",
            Rule::OwnNumber => "own_number",
            Rule::Minutes => "minutes_per_day",
            Rule::Spend => "spend_per_day",
            Rule::NoPrice => "no_price",
            Rule::AgentHour => "calls_per_agent_hour",
            Rule::Calls => "trunk_calls",
            Rule::CallsPerSecond => "trunk_calls_per_second",
        }
    }

    /// What an admin who wants the call does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Rule::NoTrunk => "write [outbound] in the trunk that the call came by",
            Rule::NotPlain => "write the number in the action itself, or in prefixes under [outbound.allow]",
            Rule::NoNumber => "check the number; if it is right, add it to prefixes under [outbound.allow]",
            Rule::RefusedPrefix => "take the prefix out of refused under [outbound.allow]",
            Rule::Country => "add the country to countries under [outbound.allow]",
            Rule::Premium => "add the whole number to prefixes under [outbound.allow], or write premium = true there",
            Rule::ShortCode => "add the short code to prefixes under [outbound.allow]",
            Rule::Host => "add the host to hosts under [outbound.allow]",
            Rule::OwnNumber => "lead the caller to the other agent by a route instead of dialling ourselves",
            Rule::Minutes => "raise minutes_per_day under [limits] of the trunk",
            Rule::Spend => "raise spend_per_day under [limits] of the trunk",
            Rule::NoPrice => "add its prefix, or one of \"\" for all others, to [[outbound.price]]",
            Rule::AgentHour => "raise calls_per_agent_hour under [limits] of the trunk",
            Rule::Calls => "raise calls under [limits] of the trunk, as far as the peer agrees",
            Rule::CallsPerSecond => "raise calls_per_second under [limits] of the trunk, as far as the peer agrees",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::NoTrunk => "no trunk carries the number",
            Rule::NotPlain => "a number with * or # came from a variable",
            Rule::NoNumber => "this is no telephone number",
            Rule::RefusedPrefix => "the number begins with a refused prefix",
            Rule::Country => "the number's country is not allowed",
            Rule::Premium => "premium-rate, shared-cost, personal and satellite numbers are not allowed",
            Rule::ShortCode => "the short code is not allowed",
            Rule::Host => "SIP addresses at this host are not allowed",
            Rule::OwnNumber => "this is one of our own numbers",
            Rule::Minutes => "the trunk's minutes of the day are used up",
            Rule::Spend => "the trunk's money of the day is spent",
            Rule::NoPrice => "the trunk's money is counted, and the number's price is not known",
            Rule::AgentHour => "the agent's calls of the hour are used up",
            Rule::Calls => "the trunk has as many calls as it may",
            Rule::CallsPerSecond => "the trunk had as many new calls in this second as it may",
        })
    }
}

/// Judges one attempt by the trunk's rules; how much was dialled already is the [`super::Ledger`]'s affair.
///
/// In this order: what is refused by name is refused; emergency numbers pass; what is listed whole passes; then a number
/// must be of a known plan, not premium, and of an allowed country. Without `countries` only the trunk's own country is
/// allowed, and every one when it has none.
///
/// # Errors
/// The rule that stands in the way.
pub fn judge(attempt: Attempt<'_>) -> Result<Allowed, Rule> {
    match (attempt.to, attempt.trunk) {
        (Address::Uri(uri), trunk) => {
            let outbound = trunk.and_then(|trunk| trunk.outbound.as_ref());
            let hosts = outbound.map(|outbound| outbound.dialling.hosts.as_slice()).unwrap_or_default();
            // An admin who writes sip:desk@pbx.example into an action knows whom he means.
            if !attempt.is_written && !is_at(uri, hosts) {
                return Err(Rule::Host);
            }
            let Some((trunk, outbound)) = trunk.zip(outbound).filter(|(_, outbound)| outbound.is_home_of(uri)) else {
                return Ok(Allowed::Uri);
            };
            // It goes out by the trunk and with its password: a number in it is dialled like any other.
            match number_of(trunk, attempt.to) {
                Some(number) => {
                    number_allowed(&number, attempt.is_written, trunk.country.as_deref(), &outbound.dialling)
                }
                None if outbound.asked_for(uri).is_some_and(|user| user.starts_with(begins_number)) => {
                    Err(Rule::NoNumber)
                }
                None => Ok(Allowed::Home),
            }
        }
        (Address::Number(number), Some(trunk)) => {
            let outbound = trunk.outbound.as_ref().ok_or(Rule::NoTrunk)?;
            number_allowed(number, attempt.is_written, trunk.country.as_deref(), &outbound.dialling)
        }
        (Address::Number(_), None) => Err(Rule::NoTrunk),
    }
}

/// The number that an address asks a trunk for, as it was written; `None` for a SIP URI with a name in it, or at another
/// host.
pub fn number_of(trunk: &Trunk, to: &Address) -> Option<String> {
    let uri = match to {
        Address::Number(number) => return Some(number.clone()),
        Address::Uri(uri) => uri,
    };
    match trunk.outbound.as_ref()?.asked_for(uri)?.parse() {
        Ok(Address::Number(number)) => Some(number),
        Ok(Address::Uri(_)) | Err(_) => None,
    }
}

/// Whoever begins like this wants to be taken for a number by somebody.
fn begins_number(first: char) -> bool {
    first == '+' || first.is_numeric()
}

/// What a number is, seen from a country.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As `+442079460000`.
    pub e164: String,
    /// ISO 3166-1 alpha-2; `None` for numbers that belong to no country, as satellites and `+800`.
    pub country: Option<String>,
    /// Its price class.
    pub class: Class,
}

/// What kind of price a number has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Fixed, mobile, free of charge.
    Plain,
    /// The caller pays more than for a call: premium, shared-cost, personal, paging, satellite.
    Premium,
    /// Of no plan that we know.
    Unknown,
}

/// Reads a number as dialled within a country; `None` when it is none, or when nothing says which country it is of.
pub fn see(number: &str, country: Option<&str>) -> Option<Seen> {
    let id: Option<country::Id> = country.and_then(|country| country.parse().ok());
    let digits = match (number.strip_prefix('+'), id) {
        (Some(digits), _) => digits.to_owned(),
        (None, Some(id)) => {
            let parsed = phonenumber::parse(Some(id), number).ok()?;
            parsed.format().mode(Mode::E164).to_string().trim_start_matches('+').to_owned()
        }
        // The two prefixes for calls abroad that nearly all of the world uses (ITU-T E.164 Annex, operational bulletin).
        (None, None) => number.strip_prefix("00").or_else(|| number.strip_prefix("011")).unwrap_or(number).to_owned(),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (code, national) = split(&digits)?;
    let (country, class) = of_plan(code, national);
    // A bare number of an unknown country is only taken for an international one when it is whole as such.
    let is_guess = id.is_none() && !number.starts_with('+') && digits == number;
    if is_guess && class == Class::Unknown {
        return None;
    }
    Some(Seen { e164: format!("+{digits}"), country, class })
}

/// Reads the numbering plans of the world, which takes some time and happens by itself at the first number otherwise.
pub fn warm() {
    let _ = see("+442079460000", None);
}

fn number_allowed(number: &str, is_written: bool, own: Option<&str>, rules: &Dialling) -> Result<Allowed, Rule> {
    // A short code is of no plan, though in Italy it could be read as one.
    let seen = if is_short(number) { None } else { see(number, own) };
    let e164 = seen.as_ref().map(|seen| seen.e164.clone());
    let e164 = e164.as_deref();
    let begins = |prefix: &String| {
        !prefix.is_empty() && (number.starts_with(prefix.as_str()) || e164.is_some_and(|e164| e164.starts_with(prefix)))
    };
    let is_listed = |listed: &String| listed == number || e164 == Some(listed.as_str());
    if rules.refused.iter().any(begins) {
        return Err(Rule::RefusedPrefix);
    }
    if is_emergency(number, own) {
        return Ok(Allowed::Emergency);
    }
    let allowed = |seen: Option<Seen>| match seen {
        Some(seen) => Ok(Allowed::Number { e164: Some(seen.e164), country: seen.country }),
        None => Ok(Allowed::Number { e164: None, country: None }),
    };
    if rules.prefixes.iter().any(is_listed) {
        return allowed(seen);
    }
    if number.contains(['*', '#']) {
        return if is_written { allowed(None) } else { Err(Rule::NotPlain) };
    }
    if is_short(number) {
        // Towards a PBX short numbers are its extensions; towards a carrier they are services, some of them dear.
        let is_extension = own.is_none() && rules.countries.is_empty();
        let is_listed = rules.prefixes.iter().any(|prefix| !prefix.is_empty() && number.starts_with(prefix.as_str()));
        return if is_extension || is_listed || is_written { allowed(None) } else { Err(Rule::ShortCode) };
    }
    let Some(seen) = seen else {
        // Bare digits, and no country to read them by.
        let may_guess = own.is_none() && rules.countries.is_empty();
        return if may_guess { allowed(None) } else { Err(Rule::NoNumber) };
    };
    match seen.class {
        Class::Premium if !rules.premium => return Err(Rule::Premium),
        // Unallocated ranges earn money as well, for whoever announces them; an admin may know a range that we do not.
        Class::Unknown if !is_written && !rules.prefixes.iter().any(begins) => return Err(Rule::NoNumber),
        Class::Plain | Class::Premium | Class::Unknown => {}
    }
    let is_country_allowed = match (&seen.country, own) {
        _ if rules.prefixes.iter().any(begins) => true,
        (Some(country), _) if !rules.countries.is_empty() => rules.countries.contains(country),
        (Some(country), Some(own)) => country == own,
        (None, Some(_)) => false,
        (None, None) => rules.countries.is_empty(),
        (Some(_), None) => true,
    };
    if is_country_allowed { allowed(Some(seen)) } else { Err(Rule::Country) }
}

fn is_at(uri: &str, hosts: &[String]) -> bool {
    let Some(host) = trunk::host_of(uri) else { return false };
    let fits = |allowed: &String| allowed == "*" || allowed.trim_matches(['[', ']']).eq_ignore_ascii_case(host);
    hosts.iter().any(fits)
}

/// Country calling code and the rest (ITU-T E.164 §6.2.4); a code has one to three digits, and none begins another.
fn split(digits: &str) -> Option<(u16, &str)> {
    (1..=3).find_map(|length| {
        let (code, national) = digits.split_at_checked(length)?;
        let code: u16 = code.parse().ok()?;
        let is_known = DATABASE.region(&code).is_some() || SERVICES.iter().any(|(service, _)| *service == code);
        (is_known && !digits.starts_with('0')).then_some((code, national))
    })
}

/// Country and price class of a number within its plan. The library's own reading drops the leading zero that Italian
/// numbers have, so the patterns are asked directly.
fn of_plan(code: u16, national: &str) -> (Option<String>, Class) {
    if let Some((_, class)) = SERVICES.iter().find(|(service, _)| *service == code) {
        return (None, *class);
    }
    let plans = DATABASE.by_code(&code).unwrap_or_default();
    let fits = |plan: &&Metadata| match plan.leading_digits() {
        Some(leading) => leading.find(national).is_some_and(|found| found.start() == 0),
        None => class_in(plan, national) != Class::Unknown,
    };
    let main = || plans.iter().copied().find(|plan| plan.is_main_country_for_code()).or(plans.first().copied());
    match plans.iter().copied().filter(|_| plans.len() > 1).find(fits).or_else(main) {
        Some(plan) => {
            let id = plan.id();
            ((id != "001").then(|| id.to_owned()), class_in(plan, national))
        }
        None => (None, Class::Unknown),
    }
}

fn class_in(plan: &Metadata, national: &str) -> Class {
    let kinds = plan.descriptors();
    if !kinds.general().is_match(national) {
        return Class::Unknown;
    }
    let dear = [kinds.premium_rate(), kinds.shared_cost(), kinds.personal_number(), kinds.pager()];
    let plain = [kinds.toll_free(), kinds.fixed_line(), kinds.mobile(), kinds.voip(), kinds.uan(), kinds.voicemail()];
    let is_of = |kind: &Option<&phonenumber::metadata::Descriptor>| kind.is_some_and(|kind| kind.is_match(national));
    match () {
        () if dear.iter().any(is_of) => Class::Premium,
        () if plain.iter().any(is_of) => Class::Plain,
        () => Class::Unknown,
    }
}

fn is_short(number: &str) -> bool {
    !number.starts_with('+') && number.len() <= SHORT_DIGITS_MAX
}

/// Whether a number calls for help, seen from a country.
pub fn is_emergency(number: &str, country: Option<&str>) -> bool {
    let here = EMERGENCY.iter().find(|(id, _)| Some(*id) == country).map_or(&[][..], |(_, numbers)| numbers);
    // 112 reaches help from any mobile network (3GPP TS 22.101 §10.1), and 911 from most.
    ["112", "911"].contains(&number) || here.contains(&number) || (country.is_none() && number == "999")
}

/// National numbers have at least seven digits nearly everywhere, short codes six at most.
const SHORT_DIGITS_MAX: usize = 6;

/// Codes of the world's own services (ITU-T E.164.1, list of assigned country codes): shared cost, satellites, personal
/// numbers, networks and premium rate; the freephone of `+800` costs nothing.
const SERVICES: &[(u16, Class)] = &[
    (800, Class::Plain),
    (808, Class::Premium),
    (870, Class::Premium),
    (878, Class::Premium),
    (881, Class::Premium),
    (882, Class::Premium),
    (883, Class::Premium),
    (888, Class::Premium),
    (979, Class::Premium),
];

/// Emergency numbers beside 112 and 911, by country (ITU-T E.129 national presentations).
const EMERGENCY: &[(&str, &[&str])] = &[
    ("AT", &["122", "133", "140", "144"]),
    ("AU", &["000", "106"]),
    ("BE", &["100", "101"]),
    ("BR", &["190", "192", "193"]),
    ("CA", &[]),
    ("CH", &["117", "118", "144", "1414"]),
    ("CN", &["110", "119", "120"]),
    ("CZ", &["150", "155", "156", "158"]),
    ("DE", &["110"]),
    ("ES", &["061", "062", "080", "085", "091", "092"]),
    ("FR", &["15", "17", "18", "114", "115", "119", "196"]),
    ("GB", &["999"]),
    ("GR", &["100", "108", "166", "199"]),
    ("HK", &["999"]),
    ("HU", &["104", "105", "107"]),
    ("IE", &["999"]),
    ("IL", &["100", "101", "102"]),
    ("IN", &["100", "101", "102", "108"]),
    ("IT", &["113", "114", "115", "117", "118"]),
    ("JP", &["110", "118", "119"]),
    ("KR", &["112", "119"]),
    ("MX", &["060", "065", "066", "068"]),
    ("NL", &[]),
    ("NO", &["110", "113"]),
    ("NZ", &["111"]),
    ("PL", &["997", "998", "999"]),
    ("PT", &[]),
    ("SG", &["995", "999"]),
    ("ZA", &["10111", "10177"]),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trunk::Outbound;
    use crate::trunk::tests::{outbound, trunk as plain};

    #[test]
    fn only_the_own_country_is_called_unless_told_otherwise() {
        let italy = trunk(Some("IT"), Dialling::default());

        assert_eq!(country_of(&italy, "+390236618300"), Ok(Some("IT".into())));
        assert_eq!(country_of(&italy, "0236618300"), Ok(Some("IT".into())));
        assert_eq!(country_of(&italy, "+442079460000"), Err(Rule::Country));
        assert_eq!(country_of(&italy, "00442079460000"), Err(Rule::Country));
    }

    #[test]
    fn listed_countries_and_prefixes_open_others() {
        let rules = Dialling {
            countries: vec!["IT".into(), "GB".into()],
            prefixes: vec!["+4930".into()],
            ..Dialling::default()
        };
        let italy = trunk(Some("IT"), rules);

        assert_eq!(country_of(&italy, "+442079460000"), Ok(Some("GB".into())));
        assert_eq!(country_of(&italy, "+493012345678"), Ok(Some("DE".into())));
        assert_eq!(country_of(&italy, "+498912345678"), Err(Rule::Country));
        assert_eq!(country_of(&italy, "+18765550123"), Err(Rule::Country));
    }

    #[test]
    fn islands_of_a_plan_are_not_its_main_country() {
        let america = trunk(Some("US"), Dialling::default());

        assert_eq!(country_of(&america, "+12125550123"), Ok(Some("US".into())));
        // Jamaica: dialled like a national number, and a favourite of fraud.
        assert_eq!(country_of(&america, "+18769271234"), Err(Rule::Country));
        assert_eq!(country_of(&america, "8769271234"), Err(Rule::Country));
    }

    #[test]
    fn whatever_costs_more_than_a_call_is_refused() {
        let anywhere = trunk(None, Dialling::default());
        let at_home = trunk(Some("GB"), Dialling::default());

        for dear in ["+449098790000", "+19005551234", "+881612345678", "+870773111111", "+979123456789", "+88213123456"]
        {
            assert_eq!(country_of(&anywhere, dear), Err(Rule::Premium), "{dear}");
        }
        assert_eq!(country_of(&at_home, "09098790000"), Err(Rule::Premium));
        // Personal numbers look like mobiles.
        assert_eq!(country_of(&at_home, "+447012345678"), Err(Rule::Premium));
        let rich = trunk(Some("GB"), Dialling { premium: true, ..Dialling::default() });
        assert_eq!(country_of(&rich, "09098790000"), Ok(Some("GB".into())));
        // A prefix says that the country is meant; only the whole number says that its price is.
        let wide = trunk(Some("IT"), Dialling { prefixes: vec!["+44".into()], ..Dialling::default() });
        assert_eq!(country_of(&wide, "+449098790000"), Err(Rule::Premium));
        let exact = trunk(Some("IT"), Dialling { prefixes: vec!["+449098790000".into()], ..Dialling::default() });
        assert_eq!(country_of(&exact, "+449098790000"), Ok(Some("GB".into())));
    }

    #[test]
    fn a_refused_prefix_beats_everything() {
        let rules = Dialling {
            prefixes: vec!["+4420".into()],
            refused: vec!["+44207".into(), "112".into()],
            ..Dialling::default()
        };
        let britain = trunk(Some("GB"), rules);

        assert_eq!(country_of(&britain, "+442079460000"), Err(Rule::RefusedPrefix));
        assert_eq!(country_of(&britain, "02079460000"), Err(Rule::RefusedPrefix));
        assert_eq!(country_of(&britain, "+442083661177"), Ok(Some("GB".into())));
        assert_eq!(country_of(&britain, "112"), Err(Rule::RefusedPrefix));
    }

    #[test]
    fn short_codes_are_listed_and_emergencies_are_not() {
        let italy = trunk(Some("IT"), Dialling { prefixes: vec!["187".into()], ..Dialling::default() });
        let pbx = trunk(None, Dialling::default());

        assert_eq!(dial(&italy, "112", false), Ok(Allowed::Emergency));
        assert_eq!(dial(&italy, "118", false), Ok(Allowed::Emergency));
        assert_eq!(country_of(&italy, "187"), Ok(None));
        assert_eq!(country_of(&italy, "4242"), Err(Rule::ShortCode));
        assert!(dial(&italy, "4242", true).is_ok());
        assert_eq!(country_of(&pbx, "4242"), Ok(None));
    }

    #[test]
    fn feature_codes_come_from_admins_only() {
        let pbx = trunk(None, Dialling::default());

        assert_eq!(dial(&pbx, "*72900123", false), Err(Rule::NotPlain));
        assert!(dial(&pbx, "*72900123", true).is_ok());
    }

    #[test]
    fn an_address_that_nobody_wrote_must_be_at_an_allowed_host() {
        let rules = Dialling { hosts: vec!["pbx.example".into(), "[2001:db8::1]".into()], ..Dialling::default() };
        let trunk = trunk(None, rules);

        for good in ["sip:desk@pbx.example", "sip:desk@PBX.example:5070;transport=tcp", "sip:a@[2001:db8::1]:5060"] {
            assert_eq!(dial(&trunk, good, false), Ok(Allowed::Uri), "{good}");
        }
        for bad in [
            "sip:desk@evil.example",
            "sip:pbx.example@evil.example",
            "sip:desk@pbx.example.evil.example",
            "sip:desk@pbx.example@evil.example",
            "sip:desk@evil.example;x=@pbx.example",
            "sip:desk@evil.example?X=@pbx.example",
        ] {
            assert_eq!(dial(&trunk, bad, false), Err(Rule::Host), "{bad}");
        }
        assert_eq!(dial(&trunk, "sip:desk@evil.example", true), Ok(Allowed::Uri));
    }

    #[test]
    fn without_a_trunk_only_written_addresses_are_dialled() {
        let attempt = |to: &str, is_written| judge(Attempt { to: &to.parse().unwrap(), is_written, trunk: None });

        assert_eq!(attempt("+442079460000", true), Err(Rule::NoTrunk));
        assert_eq!(attempt("sip:a@b.example", false), Err(Rule::Host));
        assert_eq!(attempt("sip:a@b.example", true), Ok(Allowed::Uri));
    }

    #[test]
    fn a_number_of_no_plan_is_dialled_for_admins_only() {
        let britain = trunk(Some("GB"), Dialling::default());

        assert_eq!(dial(&britain, "+44123", false), Err(Rule::NoNumber));
        assert!(dial(&britain, "+44123", true).is_ok());
        assert_eq!(dial(&britain, "+49123", true), Err(Rule::Country));
    }

    #[test]
    fn bare_digits_are_read_as_abroad_when_they_are_whole_as_such() {
        assert_eq!(see("442079460000", None).unwrap().country.as_deref(), Some("GB"));
        assert_eq!(see("011442079460000", None).unwrap().e164, "+442079460000");
        assert_eq!(see("2079460", None), None);
        assert_eq!(see("0079460", None).map(|seen| seen.class), Some(Class::Unknown));
    }

    proptest! {
        /// Whatever is allowed without premium is not of a premium class in any reading.
        #[test]
        fn nothing_dear_slips_through(digits in "[0-9]{7,15}", plus in any::<bool>(), country in 0usize..4) {
            let number = if plus { format!("+{digits}") } else { digits };
            let own = [None, Some("GB"), Some("US"), Some("IT")][country];
            let trunk = trunk(own, Dialling::default());
            if let Ok(Allowed::Number { e164: Some(e164), .. }) = dial(&trunk, &number, false) {
                prop_assert_ne!(see(&e164, None).unwrap().class, Class::Premium);
            }
        }

        #[test]
        fn no_text_makes_it_panic(number in "\\PC{0,40}", uri in "sip:\\PC{0,60}") {
            let trunk = trunk(Some("DE"), Dialling { hosts: vec!["a.example".into()], ..Dialling::default() });
            let _ = judge(Attempt { to: &Address::Number(number), is_written: false, trunk: Some(&trunk) });
            let _ = judge(Attempt { to: &Address::Uri(uri), is_written: false, trunk: Some(&trunk) });
        }
    }

    fn dial(trunk: &Trunk, to: &str, is_written: bool) -> Result<Allowed, Rule> {
        let to = if to.contains(':') { Address::Uri(to.into()) } else { Address::Number(to.into()) };
        judge(Attempt { to: &to, is_written, trunk: Some(trunk) })
    }

    fn country_of(trunk: &Trunk, to: &str) -> Result<Option<String>, Rule> {
        dial(trunk, to, false).map(|allowed| match allowed {
            Allowed::Number { country, .. } => country,
            Allowed::Emergency | Allowed::Uri | Allowed::Home => None,
        })
    }

    #[test]
    fn a_number_at_the_trunks_own_host_is_a_number() {
        let dialling = Dialling { hosts: vec!["gw.example".into()], ..Dialling::default() };
        let trunk = &trunk(Some("GB"), dialling);

        for premium in [
            "sip:+449098790000@gw.example",
            "sip:%2B449098790000@gw.example;user=phone",
            "sip:+44-9098-790000%3Bx=y@GW.example:5061",
            "sip:+449098790000:secret@gw.example",
        ] {
            assert_eq!(dial(trunk, premium, false), Err(Rule::Premium), "{premium}");
            assert_eq!(dial(trunk, premium, true), Err(Rule::Premium), "{premium}");
        }
        assert_eq!(dial(trunk, "sip:+390236618300@gw.example", false), Err(Rule::Country));
        assert_eq!(dial(trunk, "sip:+44x9098790000@gw.example", false), Err(Rule::NoNumber));
        assert_eq!(country_of(trunk, "sip:+442079460000@gw.example"), Ok(Some("GB".into())));
        assert_eq!(dial(trunk, "sip:desk@gw.example", false), Ok(Allowed::Home));
        assert_eq!(dial(trunk, "sip:desk@other.example", true), Ok(Allowed::Uri));
        assert_eq!(dial(trunk, "sip:desk@other.example", false), Err(Rule::Host));
    }

    fn trunk(country: Option<&str>, dialling: Dialling) -> Trunk {
        let outbound = Outbound { dialling, ..outbound("sip:gw.example") };
        Trunk { country: country.map(str::to_owned), outbound: Some(outbound), ..plain() }
    }
}
