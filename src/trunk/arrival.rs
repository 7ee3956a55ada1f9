//! A call that arrives from a trunk: who calls, whom, and what else its headers say.
//!
//! Pure. What counts is decided here and nowhere else: whose word is believed, how numbers are read, which headers
//! become variables.

use super::naming::{self, Named};
use super::numbers::{self, Country};
use super::{HeaderIn, Trunk};
use crate::model::{Party, Pii, limits};

/// What an INVITE shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The user part of the request URI, unescaped.
    pub called: &'a str,
    /// The user part of From, unescaped.
    pub from_user: &'a str,
    /// The name in From.
    pub from_display: &'a str,
    /// The whole URI of From.
    pub from_uri: &'a str,
    /// The headers that do not steer SIP itself.
    pub headers: &'a [(String, Pii<String>)],
}

/// A call as the house sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who calls; a number in E.164 where it is one.
    pub caller: Party,
    /// The number that was called, in E.164 where it is one.
    pub called: Pii<String>,
    /// The same as it was written.
    pub called_raw: Pii<String>,
    /// Variables of the call below `sip.`, by their names.
    pub variables: Vec<(String, Pii<String>)>,
}

/// Reads what a trunk's call shows.
pub fn arrive(trunk: &Trunk, shown: &Shown<'_>) -> Arrival {
    let country = trunk.country.as_deref().and_then(Country::of);
    let prefix = trunk.outbound.as_ref().map_or("", |outbound| outbound.prefix.as_str());
    let number = |written: &str| numbers::normalise(written, country.as_deref(), "");
    let called = numbers::normalise(shown.called, country.as_deref(), prefix);

    let mut variables = mapped(&trunk.inbound.headers, shown.headers);
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            variables.push((name.to_owned(), Pii::new(value)));
        }
    };
    // A dot never stands in the name of a mapped header, so nobody outside can set these.
    set("raw.called", shown.called.to_owned());
    if let Some(words) = first(shown.headers, "user-to-user").and_then(naming::user_to_user) {
        set("uui.text", words);
    }
    if trunk.is_trusted {
        let forwarded = Forwarded::read(shown.headers);
        set("forward.original", number(&forwarded.original));
        set("forward.from", number(&forwarded.from));
        set("forward.reason", forwarded.reason);
    }

    let believed = Believed::read(trunk, shown);
    let caller = match believed.is_hidden {
        true => Party { anonymous: true, ..Party::default() },
        false => {
            set("raw.caller", believed.user);
            Party { user: believed.number.into(), display: believed.display.into(), anonymous: false }
        }
    };
    Arrival { caller, called: called.into(), called_raw: shown.called.to_owned().into(), variables }
}

/// Who calls, of all whom an INVITE names. The one choice for everybody: what is shown, what a signature must be for, and
/// whose result a trunk tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Believed {
    /// As it was written.
    pub user: String,
    /// In E.164 where it is a number.
    pub number: String,
    /// The name beside it.
    pub display: String,
    /// Every URI that names this caller, the chosen one first.
    pub uris: Vec<String>,
    /// Whether nobody is to be told.
    pub is_hidden: bool,
}

impl Believed {
    /// P-Asserted-Identity counts more than Remote-Party-ID, and that more than From; but only From, which anybody can
    /// write, is read when the peer is not trusted (RFC 3325 §9.1).
    pub fn read(trunk: &Trunk, shown: &Shown<'_>) -> Believed {
        let country = trunk.country.as_deref().and_then(Country::of);
        let number = |user: &str| numbers::normalise(user, country.as_deref(), "");
        // RFC 3323 §4.2: `none` says that nothing is to be hidden; `critical` and `session` alone hide no name.
        let privacy = all(shown.headers, "privacy").flat_map(|value| value.split([';', ',']));
        let mut is_hidden = false;
        let mut is_open = false;
        for word in privacy.map(str::trim) {
            is_hidden |= ["id", "user", "header"].iter().any(|hiding| word.eq_ignore_ascii_case(hiding));
            is_open |= word.eq_ignore_ascii_case("none");
        }
        let asserted = if trunk.is_trusted { asserted(shown.headers) } else { Vec::new() };
        let party = trunk.is_trusted.then(|| first(shown.headers, "remote-party-id")).flatten();
        let party = party.and_then(|value| naming::list(value).into_iter().next());
        if let Some(party) = &party {
            // draft-ietf-sip-privacy-04 §5: `full`, `name`, `uri`, or `off`.
            is_hidden |= party.parameter("privacy").is_some_and(|what| ["full", "uri"].contains(&what));
        }
        let from_hides = is_anonymous(shown.from_user, shown.from_uri);
        let named = asserted.iter().copied().chain(party).filter(|named| !named.user().is_empty());
        let named: Vec<(String, Named<'_>)> = named.map(|named| (named.user(), named)).collect();
        let is_named_openly = is_open && !named.is_empty();
        let is_hidden = is_hidden || (from_hides && !is_named_openly);
        let (user, display) = match named.first() {
            // The name in From is the caller's own, and good enough where no other came.
            Some((user, chosen)) if chosen.display.is_empty() && !from_hides => {
                (user.clone(), shown.from_display.to_owned())
            }
            Some((user, chosen)) => (user.clone(), unquoted(chosen.display)),
            None => (shown.from_user.to_owned(), shown.from_display.to_owned()),
        };
        let own = number(&user);
        // RFC 3325 §9.1 lets the same number stand as `sip:` and as `tel:`, and it mostly stands in From as well.
        let from = (shown.from_user.to_owned(), shown.from_uri);
        let uris = named.into_iter().map(|(user, named)| (user, named.uri)).chain([from]);
        let uris = uris.filter(|(user, _)| number(user) == own).map(|(_, uri)| uri.to_owned()).collect();
        Believed { user, number: own, display, uris, is_hidden }
    }
}

/// The asserted identities: RFC 3325 §9.1 allows a `sip:` and a `tel:` one, and a number is worth more than a name.
fn asserted(headers: &[(String, Pii<String>)]) -> Vec<Named<'_>> {
    let mut identities: Vec<Named<'_>> = all(headers, "p-asserted-identity").flat_map(naming::list).collect();
    identities.truncate(limits::SIP_ADDRESSES_MAX);
    let is_number = |named: &Named<'_>| named.user().starts_with(|first: char| first == '+' || first.is_ascii_digit());
    // A stable sort: of two numbers the first one counts.
    identities.sort_by_key(|named| !is_number(named));
    identities
}

/// The users that peers write for a caller who hides; RFC 3323 §4.1.1.3 knows the first only.
fn is_anonymous(user: &str, uri: &str) -> bool {
    const HIDDEN: [&str; 6] = ["anonymous", "restricted", "private", "withheld", "unavailable", "unknown"];
    HIDDEN.iter().any(|word| user.eq_ignore_ascii_case(word)) || uri.to_ascii_lowercase().contains("anonymous.invalid")
}

fn unquoted(display: &str) -> String {
    let mut plain = String::with_capacity(display.len());
    let mut letters = display.chars();
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

/// Who sent the call on to us.
#[derive(Debug, Default)]
struct Forwarded {
    /// Whom the caller dialled.
    original: String,
    /// Who sent it on last.
    from: String,
    /// Why.
    reason: String,
}

impl Forwarded {
    /// From Diversion (RFC 5806), else History-Info (RFC 7044).
    fn read(headers: &[(String, Pii<String>)]) -> Forwarded {
        let diversions: Vec<Named<'_>> = all(headers, "diversion").flat_map(naming::list).collect();
        // RFC 5806 §5: the newest on top.
        if let (Some(last), Some(original)) = (diversions.first(), diversions.last()) {
            let reason = last.parameter("reason").unwrap_or_default().to_owned();
            return Forwarded { original: original.user(), from: last.user(), reason };
        }
        // RFC 7044 §5: the oldest first, and the last one is where the call stands now. The entry that was sent on
        // bears the reason.
        let history: Vec<Named<'_>> = all(headers, "history-info").flat_map(naming::list).collect();
        let [original, .., _] = history.as_slice() else { return Forwarded::default() };
        let left = &history[history.len() - 2];
        let reason = left.uri_header("reason").map(|reason| why(&reason)).unwrap_or_default();
        Forwarded { original: original.user(), from: left.user(), reason }
    }
}

/// The word of RFC 5806 for a reason in History-Info (RFC 7544 §7.3).
fn why(reason: &str) -> String {
    let cause = reason.split(';').find_map(|piece| piece.trim().strip_prefix("cause="));
    match cause {
        Some("302") => "unconditional",
        Some("486") => "user-busy",
        Some("408") => "no-answer",
        Some("480") => "deflection",
        Some("503") => "unavailable",
        _ => "unknown",
    }
    .to_owned()
}

/// The variables of the headers that are mapped; without rules the usual ones.
fn mapped(rules: &[HeaderIn], headers: &[(String, Pii<String>)]) -> Vec<(String, Pii<String>)> {
    let mut variables: Vec<(String, Pii<String>)> = Vec::new();
    for (name, value) in headers {
        let variable = match rules {
            [] => is_usual(name).then(|| variable_of(name)),
            rules => rules
                .iter()
                .find(|rule| rule.is_for(name))
                .map(|rule| rule.variable.clone().unwrap_or_else(|| variable_of(name))),
        };
        // The first of several headers of a name is the one that a person would read.
        if let Some(variable) = variable.filter(|it| !it.is_empty() && variables.iter().all(|(name, _)| name != it)) {
            variables.push((variable, value.clone()));
        }
    }
    variables
}

impl HeaderIn {
    fn is_for(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(beginning) => name.get(..beginning.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(beginning)),
            None => name.eq_ignore_ascii_case(&self.name),
        }
    }
}

fn is_usual(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("x-") || name == "user-to-user" || name == "diversion"
}

/// `X-CRM-ID` becomes `crm_id`.
fn variable_of(header: &str) -> String {
    let name = header.to_ascii_lowercase();
    let name = name.strip_prefix("x-").unwrap_or(&name);
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

fn all<'a>(headers: &'a [(String, Pii<String>)], name: &str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.reveal().as_str())
}

fn first<'a>(headers: &'a [(String, Pii<String>)], name: &str) -> Option<&'a str> {
    all(headers, name).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trunk::tests::trunk;

    /// What a call shows, in one line per header; `From` and `To` are the user parts.
    fn arrival(trunk: &Trunk, called: &str, from: &str, lines: &[&str]) -> Arrival {
        let headers: Vec<(String, Pii<String>)> = lines
            .iter()
            .map(|line| line.split_once(": ").map(|(name, value)| (name.into(), Pii::new(value.to_owned()))).unwrap())
            .collect();
        let uri = format!("sip:{from}@198.51.100.7");
        arrive(trunk, &Shown { called, from_user: from, from_display: "Ada", from_uri: &uri, headers: &headers })
    }

    fn trusted() -> Trunk {
        Trunk { is_trusted: true, ..trunk() }
    }

    fn variable<'a>(arrival: &'a Arrival, name: &str) -> Option<&'a str> {
        arrival.variables.iter().find(|(own, _)| own == name).map(|(_, value)| value.reveal().as_str())
    }

    fn number(arrival: &Arrival) -> &str {
        arrival.caller.user.reveal()
    }

    #[test]
    fn numbers_are_read_in_the_country_of_the_trunk_and_kept_as_written() {
        let call = arrival(&trunk(), "0212345678", "340 123 4567", &[]);

        assert_eq!((call.called.reveal().as_str(), number(&call)), ("+390212345678", "+393401234567"));
        assert_eq!(variable(&call, "raw.called"), Some("0212345678"));
        assert_eq!(variable(&call, "raw.caller"), Some("340 123 4567"));
        assert_eq!(call.caller.display.reveal(), "Ada");
    }

    #[test]
    fn only_a_trusted_peer_says_who_calls() {
        let lines = ["Remote-Party-ID: <sip:0301111111@x>", "P-Asserted-Identity: <sip:bob@x>, <tel:+39022222222>"];
        let both = |trunk: &Trunk| arrival(trunk, "1", "0303333333", &lines);
        let party = arrival(&trusted(), "1", "0303333333", &lines[..1]);

        assert_eq!(number(&both(&trusted())), "+39022222222");
        assert_eq!(number(&party), "+390301111111");
        assert_eq!(number(&both(&trunk())), "+390303333333");
    }

    #[test]
    fn a_caller_who_hides_is_hidden_however_it_is_said() {
        let is_hidden = |trunk: &Trunk, from: &str, lines: &[&str]| {
            let call = arrival(trunk, "1", from, lines);
            assert!(!call.caller.anonymous || number(&call).is_empty());
            assert!(!call.caller.anonymous || variable(&call, "raw.caller").is_none());
            call.caller.anonymous
        };
        let asserted = "P-Asserted-Identity: <sip:+39022222222@x>";

        for privacy in ["id", "user", "header;critical", "ID; critical"] {
            assert!(is_hidden(&trusted(), "0212345678", &[asserted, &format!("Privacy: {privacy}")]), "{privacy}");
        }
        for from in ["anonymous", "Anonymous", "restricted", "unknown"] {
            assert!(is_hidden(&trusted(), from, &[asserted]), "{from}");
        }
        assert!(is_hidden(&trusted(), "1", &["Remote-Party-ID: <sip:1@x>;privacy=full"]));
        assert!(!is_hidden(&trunk(), "1", &["Remote-Party-ID: <sip:1@x>;privacy=full"]));
        assert!(!is_hidden(&trusted(), "0212345678", &["Privacy: none"]));
        assert!(!is_hidden(&trusted(), "anonymous", &[asserted, "Privacy: none"]));
        assert!(!is_hidden(&trusted(), "0212345678", &["Privacy: session"]));
    }

    #[test]
    fn it_is_known_who_sent_a_call_on_and_why() {
        let diverted =
            ["Diversion: <sip:022222222@x>;reason=user-busy", "Diversion: <tel:+39021111111>;reason=no-answer"];
        let history = [
            "History-Info: <sip:+39021111111@x?Reason=SIP%3Bcause%3D302>;index=1, \
             <sip:+39022222222@x?Reason=SIP%3Bcause%3D486>;index=1.1",
            "History-Info: <sip:100@gw>;index=1.1.1",
        ];
        let told = |call: &Arrival| {
            ["original", "from", "reason"].map(|name| variable(call, &format!("forward.{name}")).map(str::to_owned))
        };
        let expected = ["+39021111111", "+39022222222", "user-busy"].map(|it| Some(it.to_owned()));

        assert_eq!(told(&arrival(&trusted(), "1", "2", &diverted)), expected);
        assert_eq!(told(&arrival(&trusted(), "1", "2", &history)), expected);
        assert_eq!(told(&arrival(&trunk(), "1", "2", &diverted)), [None, None, None]);
        assert_eq!(told(&arrival(&trusted(), "1", "2", &history[1..])), [None, None, None]);
    }

    #[test]
    fn headers_become_variables_as_usual_or_as_configured() {
        let lines =
            ["X-CRM-ID: 7", "x-crm-id: 8", "P-Charging: no", "X-Raw.Called: evil", "User-to-User: 044f4b;encoding=hex"];
        let rule =
            |name: &str, variable: Option<&str>| HeaderIn { name: name.into(), variable: variable.map(str::to_owned) };
        let mut configured = trunk();
        configured.inbound.headers = vec![rule("P-Charging", Some("charging")), rule("X-CRM*", None)];

        let usual = arrival(&trunk(), "1", "2", &lines);
        let own = arrival(&configured, "1", "2", &lines);

        assert_eq!((variable(&usual, "crm_id"), variable(&usual, "p_charging")), (Some("7"), None));
        assert_eq!((variable(&usual, "raw_called"), variable(&usual, "raw.called")), (Some("evil"), Some("1")));
        assert_eq!(
            (variable(&usual, "user_to_user"), variable(&usual, "uui.text")),
            (Some("044f4b;encoding=hex"), Some("OK"))
        );
        assert_eq!((variable(&own, "charging"), variable(&own, "crm_id")), (Some("no"), Some("7")));
        assert_eq!(variable(&own, "user_to_user"), None);
    }
}
