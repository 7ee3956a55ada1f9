//! Ringback: a voice-agent telephony gateway.
//!
//! A carrier's SIP trunk is on one side, a voice agent on the other, and between them everything that makes it a phone
//! service: what happens while it rings, what the agent may do during the call, and what must happen after hang-up.
//!
//! # The story of one call
//!
//! 1. An INVITE comes in. [`sip`] asks the [`guard`] whose [`trunk`] it is, validates it, says 100, and begins a dialog; the
//!    [`gateway`] has a signed identity judged by [`stir`], finds the [`route`] and takes an RTP port from [`media`].
//!    [`sdp`] answers the offer.
//! 2. The call is born: a [`call::Call`] with its [`actions::Plan`]. From here on it is told what happens
//!    ([`call::Event`]) and says what to do ([`call::Command`]). First it says: ring, run these lookups, dial the agent.
//! 3. While it rings, [`services`] ask the CRM, and [`agent`] opens the vendor's socket. When both are there, or when the
//!    budget is used up, the call says: answer.
//! 4. During the call the media worker carries sound between the legs; keys, the agent's words and its wishes for
//!    actions become events. A wish runs as an [`actions::Run`]; a [`transfer::Transfer`] rings targets until one answers.
//! 5. Somebody hangs up. Every leg is let go, and the last command is `Finish`, with the [`call::Outcome`].
//! 6. The [`gateway`] writes record, event and jobs into the [`store`] in one transaction. [`webhook`] tells the world,
//!    signed and retried; [`workflow`] runs what the plan has for afterwards.
//!
//! All along, the [`journal`] writes both sides down, so that the call can be drawn as a ladder and replayed. The
//! [`sim`] lives thousands of such calls in virtual time.
//!
//! Pure rooms (no runtime, no IO) compile without the feature `shell`; `ARCHITECTURE.md` has the table of rooms and of who
//! may import whom.

pub mod actions;
pub mod agent;
pub mod call;
pub mod config;
pub mod guard;
pub mod journal;
pub mod media;
pub mod model;
pub mod route;
pub mod sdp;
pub mod sim;
pub mod sip;
pub mod stir;
pub mod transfer;
pub mod trunk;

#[cfg(feature = "shell")]
pub mod cli;
#[cfg(feature = "shell")]
pub mod gateway;
#[cfg(feature = "shell")]
pub mod observe;
#[cfg(feature = "shell")]
pub mod services;
#[cfg(feature = "shell")]
pub mod store;
#[cfg(feature = "shell")]
pub mod webhook;
#[cfg(feature = "shell")]
pub mod webrtc;
#[cfg(feature = "shell")]
pub mod workflow;
