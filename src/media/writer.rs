//! The thread that writes recordings to the disk.
//!
//! A worker never waits for a disk: each recording has two seconds of room, what does not fit becomes silence of the
//! same length. An error of the disk ends the recording and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use hound::{SampleFormat, WavSpec, WavWriter};
use tokio::sync::mpsc;

use super::g711::decode_ulaw;
use super::notice::{Notice, Noticed};
use super::recorder::Pair;
use crate::model::limits::{RECORDER_QUEUE_MAX, RECORDINGS_OPENING_MAX};
use crate::model::{CallId, FRAME_MS, FRAME_SAMPLES, LegId, SAMPLE_RATE, ULAW_SILENCE};

/// Owns the thread; dropping it completes every recording.
#[derive(Debug)]
pub(super) struct Writer {
    desk: Option<WriterDesk>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(notices: mpsc::Sender<Vec<Notice>>) -> io::Result<Writer> {
        let (opening, to_open) = sync_channel(RECORDINGS_OPENING_MAX);
        let mut room = Room { to_open, recordings: Vec::new(), closed: Vec::new(), notices };
        let thread = std::thread::Builder::new().name("recordings".into()).spawn(move || room.run())?;
        Ok(Writer { desk: Some(WriterDesk { opening }), thread: Some(thread) })
    }

    /// A way for a worker to open recordings.
    pub(super) fn desk(&self) -> WriterDesk {
        self.desk.clone().expect("there is a desk because only dropping the writer takes it")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.desk.take();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has already said so.
            let _ = thread.join();
        }
    }
}

/// Where a worker opens recordings.
#[derive(Clone, Debug)]
pub(super) struct WriterDesk {
    opening: SyncSender<Opening>,
}

impl WriterDesk {
    /// Opens a recording. How it went comes as a notice.
    ///
    /// # Errors
    /// Gives the path back when too many wait to be opened.
    pub(super) fn open(&self, call: CallId, leg: LegId, path: PathBuf) -> Result<Tape, PathBuf> {
        let (pairs, written) = sync_channel(QUEUE);
        let missed_at_end = Arc::new(AtomicU64::new(0));
        let opening = Opening { call, leg, path, pairs: written, missed_at_end: missed_at_end.clone() };
        match self.opening.try_send(opening) {
            Ok(()) => Ok(Tape { pairs, missed: 0, missed_at_end }),
            Err(TrySendError::Full(opening) | TrySendError::Disconnected(opening)) => Err(opening.path),
        }
    }
}

/// The worker's end of a recording; dropping it completes the file.
#[derive(Debug)]
pub(super) struct Tape {
    pairs: SyncSender<(u64, Pair)>,
    /// Pairs that found no room since the last that did.
    missed: u64,
    missed_at_end: Arc<AtomicU64>,
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
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.missed_at_end.store(self.missed, Ordering::Release);
    }
}

#[derive(Debug)]
struct Opening {
    call: CallId,
    leg: LegId,
    path: PathBuf,
    pairs: Receiver<(u64, Pair)>,
    missed_at_end: Arc<AtomicU64>,
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
    missed_at_end: Arc<AtomicU64>,
    file: Option<WavWriter<BufWriter<File>>>,
    frames: u64,
    missed: u64,
    unflushed: u64,
    error: Option<String>,
}

impl Recording {
    fn open(opening: Opening) -> Recording {
        let Opening { call, leg, path, pairs, missed_at_end } = opening;
        let (file, error) = match create(&path) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(format!("creating the recording: {error}"))),
        };
        Recording { call, leg, path, pairs, missed_at_end, file, frames: 0, missed: 0, unflushed: 0, error }
    }

    /// Writes what waits. Returns whether more may come.
    fn write_waiting(&mut self) -> bool {
        while self.error.is_none() {
            let step = match self.pairs.try_recv() {
                Ok((missed, pair)) => self.write_silence(missed).and_then(|()| self.write(&pair)),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => {
                    let missed = self.missed_at_end.load(Ordering::Acquire);
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

    fn write_silence(&mut self, pairs: u64) -> Result<(), hound::Error> {
        self.missed += pairs;
        (0..pairs).try_for_each(|_| self.write(&SILENT))
    }

    fn write(&mut self, pair: &Pair) -> Result<(), hound::Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for (left, right) in pair.left.iter().zip(&pair.right) {
            file.write_sample(decode_ulaw(*left))?;
            file.write_sample(decode_ulaw(*right))?;
        }
        self.frames += 1;
        self.unflushed += 1;
        if self.unflushed == FLUSH_EVERY {
            self.unflushed = 0;
            // Also rewrites the header, so that a crash leaves a file that opens.
            file.flush()?;
        }
        Ok(())
    }

    fn fail(&mut self, error: &hound::Error) {
        self.error = Some(format!("writing the recording: {error}"));
    }

    fn close(mut self) -> Notice {
        if let Some(Err(error)) = self.file.take().map(WavWriter::finalize)
            && self.error.is_none()
        {
            self.error = Some(format!("completing the recording: {error}"));
        }
        if self.missed > 0 && self.error.is_none() {
            let ms = self.missed * u64::from(FRAME_MS);
            self.error = Some(format!("{ms} ms are silence because the disk was too slow"));
        }
        let what = Noticed::RecordingClosed { path: self.path, frames: self.frames, error: self.error };
        Notice { call: self.call, leg: self.leg, what }
    }
}

/// Creates the file and its folders. An older recording is never overwritten, and only the owner may read it.
fn create(path: &Path) -> Result<WavWriter<BufWriter<File>>, hound::Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    WavWriter::new(BufWriter::new(options.open(path)?), SPEC)
}

const SPEC: WavSpec =
    WavSpec { channels: 2, sample_rate: SAMPLE_RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };
const SILENT: Pair = Pair { left: [ULAW_SILENCE; FRAME_SAMPLES], right: [ULAW_SILENCE; FRAME_SAMPLES] };
const QUEUE: usize = RECORDER_QUEUE_MAX.as_millis() as usize / FRAME_MS as usize;
/// How often waiting audio is written when nothing is opened.
const ROUND: Duration = Duration::from_millis(100);
/// 5 s.
const FLUSH_EVERY: u64 = 5000 / FRAME_MS as u64;

#[cfg(test)]
mod tests {
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

    fn both_ends(path: &Path) -> (Tape, Recording) {
        let (opening, to_open) = sync_channel(1);
        let desk = WriterDesk { opening };
        let tape = desk.open(CallId(Uuid::nil()), LegId(0), path.to_owned()).expect("there is room");
        (tape, Recording::open(to_open.recv().expect("was sent")))
    }

    fn read(path: &Path) -> Vec<i16> {
        let mut reader = hound::WavReader::open(path).expect("is a WAV file");
        reader.samples().map_while(Result::ok).collect()
    }
}
