use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::actions::{Prompt, Template};

#[test]
fn targets_ring_in_order_until_one_answers() {
    let (mut transfer, steps) = Transfer::start(to(&["sip:a@x", "sip:b@x"], &[]), TransferMethod::Bridge);
    assert_eq!(steps, [Step::SayMessage, Step::Ring(target("sip:a@x"))]);
    transfer.dialled(LegId(2));

    let after_busy = transfer.failed(LegId(2), Failure::Busy);
    transfer.dialled(LegId(3));
    let after_answer = transfer.answered(LegId(3));

    assert_eq!(after_busy, [Step::Ring(target("sip:b@x"))]);
    assert_eq!(after_answer, [Step::Joined(LegId(3))]);
}

#[test]
fn nobody_found_gives_the_caller_back_with_the_last_reason() {
    let (mut transfer, _) = Transfer::start(to(&["sip:a@x"], &[]), TransferMethod::Bridge);
    transfer.dialled(LegId(2));

    let steps = transfer.rang_out(LegId(2));

    assert_eq!(steps, [Step::HangUp(LegId(2)), Step::GaveUp(Failure::NoAnswer)]);
    assert_eq!(transfer.answered(LegId(2)), [], "a late answer finds nobody waiting");
}

#[test]
fn a_fallback_is_chosen_by_cause_and_rung_once() {
    let fallback = [(Failure::Busy, Fallback::Ring(target("sip:night@x"))), (Failure::Declined, Fallback::Back)];
    let (mut transfer, _) = Transfer::start(to(&["sip:a@x", "sip:b@x"], &fallback), TransferMethod::Bridge);
    transfer.dialled(LegId(2));

    assert_eq!(transfer.failed(LegId(2), Failure::Busy), [Step::Ring(target("sip:night@x"))]);
    transfer.dialled(LegId(3));
    assert_eq!(transfer.failed(LegId(3), Failure::Busy), [Step::Ring(target("sip:b@x"))]);
    transfer.dialled(LegId(4));
    assert_eq!(transfer.failed(LegId(4), Failure::Declined), [Step::GaveUp(Failure::Declined)]);
}

#[test]
fn a_report_of_another_leg_changes_nothing() {
    let (mut transfer, _) = Transfer::start(to(&["sip:a@x"], &[]), TransferMethod::Bridge);
    transfer.dialled(LegId(2));

    assert_eq!(transfer.failed(LegId(9), Failure::Busy), []);
    assert_eq!(transfer.ringing(), Some(LegId(2)));
}

#[test]
fn the_network_is_asked_once_the_message_was_heard_and_else_we_ring() {
    let (mut transfer, steps) = Transfer::start(to(&["sip:a@x", "sip:b@x"], &[]), TransferMethod::ReferThenBridge);
    assert_eq!(steps, [Step::SayMessage]);

    assert_eq!(transfer.message_heard(), [Step::Wait, Step::Refer(target("sip:a@x"))]);
    assert_eq!(transfer.refer_failed(Failure::Busy), [Step::Refer(target("sip:b@x"))], "busy for us as well");
    assert_eq!(transfer.refer_failed(Failure::Declined), [Step::Ring(target("sip:b@x"))]);
    transfer.dialled(LegId(2));
    assert_eq!(transfer.referred(), [Step::HangUp(LegId(2)), Step::Moved], "it was moved late, but it was");
    assert_eq!(transfer.answered(LegId(2)), []);
}

#[test]
fn a_network_that_moves_nobody_gives_the_caller_back() {
    let (mut transfer, _) = Transfer::start(to(&["sip:a@x"], &[]), TransferMethod::Refer);
    transfer.message_heard();

    assert_eq!(transfer.refer_refused(Failure::Unreachable), [Step::GaveUp(Failure::Unreachable)]);
    assert_eq!(transfer.refer_refused(Failure::Unreachable), []);
}

#[test]
fn a_target_is_heard_behind_the_message_and_instead_of_ringing_tone_only() {
    let without_music = || TransferTo { music: None, ..TransferTo::clone(&to(&["sip:a@x", "sip:b@x"], &[])) };
    let start = |to: TransferTo| Transfer::start(Arc::new(to), TransferMethod::Bridge).0;

    let mut transfer = start(without_music());
    transfer.dialled(LegId(2));
    assert_eq!(transfer.sounded(LegId(2)), [], "the message is said to its end");
    assert_eq!(transfer.message_heard(), [Step::Hear(LegId(2))]);
    assert_eq!(transfer.heard(), Some(LegId(2)));
    assert_eq!(transfer.failed(LegId(2), Failure::Busy), [Step::Wait, Step::Ring(target("sip:b@x"))]);
    transfer.dialled(LegId(3));
    assert_eq!(transfer.sounded(LegId(2)), [], "it is gone");
    assert_eq!(transfer.sounded(LegId(3)), [Step::Hear(LegId(3))]);
    assert_eq!(transfer.failed(LegId(3), Failure::Busy), [Step::GaveUp(Failure::Busy)]);

    let mut with_music = start(TransferTo::clone(&to(&["sip:a@x"], &[])));
    with_music.dialled(LegId(2));
    with_music.message_heard();
    assert_eq!(with_music.sounded(LegId(2)), []);

    let mut silent = start(TransferTo { early_media: Some(false), ..without_music() });
    silent.dialled(LegId(2));
    silent.message_heard();
    assert_eq!(silent.sounded(LegId(2)), []);
}

fn to(targets: &[&str], fallback: &[(Failure, Fallback)]) -> Arc<TransferTo> {
    Arc::new(TransferTo {
        targets: targets.iter().map(|to| target(to)).collect(),
        fallback: fallback.iter().cloned().collect::<BTreeMap<_, _>>(),
        message: Prompt { clips: vec![Template::parse("transfer.wav").unwrap()], text: None },
        music: Some(Template::parse("music.wav").unwrap()),
        sorry: Prompt::default(),
        method: None,
        early_media: None,
    })
}

fn target(to: &str) -> Target {
    Target { to: Template::parse(to).unwrap(), ring: Duration::from_secs(20) }
}
