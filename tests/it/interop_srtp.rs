//! Protected calls with a softphone nobody here wrote: its libsrtp against ours, by its own recording.

use std::time::Duration;

use crate::caller::tone_in;
use crate::interop_baresip::Baresip;
use crate::rig::{CALLER, GOODBYE, GREETING, Gateway, MESSAGE, Rig, shared};

#[test]
fn interop_srtp_a_telephone_that_insists_is_heard_and_hears() {
    let _machine = shared();
    let (rig, gateway) = gateway("required");
    let mut phone = phone("srtp-mand");

    phone.order("dial", &format!("sip:100@{}", gateway.udp));
    phone.event("CALL_ESTABLISHED", secs(10));
    // Its keys are understood only when its packets are.
    phone.order("sndcode", "1");
    rig.mock.next("orders", secs(10)).expect("the key was heard");
    phone.event("CALL_CLOSED", secs(20));

    let heard = phone.recording();
    for (what, hz) in [("greeting", GREETING), ("the order's state", MESSAGE), ("goodbye", GOODBYE)] {
        tone_in(&heard, hz, 8000).unwrap_or_else(|| panic!("{what} is not heard"));
    }
}

#[test]
fn interop_srtp_a_telephone_that_would_like_to_is_protected() {
    let _machine = shared();
    for wanted in ["required", "optional"] {
        let (_rig, gateway) = gateway(wanted);
        let mut phone = phone("srtp");

        // The echo says what the telephone said, so it was understood both ways.
        phone.order("dial", &format!("sip:102@{}", gateway.udp));
        phone.event("CALL_ESTABLISHED", secs(10));
        // Our first report comes after a second or more of talk, and was understood too.
        phone.event("CALL_RTCP", secs(10));
        phone.order("hangup", "");
        phone.event("CALL_CLOSED", secs(10));

        assert!(tone_in(&phone.recording(), CALLER, 8000).is_some(), "{wanted}: its own voice comes back");
    }
}

#[test]
fn interop_srtp_who_cannot_gets_a_reason() {
    let _machine = shared();
    for (wanted, can) in [("required", ""), ("off", "srtp-mand")] {
        let (_rig, gateway) = gateway(wanted);
        let mut phone = phone(can);

        phone.order("dial", &format!("sip:102@{}", gateway.udp));

        let closed = phone.event("CALL_CLOSED", secs(10)).to_string();
        assert!(closed.contains("488"), "{wanted} and {can}: {closed}");
    }
}

#[test]
fn interop_srtp_off_and_optional_take_plain_calls() {
    let _machine = shared();
    for (wanted, can) in [("off", ""), ("optional", ""), ("off", "srtp")] {
        let (_rig, gateway) = gateway(wanted);
        let mut phone = phone(can);

        phone.order("dial", &format!("sip:102@{}", gateway.udp));
        phone.event("CALL_ESTABLISHED", secs(10));
        // Our first report comes after a second or more of talk, and was understood too.
        phone.event("CALL_RTCP", secs(10));
        phone.order("hangup", "");
        phone.event("CALL_CLOSED", secs(10));

        assert!(tone_in(&phone.recording(), CALLER, 8000).is_some(), "{wanted} and {can}: its own voice comes back");
    }
}

fn gateway(wanted: &str) -> (Rig, Gateway) {
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/carrier.toml",
        &format!(
            "version = 1\ntitle = \"This machine\"\nmedia_security = \"{wanted}\"\n\
             [inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n"
        ),
    );
    let gateway = Gateway::start(&rig);
    (rig, gateway)
}

fn phone(encryption: &str) -> Baresip {
    match encryption {
        "" => Baresip::start_with("rtcp_stats yes\n", ""),
        encryption => Baresip::start_with("module srtp.so\nrtcp_stats yes\n", &format!(";mediaenc={encryption}")),
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
