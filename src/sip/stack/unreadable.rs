//! What cannot be read as a request, but shows well enough which request it would be: it is answered 400
//! (RFC 3261 §18.3), without a transaction.

use super::super::message;

/// The answer to a datagram that is no message; `None` when it is no request, acknowledges something, or does not say
/// what an answer must repeat (RFC 3261 §8.2.6.2). It is hardly longer than the request, so it amplifies nothing.
pub(super) fn refusal(octets: &[u8], tag: &str) -> Option<Vec<u8>> {
    let end = octets.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut lines = unfolded(&octets[..end]).into_iter();
    let start = lines.next()?;
    if start.starts_with(b"SIP/") || !start.windows(5).any(|window| window == b" SIP/") {
        return None;
    }
    let mut refusal = b"SIP/2.0 400 Bad Request\r\n".to_vec();
    let mut seen = [0_usize; REPEATED.len()];
    for line in lines {
        let Some(colon) = line.iter().position(|octet| *octet == b':') else { continue };
        let name = line[..colon].trim_ascii();
        let is = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
        let Some(at) = REPEATED.iter().position(|(long, short)| is(long) || is(short)) else { continue };
        seen[at] += 1;
        refusal.extend_from_slice(&line);
        if at == TO && !line.to_ascii_lowercase().windows(4).any(|window| window == b"tag=") {
            refusal.extend_from_slice(format!(";tag={tag}").as_bytes());
        }
        // RFC 3261 §8.1.1.1: an ACK is never answered.
        if at == CSEQ && line.trim_ascii().to_ascii_uppercase().ends_with(b"ACK") {
            return None;
        }
        refusal.extend_from_slice(b"\r\n");
    }
    let is_whole = seen[VIA] > 0 && seen[VIA + 1..].iter().all(|count| *count == 1);
    let reason = message::warning("ringback", "the request cannot be read");
    refusal.extend_from_slice(format!("Warning: {reason}\r\nContent-Length: 0\r\n\r\n").as_bytes());
    is_whole.then_some(refusal)
}

/// Header lines, each with its continuations (RFC 3261 §7.3.1).
fn unfolded(head: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in head.split(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match lines.last_mut() {
            Some(last) if line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t')) => {
                last.push(b' ');
                last.extend_from_slice(line.trim_ascii());
            }
            _ => lines.push(line.to_vec()),
        }
    }
    lines
}

/// Header fields that an answer repeats, with their compact names.
const REPEATED: [(&str, &str); 5] = [("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i"), ("CSeq", "CSeq")];
const VIA: usize = 0;
const TO: usize = 2;
const CSEQ: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: &str = "OPTIONS sip:us@example.net  SIP/2.0\r\nv: SIP/2.0/UDP a.example;branch=z9hG4bK1\r\n\
        Via: SIP/2.0/UDP b.example\r\n ;branch=z9hG4bK2\r\nMax-Forwards: -1\r\nf: <sip:a@a.example>;tag=1\r\n\
        To: <sip:us@example.net>\r\nCall-ID: 7\r\nCSeq: 3 OPTIONS\r\nContent-Length: -5\r\n\r\n";

    fn text(octets: &[u8]) -> String {
        String::from_utf8(octets.to_vec()).unwrap()
    }

    #[test]
    fn a_request_that_cannot_be_read_is_named_in_its_refusal() {
        let refusal = text(&refusal(BROKEN.as_bytes(), "ours").unwrap());

        assert!(refusal.starts_with("SIP/2.0 400 Bad Request\r\nv: SIP/2.0/UDP a.example;branch=z9hG4bK1\r\n"));
        assert!(refusal.contains("Via: SIP/2.0/UDP b.example ;branch=z9hG4bK2\r\n"));
        assert!(refusal.contains("To: <sip:us@example.net>;tag=ours\r\n") && refusal.contains("CSeq: 3 OPTIONS\r\n"));
        assert!(!refusal.contains("Max-Forwards") && refusal.ends_with("Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn what_must_not_or_cannot_be_answered_is_not() {
        let without = |line: &str| refusal(BROKEN.replace(line, "").as_bytes(), "t");

        assert_eq!(without("Call-ID: 7\r\n"), None);
        assert_eq!(without("\r\n\r\n"), None);
        assert_eq!(refusal(BROKEN.replace("3 OPTIONS", "3 ACK").as_bytes(), "t"), None);
        assert_eq!(
            refusal(BROKEN.replace("OPTIONS sip:us@example.net  SIP/2.0", "SIP/2.0 200 OK").as_bytes(), "t"),
            None
        );
        assert_eq!(refusal(BROKEN.replace("Call-ID: 7", "Call-ID: 7\r\ni: 8").as_bytes(), "t"), None);
        assert_eq!(refusal(b"\r\n\r\n", "t"), None);
    }
}
