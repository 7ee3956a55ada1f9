//! Dialogs as they really happen, with SIPp on the other end in both roles; one scenario for each case.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::time::Duration;

use crate::caller::Caller;
use crate::interop_sipp::{Sipp, assert_no_failure};
use crate::rig::{GREETING, Gateway, Rig, alone, free_port, shared};

/// Callers that do what the scenario says; each call ends well on both sides.
fn callers_succeed(scenario: &str, called: &str, more: &[&str], calls: usize) {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);

    Sipp::caller(scenario, gateway.udp, called, more).succeeds(secs(60));

    for _ in 0..calls {
        assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    }
    gateway.assert_well();
}

#[test]
fn interop_reliable_ringing_update_hold_and_resume() {
    callers_succeed("uac_dialog.xml", "102", &["-m", "10", "-r", "10", "-d", "300"], 10);
}

#[test]
fn interop_the_offer_is_ours_when_the_caller_makes_none() {
    callers_succeed("uac_late_offer.xml", "102", &["-m", "5", "-r", "10", "-d", "500"], 5);
}

#[test]
fn interop_odd_requests_within_a_call_do_it_no_harm() {
    callers_succeed("uac_odds.xml", "102", &["-m", "5", "-r", "10"], 5);
}

#[test]
fn interop_a_call_without_hops_left_is_refused() {
    callers_succeed("uac_no_hops.xml", "102", &["-m", "5", "-r", "10"], 0);
}

/// A caller is transferred to somebody who does what the scenario says, and hangs up in the end.
fn colleague_is_reached(scenario: &str) {
    let _machine = shared();
    let target = free_port();
    let rig = Rig::new(&[target]);
    let mut gateway = Gateway::start(&rig);
    let colleague = Sipp::target(scenario, target);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(secs(6), &[]);
    caller.hang_up();

    assert!(heard.has_tone(GREETING, 800));
    colleague.succeeds(secs(20));
    assert_eq!(rig.mock.event().json()["data"]["status"], "TRANSFERRED");
    gateway.assert_well();
}

#[test]
fn interop_reliable_early_audio_of_a_colleague_is_acknowledged() {
    colleague_is_reached("uas_prack.xml");
}

#[test]
fn interop_of_two_who_answer_one_is_sent_home() {
    colleague_is_reached("uas_forks.xml");
}

#[test]
fn interop_a_colleague_may_hold_resume_and_hang_up() {
    let _machine = shared();
    let target = free_port();
    let rig = Rig::new(&[target]);
    let mut gateway = Gateway::start(&rig);
    let colleague = Sipp::target("uas_hold.xml", target);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    caller.talk(secs(4), &[]);
    colleague.succeeds(secs(20));
    let bye = caller.expect("BYE");
    caller.answer(&bye);

    let event = rig.mock.event().json();
    assert_eq!((&event["data"]["status"], &event["data"]["endedBy"]), (&"TRANSFERRED".into(), &"callee".into()));
    gateway.assert_well();
}

#[test]
fn interop_a_thousand_calls_with_prack_update_hold_and_resume() {
    let _machine = alone();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);

    let load = ["-m", "1000", "-r", "40", "-l", "300", "-d", "1000"];
    let statistics = Sipp::caller("uac_dialog.xml", gateway.udp, "102", &load).succeeds(secs(120));

    assert_no_failure(&statistics, "1000");
    for _ in 0..1000 {
        assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    }
    gateway.assert_well();
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
