//! What an agent's socket and a media worker say to each other. Audio never passes through a call's task.
//!
//! An agent's answer arrives faster than it can be heard. It is queued in the worker as [`Speech`], under the
//! vendor's item, and counted there as it leaves; an interruption bumps the epoch, which makes everything older stale.

use std::sync::Arc;

use super::Frame;

/// The vendor's name for one utterance of its agent.
pub type ItemId = Arc<str>;

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
    /// µ-law at 8 kHz, any length.
    pub ulaw: Vec<u8>,
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
    /// 20 ms of the far end, in order, one per 20 ms also when nothing arrived.
    Frame(Box<Frame>),
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
