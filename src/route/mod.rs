//! Which call goes where: rules in order, the first that fits decides.
//!
//! Pure: what is known of a call comes in as [`Asked`], the time with it. Never knows about files, SIP or agents beyond
//! their names; `config` makes the rules of `routes.toml`, the gateway and `ringback route-test` ask.
//! Start at [`Rule::why_not`].

mod hours;
mod pattern;

use std::fmt;

use jiff::Timestamp;

use crate::model::{Attestation, Pii, Verdict, Verification};

pub use hours::{Days, Hours, HoursFault};
pub use pattern::{Glob, Pattern, PatternFault};

/// Which calls a route is for. All of its conditions must hold; the default is for every call.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which called numbers.
    pub called: Pattern,
    /// Only calls of this trunk; `None`: of every trunk.
    pub trunk: Option<String>,
    /// Only these callers; `None`: all.
    pub caller: Option<CallerIs>,
    /// Only calls that bear all of these headers.
    pub headers: Vec<HeaderIs>,
    /// Only callers whose identity came to one of these; empty: whatever it came to.
    pub identity: Vec<IdentityIs>,
    /// Only within one of these times; empty: always.
    pub hours: Vec<Hours>,
}

/// What a caller's signed identity must have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityIs {
    /// It holds, however well the signer knows the caller.
    Passed,
    /// It holds, and the signer knows the caller this well.
    Attested(Attestation),
    /// It does not hold.
    Failed,
    /// There is none, or the trunk does not look.
    Missing,
}

impl IdentityIs {
    fn fits(self, identity: Option<&Verification>) -> bool {
        let verdict = identity.map_or(Verdict::Missing, |identity| identity.verdict);
        match self {
            IdentityIs::Passed => verdict == Verdict::Passed,
            IdentityIs::Attested(wanted) => {
                verdict == Verdict::Passed && identity.is_some_and(|identity| identity.attestation == Some(wanted))
            }
            IdentityIs::Failed => matches!(verdict, Verdict::Failed(_)),
            IdentityIs::Missing => verdict == Verdict::Missing,
        }
    }

    fn covers(self, other: IdentityIs) -> bool {
        self == other || (self == IdentityIs::Passed && matches!(other, IdentityIs::Attested(_)))
    }

    /// As it is written in a route.
    pub fn label(self) -> &'static str {
        match self {
            IdentityIs::Passed => "passed",
            IdentityIs::Attested(Attestation::A) => "A",
            IdentityIs::Attested(Attestation::B) => "B",
            IdentityIs::Attested(Attestation::C) => "C",
            IdentityIs::Failed => "failed",
            IdentityIs::Missing => "none",
        }
    }
}

/// Which callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerIs {
    /// Those whose number looks like this.
    Number(Pattern),
    /// Those who asked not to be known.
    Anonymous,
}

/// A header that a call must bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderIs {
    /// Compared without case.
    pub name: String,
    /// What one of its values looks like; `None`: whatever.
    pub value: Option<Glob>,
}

/// What is known of a call when its route is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The called number in E.164, where it is one.
    pub called: &'a str,
    /// The same as the peer wrote it.
    pub called_raw: &'a str,
    /// The trunk it came by.
    pub trunk: &'a str,
    /// The caller's number in E.164, where it is one; empty when there is none. `None`: the caller asked not to be known.
    pub caller: Option<&'a str>,
    /// The call's headers.
    pub headers: &'a [(String, Pii<String>)],
    /// What the caller's signed identity came to; `None`: the trunk does not look at it.
    pub identity: Option<&'a Verification>,
    /// When.
    pub at: Timestamp,
}

/// Why a rule is not for a call: the first condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// Another number was called.
    Called,
    /// It came by another trunk.
    Trunk,
    /// Somebody else called.
    Caller,
    /// This header is not there.
    NoHeader(String),
    /// This header says something else.
    Header(String),
    /// The caller's identity came to something else.
    Identity,
    /// Not at this time, which is told as it is where the first of the rule's clocks hangs.
    Hours(String),
}

impl<'a> Asked<'a> {
    /// A call to a number by a trunk, of which nothing else is known.
    pub fn of(called: &'a str, trunk: &'a str) -> Asked<'a> {
        let (caller, at) = (Some(""), Timestamp::UNIX_EPOCH);
        Asked { called, called_raw: called, trunk, caller, headers: &[], identity: None, at }
    }
}

impl Rule {
    /// Why this rule is not for a call; `None` when it is.
    pub fn why_not(&self, asked: &Asked<'_>) -> Option<WhyNot> {
        if !self.called.fits(asked.called) && !self.called.fits(asked.called_raw) {
            return Some(WhyNot::Called);
        }
        if self.trunk.as_ref().is_some_and(|trunk| trunk != asked.trunk) {
            return Some(WhyNot::Trunk);
        }
        let is_wanted = match (&self.caller, asked.caller) {
            (None, _) | (Some(CallerIs::Anonymous), None) => true,
            (Some(CallerIs::Number(pattern)), Some(caller)) => pattern.fits(caller),
            (Some(CallerIs::Number(_)), None) | (Some(CallerIs::Anonymous), Some(_)) => false,
        };
        if !is_wanted {
            return Some(WhyNot::Caller);
        }
        if !self.identity.is_empty() && !self.identity.iter().any(|wanted| wanted.fits(asked.identity)) {
            return Some(WhyNot::Identity);
        }
        self.headers.iter().find_map(|header| header.why_not(asked.headers)).or_else(|| self.outside_hours(asked.at))
    }

    fn outside_hours(&self, at: Timestamp) -> Option<WhyNot> {
        let first = self.hours.first().filter(|_| !self.hours.iter().any(|hours| hours.holds(at)))?;
        Some(WhyNot::Hours(first.clock(at)))
    }

    /// Whether every call that fits `other` fits this as well.
    pub fn covers(&self, other: &Rule) -> bool {
        self.called.covers(&other.called)
            && (self.trunk.is_none() || self.trunk == other.trunk)
            && (self.caller.is_none() || self.caller == other.caller)
            && self.headers.iter().all(|header| other.headers.contains(header))
            && self.takes_identities_of(other)
            && (self.hours.is_empty() || self.hours == other.hours)
    }

    fn takes_identities_of(&self, other: &Rule) -> bool {
        let takes = |theirs: &IdentityIs| self.identity.iter().any(|own| own.covers(*theirs));
        self.identity.is_empty() || (!other.identity.is_empty() && other.identity.iter().all(takes))
    }

    /// Whether it is for every call at any time.
    pub fn is_for_all(&self) -> bool {
        self.called.is_any()
            && self.trunk.is_none()
            && self.caller.is_none()
            && self.headers.is_empty()
            && self.identity.is_empty()
            && self.hours.is_empty()
    }
}

impl HeaderIs {
    fn why_not(&self, headers: &[(String, Pii<String>)]) -> Option<WhyNot> {
        let mut values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&self.name)).peekable();
        if values.peek().is_none() {
            return Some(WhyNot::NoHeader(self.name.clone()));
        }
        let fits = |(_, value): &(String, Pii<String>)| self.value.as_ref().is_none_or(|it| it.fits(value.reveal()));
        (!values.any(fits)).then(|| WhyNot::Header(self.name.clone()))
    }
}

impl fmt::Display for Rule {
    /// As it is written, in short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.called)?;
        if let Some(trunk) = &self.trunk {
            write!(f, " by {trunk}")?;
        }
        match &self.caller {
            Some(CallerIs::Number(pattern)) => write!(f, " from {pattern}")?,
            Some(CallerIs::Anonymous) => f.write_str(" from anonymous")?,
            None => {}
        }
        for header in &self.headers {
            match &header.value {
                Some(value) => write!(f, " with {}: {value}", header.name)?,
                None => write!(f, " with {}", header.name)?,
            }
        }
        for (n, identity) in self.identity.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { " identity " } else { " or " }, identity.label())?;
        }
        for (n, hours) in self.hours.iter().enumerate() {
            write!(f, "{}{hours}", if n == 0 { " " } else { " or " })?;
        }
        Ok(())
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::Called => f.write_str("another number"),
            WhyNot::Trunk => f.write_str("another trunk"),
            WhyNot::Caller => f.write_str("another caller"),
            WhyNot::NoHeader(name) => write!(f, "no header {name}"),
            WhyNot::Header(name) => write!(f, "header {name} says something else"),
            WhyNot::Identity => f.write_str("the caller's identity came to something else"),
            WhyNot::Hours(clock) => write!(f, "not at this time, {clock}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Via;

    fn rule(called: &str) -> Rule {
        Rule {
            called: called.parse().unwrap(),
            trunk: None,
            caller: None,
            headers: Vec::new(),
            identity: Vec::new(),
            hours: Vec::new(),
        }
    }

    fn asked<'a>(called: &'a str, headers: &'a [(String, Pii<String>)]) -> Asked<'a> {
        Asked {
            called,
            called_raw: "02 1234",
            trunk: "carrier",
            caller: Some("+442079460000"),
            headers,
            identity: None,
            at: "2026-11-20T09:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_route_may_ask_how_well_the_caller_is_known() {
        let known = |attestation| Verification {
            attestation: Some(attestation),
            ..Verification::bare(Verdict::Passed, Via::Identity)
        };
        let of = |identity: &[IdentityIs]| Rule { identity: identity.to_vec(), ..rule("*") };
        let (full, partial) = (known(Attestation::A), known(Attestation::B));
        let takes = |rule: &Rule, identity| {
            rule.why_not(&Asked { identity, ..Asked::of("100", "carrier") }) != Some(WhyNot::Identity)
        };
        let (best, passed) = (of(&[IdentityIs::Attested(Attestation::A)]), of(&[IdentityIs::Passed]));
        let doubtful = of(&[IdentityIs::Failed, IdentityIs::Missing]);

        assert!(takes(&best, Some(&full)) && !takes(&best, Some(&partial)) && !takes(&best, None));
        assert!(takes(&passed, Some(&partial)) && !takes(&doubtful, Some(&full)) && takes(&doubtful, None));
        assert!(passed.covers(&best) && !best.covers(&passed) && rule("*").covers(&best) && !best.covers(&rule("*")));
        assert_eq!(doubtful.to_string(), "* identity failed or none");
    }

    #[test]
    fn a_number_fits_as_it_was_written_and_as_it_is() {
        assert_eq!(rule("+39021234").why_not(&asked("+39021234", &[])), None);
        assert_eq!(rule("02*").why_not(&asked("+39021234", &[])), None);
        assert_eq!(rule("+44*").why_not(&asked("+39021234", &[])), Some(WhyNot::Called));
    }

    #[test]
    fn every_condition_must_hold_and_the_first_that_does_not_is_told() {
        let headers = [("X-Queue".to_owned(), Pii::new("Gold-7".to_owned()))];
        let asked = asked("100", &headers);
        let with = |change: &dyn Fn(&mut Rule)| {
            let mut rule = rule("100");
            change(&mut rule);
            rule.why_not(&asked)
        };
        let header = |name: &str, value: &str| HeaderIs { name: name.into(), value: Some(value.parse().unwrap()) };
        let hours = |from: &str, to: &str| Hours::new(Days::ALL, from, to, "Europe/Rome").unwrap();

        assert_eq!(with(&|rule| rule.trunk = Some("other".into())), Some(WhyNot::Trunk));
        assert_eq!(with(&|rule| rule.caller = Some(CallerIs::Number("+44*".parse().unwrap()))), None);
        assert_eq!(with(&|rule| rule.caller = Some(CallerIs::Number("+39*".parse().unwrap()))), Some(WhyNot::Caller));
        assert_eq!(with(&|rule| rule.caller = Some(CallerIs::Anonymous)), Some(WhyNot::Caller));
        assert_eq!(with(&|rule| rule.headers = vec![header("x-queue", "gold*")]), None);
        assert_eq!(
            with(&|rule| rule.headers = vec![header("X-Queue", "silver")]),
            Some(WhyNot::Header("X-Queue".into()))
        );
        assert_eq!(with(&|rule| rule.headers = vec![header("X-Vip", "*")]), Some(WhyNot::NoHeader("X-Vip".into())));
        assert_eq!(with(&|rule| rule.hours = vec![hours("18:00", "20:00"), hours("09:30", "10:30")]), None);
        assert_eq!(
            with(&|rule| rule.hours = vec![hours("18:00", "20:00")]),
            Some(WhyNot::Hours("Fri 10:00 in Europe/Rome".into()))
        );
    }

    #[test]
    fn a_caller_who_hides_fits_no_number() {
        let hidden = Asked { caller: None, ..asked("100", &[]) };
        let any = Rule { caller: Some(CallerIs::Number("*".parse().unwrap())), ..rule("*") };
        let anonymous = Rule { caller: Some(CallerIs::Anonymous), ..rule("*") };

        assert_eq!(any.why_not(&hidden), Some(WhyNot::Caller));
        assert_eq!(anonymous.why_not(&hidden), None);
    }

    #[test]
    fn a_rule_covers_what_is_narrower_in_every_way() {
        let day = Rule { hours: vec![Hours::new(Days::ALL, "09:00", "18:00", "UTC").unwrap()], ..rule("+39*") };
        let narrow = Rule { trunk: Some("carrier".into()), ..rule("+3902*") };

        assert!(rule("+39*").covers(&narrow) && rule("+39*").covers(&day) && day.covers(&day));
        assert!(!day.covers(&narrow) && !narrow.covers(&rule("+3902*")) && !narrow.covers(&rule("+39*")));
        assert!(rule("*").is_for_all() && !day.is_for_all() && !rule("+*").is_for_all());
    }
}
