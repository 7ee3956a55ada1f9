//! A file with its places: TOML made into JSON, and for every JSON pointer the bytes it came from.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

use serde_json::{Map, Value};
use toml_edit::{Document, Item, TableLike};

use super::check::{At, is_env_name};

/// A file that was read.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub text: String,
    places: HashMap<String, Place>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
}

/// Why a text is not TOML.
#[derive(Debug)]
pub(super) struct NotToml {
    pub span: Range<usize>,
    pub message: String,
}

impl Source {
    /// A file that is shown as it is.
    pub(super) fn plain(text: String) -> Source {
        Source { text, places: HashMap::new() }
    }

    /// A TOML file, and its content as JSON.
    pub(super) fn toml(text: String) -> (Source, Result<Value, NotToml>) {
        let parsed = match Document::parse(text.as_str()) {
            Ok(document) => {
                let mut places = HashMap::new();
                let value = table(document.as_table(), "", &mut places);
                Ok((value, places))
            }
            Err(error) => Err(NotToml {
                span: error.span().unwrap_or(0..0),
                // The rest of it repeats the line, which may hold a credential.
                message: error.message().lines().next().unwrap_or("this is not TOML").to_owned(),
            }),
        };
        match parsed {
            Ok((value, places)) => (Source { text, places }, Ok(value)),
            Err(error) => (Source::plain(text), Err(error)),
        }
    }

    /// The bytes a place stands at; of a table, its header; of what is not there, what it would stand in.
    pub(super) fn span(&self, at: &At) -> Range<usize> {
        let mut pointer = at.pointer.as_str();
        let place = loop {
            match self.places.get(pointer) {
                Some(place) => break place.clone(),
                None if pointer.is_empty() => break Place::default(),
                None => pointer = &pointer[..pointer.rfind('/').unwrap_or(0)],
            }
        };
        let exact = pointer == at.pointer;
        let span = match (at.on_key || !exact, place.key, place.value) {
            (true, Some(key), _) | (false, Some(key), None) => key,
            (_, _, Some(value)) => value,
            (_, None, None) => 0..0,
        };
        match at.offset.filter(|_| exact) {
            Some(offset) if self.places.is_empty() => self.word(offset),
            Some(offset) => self.word(span.start + undecoded(&self.text[span.clone()], offset)),
            None => self.first_line(span),
        }
    }

    /// Line and column of a byte, both from 1; the column in characters.
    pub(super) fn line_column(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(at)];
        let line_begin = before.rfind('\n').map_or(0, |found| found + 1);
        (before.matches('\n').count() + 1, before[line_begin..].chars().count() + 1)
    }

    /// The text with everything blotted out that looks like a credential, byte for byte, and without characters that a
    /// terminal would obey.
    pub(super) fn blotted(&self) -> String {
        let mut bytes = self.text.clone().into_bytes();
        let mut blot = |span: Range<usize>| {
            for byte in &mut bytes[span] {
                if *byte != b'\n' && *byte != b'"' && *byte != b'\'' {
                    *byte = b'*';
                }
            }
        };
        for (pointer, place) in &self.places {
            let Some(span) = place.value.clone().filter(|span| self.is_text(span)) else { continue };
            let mut parts = pointer.rsplit('/');
            let (last, parent) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let written = self.text[span.clone()].trim_matches(['"', '\'']);
            if is_credential(last) || (last == "env" && is_credential(parent) && !is_env_name(written)) {
                blot(span);
            }
        }
        if self.places.is_empty() {
            // Not TOML: by the look of the line.
            let mut begin = 0;
            for line in self.text.split_inclusive('\n') {
                if let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_credential(key)) {
                    blot(begin + key.len() + 1..begin + key.len() + 1 + value.len());
                }
                begin += line.len();
            }
        }
        // Only whole characters were replaced, quotes and line ends stayed; anything else would be shown as nothing.
        without_controls(&String::from_utf8(bytes).unwrap_or_default())
    }

    fn is_text(&self, span: &Range<usize>) -> bool {
        self.text[span.clone()].starts_with(['"', '\''])
    }

    /// The word that begins at a byte, or the braces, or the one character; nothing at the end of a line.
    fn word(&self, at: usize) -> Range<usize> {
        let at = self.text.floor_char_boundary(at.min(self.text.len()));
        let rest = &self.text[at..];
        let end = match rest.chars().next() {
            None | Some('\n') => 0,
            Some('{') => rest.find(|c| c != '{').unwrap_or(rest.len()),
            Some(first) if first.is_alphanumeric() => {
                rest.find(|c: char| !(c.is_alphanumeric() || "._-[]".contains(c))).unwrap_or(rest.len())
            }
            Some(first) => first.len_utf8(),
        };
        self.first_line(at..at + end)
    }

    fn first_line(&self, span: Range<usize>) -> Range<usize> {
        let end = self.text[span.clone()].find('\n').map_or(span.end, |found| span.start + found);
        span.start..self.text.floor_char_boundary(end.min(span.start + SPAN_LEN_MAX))
    }
}

/// Longest mark in bytes: what fits beside a line number.
const SPAN_LEN_MAX: usize = 100;

/// A text of the same length that can be shown on a terminal: control characters become question marks.
pub(super) fn without_controls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' && letter != '\t' {
            shown.extend(std::iter::repeat_n('?', letter.len_utf8()));
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Whether a key names a credential.
pub(super) fn is_credential(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "token", "password", "passwd", "authorization", "bearer", "api_key", "api-key", "apikey", "credential"]
        .iter()
        .any(|word| key.contains(word))
}

fn table(from: &dyn TableLike, pointer: &str, places: &mut HashMap<String, Place>) -> Value {
    let mut members = Map::new();
    for (name, item) in from.iter() {
        let at = At { pointer: pointer.to_owned(), ..At::file("") }.key(name).pointer;
        let key = from.get_key_value(name).and_then(|(key, _)| key.span());
        places.insert(at.clone(), Place { key, value: item.span().filter(|span| !span.is_empty()) });
        members.insert(name.to_owned(), value_of(item, &at, places));
    }
    Value::Object(members)
}

fn value_of(item: &Item, at: &str, places: &mut HashMap<String, Place>) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Table(inner) => table(inner, at, places),
        Item::ArrayOfTables(tables) => {
            let items = tables.iter().enumerate().map(|(n, inner)| {
                let at = format!("{at}/{n}");
                places.insert(at.clone(), Place { key: None, value: inner.span() });
                table(inner, &at, places)
            });
            Value::Array(items.collect())
        }
        Item::Value(value) => json_of(value, at, places),
    }
}

fn json_of(value: &toml_edit::Value, at: &str, places: &mut HashMap<String, Place>) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::String(text.value().clone()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        // JSON has no infinity; what is no number becomes null, which fits nowhere.
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(flag) => Value::Bool(*flag.value()),
        toml_edit::Value::Datetime(time) => Value::String(time.value().to_string()),
        toml_edit::Value::Array(list) => {
            let items = list.iter().enumerate().map(|(n, item)| {
                let at = format!("{at}/{n}");
                places.insert(at.clone(), Place { key: None, value: item.span() });
                json_of(item, &at, places)
            });
            Value::Array(items.collect())
        }
        toml_edit::Value::InlineTable(inner) => table(inner, at, places),
    }
}

/// The byte of a TOML string as written at which the byte `offset` of its value stands (TOML 1.0, "String").
fn undecoded(written: &str, offset: usize) -> usize {
    let is_basic = written.starts_with('"');
    let mut at = match written {
        text if text.starts_with("\"\"\"") || text.starts_with("'''") => {
            // A line end right behind the quotes does not count.
            3 + if text[3..].starts_with("\r\n") { 2 } else { usize::from(text[3..].starts_with('\n')) }
        }
        text if text.starts_with(['"', '\'']) => 1,
        _ => return 0,
    };
    let mut decoded = 0;
    while let Some(letter) = written[at..].chars().next() {
        let rest = &written[at + letter.len_utf8()..];
        let is_escape = is_basic && letter == '\\';
        if is_escape && rest.starts_with(char::is_whitespace) {
            // A line ending in a backslash goes on at the next word.
            at += 1 + rest.len() - rest.trim_start().len();
            continue;
        }
        if decoded >= offset {
            break;
        }
        if !is_escape {
            at += letter.len_utf8();
            decoded += letter.len_utf8();
            continue;
        }
        let digits = match rest.chars().next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let code = rest.get(1..1 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        decoded += code.filter(|_| digits > 0).and_then(char::from_u32).map_or(1, char::len_utf8);
        at += 2 + digits;
    }
    at.min(written.len())
}

/// Replaces addresses in every text of a document, where they stand as a whole `host:port`.
pub(super) fn move_addresses(value: &mut Value, moved: &[(SocketAddr, SocketAddr)]) {
    match value {
        Value::String(text) => {
            for (from, to) in moved {
                if let Some(changed) = moved_in(text, &from.to_string(), &to.to_string()) {
                    *text = changed;
                    // One address stands in one text; moving it again would follow our own change.
                    break;
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_addresses(item, moved)),
        Value::Object(members) => members.values_mut().for_each(|item| move_addresses(item, moved)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn moved_in(text: &str, from: &str, to: &str) -> Option<String> {
    let at = text.find(from)?;
    let (before, behind) = (&text[..at], &text[at + from.len()..]);
    let is_whole = !before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
        && !behind.starts_with(|c: char| c.is_ascii_digit());
    is_whole.then(|| format!("{before}{to}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pointer: &str) -> At {
        At { pointer: pointer.to_owned(), ..At::file("x.toml") }
    }

    #[test]
    fn places_are_found_in_every_form_of_toml() {
        let (source, value) =
            Source::toml("a = 1\n[b]\nc = { d = [\"x\", \"yy\"] }\n[[e]]\nf.g = true\n[[e]]\n\"h/i\" = 2\n".to_owned());
        let text = |pointer| &source.text[source.span(&at(pointer))];

        assert_eq!(value.unwrap()["b"]["c"]["d"][1], "yy");
        assert_eq!(text("/a"), "1");
        assert_eq!(text("/b/c/d/1"), "\"yy\"");
        assert_eq!(text("/b"), "[b]");
        assert_eq!(text("/e/1"), "[[e]]");
        assert_eq!(source.line_column(source.span(&at("/e/1")).start), (6, 1));
        assert_eq!(text("/e/0/f/g"), "true");
        assert_eq!(text("/e/1/h~1i"), "2");
        assert_eq!(&source.text[source.span(&at("/b/c").on_key())], "c");
        assert_eq!(text("/b/nothing"), "b");
    }

    #[test]
    fn an_offset_in_a_text_is_found_behind_escapes() {
        let find = |toml: &str, offset| {
            let (source, _) = Source::toml(toml.to_owned());
            source.text[source.span(&at("/t").offset(offset))].to_owned()
        };

        assert_eq!(find("t = \"a\\tb\\u00e4!\"", 5), "!");
        assert_eq!(find("t = \"a {{b.c}}\"", 4), "b.c");
        assert_eq!(find("t = 'a\\!'", 2), "!");
        assert_eq!(find("t = \"\"\"\nab\n!\"\"\"", 3), "!");
        assert_eq!(find("t = \"\"\"a\\\n   !\"\"\"", 1), "!");
    }

    #[test]
    fn credentials_are_blotted_out_wherever_they_were_put() {
        let (source, _) = Source::toml(
            "secret = \"whsec_abc\"\nx.bearer = { env = \"sk-live\" }\ny.bearer = { env = \"NAME\" }\n".into(),
        );
        let (broken, _) = Source::toml("api_key = \"whsec_abc\nx = 1\n".into());

        assert_eq!(
            source.blotted(),
            "secret = \"*********\"\nx.bearer = { env = \"*******\" }\ny.bearer = { env = \"NAME\" }\n"
        );
        assert!(!broken.blotted().contains("whsec_abc") && broken.blotted().ends_with("x = 1\n"));
    }

    #[test]
    fn only_whole_addresses_are_moved() {
        let moved = [("127.0.0.1:80".parse().unwrap(), "127.0.0.1:4000".parse().unwrap())];
        let mut value = serde_json::json!(["http://127.0.0.1:80/x", "127.0.0.1:8081", "sip:1127.0.0.1:80", 80]);

        move_addresses(&mut value, &moved);

        assert_eq!(value, serde_json::json!(["http://127.0.0.1:4000/x", "127.0.0.1:8081", "sip:1127.0.0.1:80", 80]));
    }
}
