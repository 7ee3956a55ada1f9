//! Prompts and music, loaded once and shared by all calls.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::counter;
use tracing::warn;

use crate::actions::Playing;
use crate::media::{Clip, encode_ulaw, load_clip};
use crate::model::SAMPLE_RATE;
use crate::transfer::RINGING_TONE;

/// The clips of one configuration.
#[derive(Debug)]
pub(super) struct Clips {
    dir: Mutex<PathBuf>,
    /// By name; `None` for a name that has no usable file, so that it is looked for once.
    known: Mutex<HashMap<String, Option<Clip>>>,
    ringing: Clip,
}

impl Clips {
    pub(super) fn new(dir: PathBuf) -> Clips {
        Clips { dir: Mutex::new(dir), known: Mutex::default(), ringing: ringing_tone() }
    }

    /// Looks for all files anew, in this folder; what plays goes on.
    pub(super) fn look_in(&self, dir: PathBuf) {
        *self.dir.lock().unwrap_or_else(PoisonError::into_inner) = dir;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What is to be played. Clips without a usable file are left out and counted.
    pub(super) async fn find(self: &Arc<Clips>, what: &Playing) -> Vec<Clip> {
        let mut found = Vec::with_capacity(what.clips.len());
        for name in &what.clips {
            let name = name.reveal();
            let clip = match self.known(name) {
                Some(clip) => clip,
                None => self.load(name).await,
            };
            match clip {
                Some(clip) => found.push(clip),
                None => counter!("ringback_clips_missing_total").increment(1),
            }
        }
        if found.is_empty() && what.repeat {
            // Whoever waits must hear that the line lives (rule R10 of the feature table).
            found.push(self.ringing.clone());
        }
        found
    }

    fn known(&self, name: &str) -> Option<Option<Clip>> {
        if name == RINGING_TONE {
            return Some(Some(self.ringing.clone()));
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    async fn load(self: &Arc<Clips>, name: &str) -> Option<Clip> {
        let path = self.path_of(name)?;
        let loaded = tokio::task::spawn_blocking(move || load_clip(&path)).await;
        let clip = match loaded {
            Ok(Ok(clip)) => Some(clip),
            Ok(Err(error)) => {
                // The name may hold a customer's; the reason does not.
                warn!(%error, "a prompt cannot be played");
                None
            }
            Err(_) => None,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CLIPS_MAX {
            known.clear();
        }
        known.insert(name.to_owned(), clip.clone());
        clip
    }

    /// A name may hold a variable, so it is not trusted to stay in the folder.
    fn path_of(&self, name: &str) -> Option<PathBuf> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        (inside && !name.is_empty()).then(|| self.dir.lock().unwrap_or_else(PoisonError::into_inner).join(name))
    }
}

/// European ringing tone, ITU-T E.180 supplement 2: 425 Hz, one second on, four off; −20 dBm0 or so.
fn ringing_tone() -> Clip {
    let samples = 5 * SAMPLE_RATE;
    let tone = (0..samples).map(|at| {
        let phase = f64::from(at) / f64::from(SAMPLE_RATE) * 425.0 * std::f64::consts::TAU;
        let loud = if at < SAMPLE_RATE { 3_000.0 } else { 0.0 };
        // Within ±3000, so the cast is exact enough.
        #[allow(clippy::cast_possible_truncation)]
        encode_ulaw((phase.sin() * loud) as i16)
    });
    tone.collect::<Vec<u8>>().into()
}

/// Clips kept in memory; names with variables could make any number of them. When full, all are forgotten and
/// loaded again as needed.
const CLIPS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn music_that_is_missing_becomes_ringing_tone() {
        let clips = Arc::new(Clips::new(PathBuf::from("no-such-folder")));
        let music = Playing::music("music.wav".to_owned().into());
        let words = Playing { repeat: false, ..music.clone() };

        assert_eq!(clips.find(&music).await.len(), 1);
        assert_eq!(clips.find(&words).await.len(), 0);
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let clips = Clips::new(PathBuf::from("prompts"));

        assert_eq!(clips.path_of("names/Ada.wav"), Some(PathBuf::from("prompts/names/Ada.wav")));
        assert_eq!(clips.path_of("../secrets/crm"), None);
        assert_eq!(clips.path_of("/etc/passwd"), None);
        assert_eq!(clips.path_of("names/../../x"), None);
        assert_eq!(clips.path_of(""), None);
    }
}
