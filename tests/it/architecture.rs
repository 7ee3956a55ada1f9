//! The plan of the house, held by reading the code: who may know whom, and what must not be anywhere.
//!
//! Each rule is one test. A failure names file and line, and says what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::source::{Source, files, has_word, lines_with, root, rust_files};

#[test]
fn rooms_import_only_what_they_stand_on() {
    let mut broken = Vec::new();
    for source in rust_files("src") {
        let room = source.room();
        if KNOWS_EVERYBODY.contains(&room) {
            continue;
        }
        let Some((_, may)) = TABLE.iter().find(|(name, _)| *name == room) else {
            broken.push(format!("{}:1: the room {room:?} is not in the table", source.path));
            continue;
        };
        for (line, imported) in imports(&source.code) {
            if imported != room && !may.contains(&imported.as_str()) {
                broken.push(format!("{}:{line}: {room} imports {imported}", source.path));
            }
        }
    }
    held(&broken, "let the gateway carry it, or move the type to the room below; the table is in this file");
}

#[test]
fn every_metric_stands_in_the_table_and_is_counted() {
    let mut counted = BTreeSet::new();
    for (_, text) in files("src", "rs") {
        for found in text.split("!(\"ringback_").skip(1) {
            counted.insert(format!("ringback_{}", found.split('"').next().unwrap_or_default()));
        }
    }

    let listed: BTreeSet<String> = ringback::observe::METRICS.iter().map(|(name, ..)| (*name).to_owned()).collect();

    assert_eq!(counted, listed, "the table is in src/observe/mod.rs");
}

#[test]
fn no_pure_room_waits() {
    let words = [
        "async fn",
        "async move",
        "async {",
        ".await",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "ToSocketAddrs",
        "std::fs",
        "std::thread",
        "std::process",
        "std::env",
        "tokio",
    ];
    let broken = search(pure(), |source| lines_with(&source.path, &source.code, &words));
    held(&broken, "return a command instead, and let the shell do it; or gate the file behind the feature `shell`");
}

#[test]
fn every_queue_has_a_bound() {
    let words = ["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "unbounded()", "mpsc::channel()"];
    let broken = search(rust_files("src"), |source| lines_with(&source.path, &source.code, &words));
    held(&broken, "use a bounded channel, its bound and what happens when it is full in model/limits.rs");
}

#[test]
fn no_vendor_is_named_outside_its_room() {
    // A profile of the bench has the name of what it measures.
    let may =
        |source: &Source| ["agent", "services"].contains(&source.room()) || source.path.starts_with("src/cli/bench/");
    let elsewhere = rust_files("src").into_iter().filter(|source| !may(source));
    let broken = search(elsewhere, |source| {
        let hits = source.text.lines().enumerate().flat_map(|(at, line)| {
            let line = line.to_lowercase();
            VENDORS.iter().filter(move |vendor| line.contains(**vendor)).map(move |vendor| (at + 1, *vendor))
        });
        hits.map(|(line, vendor)| format!("{}:{line}: {vendor}", source.path)).collect()
    });
    held(&broken, "say what it does, not who sells it; vendors live in agent/ and services/");
}

#[test]
fn sip_statuses_are_known_to_sip_and_the_table_of_causes_only() {
    let elsewhere = rust_files("src").into_iter().filter(|source| {
        let path = source.path.as_str();
        !MAY_NAME_STATUSES.iter().any(|(allowed, _)| path.starts_with(allowed))
    });
    let broken = search(elsewhere, |source| {
        let hits = source.code.lines().enumerate().flat_map(|(at, line)| statuses(line).map(move |hit| (at + 1, hit)));
        hits.map(|(line, status)| format!("{}:{line}: {status}", source.path)).collect()
    });
    held(&broken, "name a Cause, and let call/cause.rs know its number");
}

#[test]
fn nothing_pure_depends_on_the_order_of_a_hash_map() {
    let broken = search(pure(), |source| {
        let names = hash_names(&source.code);
        let hits = source.code.lines().enumerate().filter(|(_, line)| names.iter().any(|name| iterates(line, name)));
        hits.map(|(at, line)| format!("{}:{}: {}", source.path, at + 1, line.trim())).collect()
    });
    held(&broken, "use a BTreeMap: a replay must see the same order on every machine");
}

#[test]
fn no_test_sleeps() {
    let words = ["sleep(", "sleep_until(", "sleep_ms(", "park_timeout("];
    let mut broken = search(rust_files("tests"), |source| lines_with(&source.path, &source.code, &words));
    // Tests inside src/ are blanked in `code`: what stands in `spoken` only is theirs.
    for source in rust_files("src") {
        for (at, (spoken, code)) in source.spoken.lines().zip(source.code.lines()).enumerate() {
            if words.iter().any(|word| has_word(spoken, word)) && code.trim().is_empty() {
                broken.push(format!("{}:{}: {}", source.path, at + 1, spoken.trim()));
            }
        }
    }
    held(&broken, "advance the world, or wait for the event with a time limit");
}

#[test]
fn the_clock_is_read_where_the_plan_says_only() {
    let words = ["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", ".elapsed()"];
    let elsewhere = rust_files("src").into_iter().filter(|source| !CLOCKS.iter().any(|(path, _)| *path == source.path));
    let mut broken = search(elsewhere, |source| lines_with(&source.path, &source.code, &words));
    for (path, text) in rust_files("src").into_iter().map(|s| (s.path, s.spoken)).chain(files("src", "sql")) {
        let sql = ["CURRENT_TIMESTAMP", "unixepoch('now'", "datetime('now'", "strftime('%s'"];
        broken.extend(lines_with(&path, &text, &sql));
    }
    held(&broken, "take the time as an argument, or ask gateway/clock.rs");
}

#[test]
fn the_media_path_neither_locks_nor_logs() {
    let words = [
        "Mutex",
        "RwLock",
        "OnceLock",
        "println!",
        "eprintln!",
        "tracing::",
        "info!(",
        "warn!(",
        "error!(",
        "debug!(",
        "trace!(",
        "format!(",
        "Box<dyn",
    ];
    let path = pure().into_iter().filter(|source| source.room() == "media");
    let broken = search(path, |source| lines_with(&source.path, &source.code, &words));
    held(&broken, "count it, and let a notice carry the count to the gateway");
}

#[test]
fn nothing_unwraps_without_a_proof() {
    let broken = search(rust_files("src"), |source| {
        let mut found = lines_with(&source.path, &source.code, &[".unwrap()"]);
        for (at, _) in source.code.match_indices(".expect(") {
            // The readings have the same characters, not the same bytes: count in characters.
            let characters = source.code[..at].chars().count() + ".expect(".len();
            let proof: String = source.spoken.chars().skip(characters).take_while(|c| *c != ')').collect();
            if proof.split_whitespace().count() < 4 {
                let line = source.code[..at].matches('\n').count() + 1;
                found.push(format!("{}:{line}: expect({proof})", source.path));
            }
        }
        found
    });
    held(&broken, "handle it, or give the proof: expect(\"… because …\")");
}

#[test]
fn every_room_has_a_door_that_says_what_it_does() {
    let doors = rust_files("src").into_iter().filter(|source| source.path.ends_with("/mod.rs"));
    let broken = search(doors, |source| {
        let says = source.text.starts_with("//! ");
        if says { Vec::new() } else { vec![format!("{}:1: no `//!` line", source.path)] }
    });
    held(&broken, "begin mod.rs with what the room does, what it must never know, and where to start reading");
}

#[test]
fn every_configuration_file_is_toml() {
    let broken: Vec<String> = files("sip-config", "toml")
        .into_iter()
        .filter_map(|(path, text)| {
            let error = text.parse::<toml_edit::DocumentMut>().err()?;
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count()) + 1;
            Some(format!("{path}:{line}: {}", error.message()))
        })
        .collect();
    held(&broken, "mend the file; `ringback check` shows where");
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let mut broken = Vec::new();
    for path in tracked() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (at, line) in text.lines().enumerate() {
            // Split, so that this file does not name them either.
            for place in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")] {
                let starts = line
                    .match_indices(place)
                    .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}*".contains(c)));
                if starts {
                    broken.push(format!("{path}:{}: {place}", at + 1));
                }
            }
        }
    }
    held(&broken, "write the path from the root of the repository, or from a variable");
}

/// Who may import whom, besides itself. What is not here may not.
const TABLE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("sdp", &["model"]),
    ("media", &["model"]),
    ("hearing", &["model"]),
    ("actions", &["model"]),
    ("agent", &["model"]),
    ("transfer", &["model", "actions"]),
    ("people", &["model", "actions"]),
    ("call", &["model", "sdp", "actions", "transfer", "people", "hearing"]),
    ("journal", &["model", "actions", "call"]),
    // The world proves that replay equals run, so it writes journals.
    ("sim", &["model", "actions", "call", "journal"]),
    ("trunk", &["model", "actions"]),
    ("route", &["model"]),
    ("guard", &["model", "trunk"]),
    ("stir", &["model"]),
    ("sip", &["model", "sdp", "trunk", "guard"]),
    // Checking a file means asking the rooms that know its words.
    ("config", &["model", "actions", "call", "agent", "trunk", "route", "guard", "stir"]),
    ("services", &["model", "actions"]),
    ("store", &["model", "actions", "call"]),
    // A delivery is a lease on a row, a request under the egress policy, and a report to the row.
    ("webhook", &["model", "actions", "services", "store"]),
    ("workflow", &["model", "actions", "call", "store", "webhook", "services"]),
    ("observe", &["model", "call"]),
    ("api", &["model", "store", "journal", "config"]),
    ("console", &["model"]),
];

/// The gateway wires the rooms together, and the command line starts them.
const KNOWS_EVERYBODY: &[&str] = &["lib", "main", "gateway", "cli"];

/// Who may read a clock, and what for.
const CLOCKS: &[(&str, &str)] = &[
    ("src/config/certificates.rs", "a certificate is good or bad today"),
    ("src/gateway/clock.rs", "the house's clock"),
    ("src/media/worker.rs", "the wheel of 1 ms slots"),
    ("src/sip/stack/mod.rs", "arms the timers of transactions; no call sees these times"),
    ("src/sip/wire.rs", "arms the retransmissions that its dialogs ask for; no call sees these times"),
    ("src/cli/stopwatch.rs", "the test phone and the demo stand outside and measure"),
    ("src/agent/wire.rs", "time limit of connecting, and pings; no call sees these times"),
];

const VENDORS: &[&str] = &[
    "openai",
    "deepgram",
    "elevenlabs",
    "twilio",
    "telnyx",
    "vonage",
    "anthropic",
    "gemini",
    "azure",
    "assemblyai",
    "cartesia",
    "hubspot",
    "calendly",
    "cal.com",
    "ultravox",
    "livekit",
    "pipecat",
    "whatsapp",
];

/// Where numbers that are also SIP statuses may stand, and why.
const MAY_NAME_STATUSES: &[(&str, &str)] = &[
    ("src/call/cause.rs", "the table"),
    ("src/sip/", "they are its words"),
    ("src/sim/", "it plays networks that refuse"),
    ("src/services/", "HTTP's own statuses"),
    ("src/webhook/", "HTTP's own statuses"),
    ("src/workflow/", "HTTP's own statuses, of steps that are worth another try"),
    ("src/media/", "it counts samples, and has no statuses"),
    ("src/agent/", "HTTP's own statuses, when a socket is refused"),
    ("src/api/", "HTTP's own statuses"),
    ("src/cli/", "the callers and targets of the demo speak SIP themselves"),
];

/// Numbers that hardly ever mean anything but a status; round ones like 400 or 500 count only beside the word.
const STATUSES: &[&str] = &[
    "401", "402", "403", "404", "405", "406", "407", "408", "410", "413", "414", "415", "416", "420", "421", "422",
    "423", "480", "481", "482", "483", "484", "485", "486", "487", "488", "489", "491", "493", "501", "502", "503",
    "504", "505", "513", "603", "604", "606", "607", "608",
];

fn statuses(line: &str) -> impl Iterator<Item = &'static str> + '_ {
    let beside_the_word = ["400", "500", "600"].iter().filter(move |_| line.to_lowercase().contains("status"));
    STATUSES.iter().chain(beside_the_word).copied().filter(move |status| {
        // A fraction or a grouped number is no status.
        let whole = |at: usize| {
            let before = line[..at].chars().next_back();
            let after = line[at + 3..].chars().next();
            let joins = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            let range_before = line[..at].ends_with("..");
            let range_after = line[at + 3..].starts_with("..");
            (range_before || !before.is_some_and(joins)) && (range_after || !after.is_some_and(joins))
        };
        line.match_indices(status).any(|(at, _)| whole(at))
    })
}

// `crate::room` in any position, and the rooms of `crate::{…}`.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push((line, name_at(rest))),
            Some(group) => found.extend(group_names(group).into_iter().map(|name| (line, name))),
        }
    }
    found.retain(|(_, name)| name.starts_with(|c: char| c.is_lowercase()));
    found
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn group_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut fresh = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && !c.is_whitespace() => {
                names.push(name_at(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// The files that compile without the feature `shell`: those that no `mod` line on their way gates.
fn pure() -> Vec<Source> {
    let all = rust_files("src");
    let gated: BTreeSet<String> = all.iter().flat_map(gated_modules).collect();
    let is_gated = |path: &str| {
        gated.iter().any(|module| path == format!("{module}.rs") || path.starts_with(&format!("{module}/")))
    };
    all.into_iter().filter(|source| !is_gated(&source.path) && source.room() != "main").collect()
}

fn gated_modules(source: &Source) -> Vec<String> {
    let folder = match source.path.strip_suffix("/mod.rs").or_else(|| source.path.strip_suffix("/lib.rs")) {
        Some(folder) => folder.to_owned(),
        None => source.path.trim_end_matches(".rs").to_owned(),
    };
    let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
    let after_gate = lines.windows(2).filter(|pair| pair[0] == "#[cfg(feature = \"shell\")]").map(|pair| pair[1]);
    let names = after_gate.filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'))
    });
    names.map(|name| format!("{folder}/{name}")).collect()
}

fn hash_names(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for kind in ["HashMap", "HashSet"] {
        for (at, _) in code.match_indices(kind) {
            // What stands between a name's colon and the type: a path, a reference, `mut`.
            let path = |c: char| c.is_alphanumeric() || c == '_' || c == '&' || c == '\'' || c == ' ';
            let before = code[..at].trim_end_matches("collections::").trim_end_matches("std::").trim_end_matches(path);
            let Some(before) = before.strip_suffix(':').or_else(|| before.strip_suffix('=')) else { continue };
            let name: String =
                before.trim_end().chars().rev().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !name.is_empty() {
                names.insert(name.chars().rev().collect());
            }
        }
    }
    names
}

fn iterates(line: &str, name: &str) -> bool {
    const WALKS: [&str; 10] = [
        "iter()",
        "iter_mut()",
        "keys()",
        "values()",
        "values_mut()",
        "into_iter()",
        "into_keys()",
        "into_values()",
        "drain(",
        "retain(",
    ];
    let walks = WALKS.iter().any(|walk| has_word(line, &format!("{name}.{walk}")));
    let loops = line.split_once(" in ").is_some_and(|(head, tail)| {
        let over = tail.trim().trim_start_matches('&').trim_start_matches("mut ").trim_start_matches("self.");
        head.trim_start().starts_with("for ") && over.trim_end_matches('{').trim() == name
    });
    walks || loops
}

fn search(sources: impl IntoIterator<Item = Source>, rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources.into_iter().flat_map(|source| rule(&source)).collect()
}

fn held(broken: &[String], remedy: &str) {
    assert!(broken.is_empty(), "\n{}\n→ {remedy}\n", broken.join("\n"));
}

fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    match listed {
        Ok(listed) if listed.status.success() => {
            let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
            names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        // A source archive has no index: read what it holds.
        _ => ["src", "tests", "benches"].iter().flat_map(|f| rust_files(f)).map(|source| source.path).collect(),
    }
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let code = "use crate::model::Time;\nuse crate::{call::{Call, Cause}, sip};\nfn f(x: crate::store::Row) {}\nuse crate::Thing;";

    let seen: BTreeMap<String, usize> = imports(code).into_iter().map(|(line, name)| (name, line)).collect();

    let expected = [("call", 2), ("model", 1), ("sip", 2), ("store", 3)];
    assert_eq!(seen, expected.map(|(name, line)| (name.to_owned(), line)).into());
}

#[test]
fn the_reader_of_statuses_tells_them_from_other_numbers() {
    assert_eq!(statuses("if status == 486 {").collect::<Vec<_>>(), ["486"]);
    assert_eq!(statuses("400..500 if status").collect::<Vec<_>>(), ["400", "500"]);
    assert_eq!(statuses("wait(500); x = 48_600; y = 0.487; port4860").count(), 0);
}

#[test]
fn the_reader_of_hash_maps_sees_walks() {
    let names = hash_names("struct A { tokens: HashMap<String, usize> }\nlet mut seen = HashSet::new();");

    assert_eq!(names, BTreeSet::from(["seen".to_owned(), "tokens".to_owned()]));
    assert!(iterates("for x in &self.tokens {", "tokens") && iterates("self.tokens.values().max()", "tokens"));
    assert!(!iterates("self.tokens.get(&key)", "tokens"));
}
