//! Fetching a credential that the configuration refers to.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::check::inside;
use crate::actions::SecretRef;
use crate::model::{Secret, limits};

/// Why a credential is not to be had. It names the place, never the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError {
    what: String,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for SecretError {}

/// The credential behind a reference. It is fetched anew each time, so a changed file counts at once.
///
/// # Errors
/// The variable is not set, the file is not there, or lies outside of `dir`, or either is empty, too long or not text.
pub fn secret(dir: &Path, from: &SecretRef) -> Result<Secret, SecretError> {
    match from {
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(Secret::new(value)),
            Ok(_) => Err(SecretError { what: format!("environment variable {name} is empty") }),
            Err(std::env::VarError::NotPresent) => {
                Err(SecretError { what: format!("environment variable {name} is not set") })
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(SecretError { what: format!("environment variable {name} is not UTF-8") })
            }
        },
        SecretRef::File(name) => file(dir, name),
    }
}

fn file(dir: &Path, name: &str) -> Result<Secret, SecretError> {
    let wrong = |why: &str| SecretError { what: format!("secret file {name:?} {why}") };
    inside(name).map_err(wrong)?;
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => wrong("is not there"),
        std::io::ErrorKind::PermissionDenied => wrong("may not be read"),
        _ => wrong("cannot be read"),
    };
    let home = fs::canonicalize(dir).map_err(gone)?;
    let path = fs::canonicalize(dir.join(name)).map_err(gone)?;
    // A link may lead elsewhere below the folder, as in a mounted Kubernetes secret, and not out of it.
    if !path.starts_with(home) {
        return Err(wrong("leads out of the configuration's folder"));
    }
    if !fs::metadata(&path).map_err(gone)?.is_file() {
        return Err(wrong("is no file"));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limits::SECRET_LEN_MAX + 1).read_to_end(&mut bytes)).map_err(gone)?;
    if bytes.len() as u64 > limits::SECRET_LEN_MAX {
        return Err(wrong("is too long to be a credential"));
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8"))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(wrong("is empty")),
        value => Ok(Secret::new(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_comes_from_below_the_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("config");
        fs::create_dir_all(home.join("secrets")).unwrap();
        fs::write(home.join("secrets/good"), "whsec_YWJj\r\n").unwrap();
        fs::write(home.join("secrets/empty"), "\n").unwrap();
        fs::write(dir.path().join("outside"), "top").unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), home.join("secrets/link")).unwrap();
        let fetch = |name: &str| secret(&home, &SecretRef::File(name.to_owned())).map_err(|error| error.to_string());

        assert_eq!(fetch("secrets/good").unwrap().reveal(), "whsec_YWJj");
        assert_eq!(fetch("secrets/empty").unwrap_err(), "secret file \"secrets/empty\" is empty");
        assert_eq!(fetch("secrets/none").unwrap_err(), "secret file \"secrets/none\" is not there");
        assert!(fetch("../outside").unwrap_err().contains("outside of its folder"));
        assert!(fetch("secrets/link").unwrap_err().contains("leads out"));
        assert!(fetch("secrets").unwrap_err().contains("is no file"));
    }

    #[test]
    fn a_missing_variable_is_named() {
        let missing = secret(Path::new("."), &SecretRef::Env("RINGBACK_NO_SUCH_VARIABLE".to_owned()));

        assert_eq!(missing.unwrap_err().to_string(), "environment variable RINGBACK_NO_SUCH_VARIABLE is not set");
    }
}
