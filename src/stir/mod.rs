//! Signed caller identities: RFC 8224 (the header), RFC 8225 (the token), RFC 8588 (`shaken`), RFC 8946 (`div`).
//!
//! [`read`] judges what a header says of itself and finds which certificates it takes; [`Claim::judge`] checks the
//! signatures with them; [`sign`] makes ours. Never fetches, waits or reads a clock: times are Unix seconds of whoever
//! asks. Start at [`read`].

#[cfg(feature = "shell")]
mod chain;
mod date;
mod header;
mod name;
mod numbers;
mod passport;
mod signing;
#[cfg(all(test, feature = "shell"))]
mod tests;
mod verify;
mod verstat;

#[cfg(feature = "shell")]
pub use chain::{Trust, TrustError, credential};
pub use date::read as read_date;
pub use name::Names;
pub use numbers::TnAuthList;
pub use signing::{KeyError, SigningKey, Statement, sign};
pub use verify::{Claim, Credential, Presented, read};
pub use verstat::{Told, told};
