//! The outside world that actions talk to, one file per service.
//!
//! Does what it is told and reports what came back; never decides whether a failure matters, and never lets a
//! credential or an address leave it in an error. Nothing here may reach further than [`Egress`] allows.
//! Start at [`Http::ask`].

mod egress;
mod http;
mod secrets;
pub mod tls;

pub use egress::{Egress, Origin, OriginError, Private};
pub use http::Http;
pub(crate) use http::{Answer, Exchange};
pub use secrets::Secrets;
