//! How the gateway reaches the media workers.
//!
//! Nothing here waits: a command goes into the worker's bounded mailbox or comes back as an error. What ends a call
//! cannot be refused, because it is a flag and not a message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{Receiver as MailboxReceiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use tokio::sync::mpsc;

use super::notice::Notice;
use super::pipe::Pipe;
use super::player::Clip;
use super::ports::{BoundPort, Ports, RtpPorts};
use super::rtp_leg::RtpPeer;
use super::tape::TapeOrder;
use super::worker::Worker;
use super::writer::Writer;
use crate::model::limits::{MEDIA_COMMANDS_MAX, MEDIA_COMMANDS_PER_CALL_MAX, NOTICE_BATCHES_MAX, PLAY_CLIPS_MAX};
use crate::model::{BargeIn, CallId, Digit, Form, LegId, Mouth, PlayId, Speech};

/// How the media workers are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkersConfig {
    /// Threads; 0 is taken as 1.
    pub threads: usize,
    /// Where RTP is received.
    pub rtp: RtpPorts,
    /// Neither send to nor take from any address outside this machine.
    pub loopback_only: bool,
}

/// The media threads. Dropping it ends them and closes every recording; that waits for the disk, so drop it where
/// waiting is allowed.
#[derive(Debug)]
pub struct Workers {
    lanes: Vec<Arc<Lane>>,
    ports: Arc<Ports>,
    loopback_only: bool,
    threads: Vec<JoinHandle<()>>,
    writer: Option<Writer>,
}

impl Workers {
    /// Starts the threads. The receiver gets one batch per millisecond and worker, for all calls in it.
    ///
    /// # Errors
    /// When a thread or its poll cannot be created.
    pub fn start(config: WorkersConfig) -> io::Result<(Workers, mpsc::Receiver<Vec<Notice>>)> {
        let (notices, received) = mpsc::channel(NOTICE_BATCHES_MAX);
        let writer = Writer::start(notices.clone())?;
        let mut workers = Workers {
            lanes: Vec::new(),
            ports: Arc::new(Ports::new(config.rtp)),
            loopback_only: config.loopback_only,
            threads: Vec::new(),
            writer: None,
        };
        for number in 0..config.threads.max(1) {
            let poll = mio::Poll::new()?;
            let waker = mio::Waker::new(poll.registry(), Worker::WAKER)?;
            let (lane, mailbox) = Lane::new(waker);
            let lane = Arc::new(lane);
            let worker = Worker::new(poll, lane.clone(), mailbox, notices.clone(), writer.desk());
            let thread = std::thread::Builder::new().name(format!("media-{number}")).spawn(move || worker.run())?;
            workers.lanes.push(lane);
            workers.threads.push(thread);
        }
        workers.writer = Some(writer);
        Ok((workers, received))
    }

    /// Gives a call to the worker with the fewest calls. The call's legs all live there.
    pub fn open_call(&self, call: CallId) -> CallMedia {
        let least = self.lanes.iter().min_by_key(|lane| lane.calls.load(Ordering::Relaxed));
        let lane = least.expect("there is a lane because `start` makes at least one").clone();
        lane.calls.fetch_add(1, Ordering::Relaxed);
        CallMedia {
            call,
            state: Arc::new(CallState::default()),
            lane,
            ports: self.ports.clone(),
            loopback_only: self.loopback_only,
        }
    }

    /// How late ticks were in the last seconds, 99th percentile of the worst worker. Judges overload.
    pub fn lateness(&self) -> Duration {
        let worst = self.lanes.iter().map(|lane| lane.lateness_us.load(Ordering::Relaxed)).max();
        Duration::from_micros(worst.unwrap_or(0))
    }

    /// Frames for agents that were dropped because the gateway did not take its notices.
    pub fn frames_dropped(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.frames_dropped.load(Ordering::Relaxed)).sum()
    }

    /// Calls open now, on all workers.
    pub fn calls(&self) -> usize {
        self.lanes.iter().map(|lane| lane.calls.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.stopping.store(true, Ordering::Release);
            lane.wake();
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has already said so; the others still have to end.
            let _ = thread.join();
        }
        self.writer.take();
    }
}

/// The sound of one call. Dropping it closes the call's legs; their ports rest before they are used again.
#[derive(Debug)]
pub struct CallMedia {
    call: CallId,
    state: Arc<CallState>,
    lane: Arc<Lane>,
    ports: Arc<Ports>,
    loopback_only: bool,
}

impl CallMedia {
    /// Binds a port for a leg and starts to listen, before anything is known of the other side. Returns the local
    /// address for the SDP.
    ///
    /// # Errors
    /// When no port is free, or the worker takes no more commands.
    pub fn open_rtp(&self, leg: LegId) -> io::Result<SocketAddr> {
        let port = self.ports.bind()?;
        let local = port.socket.local_addr()?;
        let seed = getrandom::u64()?;
        let loopback_only = self.loopback_only;
        self.send(What::OpenRtp { leg, port, seed, loopback_only }).map_err(io::Error::other)?;
        Ok(local)
    }

    /// Says where a leg's audio goes and how it is written, again for every new answer. The first packet leaves
    /// within 20 ms.
    ///
    /// # Errors
    /// [`MediaError::NotLoopback`] when only loopback is allowed; [`MediaError::Busy`].
    pub fn set_remote(&self, leg: LegId, peer: RtpPeer) -> Result<(), MediaError> {
        let is_outside = |address: SocketAddr| !address.ip().is_loopback();
        if self.loopback_only && (is_outside(peer.remote) || peer.reports.to.is_some_and(is_outside)) {
            return Err(MediaError::NotLoopback);
        }
        self.send(What::SetRemote { leg, peer: Box::new(peer) })
    }

    /// Says that keys will be agreed for a leg: until [`CallMedia::set_remote`] brings them, nothing that comes is taken
    /// for audio.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn expect_keys(&self, leg: LegId) -> Result<(), MediaError> {
        self.send(What::ExpectKeys { leg })
    }

    /// Opens a leg whose RTP comes and goes by a pipe. Its peer is [`super::PIPED`].
    ///
    /// # Errors
    /// When there is no random number for its stream, or the worker takes no more commands.
    pub fn open_pipe(&self, leg: LegId, pipe: Pipe) -> io::Result<()> {
        let seed = getrandom::u64()?;
        self.send(What::OpenPipe { leg, pipe, seed }).map_err(io::Error::other)
    }

    /// Opens a leg that speaks through an agent's socket, in the form that the socket wants. What it hears comes in that
    /// form as [`super::Noticed::Heard`].
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn open_agent(
        &self,
        leg: LegId,
        form: Form,
        barge_in: BargeIn,
        speech: mpsc::Receiver<Speech>,
        mouth: mpsc::Receiver<Mouth>,
    ) -> Result<(), MediaError> {
        self.send(What::OpenAgent { leg, form, barge_in, speech, mouth })
    }

    /// Opens the built-in echo agent: what it hears it says.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn open_echo(&self, leg: LegId) -> Result<(), MediaError> {
        self.send(What::OpenEcho { leg })
    }

    /// Who hears whom, whole; it replaces what was wired before. Who has several sources hears their sum. A listener
    /// without a source, or that is not named, hears silence.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn wire(&self, hears: Vec<(LegId, Vec<LegId>)>) -> Result<(), MediaError> {
        self.send(What::Wire { hears })
    }

    /// Plays clips one after the other to a leg, instead of what it is wired to, until they end or are stopped or
    /// replaced. The clips start when the other side can be reached, and wait while digits go out.
    ///
    /// # Errors
    /// [`MediaError::TooLong`] for more than [`PLAY_CLIPS_MAX`] clips; [`MediaError::Busy`].
    pub fn play(
        &self,
        leg: LegId,
        play: PlayId,
        clips: Vec<Clip>,
        repeat: bool,
        gain_db: f32,
    ) -> Result<(), MediaError> {
        if clips.len() > PLAY_CLIPS_MAX {
            return Err(MediaError::TooLong);
        }
        self.send(What::Play { leg, play, clips, repeat, gain_db })
    }

    /// Stops what is played to a leg.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn stop(&self, leg: LegId) -> Result<(), MediaError> {
        self.send(What::Stop { leg })
    }

    /// Presses keys towards a leg: RFC 4733 events, or tones in the audio when its answer had no telephone-event.
    ///
    /// # Errors
    /// [`MediaError::TooLong`] for more than [`crate::model::limits::DIGITS_MAX`] digits; [`MediaError::Busy`].
    pub fn send_digits(&self, leg: LegId, digits: Vec<Digit>) -> Result<(), MediaError> {
        if digits.len() > crate::model::limits::DIGITS_MAX {
            return Err(MediaError::TooLong);
        }
        self.send(What::SendDigits { leg, digits })
    }

    /// Records into a new file: on the left what this leg says, on the right what it hears. A recording that
    /// runs is closed first. An error of the disk comes as [`super::Noticed::RecordingClosed`].
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn record(&self, order: impl Into<TapeOrder>, left: LegId) -> Result<(), MediaError> {
        self.send(What::Record { order: Box::new(order.into()), left })
    }

    /// Whether the recording goes on as silence, both channels, until it is told otherwise.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn mask_recording(&self, is_masked: bool) -> Result<(), MediaError> {
        self.send(What::MaskRecording { is_masked })
    }

    /// Ends the recording and destroys it.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn discard_recording(&self) -> Result<(), MediaError> {
        self.send(What::DiscardRecording)
    }

    /// Completes the recording.
    ///
    /// # Errors
    /// [`MediaError::Busy`].
    pub fn stop_recording(&self) -> Result<(), MediaError> {
        self.send(What::StopRecording)
    }

    /// Closes a leg; its figures come as [`super::Noticed::LegStats`].
    ///
    /// # Errors
    /// [`MediaError::Busy`]; the leg then closes with the call.
    pub fn close_leg(&self, leg: LegId) -> Result<(), MediaError> {
        self.send(What::CloseLeg { leg })
    }

    /// Commands waiting for the worker are counted per call, so that one call in a loop cannot take the mailbox from
    /// the others. Endings and wiring may use the last quarter.
    fn send(&self, what: What) -> Result<(), MediaError> {
        let must_pass = matches!(
            what,
            What::CloseLeg { .. }
                | What::Wire { .. }
                | What::Stop { .. }
                | What::StopRecording
                | What::MaskRecording { .. }
                | What::DiscardRecording
        );
        let room = if must_pass { MEDIA_COMMANDS_PER_CALL_MAX } else { MEDIA_COMMANDS_PER_CALL_MAX / 4 * 3 };
        if self.state.waiting.fetch_add(1, Ordering::AcqRel) >= room {
            self.state.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(MediaError::Busy);
        }
        let command = Command { call: self.call, state: self.state.clone(), what };
        self.lane.commands.try_send(command).map_err(|refused| {
            self.state.waiting.fetch_sub(1, Ordering::AcqRel);
            match refused {
                TrySendError::Full(_) => MediaError::Busy,
                TrySendError::Disconnected(_) => MediaError::Gone,
            }
        })?;
        self.lane.wake();
        Ok(())
    }
}

impl Drop for CallMedia {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Release);
        self.lane.calls.fetch_sub(1, Ordering::Relaxed);
        self.lane.wake();
    }
}

/// Why a worker did not take a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaError {
    /// Too many commands of this call, or of all, wait for the worker.
    Busy,
    /// The workers have ended.
    Gone,
    /// The address is not on this machine, and only loopback is allowed.
    NotLoopback,
    /// More clips or digits than one command may carry.
    TooLong,
}

impl fmt::Display for MediaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MediaError::Busy => "the media worker takes no more commands for now",
            MediaError::Gone => "the media workers have ended",
            MediaError::NotLoopback => "only loopback addresses are allowed for RTP",
            MediaError::TooLong => "more clips or digits than one command may carry",
        })
    }
}

impl std::error::Error for MediaError {}

/// What control and one worker share.
#[derive(Debug)]
pub(super) struct Lane {
    commands: SyncSender<Command>,
    waker: mio::Waker,
    calls: AtomicUsize,
    pub(super) lateness_us: AtomicU64,
    pub(super) frames_dropped: AtomicU64,
    pub(super) stopping: AtomicBool,
    /// The worker waits without a deadline and has to be woken.
    pub(super) asleep: AtomicBool,
}

impl Lane {
    fn new(waker: mio::Waker) -> (Lane, MailboxReceiver<Command>) {
        let (commands, mailbox) = sync_channel(MEDIA_COMMANDS_MAX);
        let lane = Lane {
            commands,
            waker,
            calls: AtomicUsize::new(0),
            lateness_us: AtomicU64::new(0),
            frames_dropped: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        };
        (lane, mailbox)
    }

    fn wake(&self) {
        // Either we see that the worker sleeps, or it sees what we sent: it has the same fence between the two.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            // Fails only when the poll is gone, and with it the worker.
            let _ = self.waker.wake();
        }
    }
}

/// What control and a worker share of one call.
#[derive(Debug, Default)]
pub(super) struct CallState {
    pub(super) waiting: AtomicUsize,
    pub(super) closed: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) call: CallId,
    pub(super) state: Arc<CallState>,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    OpenRtp {
        leg: LegId,
        port: BoundPort,
        seed: u64,
        loopback_only: bool,
    },
    ExpectKeys {
        leg: LegId,
    },
    SetRemote {
        leg: LegId,
        peer: Box<RtpPeer>,
    },
    OpenPipe {
        leg: LegId,
        pipe: Pipe,
        seed: u64,
    },
    OpenAgent {
        leg: LegId,
        form: Form,
        barge_in: BargeIn,
        speech: mpsc::Receiver<Speech>,
        mouth: mpsc::Receiver<Mouth>,
    },
    OpenEcho {
        leg: LegId,
    },
    Wire {
        hears: Vec<(LegId, Vec<LegId>)>,
    },
    Play {
        leg: LegId,
        play: PlayId,
        clips: Vec<Clip>,
        repeat: bool,
        gain_db: f32,
    },
    Stop {
        leg: LegId,
    },
    SendDigits {
        leg: LegId,
        digits: Vec<Digit>,
    },
    Record {
        order: Box<TapeOrder>,
        left: LegId,
    },
    MaskRecording {
        is_masked: bool,
    },
    DiscardRecording,
    StopRecording,
    CloseLeg {
        leg: LegId,
    },
}
