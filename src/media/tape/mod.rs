//! Files that recordings are kept in: WAV or Ogg with Opus, in the clear or sealed.
//!
//! A process that dies leaves a file that other programs open, up to the last five seconds. What is sealed never
//! touches the disk in the clear. Start at [`TapeFile`]; [`seal`] has the keys.

mod opus;
mod seal;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hound::{SampleFormat, WavSpec, WavWriter};

use self::opus::OggOpus;
use self::seal::SealedWriter;
pub use self::seal::{MasterKey, Opened, SealError, key_path};
use crate::model::SAMPLE_RATE;

/// Where and how a recording is kept.
#[derive(Clone, Debug)]
pub struct TapeOrder {
    /// The file, which must not be there yet.
    pub path: PathBuf,
    /// What is in it.
    pub format: TapeFormat,
    /// Whom the recording's own key is wrapped for; `None` keeps it in the clear.
    pub seal: Option<Arc<MasterKey>>,
}

impl TapeOrder {
    /// The recording of this name in a folder.
    pub fn new(folder: &Path, name: &str, format: TapeFormat, seal: Option<Arc<MasterKey>>) -> TapeOrder {
        let ending = format!("{}{}", format.ending(), if seal.is_some() { SEALED } else { "" });
        TapeOrder { path: folder.join(format!("{name}{ending}")), format, seal }
    }
}

impl From<PathBuf> for TapeOrder {
    /// A WAV file in the clear.
    fn from(path: PathBuf) -> TapeOrder {
        TapeOrder { path, format: TapeFormat::Wav, seal: None }
    }
}

/// What is in a recording's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TapeFormat {
    /// WAV, 16 bits, two channels: 115 MB an hour.
    #[default]
    Wav,
    /// Opus in Ogg, each channel a stream of its own: some 20 MB an hour.
    Opus,
}

impl TapeFormat {
    /// How names of such files end.
    pub fn ending(self) -> &'static str {
        match self {
            TapeFormat::Wav => ".wav",
            TapeFormat::Opus => ".ogg",
        }
    }
}

/// A recording that is being written: two channels at [`SAMPLE_RATE`], frame by frame.
pub(super) struct TapeFile {
    path: PathBuf,
    writing: Writing,
}

enum Writing {
    Wav(WavWriter<BufWriter<File>>),
    /// WAV without a way back to its header: the lengths in it say that they are not known.
    WavStream(Out),
    Opus(Box<OggOpus<Out>>),
}

impl TapeFile {
    /// Creates the file and its folders. An older recording is never overwritten, and only the owner may read it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn create(order: &TapeOrder) -> io::Result<TapeFile> {
        if let Some(folder) = order.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let path = order.path.clone();
        let writing = match (&order.seal, order.format) {
            (None, TapeFormat::Wav) => {
                let file = BufWriter::new(create_private(&order.path)?);
                Writing::Wav(WavWriter::new(file, SPEC).map_err(from_hound)?)
            }
            (seal, format) => {
                let out = match seal {
                    None => Out::Plain(BufWriter::new(create_private(&order.path)?)),
                    Some(master) => Out::Sealed(Box::new(SealedWriter::create(&order.path, master)?)),
                };
                match format {
                    TapeFormat::Wav => {
                        let mut out = out;
                        out.write_all(&unending_wav())?;
                        Writing::WavStream(out)
                    }
                    TapeFormat::Opus => Writing::Opus(Box::new(OggOpus::new(out, SAMPLE_RATE)?)),
                }
            }
        };
        Ok(TapeFile { path, writing })
    }

    #[cfg(test)]
    pub(super) fn to_full_disk() -> TapeFile {
        let file = OpenOptions::new().write(true).open("/dev/full").expect("this system has one");
        let wav = WavWriter::new(BufWriter::new(file), SPEC).expect("the header waits in memory");
        TapeFile { path: PathBuf::from("full.wav"), writing: Writing::Wav(wav) }
    }

    /// Writes 20 ms of both channels.
    ///
    /// # Errors
    /// What the system says; the recording is over then.
    pub(super) fn write(&mut self, left: &[i16], right: &[i16]) -> io::Result<()> {
        match &mut self.writing {
            Writing::Wav(file) => left.iter().zip(right).try_for_each(|(left, right)| {
                file.write_sample(*left).and_then(|()| file.write_sample(*right)).map_err(from_hound)
            }),
            Writing::WavStream(out) => {
                left.iter().zip(right).try_for_each(|(left, right)| out.write_all(&interleaved(*left, *right)))
            }
            Writing::Opus(ogg) => ogg.write(left, right),
        }
    }

    /// From here on the file can be opened up to this point, whatever happens to the process.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.writing {
            Writing::Wav(file) => file.flush().map_err(from_hound),
            Writing::WavStream(out) => out.flush(),
            Writing::Opus(ogg) => ogg.flush(),
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.writing {
            Writing::Wav(file) => file.finalize().map_err(from_hound),
            Writing::WavStream(out) => out.finish(),
            Writing::Opus(ogg) => ogg.finish()?.finish(),
        }
    }

    /// Takes the recording away for good, its key first.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn destroy(self) -> io::Result<()> {
        let TapeFile { path, writing } = self;
        drop(writing);
        destroy(&path)
    }
}

/// Destroys a recording's key, if it has one, and then the file. Whatever copy there is of a sealed file cannot be opened
/// any more.
///
/// # Errors
/// What the system says; the key may be gone then.
pub fn destroy(path: &Path) -> io::Result<()> {
    let gone = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
    seal::destroy_key(path).or_else(gone)?;
    fs::remove_file(path).or_else(gone)
}

/// Writes a sealed recording out in the clear, as a file that any player opens.
///
/// # Errors
/// When the key does not open it, it was changed, or the new file cannot be written. What was good until then is in it.
pub fn unseal(from: &Path, master: &MasterKey, to: &Path) -> Result<Opened, SealError> {
    let mut clear = create_private(to).map_err(SealError::Write)?;
    let opened = seal::open(from, master, &mut clear)?;
    if from.to_string_lossy().contains(TapeFormat::Wav.ending()) {
        mend_wav(&mut clear, opened.octets).map_err(SealError::Write)?;
    }
    Ok(opened)
}

/// How names of sealed files end.
pub const SEALED: &str = ".sealed";

enum Out {
    Plain(BufWriter<File>),
    Sealed(Box<SealedWriter>),
}

impl Out {
    fn finish(self) -> io::Result<()> {
        match self {
            Out::Plain(mut file) => file.flush(),
            Out::Sealed(sealed) => sealed.finish(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Out::Plain(file) => file.write(bytes),
            Out::Sealed(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::Plain(file) => file.flush(),
            Out::Sealed(sealed) => sealed.flush(),
        }
    }
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn from_hound(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        error => io::Error::other(error),
    }
}

fn interleaved(left: i16, right: i16) -> [u8; 4] {
    let ([a, b], [c, d]) = (left.to_le_bytes(), right.to_le_bytes());
    [a, b, c, d]
}

/// A WAV header whose lengths are the largest there are, as programs write it that stream.
fn unending_wav() -> [u8; WAV_HEADER] {
    let mut header = [0; WAV_HEADER];
    let octets_per_sample = CHANNELS * 2;
    let fields: [&[u8]; 13] = [
        b"RIFF",
        &u32::MAX.to_le_bytes(),
        b"WAVE",
        b"fmt ",
        &16u32.to_le_bytes(),
        &1u16.to_le_bytes(),
        &CHANNELS.to_le_bytes(),
        &SAMPLE_RATE.to_le_bytes(),
        &(SAMPLE_RATE * u32::from(octets_per_sample)).to_le_bytes(),
        &octets_per_sample.to_le_bytes(),
        &16u16.to_le_bytes(),
        b"data",
        &u32::MAX.to_le_bytes(),
    ];
    let mut at = 0;
    for field in fields {
        header[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    header
}

/// Writes the lengths that are known now.
fn mend_wav(file: &mut File, octets: u64) -> io::Result<()> {
    let length = |behind: u64| u32::try_from(octets.saturating_sub(behind)).unwrap_or(u32::MAX).to_le_bytes();
    file.seek(SeekFrom::Start(4))?;
    file.write_all(&length(8))?;
    file.seek(SeekFrom::Start(WAV_HEADER as u64 - 4))?;
    file.write_all(&length(WAV_HEADER as u64))
}

const CHANNELS: u16 = 2;
const WAV_HEADER: usize = 44;
const SPEC: WavSpec =
    WavSpec { channels: CHANNELS, sample_rate: SAMPLE_RATE, bits_per_sample: 16, sample_format: SampleFormat::Int };

#[cfg(test)]
mod tests;
