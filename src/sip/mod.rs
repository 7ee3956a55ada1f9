//! SIP: dialogs over the sans-IO stack, behind our own types.
//!
//! Dialogs are pure, `wire` does the IO. Nothing outside this room sees the stack's types. Never decides about a call:
//! it tells what happened ([`SipEvent`]) and does as it is told ([`SipCommand`]).
//! Start at [`Sip`], then `uas` (calls that come in), `uac` (calls that we place) and `session` (both, once answered).

// Without the wire nobody drives the dialogs.
#![cfg_attr(not(feature = "shell"), allow(dead_code))]

#[cfg(feature = "shell")]
pub mod ask;
mod bodies;
mod config;
#[cfg(feature = "shell")]
mod counters;
mod dialog;
mod digest;
mod diverted;
mod door;
mod event;
mod fuzz;
mod message;
#[cfg(feature = "shell")]
mod net;
mod offers;
#[cfg(feature = "shell")]
mod places;
mod refer;
mod refresh;
mod reliable;
#[cfg(feature = "shell")]
mod screen;
mod session;
#[cfg(feature = "shell")]
mod stack;
#[cfg(all(test, feature = "shell"))]
mod tests;
#[cfg(feature = "shell")]
mod trace;
mod uac;
mod uas;
#[cfg(feature = "shell")]
mod wire;

#[cfg(feature = "shell")]
pub use ask::{Asked, Conversation, Question, Reply};
pub use config::{ClientCertificates, SipConfig, SipError, SipTimers, SipTls, TlsError, TlsIdentity, Trust};
#[cfg(feature = "shell")]
pub use counters::SipCounters;
pub use digest::Login;
pub use event::{
    By, Caller, Denial, Dial, DialogId, Diversion, Diverted, Failure, Invite, Loss, Refer, ReferNews, ReferOrder,
    Replaces, SipCommand, SipEvent, Terms, Transport,
};
#[doc(hidden)]
pub use fuzz::{fuzz_door, fuzz_header};
#[cfg(feature = "shell")]
pub use trace::{Trace, Traced};
#[cfg(feature = "shell")]
pub use wire::Sip;
