//! The heart: one call as a state machine.
//!
//! Pure. Owns no socket, no clock, no randomness, and cannot fail: failures are events in and causes out. Never knows
//! about SIP, vendors or files. Start at [`Call::handle`] in `machine.rs`; the neighbours are its vocabulary
//! ([`Event`], [`Command`], [`Cause`]) and its organs (`talk.rs` who speaks, `runs.rs` actions, `moving.rs` transfers, `referral.rs` parties whose place is taken,
//! `recording.rs` when it may be recorded).

mod cause;
mod command;
mod event;
mod hold;
mod leg;
mod machine;
mod moving;
mod outcome;
mod passing;
mod recording;
mod referral;
mod runs;
mod talk;
mod timers;
mod wiring;

pub use cause::{Blame, Cause};
pub use command::{Command, Commands, Destination, ReferProgress, Told};
pub use event::{Event, Invitation, ReferNews, ToolCall};
pub use machine::Call;
pub use outcome::{Outcome, RunRecord, Speaker, Status, Turn};
pub use recording::{ConsentResult, Consented};
pub use timers::Timer;
pub use wiring::Wiring;
