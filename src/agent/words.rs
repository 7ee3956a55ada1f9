//! What the driver and a vendor's file say to each other.

use super::{AgentCommand, AgentEvent, FailedKind};
use crate::model::{Frame, ItemId, Mouth, Secret, Speech};

/// One conversation in a vendor's words. Pure: it takes what happened and says what to do, in order.
///
/// The driver calls `open` once the socket is up, then feeds everything else as it comes. Frames are the clock: one
/// every 20 ms from the moment the media leg exists.
pub(super) trait Words {
    /// Where to, and with what in hand.
    fn connect(&self) -> Connect;
    /// The socket is open.
    fn open(&mut self, out: &mut Vec<Act>);
    /// The vendor sent a text message.
    fn on_text(&mut self, text: &str, out: &mut Vec<Act>);
    /// The vendor sent a binary message.
    fn on_binary(&mut self, octets: &[u8], out: &mut Vec<Act>);
    /// The call wants something. `Close` comes to [`Words::on_gone`] instead.
    fn on_command(&mut self, command: AgentCommand, out: &mut Vec<Act>);
    /// 20 ms of the caller went by.
    fn on_frame(&mut self, out: &mut Vec<Act>);
    /// The mouth is shut; this much was heard of this.
    fn on_stopped(&mut self, item: Option<ItemId>, heard_ms: u64, out: &mut Vec<Act>);
    /// The last sample of this item was heard, which was so long.
    fn on_finished(&mut self, item: &ItemId, heard_ms: u64, out: &mut Vec<Act>);
    /// Nothing can be sent any more: report what is not reported yet.
    fn on_gone(&mut self, out: &mut Vec<Act>);
    /// What to do with the caller's audio now.
    fn ear(&self) -> Ear;
    /// The message that carries one frame.
    fn append(&self, frame: &Frame) -> Message;
    /// Whether the agent says something, or is about to.
    fn is_speaking(&self) -> bool;
    /// What was counted so far.
    fn tally(&self) -> Tally;
}

/// How to reach a vendor.
pub(super) struct Connect {
    /// `ws://` or `wss://`, checked with the settings.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<Secret>,
    /// What the other side must agree to speak (RFC 6455 §1.9).
    pub subprotocol: Option<&'static str>,
    /// From dialling until the session must be ready.
    pub timeout_ms: u64,
}

/// A message for the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// UTF-8.
    Text(String),
    /// Octets.
    Binary(Vec<u8>),
}

/// One thing to do, in the order given.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Send this text message.
    Send(String),
    /// Tell the call.
    Tell(AgentEvent),
    /// Give the media worker something to say.
    Speak(Speech),
    /// Tell the media worker to be silent; overtakes speech, and speech of older epochs need not be delivered.
    Hush(Mouth),
    /// The session cannot be used: end with `Failed`.
    Fail(FailedKind, String),
    /// The conversation cannot go on: end with `Left`.
    Leave(String),
}

impl Act {
    /// Silence from this epoch on.
    pub(super) fn hush(epoch: u32) -> Act {
        Act::Hush(Mouth::Stop { epoch })
    }
}

/// What becomes of the caller's audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ear {
    /// Nobody shall hear it: the caller is not answered yet.
    Deaf,
    /// Keep it, as far as the bound goes: the agent will want it in a moment.
    Holding,
    /// Send it.
    Open,
}

/// What one conversation counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames of the caller that were sent.
    pub frames_sent: u64,
    /// Frames of the caller dropped because the socket was stalled.
    pub frames_dropped: u64,
    /// Messages of a kind we do not know; a sign that the vendor has new words.
    pub unknown_messages: u64,
    /// Messages that were no JSON or lacked what they must have.
    pub malformed_messages: u64,
    /// Audio and transcript deltas that came after their answer was interrupted.
    pub late_deltas: u64,
}
