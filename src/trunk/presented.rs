//! How we show ourselves and a caller on a call that we place through a trunk.
//!
//! Pure. The rules are the trunk's [`CallerPolicy`](super::CallerPolicy); what is written here goes on the wire as it
//! stands, but for escapes, which `sip` adds.

use super::numbers::{self, Country};
use super::{Anonymous, NumberFormat, Outbound, Trunk};
use crate::actions::Place;
use crate::model::{Party, Pii, Vars};

/// What our INVITE says about who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// User part of From.
    pub user: Pii<String>,
    /// Name in From.
    pub display: Pii<String>,
    /// Host of From; `None`: our address.
    pub host: Option<String>,
    /// P-Asserted-Identity, Privacy, and those that the trunk wants.
    pub headers: Vec<(String, Pii<String>)>,
}

/// What we show to a trunk on behalf of a caller. Who diverted the call is another matter, and not said here.
pub fn present(trunk: &Trunk, outbound: &Outbound, caller: &Party, vars: &Vars) -> Presented {
    let country = trunk.country.as_deref().and_then(Country::of);
    let write = |number: &str| numbers::written(number, outbound.format, country.as_deref());
    let policy = &outbound.caller;
    let is_hidden = caller.anonymous && policy.anonymous == Anonymous::Hide;
    let own = policy.number.as_deref();
    let theirs = Some(caller.user.reveal().as_str()).filter(|number| !number.is_empty());

    let mut headers = Vec::new();
    let mut add = |name: &str, value: String| headers.push((name.to_owned(), Pii::new(value)));
    if policy.asserts
        && let Some(identity) =
            own.or(theirs).and_then(|number| identity(number, policy.host.as_deref(), country.as_deref()))
    {
        add("P-Asserted-Identity", identity);
    }
    if is_hidden {
        add("Privacy", "id".to_owned());
    }
    for header in &outbound.headers {
        let value = header.value.render(vars, Place::Header);
        if !value.reveal().trim().is_empty() {
            headers.push((header.name.clone(), value));
        }
    }

    if is_hidden {
        // RFC 3323 §4.1.1.3.
        return Presented {
            user: "anonymous".to_owned().into(),
            display: "Anonymous".to_owned().into(),
            host: Some("anonymous.invalid".to_owned()),
            headers,
        };
    }
    let display = match (policy.display.as_str(), own) {
        // A caller's name does not belong to our number.
        ("", None) => caller.display.clone(),
        (display, _) => display.to_owned().into(),
    };
    let user = own.or(theirs).map(write).unwrap_or_default();
    Presented { user: user.into(), display, host: policy.host.clone(), headers }
}

/// An identity in brackets. A number of E.164 is a `tel:` URI where no host is ours to name (RFC 3325 §9.1); any other
/// number means something to a host only.
fn identity(number: &str, host: Option<&str>, country: Option<&Country>) -> Option<String> {
    let number = numbers::written(number, NumberFormat::Plus, country);
    let is_plain = number.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-_.*".contains(&b));
    match host {
        Some(host) if is_plain => Some(format!("<sip:{number}@{host}>")),
        None if numbers::is_e164(&number) => Some(format!("<tel:{number}>")),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::Template;
    use crate::trunk::tests::{outbound, trunk};
    use crate::trunk::{CallerPolicy, HeaderOut};

    const OURS: &str = "+390212345600";

    fn ada() -> Party {
        Party { user: Pii::new("+393401234567".into()), display: Pii::new("Ada".into()), anonymous: false }
    }

    fn hidden() -> Party {
        Party { anonymous: true, ..Party::default() }
    }

    fn shown(caller: CallerPolicy, party: &Party) -> (String, String, Vec<String>) {
        let out = Outbound { caller, format: NumberFormat::Digits, ..outbound("sip:gw.example") };
        let shown = present(&trunk(), &out, party, &Vars::default());
        let from = format!("{}@{}", shown.user.reveal(), shown.host.unwrap_or_default());
        let headers = shown.headers.iter().map(|(name, value)| format!("{name}: {}", value.reveal())).collect();
        (from, shown.display.reveal().clone(), headers)
    }

    #[test]
    fn the_callers_number_or_ours_is_shown_as_the_trunk_writes_numbers() {
        let theirs = shown(CallerPolicy::default(), &ada());
        let ours = shown(CallerPolicy { number: Some(OURS.into()), ..CallerPolicy::default() }, &ada());

        assert_eq!(theirs, ("393401234567@".into(), "Ada".into(), vec![]));
        assert_eq!(ours, ("390212345600@".into(), String::new(), vec![]));
    }

    #[test]
    fn our_number_is_asserted_as_a_number_of_the_world() {
        let policy = CallerPolicy { number: Some(OURS.into()), asserts: true, ..CallerPolicy::default() };
        let with_host = CallerPolicy { host: Some("trunk.example".into()), ..policy.clone() };

        assert_eq!(shown(policy, &ada()).2, ["P-Asserted-Identity: <tel:+390212345600>"]);
        assert_eq!(shown(with_host, &ada()).2, ["P-Asserted-Identity: <sip:+390212345600@trunk.example>"]);
    }

    #[test]
    fn a_caller_who_hides_stays_hidden_or_is_us() {
        let policy = CallerPolicy { number: Some(OURS.into()), asserts: true, ..CallerPolicy::default() };
        let show_ours = CallerPolicy { anonymous: Anonymous::ShowOurs, ..policy.clone() };

        let hide = shown(policy, &hidden());
        let ours = shown(show_ours, &hidden());
        let nothing_known = shown(CallerPolicy { asserts: true, ..CallerPolicy::default() }, &hidden());

        assert_eq!(hide.0, "anonymous@anonymous.invalid");
        assert_eq!(hide.2, ["P-Asserted-Identity: <tel:+390212345600>", "Privacy: id"]);
        assert_eq!(
            ours,
            ("390212345600@".into(), String::new(), vec!["P-Asserted-Identity: <tel:+390212345600>".into()])
        );
        assert_eq!(nothing_known.2, ["Privacy: id"]);
    }

    #[test]
    fn headers_are_made_of_variables_and_hold_one_line() {
        let header = |name: &str, value: &str| HeaderOut { name: name.into(), value: Template::parse(value).unwrap() };
        let headers = vec![header("X-Order", "{{order.id}}"), header("X-None", "{{nothing}}"), header("X-Fix", "a")];
        let out = Outbound { headers, ..outbound("sip:gw.example") };
        let mut vars = Vars::default();
        vars.set("order.id", "42\r\nX-Evil: 1".into());

        let shown = present(&trunk(), &out, &ada(), &vars).headers;

        let lines: Vec<_> = shown.iter().map(|(name, value)| (name.as_str(), value.reveal().as_str())).collect();
        assert_eq!(lines, [("X-Order", "42  X-Evil: 1"), ("X-Fix", "a")]);
    }
}
