//! `hang_up`: end the call.

use serde::{Deserialize, Serialize};

use super::Prompt;
use super::run::{Effect, Input, RunOutcome};
use crate::model::Vars;

/// Says goodbye, then ends the call. The first that is executed on a call wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangUp {
    /// Said first; heard to its end.
    pub goodbye: Prompt,
    /// A workflow to run after the call, beside those that run after every call.
    pub workflow: Option<String>,
}

impl HangUp {
    pub(super) fn handle(&self, input: &Input<'_>, vars: &Vars, out: &mut Vec<Effect>) {
        match input {
            Input::Started if self.goodbye.is_empty() => self.end(out),
            Input::Started => out.push(Effect::Play(self.goodbye.render(vars))),
            Input::Played => self.end(out),
            // A goodbye is not interrupted.
            Input::Digit(_)
            | Input::Interrupted
            | Input::Waited
            | Input::Replied(_)
            | Input::Transferred(_)
            | Input::Recorded(_) => {}
        }
    }

    fn end(&self, out: &mut Vec<Effect>) {
        out.push(Effect::Done(RunOutcome::success("hung_up")));
        out.push(Effect::HangUp { workflow: self.workflow.clone() });
    }
}
