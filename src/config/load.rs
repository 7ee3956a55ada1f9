//! Reading `sip-config/` from the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::check::{self, At, Checked, Connectors, Mistake, Tree, is_id};
use super::diagnostic::{Diagnostic, Diagnostics, code};
use super::plan::plan_routes;
use super::schema::{FileKind, validate};
use super::source::{Source, move_addresses, without_controls};
use super::{Config, secret};
use crate::model::limits;
use crate::stir::{SigningKey, Trust};

/// How a configuration is read.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the agent room knows.
    pub connectors: Connectors,
    /// Addresses that stand elsewhere for this run, from and to. Wherever a text of the files holds one as a whole
    /// `host:port` — a listener, a URL, a SIP URI, an origin — the other takes its place, before anything is checked.
    /// It is how the demonstration moves out of the way of ports that are taken, without touching the files.
    pub moved: Vec<(SocketAddr, SocketAddr)>,
}

/// Reads and checks a configuration.
///
/// # Errors
/// Everything that is wrong with it, warnings included. Without an error the warnings come beside the configuration.
pub fn load(dir: &Path, options: &Options) -> Result<(Config, Diagnostics), Diagnostics> {
    let mut reading =
        Reading { dir, options, sources: BTreeMap::new(), mistakes: Vec::new(), touched: BTreeSet::new() };
    let Some(tree) = reading.tree() else {
        return Err(reading.diagnostics());
    };
    let Checked { found, wanted, parts } = check::check(&tree, options.connectors);
    reading.take(found);
    let prompts = dir.join(parts.gateway.as_ref().map(|gateway| gateway.prompts.clone()).unwrap_or_default());
    if parts.gateway.is_some() {
        reading.clips(&prompts, wanted.clips);
    }
    reading.secrets(wanted.secrets);
    reading.keys(wanted.keys);
    reading.trust(wanted.trust);
    if reading.mistakes.len() >= limits::CONFIG_MISTAKES_KEPT {
        // Behind that many warnings an error may have been forgotten.
        let what = "there are more mistakes here than can be kept";
        reading.mistakes.push(Mistake::error(code::TOO_MANY_FILES, At::file("."), what));
    }
    let revision = reading.revision();
    let diagnostics = reading.diagnostics();
    match parts.gateway {
        Some(mut gateway) if diagnostics.errors() == 0 => {
            gateway.prompts = prompts;
            gateway.identity.trust = gateway.identity.trust.map(|trust| dir.join(trust));
            let config = Config {
                routes: plan_routes(&revision, parts.routes, &parts.agents, &parts.workflows),
                revision,
                dir: dir.to_owned(),
                gateway,
                trunks: parts.trunks,
                endpoints: parts.endpoints,
                agents: parts.agents,
                actions: parts.actions,
                workflows: parts.workflows,
            };
            Ok((config, diagnostics))
        }
        _ => Err(diagnostics),
    }
}

struct Reading<'a> {
    dir: &'a Path,
    options: &'a Options,
    sources: BTreeMap<String, Source>,
    mistakes: Vec<Mistake>,
    /// Tables in which something is wrong already: file and pointer.
    touched: BTreeSet<(String, String)>,
}

impl Reading<'_> {
    fn tree(&mut self) -> Option<Tree> {
        let files = self.files()?;
        let mut tree = Tree::default();
        let mut len = 0;
        for name in &files {
            let text = self.text(name);
            len += text.as_ref().map_or(0, String::len);
            if len > limits::CONFIG_LEN_MAX {
                let what = format!("the files here are longer than {} bytes together", limits::CONFIG_LEN_MAX);
                self.mistakes
                    .push(Mistake::error(code::TOO_MANY_FILES, At::file("."), what).hint("is this the right folder?"));
                return None;
            }
            let Some(text) = text else {
                tree.broken.insert(name.trim_end_matches(".toml").to_owned());
                continue;
            };
            self.file(name, text, &mut tree);
        }
        for needed in ["gateway.toml", "routes.toml"] {
            if !files.contains(needed) {
                self.mistakes.push(
                    Mistake::error(code::MISSING_FILE, At::file(needed), "this file must be there")
                        .hint(format!("write {needed}; sip-config/examples/minimal shows a small one")),
                );
            }
        }
        Some(tree)
    }

    /// The names of all files that are ours, relative, with `/`.
    fn files(&mut self) -> Option<BTreeSet<String>> {
        let mut files = BTreeSet::new();
        for (name, is_dir) in self.entries("")? {
            if is_dir {
                if FOLDERS.contains(&name.as_str()) {
                    self.folder(&name, &mut files);
                } else if let Some(meant) = near(&name, &FOLDERS) {
                    self.mistakes.push(
                        Mistake::error(code::UNKNOWN_FILE, At::file(&name), "nobody reads this folder")
                            .hint(format!("did you mean `{meant}`?")),
                    );
                }
            } else if TOP_FILES.contains(&name.as_str()) {
                files.insert(name);
            } else if name.ends_with(".toml") {
                self.mistakes.push(
                    Mistake::error(code::UNKNOWN_FILE, At::file(&name), "nobody reads this file")
                        .near(&name, TOP_FILES)
                        .hint(format!("known here: {}; objects stand in {}", TOP_FILES.join(", "), FOLDERS.join(", "))),
                );
            }
        }
        if files.len() > limits::CONFIG_FILES_MAX {
            let what = format!("there are more than {} files here", limits::CONFIG_FILES_MAX);
            self.mistakes.push(
                Mistake::error(code::TOO_MANY_FILES, At::file("."), what)
                    .hint("is this the right folder? Nothing was read"),
            );
            return None;
        }
        Some(files)
    }

    fn folder(&mut self, folder: &str, files: &mut BTreeSet<String>) {
        for (name, is_dir) in self.entries(folder).unwrap_or_default() {
            let path = format!("{folder}/{name}");
            let stem = name.strip_suffix(".toml");
            match stem {
                _ if is_dir => {
                    self.mistakes.push(Mistake::warning(
                        code::UNKNOWN_FILE,
                        At::file(&path),
                        "nobody reads this folder",
                    ));
                }
                Some(stem) if is_id(stem) => {
                    files.insert(path);
                }
                Some(stem) => self.mistakes.push(
                    Mistake::error(
                        code::BAD_ID,
                        At::file(&path),
                        format!("{stem:?} is no id, and a file's name is its id"),
                    )
                    .hint("name it with small letters, digits, `-` and `_`"),
                ),
                None if folder == "agents" && name.ends_with(".md") => {
                    files.insert(path);
                }
                None if name.ends_with(".md") => {}
                None => self.mistakes.push(
                    Mistake::warning(code::UNKNOWN_FILE, At::file(&path), "nobody reads this file")
                        .hint("objects stand in files ending in .toml"),
                ),
            }
        }
    }

    /// Names in a folder, hidden ones and an editor's copies left out, and whether each is a folder.
    fn entries(&mut self, folder: &str) -> Option<Vec<(String, bool)>> {
        let path = if folder.is_empty() { self.dir.to_owned() } else { self.dir.join(folder) };
        let listed = match fs::read_dir(&path) {
            Ok(listed) => listed,
            Err(error) => {
                let name = if folder.is_empty() { path.display().to_string() } else { folder.to_owned() };
                self.mistakes.push(
                    Mistake::error(code::UNREADABLE, At::file(name), format!("this folder cannot be read: {error}"))
                        .hint("name the folder that holds gateway.toml"),
                );
                return None;
            }
        };
        let mut entries = Vec::new();
        // One more than allowed is enough to know that there are too many.
        for entry in listed.take(limits::CONFIG_FILES_MAX + 1).filter_map(Result::ok) {
            let Ok(name) = entry.file_name().into_string() else {
                self.mistakes.push(Mistake::warning(
                    code::UNKNOWN_FILE,
                    At::file(if folder.is_empty() { "." } else { folder }),
                    "a file here has a name that is not UTF-8 and is not read",
                ));
                continue;
            };
            if !name.starts_with('.') && !name.ends_with('~') {
                // Follows links: a mounted ConfigMap is made of them.
                let is_dir = fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir());
                entries.push((name, is_dir));
            }
        }
        entries.sort_unstable();
        Some(entries)
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let fault = match read(&self.dir.join(name)) {
            Ok(text) => return Some(text),
            Err(fault) => fault,
        };
        self.mistakes.push(Mistake::error(code::UNREADABLE, At::file(name), fault));
        None
    }

    fn file(&mut self, name: &str, text: String, tree: &mut Tree) {
        if let Some(note) = name.strip_prefix("agents/").filter(|note| note.ends_with(".md")) {
            tree.texts.insert(note.to_owned(), text.clone());
            self.sources.insert(name.to_owned(), Source::plain(text));
            return;
        }
        let (source, value) = Source::toml(text);
        self.sources.insert(name.to_owned(), source);
        let id = name.trim_end_matches(".toml");
        let mut value = match value {
            Ok(value) => value,
            Err(error) => {
                let at = At::file(name).offset(error.span.start);
                self.mistakes.push(Mistake::error(code::SYNTAX, at, error.message));
                tree.broken.insert(id.to_owned());
                return;
            }
        };
        move_addresses(&mut value, &self.options.moved);
        let stem = id.rsplit('/').next().unwrap_or(id).to_owned();
        let read = match name.split_once('/').map_or(name, |(folder, _)| folder) {
            "gateway.toml" => self.raw(FileKind::Gateway, name, value).map(|file| tree.gateway = Some(file)),
            "routes.toml" => self.raw(FileKind::Routes, name, value).map(|file| tree.routes = Some(file)),
            "webhooks.toml" => self.raw(FileKind::Webhooks, name, value).map(|file| tree.webhooks = Some(file)),
            "trunks" => self.raw(FileKind::Trunk, name, value).map(|file| drop(tree.trunks.insert(stem, file))),
            "agents" => self.raw(FileKind::Agent, name, value).map(|file| drop(tree.agents.insert(stem, file))),
            "actions" => self.raw(FileKind::Action, name, value).map(|file| drop(tree.actions.insert(stem, file))),
            _ => self.raw(FileKind::Workflow, name, value).map(|file| drop(tree.workflows.insert(stem, file))),
        };
        if read.is_none() {
            tree.broken.insert(id.to_owned());
        }
    }

    fn raw<T: DeserializeOwned>(&mut self, kind: FileKind, name: &str, mut value: Value) -> Option<T> {
        let found = validate(kind, name, &mut value);
        let room = limits::CONFIG_MISTAKES_KEPT.saturating_sub(self.mistakes.len());
        self.mistakes.extend(found.mistakes.into_iter().take(room));
        self.touched.extend(found.touched.into_iter().map(|pointer| (name.to_owned(), pointer)));
        match serde_json::from_value(value) {
            Ok(file) => Some(file),
            Err(_) => {
                // The schema lets a number as 1.0 through where a whole one is wanted; nothing else gets here.
                let what = "a number in this file has a fraction where a whole one is wanted";
                self.mistakes.push(Mistake::error(code::MALFORMED, At::file(name), what));
                None
            }
        }
    }

    /// Adds what the check found, but for what is only missing because a key beside it was wrong.
    fn take(&mut self, found: Vec<Mistake>) {
        let touched = &self.touched;
        let is_said = |mistake: &Mistake| {
            let pointer = mistake.at.pointer.as_str();
            let parent = &pointer[..pointer.rfind('/').unwrap_or(0)];
            // Marked on a key, what is missing stands beside it; marked on a value, in it or in its place.
            let own = (!mistake.at.on_key).then_some(pointer);
            own.into_iter().chain([parent]).any(|p| touched.contains(&(mistake.at.file.clone(), p.to_owned())))
        };
        self.mistakes.extend(found.into_iter().filter(|mistake| !(mistake.is_absence && is_said(mistake))));
    }

    fn clips(&mut self, prompts: &Path, clips: Vec<(At, String)>) {
        let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut is_there = None;
        for (at, name) in clips {
            if !*is_there.get_or_insert_with(|| prompts.is_dir()) {
                let at = At::file("gateway.toml").key("prompts").key("dir");
                let what = format!("the folder of prompts is not there: {}", prompts.display());
                self.mistakes.push(
                    Mistake::error(code::NO_CLIP, at, what)
                        .hint("write dir under [prompts], relative to the configuration's folder"),
                );
                return;
            }
            let fault = known.entry(name.clone()).or_insert_with(|| clip_fault(&prompts.join(&name)));
            if let Some(fault) = fault {
                let message = format!("clip {name:?} {fault}");
                let siblings = siblings(prompts, &name);
                self.mistakes.push(Mistake::error(code::NO_CLIP, at, message).near(&name, siblings));
            }
        }
    }

    fn secrets(&mut self, secrets: Vec<(At, crate::actions::SecretRef)>) {
        for (at, from) in secrets {
            if let Err(error) = secret(self.dir, &from) {
                let mistake = Mistake::warning(code::NO_SECRET, at, error.to_string());
                self.mistakes.push(mistake.hint("it is not needed to check, and must be there to run"));
            }
        }
    }

    /// Keys that are there, and are none. One that is not there is a credential that is not there.
    fn keys(&mut self, keys: Vec<(At, crate::actions::SecretRef)>) {
        for (at, from) in keys {
            let Ok(key) = secret(self.dir, &from) else { continue };
            if let Err(error) = SigningKey::from_pem(&key) {
                let mistake = Mistake::error(code::KEY, at, format!("this is {error}"));
                self.mistakes
                    .push(mistake.hint("`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one"));
            }
        }
    }

    fn trust(&mut self, list: Option<(At, String)>) {
        let Some((at, name)) = list else { return };
        let fault = match read(&self.dir.join(&name)) {
            Ok(pem) => Trust::from_pem(pem.as_bytes()).err().map(|error| error.to_string()),
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            let mistake = Mistake::error(code::NO_TRUST, at, format!("{name:?} is no list of certificates: {fault}"));
            self.mistakes
                .push(mistake.hint("write certificates in PEM one after the other, as the authority gives them out"));
        }
    }

    /// The first 12 hexadecimal digits of SHA-256 over names and contents, in the order of names.
    fn revision(&self) -> String {
        let mut hash = Sha256::new();
        for (name, source) in &self.sources {
            for part in [name.as_bytes(), source.text.as_bytes()] {
                // The length in front: no two trees give the same bytes.
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    fn diagnostic(&self, span: Range<usize>, mistake: Mistake) -> Diagnostic {
        let source = self.sources.get(&mistake.at.file);
        let (line, column) = source.map_or((1, 1), |source| source.line_column(span.start));
        let meant = mistake.near.as_ref().and_then(|(written, known)| near(written, known));
        let hint = match meant {
            Some(meant) => Some(format!("did you mean `{meant}`?")),
            None => mistake.hint.filter(|hint| !hint.is_empty()),
        };
        Diagnostic {
            severity: mistake.severity,
            code: mistake.code,
            file: without_controls(&mistake.at.file),
            line,
            column,
            span,
            message: short(&without_controls(&mistake.message)),
            hint: hint.map(|hint| short(&without_controls(&hint))),
        }
    }

    /// Finds the lines, sorts, and cuts at the bound.
    fn diagnostics(&mut self) -> Diagnostics {
        let mut placed: Vec<(Range<usize>, Mistake)> = std::mem::take(&mut self.mistakes)
            .into_iter()
            .map(|mistake| {
                (self.sources.get(&mistake.at.file).map_or(0..0, |source| source.span(&mistake.at)), mistake)
            })
            .collect();
        let by_place = |(a, m): &(Range<usize>, Mistake), (b, n): &(Range<usize>, Mistake)| {
            (&m.at.file, a.start, m.severity, m.code).cmp(&(&n.at.file, b.start, n.severity, n.code))
        };
        placed.sort_by(by_place);
        placed.dedup();
        let left_out = placed.len().saturating_sub(limits::CONFIG_MISTAKES_MAX);
        if left_out > 0 {
            // Errors before warnings: a warning must not push out the error that stops us.
            placed.sort_by_key(|(_, mistake)| mistake.severity);
            placed.truncate(limits::CONFIG_MISTAKES_MAX);
            placed.sort_by(by_place);
        }
        let list: Vec<Diagnostic> = placed.into_iter().map(|(span, mistake)| self.diagnostic(span, mistake)).collect();
        let named: BTreeSet<&String> = list.iter().map(|found| &found.file).collect();
        let sources = self.sources.iter().filter(|(name, _)| named.contains(name));
        let sources = sources.map(|(name, source)| (name.clone(), source.blotted())).collect();
        Diagnostics { list, left_out, sources }
    }
}

/// Reads a text file of bounded length; the error says what is wrong with it.
fn read(path: &Path) -> Result<String, String> {
    let meta = fs::metadata(path).map_err(|error| format!("this file cannot be read: {error}"))?;
    // A pipe would keep us waiting.
    if !meta.is_file() {
        return Err("this is no file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limits::CONFIG_FILE_LEN_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("this file cannot be read: {error}"))?;
    if bytes.len() as u64 > limits::CONFIG_FILE_LEN_MAX {
        return Err(format!("this file is longer than {} bytes", limits::CONFIG_FILE_LEN_MAX));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("this file is not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// What is wrong with a clip; the samples are looked at when it is loaded.
fn clip_fault(path: &Path) -> Option<String> {
    if !path.exists() {
        return Some("is not there".to_owned());
    }
    match hound::WavReader::open(path) {
        Ok(reader) if reader.duration() == 0 => Some("holds no audio".to_owned()),
        Ok(_) => None,
        Err(error) => Some(format!("is no WAV file: {error}")),
    }
}

/// Names of the clips in the same folder, for "did you mean".
fn siblings(prompts: &Path, name: &str) -> Vec<String> {
    let folder = name.rfind('/').map_or("", |end| &name[..=end]);
    let Ok(listed) = fs::read_dir(prompts.join(folder)) else { return Vec::new() };
    let names = listed.take(limits::CONFIG_FILES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".wav")).map(|n| format!("{folder}{n}")).collect();
    names.sort_unstable();
    names
}

/// A sentence that fits a screen, whatever the file put into it.
fn short(text: &str) -> String {
    let end = text.floor_char_boundary(SENTENCE_LEN_MAX);
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}

/// The known word that a written one was probably meant to be.
fn near<'a, S: AsRef<str>>(written: &str, known: &'a [S]) -> Option<&'a str> {
    // Likeness takes the product of both lengths; nobody mistypes a word as long as this.
    let is_word = |one: &&str| one.len() <= limits::VAR_NAME_LEN_MAX;
    let likeness = |one: &str| strsim::jaro_winkler(written, one);
    is_word(&written).then_some(())?;
    let best = known.iter().map(AsRef::as_ref).filter(is_word).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LIKE && best != written).then_some(best)
}

/// Jaro-Winkler likeness from which a word is suggested: `agnet` is 0.96 like `agent`, `menu` 0.6 like `say`.
const LIKE: f64 = 0.85;

/// Longest message or hint in bytes; the longest of ours, a list of all keys of an agent, has 250.
const SENTENCE_LEN_MAX: usize = 500;

const TOP_FILES: [&str; 3] = ["gateway.toml", "routes.toml", "webhooks.toml"];
const FOLDERS: [&str; 4] = ["trunks", "agents", "actions", "workflows"];
