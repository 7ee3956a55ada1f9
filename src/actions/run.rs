//! Running one action: inputs in, effects out.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::ApiState;
use super::menu::MenuState;
use super::{Api, Failure, HangUp, HttpReply, HttpRequest, Menu, Say, SetRecording, TransferTo, Verb};
use crate::model::{Digit, Pii, Vars};

/// One run of one action. It ends with exactly one [`Effect::Done`], and says nothing after it.
#[derive(Clone, Debug)]
pub struct Run {
    kind: &'static str,
    doing: Doing,
}

#[derive(Clone, Debug)]
enum Doing {
    Say(Arc<Say>),
    Menu(Arc<Menu>, MenuState),
    Api(Arc<Api>, ApiState),
    Transfer(Arc<TransferTo>, Option<RunOutcome>),
    HangUp(Arc<HangUp>),
    Recording(SetRecording),
    Over,
}

/// What happened to a run.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// It begins. Always the first.
    Started,
    /// What it last had played was heard to its end.
    Played,
    /// The caller pressed a key that this run takes.
    Digit(Digit),
    /// The caller pressed a key that is kept for whoever takes it.
    Interrupted,
    /// The time of its last [`Effect::Wait`] is over.
    Waited,
    /// Its request was answered.
    Replied(&'a HttpReply),
    /// Its transfer ended: somebody has the caller, or nobody was found.
    Transferred(Result<(), Failure>),
    /// The recording is as it should be, or why not.
    Recorded(Result<(), &'static str>),
}

/// What a run wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Play this to the caller instead of what this run had played before.
    Play(Playing),
    /// Be silent.
    StopPlaying,
    /// Ask the outside world.
    Request(HttpRequest),
    /// Wake me after this time; `None`: do not.
    Wait(Option<Duration>),
    /// Give the caller to somebody else.
    Transfer(Arc<TransferTo>),
    /// End the call, then run this workflow.
    HangUp {
        #[allow(missing_docs)]
        workflow: Option<String>,
    },
    /// Change the recording; answered by [`Input::Recorded`].
    Record(SetRecording),
    /// Remember a value.
    Set(String, Value),
    /// The run is over.
    Done(RunOutcome),
}

/// Something to play, its variables filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playing {
    /// Names of clips, one behind the other.
    pub clips: Vec<Pii<String>>,
    /// The same in words.
    pub text: Option<Pii<String>>,
    /// Play the clips again and again.
    pub repeat: bool,
}

impl Playing {
    /// One clip, again and again.
    pub fn music(clip: Pii<String>) -> Playing {
        Playing { clips: vec![clip], text: None, repeat: true }
    }
}

/// How a run ended (rule R3 of the feature table).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// One of five.
    pub result: RunResult,
    /// More exactly, in `snake_case`; workflows branch on it.
    pub code: Cow<'static, str>,
    /// What an agent is told beside the code.
    pub told: Pii<Value>,
}

/// The five ends of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// It did what it should.
    Success,
    /// It could not.
    Error,
    /// It took too long.
    Timeout,
    /// It does not apply here.
    Skipped,
    /// The call went on without it.
    Cancelled,
}

impl RunResult {
    /// The word for it in records and metrics, as serde writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            RunResult::Success => "success",
            RunResult::Error => "error",
            RunResult::Timeout => "timeout",
            RunResult::Skipped => "skipped",
            RunResult::Cancelled => "cancelled",
        }
    }
}

impl RunOutcome {
    /// Success with a code.
    pub fn success(code: impl Into<Cow<'static, str>>) -> RunOutcome {
        RunOutcome { result: RunResult::Success, code: code.into(), told: Pii::default() }
    }

    /// Error with a code.
    pub fn error(code: impl Into<Cow<'static, str>>) -> RunOutcome {
        RunOutcome { result: RunResult::Error, code: code.into(), told: Pii::default() }
    }

    /// Took too long.
    pub fn timeout() -> RunOutcome {
        RunOutcome { result: RunResult::Timeout, code: "timeout".into(), told: Pii::default() }
    }

    /// The call went on without it.
    pub fn cancelled() -> RunOutcome {
        RunOutcome { result: RunResult::Cancelled, code: "cancelled".into(), told: Pii::default() }
    }

    /// Whether it did what it should.
    pub fn is_success(&self) -> bool {
        self.result == RunResult::Success
    }
}

impl Run {
    /// A run of this verb, not begun yet.
    pub fn new(verb: Verb) -> Run {
        let kind = verb.kind();
        let doing = match verb {
            Verb::Say(say) => Doing::Say(say),
            Verb::Menu(menu) => Doing::Menu(menu, MenuState::default()),
            Verb::Api(api) => Doing::Api(api, ApiState::default()),
            Verb::Transfer(to) => Doing::Transfer(to, None),
            Verb::HangUp(hang_up) => Doing::HangUp(hang_up),
            Verb::Recording(to) => Doing::Recording(to),
        };
        Run { kind, doing }
    }

    /// The name of what it does.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether keys are meant for it.
    pub fn takes_digits(&self) -> bool {
        matches!(self.doing, Doing::Menu(..))
    }

    /// Takes what happened, appends what to do.
    pub fn handle(&mut self, input: Input<'_>, vars: &Vars, out: &mut Vec<Effect>) {
        let from = out.len();
        match &mut self.doing {
            Doing::Say(say) => say.handle(&input, vars, out),
            Doing::Menu(menu, state) => menu.handle(state, &input, vars, out),
            Doing::Api(api, state) => api.handle(state, &input, vars, out),
            Doing::Transfer(to, state) => to.handle(state, &input, vars, out),
            Doing::HangUp(hang_up) => hang_up.handle(&input, vars, out),
            Doing::Recording(to) => to.handle(&input, out),
            // What comes late to a run that is over has been answered already.
            Doing::Over => {}
        }
        if out[from..].iter().any(|effect| matches!(effect, Effect::Done(_))) {
            self.doing = Doing::Over;
        }
    }
}
