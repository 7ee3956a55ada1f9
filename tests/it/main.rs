//! The one integration-test binary: real sockets, real peers, and the ladders.

mod architecture;
mod demo_verdict;
mod ladders;
mod licences;
mod source;
