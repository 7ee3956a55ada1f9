//! The one integration-test binary: real sockets, real peers, and the ladders.

mod outside;
mod services_http;
mod store_calls;
mod store_crash;
mod store_deliveries;
mod webhook_delivery;
mod workflow_jobs;
