//! Expectations that a command holds what it saw against.

use std::fmt::Display;

use serde::Serialize;

/// What was expected by name, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Expectation {
    pub(super) name: String,
    pub(super) expected: String,
    pub(super) seen: String,
    pub(super) ok: bool,
}

impl Expectation {
    /// Something that holds or does not.
    pub(super) fn new(name: &str, expected: impl Display, seen: impl Display, ok: bool) -> Expectation {
        Expectation { name: name.to_owned(), expected: expected.to_string(), seen: seen.to_string(), ok }
    }

    /// A value that must be this one.
    pub(super) fn equal<T: Display + PartialEq>(name: &str, expected: T, seen: Option<T>) -> Expectation {
        let ok = seen.as_ref() == Some(&expected);
        Expectation::new(name, expected, seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string()), ok)
    }

    /// A time that must have come, and must be no longer than this.
    pub(super) fn at_most_ms(name: &str, most: u64, seen: Option<u64>) -> Expectation {
        Expectation::between_ms(name, 0, most, seen)
    }

    /// A time that must have come, and must lie between these.
    pub(super) fn between_ms(name: &str, least: u64, most: u64, seen: Option<u64>) -> Expectation {
        let expected = if least == 0 { format!("at most {most} ms") } else { format!("{least} to {most} ms") };
        let ok = seen.is_some_and(|seen| (least..=most).contains(&seen));
        Expectation::new(name, expected, ms(seen), ok)
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let verdict = if self.ok { "ok    " } else { "FAILED" };
        format!("  {verdict}  {}: expected {}, saw {}", self.name, self.expected, self.seen)
    }
}

/// Whether all hold.
pub(super) fn all_ok(expectations: &[Expectation]) -> bool {
    expectations.iter().all(|expectation| expectation.ok)
}

/// A time for people.
pub(super) fn ms(time: Option<u64>) -> String {
    time.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_never_in_time() {
        assert!(!Expectation::at_most_ms("sound", 1_000, None).ok);
        assert!(Expectation::at_most_ms("sound", 1_000, Some(1_000)).ok);
        assert!(!Expectation::between_ms("answer", 1_400, 1_700, Some(1_399)).ok);
        assert!(!Expectation::equal("keys", "12", None).ok);
    }
}
