//! SDP: parse, print, and offer/answer negotiation of codecs and digits (RFC 8866, RFC 3264).
//!
//! Pure. Knows nothing of dialogs or sockets.
//! Start at [`answer`] for a call that comes in and at [`offer()`] and [`accept`] for one that goes out;
//! [`reanswer`] and its neighbours are for the middle of a call.

pub mod crypto;
mod negotiate;
mod offer;
mod print;
mod revise;
#[cfg(test)]
mod tests;

pub use crypto::Keyring;
pub use negotiate::{Agreed, Direction, Local, accept, answer, offer};
pub use offer::{Offer, SdpError};
pub use revise::{follow, reanswer, reanswer_with, reoffer, settle};
