//! From the files as written to the configuration as checked, with everything that a schema cannot see.
//!
//! Pure: what only the disk knows (clips, credentials) is noted in [`Wanted`] for the loader to look up. A mistake does
//! not stop the check: something harmless takes its place, and the result is thrown away in the end.

mod agents;
mod forward;
mod gateway;
mod protection;
mod reach;
mod routes;
mod steps;
mod trunks;
mod verbs;
mod webrtc;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub(super) use routes::RoutePart;

use super::diagnostic::{Severity, code};
use super::{Egress, raw};
use crate::actions::{Action, Agent, SecretRef, Workflow};
use crate::model::limits;
use crate::trunk::Trunk;

/// What the agent room knows of connectors, handed in so that the rooms stay apart.
#[derive(Clone, Copy, Debug)]
pub struct Connectors {
    /// The names of all, `flow` and `echo` among them.
    pub names: &'static [&'static str],
    /// The mistakes in a connector's settings.
    pub check: fn(&str, &Value) -> Vec<SettingFault>,
}

/// A mistake in a connector's settings: JSON pointer into them, what is wrong, what would be right.
pub type SettingFault = (String, String, String);

/// The files of a configuration, each as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub gateway: Option<raw::GatewayFile>,
    pub routes: Option<raw::RoutesFile>,
    pub webhooks: Option<raw::WebhooksFile>,
    pub trunks: BTreeMap<String, raw::TrunkFile>,
    pub agents: BTreeMap<String, raw::AgentFile>,
    pub actions: BTreeMap<String, raw::ActionFile>,
    pub workflows: BTreeMap<String, raw::WorkflowFile>,
    /// Files that exist and could not be read, without ending; whoever refers to them is not to blame.
    pub broken: BTreeSet<String>,
    /// The text files in `agents/`, by name.
    pub texts: BTreeMap<String, String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub file: String,
    /// JSON pointer (RFC 6901).
    pub pointer: String,
    /// Point at the key, not at its value.
    pub on_key: bool,
    /// Byte within the text that stands there.
    pub offset: Option<usize>,
}

impl At {
    pub(super) fn file(name: impl Into<String>) -> At {
        At { file: name.into(), pointer: String::new(), on_key: false, offset: None }
    }

    pub(super) fn key(&self, key: &str) -> At {
        let escaped = key.replace('~', "~0").replace('/', "~1");
        At { pointer: format!("{}/{escaped}", self.pointer), ..self.clone() }
    }

    pub(super) fn item(&self, index: usize) -> At {
        At { pointer: format!("{}/{index}", self.pointer), ..self.clone() }
    }

    pub(super) fn on_key(&self) -> At {
        At { on_key: true, ..self.clone() }
    }

    pub(super) fn offset(&self, offset: usize) -> At {
        At { offset: Some(offset), ..self.clone() }
    }
}

/// A mistake before its line is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub severity: Severity,
    pub code: &'static str,
    pub at: At,
    pub message: String,
    pub hint: Option<String>,
    /// What was written and what is known, for "did you mean".
    pub near: Option<(String, Vec<String>)>,
    /// Something is missing here; not worth saying where a key beside it was misspelt.
    pub is_absence: bool,
}

impl Mistake {
    pub(super) fn error(code: &'static str, at: At, message: impl Into<String>) -> Mistake {
        Mistake {
            severity: Severity::Error,
            code,
            at,
            message: message.into(),
            hint: None,
            near: None,
            is_absence: false,
        }
    }

    pub(super) fn warning(code: &'static str, at: At, message: impl Into<String>) -> Mistake {
        Mistake { severity: Severity::Warning, ..Mistake::error(code, at, message) }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Mistake {
        Mistake { hint: Some(hint.into()), ..self }
    }

    pub(super) fn near(self, written: &str, known: impl IntoIterator<Item = impl Into<String>>) -> Mistake {
        Mistake { near: Some((written.to_owned(), known.into_iter().map(Into::into).collect())), ..self }
    }

    pub(super) fn absence(self) -> Mistake {
        Mistake { is_absence: true, ..self }
    }
}

/// What the loader must look up on the disk and in the environment.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Clips with names that hold no variables.
    pub clips: Vec<(At, String)>,
    /// Credentials.
    pub secrets: Vec<(At, SecretRef)>,
    /// Those of them that are private keys for signing callers' identities.
    pub keys: Vec<(At, SecretRef)>,
    /// The list of whose signatures are believed.
    pub trust: Option<(At, String)>,
}

/// What came of a check. The parts can be put together when nothing in `found` is an error.
#[derive(Debug)]
pub(super) struct Checked {
    pub found: Vec<Mistake>,
    pub wanted: Wanted,
    pub parts: Parts,
}

/// A configuration in parts, without its revision.
#[derive(Debug)]
pub(super) struct Parts {
    pub gateway: Option<super::Gateway>,
    pub routes: Vec<RoutePart>,
    pub trunks: BTreeMap<String, Trunk>,
    pub endpoints: Vec<super::Endpoint>,
    pub agents: BTreeMap<String, Agent>,
    pub actions: BTreeMap<String, Action>,
    pub workflows: BTreeMap<String, Workflow>,
}

/// Checks a whole tree.
pub(super) fn check(tree: &Tree, connectors: Connectors) -> Checked {
    let mut check = Check {
        tree,
        connectors,
        found: Vec::new(),
        wanted: Wanted::default(),
        used: Vec::new(),
        set: BTreeSet::new(),
        egress: None,
        dials_numbers: Vec::new(),
    };
    let gateway = check.gateway();
    check.egress = gateway.as_ref().map(|gateway| gateway.egress.clone());
    let trunks = check.trunks();
    let routes = check.routes();
    let endpoints = check.endpoints();
    let actions = check.actions();
    let workflows = check.workflows(&actions);
    let agents = check.agents(&actions, &workflows);
    check.variables();
    check.outbound(&trunks);
    let parts = Parts { gateway, routes, trunks, endpoints, agents, actions, workflows };
    Checked { found: check.found, wanted: check.wanted, parts }
}

struct Check<'a> {
    tree: &'a Tree,
    connectors: Connectors,
    found: Vec<Mistake>,
    wanted: Wanted,
    /// Variables that templates name.
    used: Vec<(At, String)>,
    /// First parts of the names of variables that something sets.
    set: BTreeSet<String>,
    egress: Option<Egress>,
    /// Where a number, not a URI, is dialled.
    dials_numbers: Vec<At>,
}

impl Check<'_> {
    fn report(&mut self, mistake: Mistake) {
        // A tree made to harm us has more mistakes than anybody reads; they are not kept, and never make it usable.
        if self.found.len() < limits::CONFIG_MISTAKES_KEPT {
            self.found.push(mistake);
        }
    }

    /// Whether an id names something in one of the folders; if not, says so.
    fn refer(&mut self, kind: Kind, at: &At, id: &str) -> bool {
        let tree = self.tree;
        let is_there = match kind {
            Kind::Trunk => tree.trunks.contains_key(id),
            Kind::Agent => tree.agents.contains_key(id),
            Kind::Action => tree.actions.contains_key(id),
            Kind::Workflow => tree.workflows.contains_key(id),
        };
        if is_there {
            return true;
        }
        let (code, word, folder) = match kind {
            Kind::Trunk => (code::NO_TRUNK, "trunk", "trunks"),
            Kind::Agent => (code::NO_AGENT, "agent", "agents"),
            Kind::Action => (code::NO_ACTION, "action", "actions"),
            Kind::Workflow => (code::NO_WORKFLOW, "workflow", "workflows"),
        };
        if !tree.broken.contains(&format!("{folder}/{id}")) {
            let known: Vec<String> = match kind {
                Kind::Trunk => tree.trunks.keys().cloned().collect(),
                Kind::Agent => tree.agents.keys().cloned().collect(),
                Kind::Action => tree.actions.keys().cloned().collect(),
                Kind::Workflow => tree.workflows.keys().cloned().collect(),
            };
            let mistake = Mistake::error(code, at.clone(), format!("there is no {word} {id:?}")).near(id, known);
            let mistake = if is_id(id) { mistake.hint(format!("write {folder}/{id}.toml")) } else { mistake };
            self.report(mistake);
        }
        false
    }

    fn secret(&mut self, at: &At, secret: &raw::Secret) -> SecretRef {
        const HINT: &str = r#"write { env = "NAME" } or { file = "secrets/name" }"#;
        let found =
            match (&secret.env, &secret.file) {
                (Some(name), None) => {
                    if !is_env_name(name) {
                        let what = "this is no name of an environment variable";
                        self.report(Mistake::error(code::SECRET, at.key("env"), what).hint(
                            "a name holds capital letters, digits and `_`; the credential itself never stands here",
                        ));
                        return SecretRef::Env(String::new());
                    }
                    SecretRef::Env(name.clone())
                }
                (None, Some(file)) => {
                    if let Err(why) = inside(file) {
                        self.report(
                            Mistake::error(code::PATH, at.key("file"), format!("the file of a credential {why}"))
                                .hint(r#"put it below the configuration's folder, as { file = "secrets/name" }"#),
                        );
                        return SecretRef::Env(String::new());
                    }
                    SecretRef::File(file.clone())
                }
                (Some(_), Some(_)) => {
                    self.report(Mistake::error(code::SECRET, at.on_key(), "a credential is in one place").hint(HINT));
                    return SecretRef::Env(String::new());
                }
                (None, None) => {
                    let mistake = Mistake::error(code::SECRET, at.clone(), "it is not said where the credential is");
                    self.report(mistake.hint(HINT).absence());
                    return SecretRef::Env(String::new());
                }
            };
        self.wanted.secrets.push((at.key(if secret.env.is_some() { "env" } else { "file" }), found.clone()));
        found
    }

    /// Says which variables nothing sets, now that everything was seen.
    fn variables(&mut self) {
        let unknown: Vec<(At, String)> = std::mem::take(&mut self.used)
            .into_iter()
            .filter(|(_, path)| !NAMESPACES.contains(&head(path)) && !self.set.contains(head(path)))
            .collect();
        let known: Vec<String> = NAMESPACES.iter().map(|n| (*n).to_owned()).chain(self.set.iter().cloned()).collect();
        for (at, path) in unknown {
            let head = head(&path).to_owned();
            self.report(
                Mistake::warning(code::NO_VARIABLE, at, format!("nothing sets a variable {path:?}"))
                    .near(&head, known.clone())
                    .hint("it will be empty; save it in an `api` action, or give a fallback as {{name | there}}"),
            );
        }
    }

    fn outbound(&mut self, trunks: &BTreeMap<String, Trunk>) {
        if trunks.values().any(|trunk| trunk.outbound.is_some()) {
            return;
        }
        for at in std::mem::take(&mut self.dials_numbers) {
            self.report(
                Mistake::warning(code::NO_OUTBOUND, at, "a number is dialled here, and no trunk can call out")
                    .hint("add [outbound] with a uri to a trunk, or write a sip: URI"),
            );
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Trunk,
    Agent,
    Action,
    Workflow,
}

/// Variables of these names are set on every call.
const NAMESPACES: [&str; 6] = ["caller", "called", "call", "identity", "sip", "system"];

/// The first part of a variable's name.
fn head(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

/// Whether a text can be an id: also a tool's name at a vendor, a file's name, and a label of a metric.
pub(super) fn is_id(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    plain && text.len() <= limits::ID_LEN_MAX && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether a text can be the name of an environment variable. A credential hardly ever can.
pub(super) fn is_env_name(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    plain && text.len() <= 128 && text.as_bytes().first().is_some_and(|b| !b.is_ascii_digit())
}

/// Whether a relative path stays below where it starts; the error says what it does instead.
pub(super) fn inside(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        Err("has no name")
    } else if path.starts_with('/') || path.contains(['\\', ':']) {
        Err("must be given by a relative path with `/`")
    } else if path.chars().any(char::is_control) {
        Err("has a control character in its name")
    } else if path.split('/').any(|part| part == "..") {
        Err("may not lie outside of its folder")
    } else {
        Ok(())
    }
}
