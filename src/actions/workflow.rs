//! Actions and workflows as records: what an admin edits, checked.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Api, HangUp, Menu, Say, SetRecording, TransferTo};

/// One thing an agent can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The file's stem; also the tool's name towards an agent.
    pub id: String,
    /// For people.
    pub title: String,
    /// When an agent should do it, in words the agent reads.
    pub when_to_use: String,
    /// When in the life of a call it may run.
    pub phase: Phase,
    /// What the agent must say to run it; they become variables of the run.
    pub parameters: Vec<Parameter>,
    /// What it does.
    pub verb: Verb,
}

impl Action {
    /// The JSON Schema of the arguments an agent gives.
    pub fn arguments_schema(&self) -> Value {
        let properties: serde_json::Map<String, Value> = self
            .parameters
            .iter()
            .map(|p| (p.name.clone(), json!({"type": p.kind.as_str(), "description": p.description})))
            .collect();
        let required: Vec<&str> = self.parameters.iter().filter(|p| p.required).map(|p| p.name.as_str()).collect();
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
    }

    /// Checks an agent's arguments.
    ///
    /// # Errors
    /// One sentence for the agent, naming the argument and what it should be.
    pub fn check_arguments(&self, arguments: &Value) -> Result<(), String> {
        let Some(given) = arguments.as_object() else {
            return Err("arguments must be a JSON object".to_owned());
        };
        for parameter in &self.parameters {
            match given.get(&parameter.name) {
                None | Some(Value::Null) if parameter.required => {
                    return Err(format!("argument {:?} is missing; ask the caller for it", parameter.name));
                }
                Some(value) if !value.is_null() && !parameter.kind.fits(value) => {
                    return Err(format!("argument {:?} must be a {}", parameter.name, parameter.kind.as_str()));
                }
                _ => {}
            }
        }
        match given.keys().find(|name| !self.parameters.iter().any(|p| p.name == **name)) {
            Some(unknown) => Err(format!("there is no argument {unknown:?}")),
            None => Ok(()),
        }
    }
}

/// When in the life of a call an action may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// While it rings.
    Before,
    /// While people talk.
    During,
    /// After hang-up.
    After,
}

/// One argument of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name, and the variable it becomes.
    pub name: String,
    /// What it must be.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// What it means, in words the agent reads.
    pub description: String,
    /// The action cannot run without it.
    #[serde(default)]
    pub required: bool,
}

/// JSON types of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterType {
    #[allow(missing_docs)]
    String,
    #[allow(missing_docs)]
    Number,
    #[allow(missing_docs)]
    Integer,
    #[allow(missing_docs)]
    Boolean,
}

impl ParameterType {
    fn as_str(self) -> &'static str {
        match self {
            ParameterType::String => "string",
            ParameterType::Number => "number",
            ParameterType::Integer => "integer",
            ParameterType::Boolean => "boolean",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match self {
            ParameterType::String => value.is_string(),
            ParameterType::Number => value.is_number(),
            ParameterType::Integer => value.is_i64() || value.is_u64(),
            ParameterType::Boolean => value.is_boolean(),
        }
    }
}

/// What an action does; one variant and one file per kind. Shared, because every run of it holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Say something to the caller.
    Say(Arc<Say>),
    /// Let the caller choose by key.
    Menu(Arc<Menu>),
    /// Ask a web service.
    Api(Arc<Api>),
    /// Give the caller to somebody else.
    Transfer(Arc<TransferTo>),
    /// End the call.
    HangUp(Arc<HangUp>),
    /// Change what is recorded.
    Recording(SetRecording),
}

impl From<Say> for Verb {
    fn from(say: Say) -> Verb {
        Verb::Say(Arc::new(say))
    }
}

impl From<Menu> for Verb {
    fn from(menu: Menu) -> Verb {
        Verb::Menu(Arc::new(menu))
    }
}

impl From<Api> for Verb {
    fn from(api: Api) -> Verb {
        Verb::Api(Arc::new(api))
    }
}

impl From<TransferTo> for Verb {
    fn from(to: TransferTo) -> Verb {
        Verb::Transfer(Arc::new(to))
    }
}

impl From<HangUp> for Verb {
    fn from(hang_up: HangUp) -> Verb {
        Verb::HangUp(Arc::new(hang_up))
    }
}

impl From<SetRecording> for Verb {
    fn from(to: SetRecording) -> Verb {
        Verb::Recording(to)
    }
}

impl Verb {
    /// The kind's name in configuration and records.
    pub fn kind(&self) -> &'static str {
        match self {
            Verb::Say(_) => "say",
            Verb::Menu(_) => "menu",
            Verb::Api(_) => "api",
            Verb::Transfer(_) => "transfer",
            Verb::HangUp(_) => "hang_up",
            Verb::Recording(_) => "recording",
        }
    }

    /// Every kind's name.
    pub const KINDS: [&str; 6] = ["say", "menu", "api", "transfer", "hang_up", "recording"];

    /// Whether the kind makes sense in a phase: before and after a call there is nobody to speak to.
    pub fn fits(&self, phase: Phase) -> bool {
        match self {
            Verb::Api(_) => true,
            Verb::Say(_) | Verb::Menu(_) | Verb::Transfer(_) | Verb::HangUp(_) | Verb::Recording(_) => {
                phase == Phase::During
            }
        }
    }
}

/// Steps in order, with branches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// The file's stem.
    pub id: String,
    /// For people.
    pub title: String,
    /// At least one step; the first runs first.
    pub steps: Vec<Step>,
}

/// One step of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name within the workflow.
    pub id: String,
    /// What it does.
    pub verb: Verb,
    /// Where to go by outcome code (`busy`, `no_answer`, `key_1`, `no_match`, …), looked up first.
    pub on: BTreeMap<String, Goto>,
    /// Where to go on success; `None`: the next step.
    pub on_success: Option<Goto>,
    /// Where to go on error or timeout. `None` while `on_success` is set: the caller hears that something went wrong
    /// and the next step follows; `None` on both: the next step follows at once (rule R4 of the feature table).
    pub on_error: Option<Goto>,
}

/// Where a workflow goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goto {
    /// The step with this index.
    Step(usize),
    /// The workflow is over.
    End,
}
