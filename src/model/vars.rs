//! What is known on a call: the caller's number, lookups' results, what was keyed in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Pii, limits};

/// The variables of one call, by dotted name (`caller.e164`, `customer.name`). Every value counts as personal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vars(BTreeMap<String, Pii<Value>>);

impl Vars {
    /// Sets a variable. Beyond [`limits::VARS_MAX`] names, or for a value longer than [`limits::VAR_LEN_MAX`] when
    /// written as JSON, nothing is set and `false` is returned: a lookup cannot fill our memory.
    pub fn set(&mut self, name: &str, value: Value) -> bool {
        let fits = self.0.len() < limits::VARS_MAX || self.0.contains_key(name);
        if !fits || name.len() > limits::VAR_NAME_LEN_MAX || size(&value) > limits::VAR_LEN_MAX {
            return false;
        }
        self.0.insert(name.to_owned(), Pii::new(value));
        true
    }

    /// The value at a dotted path: a variable of that whole name, else a member of a shorter one
    /// (`customer.name` finds `name` inside `customer`; `orders[0].id` indexes lists).
    pub fn get(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(path) {
            return Some(value.reveal());
        }
        // Longest name first, so that a precise variable wins over a member of a wider one.
        let splits = path.char_indices().rev().filter(|(_, c)| *c == '.' || *c == '[');
        for (at, _) in splits {
            if let Some(value) = self.0.get(&path[..at]) {
                return descend(value.reveal(), &path[at..]);
            }
        }
        None
    }

    /// The names that are set, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn descend<'a>(mut value: &'a Value, path: &str) -> Option<&'a Value> {
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        value = match part.strip_suffix(']') {
            Some(index) => value.get(index.parse::<usize>().ok()?)?,
            None => value.get(part)?,
        };
    }
    Some(value)
}

// An estimate that is never below the written length of strings, which is what fills memory.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 24,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(name, item)| name.len() + size(item) + 4).sum::<usize>() + 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_found_by_path() {
        let mut vars = Vars::default();
        vars.set("customer", json!({"name": "Ada", "orders": [{"id": 7}]}));
        vars.set("customer.name", json!("Grace"));

        assert_eq!(vars.get("customer.name"), Some(&json!("Grace")));
        assert_eq!(vars.get("customer.orders[0].id"), Some(&json!(7)));
        assert_eq!(vars.get("customer.orders[1].id"), None);
        assert_eq!(vars.get("nobody"), None);
    }

    #[test]
    fn a_lookup_cannot_fill_memory() {
        let mut vars = Vars::default();

        assert!(!vars.set("big", json!("x".repeat(limits::VAR_LEN_MAX + 1))));
        for n in 0..limits::VARS_MAX {
            assert!(vars.set(&format!("v{n}"), json!(n)));
        }
        assert!(!vars.set("one-more", json!(1)));
        assert!(vars.set("v0", json!("replaced")));
    }
}
