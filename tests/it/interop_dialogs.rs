//! Dialogs as they really happen, with SIPp on the other end in both roles; one scenario for each case.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::fs;
use std::net::SocketAddr;
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
    callers_succeed("uac_no_offer.xml", "102", &["-m", "5", "-r", "10", "-d", "500"], 5);
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
fn interop_early_audio_of_a_colleague_is_not_described_again() {
    colleague_is_reached("uas_early.xml");
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
fn interop_of_two_offers_at_once_one_waits() {
    callers_succeed("uac_glare.xml", "102", &["-m", "5", "-r", "10", "-d", "300"], 5);
}

#[test]
fn interop_a_goodbye_that_is_said_twice_is_answered_twice() {
    callers_succeed("uac_bye_again.xml", "102", &["-m", "5", "-r", "10", "-nr"], 5);
}

#[test]
fn interop_a_session_interval_too_short_is_made_longer() {
    callers_succeed("uac_short_session.xml", "102", &["-m", "5", "-r", "10", "-d", "300"], 5);
}

#[test]
fn interop_a_goodbye_that_is_lost_is_said_again() {
    let _machine = shared();
    let target = free_port();
    let rig = Rig::new(&[target]);
    let mut gateway = Gateway::start(&rig);
    let deaf = Sipp::target_with("uas_deaf.xml", target, &["-nr"]);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    caller.talk(secs(4), &[]);
    caller.hang_up();

    deaf.succeeds(secs(20));
    assert_eq!(rig.mock.event().json()["data"]["status"], "TRANSFERRED");
    gateway.assert_well();
}

/// A rig whose parties may refer, and are referred.
fn moving(targets: &[SocketAddr]) -> Rig {
    let rig = Rig::new(targets);
    rig.write(
        "trunks/carrier.toml",
        "version = 1\ntitle = \"Office\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n[outbound]\n\
         uri = \"sip:127.0.0.1:9\"\n[outbound.allow]\nhosts = [\"127.0.0.1\"]\n[transfer]\naccept_refer = true\n\
         send_refer = \"first\"\n",
    );
    rig
}

#[test]
fn interop_a_caller_who_refers_hears_how_it_goes() {
    let _machine = shared();
    let (bob, busy) = (free_port(), free_port());
    let rig = moving(&[]);
    let mut gateway = Gateway::start(&rig);
    let leaves = Sipp::target_with("uas_leaves.xml", bob, &["-d", "1500"]);
    let refuses = Sipp::target("uas_busy.xml", busy);
    let caller = |scenario, to: SocketAddr| {
        Sipp::caller(scenario, gateway.udp, "102", &["-m", "1", "-d", "500", "-key", "target", &to.to_string()])
    };

    let moves = caller("uac_refer.xml", bob);
    let stays = caller("uac_refer_busy.xml", busy);

    moves.succeeds(secs(20));
    stays.succeeds(secs(20));
    leaves.succeeds(secs(20));
    refuses.succeeds(secs(20));
    for _ in 0..2 {
        assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    }
    gateway.assert_well();
}

#[test]
fn interop_a_colleague_who_refers_hears_how_it_goes() {
    let _machine = shared();
    let (desk, bob) = (free_port(), free_port());
    let rig = moving(&[desk]);
    let carrier = rig.path().join("sip-config/trunks/carrier.toml");
    let text = fs::read_to_string(&carrier).unwrap().replace("send_refer = \"first\"\n", "");
    fs::write(carrier, text).unwrap();
    let mut gateway = Gateway::start(&rig);
    let refers = Sipp::target_with("uas_refer.xml", desk, &["-key", "target", &bob.to_string()]);
    let leaves = Sipp::target_with("uas_leaves.xml", bob, &["-d", "1000"]);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    caller.talk(secs(5), &[]);
    refers.succeeds(secs(20));
    leaves.succeeds(secs(20));
    let bye = caller.expect("BYE");
    caller.answer(&bye);

    let event = rig.mock.event().json();
    assert_eq!(event["data"]["status"], "TRANSFERRED");
    assert!(event["data"]["transferredTo"].as_str().unwrap().contains(&bob.to_string()), "{event}");
    gateway.assert_well();
}

#[test]
fn interop_a_network_may_move_its_caller_or_not() {
    let _machine = shared();
    let desk = free_port();
    let rig = moving(&[desk]);
    let mut gateway = Gateway::start(&rig);

    // The target of the first is never dialled by us: it is not even there yet.
    Sipp::caller("uac_moved.xml", gateway.udp, "201", &["-m", "1"]).succeeds(secs(30));
    let moved = rig.mock.event().json();
    let answers = Sipp::target("uas_answer.xml", desk);
    Sipp::caller("uac_unmoved.xml", gateway.udp, "201", &["-m", "1", "-d", "2500"]).succeeds(secs(30));
    answers.succeeds(secs(20));
    let rung = rig.mock.event().json();

    for event in [moved, rung] {
        assert_eq!(event["data"]["status"], "TRANSFERRED");
        assert!(event["data"]["transferredTo"].as_str().unwrap().contains(&desk.to_string()), "{event}");
    }
    gateway.assert_well();
}

#[test]
fn interop_another_telephone_takes_the_place_of_a_caller() {
    let _machine = shared();
    let desk = free_port();
    let rig = Rig::new(&[desk]);
    let mut gateway = Gateway::start(&rig);
    let answers = Sipp::target("uas_answer.xml", desk);

    let changes = Sipp::caller("uac_replaces.xml", gateway.udp, "201", &["-m", "1", "-d", "3000"]);

    changes.succeeds(secs(20));
    answers.succeeds(secs(20));
    let event = rig.mock.event().json();
    assert_eq!((&event["data"]["status"], &event["data"]["endedBy"]), (&"TRANSFERRED".into(), &"caller".into()));
    gateway.assert_well();
}

#[test]
fn interop_a_thousand_calls_with_prack_updates_hold_and_resume() {
    let _machine = alone();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);

    let load = ["-m", "1000", "-r", "40", "-l", "300", "-d", "500"];
    let statistics = Sipp::caller("uac_changes.xml", gateway.udp, "102", &load).succeeds(secs(120));

    assert_no_failure(&statistics, "1000");
    for _ in 0..1000 {
        assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    }
    gateway.assert_well();
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
