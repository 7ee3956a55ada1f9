//! The one integration-test binary: real sockets, real peers, and the ladders.

mod config_examples;
