//! `say`: speak to the caller.

use serde::{Deserialize, Serialize};

use super::run::{Effect, Input, Playing, RunOutcome};
use super::{Place, Template};
use crate::model::Vars;

/// Words for a caller: recorded clips, or text for an agent that can speak.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// WAV files by name, played one behind the other; a name may hold variables. A clip that does not exist is
    /// left out and counted.
    pub clips: Vec<Template>,
    /// The same in words, spoken by an agent when there are no clips, and shown in the record.
    pub text: Option<Template>,
}

impl Prompt {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty() && self.text.is_none()
    }

    /// The prompt with its variables filled in.
    pub fn render(&self, vars: &Vars) -> Playing {
        Playing {
            clips: self.clips.iter().map(|clip| clip.render(vars, Place::Text)).collect(),
            text: self.text.as_ref().map(|text| text.render(vars, Place::Text)),
            repeat: false,
        }
    }
}

/// Speaks, and is done when it was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Say {
    /// What is said.
    pub prompt: Prompt,
    /// A key press ends it. The key is kept for the menu that follows.
    pub interruptible: bool,
}

impl Say {
    pub(super) fn handle(&self, input: &Input<'_>, vars: &Vars, out: &mut Vec<Effect>) {
        match input {
            Input::Started => out.push(Effect::Play(self.prompt.render(vars))),
            Input::Played => out.push(Effect::Done(RunOutcome::success("said"))),
            Input::Interrupted if self.interruptible => {
                out.push(Effect::StopPlaying);
                out.push(Effect::Done(RunOutcome::success("interrupted")));
            }
            // Nothing else concerns somebody who is speaking.
            Input::Interrupted
            | Input::Digit(_)
            | Input::Waited
            | Input::Replied(_)
            | Input::Transferred(_)
            | Input::Recorded(_) => {}
        }
    }
}
