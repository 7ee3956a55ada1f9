//! `sip-config/` made into checked types, all mistakes at once with file, line and a hint.
//!
//! Three floors: [`raw`] is how files look and makes their schema, `check` turns it into what the house works with and
//! finds what a schema cannot, and [`load()`] reads the files. The first two are pure. Nothing here opens a socket, and a
//! secret is only ever a reference: [`secret()`] fetches it for whoever sends it.
//! Start at [`Config`], then [`raw`].

#[cfg(feature = "shell")]
mod certificates;
#[cfg_attr(not(feature = "shell"), allow(dead_code, reason = "only the loader, which is shell, calls it"))]
mod check;
#[cfg_attr(not(feature = "shell"), allow(dead_code, reason = "as `check`"))]
mod diagnostic;
#[cfg(feature = "shell")]
mod load;
#[cfg_attr(not(feature = "shell"), allow(dead_code, reason = "as `check`"))]
mod origin;
#[cfg(feature = "shell")]
mod plan;
pub mod raw;
#[cfg(feature = "shell")]
mod render;
#[cfg(feature = "shell")]
mod schema;
#[cfg(feature = "shell")]
mod secret;
#[cfg(feature = "shell")]
mod source;
#[cfg(all(test, feature = "shell"))]
mod tests;
mod tree;

pub use check::{Connectors, SettingFault};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
#[cfg(feature = "shell")]
pub use load::{Options, load};
pub use origin::{Origin, Scheme};
pub use raw::{ClientCertificates, RecordingFormat};
#[cfg(feature = "shell")]
pub use schema::schemas;
#[cfg(feature = "shell")]
pub use secret::{SecretError, secret};
pub use tree::{
    Certificates, Config, Destination, Egress, Endpoint, Gateway, KeepTrace, Limits, Media, Private, Recordings, Route,
    Signers, SipListeners, Store,
};
