//! The ground everybody stands on: ids, time, addresses, audio frames, private values, and every bound.
//!
//! Knows nothing of calls, protocols or sockets; imports no other room.
//! Start at [`limits`]: it says how big anything here may get, and what happens then.

mod address;
mod audio;
mod barge_in;
mod identity;
mod ids;
pub mod limits;
mod pii;
mod speech;
mod srtp;
mod time;
mod vars;

pub use address::{Address, AddressError, Party};
pub use audio::{
    Band, Codec, Digit, FRAME_MS, FRAME_SAMPLES, Frame, OpusTerms, SAMPLE_RATE, Sound, ULAW_SILENCE, WIDE_RATE,
    WIDE_SAMPLES, WideFrame,
};
pub use barge_in::{BargeIn, DecidedBy, Interruptible};
pub use identity::{Attestation, Doubt, Gap, Verdict, Verification, Via};
pub use ids::{CallId, LegId, PlayId, RunId};
pub use pii::{Pii, Secret, Vault};
pub use speech::{Form, Heard, ItemId, Mouth, Speech, Voice};
pub use srtp::{MediaSecurity, SrtpKey, SrtpKeys, SrtpSuite};
pub use time::Time;
pub use vars::Vars;
