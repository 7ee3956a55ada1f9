//! The demonstration's files: configuration and audio that travel in the binary, and the folder they are put into.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rust_embed::Embed;
use uuid::Uuid;

use crate::media::{Clip, load_clip};

#[derive(Embed)]
#[folder = "sip-config/examples/demo"]
struct ConfigFiles;

#[derive(Embed)]
#[folder = "audio-fixtures"]
struct AudioFiles;

/// The folder of one demonstration.
#[derive(Clone, Debug)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Unpacks everything into this folder, or a fresh one for the owner only.
    ///
    /// # Errors
    /// What the system says, and about which file.
    pub(super) fn unpack(root: Option<PathBuf>, webhook_secret: &str) -> Result<Files, String> {
        let root = root.unwrap_or_else(|| std::env::temp_dir().join(format!("ringback-demo-{}", Uuid::now_v7())));
        let named = |path: &Path, error: io::Error| format!("unpacking {}: {error}", path.display());
        private_folder(&root).map_err(|error| named(&root, error))?;
        // The gateway writes paths into records, and they must be good from everywhere.
        let root = root.canonicalize().map_err(|error| named(&root, error))?;
        let files = Files { root };
        files.write(webhook_secret).map_err(|(path, error)| named(&path, error))?;
        Ok(files)
    }

    /// Where the configuration is.
    pub(super) fn config(&self) -> PathBuf {
        // As in the repository, because gateway.toml points from here to the prompts.
        self.root.join("sip-config/examples/demo")
    }

    /// Where calls, journals and recordings go.
    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The folder itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// One of the clips, by name.
    ///
    /// # Errors
    /// When there is no such clip, or it cannot be read.
    pub(super) fn clip(&self, name: &str) -> Result<Clip, String> {
        load_clip(&self.root.join("audio-fixtures").join(name)).map_err(|error| format!("{name}: {error}"))
    }

    fn write(&self, webhook_secret: &str) -> Result<(), (PathBuf, io::Error)> {
        for name in ConfigFiles::iter() {
            let file = ConfigFiles::get(&name).map(|file| file.data.into_owned()).unwrap_or_default();
            write(&self.config().join(name.as_ref()), &secret_from_file(file))?;
        }
        for name in AudioFiles::iter().filter(|name| name.ends_with(".wav")) {
            let file = AudioFiles::get(&name).map(|file| file.data.into_owned()).unwrap_or_default();
            write(&self.root.join("audio-fixtures").join(name.as_ref()), &file)?;
        }
        let secret = self.config().join(SECRET_FILE);
        write(&secret, b"")?;
        let private = fs::set_permissions(&secret, fs::Permissions::from_mode(0o600));
        private.and_then(|()| fs::write(&secret, webhook_secret)).map_err(|error| (secret, error))
    }
}

/// The example names an environment variable; a process cannot safely set its own, so the unpacked copy names a file.
fn secret_from_file(file: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(file) {
        Ok(text) => {
            let by_file = format!("{{ file = \"{SECRET_FILE}\" }}");
            text.replace("{ env = \"RINGBACK_DEMO_WEBHOOK_SECRET\" }", &by_file).into_bytes()
        }
        Err(other) => other.into_bytes(),
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), (PathBuf, io::Error)> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).and_then(|()| fs::write(path, bytes)).map_err(|error| (path.to_owned(), error))
}

const SECRET_FILE: &str = "secrets/webhook";
