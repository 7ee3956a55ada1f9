//! The one integration-test binary: real sockets, real peers, and the ladders.

mod agent_realtime;
mod realtime_server;
