//! Transfers by REFER as one dialog sees them (RFC 3515, 3892, 4488), and how one dialog names another whose place is
//! to be taken (RFC 3891).
//!
//! A referral is a small subscription: whoever sent the REFER is told by NOTIFY how the call goes that it led to. News
//! go out one at a time, and a BYE waits for the last of them, or the other side would never hear how it ended.

use std::collections::VecDeque;
use std::time::Duration;

use sipx_sip::{Address, HeaderName, Headers, Request, TransactionKey};

use super::dialog::{Letter, Out, Reply, establish};
use super::event::{DialogId, Refer, ReferNews, Replaces, SipEvent};
use super::message::{self, Own};
use crate::model::{Pii, limits};

/// Both directions of one dialog's referrals, each with one under way at most.
#[derive(Debug, Default)]
pub(super) struct Refers {
    theirs: Theirs,
    ours: Ours,
    /// Statuses that are still to be told, and the subscription they belong to.
    news: VecDeque<(String, u16)>,
    /// The NOTIFY that is out and not answered yet, by its number.
    telling: Option<u32>,
    /// Our REFER that is out, by its number.
    asking: Option<u32>,
    /// We hang up as soon as all is told, giving this cause.
    pub(super) leaving: Option<Option<u8>>,
    /// Referrals that were taken on this dialog.
    taken: u32,
}

/// Their REFER.
#[derive(Debug, Default)]
enum Theirs {
    #[default]
    None,
    /// The gateway thinks about it.
    Asked { key: TransactionKey, request: Box<Request> },
    /// It is carried out; they watch under this Event.
    Watched { event: String },
    /// It is carried out, and they do not want to hear of it (`Refer-Sub: false`, RFC 4488).
    Unwatched,
}

/// Our REFER.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ours {
    #[default]
    None,
    /// It is out. A NOTIFY may overtake its 202.
    Asked,
    /// They do it.
    Watched,
    /// They said how it ended.
    Over,
}

impl Refers {
    /// A REFER of the other side: it is refused at once when it makes no sense, or told.
    pub(super) fn on_refer(&mut self, id: DialogId, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        if !matches!(self.theirs, Theirs::None) {
            out.push(Out::Respond(key, message::respond(request, 491, None)));
            return;
        }
        match read(request) {
            Ok(refer) => {
                self.theirs = Theirs::Asked { key, request: Box::new(request.clone()) };
                out.push(Out::Tell(SipEvent::Refer { dialog: id, news: ReferNews::Asked(Box::new(refer)) }));
            }
            Err(status) => out.push(Out::Respond(key, message::respond(request, status, None))),
        }
    }

    /// The gateway carries their referral out.
    pub(super) fn take(&mut self, own: &Own, out: &mut Vec<Out>) {
        let (key, request) = match std::mem::take(&mut self.theirs) {
            Theirs::Asked { key, request } => (key, request),
            other => {
                self.theirs = other;
                return;
            }
        };
        let mut response = message::respond(&request, 202, None);
        establish(&mut response, &request, own);
        let sub = request.headers.value(&HeaderName::ReferSub);
        if sub.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"false")) {
            message::put(&mut response.headers, HeaderName::ReferSub, "false");
            self.theirs = Theirs::Unwatched;
        } else {
            // RFC 3515 §2.4.6: from the second REFER of a dialog on, its CSeq tells the subscriptions apart.
            let cseq = message::cseq(&request.headers).unwrap_or_default();
            let event = if self.taken == 0 { "refer".to_owned() } else { format!("refer;id={cseq}") };
            // RFC 3515 §2.4.4: the first NOTIFY follows at once.
            self.news.push_back((event.clone(), 100));
            self.theirs = Theirs::Watched { event };
        }
        self.taken += 1;
        out.push(Out::Respond(key, response));
    }

    /// The gateway does not.
    pub(super) fn refuse(&mut self, status: u16, out: &mut Vec<Out>) {
        match std::mem::take(&mut self.theirs) {
            Theirs::Asked { key, request } => {
                let status = if (400..700).contains(&status) { status } else { 603 };
                out.push(Out::Respond(key, message::respond(&request, status, None)));
            }
            other => self.theirs = other,
        }
    }

    /// The call that their referral led to goes on; a final status ends the referral.
    pub(super) fn tell(&mut self, status: u16) {
        if let Theirs::Watched { event } = &self.theirs
            && (status >= 200 || self.news.len() < NEWS_MAX)
        {
            self.news.push_back((event.clone(), status));
        }
        if status >= 200 && !matches!(self.theirs, Theirs::Asked { .. }) {
            self.theirs = Theirs::None;
        }
    }

    /// The next of what is to be told, when nothing else is in the air: a subscription and a status.
    pub(super) fn next_news(&mut self) -> Option<(String, u16)> {
        if self.telling.is_some() { None } else { self.news.pop_front() }
    }

    /// A NOTIFY or our REFER went out under this number.
    pub(super) fn sent_news(&mut self, number: u32) {
        self.telling = Some(number);
    }

    pub(super) fn sent_refer(&mut self, number: u32) {
        self.asking = Some(number);
        self.ours = Ours::Asked;
    }

    /// An answer to one of ours, or that none will come; `false` when it is about something else.
    pub(super) fn on_reply(&mut self, id: DialogId, number: u32, reply: &Reply, out: &mut Vec<Out>) -> bool {
        let status = match reply {
            Reply::Response(response) if response.status.is_provisional() => return self.knows(number),
            Reply::Response(response) => Some(response.status.code()),
            Reply::Lost | Reply::Over => None,
        };
        if self.telling == Some(number) {
            self.on_told(status);
            true
        } else if self.asking == Some(number) {
            self.asking = None;
            self.on_answer(id, status, out);
            true
        } else {
            false
        }
    }

    fn knows(&self, number: u32) -> bool {
        self.telling == Some(number) || self.asking == Some(number)
    }

    /// A NOTIFY was answered, or never will be. One that is refused ends the subscription (RFC 6665 §4.2.2).
    fn on_told(&mut self, status: Option<u16>) {
        self.telling = None;
        if status.is_none_or(|status| status >= 400) {
            self.news.clear();
            if matches!(self.theirs, Theirs::Watched { .. }) {
                self.theirs = Theirs::Unwatched;
            }
        }
    }

    /// Whether somebody has yet to hear something, so that BYE waits.
    pub(super) fn is_telling(&self) -> bool {
        self.telling.is_some() || !self.news.is_empty()
    }

    /// Our REFER was answered, or never will be.
    fn on_answer(&mut self, id: DialogId, status: Option<u16>, out: &mut Vec<Out>) {
        let news = match (self.ours, status) {
            (Ours::Asked, Some(200..300)) => {
                self.ours = Ours::Watched;
                ReferNews::Accepted
            }
            (Ours::Asked, status) => {
                self.ours = Ours::None;
                ReferNews::Refused(status)
            }
            // A NOTIFY was faster and has said it all.
            (Ours::None | Ours::Watched | Ours::Over, _) => return,
        };
        out.push(Out::Tell(SipEvent::Refer { dialog: id, news }));
    }

    /// A NOTIFY of the other side.
    pub(super) fn on_notify(&mut self, id: DialogId, key: TransactionKey, request: &Request, out: &mut Vec<Out>) {
        let event = message::value(&request.headers, &HeaderName::Event).map(|value| message::text(&value));
        let package = event.as_deref().map(|event| event.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
        let status = match package.as_deref() {
            Some("refer") if self.ours != Ours::None => 200,
            // RFC 6665 §4.1.3: nobody subscribed to this.
            Some("refer") => 481,
            Some(_) => 489,
            None => 400,
        };
        out.push(Out::Respond(key, message::respond(request, status, None)));
        if status != 200 || self.ours == Ours::Over {
            return;
        }
        let fragment = sipfrag(request.body());
        let state = message::value(&request.headers, &HeaderName::SubscriptionState).map(|value| message::text(&value));
        let is_over = state.is_some_and(|state| state.trim().to_ascii_lowercase().starts_with("terminated"));
        if self.ours == Ours::Asked {
            self.ours = Ours::Watched;
            out.push(Out::Tell(SipEvent::Refer { dialog: id, news: ReferNews::Accepted }));
        }
        let news = match fragment {
            Some(status @ 200..) => ReferNews::Ended(Some(status)),
            _ if is_over => ReferNews::Ended(None),
            Some(status @ 101..200) => ReferNews::Progress(status),
            // A bare 100, or words that we cannot read: they are at it.
            _ => return,
        };
        if matches!(news, ReferNews::Ended(_)) {
            self.ours = Ours::Over;
        }
        out.push(Out::Tell(SipEvent::Refer { dialog: id, news }));
    }
}

/// Puts a NOTIFY's words into it.
pub(super) fn write_news(letter: &mut Letter, event: &str, status: u16) {
    let state = if status < 200 { "active;expires=180" } else { "terminated;reason=noresource" };
    let body = format!("SIP/2.0 {status} {}\r\n", message::reason_phrase(status));
    let headers = &mut letter.request.headers;
    message::put(headers, HeaderName::Event, event);
    message::put(headers, HeaderName::SubscriptionState, state);
    headers.remove_all(&HeaderName::ContentLength);
    message::put_body(headers, SIPFRAG, body.as_bytes());
    letter.request.set_body(body.into_bytes().into());
}

/// A REFER in our own words, or the status that refuses it.
fn read(request: &Request) -> Result<Refer, u16> {
    let headers = &request.headers;
    let mut targets = headers.get_all(&HeaderName::ReferTo);
    // RFC 3515 §2.4.2: exactly one.
    let (Some(target), None) = (targets.next(), targets.next()) else { return Err(400) };
    let target = Address::parse(&target.value(), "Refer-To").map_err(|_| 400_u16)?;
    let mut uri = target.uri;
    let scheme = uri.scheme().as_bytes().to_ascii_lowercase();
    if !matches!(scheme.as_slice(), b"sip" | b"sips" | b"tel") {
        return Err(416);
    }
    let method = uri.params().and_then(|params| params.value("method")).map(<[u8]>::to_ascii_uppercase);
    if method.is_some_and(|method| method != b"INVITE") {
        // We call people, and do nothing else for a stranger.
        return Err(603);
    }
    uri.remove_param("method");
    let mut replaces = None;
    let mut passed_on = Vec::new();
    let escaped: Vec<(String, String)> = uri.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .take(limits::SIP_HEADERS_MAX)
            .map(|h| (unescaped(h.name()), unescaped(h.value().unwrap_or_default())))
            .collect()
    });
    for (name, value) in escaped {
        uri.remove_header(&name);
        let lower = name.to_ascii_lowercase();
        if lower == "replaces" {
            if replaces.is_some() {
                return Err(400);
            }
            replaces = Some(read_replaces(&value).ok_or(400_u16)?);
        } else if (lower.starts_with("x-") || lower == "user-to-user") && value.len() <= limits::SIP_HEADER_LEN_MAX {
            passed_on.push((name, Pii::new(value)));
        }
    }
    let to = message::text(&uri.to_bytes());
    let to = to.split('?').next().unwrap_or_default().parse().map_err(|_| 400_u16)?;
    let referred_by = message::value(headers, &HeaderName::ReferredBy)
        .filter(|value| value.len() <= limits::SIP_HEADER_LEN_MAX)
        .map(|value| Pii::new(message::text(&value)));
    Ok(Refer { to: Pii::new(to), replaces, referred_by, headers: passed_on })
}

/// Which dialog an INVITE wants to take the place of (RFC 3891 §3); the status of one that cannot be read.
pub(super) fn replaces(headers: &Headers) -> Result<Option<Replaces>, u16> {
    let mut values = headers.get_all(&HeaderName::Replaces);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(400);
    }
    read_replaces(&message::text(&value.value())).map(Some).ok_or(400)
}

/// `call-id;to-tag=a;from-tag=b`, perhaps with `early-only` (RFC 3891 §6.1).
fn read_replaces(value: &str) -> Option<Replaces> {
    let mut parts = value.split(';').map(str::trim);
    let call_id = parts.next().filter(|call_id| !call_id.is_empty() && !call_id.contains(','))?.to_owned();
    let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
    for part in parts {
        let (name, tag) = part.split_once('=').unwrap_or((part, ""));
        let twice = match name.trim().to_ascii_lowercase().as_str() {
            "to-tag" => to_tag.replace(tag.trim().to_owned()).is_some(),
            "from-tag" => from_tag.replace(tag.trim().to_owned()).is_some(),
            "early-only" => std::mem::replace(&mut early_only, true),
            // RFC 3891 §6.1 allows further parameters.
            _ => false,
        };
        if twice {
            return None;
        }
    }
    Some(Replaces { call_id, to_tag: to_tag?, from_tag: from_tag?, early_only, dialog: None })
}

/// How Replaces is written.
pub(super) fn write_replaces(replaces: &Replaces) -> String {
    let early = if replaces.early_only { ";early-only" } else { "" };
    format!("{};to-tag={};from-tag={}{early}", replaces.call_id, replaces.to_tag, replaces.from_tag)
}

/// A Refer-To that makes whoever gets it take our place in a dialog: its other side, and which dialog.
pub(super) fn refer_to_replacing(target: &str, replaces: &Replaces) -> String {
    let joint = if target.contains('?') { '&' } else { '?' };
    format!("<{target}{joint}Replaces={}>", escaped(&write_replaces(replaces)))
}

/// The status of a fragment of a response (RFC 3420).
fn sipfrag(body: &[u8]) -> Option<u16> {
    let line = message::text(body.get(..body.len().min(STATUS_LINE_MAX))?);
    let rest = line.trim_start().get(..8).filter(|version| version.eq_ignore_ascii_case("SIP/2.0 "))?;
    let status: u16 = line.trim_start()[rest.len()..].trim_start().get(..3)?.parse().ok()?;
    (100..700).contains(&status).then_some(status)
}

fn unescaped(octets: &[u8]) -> String {
    let mut out = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => {
                let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low)
            }
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    message::text(&out)
}

/// Percent-encodes all that might mean something in a URI's header.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}

const SIPFRAG: &str = "message/sipfrag;version=2.0";

/// News waiting behind a NOTIFY that is not answered. Further provisional ones say nothing that the last did not.
const NEWS_MAX: usize = 4;

/// A status line is the first of a fragment; what follows is not looked at.
const STATUS_LINE_MAX: usize = 256;

/// How long BYE waits for the answer to the last NOTIFY: four tries of it over UDP.
pub(super) const LAST_NEWS_MAX: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sipx_sip::{Limits, Message, parse_datagram};

    fn refer(headers: &str) -> Result<Refer, u16> {
        let text = format!(
            "REFER sip:us@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 2 REFER\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        match parse_datagram(Bytes::from(text), &Limits::datagram()) {
            Ok(Message::Request(request)) => read(&request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_is_read_with_its_escaped_headers() {
        let read = refer(
            "Refer-To: \"Bob\" <sip:bob@192.0.2.9?Replaces=12%40h%3Bto-tag%3Da%3Bfrom-tag%3Db%3Bearly-only&X-Note=hi%20there&Via=evil>\r\n\
             Referred-By: <sip:alice@192.0.2.2>\r\n",
        )
        .unwrap();

        assert_eq!(read.to.reveal().as_str(), "sip:bob@192.0.2.9");
        let replaces = read.replaces.unwrap();
        assert_eq!(
            (replaces.call_id.as_str(), replaces.to_tag.as_str(), replaces.from_tag.as_str()),
            ("12@h", "a", "b")
        );
        assert!(replaces.early_only);
        assert_eq!(read.referred_by.unwrap().reveal(), "<sip:alice@192.0.2.2>");
        let headers: Vec<_> =
            read.headers.iter().map(|(name, value)| (name.as_str(), value.reveal().as_str())).collect();
        assert_eq!(headers, [("X-Note", "hi there")]);
    }

    #[test]
    fn compact_names_and_telephone_numbers_are_targets() {
        assert_eq!(refer("r: <tel:+44-20-7946-0000>\r\n").unwrap().to.reveal().as_str(), "+442079460000");
        assert_eq!(
            refer("Refer-To: sips:bob@192.0.2.9;user=phone\r\n").map(|r| r.to.reveal().as_str().to_owned()),
            Ok("sips:bob@192.0.2.9".to_owned())
        );
    }

    #[test]
    fn what_is_no_single_target_is_refused() {
        assert_eq!(refer("").err(), Some(400));
        assert_eq!(refer("Refer-To: <sip:a@b>\r\nRefer-To: <sip:c@d>\r\n").err(), Some(400));
        assert_eq!(refer("Refer-To: <sip:a@b>, <sip:c@d>\r\n").err(), Some(400));
        assert_eq!(refer("Refer-To: <<<\r\n").err(), Some(400));
        assert_eq!(refer("Refer-To: <http://a>\r\n").err(), Some(416));
        assert_eq!(refer("Refer-To: <sip:a@b;method=BYE>\r\n").err(), Some(603));
        assert_eq!(refer("Refer-To: <sip:a@b?Replaces=no-tags>\r\n").err(), Some(400));
    }

    #[test]
    fn a_dialog_is_named_as_it_is_read() {
        let replaces = Replaces {
            call_id: "1;2@h".to_owned(),
            to_tag: "a=b".to_owned(),
            from_tag: "c".to_owned(),
            early_only: false,
            dialog: None,
        };

        let written = refer_to_replacing("sip:bob@192.0.2.9", &replaces);

        assert_eq!(written, "<sip:bob@192.0.2.9?Replaces=1%3B2%40h%3Bto-tag%3Da%3Db%3Bfrom-tag%3Dc>");
        assert_eq!(
            read_replaces("a@b ; from-tag=1; to-tag=2;early-only").map(|r| write_replaces(&r)).as_deref(),
            Some("a@b;to-tag=2;from-tag=1;early-only")
        );
        assert!(read_replaces("a;to-tag=1;to-tag=2;from-tag=3").is_none());
    }

    #[test]
    fn a_fragment_says_its_status() {
        assert_eq!(sipfrag(b"SIP/2.0 486 Busy Here\r\n"), Some(486));
        assert_eq!(sipfrag(b"SIP/2.0 200"), Some(200));
        for odd in [b"".as_slice(), b"SIP/2.0", b"SIP/2.0 99 x", b"HTTP/1.1 200 OK", b"SIP/2.0 2\xff0"] {
            assert_eq!(sipfrag(odd), None);
        }
    }
}
