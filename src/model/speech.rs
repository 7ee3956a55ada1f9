//! What an agent's socket and a media worker say to each other. Audio never passes through a call's task.
//!
//! An agent's answer arrives faster than it can be heard. It is queued in the worker as [`Speech`], under the
//! vendor's item, and counted there as it leaves; an interruption bumps the epoch, which makes everything older stale.

use std::sync::Arc;

use super::{FRAME_MS, Frame, SAMPLE_RATE, WIDE_RATE};

/// The vendor's name for one utterance of its agent.
pub type ItemId = Arc<str>;

/// The form in which an agent's socket wants to hear and to speak. The worker converts, once, where the other side has
/// another form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// µ-law at 8 kHz: nothing is converted for a telephone.
    #[default]
    Ulaw,
    /// Linear samples at 16 kHz, the wide form of the house.
    Linear16,
    /// Linear samples at 24 kHz.
    Linear24,
}

impl Form {
    /// Samples in a second.
    pub const fn rate(self) -> u32 {
        match self {
            Form::Ulaw => SAMPLE_RATE,
            Form::Linear16 => WIDE_RATE,
            Form::Linear24 => 24_000,
        }
    }

    /// Samples in 20 ms.
    pub const fn frame_samples(self) -> usize {
        (self.rate() / 1000 * FRAME_MS) as usize
    }
}

/// Audio of an agent, any length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Voice {
    /// For a leg of [`Form::Ulaw`].
    Ulaw(Vec<u8>),
    /// For a leg of [`Form::Linear16`] or [`Form::Linear24`], at its rate.
    Linear(Vec<i16>),
}

impl Voice {
    /// Samples in it.
    pub fn len(&self) -> usize {
        match self {
            Voice::Ulaw(codes) => codes.len(),
            Voice::Linear(samples) => samples.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// From the agent's socket to the worker: audio, and where it belongs.
///
/// The channel that carries it is bounded; while more than [`super::limits::AGENT_AUDIO_MAX`] waits to be heard the
/// worker stops taking from it, so the socket is no longer read and the vendor feels it.
#[derive(Clone, Debug)]
pub struct Speech {
    /// Audio older than the worker's current epoch is dropped unheard.
    pub epoch: u32,
    /// What the audio is part of.
    pub item: ItemId,
    /// The audio, in the form of the leg; what is in another form is dropped.
    pub voice: Voice,
    /// No more audio follows for this item.
    pub last: bool,
}

/// From the agent's socket to the worker, ahead of any queued audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mouth {
    /// Be silent within one frame: drop all audio of epochs before this one, and answer [`Heard::Stopped`].
    Stop {
        /// The first epoch that is wanted again.
        epoch: u32,
    },
}

/// From the worker to the agent's socket: what the other side says, and how much of the agent's speech went out.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// 20 ms of the far end, in order, one per 20 ms also when nothing arrived; for a leg of [`Form::Ulaw`].
    Frame(Box<Frame>),
    /// The same for a leg of another form, at its rate.
    Linear(Box<[i16]>),
    /// Answer to [`Mouth::Stop`]: what was being heard, and how many of its milliseconds went out. `None` when nothing was.
    Stopped {
        /// The interrupted item.
        item: Option<ItemId>,
        /// Milliseconds of it that were sent, counted in samples.
        heard_ms: u64,
    },
    /// The last sample of an item went out.
    Finished {
        /// The item.
        item: ItemId,
        /// Its whole length in milliseconds.
        heard_ms: u64,
    },
}
