//! The room's parts working on simulated networks, in virtual time.

use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::playout::{Piece, Playout};
use super::*;
use crate::model::{
    BargeIn, CallId, Codec, Digit, FRAME_SAMPLES, Form, Frame, Heard, ItemId, LegId, Mouth, PlayId, Sound, Speech,
    Time, Voice,
};

mod codec;
mod desk;
mod ingress;
mod playout;
mod secure;

const SILENCE: u8 = 0xFF;

fn ms(ms: u64) -> Time {
    Time::from_ms(ms)
}

/// A sequence of numbers from a seed, for networks that lose and reorder.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
