//! Ignition, for Flatcar and Fedora CoreOS: JSON as it is, or Butane's YAML ([`super::butane`]) made into it. Checked with
//! Ignition's own JSON schema of the config's version; a key that the schema does not name is a mistake, too.

use super::{
    butane,
    document::{at, check_schema_at, not_json, parse, parse_octal},
};
use crate::{
    inventory::{Located, OperatingSystem, Problem},
    render::escape_odd,
};
use jsonschema::Validator;
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::Value;
use std::{collections::BTreeSet, sync::LazyLock};

struct Schema {
    version: &'static str,
    source: Value,
    compiled: Result<Validator, String>,
}

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let versions = [
        ("3.0.0", include_str!("schemas/ignition/v3_0.json")),
        ("3.1.0", include_str!("schemas/ignition/v3_1.json")),
        ("3.2.0", include_str!("schemas/ignition/v3_2.json")),
        ("3.3.0", include_str!("schemas/ignition/v3_3.json")),
        ("3.4.0", include_str!("schemas/ignition/v3_4.json")),
        ("3.5.0", include_str!("schemas/ignition/v3_5.json")),
        ("3.6.0", include_str!("schemas/ignition/v3_6.json")),
    ];
    let schema = |(version, text): (&'static str, &str)| {
        let source: Value = serde_json::from_str(text).unwrap_or_default();
        let compiled = jsonschema::options()
            .should_validate_formats(false)
            .build(&source)
            .map_err(|error| error.to_string());
        Schema { version, source, compiled }
    };
    versions.into_iter().map(schema).collect()
});

fn variant(os: OperatingSystem) -> &'static str {
    if os == OperatingSystem::Flatcar { "flatcar" } else { "fcos" }
}

/// Butane's YAML becomes JSON; every mistake that only Butane would name is named here, at its place.
pub(super) fn transpiled(os: OperatingSystem, config: &mut Config) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    for file in &mut config.files {
        let Some((value, places)) = parse_octal(file, &mut problems) else { continue };
        if value.get("variant").is_none() {
            continue;
        }
        match butane::to_ignition(&value, variant(os)) {
            Err((pointer, message)) => problems.push(at(file, &places, &pointer, message)),
            Ok(json) => {
                // Checked here, where the places are still those of what the operator wrote.
                check(file, &json, &places, &mut problems);
                file.contents = escape_odd(&format!("{json:#}\n"));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

pub(super) fn validate(config: &Config, problems: &mut Vec<Problem>) {
    let [file] = config.files.as_slice() else {
        problems.push(Problem::new("", "Ignition reads one config file"));
        return;
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&file.contents) {
        problems.push(not_json(file, &error));
        return;
    }
    if let Some((value, places)) = parse(file, problems) {
        check(file, &value, &places, problems);
    }
}

fn check(file: &ConfigFile, value: &Value, places: &Located, problems: &mut Vec<Problem>) {
    let version = value.pointer("/ignition/version").and_then(Value::as_str).unwrap_or_default();
    let Some(schema) = SCHEMAS.iter().find(|schema| schema.version == version) else {
        let known: Vec<&str> = SCHEMAS.iter().map(|schema| schema.version).collect();
        let message = format!("ignition.version is one of {}", known.join(", "));
        problems.push(at(file, places, "/ignition/version", message));
        return;
    };
    // Butane's YAML has other names for the keys; the deeper place is that of the name which is there.
    let place = |pointer: &str| places.find(pointer).max(places.find(&butane::snake(pointer)));
    check_schema_at(&schema.compiled, file, value, place, "", problems);
    let mut unknown = Vec::new();
    unknown_keys(&schema.source, &schema.source, value, "", &mut unknown);
    for pointer in unknown {
        let key = pointer.rsplit('/').next().unwrap_or_default();
        let message = format!("Unused key {key}: Ignition {version} has none of this name here");
        problems.push(at(file, places, &butane::snake(&pointer), message));
    }
    paths(file, value, places, problems);
}

/// Pointers of keys that no part of the schema names; Ignition would only warn of them and go on.
fn unknown_keys(root: &Value, schema: &Value, value: &Value, pointer: &str, unknown: &mut Vec<String>) {
    let parts = parts_of(root, schema);
    match value {
        Value::Object(map) => {
            let properties = |key: &str| parts.iter().find_map(|part| part.get("properties")?.get(key));
            let open = parts.iter().all(|part| part.get("properties").is_none());
            for (key, inner) in map {
                let here = format!("{pointer}/{key}");
                match properties(key) {
                    Some(inner_schema) => unknown_keys(root, inner_schema, inner, &here, unknown),
                    None if open => {}
                    None => unknown.push(here),
                }
            }
        }
        Value::Array(items) => {
            if let Some(items_schema) = parts.iter().find_map(|part| part.get("items")) {
                for (index, item) in items.iter().enumerate() {
                    unknown_keys(root, items_schema, item, &format!("{pointer}/{index}"), unknown);
                }
            }
        }
        _ => {}
    }
}

/// A schema with all that it refers to or is combined of.
fn parts_of<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut parts = Vec::new();
    let mut left = vec![schema];
    while let Some(part) = left.pop() {
        // The schemas here nest a few levels; a circle would not end.
        if parts.len() > 64 {
            break;
        }
        parts.push(part);
        let reference = part.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
        left.extend(reference.and_then(|pointer| root.pointer(pointer)));
        for combined in ["allOf", "anyOf", "oneOf"] {
            left.extend(part.get(combined).and_then(Value::as_array).into_iter().flatten());
        }
    }
    parts
}

/// Ignition's own rules on paths: absolute, and none twice.
fn paths(file: &ConfigFile, value: &Value, places: &Located, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for kind in ["files", "directories", "links"] {
        let entries = value.pointer(&format!("/storage/{kind}")).and_then(Value::as_array);
        for (index, entry) in entries.into_iter().flatten().enumerate() {
            let pointer = format!("/storage/{kind}/{index}/path");
            let Some(path) = entry.get("path").and_then(Value::as_str) else { continue };
            if !path.starts_with('/') {
                problems.push(at(file, places, &pointer, "path not absolute"));
            }
            if !seen.insert(path) {
                problems.push(at(file, places, &pointer, format!("duplicate entry defined: {path}")));
            }
        }
    }
}
