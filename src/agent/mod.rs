//! Voice agents: one file per vendor, its words and ours.
//!
//! The words are pure; `wire` is the one WebSocket driver. Knows nothing of SIP or of how a call decides.
