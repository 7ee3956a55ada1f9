//! The outside world that actions talk to, one file per service.
