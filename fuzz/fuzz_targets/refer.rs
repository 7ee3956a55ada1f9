//! What referrals are read from.

#![no_main]

#[path = "../doors.rs"]
#[allow(dead_code, reason = "each target opens one of the doors")]
mod doors;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| doors::refer(octets));
