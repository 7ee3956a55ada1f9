//! Names of callers and called, in the one form in which they can be compared.

use crate::model::limits;

/// The names that one party of an INVITE goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    numbers: Vec<String>,
    uris: Vec<String>,
}

/// One name in a token: `tn` or `uri` (RFC 8225 §5.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Number(String),
    Uri(String),
}

impl Names {
    /// Of numbers and of SIP or tel URIs as they stand in the message. A URI whose user is a number counts as both.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Names {
        let mut names = Names::default();
        for text in texts {
            names.add(text);
        }
        names
    }

    fn add(&mut self, text: &str) {
        if text.len() > limits::SIP_HEADER_LEN_MAX {
            return;
        }
        let user = match split_uri(text) {
            Some((_, user, None)) => user,
            Some((_, user, Some(_))) => {
                self.uris.extend(uri(text));
                user
            }
            None => text,
        };
        self.numbers.extend(number(user));
    }

    pub(super) fn holds(&self, name: &Name) -> bool {
        match name {
            Name::Number(number) => self.numbers.contains(number),
            Name::Uri(uri) => self.uris.contains(uri),
        }
    }

    pub(super) fn holds_one_of(&self, names: &[Name]) -> bool {
        names.iter().any(|name| self.holds(name))
    }

    pub(super) fn of(names: &[Name]) -> Names {
        let mut all = Names::default();
        for name in names {
            match name {
                Name::Number(number) => all.numbers.push(number.clone()),
                Name::Uri(uri) => all.uris.push(uri.clone()),
            }
        }
        all
    }
}

/// RFC 8224 §8.3: digits, `*` and `#`, without `+`, separators and parameters. `None` for what is no number.
pub(super) fn number(text: &str) -> Option<String> {
    let text = text.split(';').next().unwrap_or_default().trim();
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut digits = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' | '*' | '#' => digits.push(c),
            // RFC 3966 §5.1.1: visual separators.
            '-' | '.' | '(' | ')' | ' ' => {}
            _ => return None,
        }
    }
    (!digits.is_empty() && digits.len() <= NUMBER_LEN_MAX).then_some(digits)
}

/// RFC 8224 §8.5: scheme, user and host, in lower case, without port, parameters and headers.
pub(super) fn uri(text: &str) -> Option<String> {
    let (scheme, user, host) = split_uri(text)?;
    let host = host?;
    // An IPv6 reference keeps its colons.
    let bare = match host.rfind(']') {
        Some(end) => &host[..=end],
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_plain = !user.is_empty() && !bare.is_empty();
    is_plain.then(|| format!("{scheme}:{user}@{bare}").to_ascii_lowercase())
}

/// Scheme, user (or subscriber), and host with its port.
fn split_uri(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (scheme, rest) = text.split_once(':')?;
    if scheme.eq_ignore_ascii_case("tel") {
        return Some(("tel", rest, None));
    }
    let scheme = ["sip", "sips"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
    let (user, host) = rest.split_once('@')?;
    let host = host.split([';', '?', '>']).next().unwrap_or_default();
    let user = user.split(':').next().unwrap_or_default();
    Some((scheme, user, Some(host)))
}

/// E.164 has 15 digits; networks prefix some for routing.
const NUMBER_LEN_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for text in ["+1 (215) 555-1212", "12155551212", "+1.215.555.1212;verstat=TN-Validation-Passed"] {
            assert_eq!(number(text).as_deref(), Some("12155551212"), "{text}");
        }
        for text in ["", "alice", "+", "++44", "1;2x".trim_start_matches("1;"), "１２", &"1".repeat(33)] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn a_uri_counts_as_a_number_when_its_user_is_one() {
        let names = Names::new(["sip:+12155551212;npdi@Carrier.example:5060;user=phone", "tel:+1-800-555"]);

        assert!(names.holds(&Name::Number("12155551212".into())));
        assert!(names.holds(&Name::Number("1800555".into())));
        assert!(names.holds(&Name::Uri("sip:+12155551212;npdi@carrier.example".into())));
        assert!(!names.holds(&Name::Number("2155551212".into())));
    }

    #[test]
    fn ports_parameters_and_case_make_no_other_name() {
        assert_eq!(uri("SIP:Alice@Example.com:5070;transport=tcp?x=y").as_deref(), Some("sip:alice@example.com"));
        assert_eq!(uri("sips:a@[2001:DB8::1]:5061").as_deref(), Some("sips:a@[2001:db8::1]"));
        assert_eq!(uri("sip:example.com"), None);
        assert_eq!(uri("http://example.com"), None);
    }
}
