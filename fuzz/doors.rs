//! What is fuzzed, one function for each target; the test `fuzz_replay` calls the same.

use ringback::model::Codec;
use ringback::{sdp, sip};

/// A datagram.
pub(crate) fn sip_message(octets: &[u8]) {
    sip::fuzz_door(octets);
}

/// The value of a header, in every header that is read; and a URI.
pub(crate) fn headers(octets: &[u8]) {
    sip::fuzz_header(octets);
}

/// A session description: as an offer, as an answer, and as an offer in the middle of a call.
pub(crate) fn sdp(octets: &[u8]) {
    let local = sdp::Local {
        address: [127, 0, 0, 1].into(),
        port: 40_000,
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        session_id: 1,
        version: 1,
        keyring: sdp::Keyring::default(),
    };
    let _ = sdp::accept(&local, octets);
    let Ok(offer) = sdp::Offer::parse(octets) else { return };
    if let Ok((agreed, answer)) = sdp::answer(&offer, &local) {
        // What we write can be read, and the same offer gets the same answer.
        let (again, repeated) = sdp::reanswer(&answer, &offer).expect("what was answered once is answered again");
        assert_eq!((again, repeated), (agreed, answer));
    }
}
