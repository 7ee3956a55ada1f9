//! Message bodies of several parts (RFC 2046 §5.1, RFC 5621): finding the session description.

use sipx_sip::{HeaderName, Headers};

use super::message::{self, SDP};

/// The first part that is a session description. Parts within parts are looked into once.
pub(super) fn sdp_part<'a>(headers: &Headers, body: &'a [u8]) -> Option<&'a [u8]> {
    let content_type = message::text(&headers.value(&HeaderName::ContentType)?);
    find(&content_type, body, DEPTH_MAX)
}

/// Whether the sender can do without the body being understood (`handling=optional`, RFC 3261 §20.11).
pub(super) fn is_optional(headers: &Headers) -> bool {
    headers.value(&HeaderName::ContentDisposition).is_some_and(|value| {
        let value = message::text(&value).to_ascii_lowercase();
        value.split(';').skip(1).any(|parameter| parameter.replace([' ', '\t', '"'], "") == "handling=optional")
    })
}

fn find<'a>(content_type: &str, body: &'a [u8], depth: usize) -> Option<&'a [u8]> {
    let delimiter = format!("--{}", boundary(content_type)?);
    let mut lines = Lines { body, at: 0 };
    let mut part: Option<usize> = None;
    let mut parts = 0;
    loop {
        let line = lines.next();
        let is_delimiter = line.is_none_or(|(line, _)| line.starts_with(delimiter.as_bytes()));
        if is_delimiter && let Some(start) = part {
            // The line end before a delimiter belongs to the delimiter.
            let end = line.map_or(body.len(), |(_, at)| at);
            let content = body.get(start..end)?;
            let content = content.strip_suffix(b"\n").unwrap_or(content);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            if let Some(found) = look_into(content, depth) {
                return Some(found);
            }
        }
        let (line, _) = line?;
        if is_delimiter {
            parts += 1;
            if parts > PARTS_MAX || line.get(delimiter.len()..).is_some_and(|rest| rest.starts_with(b"--")) {
                return None;
            }
            part = Some(lines.at);
        }
    }
}

/// One part: its headers, an empty line, its content.
fn look_into(part: &[u8], depth: usize) -> Option<&[u8]> {
    let mut lines = Lines { body: part, at: 0 };
    let mut content_type = None;
    loop {
        let (line, _) = lines.next()?;
        if line.is_empty() {
            break;
        }
        let line = message::text(line);
        if let Some((name, value)) = line.split_once(':')
            && (name.trim().eq_ignore_ascii_case("content-type") || name.trim().eq_ignore_ascii_case("c"))
        {
            content_type = Some(value.trim().to_owned());
        }
    }
    let content_type = content_type?;
    let media = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let content = part.get(lines.at..)?;
    match media.as_str() {
        SDP => Some(content),
        _ if media.starts_with("multipart/") && depth > 1 => find(&content_type, content, depth - 1),
        _ => None,
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let at = content_type.to_ascii_lowercase().find("boundary=")?;
    let value = content_type.get(at + "boundary=".len()..)?;
    let value = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => value.split([';', ' ', '\t']).next()?,
    };
    // RFC 2046 §5.1.1: at most 70 characters.
    (1..=70).contains(&value.len()).then(|| value.to_owned())
}

/// The lines of a body without their ends, each with where it begins.
struct Lines<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<(&'a [u8], usize)> {
        let start = self.at;
        let rest = self.body.get(start..).filter(|rest| !rest.is_empty())?;
        let length = rest.iter().position(|octet| *octet == b'\n').unwrap_or(rest.len());
        self.at = (start + length + 1).min(self.body.len());
        let line = &rest[..length];
        Some((line.strip_suffix(b"\r").unwrap_or(line), start))
    }
}

/// More parts than any gateway or recorder sends.
const PARTS_MAX: usize = 16;
/// `multipart/mixed` around `multipart/alternative` occurs; deeper does not.
const DEPTH_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_found_among_the_parts() {
        let body = b"preamble\r\n--b1\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n--b1\r\n\
            Content-Disposition: session\r\nContent-Type: Application/SDP\r\n\r\nv=0\r\ns=-\r\n\r\n--b1--\r\n";

        assert_eq!(find("multipart/mixed;boundary=b1", body, 2), Some(b"v=0\r\ns=-\r\n".as_slice()));
        assert_eq!(find("multipart/mixed; Boundary=\"b1\"; x=y", body, 2), Some(b"v=0\r\ns=-\r\n".as_slice()));
        assert_eq!(find("multipart/mixed;boundary=b2", body, 2), None);
        assert_eq!(find("multipart/mixed", body, 2), None);
    }

    #[test]
    fn parts_within_parts_and_an_end_that_never_comes() {
        let inner = "--in\nc: application/sdp\n\nv=0\n--in--";
        let body = format!("--out\nContent-Type: multipart/alternative;boundary=in\n\n{inner}");

        assert_eq!(find("multipart/mixed;boundary=out", body.as_bytes(), 2), Some(b"v=0".as_slice()));
        assert_eq!(find("multipart/mixed;boundary=out", body.as_bytes(), 1), None);
        assert_eq!(find("multipart/mixed;boundary=b", "--b\r\n\r\n".repeat(1000).as_bytes(), 2), None);
    }

    proptest::proptest! {
        #[test]
        fn no_body_breaks_it(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), cut in 0..200usize) {
            let whole = b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nContent-Type: multipart/x;boundary=b\r\n\r\n--b--";
            let mixed = [&whole[..cut.min(whole.len())], &body].concat();
            let _ = find("multipart/mixed;boundary=b", &mixed, 2);
        }
    }
}
