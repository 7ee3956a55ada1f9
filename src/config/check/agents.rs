//! `agents/`: who answers, what it may do in which phase, and what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{At, Check, Kind, Mistake, code, inside};
use crate::actions::{
    Action, AfterCall, Agent, Before, Connector, Consent, Menu, MenuOption, Phase, Prompt, Template, Verb, Workflow,
};
use crate::config::raw;
use crate::model::Digit;

impl Check<'_> {
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
        let steps = workflows.values().flat_map(|workflow| &workflow.steps);
        let verbs = actions.values().map(|action| &action.verb).chain(steps.map(|step| &step.verb));
        after.extend(verbs.filter_map(|verb| match verb {
            Verb::HangUp(hang_up) => hang_up.workflow.clone(),
            _ => None,
        }));
        for id in &after {
            self.after_phase(id, actions);
        }
        agents
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
            consent: self.consent(&at.key("consent"), &file.consent),
            duration_max: Duration::from_secs(file.duration_max_s),
        }
    }

    fn consent(&mut self, at: &At, consent: &raw::Consent) -> Consent {
        if consent.policy == raw::ConsentPolicy::None {
            if !consent.prompt.clips.is_empty() || consent.prompt.text.is_some() {
                let what = "nobody hears this: the policy is `none`";
                self.report(
                    Mistake::error(code::CONFLICT, at.key("prompt").on_key(), what)
                        .hint(r#"write policy = "announce" or policy = "ask""#),
                );
            }
            return Consent::None;
        }
        // The agent is not there yet to say it in words, and a clip with a variable may turn out not to be there.
        if consent.prompt.clips.is_empty() {
            self.report(
                Mistake::error(code::EMPTY, at.key("prompt"), "there is nothing to play to the caller")
                    .hint(r#"write prompt = { clips = ["recorded.wav"] }"#)
                    .absence(),
            );
        }
        let prompt = self.prompt(&at.key("prompt"), &consent.prompt);
        if consent.policy == raw::ConsentPolicy::Announce {
            return Consent::Announce(prompt);
        }
        let digit = consent.agree.chars().next().and_then(Digit::from_char);
        if digit.is_none() {
            self.report(
                Mistake::error(code::KEY, at.key("agree"), format!("there is no key {:?}", consent.agree))
                    .hint("use 0-9, *, # or A-D"),
            );
        }
        let agree = digit.map(|digit| MenuOption { digit, label: "agree".to_owned(), set: Vec::new() });
        Consent::Ask(Menu {
            prompt,
            options: agree.into_iter().collect(),
            no_match: Prompt::default(),
            wait: Duration::from_secs(consent.wait_s),
            tries: consent.tries,
        })
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

/// Connectors that live inside the gateway.
const BUILT_IN: [&str; 2] = ["flow", "echo"];
