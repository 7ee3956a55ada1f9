//! `actions/` and `workflows/`: one thing each, in a phase where it makes sense, and where each step leads.

use std::collections::BTreeMap;

use super::verbs::Kinds;
use super::{At, Check, Kind, Mistake, code, is_id};
use crate::actions::{Action, Goto, Parameter, Phase, SetRecording, Step, Verb, Workflow};
use crate::config::raw;

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
                recording: &file.recording,
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
        let kinds = Kinds {
            say: &raw.say,
            menu: &raw.menu,
            api: &raw.api,
            transfer: &raw.transfer,
            hang_up: &raw.hang_up,
            recording: &raw.recording,
        };
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
            Verb::Recording(_) => (SetRecording::CODES.map(Into::into).to_vec(), false),
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
            Verb::Menu(_) | Verb::Say(_) | Verb::Api(_) | Verb::HangUp(_) | Verb::Recording(_) => {}
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

    /// Says which steps of a workflow that runs after calls need somebody to speak to.
    pub(super) fn after_phase(&mut self, id: &str, actions: &BTreeMap<String, Action>) {
        let Some(file) = self.tree.workflows.get(id) else { return };
        let at = At::file(format!("workflows/{id}.toml")).key("step");
        for (n, step) in file.step.iter().enumerate() {
            let speaking = [
                ("say", step.say.is_some()),
                ("menu", step.menu.is_some()),
                ("transfer", step.transfer.is_some()),
                ("hang_up", step.hang_up.is_some()),
                ("recording", step.recording.is_some()),
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
}

/// Where a workflow ends.
const END: &str = "end";
