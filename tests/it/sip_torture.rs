//! The torture messages of RFC 4475 and RFC 5118, case by case, over real sockets.
//!
//! Each case is a message of our own for its section, with the reaction that is right for an endpoint. Each goes to the
//! front door, where what was read is looked at too, and to the whole gateway, where every number leads to somebody who
//! answers: there an INVITE that the RFC calls invalid must never get a 2xx. Where the messages of the RFCs themselves
//! are at hand (`../shared/data`, or the folder that `RINGBACK_TORTURE` names), they run through the same table. What
//! came of it is printed; `cargo test --test it sip_torture -- --nocapture` shows it.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ringback::sip::{Invite, SipCommand, SipEvent};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::rig::{self, Rig};
use crate::sip_probe::{Gateway, Line, Peer, SDP, Wire};
use crate::source::root;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It gets this final answer, and nobody hears of it.
    Status(u16),
    /// It becomes a call.
    Call,
    /// Nothing comes back.
    Silence,
    /// The connection is closed.
    Closed,
}

use Fate::{Call, Closed, Silence, Status};

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status(status) => write!(f, "{status}"),
            Call => f.write_str("call"),
            Silence => f.write_str("silence"),
            Closed => f.write_str("closed"),
        }
    }
}

/// What the RFC says of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rfc {
    Valid,
    Invalid,
    /// Well-formed, and yet not to be served by everybody.
    Unusual,
}

use Rfc::{Invalid, Unusual, Valid};

/// Something read from an INVITE, as it is shown.
type Read = fn(&Invite) -> String;

struct Case {
    /// RFC and section.
    section: &'static str,
    /// The RFC's own name for it, which is that of the file.
    name: &'static str,
    rfc: Rfc,
    /// In our words.
    what: &'static str,
    /// Our message; `{at}` stands for the address it is sent from.
    message: Vec<u8>,
    /// What may become of it at the door; any of these.
    wanted: &'static [Fate],
    /// The same for the RFC's message, where that differs from ours in what counts.
    original: &'static [Fate],
    /// The final answer of a whole gateway to what is a call at the door: one of these.
    ends: &'static [u16],
    /// What must have been read, and how it is shown.
    reads: Option<(Read, &'static str)>,
}

impl Case {
    fn original(self, original: &'static [Fate]) -> Case {
        Case { original, ..self }
    }

    fn reads(self, what: Read, wanted: &'static str) -> Case {
        Case { reads: Some((what, wanted)), ..self }
    }

    fn ends(self, ends: &'static [u16]) -> Case {
        Case { ends, ..self }
    }

    fn is_invite(&self) -> bool {
        self.message.starts_with(b"INVITE")
    }
}

/// A message with these lines, and with Via, To, From and the like unless a line brings its own. A line that is a bare
/// name and colon leaves that header out.
fn message(name: &str, start: &str, lines: &[&str], body: &str) -> Vec<u8> {
    let method = start.split(' ').next().unwrap();
    let has = |name: &str| lines.iter().any(|line| line.to_lowercase().starts_with(name));
    let usual = [
        ("via:", format!("Via: SIP/2.0/UDP {{at}};branch=z9hG4bKodd{name};rport")),
        ("max-forwards:", "Max-Forwards: 70".to_owned()),
        ("from:", format!("From: <sip:odd@example.com>;tag=odd{name}")),
        ("to:", "To: <sip:desk@example.net>".to_owned()),
        ("call-id:", format!("Call-ID: odd{name}@probe")),
        ("cseq:", format!("CSeq: 12 {method}")),
        ("contact:", "Contact: <sip:odd@{at}>".to_owned()),
        ("content-length:", format!("Content-Length: {}", body.len())),
    ];
    let mut out = format!("{start}\r\n");
    for (_, line) in usual.iter().filter(|(name, _)| !has(name)) {
        out += &format!("{line}\r\n");
    }
    for line in lines.iter().filter(|line| !line.ends_with(':')) {
        out += &format!("{line}\r\n");
    }
    format!("{out}\r\n{body}").into_bytes()
}

const TYPE: &str = "Content-Type: application/sdp";
const INVITE: &str = "INVITE sip:desk@example.net SIP/2.0";
const OPTIONS: &str = "OPTIONS sip:desk@example.net SIP/2.0";
const REGISTER: &str = "REGISTER sip:example.com SIP/2.0";

/// We are no registrar, so whatever else a REGISTER has, this is its answer.
const NO_REGISTRAR: &[Fate] = &[Status(405)];

#[allow(clippy::too_many_lines, reason = "one table")]
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |section, name, rfc, what, start: &str, lines: &[&str], body: &str, wanted| {
        let message = message(name, start, lines, body);
        let case = Case { section, name, rfc, what, message, wanted, original: wanted, ends: &[200], reads: None };
        cases.push(case);
    };
    // RFC 4475 §3.1.1: valid, though it does not look it.
    let folded = [
        "To:",
        "TO :\r\n sip:desk@example.com ;   x = odd",
        "From:",
        "f: \"odd \\\\\\\"quoted\\\\\\\"\"\r\n       <sip:odd@example.com>\r\n  ;\r\n  tag = 98asjd8",
        "Max-Forwards: 0068",
        "Call-ID:",
        "i: wsinv.odd@probe",
        "cseq: 0009\r\n  INVITE",
        "Via:",
        "v:  SIP  / 2.0  / UDP\r\n  {at} ;branch=z9hG4bKoddws ;rport",
        "s :",
        "NewFangledHeader:   newfangled value\r\n continued newfangled value",
        "UnknownHeaderWithUnusualValue: ;;,,;;,;",
        "Contact:",
        "m:\"Quoted string \\\"\\\"\" <sip:odd@{at}> ; newparam = newvalue",
        "c: application/sdp",
        "Content-Length:",
        "l: 0",
    ];
    add("4475 3.1.1.1", "wsinv", Valid, "folded lines, compact names", INVITE, &folded, "", &[Call]);
    let symbols = "!odd-Method01_*+`.%indeed'~ sip:1_odd.User~(to-be!sure)&isn't+it$/so?,/;;*:&x=1@example.com SIP/2.0";
    let tokens = ["From: token1~` token2'+_ token3*%!.- <sip:odd@example.com>;tag=_token~1'+`*%!-.", "x-odd~`!.: x"];
    add("4475 3.1.1.2", "intmeth", Valid, "every character that is allowed", symbols, &tokens, "", &[Status(405)]);
    let escaped = "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0";
    add("4475 3.1.1.3", "esc01", Valid, "escapes in the user part", escaped, &[TYPE], SDP, &[Call]);
    let null = "INVITE sip:null-%00-null@example.com SIP/2.0";
    add("4475 3.1.1.4", "escnull", Valid, "an escaped zero", null, &[TYPE], SDP, &[Call]);
    add(
        "4475 3.1.1.5",
        "esc02",
        Valid,
        "% is no escape in a method",
        "RE%47IST%45R sip:a@b SIP/2.0",
        &[],
        "",
        &[Status(405)],
    );
    let tight = ["From: odd<sip:odd@example.com>;tag=323"];
    add("4475 3.1.1.6", "lwsdisp", Valid, "no blank before <", OPTIONS, &tight, "", &[Status(200)]);
    let (value, name) = ("odd".repeat(2000), "odd ".repeat(60));
    let long = [&format!("X-Long: {value}"), &format!("From: \"{name}\" <sip:odd@example.com>;tag=l"), TYPE];
    add("4475 3.1.1.7", "longreq", Valid, "long values everywhere", INVITE, &long, SDP, &[Call]);
    add("4475 3.1.1.8", "dblreq", Valid, "octets behind the end of it", OPTIONS, &[], "", &[Status(200)]);
    let semicolon = "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0";
    add("4475 3.1.1.9", "semiuri", Valid, "a semicolon in the user part", semicolon, &[], "", &[Status(200)]);
    let transports = [
        "Via: SIP/2.0/UDP {at};branch=z9hG4bKoddtr;rport",
        "Via: SIP/2.0/SCTP odd.example.com;branch=z9hG4bKa",
        "Via: SIP/2.0/UNKNOWN odd.example.com;branch=z9hG4bKb",
    ];
    add("4475 3.1.1.10", "transports", Valid, "transports nobody knows", OPTIONS, &transports, "", &[Status(200)]);
    let parts = ["Content-Type: multipart/mixed;boundary=odd"];
    let body = "--odd\r\nContent-Type: text/plain\r\n\r\n\0odd\0\r\n--odd--\r\n";
    let letter = "MESSAGE sip:desk@example.net SIP/2.0";
    add("4475 3.1.1.11", "mpart01", Valid, "a body of many parts", letter, &parts, body, &[Status(405)]);
    let words = "SIP/2.0 200 = 2**3 * 5**2 но сто";
    add("4475 3.1.1.12", "unreason", Valid, "a reason in UTF-8", words, &["CSeq: 1 INVITE"], "", &[Silence]);
    add("4475 3.1.1.13", "noreason", Valid, "no reason at all", "SIP/2.0 100 ", &["CSeq: 1 INVITE"], "", &[Silence]);

    // §3.1.2: invalid.
    let separators = ["Via: SIP/2.0/UDP {at};;,;,,", "Contact: \"Joe\" <sip:joe@example.org>;;;;"];
    add(
        "4475 3.1.2.1",
        "badinv01",
        Invalid,
        "separators between nothing",
        INVITE,
        &separators,
        "",
        &[Silence, Status(400)],
    );
    let beyond = [TYPE, "Content-Length: 9999"];
    add("4475 3.1.2.2", "clerr", Invalid, "a length beyond the end", INVITE, &beyond, SDP, &[Silence, Status(400)]);
    let negative = [TYPE, "Content-Length: -999"];
    add("4475 3.1.2.3", "ncl", Invalid, "a negative length", INVITE, &negative, SDP, &[Silence, Status(400)]);
    let numbers = ["CSeq: 36893488147419103232 REGISTER", "Max-Forwards: 300", "Expires: 10000000000000"];
    add("4475 3.1.2.4", "scalar02", Invalid, "numbers too large", REGISTER, &numbers, "", &[Status(400)]);
    let cseq = ["CSeq: 9292394834772304023312 OPTIONS"];
    let busy = "SIP/2.0 503 Service Unavailable";
    add("4475 3.1.2.5", "scalarlg", Invalid, "the same in an answer", busy, &cseq, "", &[Silence]);
    let quote = ["To: \"Mr. J. User <sip:odd@example.com>", TYPE];
    add("4475 3.1.2.6", "quotbal", Invalid, "a quote left open", INVITE, &quote, SDP, &[Status(400)]);
    let refused: &[Fate] = &[Silence, Status(400)];
    let brackets = "INVITE <sip:user@example.com> SIP/2.0";
    add("4475 3.1.2.7", "ltgtruri", Invalid, "brackets around the URI", brackets, &[TYPE], SDP, refused);
    let blanks = "INVITE sip:user@example.com; lr SIP/2.0";
    add("4475 3.1.2.8", "lwsruri", Invalid, "blanks in the URI", blanks, &[TYPE], SDP, refused);
    let wide = "INVITE  sip:user@example.com  SIP/2.0";
    add("4475 3.1.2.9", "lwsstart", Invalid, "blanks in the first line", wide, &[TYPE], SDP, refused);
    let behind = "OPTIONS sip:user@example.com SIP/2.0  ";
    add("4475 3.1.2.10", "trws", Invalid, "blanks behind the first line", behind, &[], "", refused);
    let route = "INVITE sip:user@example.com?Route=%3Csip:x.example.com%3E SIP/2.0";
    add("4475 3.1.2.11", "escruri", Invalid, "headers in the URI", route, &[TYPE], SDP, &[Status(400)]);
    let date = ["Date: Fri, 01 Jan 2010 16:00:00 EST", TYPE];
    add("4475 3.1.2.12", "baddate", Invalid, "a date that is not GMT", INVITE, &date, SDP, &[Status(400)]);
    let bare = ["Contact: sip:user@example.com?Route=%3Csip:sip.example.com%3E"];
    add("4475 3.1.2.13", "regbadct", Invalid, "a bare Contact with ?", REGISTER, &bare, "", NO_REGISTRAR);
    let spaced = ["To: \"Watson, Thomas\" < sip:t.watson@example.org >"];
    add("4475 3.1.2.14", "badaspec", Invalid, "blanks in an address", OPTIONS, &spaced, "", &[Status(400)]);
    let comma = ["From: Bell, Alexander <sip:a.g.bell@example.com>;tag=43"];
    add("4475 3.1.2.15", "baddn", Invalid, "a comma in a bare name", OPTIONS, &comma, "", &[Status(400)]);
    let future = "OPTIONS sip:t.watson@example.org SIP/7.0";
    add("4475 3.1.2.16", "badvers", Invalid, "a version of the future", future, &[], "", &[Status(505)]);
    add("4475 3.1.2.17", "mismatch01", Invalid, "methods differ", OPTIONS, &["CSeq: 8 INVITE"], "", &[Status(400)]);
    let new = "NEWMETHOD sip:user@example.com SIP/2.0";
    add(
        "4475 3.1.2.18",
        "mismatch02",
        Invalid,
        "unknown methods differ",
        new,
        &["CSeq: 8 INVITE"],
        "",
        &[Status(400), Status(405)],
    );
    let code = "SIP/2.0 4294967301 better not break the receiver";
    add("4475 3.1.2.19", "bigcode", Invalid, "a code beyond all codes", code, &["CSeq: 1 INVITE"], "", &[Silence]);

    // §3.2 and §3.3: trouble for transactions and for applications.
    let branch = ["Via: SIP/2.0/UDP {at};branch=z9hG4bK;rport"];
    add("4475 3.2.1", "badbranch", Unusual, "a branch without substance", OPTIONS, &branch, "", &[Status(200)]);
    let few = ["From:", "To:", "Call-ID:", "Contact:", "Max-Forwards:", TYPE];
    add("4475 3.3.1", "insuf", Invalid, "headers that must be there are not", INVITE, &few, SDP, &[Status(400)]);
    let unknown = "OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0";
    add("4475 3.3.2", "unkscm", Unusual, "a scheme nobody knows", unknown, &[], "", &[Status(416)]);
    let beep = "OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0";
    add("4475 3.3.3", "novelsc", Unusual, "a scheme of something else", beep, &[], "", &[Status(416)]);
    let schemes = ["From: <http://www.example.com>;tag=h", "To: <isbn:2983792873>", TYPE];
    add("4475 3.3.4", "unksm2", Unusual, "such schemes in To and From", INVITE, &schemes, SDP, &[Call]);
    let require = ["Require: nothingSupportsThis, nothingSupportsThisEither", "Proxy-Require: norDoAnyProxies"];
    add("4475 3.3.5", "bext01", Unusual, "extensions nobody has", OPTIONS, &require, "", &[Status(420)]);
    let content = ["Content-Type: application/unknownformat"];
    add("4475 3.3.6", "invut", Unusual, "content nobody knows", INVITE, &content, "<audio/>", &[Status(415)]);
    let authorization = ["Authorization: NoOneKnowsThisScheme opaque-data=here"];
    add("4475 3.3.7", "regaut01", Unusual, "credentials nobody knows", REGISTER, &authorization, "", NO_REGISTRAR);
    let twice = [
        "CSeq: 5 INVITE",
        "CSeq: 59 INVITE",
        "Call-ID: odd1@probe",
        "Call-ID: odd2@probe",
        "Max-Forwards: 5",
        "Max-Forwards: 70",
        "To: <sip:a@example.com>",
        "To: <sip:b@example.com>",
        TYPE,
    ];
    add("4475 3.3.8", "multi01", Invalid, "twice what may stand once", INVITE, &twice, SDP, &[Status(400)]);
    let lengths = ["Content-Length: 13", "Content-Length: 5"];
    add("4475 3.3.9", "mcl01", Invalid, "two lengths", OPTIONS, &lengths, "There's no way to know", refused);
    let everybody = ["Via: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx", "CSeq: 1 INVITE"];
    add("4475 3.3.10", "bcast", Unusual, "an answer for everybody", "SIP/2.0 200 OK", &everybody, "", &[Silence]);
    let hops = ["Max-Forwards: 0"];
    add("4475 3.3.11", "zeromf", Unusual, "no hop left for OPTIONS", OPTIONS, &hops, "", &[Status(200)]);
    let outside = ["Contact: sip:+19725552222@gw1.example.net;unknownparam"];
    add("4475 3.3.12", "cparam01", Valid, "a parameter of Contact", REGISTER, &outside, "", NO_REGISTRAR);
    let inside = ["Contact: <sip:+19725552222@gw1.example.net;unknownparam>"];
    add("4475 3.3.13", "cparam02", Valid, "a parameter of its URI", REGISTER, &inside, "", NO_REGISTRAR);
    let header = ["Contact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>"];
    add("4475 3.3.14", "regescrt", Valid, "a header in its URI", REGISTER, &header, "", NO_REGISTRAR);
    let accept = ["Accept: text/nobodyKnowsThis", TYPE];
    add("4475 3.3.15", "sdp01", Unusual, "takes no SDP and sends it", INVITE, &accept, SDP, &[Status(406)]);

    // §3.4: from before RFC 3261.
    let old = [
        "Via: SIP/2.0/UDP {at}",
        "From: <sip:+13035551111@example.net;user=phone>",
        "To: sip:+16505552222@example.net;user=phone",
        "Record-Route: <sip:desk@example.com;maddr=127.0.0.1>",
        "Contact:",
        "Max-Forwards:",
        TYPE,
    ];
    add("4475 3.4.1", "inv2543", Valid, "a call of RFC 2543", INVITE, &old, SDP, &[Call]);

    // RFC 5118: addresses of IP version 6 in every place.
    let six = "REGISTER sip:[2001:db8::10] SIP/2.0";
    let via = ["Via: SIP/2.0/UDP [2001:db8::9:1]:{port};branch=z9hG4bKodd6;rport", "Contact: <sip:odd@[2001:db8::1]>"];
    add("5118 4.1", "ipv6-good", Valid, "an IPv6 reference", six, &via, "", NO_REGISTRAR);
    let naked = "REGISTER sip:2001:db8::10 SIP/2.0";
    add("5118 4.2", "ipv6-bad", Invalid, "without brackets", naked, &via, "", refused);
    let inner = "REGISTER sip:[2001:db8::10:5070] SIP/2.0";
    add("5118 4.3", "port-ambiguous", Valid, "what looks like a port is none", inner, &via, "", NO_REGISTRAR);
    let outer = "REGISTER sip:[2001:db8::10]:5070 SIP/2.0";
    add("5118 4.4", "port-unambiguous", Valid, "a port behind the brackets", outer, &via, "", NO_REGISTRAR);
    let plain = ["Via: SIP/2.0/UDP [2001:db8::9:1]:{port};received=2001:db8::9:255;branch=z9hG4bKodd;rport"];
    add("5118 4.5", "via-received-param-no-delim", Valid, "aimed at somebody else", OPTIONS, &plain, "", &[Silence]);
    let boxed = ["Via: SIP/2.0/UDP [2001:db8::9:1]:{port};received=[2001:db8::9:255];branch=z9hG4bKodd;rport"];
    let bye = "BYE sip:desk@[2001:db8::10] SIP/2.0";
    add("5118 4.5", "via-received-param-with-delim", Valid, "aimed, with brackets", bye, &boxed, "", &[Silence]);
    let called = "INVITE sip:desk@[2001:db8::10] SIP/2.0";
    let sdp = SDP.replace("IP4 127.0.0.1", "IP6 2001:db8::20");
    add("5118 4.6", "ipv6-in-sdp", Valid, "IPv6 in the description", called, &[TYPE], &sdp, &[Call]);
    let vias = [
        "Via: SIP/2.0/UDP [2001:db8::9:1]:{port};branch=z9hG4bKodda;rport",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKoddb",
        "Via: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bKoddc;received=192.0.2.200",
        "To: <sip:desk@example.net>;tag=odd",
    ];
    add("5118 4.7", "mult-ip-in-header", Valid, "both kinds in one header", bye, &vias, "", &[Status(481)]);
    let both =
        SDP.replacen("c=IN IP4 127.0.0.1\r\n", "", 1).replacen("a=rtpmap:0 ", "c=IN IP4 127.0.0.1\r\na=rtpmap:0 ", 1)
            + "m=video 6024 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:107 H263-1998/90000\r\n";
    add("5118 4.8", "mult-ip-in-sdp", Valid, "both kinds in one description", called, &[TYPE], &both, &[Call]);
    let mapped = ["Via: SIP/2.0/UDP {at};branch=z9hG4bKoddm;rport", "Contact: <sip:odd@[::ffff:127.0.0.1]>", TYPE];
    let sdp = SDP.replace("IP4 127.0.0.1", "IP6 ::ffff:127.0.0.1");
    add("5118 4.9", "ipv4-mapped-ipv6", Valid, "one kind within the other", INVITE, &mapped, &sdp, &[Call]);
    let three = "OPTIONS sip:user@[2001:db8:::192.0.2.1] SIP/2.0";
    add(
        "5118 4.10",
        "ipv6-bug-abnf-3-colons",
        Unusual,
        "three colons of an old grammar",
        three,
        &[],
        "",
        &[Status(200), Status(400)],
    );
    let two = "OPTIONS sip:user@[2001:db8::192.0.2.1] SIP/2.0";
    add("5118 4.10", "ipv6-correct-abnf-2-colons", Valid, "two colons are right", two, &[], "", &[Status(200)]);

    cases
}

/// Beside the RFCs: what carriers really send.
fn ours() -> Vec<Case> {
    let plain = |name, what, start: &str, lines: &[&str], body: &str, wanted| {
        let message = message(name, start, lines, body);
        Case { section: "ours", name, rfc: Valid, what, message, wanted, original: wanted, ends: &[200], reads: None }
    };
    let mut latin =
        plain("latin1", "a name in Latin-1", INVITE, &["From: X <sip:odd@example.com>;tag=x", TYPE], SDP, &[Call]);
    replace(&mut latin.message, b"From: X ", b"From: \"J\xfcrgen M\xfcller\" ");
    let compact = [
        "Via:",
        "v: SIP/2.0/UDP {at};branch=z9hG4bKoddcompact;rport",
        "From:",
        "f: \"Ada\" <sip:+441632960001@example.com>;tag=c",
        "To:",
        "t: <sip:desk@example.net>",
        "Call-ID:",
        "i: oddcompact@probe",
        "Contact:",
        "m: <sip:odd@{at}>",
        "c: application/sdp",
        "k: timer",
        "Content-Length:",
    ];
    let length = format!("l: {}", SDP.len());
    let compact_length = [compact.as_slice(), &[length.as_str()]].concat();
    let tel = "INVITE tel:+44-1632-960002;phone-context=+44 SIP/2.0";
    let tels = ["From: <tel:+441632960001>;tag=t", "To: <tel:+441632960002>", TYPE];
    let unknown = "PUBLISH sip:desk@example.net SIP/2.0";
    vec![
        latin.reads(|invite| invite.from.display.reveal().clone(), "Jürgen Müller"),
        plain("compact", "every compact name", INVITE, &compact_length, SDP, &[Call])
            .reads(|invite| format!("{} {}", invite.from.display.reveal(), invite.sdp.is_some()), "Ada true"),
        plain("tel", "tel: URIs everywhere", tel, &tels, SDP, &[Call]).reads(
            |invite| format!("{} {}", invite.from.user.reveal(), invite.called_user),
            "+441632960001 +44-1632-960002",
        ),
        plain("method", "a method of another RFC", unknown, &[], "", &[Status(405)]),
    ]
}

fn replace(octets: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    while let Some(at) = octets.windows(from.len()).position(|window| window == from) {
        octets.splice(at..at + from.len(), to.iter().copied());
    }
}

/// What the plain table cannot say.
fn all_cases() -> Vec<Case> {
    let mut cases: Vec<Case> = cases().into_iter().map(refine).collect();
    cases.extend(ours());
    cases
}

fn refine(mut case: Case) -> Case {
    match case.name {
        // Theirs has a tag on To, and there is no such dialog.
        "wsinv" => {
            case.original(&[Status(481)]).reads(|invite| invite.from.display.reveal().clone(), "odd \\\"quoted\\\"")
        }
        "esc01" => case.reads(|invite| invite.called_user.clone(), "sips:user@example.com"),
        "escnull" => {
            case.reads(|invite| format!("{:?}", invite.called_user), "\"null-\\0-null\"").original(NO_REGISTRAR)
        }
        "longreq" => case.reads(|invite| invite.from.user.reveal().clone(), "odd"),
        "dblreq" => {
            let second = message("second", INVITE, &[TYPE], SDP);
            case.message.extend(second);
            case.original(NO_REGISTRAR)
        }
        "unksm2" => case.reads(|invite| invite.to.uri.reveal().clone(), "isbn:2983792873").original(NO_REGISTRAR),
        "inv2543" => case.reads(|invite| invite.from.user.reveal().clone(), "+13035551111"),
        // This gateway has no media socket of that kind.
        "ipv4-mapped-ipv6" => case.ends(&[200, 488]),
        // Their Content-Length is longer than what follows, so theirs is a second `clerr`.
        "ipv6-in-sdp" => case.ends(&[200, 488]).original(&[Silence, Status(400)]),
        _ => case,
    }
}

/// Sends a message, and a request of our own behind it: the statuses that come back before that one's answer.
async fn statuses(from: &UdpSocket, gateway: SocketAddr, octets: &[u8]) -> Vec<u16> {
    let barrier = Line::new(from.local_addr().unwrap(), gateway);
    let branch = format!("z9hG4bK{}", barrier.call_id.replace('@', ""));
    from.send_to(octets, gateway).await.unwrap();
    from.send_to(barrier.request("OPTIONS", 77, &branch, "", "").as_bytes(), gateway).await.unwrap();
    let mut statuses = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        let length = timeout(PATIENCE, from.recv(&mut buffer)).await.expect("an answer to the barrier").unwrap();
        let answer = &buffer[..length];
        if String::from_utf8_lossy(answer).contains(&barrier.call_id) {
            return statuses;
        }
        statuses.push(status(answer));
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

fn status(octets: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(octets);
    text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// Sends a message to the front door alone.
async fn at_the_door(gateway: &mut Gateway, from: &UdpSocket, octets: &[u8]) -> (Fate, Option<Invite>) {
    let statuses = statuses(from, gateway.udp, octets).await;
    match gateway.events.try_recv() {
        Ok(SipEvent::Invited { dialog, invite }) => {
            let refusal = SipCommand::Reject { status: 404, reason: None, retry_after_s: None, warning: None };
            gateway.sip.send(dialog, refusal).await;
            (Call, Some(*invite))
        }
        Ok(event) => panic!("{event:?}"),
        Err(_) => (statuses.first().map_or(Silence, |status| Status(*status)), None),
    }
}

/// Sends a message to a whole gateway, and waits for its last word on it.
async fn at_the_house(gateway: SocketAddr, from: &UdpSocket, octets: &[u8]) -> Fate {
    let mut statuses = statuses(from, gateway, octets).await;
    let mut buffer = [0; 65536];
    while statuses.last().is_some_and(|status| *status < 200) {
        let got = timeout(PATIENCE, from.recv(&mut buffer)).await.expect("a final answer");
        statuses.push(status(&buffer[..got.unwrap()]));
    }
    statuses.last().map_or(Silence, |status| Status(*status))
}

/// A message as it leaves from this address.
fn from_here(message: &[u8], at: SocketAddr) -> Vec<u8> {
    let mut octets = message.to_vec();
    replace(&mut octets, b"{at}", at.to_string().as_bytes());
    replace(&mut octets, b"{port}", at.port().to_string().as_bytes());
    octets
}

/// The port that an answer goes to by RFC 3261 §18.2.2: the one of the first Via.
fn via_port(octets: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(octets).replace("\r\n ", " ").replace("\r\n\t", " ");
    let via = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        matches!(name.trim().to_lowercase().as_str(), "via" | "v").then(|| value.to_owned())
    });
    let via = via.unwrap_or_default();
    let sent_by = via.split(';').next().unwrap_or_default();
    let behind = sent_by.rsplit_once(']').map_or(sent_by, |(_, behind)| behind);
    behind.rsplit_once(':').and_then(|(_, port)| port.trim().parse().ok()).unwrap_or(5060)
}

/// The RFC's own message, when it is at hand.
fn original(case: &Case) -> Option<Vec<u8>> {
    let folder = std::env::var_os("RINGBACK_TORTURE").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let name = if case.section.starts_with("4475") { format!("{}.dat", case.name) } else { case.name.to_owned() };
    let rfc = format!("rfc{}", case.section.split(' ').next()?);
    let mut octets = std::fs::read(folder.join(rfc).join(name)).ok()?;
    // The archive of RFC 5118 has the lines of a Unix file, and one message of RFC 4475 lacks its last, empty one.
    if !octets.windows(2).any(|window| window == b"\r\n") {
        octets = String::from_utf8_lossy(&octets).replace('\n', "\r\n").into_bytes();
    }
    if !octets.windows(4).any(|window| window == b"\r\n\r\n") {
        octets.extend(b"\r\n");
    }
    Some(octets)
}

fn branch(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets).to_lowercase();
    text.split_once("branch=").map_or("", |(_, rest)| rest.split([';', '\r']).next().unwrap()).to_owned()
}

/// A socket where the answer to an original arrives: messages of the RFCs do not ask for `rport`.
async fn where_it_is_answered(octets: &[u8], number: usize) -> UdpSocket {
    let host = u8::try_from(number % 250 + 2).unwrap();
    UdpSocket::bind(SocketAddr::from(([127, 0, 77, host], via_port(octets)))).await.expect("a socket")
}

#[tokio::test]
async fn every_torture_message_gets_the_right_reaction() {
    let cases = all_cases();
    assert_eq!(cases.iter().filter(|case| case.section.starts_with("4475")).count(), 49);
    assert_eq!(cases.iter().filter(|case| case.section.starts_with("5118")).count(), 12);
    let mut door = Gateway::new().await;
    let rig = Rig::new(&[]);
    rig.write("routes.toml", "version = 1\n[[route]]\ncalled = \"*\"\nagent = \"echo\"\n");
    let mut house = rig::Gateway::start(&rig);
    let mut wrong = Vec::new();
    let mut branches = HashSet::new();
    println!(
        "{:<14} {:<30} {:<8} {:<36} {:<12} {:<8} {:<8} {:<8} {:<8}",
        "section", "name", "RFC says", "what", "wanted", "door", "gateway", "original", "gateway"
    );
    for (number, case) in cases.iter().enumerate() {
        // Each message comes from a socket of its own, so that nothing late of one is taken for another's.
        let mine = async || UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let here = |socket: &UdpSocket| from_here(&case.message, socket.local_addr().unwrap());
        let socket = mine().await;
        let (seen, invite) = at_the_door(&mut door, &socket, &here(&socket)).await;
        let socket = mine().await;
        let ended = at_the_house(house.udp, &socket, &here(&socket)).await;
        let theirs = match original(case) {
            Some(octets) => {
                // The RFCs use one branch for many of their messages; one gateway would take them for repetitions.
                if !branches.insert(branch(&octets)) {
                    door = Gateway::new().await;
                    house.assert_well();
                    house.kill();
                    house = rig::Gateway::start(&rig);
                    branches = HashSet::from([branch(&octets)]);
                }
                let socket = where_it_is_answered(&octets, 2 * number).await;
                let (seen, _) = at_the_door(&mut door, &socket, &octets).await;
                let socket = where_it_is_answered(&octets, 2 * number + 1).await;
                Some((seen, at_the_house(house.udp, &socket, &octets).await))
            }
            None => None,
        };

        let show = |fate: Option<Fate>| fate.map_or_else(|| "-".to_owned(), |fate| fate.to_string());
        let wanted = case.wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        println!(
            "{:<14} {:<30} {:<8} {:<36} {:<12} {:<8} {:<8} {:<8} {:<8}",
            case.section,
            case.name,
            format!("{:?}", case.rfc).to_lowercase(),
            case.what,
            wanted,
            seen.to_string(),
            ended.to_string(),
            show(theirs.map(|(seen, _)| seen)),
            show(theirs.map(|(_, ended)| ended)),
        );
        wrong.extend(faults(case, seen, ended, theirs, invite.as_ref()));
    }
    house.assert_well();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with the reactions to a case.
fn faults(case: &Case, seen: Fate, ended: Fate, theirs: Option<(Fate, Fate)>, invite: Option<&Invite>) -> Vec<String> {
    let mut wrong = Vec::new();
    if !case.wanted.contains(&seen) {
        wrong.push(format!("ours at the door: {seen}"));
    }
    // What the door lets in is the gateway's to answer; all else ends as the door said.
    let ends_well = match (seen, ended) {
        (Call, Status(status)) => case.ends.contains(&status),
        _ => seen == ended,
    };
    if !ends_well {
        wrong.push(format!("ours at the gateway: {ended}"));
    }
    if let Some((seen, _)) = theirs.filter(|(seen, _)| !case.original.contains(seen)) {
        wrong.push(format!("the RFC's at the door: {seen}"));
    }
    let ends = [Some(ended), theirs.map(|(_, ended)| ended)];
    let is_success = |fate: &Fate| matches!(fate, Status(200..=299));
    if case.rfc == Invalid && case.is_invite() && ends.into_iter().flatten().any(|fate| is_success(&fate)) {
        wrong.push("an invalid INVITE got a 2xx".to_owned());
    }
    if let (Some((read, wanted)), Some(invite)) = (case.reads, invite)
        && read(invite) != wanted
    {
        wrong.push(format!("read as {:?}, wanted {wanted:?}", read(invite)));
    }
    wrong.into_iter().map(|fault| format!("{} {}: {fault}", case.section, case.name)).collect()
}

/// On a stream it is Content-Length that tells where a message ends, so what lies about it ends the connection.
#[tokio::test]
async fn torture_about_framing_is_survived_on_tcp() {
    let gateway = Gateway::new().await;
    let by_name = |name: &str| {
        let case = all_cases().into_iter().find(|case| case.name == name).unwrap();
        let mut octets = case.message;
        replace(&mut octets, b"SIP/2.0/UDP", b"SIP/2.0/TCP");
        octets
    };
    let cases: [(&str, &[Fate]); 7] = [
        ("clerr", &[Closed]),
        ("ncl", &[Closed, Status(400)]),
        ("mcl01", &[Closed, Status(400)]),
        ("dblreq", &[Status(200)]),
        ("wsinv", &[Status(100)]),
        ("longreq", &[Status(100)]),
        ("trws", &[Closed, Status(400)]),
    ];
    println!("{:<14} {:<24} {:<8}", "over TCP", "wanted", "seen");
    for (name, wanted) in cases {
        let mut wire = Wire::to(gateway.tcp).await;
        let octets = from_here(&by_name(name), wire.stream.local_addr().unwrap());

        wire.send(&octets).await;
        if name == "clerr" {
            // The rest of the body never comes.
            wire.finish().await;
        }
        let seen = wire.next().await.map_or(Closed, |message| Status(message.status()));

        println!("{name:<14} {:<24} {seen:<8}", format!("{wanted:?}"));
        assert!(wanted.contains(&seen), "{name}: {seen:?}, wanted {wanted:?}");
    }
    let peer = Peer::of(gateway.udp).await;
    peer.send(Line::new(peer.at, gateway.udp).request("OPTIONS", 77, "z9hG4bKend", "", "")).await;
    peer.expect("SIP/2.0 200").await;
}
