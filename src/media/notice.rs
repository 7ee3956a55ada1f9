//! What a worker tells the gateway.

use std::path::PathBuf;

use crate::model::{CallId, Digit, Heard, LegId, PlayId};

/// Something happened in the sound of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The call.
    pub call: CallId,
    /// The leg it happened on; the recorded leg for [`Noticed::RecordingClosed`].
    pub leg: LegId,
    /// What it was.
    pub what: Noticed,
}

/// The things that can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Noticed {
    /// For the socket of this agent leg. Frames may be dropped when the gateway does not keep up (2 s, oldest first);
    /// nothing else ever is.
    Heard(Heard),
    /// The party pressed a key and let go of it.
    Digit {
        /// The key.
        digit: Digit,
        /// How long it was held, as the sender counted it.
        duration_ms: u32,
    },
    /// A play is over, reported exactly once for each.
    Played {
        /// Which one.
        play: PlayId,
        /// Milliseconds of it that went out.
        heard_ms: u64,
        /// False when it was stopped, replaced, or its leg closed.
        complete: bool,
    },
    /// All digits asked for went out.
    DigitsSent,
    /// The first RTP packet of the party arrived.
    FirstPacket,
    /// Nothing has come from the party for [`crate::model::limits::RTP_QUIET`]; reported once, until something comes again.
    Quiet,
    /// The recording's file is complete, or was given up.
    RecordingClosed {
        /// The file.
        path: PathBuf,
        /// Frames of 20 ms in it.
        frames: u64,
        /// Why it ended early, or why there is none.
        error: Option<String>,
    },
    /// The leg closed; its figures.
    LegStats(LegStats),
}

/// Figures of one leg over its whole life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegStats {
    /// RTP packets taken in.
    pub packets_in: u64,
    /// RTP packets sent.
    pub packets_out: u64,
    /// Datagrams that were no RTP, of an unknown payload type, or too long.
    pub refused: u64,
    /// RTP from a source other than the latched one.
    pub foreign: u64,
    /// Protected packets that did not prove themselves: a wrong key, a forgery, or no protection at all.
    pub forged: u64,
    /// Protected packets that came before.
    pub replayed: u64,
    /// Times the party went on from another address in the middle of the call.
    pub rebinds: u64,
    /// How well the party was received; `None` when nothing came.
    pub quality: Option<Quality>,
    /// How the party received us, by its own last report.
    pub far: Option<FarQuality>,
    /// Packets that came after their place had been filled.
    pub late: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that never came, as far as a gap showed it.
    pub lost: u64,
    /// Times the sequence, the timestamp or the SSRC jumped.
    pub resyncs: u64,
    /// Milliseconds of invented audio.
    pub concealed_ms: u64,
    /// Milliseconds lost and recovered from the packet behind them (Opus).
    pub recovered_ms: u64,
    /// Milliseconds of silence put in while nothing came.
    pub filled_ms: u64,
    /// Milliseconds taken out to catch up with the clock.
    pub shed_ms: u64,
    /// Interarrival jitter at the end, in milliseconds (RFC 3550 §6.4.1).
    pub jitter_ms: u32,
    /// Times an agent's audio ran dry in the middle of an utterance.
    pub underruns: u64,
}

/// How well a party was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Packets that should have come, and whose fate is decided.
    pub expected: u64,
    /// Of those, never came, in hundredths of a percent.
    pub loss_bp: u32,
    /// Came too late to be heard, in hundredths of a percent.
    pub discard_bp: u32,
    /// How much longer runs of bad packets were than by chance, in hundredths: 100 is chance.
    pub burst_ratio_percent: u32,
    /// From us to the party and back, as RTCP measured it last.
    pub round_trip_ms: Option<u32>,
    /// The opinion of a listener by the simplified E-model (ITU-T G.107), in hundredths: 100 to 450.
    pub mos_hundredths: u32,
}

/// How a party says that it received us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FarQuality {
    /// Packets lost over the whole call; negative with copies.
    pub lost: i32,
    /// Interarrival jitter at the end.
    pub jitter_ms: u32,
    /// Its own opinion (RFC 3611 §4.7), in hundredths; `None` when it says none.
    pub mos_hundredths: Option<u32>,
}
