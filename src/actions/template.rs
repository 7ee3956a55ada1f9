//! Text with variables in it: `Hello {{customer.name | there}}`.
//!
//! One renderer for every place a value can land in; what differs is the encoding ([`Place`]). A template has no loops
//! and no logic on purpose: what an admin writes cannot run away, and what a caller says cannot become structure.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Pii, Vars, limits};

/// A checked template. Written as its source text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable { path: String, fallback: Option<String> },
}

/// Where a value lands, which decides how it is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Spoken or shown text: as it is.
    Text,
    /// A URL: everything but unreserved characters is percent-encoded (RFC 3986 §2.3).
    Url,
    /// Inside a JSON document: strings lose their quotes and keep their escapes, so both `"{{name}}"` and `{{count}}` work.
    Json,
    /// A header value: control characters, line ends above all, become spaces.
    Header,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A `{{` without `}}`, an empty or malformed name, or a text beyond [`limits::TEMPLATE_LEN_MAX`]; with the byte
    /// offset of the mistake.
    pub fn parse(source: &str) -> Result<Template, TemplateError> {
        if source.len() > limits::TEMPLATE_LEN_MAX {
            return Err(TemplateError { offset: limits::TEMPLATE_LEN_MAX, what: TemplateFault::TooLong });
        }
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = source[at..].find("{{").map(|found| at + found) {
            let inside = open + 2;
            let close = source[inside..]
                .find("}}")
                .map(|found| inside + found)
                .ok_or(TemplateError { offset: open, what: TemplateFault::Unclosed })?;
            if open > at {
                parts.push(Part::Text(source[at..open].to_owned()));
            }
            parts.push(
                variable(&source[inside..close])
                    .ok_or(TemplateError { offset: inside, what: TemplateFault::BadName })?,
            );
            at = close + 2;
        }
        if at < source.len() {
            parts.push(Part::Text(source[at..].to_owned()));
        }
        Ok(Template { source: source.to_owned(), parts })
    }

    /// The text as the admin wrote it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The variables it names, in order of appearance.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable { path, .. } => Some(path.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text with every variable replaced. An unset variable becomes its fallback, else nothing (in JSON: `null`).
    /// The result is personal, for it holds what we know of the caller. It is cut at [`limits::TEMPLATE_LEN_MAX`].
    pub fn render(&self, vars: &Vars, place: Place) -> Pii<String> {
        let mut text = String::with_capacity(self.source.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Variable { path, fallback } => match (vars.get(path), fallback) {
                    (Some(value), _) if !value.is_null() => encode(value, place, &mut text),
                    (_, Some(fallback)) => encode_text(fallback, place, &mut text),
                    _ if place == Place::Json => text.push_str("null"),
                    _ => {}
                },
            }
            if text.len() > limits::TEMPLATE_LEN_MAX {
                let end = text.floor_char_boundary(limits::TEMPLATE_LEN_MAX);
                text.truncate(end);
                break;
            }
        }
        Pii::new(text)
    }
}

fn variable(inside: &str) -> Option<Part> {
    let (path, fallback) = match inside.split_once('|') {
        Some((path, fallback)) => (path.trim(), Some(fallback.trim().trim_matches('"').to_owned())),
        None => (inside.trim(), None),
    };
    let named = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-[]$".contains(c));
    (named && !path.is_empty() && path.len() <= limits::VAR_NAME_LEN_MAX)
        .then(|| Part::Variable { path: path.to_owned(), fallback })
}

fn encode(value: &Value, place: Place, into: &mut String) {
    match value {
        Value::String(text) => encode_text(text, place, into),
        other => encode_text(&other.to_string(), if place == Place::Json { Place::Text } else { place }, into),
    }
}

fn encode_text(text: &str, place: Place, into: &mut String) {
    match place {
        Place::Text => into.push_str(text),
        Place::Url => {
            for byte in text.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    into.push(char::from(byte));
                } else {
                    into.push('%');
                    into.push(char::from(HEX[usize::from(byte >> 4)]));
                    into.push(char::from(HEX[usize::from(byte & 15)]));
                }
            }
        }
        Place::Json => {
            let quoted = Value::String(text.to_owned()).to_string();
            into.push_str(&quoted[1..quoted.len() - 1]);
        }
        Place::Header => into.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c })),
    }
}

const HEX: [u8; 16] = *b"0123456789ABCDEF";

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(source: String) -> Result<Template, TemplateError> {
        Template::parse(&source)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.source
    }
}

/// Where a template is wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte offset of the mistake in the template's text.
    pub offset: usize,
    what: TemplateFault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TemplateFault {
    Unclosed,
    BadName,
    TooLong,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            TemplateFault::Unclosed => f.write_str("`{{` has no `}}`; close the variable, or write a single `{`"),
            TemplateFault::BadName => {
                f.write_str("no variable name; write letters, digits and dots, as in {{caller.number | unknown}}")
            }
            TemplateFault::TooLong => write!(f, "longer than {} bytes", limits::TEMPLATE_LEN_MAX),
        }
    }
}

impl std::error::Error for TemplateError {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vars() -> Vars {
        let mut vars = Vars::default();
        vars.set("name", json!("Ada \"A\" & Söhne\r\nX: 1"));
        vars.set("order", json!({"items": [{"id": 7}]}));
        vars
    }

    #[test]
    fn values_are_encoded_for_the_place_they_land_in() {
        let name = Template::parse("<{{ name }}>").unwrap();

        assert_eq!(name.render(&vars(), Place::Text).reveal(), "<Ada \"A\" & Söhne\r\nX: 1>");
        assert_eq!(name.render(&vars(), Place::Header).reveal(), "<Ada \"A\" & Söhne  X: 1>");
        assert_eq!(name.render(&vars(), Place::Url).reveal(), "<Ada%20%22A%22%20%26%20S%C3%B6hne%0D%0AX%3A%201>");
        assert_eq!(name.render(&vars(), Place::Json).reveal(), "<Ada \\\"A\\\" & Söhne\\r\\nX: 1>");
    }

    #[test]
    fn members_fallbacks_and_unset_variables_render() {
        let text = Template::parse("{{order.items[0].id}} {{ nobody | there }} {{nobody}}").unwrap();

        assert_eq!(text.render(&vars(), Place::Text).reveal(), "7 there ");
        assert_eq!(text.render(&vars(), Place::Json).reveal(), "7 there null");
        assert_eq!(text.variables().collect::<Vec<_>>(), ["order.items[0].id", "nobody", "nobody"]);
    }

    #[test]
    fn mistakes_are_placed() {
        assert_eq!(Template::parse("ab {{x").unwrap_err().offset, 3);
        assert_eq!(Template::parse("ab {{}}").unwrap_err().offset, 5);
        assert_eq!(Template::parse("{{a b}}").unwrap_err().offset, 2);
    }
}
