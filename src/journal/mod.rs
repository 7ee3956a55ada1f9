//! The log of a call: format, replay by digest, the ladder drawing.
//!
//! A journal is a text file of JSON lines: a [`Header`] with the whole plan, then one [`Entry`] per event with the
//! commands it led to and a rolling digest, then a seal. Personal values stand in it as tokens; their values are in a
//! vault file beside it, which can be destroyed alone: the ladder still draws, only the replay is gone.
//! Pure: somebody else writes the lines to disk. Start at [`Recorder::step`].

mod entry;
mod ladder;
mod replay;
#[cfg(test)]
mod tests;

pub use entry::{Entry, Header, Recorder, SCHEMA, Seal};
pub use ladder::{Ladder, heading};
pub use replay::{Divergence, Journal, JournalError, Replayed, replay};
