//! Every file of `sip-config/` is checked, every option is used by one, and mistakes are shown as they should be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringback::actions::{Connector, Fallback, Goto, Reception, Verb};
use ringback::config::{self, Config, Connectors, Destination, Diagnostics, Options};
use ringback::route::Asked;
use serde_json::Value;

#[test]
fn every_example_is_free_of_mistakes() {
    for name in ["", "examples/carrier", "examples/minimal", "examples/demo", "examples/openai"] {
        let (config, warnings) = load(&sip_config(name));

        let unexpected: Vec<_> = warnings.list.iter().filter(|found| found.code != NO_SECRET).collect();
        assert!(unexpected.is_empty(), "sip-config/{name}:\n{}", warnings.human(false));
        assert_eq!(config.revision.len(), 12);
    }
}

#[test]
fn every_folder_of_examples_is_in_this_test() {
    let mut names: Vec<_> = std::fs::read_dir(sip_config("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();

    assert_eq!(names, ["carrier", "demo", "minimal", "openai"]);
}

#[test]
fn the_default_configuration_is_the_minimal_one() {
    let (default, _) = load(&sip_config(""));
    let (minimal, _) = load(&sip_config("examples/minimal"));

    assert_eq!(default.trunks, minimal.trunks);
    assert_eq!(default.agents, minimal.agents);
    assert_eq!(default.workflows, minimal.workflows);
    assert_eq!(default.gateway.sip, minimal.gateway.sip);
}

#[test]
fn the_demonstration_is_what_its_page_says() {
    let (config, _) = load(&sip_config("examples/demo"));
    let route = |called| config.route(&Asked::of(called, "carrier")).unwrap();
    let plan = config.plan(route("100"));

    let Reception::Agent(agent) = &plan.reception else { panic!("100 leads to an agent") };
    assert_eq!(agent.connector, Connector::Flow("front-desk".into()));
    assert_eq!(agent.ring_budget.as_millis(), 1500);
    assert_eq!(agent.before[0].action.id, "crm-lookup");
    assert!(agent.record);
    assert_eq!(plan.workflows.keys().collect::<Vec<_>>(), ["after-call", "front-desk"]);
    assert_eq!(plan.revision, config.revision);
    let menu = &plan.workflows["front-desk"].steps[1];
    assert_eq!(menu.on["key_1"], Goto::Step(2));
    assert_eq!(menu.on["key_2"], Goto::Step(5));
    assert_eq!(menu.on["no_match"], Goto::Step(5));
    let refused = |called| match &route(called).to {
        Destination::Refuse { status, retry_after_s, .. } => (*status, *retry_after_s),
        other => panic!("{called} leads to {other:?}"),
    };
    assert_eq!(refused("486"), (486, None));
    assert_eq!(refused("503"), (503, Some(30)));
    assert_eq!(refused("12345"), (404, None));
    assert_eq!(config.trunk_of("127.0.0.9".parse().unwrap()).unwrap().id, "carrier");
    assert!(config.trunk_of("192.0.2.1".parse().unwrap()).is_none());
}

#[test]
fn routes_to_one_agent_share_its_plan() {
    let (config, _) = load(&sip_config("examples/demo"));
    let route = config.route(&Asked::of("100", "carrier")).unwrap();

    assert!(std::sync::Arc::ptr_eq(&config.plan(route), &config.plan(route)));
}

#[test]
fn options_of_a_vendors_agent_reach_its_plan() {
    let (config, _) = load(&sip_config("examples/openai"));
    let plan = config.plan(config.route(&Asked::of("+441632960001", "carrier")).unwrap());

    let Reception::Agent(agent) = &plan.reception else { panic!("the number leads to an agent") };
    let Connector::Vendor { name, settings, instructions, first_words, secret } = &agent.connector else {
        panic!("the agent is a vendor's")
    };
    assert_eq!((name.as_str(), &settings["voice"]), ("openai-realtime", &Value::from("marin")));
    assert!(instructions.source().starts_with("You are the telephone assistant"));
    assert!(first_words.is_some() && secret.is_some());
    assert_eq!(agent.before[1].after, ["crm-lookup"]);
    let ids: Vec<_> = agent.during.iter().map(|action| action.id.as_str()).collect();
    assert_eq!(ids, ["order-status", "say-hours", "ask-language", "to-colleague", "off-the-record", "end-call"]);
    let Verb::Transfer(to) = &agent.during[3].verb else { panic!("to-colleague transfers") };
    assert!(to.fallback.values().any(|fallback| matches!(fallback, Fallback::Ring(_))));
    // What a call can run, also by way of an action of a step and of a goodbye.
    assert_eq!(plan.workflows.keys().collect::<Vec<_>>(), ["crm-note", "no-agent", "satisfaction"]);
}

#[test]
fn taken_addresses_are_moved_everywhere_at_once() {
    let moved = |from: &str, to: &str| (from.parse().unwrap(), to.parse().unwrap());
    let options = Options {
        moved: vec![
            moved("127.0.0.1:5060", "127.0.0.1:45060"),
            moved("127.0.0.1:8081", "127.0.0.1:48081"),
            moved("127.0.0.1:5081", "127.0.0.1:45081"),
        ],
        ..options()
    };

    let (config, warnings) = config::load(&sip_config("examples/demo"), &options).unwrap();

    assert_eq!(config.gateway.sip.udp[0].port(), 45060);
    assert_eq!(config.gateway.egress.allow[0].port, 48081);
    assert_eq!(config.endpoints[0].url, "http://127.0.0.1:48081/hooks");
    let Verb::Api(lookup) = &config.actions["crm-lookup"].verb else { panic!("crm-lookup asks") };
    assert_eq!(lookup.url.source(), "http://127.0.0.1:48081/contacts?number={{caller.number}}");
    let Verb::Transfer(to) = &config.workflows["front-desk"].steps[5].verb else { panic!("step 6 transfers") };
    assert_eq!(to.targets[0].to.source(), "sip:desk1@127.0.0.1:45081");
    assert_eq!(to.targets[1].to.source(), "sip:desk2@127.0.0.1:5082");
    assert_eq!(warnings.errors(), 0);
}

#[test]
fn every_option_is_used_by_a_file() {
    let mut used = BTreeSet::new();
    for path in toml_files(&sip_config("")) {
        let text = std::fs::read_to_string(&path).unwrap();
        keys(toml_edit::Document::parse(text).unwrap().as_item(), &mut used);
    }

    for (name, schema) in config::schemas() {
        let mut options = BTreeSet::new();
        properties(schema, &mut options);
        // The rare fallbacks are all the same option; three of them are shown.
        let unused: Vec<_> = options
            .difference(&used)
            .filter(|option| !["invalid_number", "unreachable", "media_error"].contains(&option.as_str()))
            .collect();
        assert!(unused.is_empty(), "no file under sip-config/ uses {unused:?} of {name}");
    }
}

#[test]
fn schemas_in_the_tree_are_current() {
    for (name, schema) in config::schemas() {
        let path = sip_config("schema").join(format!("{name}.schema.json"));
        let current = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
        compare(&path, &current);
    }
}

#[test]
fn every_mistake_is_found_at_once_and_at_its_place() {
    let found = broken();

    let places: Vec<String> =
        found.list.iter().map(|d| format!("{} {}:{}:{}", d.code, d.file, d.line, d.column)).collect();
    for expected in [
        "RB1001 actions/syntax.toml:3:25",
        "RB1002 gateway.toml:11:1",
        "RB1002 routes.toml:5:1",
        "RB1003 agents/desk.toml:1:1",
        "RB1004 webhooks.toml:7:10",
        "RB1005 agents/desk.toml:3:18",
        "RB1006 actions/lookup.toml:6:10",
        "RB1101 agents/day.md:2:17",
        "RB1101 workflows/front.toml:7:26",
        "RB1102 actions/lookup.toml:9:41",
        "RB1103 actions/lookup.toml:7:16",
        "RB1104 trunks/carrier.toml:5:35",
        "RB1104 trunks/exchange.toml:7:14",
        "RB1106 trunks/exchange.toml:9:8",
        "RB1303 trunks/exchange.toml:12:12",
        "RB1004 trunks/exchange.toml:15:12",
        "RB1105 trunks/exchange.toml:19:10",
        "RB1104 trunks/exchange.toml:20:15",
        "RB1303 trunks/exchange.toml:21:13",
        "RB1106 trunks/exchange.toml:23:8",
        "RB1113 trunks/exchange.toml:3:11",
        "RB1113 trunks/exchange.toml:26:20",
        "RB1112 trunks/exchange.toml:27:13",
        "RB1104 trunks/exchange.toml:28:10",
        "RB1005 trunks/exchange.toml:31:9",
        "RB1303 trunks/exchange.toml:34:13",
        "RB1111 trunks/exchange.toml:37:16",
        "RB1103 trunks/exchange.toml:38:19",
        "RB1006 trunks/exchange.toml:39:15",
        "RB1005 trunks/exchange.toml:40:18",
        "RB1310 trunks/nobody.toml:4:1",
        "RB1301 trunks/exchange.toml:4:19",
        "RB1106 actions/lookup.toml:8:13",
        "RB1108 workflows/front.toml:19:70",
        "RB1109 actions/lookup.toml:9:49",
        "RB1110 agents/night.toml:5:18",
        "RB1111 workflows/front.toml:7:53",
        "RB1201 routes.toml:9:9",
        "RB1202 agents/desk.toml:13:10",
        "RB1203 agents/desk.toml:8:12",
        "RB1205 workflows/front.toml:23:14",
        "RB1206 workflows/front.toml:12:34",
        "RB1207 agents/desk.toml:5:61",
        "RB1301 workflows/front.toml:16:6",
        "RB1302 workflows/front.toml:13:7",
        "RB1304 routes.toml:12:10",
        "RB1305 routes.toml:12:10",
        "RB1006 gateway.toml:17:19",
        "RB1303 gateway.toml:19:17",
        "RB1306 workflows/tidy.toml:6:7",
        "RB1307 workflows/front.toml:17:7",
        "RB1308 agents/desk.toml:11:9",
        "RB1401 gateway.toml:10:13",
        "RB1408 gateway.toml:29:15",
        "RB1408 gateway.toml:30:23",
        "RB1104 gateway.toml:33:11",
        "RB1402 trunks/carrier.toml:5:22",
        "RB1403 workflows/front.toml:24:7",
        "RB1404 webhooks.toml:5:7",
        "RB1406 workflows/front.toml:25:29",
        "RB1501 agents/night.toml:3:13",
        "RB1502 agents/day.toml:6:10",
    ] {
        assert!(places.iter().any(|place| place == expected), "{expected} is missing in\n{}", places.join("\n"));
    }
}

#[test]
fn mistakes_are_shown_with_line_mark_and_hint() {
    compare(&fixture("broken.txt"), &broken().human(false));
}

#[test]
fn mistakes_are_told_to_scripts_as_one_object() {
    let found = broken();
    let json = found.json();

    assert_eq!(json["ok"], false);
    assert_eq!(json["errors"], found.errors());
    let unknown = json["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["code"] == "RB1002" && one["file"] == "routes.toml")
        .unwrap();
    assert_eq!(unknown["severity"], "error");
    assert_eq!((&unknown["line"], &unknown["column"]), (&Value::from(5), &Value::from(1)));
    assert_eq!(unknown["hint"], "did you mean `agent`?");
}

#[test]
fn a_credential_in_the_wrong_place_is_never_shown() {
    let found = broken();

    let shown = format!("{}{}{found:?}", found.human(true), found.json());
    assert!(!shown.contains("whsec_"), "{shown}");
    assert!(!shown.contains("sk-live"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

fn broken() -> Diagnostics {
    config::load(&fixture("broken"), &options()).map(|(config, _)| config.revision).expect_err("it is broken")
}

fn load(dir: &Path) -> (Config, Diagnostics) {
    config::load(dir, &options()).unwrap_or_else(|found| panic!("{}:\n{}", dir.display(), found.human(false)))
}

fn options() -> Options {
    fn no_volume(connector: &str, settings: &Value) -> Vec<(String, String, String)> {
        match settings.get("volume") {
            Some(_) => {
                vec![("/volume".into(), format!("{connector} has no setting `volume`"), "known: model, voice".into())]
            }
            None => Vec::new(),
        }
    }
    let connectors = Connectors { names: &["flow", "echo", "openai-realtime"], check: no_volume };
    Options { connectors, moved: Vec::new() }
}

/// Compares with a committed file; with `RINGBACK_BLESS` set, writes it.
fn compare(path: &Path, current: &str) {
    if std::env::var_os("RINGBACK_BLESS").is_some() {
        std::fs::write(path, current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == current,
        "{} is not current; look at the difference, then run the tests with RINGBACK_BLESS=1\n{current}",
        path.display()
    );
}

fn sip_config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-config").join(name)
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn toml_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(toml_files(&path));
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            files.push(path);
        }
    }
    files
}

fn keys(item: &toml_edit::Item, into: &mut BTreeSet<String>) {
    if let Some(table) = item.as_table_like() {
        for (name, inner) in table.iter() {
            into.insert(name.to_owned());
            keys(inner, into);
        }
    }
    if let Some(tables) = item.as_array_of_tables() {
        tables.iter().for_each(|table| keys(&toml_edit::Item::Table(table.clone()), into));
    }
    for value in item.as_array().into_iter().flatten() {
        keys(&toml_edit::Item::Value(value.clone()), into);
    }
}

fn properties(schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(own) = schema.get("properties").and_then(Value::as_object) {
        into.extend(own.keys().cloned());
    }
    match schema {
        Value::Object(members) => members.values().for_each(|inner| properties(inner, into)),
        Value::Array(items) => items.iter().for_each(|inner| properties(inner, into)),
        _ => {}
    }
}

/// A credential that is not there now; the examples are checked without any.
const NO_SECRET: &str = "RB1208";
