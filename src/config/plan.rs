//! What each route's calls need to know, put together once when the files were read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::check::RoutePart;
use super::{Destination, Route};
use crate::actions::{Agent, Connector, Plan, Reception, Verb, Workflow};

/// Gives every route its plan. Routes to the same agent share one.
pub(super) fn plan_routes(
    revision: &str,
    routes: Vec<RoutePart>,
    agents: &BTreeMap<String, Agent>,
    workflows: &BTreeMap<String, Workflow>,
) -> Vec<Route> {
    let mut shared: BTreeMap<String, Arc<Plan>> = BTreeMap::new();
    let plan = |reception: Reception, workflows| Arc::new(Plan { revision: revision.to_owned(), reception, workflows });
    let mut planned = Vec::new();
    for part in routes {
        let made = match &part.to {
            Destination::Agent(id) => match (shared.get(id), agents.get(id)) {
                (Some(made), _) => Arc::clone(made),
                (None, Some(agent)) => {
                    let made = plan(Reception::Agent(agent.clone()), reachable(agent, workflows));
                    shared.insert(id.clone(), Arc::clone(&made));
                    made
                }
                // A route to an agent that is not there is a mistake, and no configuration comes of it.
                (None, None) => continue,
            },
            Destination::Forward(forward) => plan(Reception::Forward(forward.clone()), BTreeMap::new()),
            Destination::Refuse { status, reason, retry_after_s } => {
                let (status, reason, retry_after_s) = (*status, reason.clone(), *retry_after_s);
                plan(Reception::Refuse { status, reason, retry_after_s }, BTreeMap::new())
            }
        };
        planned.push(Route { rule: part.rule, to: part.to, plan: made });
    }
    planned
}

/// The workflows that a call of this agent can run, and those that these can run.
fn reachable(agent: &Agent, workflows: &BTreeMap<String, Workflow>) -> BTreeMap<String, Workflow> {
    let named = |verb: &Verb| match verb {
        Verb::HangUp(hang_up) => hang_up.workflow.clone(),
        Verb::Say(_) | Verb::Menu(_) | Verb::Api(_) | Verb::Transfer(_) | Verb::Recording(_) => None,
    };
    let mut open: Vec<String> = agent.after.iter().map(|after| after.workflow.clone()).collect();
    open.extend(agent.fallback.clone());
    if let Connector::Flow(workflow) = &agent.connector {
        open.push(workflow.clone());
    }
    open.extend(agent.during.iter().filter_map(|action| named(&action.verb)));
    let mut found = BTreeMap::new();
    while let Some(id) = open.pop() {
        let Some(workflow) = workflows.get(&id).filter(|_| !found.contains_key(&id)) else { continue };
        open.extend(workflow.steps.iter().filter_map(|step| named(&step.verb)));
        found.insert(id, workflow.clone());
    }
    found
}
