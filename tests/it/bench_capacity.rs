//! `ringback bench capacity` with a few calls: the figures of a machine are its own, but that they are measured is not.

use std::process::Command;

use serde_json::Value;

use crate::rig::binary;

#[test]
fn agents_with_binary_sound_are_measured_both_ways() {
    let figures = bench("ulaw");

    assert!(figures["rss_kib_per_call"].as_f64().unwrap() > 0.0, "{figures}");
    assert_delays(&figures, &["ingress_ms", "egress_ms", "grid_ms", "clear_ms"]);
}

#[test]
fn agents_with_sound_in_json_are_measured_both_ways() {
    assert_delays(&bench("openai"), &["ingress_ms", "egress_ms", "grid_ms", "clear_ms"]);
}

#[test]
fn a_relay_is_measured_both_ways_and_has_nothing_to_clear() {
    let figures = bench("relay");

    assert_delays(&figures, &["ingress_ms", "egress_ms", "grid_ms"]);
    assert!(figures["clear_ms"].is_null(), "{figures}");
}

#[test]
fn no_calls_are_no_load() {
    let output = Command::new(binary()).args(["bench", "capacity", "--calls", "0"]).output().unwrap();

    assert_eq!(output.status.code(), Some(2));
}

/// Four calls for two seconds, of which none may fail.
fn bench(profile: &str) -> Value {
    let arguments = ["bench", "capacity", "--calls", "4", "--seconds", "2", "--profile", profile, "--json"];
    let output = Command::new(binary()).args(arguments).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((output.status.code(), &figures["failed"]), (Some(0), &Value::from(0)), "{figures}\n{said}");
    assert_eq!((figures["calls"].as_u64(), figures["profile"].as_str()), (Some(4), Some(profile)));
    assert!(figures["cpu_percent_per_call"].as_f64().is_some_and(|percent| percent > 0.0), "{figures}");
    figures
}

fn assert_delays(figures: &Value, names: &[&str]) {
    for name in names {
        let (p50, p99) = (figures[name]["p50"].as_f64(), figures[name]["p99"].as_f64());
        // A busy machine may be late, but a frame that is a second old was not measured.
        assert!(p50 > Some(0.0) && p50 <= p99 && p99 < Some(1_000.0), "{name} of {figures}");
    }
}
