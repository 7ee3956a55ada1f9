//! Names and addresses in headers, as far as this room reads them: P-Asserted-Identity, Remote-Party-ID, Diversion,
//! History-Info, User-to-User.
//!
//! Each is text that a stranger wrote, bounded by the length of a header. What cannot be read is left out.

use crate::model::limits;

/// A name and address of a header (RFC 3261 §20.10), as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// Without quotes; escapes are left in it.
    pub(super) display: &'a str,
    pub(super) uri: &'a str,
    /// What stands behind the address, with its `;`.
    pub(super) parameters: &'a str,
}

impl<'a> Named<'a> {
    /// A parameter of the header, not of the URI.
    pub(super) fn parameter(&self, name: &str) -> Option<&'a str> {
        pieces(self.parameters, ';').find_map(|piece| {
            let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    }

    /// The user part of the URI, unescaped; of a `tel:` URI all of it.
    pub(super) fn user(&self) -> String {
        let Some((scheme, rest)) = self.uri.split_once(':') else { return String::new() };
        if scheme.eq_ignore_ascii_case("tel") {
            return unescaped(rest);
        }
        match rest.split_once('@') {
            Some((user, _)) => unescaped(user),
            None => String::new(),
        }
    }

    /// A header that is written into the URI (RFC 3261 §19.1.1), unescaped.
    pub(super) fn uri_header(&self, name: &str) -> Option<String> {
        let (_, headers) = self.uri.split_once('?')?;
        headers.split('&').find_map(|piece| {
            let (key, value) = piece.split_once('=')?;
            key.eq_ignore_ascii_case(name).then(|| unescaped(value))
        })
    }
}

/// The entries of a list of names and addresses.
pub(super) fn list(value: &str) -> Vec<Named<'_>> {
    pieces(value, ',').take(limits::SIP_ADDRESSES_MAX).filter_map(named).collect()
}

fn named(entry: &str) -> Option<Named<'_>> {
    let entry = entry.trim();
    // RFC 3261 §20: behind an address without brackets, parameters are the header's.
    match split_once_outside_quotes(entry, '<') {
        Some((display, rest)) => {
            let (uri, parameters) = rest.split_once('>')?;
            Some(Named { display: display.trim().trim_matches('"'), uri: uri.trim(), parameters })
        }
        None => {
            let end = entry.find(';').unwrap_or(entry.len());
            (!entry.is_empty()).then(|| Named { display: "", uri: entry[..end].trim(), parameters: &entry[end..] })
        }
    }
}

/// Splits where a letter stands outside of quotes and brackets.
fn pieces(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut is_quoted, mut is_escaped, mut is_bracketed) = (false, false, false);
        let found = text.char_indices().find(|(_, letter)| {
            match letter {
                _ if is_escaped => is_escaped = false,
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                '<' if !is_quoted => is_bracketed = true,
                '>' if !is_quoted => is_bracketed = false,
                _ => return *letter == at && !is_quoted && !is_bracketed,
            }
            false
        });
        let (piece, behind) = match found {
            Some((end, letter)) => (&text[..end], Some(&text[end + letter.len_utf8()..])),
            None => (text, None),
        };
        rest = behind;
        Some(piece)
    })
}

fn split_once_outside_quotes(text: &str, at: char) -> Option<(&str, &str)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let (found, letter) = text.char_indices().find(|(_, letter)| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return *letter == at && !is_quoted,
        }
        false
    })?;
    Some((&text[..found], &text[found + letter.len_utf8()..]))
}

/// Percent escapes undone; octets that are no UTF-8 then become `\u{fffd}`.
pub(super) fn unescaped(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = (*first == b'%').then(|| behind.get(..2)).flatten();
        match hex.and_then(octet) {
            Some(octet) => {
                octets.push(octet);
                rest = &behind[2..];
            }
            None => {
                octets.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Two hexadecimal digits.
fn octet(hex: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(hex).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// The words of a User-to-User header (RFC 7433 §4): hexadecimal digits, behind an octet that says whose protocol it is.
/// `None` when they are not text.
pub(super) fn user_to_user(value: &str) -> Option<String> {
    let (data, parameters) = value.split_once(';').unwrap_or((value, ""));
    let encoding = parameters.split(';').find_map(|piece| piece.trim().strip_prefix("encoding="));
    if encoding.is_some_and(|encoding| !encoding.trim_matches('"').eq_ignore_ascii_case("hex")) {
        return None;
    }
    let data = data.trim().trim_matches('"');
    if data.len() > 2 * limits::USER_TO_USER_MAX || data.len() % 2 != 0 || data.is_empty() {
        return None;
    }
    let octets: Vec<u8> = data.as_bytes().chunks(2).map(octet).collect::<Option<_>>()?;
    // ITU-T Q.931 table 4-26: 0 is the user's own protocol, 4 is IA5 text.
    let text = match octets.split_first() {
        Some((0 | 4, rest)) => rest,
        _ => &octets,
    };
    let text = std::str::from_utf8(text).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_between_entries_only() {
        let entries =
            list(r#""Ada, \"the\" Countess" <sip:+39021@x;user=phone>;verstat=ok, <tel:+39022>, sip:a@b;tag=1"#);

        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].display, r#"Ada, \"the\" Countess"#);
        assert_eq!((entries[0].user().as_str(), entries[0].parameter("VERSTAT")), ("+39021", Some("ok")));
        assert_eq!((entries[1].user().as_str(), entries[2].user().as_str()), ("+39022", "a"));
        assert_eq!(entries[2].parameter("tag"), Some("1"));
    }

    #[test]
    fn escapes_in_addresses_are_undone() {
        let entry = list("<sip:%2B39021@x?Reason=SIP%3Bcause%3D486%3Btext%3D%22Busy%22>;index=1.1")[0];

        assert_eq!(entry.user(), "+39021");
        assert_eq!(entry.uri_header("reason").as_deref(), Some("SIP;cause=486;text=\"Busy\""));
        assert_eq!(unescaped("a%2") + &unescaped("%zz%41"), "a%2%zzA");
    }

    #[test]
    fn words_to_the_user_are_read_from_hexadecimal_digits() {
        let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();

        assert_eq!(
            user_to_user(&format!("04{};encoding=hex;purpose=isdn-uui", hex("order=42"))).as_deref(),
            Some("order=42")
        );
        assert_eq!(user_to_user(&hex("Order")).as_deref(), Some("Order"));
        assert_eq!(user_to_user("04ff00;encoding=hex"), None);
        assert_eq!(user_to_user("abc;encoding=hex"), None);
        assert_eq!(user_to_user("hello;encoding=ascii"), None);
        assert_eq!(user_to_user(&"41".repeat(limits::USER_TO_USER_MAX + 1)), None);
        assert_eq!(user_to_user("+4+4"), None);
    }

    #[test]
    fn garbage_is_survived() {
        for text in ["", ",", "<", "<>", "\"", "\"<", "a<b", "<sip:>,<", ";;=", "\u{e4}%", "%e4%", "<sip:%@>;=;x"] {
            for entry in list(text) {
                let _ = (entry.user(), entry.parameter("x"), entry.uri_header("y"));
            }
            let _ = user_to_user(text);
        }
    }
}
