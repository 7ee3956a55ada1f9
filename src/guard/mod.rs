//! Who may come in, and what may be dialled out: the guard at both doors.
//!
//! Pure: it is told what somebody looks like and what time it is, and says what to do with them. Never knows about sockets,
//! messages or calls. Inbound starts at [`Guard`], which asks [`Access`] who it is; outbound starts at [`dialling::judge`],
//! which says whether a number may be dialled at all, and [`Ledger`], which says whether it has been dialled too much.

mod access;
pub mod dialling;
mod digest;
mod gate;
mod ledger;
mod nonce;
mod rules;
mod source;
#[cfg(test)]
mod tests;

pub use access::{Access, Approach, Because, Contacts, InForce};
pub use gate::{Guard, Judgement, Reason, Verdict};
pub use ledger::{Dialled, Kept, Ledger, Ticket};
pub use rules::{Protection, SCANNERS, Strangers};
