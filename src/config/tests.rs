//! One small tree, changed in one place per test.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{Config, Connectors, Diagnostics, Options, Severity, load};
use crate::actions::{Goto, Verb};
use crate::model::limits;
use crate::route::Asked;

#[test]
fn the_tree_of_these_tests_is_right() {
    let (config, warnings) = tree().load().unwrap();

    assert!(warnings.is_empty(), "{}", warnings.human(false));
    assert_eq!(config.gateway.media.port_first, 20_000);
    assert_eq!(config.gateway.limits.max_calls, 100);
    assert_eq!(config.agents["desk"].duration_max, limits::CALL_DURATION_MAX);
}

#[test]
fn a_misspelt_key_is_one_mistake_not_two() {
    let found = tree().with("routes.toml", "version = 1\n[[route]]\ncalled = \"*\"\nagnet = \"desk\"\n").fails();

    assert_eq!(codes(&found), ["RB1002"]);
}

#[test]
fn a_misspelt_table_of_a_step_is_one_mistake() {
    let step = "version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\n[step.trasfer]\ntargets = [{ to = \"sip:a@b\" }]\n";

    let found = tree().with("workflows/front.toml", step).fails();

    assert_eq!(codes(&found), ["RB1002"]);
    assert_eq!(found.list[0].hint.as_deref(), Some("did you mean `transfer`?"));
}

#[test]
fn a_wrong_entry_in_a_list_does_not_hide_mistakes_behind_it() {
    let steps = "version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\nsay.prompt = { clips = [7] }\n\
                 [[step]]\nid = \"a\"\nsay.prompt = { text = \"{{\" }\n";

    let found = tree().with("workflows/front.toml", steps).fails();

    assert_eq!(codes(&found), ["RB1004", "RB1301", "RB1101"]);
}

#[test]
fn who_refers_to_a_broken_file_is_not_blamed() {
    let found = tree().with("agents/desk.toml", "version = = 1\n").fails();

    assert_eq!(codes(&found), ["RB1001"]);
    assert_eq!((found.list[0].line, found.list[0].column), (1, 11));
}

#[test]
fn missing_files_and_folders_are_said_once_each() {
    let dir = tempfile::tempdir().unwrap();

    let found = load(dir.path(), &options()).unwrap_err();
    let nowhere = load(&dir.path().join("nowhere"), &options()).unwrap_err();

    assert_eq!(codes(&found), ["RB1007", "RB1007", "RB1007"]);
    assert_eq!(codes(&nowhere), ["RB1008"]);
    assert!(found.human(false).contains("gateway.toml: this file must be there"));
}

#[test]
fn files_that_nobody_reads_are_not_passed_over() {
    let found = tree()
        .with("route.toml", "")
        .with("agent/desk.toml", "")
        .with("agents/Front Desk.toml", "")
        .with("agents/desk.yaml", "")
        .with("agents/.desk.toml.swp", "")
        .with("agents/desk.toml~", "")
        .fails();

    assert_eq!(codes(&found), ["RB1011", "RB1010", "RB1011", "RB1011"]);
    assert_eq!(found.list[0].hint.as_deref(), Some("did you mean `agents`?"));
    assert_eq!(found.list[3].hint.as_deref(), Some("did you mean `routes.toml`?"));
}

#[test]
fn a_mounted_configmap_is_read_through_its_links() {
    let tree = tree();
    let real = tree.dir.path().join("..data");
    fs::create_dir(&real).unwrap();
    fs::rename(tree.dir.path().join("gateway.toml"), real.join("gateway.toml")).unwrap();
    std::os::unix::fs::symlink("..data/gateway.toml", tree.dir.path().join("gateway.toml")).unwrap();

    assert!(tree.load().is_ok());
}

#[test]
fn a_file_that_is_too_long_or_not_text_is_refused_unread() {
    let long = format!("# {}\n", "x".repeat(limits::CONFIG_FILE_LEN_MAX as usize));
    let tree = tree().with("agents/desk.toml", &long);
    fs::write(tree.dir.path().join("workflows/front.toml"), b"version = 1 # \xff").unwrap();

    let found = tree.fails();

    assert_eq!(codes(&found), ["RB1008", "RB1008"]);
}

#[test]
fn only_so_many_mistakes_are_listed_and_the_rest_is_counted() {
    let mut routes = "version = 1\n".to_owned();
    for n in 0..300 {
        routes.push_str(&format!("[[route]]\ncalled = \"{n}\"\nagent = \"nobody\"\n"));
    }
    let found = tree().with("routes.toml", &routes).fails();

    assert_eq!(found.list.len(), limits::CONFIG_MISTAKES_MAX);
    // 300 dangling agents, and no default route.
    assert_eq!(found.left_out, 101);
    assert!(found.human(false).ends_with("200 errors, 0 warnings, and 101 more that are not shown\n"));
}

#[test]
fn many_warnings_do_not_stop_a_configuration() {
    let names: String = (0..250).map(|n| format!("{{{{v{n}}}}}")).collect();
    let steps = format!("version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\nsay.prompt = {{ text = \"{names}\" }}\n");

    let (_, warnings) = tree().with("workflows/front.toml", &steps).load().unwrap();

    assert_eq!((warnings.warnings(), warnings.left_out), (limits::CONFIG_MISTAKES_MAX, 50));
}

#[test]
fn a_lower_route_is_reachable_when_the_upper_is_for_one_trunk() {
    let routes = |second: &str| {
        format!(
            "version = 1\n[[route]]\ncalled = \"+44*\"\ntrunk = \"carrier\"\nreject = \"busy\"\n\
             [[route]]\ncalled = \"+4420\"\n{second}\nagent = \"desk\"\n[[route]]\ncalled = \"*\"\nagent = \"desk\"\n"
        )
    };

    let (config, _) = tree().with("routes.toml", &routes("")).load().unwrap();
    let found = tree().with("routes.toml", &routes("trunk = \"carrier\"")).fails();

    assert_eq!(config.route(&Asked::of("+4420", "carrier")).unwrap().rule.called.to_string(), "+44*");
    assert_eq!(config.route(&Asked::of("+4420", "other")).unwrap().rule.called.to_string(), "+4420");
    assert_eq!(codes(&found), ["RB1305"]);
}

#[test]
fn every_mistake_of_a_route_is_found_where_it_is() {
    let check = |route: &str| {
        let routes = format!("version = 1\n[[route]]\n{route}\n[[route]]\ncalled = \"*\"\nagent = \"desk\"\n");
        codes(&tree().with("routes.toml", &routes).load().map_or_else(|found| found, |(_, warnings)| warnings))
    };
    let hours = |hours: &str| check(&format!("called = \"1\"\nagent = \"desk\"\nhours = [{{ {hours} }}]"));
    let none: [&str; 0] = [];

    assert_eq!(check("called = \"+39XX[2-4]*\"\nfrom = \"anonymous\"\nstatus = 433\nreason = \"Show yourself\""), none);
    assert_eq!(check("called = \"2[a]\"\nagent = \"desk\""), ["RB1112"]);
    assert_eq!(check("called = \"1\"\nfrom = \"+39 02\"\nagent = \"desk\""), ["RB1112"]);
    assert_eq!(check("called = \"1\"\nheader = [{ name = \"X Y\" }]\nagent = \"desk\""), ["RB1106"]);
    assert_eq!(check("called = \"1\"\nstatus = 200"), ["RB1005"]);
    assert_eq!(check("called = \"1\"\nstatus = 404\nagent = \"desk\""), ["RB1302"]);
    assert_eq!(check("called = \"1\"\nstatus = 404\nreject = \"busy\""), ["RB1302"]);
    assert_eq!(check("called = \"1\"\nreason = \"No\"\nagent = \"desk\""), ["RB1303"]);
    assert_eq!(hours("days = [\"mon\"], from = \"22:00\", to = \"06:00\", zone = \"Europe/Rome\""), none);
    assert_eq!(hours("from = \"25:00\", zone = \"UTC\""), ["RB1012"]);
    assert_eq!(hours("to = \"24:30\", zone = \"UTC\""), ["RB1012"]);
    assert_eq!(hours("zone = \"Europe/Milan\""), ["RB1114"]);
    assert_eq!(hours("from = \"09:00\""), ["RB1003"]);
    assert_eq!(hours("days = [\"monday\"], zone = \"UTC\""), ["RB1006"]);
}

#[test]
fn a_route_for_some_hours_hides_nothing() {
    let routes = "version = 1\n[[route]]\ncalled = \"1*\"\nagent = \"desk\"\nhours = [{ zone = \"UTC\" }]\n\
                  [[route]]\ncalled = \"1\"\nagent = \"desk\"\n[[route]]\ncalled = \"*\"\nhours = [{ zone = \"UTC\" }]\nagent = \"desk\"\n";

    assert_eq!(codes(&tree().with("routes.toml", routes).fails()), ["RB1304"]);
}

#[test]
fn a_network_within_another_is_well_and_the_same_twice_is_not() {
    let wide = "version = 1\ntitle = \"W\"\n[inbound]\nallowed_addresses = [\"10.0.0.0/8\"]\n";
    let narrow = "version = 1\ntitle = \"N\"\n[inbound]\nallowed_addresses = [\"10.1.0.0/16\"]\n";
    let tree = tree().with("trunks/wide.toml", wide).with("trunks/narrow.toml", narrow);

    assert!(tree.load().is_ok());
    assert_eq!(codes(&tree.with("trunks/twin.toml", wide).fails()), ["RB1309"]);
}

#[test]
fn next_means_whatever_happens_and_an_option_may_say_goto() {
    let steps = "version = 1\ntitle = \"T\"\n\
                 [[step]]\nid = \"a\"\non = { no_match = \"end\" }\n[step.menu]\nprompt = { text = \"1\" }\n\
                 options = [{ digit = \"1\", label = \"b\", goto = \"c\" }]\n\
                 [[step]]\nid = \"b\"\nsay.prompt = { text = \"b\" }\nnext = \"a\"\non_error = \"end\"\n\
                 [[step]]\nid = \"c\"\nsay.prompt = { text = \"c\" }\nnext = \"a\"\n";

    let (config, _) = tree().with("workflows/front.toml", steps).load().unwrap();
    let [a, b, c] = config.workflows["front"].steps.as_slice() else { panic!("three steps") };

    assert_eq!((a.on["key_1"], a.on["no_match"]), (Goto::Step(2), Goto::End));
    assert_eq!((b.on_success, b.on_error), (Some(Goto::Step(0)), Some(Goto::End)));
    assert_eq!((c.on_success, c.on_error), (Some(Goto::Step(0)), Some(Goto::Step(0))));
}

#[test]
fn a_step_that_names_an_action_does_what_the_action_does() {
    let action = "version = 1\ntitle = \"A\"\n[say]\nprompt = { text = \"From the file\" }\n";
    let steps = "version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\naction = \"speak\"\n";

    let (config, _) = tree().with("actions/speak.toml", action).with("workflows/front.toml", steps).load().unwrap();

    assert!(matches!(&config.workflows["front"].steps[0].verb, Verb::Say(say)
        if say.prompt.text.as_ref().is_some_and(|text| text.source() == "From the file")));
}

#[test]
fn branches_must_be_outcomes_of_the_step() {
    let steps = "version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\non = { no_mach = \"end\", key_2 = \"end\" }\n\
                 [step.menu]\nprompt = { text = \"1\" }\noptions = [{ digit = \"1\", label = \"b\" }]\n";

    let found = tree().with("workflows/front.toml", steps).fails();

    assert_eq!(codes(&found), ["RB1006", "RB1006"]);
    assert_eq!(found.list[0].hint.as_deref(), Some("did you mean `no_match`?"));
}

#[test]
fn a_menu_needs_somewhere_to_go_without_a_choice_and_few_options() {
    let options: Vec<_> = "0123456789*".chars().map(|d| format!("{{ digit = \"{d}\", label = \"x\" }}")).collect();
    let steps = format!(
        "version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\n[step.menu]\nprompt = {{ text = \"1\" }}\noptions = [{}]\n",
        options.join(", ")
    );

    let found = tree().with("workflows/front.toml", &steps).fails();

    // The list that is too long is in the menu; where to go stands beside it, and is missed as well.
    assert_eq!(codes(&found), ["RB1307", "RB1005"]);
    let short = steps.replace(", { digit = \"*\", label = \"x\" }", "");
    assert_eq!(codes(&tree().with("workflows/front.toml", &short).fails()), ["RB1307"]);
}

#[test]
fn a_body_must_be_json_with_any_values_and_get_has_none() {
    let action = |method: &str, body: &str| {
        format!(
            "version = 1\ntitle = \"A\"\n[api]\nmethod = \"{method}\"\nurl = \"https://a.example\"\nbody = '{body}'\n"
        )
    };
    let check =
        |method, body| tree().with("actions/post.toml", &action(method, body)).load().map_err(|found| codes(&found));

    assert!(check("POST", r#"{"name": "{{caller.name}}", "n": {{call.count}}}"#).is_ok());
    assert_eq!(check("POST", r#"{"name": {{caller.name}}"#).unwrap_err(), ["RB1107"]);
    assert_eq!(check("GET", "{}").unwrap_err(), ["RB1303"]);
}

#[test]
fn only_a_variable_that_nothing_sets_is_warned_of() {
    let say = |text: &str| {
        format!("version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\nsay.prompt = {{ text = \"{text}\" }}\n")
    };
    let action = "version = 1\ntitle = \"A\"\n[api]\nurl = \"https://a.example\"\nsave = { \"order.id\" = \"$.id\" }\n";
    let tree = tree().with("actions/get.toml", action);

    let (_, warnings) = tree
        .with("workflows/front.toml", &say("{{caller.number}} {{order.items[0].name}} {{odrer.id}}"))
        .load()
        .unwrap();

    assert_eq!(codes(&warnings), ["RB1207"]);
    assert_eq!(warnings.list[0].severity, Severity::Warning);
    assert_eq!(warnings.list[0].hint.as_deref(), Some("did you mean `order`?"));
    assert_eq!((warnings.list[0].line, warnings.list[0].column), (5, 68));
}

#[test]
fn the_host_that_is_called_or_dialled_is_never_a_variable() {
    let transfer = |to: &str| {
        format!(
            "version = 1\ntitle = \"T\"\n[[step]]\nid = \"a\"\non_error = \"end\"\n[step.transfer]\ntargets = [{{ to = \"{to}\" }}]\n"
        )
    };
    let check = |to| {
        let result = tree().with("workflows/front.toml", &transfer(to)).load();
        codes(&result.map_or_else(|found| found, |(_, warnings)| warnings))
    };

    assert_eq!(check("sip:{{caller.desk}}@pbx.example"), Vec::<&str>::new());
    assert_eq!(check("sip:desk@{{caller.pbx}}"), ["RB1406"]);
    assert_eq!(check("sip:{{caller.pbx}}"), ["RB1406"]);
    // May be a number, and then a trunk is needed; or a whole URI.
    assert_eq!(check("{{caller.desk}}"), ["RB1407", "RB1406"]);
    assert_eq!(check("+44 20 call me"), ["RB1105"]);
}

#[test]
fn a_request_that_the_egress_policy_would_refuse_is_found_before_a_call() {
    let action = |url: &str| format!("version = 1\ntitle = \"A\"\n[api]\nurl = \"{url}\"\n");
    let check = |url| tree().with("actions/get.toml", &action(url)).load().map_err(|found| codes(&found));

    assert_eq!(check("http://169.254.169.254/latest").unwrap_err(), ["RB1404"]);
    assert_eq!(check("http://[::ffff:10.0.0.1]/").unwrap_err(), ["RB1404"]);
    assert_eq!(check("https://localhost/").unwrap_err(), ["RB1404"]);
    assert!(check("http://127.0.0.1:8081/x?y={{caller.number}}").is_ok());
    assert_eq!(check("http://127.0.0.1:8082/").unwrap_err(), ["RB1404"]);
}

#[test]
fn a_credential_that_is_not_there_is_a_warning() {
    let action =
        "version = 1\ntitle = \"A\"\n[api]\nurl = \"https://a.example\"\nbearer = { file = \"secrets/crm\" }\n";
    let tree = tree().with("actions/get.toml", action);

    let (_, missing) = tree.load().unwrap();
    let (_, there) = tree.with("secrets/crm", "t0k3n\n").load().unwrap();

    assert_eq!(codes(&missing), ["RB1208"]);
    assert!(there.is_empty());
}

#[test]
fn a_credential_file_outside_of_the_folder_is_refused() {
    let action = "version = 1\ntitle = \"A\"\n[api]\nurl = \"https://a.example\"\nbearer = { file = \"../crm\" }\n";

    assert_eq!(codes(&tree().with("actions/get.toml", action).fails()), ["RB1111"]);
}

#[test]
fn characters_that_a_terminal_obeys_are_not_shown() {
    let found = tree().with("routes.toml", "version = 1\nroute = []\n\"\\u001b[2J\" = 1\n# \u{9b}2J\n").fails();

    let shown = found.human(false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn a_value_cannot_lead_a_clip_out_of_its_folder() {
    let (config, _) = tree().load().unwrap();

    assert!(config.clip("names/Ada.wav").is_some_and(|path| path.ends_with("prompts/names/Ada.wav")));
    assert_eq!(config.clip("names/../../secrets/key.wav"), None);
    assert_eq!(config.clip("/etc/passwd"), None);
    assert_eq!(config.clip("a\\..\\b.wav"), None);
}

#[test]
fn a_file_without_line_ends_does_not_flood_the_screen() {
    let key = "a".repeat(100_000);
    let text = format!(
        "version = 1\ntitle = \"T\"\nstep = [{{ id = \"a\", {key} = {{ {key} = \"{key}\" }}, next = \"{key}\" }}]\n"
    );

    let found = tree().with("workflows/front.toml", &text).fails();

    assert_eq!(codes(&found), ["RB1002", "RB1205"]);
    assert!(found.human(false).len() < 8_000, "{} bytes", found.human(false).len());
}

#[test]
fn the_revision_names_the_content() {
    let first = tree().load().unwrap().0.revision;
    let second = tree().load().unwrap().0.revision;
    let changed = tree().with("agents/note.md", "x").load().unwrap().0.revision;

    assert_eq!(first, second);
    assert_ne!(first, changed);
    assert!(first.len() == 12 && first.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn no_file_whatever_stands_in_it_makes_the_check_panic() {
    // Every file of the tree, cut off at every byte, and with every byte replaced by one that matters to TOML.
    for (name, text) in FILES {
        for at in (0..text.len()).step_by(2) {
            let _ = tree().with(name, &text[..at]).load();
        }
        for (at, _) in text.char_indices().step_by(7) {
            for odd in ["\"", "{", "0", "\u{e4}"] {
                let mut changed = text.to_owned();
                changed.replace_range(at..at + 1, odd);
                if let Err(found) = tree().with(name, &changed).load() {
                    assert!(!found.human(false).is_empty());
                }
            }
        }
    }
}

struct Tree {
    dir: TempDir,
}

impl Tree {
    fn with(self, name: &str, text: &str) -> Tree {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn load(&self) -> Result<(Config, Diagnostics), Diagnostics> {
        load(self.dir.path(), &options())
    }

    fn fails(&self) -> Diagnostics {
        self.load().map(|(_, warnings)| warnings.human(false)).expect_err("there is a mistake")
    }
}

fn tree() -> Tree {
    let mut tree = Tree { dir: tempfile::tempdir().unwrap() };
    for (name, text) in FILES {
        tree = tree.with(name, text);
    }
    tree
}

const FILES: [(&str, &str); 5] = [
    (
        "gateway.toml",
        "version = 1\n[sip]\nudp = [\"127.0.0.1:5060\"]\n[media]\naddress = \"127.0.0.1\"\n\
         [egress]\nallow = [\"http://127.0.0.1:8081\"]\n",
    ),
    ("routes.toml", "version = 1\n[[route]]\ncalled = \"*\"\nagent = \"desk\"\n"),
    ("trunks/carrier.toml", "version = 1\ntitle = \"C\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n"),
    ("agents/desk.toml", "version = 1\ntitle = \"D\"\nconnector = \"flow\"\n[flow]\nworkflow = \"front\"\n"),
    (
        "workflows/front.toml",
        "version = 1\ntitle = \"F\"\n[[step]]\nid = \"hello\"\nsay.prompt = { text = \"Hello\" }\n",
    ),
];

fn codes(found: &Diagnostics) -> Vec<&'static str> {
    found.list.iter().map(|one| one.code).collect()
}

fn options() -> Options {
    fn no_settings(_: &str, _: &Value) -> Vec<(String, String, String)> {
        Vec::new()
    }
    Options { connectors: Connectors { names: &["flow", "echo"], check: no_settings }, moved: Vec::new() }
}
