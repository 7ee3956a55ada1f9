//! The one integration-test binary: real sockets, real peers, and the ladders.

mod media_calls;
mod media_support;
