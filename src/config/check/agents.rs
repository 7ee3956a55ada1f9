//! `agents/`, `actions/` and `workflows/`, and who may use what in which phase.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::verbs::Kinds;
use super::{At, Check, Kind, Mistake, code, inside, is_id};
use crate::actions::{
    Action, AfterCall, Agent, Before, Connector, Goto, Parameter, Phase, Plan, Reception, Step, Template, Verb,
    Workflow,
};
use crate::config::{Destination, Route, raw};

use super::gateway::RoutePart;

impl Check<'_> {
    pub(super) fn actions(&mut self) -> BTreeMap<String, Action> {
        let mut actions = BTreeMap::new();
        for (id, file) in &self.tree.actions {
            let at = At::file(format!("actions/{id}.toml"));
            let kinds = Kinds {
                say: &file.say,
                menu: &file.menu,
                api: &file.api,
                transfer: &file.transfer,
                hang_up: &file.hang_up,
            };
            let parameters = self.parameters(&at.key("parameters"), &file.parameters);
            if let Some(menu) = &file.menu {
                for (n, _) in menu.options.iter().enumerate().filter(|(_, option)| option.goto.is_some()) {
                    let at = at.key("menu").key("options").item(n).key("goto").on_key();
                    let mistake = Mistake::error(code::CONFLICT, at, "an action has no steps to go to");
                    self.report(mistake.hint("the agent is told the key; write `goto` in a workflow's step"));
                }
            }
            self.one_kind(&at, &kinds.there(), "an action");
            let Some(verb) = self.verb(&at, &kinds) else { continue };
            if !verb.fits(file.phase) {
                self.wrong_phase(&at.key(verb.kind()).on_key(), verb.kind(), file.phase, "");
            }
            if file.phase != Phase::During {
                self.nobody_waits(&at, file.api.as_ref());
            }
            let action = Action {
                id: id.clone(),
                title: file.title.clone(),
                when_to_use: file.when_to_use.clone(),
                phase: file.phase,
                parameters,
                verb,
            };
            actions.insert(id.clone(), action);
        }
        actions
    }

    fn parameters(&mut self, at: &At, raws: &[raw::Parameter]) -> Vec<Parameter> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for (n, raw) in raws.iter().enumerate() {
            let at = at.item(n).key("name");
            if !raw.name.is_empty() {
                // Vendors take names of letters, digits and `_`.
                if !raw.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    let mistake = Mistake::error(code::VARIABLE_NAME, at.clone(), "this is no name of a parameter");
                    self.report(mistake.hint("write letters, digits and `_`"));
                }
                if parameters.iter().any(|earlier| earlier.name == raw.name) {
                    let what = format!("there is a parameter {:?} already", raw.name);
                    self.report(Mistake::error(code::TWICE, at.clone(), what));
                }
                self.sets(&at, &raw.name);
            }
            parameters.push(Parameter {
                name: raw.name.clone(),
                kind: raw.kind,
                description: raw.description.clone(),
                required: raw.required,
            });
        }
        parameters
    }

    /// Says so when there is not exactly one of the tables that say what is done.
    fn one_kind(&mut self, at: &At, there: &[&str], whose: &str) {
        let known = Verb::KINDS.join(", ");
        match there {
            [_] => {}
            [] => self.report(
                Mistake::error(
                    code::EXACTLY_ONE,
                    at.clone(),
                    format!("{whose} does exactly one thing; this does none"),
                )
                .hint(format!("add one of the tables {known}"))
                .absence(),
            ),
            [first, second, ..] => self.report(
                Mistake::error(
                    code::EXACTLY_ONE,
                    at.key(second).on_key(),
                    format!("{whose} does exactly one thing; there is `{first}` already"),
                )
                .hint("make two of it"),
            ),
        }
    }

    fn wrong_phase(&mut self, at: &At, kind: &str, phase: Phase, used: &str) {
        let when = match phase {
            Phase::Before => "before the call is answered",
            Phase::During => "during the call",
            Phase::After => "after the call",
        };
        let message = format!("`{kind}` makes no sense {when}{used}: there is nobody to speak to");
        self.report(Mistake::error(code::PHASE, at.clone(), message).hint("use `api`, or do it during the call"));
    }

    fn nobody_waits(&mut self, at: &At, api: Option<&raw::Api>) {
        if api.is_some_and(|api| api.waiting.is_some()) {
            let at = at.key("api").key("waiting").on_key();
            let mistake =
                Mistake::error(code::PHASE, at, "nobody is there to hear this: it runs before or after the call");
            self.report(mistake.hint("leave `waiting` out"));
        }
    }

    pub(super) fn workflows(&mut self, actions: &BTreeMap<String, Action>) -> BTreeMap<String, Workflow> {
        let mut workflows = BTreeMap::new();
        for (id, file) in &self.tree.workflows {
            let at = At::file(format!("workflows/{id}.toml")).key("step");
            let mut steps = Vec::new();
            for (n, raw) in file.step.iter().enumerate() {
                let at = at.item(n);
                if !raw.id.is_empty() {
                    self.step_id(&at.key("id"), &raw.id, &file.step[..n]);
                }
                steps.extend(self.step(&at, raw, &file.step, actions));
            }
            workflows.insert(id.clone(), Workflow { id: id.clone(), title: file.title.clone(), steps });
        }
        workflows
    }

    fn step_id(&mut self, at: &At, id: &str, earlier: &[raw::Step]) {
        if !is_id(id) {
            let mistake = Mistake::error(code::BAD_ID, at.clone(), format!("{id:?} is no id"));
            self.report(mistake.hint("write small letters, digits, `-` and `_`"));
        } else if id == END {
            let mistake = Mistake::error(code::BAD_ID, at.clone(), "`end` is where a workflow ends");
            self.report(mistake.hint("choose another id"));
        } else if let Some(n) = earlier.iter().position(|step| step.id == id) {
            let what = format!("step {} has the id {id:?} already", n + 1);
            self.report(Mistake::error(code::TWICE, at.clone(), what).hint("ids are unique within a workflow"));
        }
    }

    fn step(
        &mut self,
        at: &At,
        raw: &raw::Step,
        all: &[raw::Step],
        actions: &BTreeMap<String, Action>,
    ) -> Option<Step> {
        let kinds =
            Kinds { say: &raw.say, menu: &raw.menu, api: &raw.api, transfer: &raw.transfer, hang_up: &raw.hang_up };
        let mut there = kinds.there();
        there.extend(raw.action.is_some().then_some("action"));
        self.one_kind(at, &there, "a step");
        let verb = match &raw.action {
            Some(action) => {
                self.refer(Kind::Action, &at.key("action"), action);
                actions.get(action).map(|action| action.verb.clone())
            }
            None => self.verb(at, &kinds),
        };
        let mut on = BTreeMap::new();
        for (outcome, target) in &raw.on {
            on.insert(outcome.clone(), self.goto(&at.key("on").key(outcome), target, all));
        }
        if let Some(menu) = &raw.menu {
            for (n, option) in menu.options.iter().enumerate() {
                let Some(target) = &option.goto else { continue };
                let at = at.key("menu").key("options").item(n).key("goto");
                let outcome = format!("key_{}", option.digit.to_ascii_uppercase());
                let goto = self.goto(&at, target, all);
                if on.insert(outcome.clone(), goto).is_some() {
                    let what = format!("`on.{outcome}` of the step says where to go already");
                    self.report(Mistake::error(code::CONFLICT, at.on_key(), what).hint("keep one of them"));
                }
            }
        }
        let next = raw.next.as_ref().map(|target| self.goto(&at.key("next"), target, all));
        let on_success = raw.on_success.as_ref().map(|target| self.goto(&at.key("on_success"), target, all));
        let on_error = raw.on_error.as_ref().map(|target| self.goto(&at.key("on_error"), target, all));
        if raw.next.is_some() && raw.on_success.is_some() {
            let mistake =
                Mistake::error(code::CONFLICT, at.key("next").on_key(), "`on_success` says what follows already");
            self.report(mistake.hint("keep one of them"));
        }
        let verb = verb?;
        self.branches(at, raw, &verb, &on);
        Some(Step {
            id: raw.id.clone(),
            verb,
            on,
            on_success: on_success.or(next),
            // `next` means whatever happens; beside `on_success` an error says its own sentence (rule R4).
            on_error: on_error.or(next),
        })
    }

    /// Whether the branches of a step fit what it does.
    fn branches(&mut self, at: &At, raw: &raw::Step, verb: &Verb, on: &BTreeMap<String, Goto>) {
        let (codes, open): (Vec<String>, bool) = match verb {
            Verb::Say(_) => (vec!["said".into(), "interrupted".into()], false),
            Verb::Menu(menu) => {
                let keys = menu.options.iter().map(|option| format!("key_{}", option.digit.as_char()));
                (keys.chain(["no_match".into()]).collect(), false)
            }
            Verb::Api(_) => {
                let codes =
                    ["ok", "timeout", "not_json", "unreachable", "too_large", "not_text", "refused", "no_secret"];
                (codes.map(Into::into).to_vec(), true)
            }
            Verb::Transfer(_) => {
                let codes =
                    ["transferred", "busy", "no_answer", "declined", "invalid_number", "unreachable", "media_error"];
                (codes.map(Into::into).to_vec(), false)
            }
            Verb::HangUp(_) => (vec!["hung_up".into()], false),
        };
        let mut is_misspelt = false;
        for outcome in raw.on.keys() {
            // Any status of a server may come: status_404, status_503.
            let status = outcome.strip_prefix("status_").is_some_and(|s| s.len() == 3 && s.parse::<u16>().is_ok());
            let is_known = codes.contains(outcome) || (open && status);
            if !is_known {
                is_misspelt = true;
                self.report(
                    Mistake::error(
                        code::UNKNOWN_WORD,
                        at.key("on").key(outcome).on_key(),
                        format!("`{}` has no outcome {outcome:?}", verb.kind()),
                    )
                    .near(outcome, codes.clone())
                    .hint(format!("one of: {}", codes.join(", "))),
                );
            }
        }
        match verb {
            Verb::Menu(_) if !on.contains_key("no_match") && !is_misspelt => {
                let at = if raw.menu.is_some() { at.key("menu") } else { at.key("action") };
                self.report(
                    Mistake::error(code::NO_MATCH, at.on_key(), "the menu does not say where to go without a choice")
                        .hint("add on = { no_match = \"step-id\" } to the step, or \"end\"")
                        .absence(),
                );
            }
            Verb::Transfer(to) => {
                let failing = ["busy", "no_answer", "declined", "invalid_number", "unreachable", "media_error"];
                let goes_on = raw.on_error.is_some()
                    || raw.next.is_some()
                    || failing.iter().any(|outcome| on.contains_key(*outcome));
                if to.targets.len() < 2 && to.fallback.is_empty() && !goes_on {
                    let at = if raw.transfer.is_some() { at.key("transfer") } else { at.key("action") };
                    self.report(
                        Mistake::warning(code::NO_FALLBACK, at.on_key(), "nothing is said for when nobody answers")
                            .hint("add a second target, [fallback], or on_error"),
                    );
                }
            }
            Verb::Menu(_) | Verb::Say(_) | Verb::Api(_) | Verb::HangUp(_) => {}
        }
    }

    fn goto(&mut self, at: &At, target: &str, all: &[raw::Step]) -> Goto {
        if target == END {
            return Goto::End;
        }
        match all.iter().position(|step| step.id == target) {
            Some(index) => Goto::Step(index),
            None => {
                let ids: Vec<&str> = all.iter().map(|step| step.id.as_str()).chain([END]).collect();
                self.report(
                    Mistake::error(code::NO_STEP, at.clone(), format!("there is no step {target:?} in this workflow"))
                        .near(target, ids),
                );
                Goto::End
            }
        }
    }

    pub(super) fn agents(
        &mut self,
        actions: &BTreeMap<String, Action>,
        workflows: &BTreeMap<String, Workflow>,
    ) -> BTreeMap<String, Agent> {
        let mut agents = BTreeMap::new();
        let mut after = BTreeSet::new();
        for (id, file) in &self.tree.agents {
            let at = At::file(format!("agents/{id}.toml"));
            let agent = self.agent(&at, id, file, actions);
            after.extend(agent.after.iter().map(|after| after.workflow.clone()));
            agents.insert(id.clone(), agent);
        }
        let verbs = actions.values().map(|action| &action.verb).chain(steps_of(workflows).map(|step| &step.verb));
        after.extend(verbs.filter_map(|verb| match verb {
            Verb::HangUp(hang_up) => hang_up.workflow.clone(),
            _ => None,
        }));
        for id in &after {
            self.after_phase(id, actions);
        }
        agents
    }

    /// Says which steps of a workflow that runs after calls need somebody to speak to.
    fn after_phase(&mut self, id: &str, actions: &BTreeMap<String, Action>) {
        let Some(file) = self.tree.workflows.get(id) else { return };
        let at = At::file(format!("workflows/{id}.toml")).key("step");
        for (n, step) in file.step.iter().enumerate() {
            let speaking = [
                ("say", step.say.is_some()),
                ("menu", step.menu.is_some()),
                ("transfer", step.transfer.is_some()),
                ("hang_up", step.hang_up.is_some()),
            ];
            for (kind, _) in speaking.into_iter().filter(|(_, there)| *there) {
                self.wrong_phase(&at.item(n).key(kind).on_key(), kind, Phase::After, ", where this workflow runs");
            }
            self.nobody_waits(&at.item(n), step.api.as_ref());
            let action = step.action.as_ref().and_then(|action| actions.get(action));
            if let Some(action) = action.filter(|action| !action.verb.fits(Phase::After)) {
                self.wrong_phase(
                    &at.item(n).key("action"),
                    action.verb.kind(),
                    Phase::After,
                    ", where this workflow runs",
                );
            }
        }
    }

    fn agent(&mut self, at: &At, id: &str, file: &raw::AgentFile, actions: &BTreeMap<String, Action>) -> Agent {
        let connector = self.connector(at, file);
        let before = self.before(&at.key("before"), &file.before, actions);
        let during = self.during(&at.key("during"), &file.during, actions);
        let at_after = at.key("after");
        let mut after = Vec::new();
        for (n, raw) in file.after.iter().enumerate().filter(|(_, raw)| !raw.workflow.is_empty()) {
            self.refer(Kind::Workflow, &at_after.item(n).key("workflow"), &raw.workflow);
            after.push(AfterCall { workflow: raw.workflow.clone() });
        }
        if let Some(fallback) = &file.fallback {
            self.refer(Kind::Workflow, &at.key("fallback"), fallback);
        }
        Agent {
            id: id.to_owned(),
            connector,
            before,
            ring_budget: Duration::from_millis(file.ring_budget_ms),
            during,
            after,
            fallback: file.fallback.clone(),
            went_wrong: self.prompt(&at.key("went_wrong"), &file.went_wrong),
            record: file.record,
            duration_max: Duration::from_secs(file.duration_max_s),
        }
    }

    fn connector(&mut self, at: &At, file: &raw::AgentFile) -> Connector {
        let name = file.connector.as_str();
        let is_vendor = !BUILT_IN.contains(&name);
        let known = self.connectors.names;
        if !name.is_empty() && !known.contains(&name) {
            self.report(
                Mistake::error(code::NO_CONNECTOR, at.key("connector"), format!("there is no connector {name:?}"))
                    .near(name, known.iter().copied())
                    .hint(format!("one of: {}", known.join(", "))),
            );
        } else if !name.is_empty() {
            let settings = file.settings.clone().unwrap_or_default();
            for (pointer, message, hint) in (self.connectors.check)(name, &settings) {
                let root = if file.settings.is_some() { at.key("settings") } else { at.key("connector") };
                let place = At { pointer: format!("{}{pointer}", root.pointer), ..root };
                self.report(Mistake::error(code::SETTING, place, message).hint(hint));
            }
        }
        let idle = [
            ("flow", file.flow.is_some() && name != "flow"),
            ("secret", file.secret.is_some() && !is_vendor),
            ("instructions", file.instructions.is_some() && !is_vendor),
            ("first_words", file.first_words.is_some() && !is_vendor),
            ("during", !file.during.is_empty() && !is_vendor),
        ];
        for (key, _) in idle.into_iter().filter(|(_, idle)| *idle && !name.is_empty()) {
            let what = format!("`{key}` has no effect with the connector `{name}`");
            self.report(Mistake::error(code::CONFLICT, at.key(key).on_key(), what).hint("leave it out"));
        }
        if let Some(flow) = file.flow.as_ref().filter(|flow| !flow.workflow.is_empty()) {
            self.refer(Kind::Workflow, &at.key("flow").key("workflow"), &flow.workflow);
        }
        match name {
            "flow" => {
                if file.flow.is_none() {
                    self.report(
                        Mistake::error(code::EXACTLY_ONE, at.key("connector"), "it is not said which workflow runs")
                            .hint("add [flow] with workflow = \"id\"")
                            .absence(),
                    );
                }
                Connector::Flow(file.flow.as_ref().map(|flow| flow.workflow.clone()).unwrap_or_default())
            }
            "echo" => Connector::Echo,
            _ => Connector::Vendor {
                name: name.to_owned(),
                settings: file.settings.clone().unwrap_or_else(|| serde_json::json!({})),
                instructions: self.instructions(at, file.instructions.as_ref()),
                first_words: file.first_words.as_ref().map(|words| self.template(&at.key("first_words"), words)),
                secret: file.secret.as_ref().map(|secret| self.secret(&at.key("secret"), secret)),
            },
        }
    }

    fn instructions(&mut self, at: &At, raw: Option<&raw::Instructions>) -> Template {
        let at_agent = at;
        let at = at.key("instructions");
        match raw.map(|raw| (&raw.text, &raw.file)) {
            Some((Some(text), None)) => self.template(&at.key("text"), text),
            Some((None, Some(file))) => {
                let at_file = at.key("file");
                if let Err(why) = inside(file) {
                    let mistake = Mistake::error(code::PATH, at_file, format!("the file of instructions {why}"));
                    self.report(mistake.hint("put it beside the agent's file, as support.md"));
                    return self.template(&at, "");
                }
                match self.tree.texts.get(file) {
                    // A mistake in the text is shown in the text.
                    Some(text) => self.template(&At::file(format!("agents/{file}")).offset(0), text),
                    None => {
                        let known: Vec<String> = self.tree.texts.keys().cloned().collect();
                        self.report(
                            Mistake::error(code::NO_TEXT, at_file, format!("there is no file agents/{file}"))
                                .near(file, known)
                                .hint("write it in Markdown, beside the agent's file"),
                        );
                        self.template(&at, "")
                    }
                }
            }
            Some((Some(_), Some(_))) => {
                let mistake = Mistake::error(code::EXACTLY_ONE, at.on_key(), "instructions are in one place");
                self.report(mistake.hint(r#"write { file = "support.md" } or { text = "…" }"#));
                self.template(&at, "")
            }
            Some((None, None)) => {
                let mistake = Mistake::error(code::EXACTLY_ONE, at.clone(), "there are no instructions here");
                self.report(mistake.hint(r#"write { file = "support.md" } or { text = "…" }"#).absence());
                self.template(&at, "")
            }
            None => {
                self.report(
                    Mistake::error(code::EXACTLY_ONE, at_agent.clone(), "the agent is not told what to do")
                        .hint(r#"add instructions = { file = "support.md" }"#)
                        .absence(),
                );
                self.template(&at, "")
            }
        }
    }

    fn before(&mut self, at: &At, raws: &[raw::Before], actions: &BTreeMap<String, Action>) -> Vec<Before> {
        let mut before = Vec::new();
        for (n, raw) in raws.iter().enumerate() {
            let at = at.item(n);
            let at_action = at.key("action");
            if raw.action.is_empty() {
                continue;
            }
            if raws[..n].iter().any(|earlier| earlier.action == raw.action) {
                self.report(Mistake::error(code::TWICE, at_action.clone(), "this action is in the list already"));
            }
            for (m, id) in raw.after.iter().enumerate() {
                if !raws.iter().any(|other| other.action == *id) {
                    let known: Vec<&str> = raws.iter().map(|other| other.action.as_str()).collect();
                    self.report(
                        Mistake::error(
                            code::NO_ACTION,
                            at.key("after").item(m),
                            format!("{id:?} is not among the actions that run before this call"),
                        )
                        .near(id, known),
                    );
                }
            }
            self.refer(Kind::Action, &at_action, &raw.action);
            let Some(action) = actions.get(&raw.action) else { continue };
            self.same_phase(&at_action, action, Phase::Before);
            before.push(Before { action: action.clone(), after: raw.after.clone() });
        }
        self.cycle(at, raws);
        before
    }

    /// Takes away what waits for nothing, and what nothing waits for, as long as there is any; the rest is a circle.
    fn cycle(&mut self, at: &At, raws: &[raw::Before]) {
        let waits = |n: usize, other: usize| raws[n].after.iter().any(|id| *id == raws[other].action);
        let mut left: Vec<usize> = (0..raws.len()).collect();
        loop {
            let in_circle =
                |n: &usize| left.iter().any(|other| waits(*n, *other)) && left.iter().any(|other| waits(*other, *n));
            let still: Vec<usize> = left.iter().copied().filter(in_circle).collect();
            if still.len() == left.len() {
                break;
            }
            left = still;
        }
        if let Some(first) = left.first() {
            let names: Vec<String> = left.iter().map(|n| format!("{:?}", raws[*n].action)).collect();
            let message = match names.as_slice() {
                [one] => format!("{one} waits for itself"),
                _ => format!("{} wait for each other", names.join(", ")),
            };
            let mistake = Mistake::error(code::CYCLE, at.item(*first).key("after"), message);
            self.report(mistake.hint("take one of the ids out of `after`"));
        }
    }

    fn during(&mut self, at: &At, ids: &[String], actions: &BTreeMap<String, Action>) -> Vec<Action> {
        let mut during = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let at = at.item(n);
            if ids[..n].contains(id) {
                self.report(Mistake::error(code::TWICE, at.clone(), "this action is in the list already"));
            }
            self.refer(Kind::Action, &at, id);
            let Some(action) = actions.get(id) else { continue };
            self.same_phase(&at, action, Phase::During);
            if action.when_to_use.trim().is_empty() {
                let what = format!("action {id:?} does not say when an agent should use it");
                self.report(
                    Mistake::error(code::EMPTY, at, what).hint(format!("add when_to_use to actions/{id}.toml")),
                );
            }
            during.push(action.clone());
        }
        during
    }

    fn same_phase(&mut self, at: &At, action: &Action, wanted: Phase) {
        let word = |phase| match phase {
            Phase::Before => "before",
            Phase::During => "during",
            Phase::After => "after",
        };
        if action.phase != wanted {
            let (is, wanted) = (word(action.phase), word(wanted));
            self.report(
                Mistake::error(code::PHASE, at.clone(), format!("action {:?} is for the phase `{is}`", action.id))
                    .hint(format!("write phase = \"{wanted}\" in actions/{}.toml", action.id)),
            );
        }
    }
}

fn steps_of(workflows: &BTreeMap<String, Workflow>) -> impl Iterator<Item = &Step> {
    workflows.values().flat_map(|workflow| &workflow.steps)
}

/// Gives every route its plan. Routes to the same agent share one.
pub(in crate::config) fn plan_routes(
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
            Destination::Refuse { status, retry_after_s } => {
                plan(Reception::Refuse { status: *status, retry_after_s: *retry_after_s }, BTreeMap::new())
            }
        };
        planned.push(Route { called: part.called, trunk: part.trunk, to: part.to, plan: made });
    }
    planned
}

/// The workflows that a call of this agent can run, and those that these can run.
fn reachable(agent: &Agent, workflows: &BTreeMap<String, Workflow>) -> BTreeMap<String, Workflow> {
    let named = |verb: &Verb| match verb {
        Verb::HangUp(hang_up) => hang_up.workflow.clone(),
        Verb::Say(_) | Verb::Menu(_) | Verb::Api(_) | Verb::Transfer(_) => None,
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

/// Where a workflow ends.
const END: &str = "end";

/// Connectors that live inside the gateway.
const BUILT_IN: [&str; 2] = ["flow", "echo"];
