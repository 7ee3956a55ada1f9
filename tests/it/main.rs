//! The one integration-test binary: real sockets, real peers, and the ladders.

mod sip_in;
mod sip_probe;
