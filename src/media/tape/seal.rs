//! Recordings that only the holder of the master key opens.
//!
//! Each recording has a key of its own. It stands in a small file beside the recording, wrapped by the master key, and
//! deleting that file deletes the recording wherever copies of it are. The audio is the STREAM construction over
//! XChaCha20-Poly1305 (Hoang et al., Online Authenticated-Encryption): chunks of 64 KiB at most, each numbered, the last
//! one marked, so that nothing can be changed, moved, taken out or cut off without notice.
//!
//! A file is `RBSEAL1\n`, 19 octets of nonce, and chunks: four octets of length, little-endian, the highest bit set for the
//! last, and the sealed octets with their tag of 16.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::generic_array::GenericArray;
use chacha20poly1305::aead::stream::{DecryptorBE32, EncryptorBE32};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{SEALED, TapeFormat, create_private};

/// The key that wraps the keys of recordings.
#[derive(Clone)]
pub struct MasterKey {
    key: [u8; KEY],
    id: String,
}

impl MasterKey {
    /// Reads a key: 32 octets in base64 or as 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SealError::NotAKey`] for anything else.
    pub fn parse(text: &str) -> Result<MasterKey, SealError> {
        let text = text.trim();
        let octets = if text.len() == KEY * 2 && text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            let pairs = text.as_bytes().chunks(2);
            pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
        } else {
            STANDARD.decode(text).map_err(|_| SealError::NotAKey)?
        };
        let key: [u8; KEY] = octets.try_into().map_err(|_| SealError::NotAKey)?;
        let digest = Sha256::new().chain_update(b"ringback master key\0").chain_update(key).finalize();
        let id = digest[..8].iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(MasterKey { key, id })
    }

    /// A name that tells keys apart and says nothing of them.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// Where the wrapped key of a sealed recording is: `ID.key` beside `ID.wav.sealed`.
pub fn key_path(recording: &Path) -> PathBuf {
    recording.with_file_name(format!("{}.key", stem(recording)))
}

/// A recording's name without what its file has behind it.
fn stem(recording: &Path) -> String {
    let name = recording.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(SEALED).unwrap_or(&name);
    let endings = [TapeFormat::Wav.ending(), TapeFormat::Opus.ending()];
    endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name).to_owned()
}

/// A wrapped key as its file has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    version: u32,
    /// [`MasterKey::id`] of the key that wrapped it.
    master: String,
    nonce: String,
    key: String,
}

/// Overwrites the wrapped key and takes it away.
pub(super) fn destroy_key(recording: &Path) -> io::Result<()> {
    let path = key_path(recording);
    let mut file = OpenOptions::new().write(true).open(&path)?;
    let len = file.metadata()?.len();
    // In place where the file system does so; a wrapped key without its master key is of no use anyhow.
    io::copy(&mut io::repeat(0).take(len), &mut file)?;
    file.sync_all()?;
    fs::remove_file(&path)?;
    sync_folder(&path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Writes what it is given sealed. Nothing of it is on the disk before its chunk is full, flushed or the last.
pub(super) struct SealedWriter {
    file: File,
    /// `None` after the last chunk.
    stream: Option<EncryptorBE32<XChaCha20Poly1305>>,
    header: Vec<u8>,
    /// What waits for its chunk to be full.
    clear: Vec<u8>,
}

impl SealedWriter {
    /// Creates the file and, before it, that of its wrapped key.
    pub(super) fn create(path: &Path, master: &MasterKey) -> io::Result<SealedWriter> {
        let (key, prefix) = (random::<KEY>()?, random::<PREFIX>()?);
        let wrapped = wrap(master, &key, &stem(path))?;
        let mut key_file = create_private(&key_path(path))?;
        key_file.write_all(&serde_json::to_vec(&wrapped)?)?;
        // Without its key the recording is noise.
        key_file.sync_all()?;
        let header = [&MAGIC[..], &prefix[..]].concat();
        let mut file = create_private(path)?;
        file.write_all(&header)?;
        sync_folder(path)?;
        let stream = EncryptorBE32::from_aead(XChaCha20Poly1305::new(&key.into()), &GenericArray::from(prefix));
        Ok(SealedWriter { file, stream: Some(stream), header, clear: Vec::with_capacity(CHUNK) })
    }

    /// Seals the last chunk.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.seal(true)
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let payload = Payload { msg: &self.clear, aad: &self.header };
        let sealed = match (is_last, &mut self.stream) {
            (_, None) => return Err(io::Error::other("the recording was completed before")),
            (false, Some(stream)) => stream.encrypt_next(payload),
            (true, stream) => match stream.take() {
                Some(stream) => stream.encrypt_last(payload),
                None => return Ok(()),
            },
        };
        // Fails after 2³² chunks: at 32 kB/s that is four centuries.
        let sealed = sealed.map_err(|_| io::Error::other("the recording is too long to be sealed"))?;
        let len = sealed.len() as u32 | if is_last { LAST } else { 0 };
        self.clear.clear();
        self.file.write_all(&[&len.to_le_bytes()[..], &sealed].concat())
    }
}

impl Write for SealedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.clear.len());
        self.clear.extend_from_slice(&bytes[..taken]);
        if self.clear.len() == CHUNK {
            self.seal(false)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.clear.is_empty() { Ok(()) } else { self.seal(false) }
    }
}

/// What came out of a sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// How much.
    pub octets: u64,
    /// Its end was there. A process that died, or a copy that broke off, leaves a file without one.
    pub is_whole: bool,
}

/// Opens a sealed file, chunk by chunk.
pub(super) fn open(path: &Path, master: &MasterKey, clear: &mut impl Write) -> Result<Opened, SealError> {
    let key = unwrap(master, path)?;
    let mut file = BufReader::new(File::open(path).map_err(SealError::Read)?);
    let mut header = [0; MAGIC.len() + PREFIX];
    file.read_exact(&mut header).map_err(|_| SealError::NotSealed)?;
    let (magic, prefix) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(SealError::NotSealed);
    }
    let mut stream = Some(DecryptorBE32::<XChaCha20Poly1305>::from_aead(
        XChaCha20Poly1305::new(&key.into()),
        GenericArray::from_slice(prefix),
    ));
    let mut octets = 0;
    loop {
        let mut len = [0; 4];
        // Whatever is left of a chunk was being written when it ended.
        let Some(len) = read_whole(&mut file, &mut len)?.then_some(u32::from_le_bytes(len)) else {
            return Ok(Opened { octets, is_whole: false });
        };
        let (is_last, len) = (len & LAST != 0, (len & !LAST) as usize);
        if !(TAG..=CHUNK + TAG).contains(&len) {
            return Err(SealError::Changed { octets });
        }
        let mut sealed = vec![0; len];
        if !read_whole(&mut file, &mut sealed)? {
            return Ok(Opened { octets, is_whole: false });
        }
        let payload = Payload { msg: &sealed, aad: &header };
        let opened = match (is_last, &mut stream) {
            (false, Some(stream)) => stream.decrypt_next(payload),
            (_, stream) => match stream.take() {
                Some(stream) => stream.decrypt_last(payload),
                None => return Err(SealError::Changed { octets }),
            },
        };
        let opened = opened.map_err(|_| SealError::Changed { octets })?;
        clear.write_all(&opened).map_err(SealError::Write)?;
        octets += opened.len() as u64;
        if is_last {
            let mut more = [0];
            return match file.read(&mut more).map_err(SealError::Read)? {
                0 => Ok(Opened { octets, is_whole: true }),
                _ => Err(SealError::Changed { octets }),
            };
        }
    }
}

/// Returns whether all of it was there.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> Result<bool, SealError> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(SealError::Read(error)),
    }
}

fn wrap(master: &MasterKey, key: &[u8; KEY], name: &str) -> io::Result<KeyFile> {
    let nonce = random::<NONCE>()?;
    let wrapped = XChaCha20Poly1305::new(&master.key.into())
        .encrypt(&XNonce::from(nonce), Payload { msg: key, aad: &bound_to(name) })
        .map_err(|_| io::Error::other("the recording's key cannot be wrapped"))?;
    let (nonce, key) = (STANDARD.encode(nonce), STANDARD.encode(wrapped));
    Ok(KeyFile { version: 1, master: master.id.clone(), nonce, key })
}

fn unwrap(master: &MasterKey, recording: &Path) -> Result<[u8; KEY], SealError> {
    let path = key_path(recording);
    let text = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SealError::KeyGone(path),
        _ => SealError::Read(error),
    })?;
    let file: KeyFile = serde_json::from_slice(&text).map_err(|_| SealError::KeyBroken)?;
    if file.version != 1 {
        return Err(SealError::KeyBroken);
    }
    if file.master != master.id {
        return Err(SealError::OtherMaster { wanted: file.master, given: master.id.clone() });
    }
    let octets = |text: &str| STANDARD.decode(text).map_err(|_| SealError::KeyBroken);
    let nonce: [u8; NONCE] = octets(&file.nonce)?.try_into().map_err(|_| SealError::KeyBroken)?;
    let name = stem(recording);
    let key = XChaCha20Poly1305::new(&master.key.into())
        .decrypt(&XNonce::from(nonce), Payload { msg: &octets(&file.key)?, aad: &bound_to(&name) })
        .map_err(|_| SealError::KeyBroken)?;
    key.try_into().map_err(|_| SealError::KeyBroken)
}

/// A wrapped key opens the recording it was made for and no other.
fn bound_to(name: &str) -> Vec<u8> {
    [b"ringback recording key 1\0", name.as_bytes()].concat()
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(io::Error::other)?;
    Ok(octets)
}

/// Why a sealed recording cannot be opened.
#[derive(Debug)]
pub enum SealError {
    /// The master key is not 32 octets in base64 or hexadecimal digits.
    NotAKey,
    /// The file is no sealed recording.
    NotSealed,
    /// The wrapped key is not there: the recording was deleted, or its key was left behind when it was copied.
    KeyGone(PathBuf),
    /// The wrapped key is not of this recording, or was changed.
    KeyBroken,
    /// Another master key wrapped it.
    OtherMaster {
        /// The id of that one.
        wanted: String,
        /// The id of the one in use.
        given: String,
    },
    /// The file was changed behind this many octets of good audio.
    Changed {
        /// Octets that were good.
        octets: u64,
    },
    /// Reading failed.
    Read(io::Error),
    /// Writing what came out failed.
    Write(io::Error),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealError::NotAKey => f.write_str("a master key is 32 octets, in base64 or as 64 hexadecimal digits"),
            SealError::NotSealed => f.write_str("this is no sealed recording"),
            SealError::KeyGone(path) => {
                write!(f, "{} is not there; without it the recording cannot be opened by anybody", path.display())
            }
            SealError::KeyBroken => f.write_str("the wrapped key does not belong to this recording, or was changed"),
            SealError::OtherMaster { wanted, given } => {
                write!(f, "it was sealed for master key {wanted}, and this is master key {given}")
            }
            SealError::Changed { octets } => write!(f, "the file was changed; {octets} octets before that are good"),
            SealError::Read(error) => write!(f, "reading: {error}"),
            SealError::Write(error) => write!(f, "writing: {error}"),
        }
    }
}

impl std::error::Error for SealError {}

const MAGIC: [u8; 8] = *b"RBSEAL1\n";
const KEY: usize = 32;
const NONCE: usize = 24;
/// A nonce less the counter of four octets and the mark of the last chunk.
const PREFIX: usize = NONCE - 5;
const TAG: usize = 16;
const CHUNK: usize = 64 * 1024;
const LAST: u32 = 1 << 31;
