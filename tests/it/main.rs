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
mod outside;
mod services_http;
mod store_calls;
mod store_crash;
mod store_deliveries;
mod webhook_delivery;
mod workflow_jobs;
