//! The verbs: what an agent or a workflow can do on a call, one file per kind.
//!
//! Pure. An action is data ([`Verb`] in a [`Step`] or an [`Action`]); running one is a small state machine ([`Run`])
//! that takes inputs and returns [`Effect`]s. It knows nothing of legs or sockets: the call carries the effects out.
//! Start at [`Verb`], then [`Run`]; to add a kind, copy `say.rs` and follow the compiler.

mod api;
mod hang_up;
mod menu;
mod plan;
mod recording;
mod request;
mod run;
mod say;
mod template;
mod transfer_to;
mod workflow;

pub use api::{Api, Waiting};
pub use hang_up::HangUp;
pub use menu::{Menu, MenuOption};
pub use plan::{AfterCall, Agent, Before, Connector, Forward, Plan, Reception};
pub use recording::{Consent, DESTROYED_BEFORE, NO_CONSENT, SetRecording};
pub use request::{HttpFailure, HttpReply, HttpRequest, Method, SecretRef};
pub use run::{Effect, Input, Playing, Run, RunOutcome, RunResult};
pub use say::{Prompt, Say};
pub use template::{Place, Template, TemplateError};
pub use transfer_to::{Failure, Fallback, Target, TransferMethod, TransferTo};
pub use workflow::{Action, Goto, Parameter, ParameterType, Phase, Step, Verb, Workflow};
