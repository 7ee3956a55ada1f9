//! Judges what `ringback demo --json` printed. Run by `./test`, which has the output of a release build.

use std::fs;

use serde_json::Value;

#[test]
#[ignore = "needs the output of the demo: ./test makes it and names it in RINGBACK_DEMO_JSON"]
fn the_demo_held_every_expectation() {
    let path = std::env::var("RINGBACK_DEMO_JSON").expect("RINGBACK_DEMO_JSON names the demo's output");
    let status = std::env::var("RINGBACK_DEMO_STATUS").unwrap_or_else(|_| "0".to_owned());
    let text = fs::read_to_string(&path).expect("the demo's output can be read");

    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("standard output is not one JSON object and nothing else: {error}\n{text}");
    });

    let broken = complaints(&report);
    assert!(broken.is_empty(), "{}\n{report:#}", broken.join("\n"));
    assert_eq!(status, "0", "the demo says that all is well and exits with {status}");
}

fn complaints(report: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut want = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    want(report["ok"] == true, "ok is not true".to_owned());
    let calls = report["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    want(calls.len() >= 3, format!("{} calls instead of three", calls.len()));
    for call in calls {
        let name = call["name"].as_str().unwrap_or("?");
        want(call["name"].is_string(), "a call without a name".to_owned());
        want(call["ok"] == true, format!("{name}: ok is not true"));
        want(call["end_reason"].is_string(), format!("{name}: no end_reason"));
        want(call["journal"].is_string(), format!("{name}: no journal"));
        want(call["ring_ms"].as_f64().is_some_and(|ms| ms <= 50.0), format!("{name}: ring_ms {}", call["ring_ms"]));
        let webhook = &call["webhook"];
        want(webhook["attempts"].as_u64().is_some_and(|n| n >= 1), format!("{name}: webhook {webhook}"));
        want(webhook["delivered_ms"].is_number(), format!("{name}: webhook {webhook}"));
        for key in ["answer_ms", "first_audio_ms", "longest_silence_ms", "recording"] {
            want(call.get(key).is_some(), format!("{name}: no {key}; null says that there is none"));
        }
        if call["answer_ms"].is_number() {
            // The budget of the lookups, and a little.
            want(call["answer_ms"].as_f64() <= Some(1_700.0), format!("{name}: answer_ms {}", call["answer_ms"]));
            want(call["first_audio_ms"].is_number(), format!("{name}: answered, and no first_audio_ms"));
        }
    }
    want(calls.iter().any(|call| call["answer_ms"].is_null()), "no caller gave up while it rang".to_owned());
    want(
        calls.iter().any(|call| call["webhook"]["attempts"].as_u64() >= Some(2)),
        "no delivery was retried".to_owned(),
    );
    for key in ["ingress_p50", "ingress_p99", "egress_p50", "egress_p99"] {
        let value = &report["delay_ms"][key];
        want(value.as_f64().is_some_and(|ms| (0.0..1_000.0).contains(&ms)), format!("delay_ms.{key} is {value}"));
    }
    broken
}

#[test]
fn a_demo_that_fell_short_is_told_so() {
    let report = serde_json::json!({"ok": true, "calls": [{"name": "known", "ok": true, "ring_ms": 80}]});

    let broken = complaints(&report);

    assert!(broken.iter().any(|what| what == "known: ring_ms 80"), "{broken:?}");
    assert!(broken.iter().any(|what| what.starts_with("delay_ms.egress_p99")), "{broken:?}");
}
