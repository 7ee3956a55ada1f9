//! The heart: one call as a state machine.
//!
//! Pure. Owns no socket, no clock, no randomness, and cannot fail.

mod cause;
mod outcome;

pub use cause::{Blame, Cause};
pub use outcome::{Outcome, RunRecord, Speaker, Status, Turn};
