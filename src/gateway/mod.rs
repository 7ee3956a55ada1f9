//! The shell around the calls: wires the rooms together and decides nothing.
//!
//! SIP events, media notices, agents' words and answers from outside become posts in a call's mailbox; the call's own
//! task lets the heart handle them and carries out what it says, one arm per command. `translate` is the only file that
//! speaks both SIP's language and the call's. Start at [`Gateway::start`], then `live.rs`, the life of one call, and `arms.rs`,
//! what it does.

mod access;
mod admin;
mod admission;
mod agents;
mod arms;
mod certificates;
mod clips;
mod clock;
mod dialling;
mod ears;
mod finish;
mod house;
mod identity;
mod journals;
mod keys;
mod live;
mod mailbox;
mod recordings;
mod registry;
mod reload;
mod signing;
mod sip_tls;
mod start;
mod switchboard;
mod tolls;
mod translate;
mod trunks;
mod upkeep;

pub use clock::unix_ms;
pub use house::Watched;
pub(crate) use recordings::{delete, folder, master_key};
pub use reload::{Loader, ReloadError, Reloaded};
pub use start::{Gateway, Options, StartError};
pub use trunks::{Calls, GatewayState, LastAnswer, RegistrationState, TrunkState};
