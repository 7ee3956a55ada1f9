//! One Identity header (RFC 8224 §4): a token, where the certificate is, and what kind of token it is.

use crate::model::{Doubt, limits};

/// One Identity header, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    /// `header.payload.signature`; the first two are empty in the compact form.
    pub(super) token: [&'a str; 3],
    /// Where the certificate can be had.
    pub(super) info: &'a str,
    /// `ES256` when it is not written.
    pub(super) algorithm: &'a str,
    /// `ppt`.
    pub(super) kind: Option<&'a str>,
}

pub(super) fn parse(value: &str) -> Result<Header<'_>, Doubt> {
    if value.len() > limits::SIP_HEADER_LEN_MAX {
        return Err(Doubt::Malformed);
    }
    let mut parts = split(value);
    let token = token(parts.next().unwrap_or_default().trim()).ok_or(Doubt::Malformed)?;
    let (mut info, mut algorithm, mut kind) = (None, None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim(), value.trim());
        let place = match name.to_ascii_lowercase().as_str() {
            "info" => &mut info,
            "alg" => &mut algorithm,
            "ppt" => &mut kind,
            // RFC 8224 §4: further parameters may come, and mean nothing to us.
            _ => continue,
        };
        // Two of a kind could be read differently by whoever looks after us.
        if place.replace(value).is_some() {
            return Err(Doubt::Malformed);
        }
    }
    let info = info.and_then(|info| info.strip_prefix('<')?.strip_suffix('>')).ok_or(Doubt::Malformed)?;
    let algorithm = unquoted(algorithm.unwrap_or("ES256"));
    Ok(Header { token, info, algorithm, kind: kind.map(unquoted) })
}

fn token(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('.');
    let token = [parts.next()?, parts.next()?, parts.next()?];
    let is_whole = !token[0].is_empty() && !token[1].is_empty();
    let is_compact = token[0].is_empty() && token[1].is_empty();
    (parts.next().is_none() && !token[2].is_empty() && (is_whole || is_compact)).then_some(token)
}

/// Splits at semicolons that stand neither in `<…>` nor in quotes.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let (mut is_angle, mut is_quoted) = (false, false);
    value.split(move |c| {
        match c {
            '"' if !is_angle => is_quoted = !is_quoted,
            '<' if !is_quoted => is_angle = true,
            '>' if !is_quoted => is_angle = false,
            ';' => return !is_angle && !is_quoted,
            _ => {}
        }
        false
    })
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_may_be_quoted_spaced_and_in_any_order() {
        let header = parse(r#"a.b.c ; ppt="shaken"; alg = ES256 ;x;info=<https://c.example/a;b.pem>"#).unwrap();

        assert_eq!(header.token, ["a", "b", "c"]);
        assert_eq!(header.info, "https://c.example/a;b.pem");
        assert_eq!((header.algorithm, header.kind), ("ES256", Some("shaken")));
    }

    #[test]
    fn the_compact_form_has_a_signature_only() {
        assert_eq!(parse("..c;info=<https://c.example/>").unwrap().token, ["", "", "c"]);
    }

    #[test]
    fn half_a_header_is_none() {
        for value in [
            "",
            "a.b.c",
            "a.b;info=<x>",
            ".b.c;info=<x>",
            "a.b.;info=<x>",
            "a.b.c.d;info=<x>",
            "a.b.c;info=x",
            "a.b.c;info=<x>;info=<y>",
            "a.b.c;info=<x;ppt=shaken",
        ] {
            assert_eq!(parse(value), Err(Doubt::Malformed), "{value}");
        }
    }
}
