//! Everything a call needs to know of the configuration, resolved and checked before the call begins.
//!
//! It stands whole in the journal's header, so that a call can be replayed when the files have long changed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Action, Consent, Prompt, Verb, Workflow};
use crate::model::Address;

/// What to do with a call that a route led to an agent, or refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Which configuration this was taken from.
    pub revision: String,
    /// Who answers.
    pub reception: Reception,
    /// Every workflow that anything here may run, by id.
    pub workflows: BTreeMap<String, Workflow>,
}

impl Plan {
    /// Whether an admin wrote this very address into an action or a workflow of this plan. Who asks for it in the end does
    /// not matter: an agent that names it names what it was given.
    pub fn names(&self, address: &Address) -> bool {
        let of_agent = match &self.reception {
            Reception::Agent(agent) => Some(agent),
            Reception::Refuse { .. } | Reception::Forward(_) => None,
        };
        let before = of_agent.into_iter().flat_map(|agent| &agent.before).map(|before| &before.action.verb);
        let during = of_agent.into_iter().flat_map(|agent| &agent.during).map(|action| &action.verb);
        let steps = self.workflows.values().flat_map(|workflow| &workflow.steps).map(|step| &step.verb);
        if let Reception::Forward(Forward { to: Some(to), .. }) = &self.reception
            && to.variables().next().is_none()
            && to.source().parse().is_ok_and(|written: Address| written == *address)
        {
            return true;
        }
        before.chain(during).chain(steps).any(|verb| match verb {
            Verb::Transfer(to) => to.names(address),
            Verb::Say(_) | Verb::Menu(_) | Verb::Api(_) | Verb::HangUp(_) | Verb::Recording(_) => false,
        })
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "one per call, and nearly always the large one")]
pub enum Reception {
    /// An agent.
    Agent(Agent),
    /// Nobody of ours: the call is passed on to another trunk.
    Forward(Forward),
    /// Nobody: the caller is refused with a SIP status.
    Refuse {
        /// 300 to 699.
        status: u16,
        /// The words beside it; the usual ones when `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Seconds after which to try again.
        retry_after_s: Option<u32>,
    },
}

/// Where a call is passed on to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// The trunk's id.
    pub trunk: String,
    /// Whom to call there: a number or SIP URI, with variables. `None`: the number that was called.
    pub to: Option<super::Template>,
    /// How long it may ring.
    pub ring: Duration,
}

/// Who answers, and what it may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The file's stem.
    pub id: String,
    /// How to reach it.
    pub connector: Connector,
    /// What runs while it rings.
    pub before: Vec<Before>,
    /// The caller is answered when everything is there, and at this time at the latest.
    pub ring_budget: Duration,
    /// What the agent may do during the call, each a tool of the agent's.
    pub during: Vec<Action>,
    /// Workflows that run after every call.
    pub after: Vec<AfterCall>,
    /// Runs live on the call, as a flow, when the agent cannot be reached or is lost; `None` ends the call.
    pub fallback: Option<String>,
    /// Said when a failed step has nowhere to go.
    pub went_wrong: Prompt,
    /// Whether both sides are recorded.
    pub record: bool,
    /// What the caller learns before that.
    #[serde(default, skip_serializing_if = "Consent::is_none")]
    pub consent: Consent,
    /// The call is ended after this time.
    pub duration_max: Duration,
}

/// How to reach an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connector {
    /// Built in: the workflow of this id runs live on the call.
    Flow(String),
    /// Built in: says what it hears.
    Echo,
    /// A vendor's socket.
    Vendor {
        /// The connector's name, as the agent room knows it.
        name: String,
        /// Its settings, checked by the agent room; without credentials.
        settings: Value,
        /// What the agent is told, with variables.
        instructions: super::Template,
        /// What it says first, with variables; `None` waits for the caller.
        first_words: Option<super::Template>,
        /// Its credential.
        secret: Option<super::SecretRef>,
    },
}

/// One action that runs while it rings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// What to do; its phase is `Before`.
    pub action: Action,
    /// Actions of this list that must be done first, by id. Without any it starts at once.
    pub after: Vec<String>,
}

/// One workflow that runs after the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfterCall {
    /// The workflow's id.
    pub workflow: String,
}
