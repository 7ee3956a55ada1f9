//! The threads that write recordings to the disk.
//!
//! A worker never waits for a disk: each recording has two seconds of room, what does not fit becomes silence of the
//! same length. An error of the disk ends the recording and nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use super::g711::decode_ulaw;
use super::notice::{Notice, Noticed};
use super::recorder::Pair;
use super::tape::{TapeFile, TapeOrder};
use crate::model::limits::{RECORDER_QUEUE_MAX, RECORDING_FLUSH_EVERY, RECORDING_THREADS, RECORDINGS_OPENING_MAX};
use crate::model::{CallId, FRAME_MS, FRAME_SAMPLES, LegId, ULAW_SILENCE};

/// Owns the threads; dropping it completes every recording.
#[derive(Debug)]
pub(super) struct Writer {
    desk: Option<WriterDesk>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(notices: mpsc::Sender<Vec<Notice>>) -> io::Result<Writer> {
        let mut writer = Writer { desk: None, threads: Vec::new() };
        let mut opening = Vec::new();
        for number in 0..RECORDING_THREADS {
            let (to, to_open) = sync_channel(RECORDINGS_OPENING_MAX);
            let mut room = Room { to_open, recordings: Vec::new(), closed: Vec::new(), notices: notices.clone() };
            let thread = std::thread::Builder::new().name(format!("recordings-{number}")).spawn(move || room.run())?;
            writer.threads.push(thread);
            opening.push(to);
        }
        writer.desk = Some(WriterDesk { opening: opening.into() });
        Ok(writer)
    }

    /// A way for a worker to open recordings.
    pub(super) fn desk(&self) -> WriterDesk {
        self.desk.clone().expect("there is a desk because only dropping the writer takes it")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.desk.take();
        for thread in self.threads.drain(..) {
            // A writer that panicked has already said so.
            let _ = thread.join();
        }
    }
}

/// Where a worker opens recordings.
#[derive(Clone, Debug)]
pub(super) struct WriterDesk {
    /// One for each thread.
    opening: Arc<[SyncSender<Opening>]>,
}

impl WriterDesk {
    /// Opens a recording. How it went comes as a notice.
    ///
    /// # Errors
    /// Gives the path back when too many wait to be opened.
    pub(super) fn open(&self, call: CallId, leg: LegId, order: TapeOrder) -> Result<Tape, PathBuf> {
        let (pairs, written) = sync_channel(QUEUE);
        let end = Arc::new(TapeEnd::default());
        let opening = Opening { call, leg, order, pairs: written, end: end.clone() };
        // The last octets of a UUIDv7 are chance, so calls spread evenly.
        let thread = usize::from(call.0.as_bytes()[15]) % self.opening.len();
        match self.opening[thread].try_send(opening) {
            Ok(()) => Ok(Tape { pairs, missed: 0, end }),
            Err(TrySendError::Full(opening) | TrySendError::Disconnected(opening)) => Err(opening.order.path),
        }
    }
}

/// The worker's end of a recording; dropping it completes the file.
#[derive(Debug)]
pub(super) struct Tape {
    pairs: SyncSender<(u64, Pair)>,
    /// Pairs that found no room since the last that did.
    missed: u64,
    end: Arc<TapeEnd>,
}

/// What a tape leaves behind for whoever completes the file.
#[derive(Debug, Default)]
struct TapeEnd {
    missed: AtomicU64,
    is_unwanted: AtomicBool,
}

impl Tape {
    /// Hands a pair over. Returns false when the recording was given up.
    pub(super) fn write(&mut self, pair: Pair) -> bool {
        match self.pairs.try_send((self.missed, pair)) {
            Ok(()) => self.missed = 0,
            Err(TrySendError::Full(_)) => self.missed += 1,
            Err(TrySendError::Disconnected(_)) => return false,
        }
        true
    }

    /// Instead of completing the recording destroys it.
    pub(super) fn discard(self) {
        self.end.is_unwanted.store(true, Ordering::Release);
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.end.missed.store(self.missed, Ordering::Release);
    }
}

#[derive(Debug)]
struct Opening {
    call: CallId,
    leg: LegId,
    order: TapeOrder,
    pairs: Receiver<(u64, Pair)>,
    end: Arc<TapeEnd>,
}

struct Room {
    to_open: Receiver<Opening>,
    recordings: Vec<Recording>,
    closed: Vec<Notice>,
    notices: mpsc::Sender<Vec<Notice>>,
}

impl Room {
    fn run(&mut self) {
        loop {
            match self.to_open.recv_timeout(ROUND) {
                Ok(opening) => self.recordings.push(Recording::open(opening)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.recordings.is_empty() => return,
                // The workers have ended, and every tape with them: one more round completes what is left.
                Err(RecvTimeoutError::Disconnected) => {}
            }
            let mut at = 0;
            while at < self.recordings.len() {
                if self.recordings[at].write_waiting() {
                    at += 1;
                } else {
                    self.closed.push(self.recordings.swap_remove(at).close());
                }
            }
            if !self.closed.is_empty()
                && let Ok(permit) = self.notices.try_reserve()
            {
                permit.send(std::mem::take(&mut self.closed));
            }
        }
    }
}

struct Recording {
    call: CallId,
    leg: LegId,
    path: PathBuf,
    pairs: Receiver<(u64, Pair)>,
    end: Arc<TapeEnd>,
    file: Option<TapeFile>,
    frames: u64,
    missed: u64,
    unflushed: u64,
    error: Option<String>,
}

impl Recording {
    fn open(opening: Opening) -> Recording {
        let Opening { call, leg, order, pairs, end } = opening;
        let (file, error) = match TapeFile::create(&order) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("creating the recording: {error}"))),
        };
        Recording { call, leg, path: order.path, pairs, end, file, frames: 0, missed: 0, unflushed: 0, error }
    }

    /// Writes what waits. Returns whether more may come.
    fn write_waiting(&mut self) -> bool {
        while self.error.is_none() && !self.end.is_unwanted.load(Ordering::Acquire) {
            let step = match self.pairs.try_recv() {
                Ok((missed, pair)) => self.write_silence(missed).and_then(|()| self.write(&pair)),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => {
                    let missed = self.end.missed.load(Ordering::Acquire);
                    if let Err(error) = self.write_silence(missed) {
                        self.fail(&error);
                    }
                    return false;
                }
            };
            if let Err(error) = step {
                self.fail(&error);
            }
        }
        false
    }

    fn write_silence(&mut self, pairs: u64) -> io::Result<()> {
        self.missed += pairs;
        (0..pairs).try_for_each(|_| self.write(&SILENT))
    }

    fn write(&mut self, pair: &Pair) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write(&pair.left.map(decode_ulaw), &pair.right.map(decode_ulaw))?;
        self.frames += 1;
        self.unflushed += 1;
        if self.unflushed >= FLUSH_EVERY {
            self.unflushed = 0;
            file.flush()?;
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        self.error = Some(format!("writing the recording: {error}"));
    }

    fn close(mut self) -> Notice {
        let is_unwanted = self.end.is_unwanted.load(Ordering::Acquire);
        let closed = match self.file.take() {
            Some(file) if is_unwanted => file.destroy().map_err(|error| format!("destroying the recording: {error}")),
            // What does not fit on the disk any more may still leave room for the lengths in the header.
            Some(file) => file.finish().map_err(|error| format!("completing the recording: {error}")),
            None => Ok(()),
        };
        let error = self.error.or(closed.err()).or_else(|| {
            let ms = self.missed * u64::from(FRAME_MS);
            (self.missed > 0).then(|| format!("{ms} ms are silence because the disk was too slow"))
        });
        let frames = if is_unwanted { 0 } else { self.frames };
        let what = Noticed::RecordingClosed { path: self.path, frames, error };
        Notice { call: self.call, leg: self.leg, what }
    }
}

const SILENT: Pair = Pair { left: [ULAW_SILENCE; FRAME_SAMPLES], right: [ULAW_SILENCE; FRAME_SAMPLES] };
const QUEUE: usize = RECORDER_QUEUE_MAX.as_millis() as usize / FRAME_MS as usize;
/// How often waiting audio is written when nothing is opened.
const ROUND: Duration = Duration::from_millis(100);
const FLUSH_EVERY: u64 = RECORDING_FLUSH_EVERY.as_millis() as u64 / FRAME_MS as u64;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;

    const LOUD: Pair = Pair { left: [0x80; FRAME_SAMPLES], right: [0x00; FRAME_SAMPLES] };

    #[test]
    fn what_a_slow_disk_misses_is_silence_of_the_same_length() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut tape, mut recording) = both_ends(&folder.path().join("slow.wav"));

        for _ in 0..QUEUE + 30 {
            assert!(tape.write(LOUD));
        }
        recording.write_waiting();
        tape.write(LOUD);
        for _ in 0..QUEUE + 4 {
            tape.write(LOUD);
        }
        drop(tape);
        assert!(!recording.write_waiting());
        let path = recording.path.clone();
        let notice = recording.close();

        let total = QUEUE * 2 + 35;
        let Noticed::RecordingClosed { frames, error, .. } = notice.what else { panic!("is closed") };
        assert_eq!(frames, total as u64);
        assert_eq!(error.as_deref(), Some("700 ms are silence because the disk was too slow"));
        let samples = read(&path);
        assert_eq!(samples.len(), total * 320);
        let silent: Vec<usize> = (0..total).filter(|frame| samples[frame * 320] == 0).collect();
        assert_eq!(silent, (QUEUE..QUEUE + 30).chain(total - 5..total).collect::<Vec<_>>());
        assert_eq!(samples[..2], [32124, -32124], "left before right");
    }

    #[test]
    fn a_file_that_was_never_completed_opens_up_to_the_last_flush() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut tape, mut recording) = both_ends(&folder.path().join("crash.wav"));
        for _ in 0..3 {
            (0..QUEUE).for_each(|_| assert!(tape.write(LOUD)));
            recording.write_waiting();
        }

        // Looked at while the recording still runs, as after a crash.
        assert_eq!(read(&recording.path).len(), FLUSH_EVERY as usize * 320);
    }

    #[test]
    fn a_recording_that_failed_lets_go_of_the_tape() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut tape, mut recording) = both_ends(folder.path());
        assert!(!recording.write_waiting());
        let Noticed::RecordingClosed { frames: 0, error: Some(error), .. } = recording.close().what else {
            panic!("has failed")
        };
        assert!(error.starts_with("creating the recording: "), "{error}");
        assert!(!tape.write(LOUD));
    }

    #[test]
    fn a_recording_that_nobody_may_keep_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut tape, mut recording) = both_ends(&folder.path().join("refused.wav"));
        (0..QUEUE).for_each(|_| assert!(tape.write(LOUD)));
        recording.write_waiting();
        tape.write(LOUD);

        tape.discard();
        assert!(!recording.write_waiting());
        let Noticed::RecordingClosed { frames: 0, error: None, .. } = recording.close().what else { panic!("is gone") };

        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn a_disk_that_is_full_ends_the_recording() {
        // The system has a disk that is always full.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("full.wav");
        let (mut tape, mut recording) = both_ends(&path);
        recording.file = Some(TapeFile::to_full_disk());

        let mut is_taken = true;
        for _ in 0..5 {
            for _ in 0..QUEUE {
                is_taken = tape.write(LOUD);
            }
            if !recording.write_waiting() {
                break;
            }
        }
        let Noticed::RecordingClosed { error: Some(error), .. } = recording.close().what else { panic!("has failed") };

        assert!(is_taken, "the worker never waited");
        assert!(error.contains("No space left"), "{error}");
        assert!(!tape.write(LOUD), "it is told with the next pair");
    }

    fn both_ends(path: &Path) -> (Tape, Recording) {
        let (opening, to_open) = sync_channel(1);
        let desk = WriterDesk { opening: [opening].into() };
        let tape = desk.open(CallId(Uuid::nil()), LegId(0), path.to_owned().into()).expect("there is room");
        (tape, Recording::open(to_open.recv().expect("was sent")))
    }

    fn read(path: &Path) -> Vec<i16> {
        let mut reader = hound::WavReader::open(path).expect("is a WAV file");
        reader.samples().map_while(Result::ok).collect()
    }
}
