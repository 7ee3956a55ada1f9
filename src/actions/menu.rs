//! `menu`: let the caller choose by key.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Prompt;
use super::run::{Effect, Input, RunOutcome};
use crate::model::{Digit, Vars};

/// Offers keys. Its outcome code is `key_N`, or `no_match` when the last try brought nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Menu {
    /// Says what can be pressed. A key pressed meanwhile counts at once.
    pub prompt: Prompt,
    /// One to twelve options.
    pub options: Vec<MenuOption>,
    /// Said after a key that is no option, or silence, before the prompt comes again.
    pub no_match: Prompt,
    /// How long a caller may think after the prompt.
    pub wait: Duration,
    /// How often the prompt is said in all.
    pub tries: u8,
}

/// One key of a menu.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MenuOption {
    /// The key.
    pub digit: Digit,
    /// What it stands for, in words.
    pub label: String,
    /// Variables that choosing it sets.
    pub set: Vec<(String, Value)>,
}

impl MenuOption {
    /// The outcome code of choosing it.
    pub fn code(&self) -> String {
        format!("key_{}", self.digit.as_char())
    }
}

/// Where a menu stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MenuState {
    tried: u8,
    regretting: bool,
}

impl Menu {
    pub(super) fn handle(&self, state: &mut MenuState, input: &Input<'_>, vars: &Vars, out: &mut Vec<Effect>) {
        match input {
            Input::Started => self.ask(state, vars, out),
            Input::Played if state.regretting => self.ask(state, vars, out),
            Input::Played => out.push(Effect::Wait(Some(self.wait))),
            Input::Digit(digit) => match self.options.iter().find(|option| option.digit == *digit) {
                Some(option) => {
                    out.push(Effect::Wait(None));
                    out.push(Effect::StopPlaying);
                    out.extend(option.set.iter().map(|(name, value)| Effect::Set(name.clone(), value.clone())));
                    out.push(Effect::Done(RunOutcome::success(option.code())));
                }
                None => self.regret(state, vars, out),
            },
            Input::Waited => self.regret(state, vars, out),
            // A menu takes every key itself, and asks nobody but the caller.
            Input::Interrupted | Input::Replied(_) | Input::Transferred(_) | Input::Recorded(_) => {}
        }
    }

    fn ask(&self, state: &mut MenuState, vars: &Vars, out: &mut Vec<Effect>) {
        state.tried = state.tried.saturating_add(1);
        state.regretting = false;
        out.push(Effect::Play(self.prompt.render(vars)));
    }

    fn regret(&self, state: &mut MenuState, vars: &Vars, out: &mut Vec<Effect>) {
        out.push(Effect::Wait(None));
        if state.tried >= self.tries {
            out.push(Effect::StopPlaying);
            out.push(Effect::Done(RunOutcome::success("no_match")));
        } else if self.no_match.is_empty() {
            self.ask(state, vars, out);
        } else {
            state.regretting = true;
            out.push(Effect::Play(self.no_match.render(vars)));
        }
    }
}
