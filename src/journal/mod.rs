//! The log of a call: format, replay by digest, the ladder drawing.
//!
//! Pure. Somebody else writes the lines to disk.
