//! The way in for whoever throws octets at this room: `fuzz/`, and the test that replays its corpora.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sipx_sip::{HeaderName, Limits, Message, Method, Request, TransactionKey, Uri, parse_datagram};

use super::config::SipTimers;
use super::dialog::Dialog;
use super::door::{self, Kind, Verdict};
use super::event::{DialogId, ReferOrder, SipCommand, Transport};
use super::message::{self, Own};
use super::refer;
use super::session::Dice;
use super::uac::{Beginning, Uac};
use super::uas::{Birth, Uas};
use crate::trunk::SessionRules;

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

/// Puts the octets where referrals and their news are read: Refer-To, Replaces, and the body of a NOTIFY.
#[doc(hidden)]
pub fn fuzz_refer(octets: &[u8]) {
    let mut out = Vec::new();
    let Some(mut uas) = invite("").and_then(|invite| called(&invite, &mut out)) else { return };
    uas.on_command(SipCommand::Answer { sdp: OURS.to_owned() }, &mut out);
    let Some(ack) = inner(Method::Ack, 1) else { return };
    uas.on_ack(&ack, &mut out);
    let order = ReferOrder::Send { to: "<sip:c@127.0.0.1>".to_owned(), replacing: None };
    uas.on_command(SipCommand::Refer(order), &mut out);
    let (Some(mut refer), Some(mut notify), Some(mut taking)) =
        (inner(Method::Refer, 2), inner(Method::Notify, 3), invite(""))
    else {
        return;
    };
    put(&mut refer.headers, "Refer-To", octets);
    put(&mut refer.headers, "Referred-By", octets);
    put(&mut notify.headers, "Event", b"refer");
    put(&mut notify.headers, "Subscription-State", octets);
    notify.set_body(octets.to_vec().into());
    for request in [&notify, &refer] {
        if let Some(key) = TransactionKey::from_request(request) {
            uas.on_request(key, request, &mut out);
        }
    }
    uas.on_command(SipCommand::Refer(ReferOrder::Take), &mut out);
    put(&mut taking.headers, "Replaces", octets);
    if let Ok(Some(replaces)) = refer::replaces(&taking.headers) {
        // What was read can be written, and read again.
        let written = refer::write_replaces(&replaces);
        taking.headers.remove_all(&HeaderName::Replaces);
        put(&mut taking.headers, "Replaces", written.as_bytes());
        assert!(matches!(refer::replaces(&taking.headers), Ok(Some(again)) if again == replaces), "{written:?}");
    }
    for out in out {
        if let super::dialog::Out::Ask(_, letter) = out {
            drop(Message::Request(letter.request).to_bytes());
        }
    }
}

/// A request of the caller within the dialog.
fn inner(method: Method, cseq: u32) -> Option<Request> {
    let uri = Uri::parse(b"sip:ringback@127.0.0.1".to_vec().into()).ok()?;
    let name = message::text(method.as_bytes());
    let mut request = Request::new(method, uri);
    for (header, value) in USUAL.iter().filter(|(header, _)| !["Via", "To", "CSeq"].contains(header)) {
        put(&mut request.headers, header, value.as_bytes());
    }
    put(&mut request.headers, "Via", format!("SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKin{cseq}").as_bytes());
    put(&mut request.headers, "To", b"<sip:desk@example.net>;tag=tag");
    put(&mut request.headers, "CSeq", format!("{cseq} {name}").as_bytes());
    Some(request)
}

fn read(message: &Message) {
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
    match message {
        Message::Request(request) => {
            let _ = door::is_aimed(request, IpAddr::V4(Ipv4Addr::LOCALHOST));
            match door::judge(request, "tag") {
                Verdict::Answer(answer) => drop(Message::Response(*answer).to_bytes()),
                Verdict::Serve(kind) => serve(kind, request),
                Verdict::Drop => {}
            }
            let _ = message::invite(request, source, Transport::Udp);
            let _ = message::answered_elsewhere(&request.headers);
            let _ = message::q850(&request.headers);
            if let Some(mut dialog) = Dialog::incoming(request, "tag") {
                dialog.take_cseq(request);
                dialog.refresh_target(&request.headers);
            }
        }
        Message::Response(response) => {
            if let Some(invite) = invite("") {
                let _ = Dialog::outgoing(&invite, response);
                let (id, timers, rules) = (DialogId(0), SipTimers::default(), SessionRules::default());
                let beginning = Beginning { id, own: own(), timers, rules, dice: Dice(1) };
                let mut out = Vec::new();
                Uac::dial(beginning, invite, OURS.to_owned(), &mut out).on_response(response, &mut out);
            }
            let _ = message::retry_after_s(&response.headers);
            let _ = message::q850(&response.headers);
            let _ = message::sdp(&response.headers, response.body());
        }
    }
}

/// What the dialogs do with a request that was let in.
fn serve(kind: Kind, request: &Request) {
    let Some(key) = TransactionKey::from_request(request) else { return };
    let mut out = Vec::new();
    let answer = || SipCommand::Answer { sdp: OURS.to_owned() };
    if kind == Kind::Call {
        let Some(mut uas) = called(request, &mut out) else { return };
        uas.on_command(SipCommand::Ring, &mut out);
        uas.on_command(answer(), &mut out);
        uas.on_ack(request, &mut out);
    } else {
        // Once while it rings, and once in the middle of the call.
        let Some(mut uas) = invite("").and_then(|invite| called(&invite, &mut out)) else { return };
        uas.on_request(key.clone(), request, &mut out);
        uas.on_command(answer(), &mut out);
        uas.on_ack(request, &mut out);
        uas.on_request(key, request, &mut out);
    }
}

fn called(invite: &Request, out: &mut Vec<super::dialog::Out>) -> Option<Uas> {
    let key = TransactionKey::from_request(invite)?;
    let (id, tag, timers) = (DialogId(0), "tag".to_owned(), SipTimers::default());
    Uas::invited(Birth { id, key, tag, own: own(), timers, dice: Dice(1) }, invite.clone(), out)
}

fn own() -> Own {
    Own {
        sent_by: "127.0.0.1:5060".to_owned(),
        host: "127.0.0.1".to_owned(),
        contact: "<sip:ringback@127.0.0.1>".to_owned(),
        agent: "ringback".to_owned(),
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

const OURS: &str =
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

/// Every header that some part of the room reads.
const READ: &[&str] = &[
    "Accept",
    "Call-ID",
    "Contact",
    "Content-Disposition",
    "Content-Type",
    "CSeq",
    "Date",
    "From",
    "Max-Forwards",
    "Min-SE",
    "P-Asserted-Identity",
    "Privacy",
    "Proxy-Authenticate",
    "RAck",
    "Reason",
    "Record-Route",
    "Require",
    "Retry-After",
    "RSeq",
    "Session-Expires",
    "Supported",
    "To",
    "Via",
    "WWW-Authenticate",
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
