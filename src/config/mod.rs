//! `sip-config/` made into checked types, all mistakes at once with file, line and a hint.
//!
//! Start at [`Config`].

mod diagnostic;
mod origin;
mod tree;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use origin::{Origin, Scheme};
pub use tree::{
    Called, Cidr, Config, Destination, Egress, Endpoint, Gateway, Limits, Media, Outbound, Private, Route,
    SipListeners, Store, Trunk,
};
