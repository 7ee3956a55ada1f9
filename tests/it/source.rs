//! The repository's own text, read for the tests that hold it to its rules.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file, in three readings of the same length and lines.
pub(crate) struct Source {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// Comments, the insides of literals and tests blanked out.
    pub(crate) code: String,
    /// Comments blanked out only.
    pub(crate) spoken: String,
}

/// The root of the repository, unless `RINGBACK_LAB_ROOT` names another checkout to be judged.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("RINGBACK_LAB_ROOT").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// Every Rust file under a folder of the repository, sorted by path.
pub(crate) fn rust_files(folder: &str) -> Vec<Source> {
    files(folder, "rs").into_iter().map(|(path, text)| Source::new(path, text)).collect()
}

/// Every file with this extension under a folder of the repository, with its path from the root, sorted.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let root = root();
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), text)
    };
    paths.iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Source {
        let spoken = blank(&text, false);
        let mut code = blank(&text, true);
        if path.starts_with("src/") {
            blank_tests(&mut code);
        }
        if path.ends_with("/tests.rs") || path.contains("/tests/") && path.starts_with("src/") {
            code = whitened(&code);
        }
        Source { path, text, code, spoken }
    }

    /// The room a file of `src/` belongs to; `lib` and `main` are their own.
    pub(crate) fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split_once('/').map_or_else(|| inside.trim_end_matches(".rs"), |(room, _)| room)
    }
}

/// Lines of a reading that hold one of the words, as `path:line: words`, numbered from 1.
pub(crate) fn lines_with<'a>(path: &str, reading: &'a str, words: &'a [&str]) -> Vec<String> {
    let hits = reading
        .lines()
        .enumerate()
        .flat_map(|(at, line)| words.iter().filter(move |word| has_word(line, word)).map(move |word| (at + 1, *word)));
    hits.map(|(line, word)| format!("{path}:{line}: {word}")).collect()
}

/// Whether a line holds this text, and not merely inside a longer name.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let inside_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let starts_open = !word.starts_with(inside_name) || !before.is_some_and(inside_name);
        let ends_open = !word.ends_with(inside_name) || !after.is_some_and(inside_name);
        starts_open && ends_open
    })
}

// Blanks comments, and what stands inside literals when asked to, keeping every line where it is.
fn blank(text: &str, literals_too: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, kind) = token(&chars, at);
        for (offset, c) in chars[at..end].iter().enumerate() {
            let edge = offset == 0 || at + offset + 1 == end;
            let hidden = match kind {
                Token::Code => false,
                Token::Comment => true,
                Token::Literal => literals_too && !edge,
            };
            out.push(if hidden && *c != '\n' { ' ' } else { *c });
        }
        at = end;
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Code,
    Comment,
    Literal,
}

fn token(chars: &[char], at: usize) -> (usize, Token) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => (find(chars, at, |c| c == '\n'), Token::Comment),
        '/' if next == Some('*') => (block_comment(chars, at), Token::Comment),
        'r' if matches!(next, Some('"' | '#')) && !in_name(chars, at) => raw_string(chars, at),
        '"' => (string(chars, at), Token::Literal),
        '\'' => char_literal(chars, at),
        _ => (at + 1, Token::Code),
    }
}

fn in_name(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() && chars[at - 1] != 'b' || chars[at - 1] == '_')
}

fn find(chars: &[char], from: usize, end: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| end(chars[*at])).unwrap_or(chars.len())
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0;
    let mut at = from;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], from: usize) -> (usize, Token) {
    let quote = find(chars, from + 1, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return (from + 1, Token::Code);
    }
    let hashes = quote - from - 1;
    let closes = |at: usize| chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
    let end = (quote + 1..chars.len()).find(|at| closes(*at)).unwrap_or(chars.len() - 1);
    (end + 1 + hashes, Token::Literal)
}

fn string(chars: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

// A lifetime is code, `'a'` and `'\n'` are literals.
fn char_literal(chars: &[char], from: usize) -> (usize, Token) {
    match (chars.get(from + 1), chars.get(from + 2)) {
        (Some('\\'), _) => ((find(chars, from + 3, |c| c == '\'') + 1).min(chars.len()), Token::Literal),
        (Some(_), Some('\'')) => (from + 3, Token::Literal),
        _ => (from + 1, Token::Code),
    }
}

// `#[cfg(test)]` and the item under it, to its closing brace or semicolon.
fn blank_tests(code: &mut String) {
    while let Some(from) = test_attribute(code) {
        let body = code[from..].find(['{', ';']).map_or(code.len(), |at| from + at);
        let end = if code[body..].starts_with('{') { closing_brace(code, body) } else { (body + 1).min(code.len()) };
        let white = whitened(&code[from..end]);
        code.replace_range(from..end, &white);
    }
}

fn test_attribute(code: &str) -> Option<usize> {
    ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|attribute| code.find(attribute)).min()
}

fn closing_brace(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return from + at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn whitened(code: &str) -> String {
    code.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

#[test]
fn comments_literals_and_tests_are_told_from_code() {
    let text = r##"fn a<'b>(x: &'b str) { /* sleep( */ y('"', r#"sleep("#, "sl\"eep(") } // sleep(
#[cfg(test)]
mod tests { fn t() { sleep(1) } }
fn z() { nap(1) }
"##;

    let source = Source::new("src/room/file.rs".to_owned(), text.to_owned());

    assert!(!source.code.contains("sleep("), "{}", source.code);
    assert_eq!(source.code.lines().count(), text.lines().count());
    assert!(source.code.contains("fn a<'b>(x: &'b str)") && source.code.contains("fn z() { nap(1) }"));
    assert!(source.spoken.contains(r##"r#"sleep("#"##) && !source.spoken.contains("// sleep"));
    assert_eq!(source.room(), "room");
}
