//! `sip-config/` made into checked types, all mistakes at once with file, line and a hint.
