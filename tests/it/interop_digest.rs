//! SIPp as a carrier that wants a password, and does the sums itself.

use std::time::Duration;

use crate::caller::Caller;
use crate::interop_sipp::Sipp;
use crate::rig::{Gateway, Rig, free_port, shared};

#[test]
fn interop_a_carrier_that_asks_for_a_password_takes_the_call_and_its_end() {
    let _machine = shared();
    let carrier = free_port();
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/carrier.toml",
        &format!(
            "version = 1\ntitle = \"Carrier\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n[outbound]\n\
             gateways = [\"sip:{carrier}\"]\n[outbound.login]\nusername = \"alice\"\n\
             password = {{ file = \"secrets/carrier\" }}\nrealm = \"carrier.example\"\n"
        ),
    );
    rig.write("secrets/carrier", "sesame\n");
    rig.write("workflows/switchboard.toml", OUT);
    let mut gateway = Gateway::start(&rig);
    let sipp = Sipp::target("uas_digest.xml", carrier);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    caller.talk(Duration::from_secs(3), &[]);
    caller.hang_up();

    sipp.succeeds(Duration::from_secs(20));
    assert_eq!(rig.mock.event().json()["data"]["status"], "TRANSFERRED");
    assert!(!gateway.log().contains("sesame"), "the password is in the log");
    gateway.assert_well();
}

const OUT: &str = r#"version = 1
title = "Out"
[[step]]
id = "out"
on_success = "end"
on_error = "end"
[step.transfer]
targets = [{ to = "+390212345678", ring_s = 10 }]
message = { clips = ["message.wav"] }
music = "music.wav"
"#;
