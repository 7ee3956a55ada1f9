//! The way in for whoever throws octets at this room: `fuzz/`, and the test that replays its corpora.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sipx_sip::{HeaderName, Limits, Message, Method, Request, Uri, parse_datagram};

use super::dialog::Dialog;
use super::door::{self, Verdict};
use super::event::Transport;
use super::message;

/// Takes a datagram through everything that reads messages: the parser, the front door, the invitation and the dialog.
/// Whether it was a message at all.
#[doc(hidden)]
pub fn fuzz_door(octets: &[u8]) -> bool {
    let Ok(message) = parse_datagram(octets.to_vec().into(), &Limits::datagram()) else { return false };
    read(&message);
    // What was read can be written, and read again.
    parse_datagram(message.to_bytes(), &Limits::datagram()).is_ok()
}

/// Puts the octets into every header that we read, and reads them.
#[doc(hidden)]
pub fn fuzz_header(octets: &[u8]) {
    for name in READ {
        let Some(mut request) = invite(name) else { return };
        put(&mut request.headers, name, octets);
        let mut response = message::respond(&request, 401, Some("tag"));
        put(&mut response.headers, name, octets);
        read(&Message::Request(request));
        read(&Message::Response(response));
    }
    // And as an address of its own.
    if let Ok(uri) = Uri::parse(octets.to_vec().into()) {
        read(&Message::Request(Request::new(Method::Invite, uri)));
    }
}

fn read(message: &Message) {
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
    match message {
        Message::Request(request) => {
            let _ = door::is_aimed(request, IpAddr::V4(Ipv4Addr::LOCALHOST));
            let verdict = door::judge(request, "tag");
            let answer = match verdict {
                Verdict::Answer(answer) => *answer,
                Verdict::Serve(_) | Verdict::Drop => door::capabilities(request, Some("tag")),
            };
            let _ = Message::Response(answer).to_bytes();
            let _ = message::invite(request, source, Transport::Udp);
            let _ = message::answered_elsewhere(&request.headers);
            let _ = message::q850(&request.headers);
            if let Some(mut dialog) = Dialog::incoming(request, "tag") {
                dialog.take_cseq(request);
                dialog.refresh_target(request);
            }
        }
        Message::Response(response) => {
            if let Some(invite) = invite("") {
                let _ = Dialog::outgoing(&invite, response);
            }
            let _ = message::retry_after_s(&response.headers);
            let _ = message::q850(&response.headers);
            let _ = message::sdp(&response.headers, response.body());
        }
    }
}

/// An INVITE without objections, and without this header.
fn invite(without: &str) -> Option<Request> {
    let uri = Uri::parse(b"sip:desk@example.net".to_vec().into()).ok()?;
    let mut request = Request::new(Method::Invite, uri);
    for (name, value) in USUAL.iter().filter(|(name, _)| *name != without) {
        put(&mut request.headers, name, value.as_bytes());
    }
    Some(request)
}

fn put(headers: &mut sipx_sip::Headers, name: &str, value: &[u8]) {
    message::put(headers, HeaderName::parse(&name.as_bytes().to_vec().into()), value);
}

/// Every header that some part of the room reads.
const READ: &[&str] = &[
    "Accept",
    "Call-ID",
    "Contact",
    "Content-Type",
    "CSeq",
    "Date",
    "From",
    "Max-Forwards",
    "P-Asserted-Identity",
    "Privacy",
    "Reason",
    "Record-Route",
    "Require",
    "Retry-After",
    "To",
    "Via",
];

const USUAL: &[(&str, &str)] = &[
    ("Via", "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKfuzz"),
    ("Max-Forwards", "70"),
    ("From", "<sip:ada@example.com>;tag=ada"),
    ("To", "<sip:desk@example.net>"),
    ("Call-ID", "fuzz@example.com"),
    ("CSeq", "1 INVITE"),
    ("Contact", "<sip:ada@127.0.0.1>"),
];
