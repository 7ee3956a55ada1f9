//! Writing our own side down. Line order is that of RFC 8866 §5.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::negotiate::{Direction, Local};
use crate::model::{Codec, FRAME_MS};

/// The lines before the first `m=`.
pub(super) fn head(local: &Local) -> String {
    let family = family(local.address);
    let Local { address, session_id, version, .. } = local;
    format!("v=0\r\no=- {session_id} {version} IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\n")
}

/// One audio stream: voice formats, then digits.
pub(super) fn audio(out: &mut String, port: u16, voice: &[(Codec, u8)], dtmf: Option<u8>, direction: Direction) {
    let _ = write!(out, "m=audio {port} RTP/AVP");
    for (_, payload_type) in voice {
        let _ = write!(out, " {payload_type}");
    }
    if let Some(payload_type) = dtmf {
        let _ = write!(out, " {payload_type}");
    }
    out.push_str("\r\n");
    for (codec, payload_type) in voice {
        let _ = write!(out, "a=rtpmap:{payload_type} {codec}/8000\r\n");
    }
    if let Some(payload_type) = dtmf {
        // RFC 4733 §2.4.1: events 0 to 15 are the keys of a telephone.
        let _ = write!(out, "a=rtpmap:{payload_type} telephone-event/8000\r\na=fmtp:{payload_type} 0-15\r\n");
    }
    let _ = write!(out, "a=ptime:{FRAME_MS}\r\na={direction}\r\n");
}

/// A stream that we do not take part in.
pub(super) fn declined(out: &mut String, media: &str, protocol: &str, format: &str) {
    let _ = write!(out, "m={media} 0 {protocol} {format}\r\n");
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}
