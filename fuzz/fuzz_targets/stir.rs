//! A signed caller identity.

#![no_main]

#[path = "../doors.rs"]
#[allow(dead_code, reason = "each target opens one of the doors")]
mod doors;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| doors::stir(octets));
