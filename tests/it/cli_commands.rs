//! The binary itself: help, exit codes, and what stands on which stream.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use ringback::sim::{World, plan_for};
use serde_json::Value;

const COMMANDS: [&str; 9] = ["demo", "run", "check", "call", "replay", "trunks", "route-test", "trace", "doctor"];

#[test]
fn every_command_shows_examples_and_exit_codes() {
    for command in COMMANDS {
        let help = ringback(&[command, "--help"]);
        let text = stdout(&help);

        let examples = text.lines().filter(|line| line.trim_start().starts_with("ringback ")).count();
        assert_eq!(help.status.code(), Some(0), "{command}");
        assert!(examples >= 2, "{command} has {examples} examples:\n{text}");
        assert!(text.contains("--json") && text.contains("Exit codes:"), "{command}:\n{text}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_nothing_on_standard_output() {
    for arguments in [&["no-such-command"][..], &["call", "not a uri"], &["check", "--no-such-option"]] {
        let output = ringback(arguments);

        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_broken_configuration_ends_with_78_and_names_the_file() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    fs::write(folder.path().join("gateway.toml"), "version = 1\nspi = {}\n").expect("the file can be written");
    let dir = folder.path().to_str().expect("the path is text");

    let human = ringback(&["check", "--config-dir", dir]);
    let json = ringback(&["check", "--config-dir", dir, "--json"]);

    assert_eq!((human.status.code(), json.status.code()), (Some(78), Some(78)));
    assert!(stdout(&human).contains("gateway.toml") && stdout(&human).contains("spi"), "{}", stdout(&human));
    let found: Value = serde_json::from_str(&stdout(&json)).expect("one JSON value");
    assert_eq!(found["ok"], false);
    assert!(found["diagnostics"].as_array().is_some_and(|list| list.iter().any(|one| one["file"] == "gateway.toml")));
}

#[test]
fn a_route_is_explained_and_its_outcome_is_the_exit_code() {
    let test = |arguments: &[&str]| {
        let all = [&["route-test", "--config-dir", CARRIER, "--json"], arguments].concat();
        let output = ringback(&all);
        let json: Value = serde_json::from_str(&stdout(&output)).unwrap_or(Value::Null);
        (output.status.code(), json)
    };
    let open = ["--called", "0212345678", "--trunk", "acme", "--at"];

    let (taken, day) = test(&[&open[..], &["2026-11-20T18:29+01:00"]].concat());
    let (refused, evening) = test(&[&open[..], &["2026-11-20T18:30+01:00"]].concat());
    let (marked, gold) = test(&[&open[..], &["2026-11-22T03:00Z", "--header", "X-Campaign-Id: Gold-7"]].concat());
    let (hidden, _) = test(&["--called", "0212345678", "--source", "203.0.113.5", "--from", "anonymous"]);
    let (unknown, nobody) = test(&["--called", "1", "--source", "198.51.100.1"]);
    let (wrong, _) = test(&["--called", "1"]);

    assert_eq!([taken, refused, marked, hidden, unknown, wrong], [0, 3, 0, 3, 3, 2].map(Some));
    assert_eq!((&day["outcome"]["agent"], &day["outcome"]["route"]), (&Value::from("desk"), &Value::from(3)));
    assert_eq!(day["called"]["number"], "+390212345678");
    assert_eq!(evening["routes"][2]["why_not"], "not at this time, Fri 18:30 in Europe/Rome");
    assert_eq!((&evening["outcome"]["status"], &evening["outcome"]["retry_after_s"]), (&480.into(), &3600.into()));
    assert_eq!((&gold["outcome"]["route"], &gold["variables"]["sip.campaign_id"]), (&2.into(), &"Gold-7".into()));
    assert_eq!(nobody["trunk"], Value::Null);
}

#[test]
fn a_caller_is_recognised_as_at_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "gateway.toml",
        "version = 1\n[sip]\nudp = [\"127.0.0.1:5060\"]\n[media]\naddress = \"127.0.0.1\"\nloopback_only = true\n",
    );
    write("routes.toml", "version = 1\n[[route]]\ncalled = \"*\"\nagent = \"echo\"\n");
    write("agents/echo.toml", "version = 1\ntitle = \"E\"\nconnector = \"echo\"\n");
    let trunk = |id: &str, inbound: &str| {
        write(&format!("trunks/{id}.toml"), &format!("version = 1\ntitle = \"{id}\"\n{inbound}"));
    };
    trunk("net", "[inbound]\nallowed_addresses = [\"192.0.2.0/24\"]\n");
    trunk("names", "[inbound]\ntls_names = [\"sbc.example\"]\n");
    trunk("office", "[inbound.login]\nusername = \"office\"\npassword = { env = \"NOT_SET_HERE\" }\n");
    trunk(
        "bound",
        "[inbound]\nover_registration = true\n[registration]\nregistrars = [\"sip:192.0.2.9\"]\naor = \"sip:us@carrier.example\"\n",
    );
    let dir = folder.path().display().to_string();
    let whose = |arguments: &[&str]| {
        let output = ringback(&[&["route-test", "--config-dir", &dir, "--json", "--called", "1"], arguments].concat());
        let json: Value = serde_json::from_str(&stdout(&output)).unwrap_or(Value::Null);
        let why = json["trunk_because"].as_str().or(json["outcome"]["why"].as_str()).unwrap_or("").to_owned();
        (output.status.code().unwrap(), json["trunk"].as_str().unwrap_or("").to_owned(), why)
    };
    let told = |code: i32, trunk: &str, why: &str| (code, trunk.to_owned(), why.to_owned());

    assert_eq!(whose(&["--source", "192.0.2.7"]), told(0, "net", "192.0.2.7 lies in 192.0.2.0/24"));
    assert_eq!(whose(&["--tls-name", "SBC.example"]), told(0, "names", "the certificate bears sbc.example"));
    assert_eq!(whose(&["--source", "198.51.100.1", "--login", "office"]), told(0, "office", "the password of office"));
    assert_eq!(whose(&["--registered", "bound"]).1, "bound");
    // A network is known before a password is asked for, and a certificate before both.
    assert_eq!(whose(&["--source", "192.0.2.7", "--login", "office"]).1, "net");
    assert_eq!(whose(&["--source", "192.0.2.7", "--tls-name", "sbc.example"]).1, "names");
    let (code, _, why) = whose(&["--source", "198.51.100.1"]);
    assert!(code == 3 && why.contains("try --login office"), "{why}");
    assert_eq!(whose(&["--registered", "net"]).0, 2, "that one registers nowhere");
    assert_eq!(whose(&["--trunk", "net", "--login", "office"]).0, 2, "one or the other");
}

#[test]
fn a_call_out_is_shown_as_the_trunk_would_see_it() {
    let test = |number: &str| {
        let arguments = [
            "route-test",
            "--config-dir",
            CARRIER,
            "--json",
            "--trunk",
            "acme",
            "--from",
            "anonymous",
            "--dial",
            number,
        ];
        let output = ringback(&arguments);
        (output.status.code(), serde_json::from_str::<Value>(&stdout(&output)).expect("one JSON value"))
    };

    let (allowed, london) = test("+442079460000");
    let (refused, new_york) = test("+12125550123");

    assert_eq!((allowed, refused), (Some(0), Some(3)));
    assert_eq!(london["uris"][0], "sip:9977442079460000@sbc.acme.example:5060;transport=tcp");
    assert_eq!(london["from"], "Analytical Engines <sip:390212345600@trunk.acme.example>");
    assert_eq!(london["headers"][0]["value"], "<sip:+390212345600@trunk.acme.example>");
    assert!(new_york["outcome"]["remedy"].as_str().is_some_and(|remedy| remedy.contains("countries")));
}

const CARRIER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sip-config/examples/carrier");

#[test]
fn a_journal_of_this_version_replays_without_a_difference() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = write_journal(folder.path(), 13);

    let human = ringback(&["replay", &path]);
    let json = ringback(&["replay", &path, "--json"]);

    assert_eq!(human.status.code(), Some(0), "{}", stdout(&human));
    assert!(stdout(&human).contains("every command is the same"), "{}", stdout(&human));
    let verdict: Value = serde_json::from_str(&stdout(&json)).expect("one JSON value");
    assert_eq!((&verdict["ok"], &verdict["replay"]["same"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(stdout(&human).lines().next(), verdict["ladder"][0].as_str());
}

#[test]
fn a_journal_that_was_changed_is_caught_at_its_line() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = write_journal(folder.path(), 13);
    let text = fs::read_to_string(&path).expect("the journal is there");
    let is_ring = |line: &str| line.contains(r#""commands":["ring""#);
    let line = text.lines().position(is_ring).expect("it rang");
    // A nanosecond later: the digest of the line is over its time as well.
    fs::write(&path, text.replacen(r#"{"at":1,"#, r#"{"at":2,"#, 1)).expect("the file can be written");

    let output = ringback(&["replay", &path, "--json"]);

    let verdict: Value = serde_json::from_str(&stdout(&output)).expect("one JSON value");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(verdict["replay"]["same"], false);
    assert_eq!(verdict["replay"]["line"], line + 1);
}

#[test]
fn without_its_vault_a_call_is_drawn_but_not_replayed() {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = write_journal(folder.path(), 13);
    fs::remove_file(Path::new(&path).with_extension("vault")).expect("there is a vault");

    let whole = ringback(&["replay", &path]);
    let ladder = ringback(&["replay", &path, "--ladder-only"]);

    assert_eq!((whole.status.code(), ladder.status.code()), (Some(1), Some(0)));
    assert!(stdout(&whole).starts_with(stdout(&ladder).trim_end()));
    assert!(stdout(&whole).contains("no vault"), "{}", stdout(&whole));
}

#[test]
fn a_journal_of_the_first_format_still_opens() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journals/v1.jsonl");

    let output = ringback(&["replay", path, "--json"]);

    // Later versions may decide otherwise, but they can read every event.
    let verdict: Value = serde_json::from_str(&stdout(&output)).expect("one JSON value");
    assert!(verdict["replay"]["same"].is_boolean(), "{}", verdict["replay"]);
    assert_eq!(verdict["sealed"], true);
    assert!(verdict["ladder"].as_array().is_some_and(|lines| lines.len() > 20));
}

#[test]
fn a_call_to_nobody_ends_with_69() {
    // TCP port 9 of loopback: refused at once, where UDP would wait for 32 seconds.
    let output = ringback(&["call", "sip:nobody@127.0.0.1:9;transport=tcp", "--json"]);

    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
    let verdict: Value = serde_json::from_str(&stdout(&output)).expect("one JSON value");
    assert_eq!(verdict["ok"], false);
}

#[test]
fn a_terminal_changes_no_result() {
    // util-linux's script gives the command a terminal, and hands its exit code on.
    let command = format!("{} call 'sip:nobody@127.0.0.1:9;transport=tcp'", env!("CARGO_BIN_EXE_ringback"));

    let output = Command::new("script").args(["-qec", &command, "/dev/null"]).output().expect("there is a script");

    assert_eq!(output.status.code(), Some(69), "{}", stdout(&output));
    assert!(!stdout(&output).contains("panicked"), "{}", stdout(&output));
}

fn write_journal(folder: &Path, seed: u64) -> String {
    let report = World::new(seed, Arc::new(plan_for(seed))).run();
    let path = folder.join("call.jsonl");
    let vault: String = report.vault.iter().map(|value| format!("{value}\n")).collect();
    fs::write(&path, &report.journal).expect("the file can be written");
    fs::write(path.with_extension("vault"), vault).expect("the file can be written");
    path.to_str().expect("the path is text").to_owned()
}

fn ringback(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringback")).args(arguments).output().expect("the binary can be run")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("the output is text")
}
