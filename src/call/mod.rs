//! The heart: one call as a state machine.
//!
//! Pure. Owns no socket, no clock, no randomness, and cannot fail.
