//! Recordings as files: where they lie, the page about each, and their end.
//!
//! Below the data folder `recordings/ID.wav` (or `.ogg`, sealed `.sealed`), `ID.key` for a sealed one, and `ID.json`, the
//! page. Whatever is deleted leaves a line in `deleted.jsonl`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::clock::{pause, unix_ms};
use super::house::House;
use crate::call::ConsentResult;
use crate::config::{self, Config, RecordingFormat};
use crate::media::{self, MasterKey, SealError, TapeFormat, TapeOrder, key_path};
use crate::model::{CallId, limits};

/// The folder of recordings.
pub(crate) fn folder(config: &Config) -> PathBuf {
    config.gateway.store.data_dir.join("recordings")
}

/// How this house keeps recordings.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    format: TapeFormat,
    seal: Option<Arc<MasterKey>>,
}

impl Shelf {
    /// # Errors
    /// When recordings are to be sealed and the key is not to be had: better no gateway than recordings in the clear.
    pub(super) fn new(config: &Config) -> Result<Shelf, String> {
        let recordings = &config.gateway.recordings;
        let format = match recordings.format {
            RecordingFormat::Wav => TapeFormat::Wav,
            RecordingFormat::Opus => TapeFormat::Opus,
        };
        Ok(Shelf { folder: folder(config), format, seal: master_key(config)?.map(Arc::new) })
    }

    /// Where and how a call is recorded.
    pub(super) fn order(&self, call: CallId) -> TapeOrder {
        TapeOrder::new(&self.folder, &call.to_string(), self.format, self.seal.clone())
    }

    /// The recording that a process left behind when it died.
    pub(super) fn left_behind(&self, call: CallId) -> Option<PathBuf> {
        [TapeFormat::Wav, TapeFormat::Opus]
            .into_iter()
            .flat_map(|format| ["", media::SEALED].map(|sealed| format!("{call}{}{sealed}", format.ending())))
            .map(|name| self.folder.join(name))
            .find(|path| path.is_file())
    }
}

/// The master key of the configuration, if recordings are sealed.
///
/// # Errors
/// When it is not to be had, or is none.
pub(crate) fn master_key(config: &Config) -> Result<Option<MasterKey>, String> {
    let Some(reference) = &config.gateway.recordings.key else { return Ok(None) };
    let secret = config::secret(&config.dir, reference).map_err(|error| error.to_string())?;
    MasterKey::parse(secret.reveal()).map(Some).map_err(|error: SealError| error.to_string())
}

/// What is told of a recording, beside it: nothing of who talked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Page {
    version: u32,
    call: CallId,
    /// The file's name.
    file: String,
    /// The file's first sample, in milliseconds since 1970; UTC.
    began_unix_ms: i64,
    /// What is on the left and on the right.
    channels: [String; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consent: Option<ConsentResult>,
    /// `None` until it is complete, and of one that a process left behind when it died.
    duration_ms: Option<u64>,
    /// Why it ended early, or what is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Lengths of time that are silent on purpose.
    masked: Vec<Masked>,
    events: Vec<Happened>,
}

/// In milliseconds since the first sample.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Masked {
    from_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_ms: Option<u64>,
}

/// Something that helps to find one's way in a recording.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Happened {
    at_ms: u64,
    what: String,
}

/// The recording of a call, as its call sees it.
#[derive(Clone, Debug)]
pub(super) struct Taping {
    /// The file.
    pub(super) path: PathBuf,
    page: Page,
    /// The caller did not want it: neither file nor page are left.
    pub(super) is_destroyed: bool,
}

impl Taping {
    pub(super) fn new(call: CallId, order: &TapeOrder, consent: Option<ConsentResult>) -> Taping {
        let file = order.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let page = Page {
            version: 1,
            call,
            file,
            began_unix_ms: unix_ms(),
            channels: ["caller".to_owned(), "heard by the caller".to_owned()],
            sealed_for: order.seal.as_ref().map(|master| master.id().to_owned()),
            consent,
            duration_ms: None,
            error: None,
            masked: Vec::new(),
            events: Vec::new(),
        };
        Taping { path: order.path.clone(), page, is_destroyed: false }
    }

    /// Notes what happens to the call.
    pub(super) fn note(&mut self, what: &str) {
        if self.page.events.len() < limits::RECORDING_EVENTS_MAX {
            let at_ms = self.at_ms();
            self.page.events.push(Happened { at_ms, what: what.to_owned() });
        }
    }

    pub(super) fn mask(&mut self) {
        let from_ms = self.at_ms();
        if self.page.masked.len() < limits::RECORDING_EVENTS_MAX {
            self.page.masked.push(Masked { from_ms, to_ms: None });
        }
    }

    pub(super) fn unmask(&mut self) {
        let at_ms = self.at_ms();
        if let Some(masked) = self.page.masked.last_mut().filter(|masked| masked.to_ms.is_none()) {
            masked.to_ms = Some(at_ms);
        }
    }

    /// The file is complete, or was given up.
    pub(super) fn closed(&mut self, frames: u64, error: Option<String>) {
        self.page.duration_ms = Some(frames * u64::from(crate::model::FRAME_MS));
        self.page.error = error;
    }

    /// Writes the page; called where waiting for a disk is allowed.
    pub(super) fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&self.page)?;
        let path = page_path(&self.path);
        let new = path.with_extension("json.new");
        let mut file = private().create(true).truncate(true).open(&new)?;
        file.write_all(&text)?;
        fs::rename(new, path)
    }

    /// Takes the page away, and whatever is left of the recording.
    pub(super) fn destroy(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        delete(folder, &self.path, "the caller did not want it", unix_ms())
    }

    fn at_ms(&self) -> u64 {
        u64::try_from(unix_ms() - self.page.began_unix_ms).unwrap_or(0)
    }
}

/// Where the page about a recording is.
fn page_path(recording: &Path) -> PathBuf {
    key_path(recording).with_extension("json")
}

/// Destroys recordings when their time is over, now and every hour, until it is dropped.
pub(super) async fn clear_away(house: Arc<House>) {
    loop {
        let config = house.config();
        if let Some(keep) = config.gateway.recordings.keep {
            let folder = folder(&config);
            let cleared = tokio::task::spawn_blocking(move || clear(&folder, keep, unix_ms())).await;
            match cleared {
                Ok(Ok(0)) => {}
                Ok(Ok(recordings)) => {
                    counter!("ringback_recordings_deleted_total").increment(recordings);
                    info!(recordings, "recordings whose time is over have been destroyed");
                }
                Ok(Err(error)) => warn!(%error, "recordings cannot be cleared away"),
                Err(_) => error!("clearing recordings away broke"),
            }
        }
        pause(limits::RECORDINGS_CLEARED_EVERY).await;
    }
}

/// Destroys every recording that is older than this and not held. Returns how many.
///
/// # Errors
/// What the system says about the folder; a recording that cannot be destroyed is left for the next time.
fn clear(folder: &Path, keep: Duration, now_unix_ms: i64) -> io::Result<u64> {
    let mut cleared = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(began) = began_unix_ms(&path) else { continue };
        let is_over = now_unix_ms.saturating_sub(began) > i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        if !is_over || key_path(&path).with_extension("hold").exists() {
            continue;
        }
        match delete(folder, &path, "its time was over", now_unix_ms) {
            Ok(()) => cleared += 1,
            Err(error) => warn!(path = %path.display(), %error, "a recording cannot be destroyed"),
        }
    }
    Ok(cleared)
}

/// Destroys a recording, its key first, and its page, and notes that.
///
/// # Errors
/// What the system says.
pub(crate) fn delete(folder: &Path, recording: &Path, why: &str, now_unix_ms: i64) -> io::Result<()> {
    let was_sealed = key_path(recording).exists();
    let octets = fs::metadata(recording).map(|metadata| metadata.len()).unwrap_or(0);
    media::destroy(recording)?;
    let gone = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
    fs::remove_file(page_path(recording)).or_else(gone)?;
    let file = recording.file_name().unwrap_or_default().to_string_lossy();
    let line = serde_json::json!({
        "at_unix_ms": now_unix_ms, "file": file, "octets": octets, "key_destroyed": was_sealed, "why": why,
    });
    let mut proof: File = private().create(true).append(true).open(folder.join("deleted.jsonl"))?;
    proof.write_all(format!("{line}\n").as_bytes())?;
    proof.sync_data()
}

/// When the call of a recording began, by its name: the id of a call holds its time. `None` for any other file.
fn began_unix_ms(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let (id, ending) = name.split_once('.')?;
    let ending = ending.strip_suffix(media::SEALED).unwrap_or(ending);
    let is_recording = [TapeFormat::Wav, TapeFormat::Opus].iter().any(|format| format.ending() == format!(".{ending}"));
    let (seconds, nanos) = Uuid::parse_str(id).ok().filter(|_| is_recording)?.get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(i64::from(nanos / 1_000_000))
}

fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_destroyed_unless_somebody_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let day = 86_400_000;
        let id = |days: u64| {
            let at = uuid::Timestamp::from_unix(uuid::NoContext, days * 86_400, 0);
            Uuid::new_v7(at).to_string()
        };
        let (old, held, young) = (id(10), id(10), id(35));
        for name in [
            format!("{old}.wav.sealed"),
            format!("{old}.key"),
            format!("{old}.json"),
            format!("{held}.ogg"),
            format!("{held}.hold"),
            format!("{young}.wav"),
            "notes.wav".to_owned(),
        ] {
            fs::write(folder.path().join(name), "x").unwrap();
        }

        let cleared = clear(folder.path(), Duration::from_secs(30 * 86_400), 41 * day).unwrap();

        assert_eq!(cleared, 1);
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut left: Vec<String> = names.collect();
        left.sort();
        let mut expected = [
            format!("{held}.ogg"),
            format!("{held}.hold"),
            format!("{young}.wav"),
            "deleted.jsonl".to_owned(),
            "notes.wav".to_owned(),
        ];
        expected.sort();
        assert_eq!(left, expected);
        let proof = fs::read_to_string(folder.path().join("deleted.jsonl")).unwrap();
        assert!(proof.contains(&format!("{old}.wav.sealed")) && proof.contains(r#""key_destroyed":true"#), "{proof}");
    }
}
