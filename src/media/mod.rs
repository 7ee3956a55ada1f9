//! Sound: RTP, digits, G.711, playing, bridging, recording.
//!
//! All but the `shell` files is pure: it takes the scheduled time as an argument and hands packets and notices back
//! in an [`Out`]. Times are counted from the start of the worker, not of the call. Inside the house audio is one of two
//! forms in frames of 20 ms, [`crate::model::Sound`]: narrow, µ-law at 8 kHz, and wide, linear at 16 kHz. A leg's own
//! codec exists only in its packets; who hears converts, once, if it takes another form (`resample`).
//!
//! Knows nothing of SIP or of calls' decisions. Start at [`Desk`], the sound of one call; `control` is how the gateway
//! reaches it, `worker` the thread that turns it, and the only place in this room that reads a clock.

mod adaptive;
mod agent_leg;
mod barge_in;
mod bridge;
mod cleaner;
mod codec;
mod conceal;
mod desk;
mod dtmf;
mod echo;
mod egress;
mod fader;
mod g711;
mod inband;
mod ingress;
mod latch;
mod listener;
mod mixer;
mod noise;
mod notice;
mod player;
mod playout;
mod quality;
mod recorder;
mod relay;
mod reporter;
mod resample;
mod rtcp;
mod rtp;
mod rtp_leg;
mod sample;
mod shield;
mod srtp;
mod tone;
mod voice;

#[cfg(feature = "shell")]
mod control;
#[cfg(feature = "shell")]
mod pipe;
#[cfg(feature = "shell")]
mod ports;
#[cfg(feature = "shell")]
mod tape;
#[cfg(feature = "shell")]
mod wav;
#[cfg(feature = "shell")]
mod worker;
#[cfg(feature = "shell")]
mod writer;

#[cfg(test)]
mod tests;

pub use barge_in::{AgentTurn, Interrupter, Move};
pub use codec::units;
pub use desk::{Desk, Out};
pub use dtmf::{DigitSender, DtmfReceiver, EventPacket, Keyed, Pressed, TelephoneEvent};
pub use echo::EchoGuard;
pub use fader::Fader;
pub use g711::{Gain, alaw_to_ulaw, decode_alaw, decode_ulaw, encode_alaw, encode_ulaw, ulaw_to_alaw};
pub use inband::ToneKeys;
pub use ingress::{Arrival, Ingress, IngressStats};
pub use listener::Listener;
pub use notice::{FarQuality, LegStats, Notice, Noticed, Quality};
pub use player::{Clip, PlayOver, Player};
pub use quality::{Densities, Losses, Robustness, Score, score};
pub use recorder::{MASK_BACK_MAX, Pair, Timeline};
pub use reporter::Far;
pub use resample::DELAY_MS;
pub use rtcp::{Block, Report, RtcpFault, Sent, Told, UNKNOWN, VoipMetrics, read};
pub use rtp::{HEADER_LEN, Header, RtpError};
pub use rtp_leg::{Reports, RtpPeer, Takes};
pub use srtp::{Opener, Sealer, SrtpFault};
pub use voice::{BLOCK_MS, HANGOVER_MS, Judged, SILENT_DB, Surroundings, Talk, VoiceFinder, VoiceStats, level_db};

#[cfg(feature = "shell")]
pub use control::{CallMedia, MediaError, Workers, WorkersConfig};
#[cfg(feature = "shell")]
pub use pipe::{PIPED, Pipe, PipeEnd, pipe};
#[cfg(feature = "shell")]
pub use ports::RtpPorts;
#[cfg(feature = "shell")]
pub use tape::{MasterKey, Opened, SEALED, SealError, TapeFormat, TapeOrder, destroy, key_path, unseal};
#[cfg(feature = "shell")]
pub use wav::{WavError, load_clip};
