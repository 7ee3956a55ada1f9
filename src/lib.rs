//! Ringback: a voice-agent telephony gateway.

pub mod actions;
pub mod agent;
pub mod call;
pub mod config;
pub mod journal;
pub mod media;
pub mod model;
pub mod sdp;
pub mod sim;
pub mod sip;
pub mod transfer;

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
pub mod workflow;
