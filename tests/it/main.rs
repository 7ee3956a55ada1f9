//! The one integration-test binary: real sockets, real peers, and the ladders.

mod sip_door;
mod sip_in;
mod sip_out;
mod sip_probe;
mod media_calls;
mod media_support;
mod agent_realtime;
mod realtime_server;
mod config_examples;
