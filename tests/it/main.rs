//! The one integration-test binary: real sockets, real peers, and the ladders.

mod architecture;
mod caller;
mod demo_verdict;
mod gateway_calls;
mod interop_baresip;
mod interop_sipp;
mod ladders;
mod licences;
mod mock;
mod rig;
mod source;
