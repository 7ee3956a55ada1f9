//! A datagram through the front door.

#![no_main]

#[path = "../doors.rs"]
#[allow(dead_code)]
mod doors;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| doors::sip_message(octets));
