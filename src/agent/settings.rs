//! Checking a connector's settings against a table, all mistakes at once.

use serde_json::Value;

/// A mistake in an agent's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Where, as a JSON pointer (RFC 6901) into the settings; empty for all of them.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

/// A key that may stand in a table of settings.
pub(super) struct Field {
    pub name: &'static str,
    pub required: bool,
    pub form: Form,
}

/// What a value must look like.
pub(super) enum Form {
    /// Text, not empty, at most this many characters.
    Text(usize),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number from, to.
    Whole(i64, i64),
    /// A number from, to.
    Number(f64, f64),
    /// Yes or no.
    Flag,
    /// A list of at most this many texts.
    Texts(usize),
    /// A table of its own.
    Table(&'static [Field]),
    /// Something only the vendor's file can judge: `Err` says what is wrong and what would be right.
    Special(fn(&Value) -> Result<(), (String, String)>),
    /// A key that used to be right; the hint says what took its place.
    Gone(&'static str),
}

/// A key that may be left out.
pub(super) const fn may(name: &'static str, form: Form) -> Field {
    Field { name, required: false, form }
}

/// A key that must be there.
pub(super) const fn must(name: &'static str, form: Form) -> Field {
    Field { name, required: true, form }
}

/// All mistakes in `settings` by this table; `null` counts as an empty table.
pub(super) fn check(settings: &Value, fields: &[Field]) -> Vec<SettingsError> {
    let mut errors = Vec::new();
    let empty = Value::Object(serde_json::Map::new());
    table(if settings.is_null() { &empty } else { settings }, fields, "", &mut errors);
    errors
}

fn table(value: &Value, fields: &[Field], at: &str, errors: &mut Vec<SettingsError>) {
    let Some(object) = value.as_object() else {
        return errors.push(wrong(at, format!("a table is wanted here, not {}", kind(value)), names(fields)));
    };
    for field in fields {
        match object.get(field.name) {
            Some(value) => form(value, &field.form, &format!("{at}/{}", field.name), errors),
            None if field.required => {
                errors.push(wrong(at, format!("`{}` is missing", field.name), wanted(&field.form)))
            }
            None => {}
        }
    }
    for key in object.keys().filter(|key| !fields.iter().any(|field| field.name == key.as_str())) {
        let pointer = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        errors.push(wrong(&pointer, format!("there is no setting `{key}`"), names(fields)));
    }
}

fn form(value: &Value, form: &Form, at: &str, errors: &mut Vec<SettingsError>) {
    let is_right = match form {
        Form::Table(fields) => return table(value, fields, at, errors),
        Form::Special(judge) => match judge(value) {
            Ok(()) => true,
            Err((message, hint)) => return errors.push(wrong(at, message, hint)),
        },
        Form::Gone(instead) => {
            return errors.push(wrong(at, "this setting is no longer used".to_owned(), (*instead).to_owned()));
        }
        Form::Text(len_max) => is_text(value, *len_max),
        Form::OneOf(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        Form::Whole(from, to) => value.as_i64().is_some_and(|number| (*from..=*to).contains(&number)),
        Form::Number(from, to) => value.as_f64().is_some_and(|number| (*from..=*to).contains(&number)),
        Form::Flag => value.is_boolean(),
        Form::Texts(len_max) => value
            .as_array()
            .is_some_and(|list| list.len() <= *len_max && list.iter().all(|text| is_text(text, TEXT_IN_LIST_LEN_MAX))),
    };
    if !is_right {
        errors.push(wrong(at, format!("{} does not fit here", kind(value)), wanted(form)));
    }
}

/// Whether this is a WebSocket address that a conversation may go to; `such_as` shows how one looks.
pub(super) fn socket_url(value: &Value, such_as: &str) -> Result<(), (String, String)> {
    let wrong = |message: &str| Err((message.to_owned(), format!("a WebSocket address such as {such_as}")));
    let Some(url) = value.as_str().filter(|url| url.len() <= 512) else { return wrong("an address is wanted here") };
    if url.contains(|char: char| !char.is_ascii_graphic() || char == '#' || char == '@') {
        return wrong("no spaces, fragments or credentials in this address");
    }
    let is_secure = url.starts_with("wss://");
    let Some(rest) = url.strip_prefix("wss://").or_else(|| url.strip_prefix("ws://")) else {
        return wrong("the address must begin with wss:// (or ws:// on this machine)");
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    if host.is_empty() {
        return wrong("the address has no host");
    }
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !is_secure && !is_here {
        return wrong(
            "ws:// would send the key and the caller's voice in the clear; only wss:// may leave this machine",
        );
    }
    Ok(())
}

fn is_text(value: &Value, len_max: usize) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty() && text.chars().count() <= len_max)
}

fn wrong(pointer: &str, message: String, hint: String) -> SettingsError {
    SettingsError { pointer: pointer.to_owned(), message, hint }
}

fn wanted(form: &Form) -> String {
    match form {
        Form::Text(len_max) => format!("text of 1 to {len_max} characters"),
        Form::OneOf(words) => format!("one of: {}", words.join(", ")),
        Form::Whole(from, to) => format!("a whole number from {from} to {to}"),
        Form::Number(from, to) => format!("a number from {from} to {to}"),
        Form::Flag => "true or false".to_owned(),
        Form::Texts(len_max) => format!("a list of at most {len_max} texts"),
        Form::Table(fields) => names(fields),
        Form::Special(_) => "see the connector's documentation".to_owned(),
        Form::Gone(instead) => (*instead).to_owned(),
    }
}

fn names(fields: &[Field]) -> String {
    let names: Vec<_> =
        fields.iter().filter(|field| !matches!(field.form, Form::Gone(_))).map(|field| field.name).collect();
    if names.is_empty() { "this connector has no settings".to_owned() } else { format!("known: {}", names.join(", ")) }
}

// Says what a value is, never what it says: settings may come from a file with a secret in the wrong place.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "this number",
        Value::String(_) => "this text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

const TEXT_IN_LIST_LEN_MAX: usize = 128;
