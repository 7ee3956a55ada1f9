//! The schema of each kind of file, made from [`raw`], and what it says about a file in words a person can use.

use std::sync::OnceLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::check::{At, Mistake};
use super::diagnostic::code;
use super::raw;
use super::source::is_credential;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Gateway,
    Routes,
    Webhooks,
    Trunk,
    Agent,
    Action,
    Workflow,
}

/// The JSON Schemas (draft 7) of all files, by name: for editors, forms and the API.
pub fn schemas() -> Vec<(&'static str, &'static Value)> {
    compiled().iter().map(|one| (one.name, &one.schema)).collect()
}

struct Compiled {
    kind: FileKind,
    name: &'static str,
    schema: Value,
    validator: Validator,
}

fn compiled() -> &'static [Compiled] {
    static COMPILED: OnceLock<Vec<Compiled>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        vec![
            compile::<raw::GatewayFile>(FileKind::Gateway, "gateway"),
            compile::<raw::RoutesFile>(FileKind::Routes, "routes"),
            compile::<raw::WebhooksFile>(FileKind::Webhooks, "webhooks"),
            compile::<raw::TrunkFile>(FileKind::Trunk, "trunk"),
            compile::<raw::AgentFile>(FileKind::Agent, "agent"),
            compile::<raw::ActionFile>(FileKind::Action, "action"),
            compile::<raw::WorkflowFile>(FileKind::Workflow, "workflow"),
        ]
    })
}

fn compile<T: JsonSchema>(kind: FileKind, name: &'static str) -> Compiled {
    let generated = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>();
    let mut schema = generated.to_value();
    simplify(&mut schema);
    let validator = jsonschema::draft7::new(&schema)
        .expect("the schema is right, because it is made from types and a test compiles it");
    Compiled { kind, name, schema, validator }
}

/// Makes a generated schema say what a person can be told. An option that is left out is left out, not null; and of a
/// list of words, "one of" says more than "not exactly one of these schemas".
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    members.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(variants)) = members.get_mut("anyOf") {
                variants.retain(|one| *one != json!({"type": "null"}));
                if variants.len() == 1
                    && let Some(only) = members.remove("anyOf")
                {
                    members.insert("allOf".to_owned(), only);
                }
            }
            let words: Option<Vec<Value>> = members.get("oneOf").and_then(Value::as_array).and_then(|variants| {
                variants.iter().map(|one| one.get("const").filter(|word| word.is_string()).cloned()).collect()
            });
            if let Some(words) = words {
                members.remove("oneOf");
                members.insert("type".to_owned(), json!("string"));
                members.insert("enum".to_owned(), Value::Array(words));
            }
            let required = members.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                for (name, property) in properties.iter_mut() {
                    // The default of what must be written is only how we go on behind its absence.
                    let is_required = required.iter().any(|one| one == name);
                    if let Some(property) = property.as_object_mut()
                        && (is_required || property.get("default") == Some(&Value::Null))
                    {
                        property.remove("default");
                    }
                }
            }
            members.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a schema found, and where the check may not expect anything any more.
pub(super) struct Found {
    pub mistakes: Vec<Mistake>,
    /// Pointers of the tables in which something is wrong.
    pub touched: Vec<String>,
}

/// Validates a file, and takes out of it what is wrong, so that the rest can be looked at.
pub(super) fn validate(kind: FileKind, file: &str, value: &mut Value) -> Found {
    let compiled = compiled().iter().find(|one| one.kind == kind).expect("every kind is in the list above");
    let mut found = Found { mistakes: Vec::new(), touched: Vec::new() };
    let mut wrong: Vec<String> = Vec::new();
    for error in compiled.validator.iter_errors(value) {
        explain(&error, &compiled.schema, file, &mut found, &mut wrong);
    }
    // Deepest first, so that a pointer still holds when it is used.
    wrong.sort_unstable();
    for pointer in wrong.iter().rev() {
        remove(value, pointer, &mut found.touched);
    }
    found
}

fn explain(error: &ValidationError<'_>, root: &Value, file: &str, found: &mut Found, wrong: &mut Vec<String>) {
    let pointer = error.instance_path().as_str().to_owned();
    let at = At { pointer: pointer.clone(), ..At::file(file) };
    let key = pointer.rsplit('/').next().unwrap_or("");
    // The schema that was not met, without its last keyword.
    let schema_path = error.schema_path().as_str();
    let schema = schema_path.rfind('/').and_then(|end| root.pointer(&schema_path[..end])).unwrap_or(&Value::Null);
    let properties = schema.get("properties").and_then(Value::as_object);
    let mistake = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known: Vec<String> = properties.map(|all| all.keys().cloned().collect()).unwrap_or_default();
            for name in unexpected {
                let at = at.key(name).on_key();
                wrong.push(at.pointer.clone());
                let mistake = Mistake::error(code::UNKNOWN_KEY, at, format!("there is no key `{name}` here"));
                found
                    .mistakes
                    .push(mistake.near(name, known.clone()).hint(format!("known here: {}", known.join(", "))));
            }
            found.touched.push(pointer);
            return;
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let mistake = Mistake::error(code::MISSING_KEY, at, format!("`{name}` is missing"));
            let about = properties.and_then(|all| description(all.get(name)?, root));
            found.mistakes.push(match about {
                Some(about) => mistake.hint(format!("{name}: {about}")),
                None => mistake,
            });
            found.touched.push(pointer);
            return;
        }
        ValidationErrorKind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(one) => wanted_type(&one.to_string()).to_owned(),
                TypeKind::Multiple(_) => "something else".to_owned(),
            };
            let is = type_of(error.instance());
            let mistake = Mistake::error(code::WRONG_TYPE, at, format!("{wanted} is wanted here, not {is}"));
            if is_credential(key) && error.instance().is_string() {
                mistake.hint(r#"a credential never stands here: write { env = "NAME" } or { file = "secrets/name" }"#)
            } else {
                match description(schema, root) {
                    Some(about) => mistake.hint(about),
                    None => mistake,
                }
            }
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let written = error.instance().as_str().unwrap_or_default();
            Mistake::error(code::UNKNOWN_WORD, at, format!("{written:?} is not known here"))
                .near(written, words.clone())
                .hint(format!("one of: {}", words.join(", ")))
        }
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => {
            let bound = |name| schema.get(name).map(|bound| bound.to_string().trim_end_matches(".0").to_owned());
            let range = match (bound("minimum"), bound("maximum")) {
                (Some(least), Some(most)) if least == most => format!("write {least}"),
                (Some(least), Some(most)) => format!("write {least} to {most}"),
                (Some(least), None) => format!("write {least} or more"),
                (None, Some(most)) => format!("write {most} or less"),
                (None, None) => String::new(),
            };
            let too = if matches!(error.kind(), ValidationErrorKind::Minimum { .. }) { "small" } else { "big" };
            let message =
                if key == "version" { "this version is not known".to_owned() } else { format!("this is too {too}") };
            Mistake::error(code::OUT_OF_RANGE, at, message).hint(range)
        }
        ValidationErrorKind::MinLength { limit: 1 } => Mistake::error(code::EMPTY, at, "this may not be empty"),
        ValidationErrorKind::MinLength { limit } => {
            Mistake::error(code::OUT_OF_RANGE, at, format!("this is shorter than {limit} characters"))
        }
        ValidationErrorKind::MaxLength { limit } => {
            Mistake::error(code::OUT_OF_RANGE, at, format!("this is longer than {limit} characters"))
        }
        ValidationErrorKind::MinItems { limit: 1 } => {
            let mistake = Mistake::error(code::EMPTY, at, "this list may not be empty");
            match description(schema, root) {
                Some(about) => mistake.hint(about),
                None => mistake,
            }
        }
        ValidationErrorKind::MinItems { limit } => {
            Mistake::error(code::OUT_OF_RANGE, at, format!("this list has fewer than {limit} entries"))
        }
        ValidationErrorKind::MaxItems { limit } => {
            Mistake::error(code::OUT_OF_RANGE, at, format!("this list has more than {limit} entries"))
        }
        // Keywords that our types do not make; said without the value, which may be private.
        _ => Mistake::error(code::MALFORMED, at, error.masked().to_string()),
    };
    found.mistakes.push(mistake);
    wrong.push(pointer);
}

/// The first sentence about a property.
fn description(property: &Value, root: &Value) -> Option<String> {
    let own = property.get("description").and_then(Value::as_str);
    let referred = || {
        let target = property.get("$ref").or_else(|| property.pointer("/allOf/0/$ref"))?.as_str()?;
        root.pointer(target.strip_prefix('#')?)?.get("description")?.as_str()
    };
    let text = own.or_else(referred)?;
    let text = text.split("\n\n").next()?.replace('\n', " ");
    Some(text.trim_end_matches('.').to_owned())
}

/// Takes a value out of its table; what stands in a list takes the whole list with it, for the others would move up.
fn remove(value: &mut Value, pointer: &str, touched: &mut Vec<String>) {
    let mut pointer = pointer;
    while let Some(end) = pointer.rfind('/') {
        let (parent, name) = (&pointer[..end], pointer[end + 1..].replace("~1", "/").replace("~0", "~"));
        match value.pointer_mut(parent) {
            Some(Value::Object(members)) => {
                members.remove(&name);
                touched.push(parent.to_owned());
                return;
            }
            _ => pointer = parent,
        }
    }
}

fn wanted_type(name: &str) -> &str {
    match name {
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
