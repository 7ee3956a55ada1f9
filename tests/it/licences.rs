//! The licences of everything in the lock file, held to the list in `deny.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::source::root;

#[test]
fn every_dependency_may_be_used_as_deny_toml_says() {
    let allowed = allowed();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    assert!(packages.len() > 50, "only {} packages: that is not our tree", packages.len());

    let broken: Vec<String> = packages.iter().filter_map(|package| complaint(package, &allowed)).collect();

    assert!(
        broken.is_empty(),
        "\n{}\n→ take another crate, or argue for the licence in deny.toml\n",
        broken.join("\n")
    );
}

fn complaint(package: &Value, allowed: &BTreeSet<String>) -> Option<String> {
    let name = format!("{} {}", package["name"].as_str()?, package["version"].as_str()?);
    match package["license"].as_str() {
        Some(expression) if is_allowed(expression, allowed) => None,
        Some(expression) => Some(format!("{name}: {expression}")),
        None => {
            // The manifest points to a text instead: it must be MIT's.
            let manifest = Path::new(package["manifest_path"].as_str()?);
            let file = package["license_file"].as_str().unwrap_or("LICENSE");
            let text = fs::read_to_string(manifest.parent()?.join(file)).unwrap_or_default();
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let mit = words.contains("Permission is hereby granted, free of charge, to any person obtaining a copy");
            (!mit).then(|| format!("{name}: neither a licence expression nor MIT's text"))
        }
    }
}

/// Whether an SPDX expression can be met with the allowed licences. Old manifests write `/` for `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any_of(&mut rest, allowed);
    met && rest.is_empty()
}

fn any_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let Some((first, rest)) = words.split_first() else { return false };
    *words = rest;
    if *first == "(" {
        let met = any_of(words, allowed);
        let closed = words.first() == Some(&")");
        *words = words.get(1..).unwrap_or_default();
        return met && closed;
    }
    let mut licence = (*first).to_owned();
    if let ["WITH", exception, rest @ ..] = *words {
        licence = format!("{licence} WITH {exception}");
        *words = rest;
    }
    allowed.contains(&licence)
}

fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml stands at the top");
    let deny: toml_edit::DocumentMut = text.parse().expect("deny.toml is TOML");
    let list = deny["licenses"]["allow"].as_array().expect("deny.toml has licenses.allow");
    list.iter().filter_map(|licence| licence.as_str().map(str::to_owned)).collect()
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let listed = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    serde_json::from_slice(&listed.stdout).expect("cargo metadata is JSON")
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Unicode-3.0".to_owned()]);
    let meets = |expression| is_allowed(expression, &allowed);

    assert!(meets("MIT") && meets("GPL-3.0/MIT") && meets("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(meets("Apache-2.0 WITH LLVM-exception OR MIT"));
    assert!(!meets("GPL-3.0") && !meets("MIT AND GPL-3.0") && !meets("MIT WITH strange-exception") && !meets("(MIT"));
}
