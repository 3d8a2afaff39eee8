//! Ignition, for Flatcar and Fedora CoreOS: JSON as it is, or Butane's YAML ([`super::butane`]) made into it. Checked with
//! Ignition's own JSON schema of the config's version, then with its own rules ([`rules`]); a key that the schema does not
//! name is a mistake, too.

mod data;
mod disks;
mod model;
mod rules;
mod source;
mod unit;

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
use rules::Dialect;
use serde_json::Value;
use std::sync::LazyLock;

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
                check(os, file, &json, &places, &mut problems);
                file.contents = escape_odd(&format!("{json:#}\n"));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

pub(super) fn validate(os: OperatingSystem, config: &Config, problems: &mut Vec<Problem>) {
    let [file] = config.files.as_slice() else {
        problems.push(Problem::new("", "Ignition reads one config file"));
        return;
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&file.contents) {
        problems.push(not_json(file, &error));
        return;
    }
    if let Some((value, places)) = parse(file, problems) {
        check(os, file, &value, &places, problems);
    }
}

/// The newest that the systems read: Flatcar's documentation and Butane's variant name 3.4.0 (Flatcar 3535 and later).
fn newest(os: OperatingSystem) -> u32 {
    if os == OperatingSystem::Flatcar { 4 } else { 6 }
}

fn check(
    os: OperatingSystem,
    file: &ConfigFile,
    value: &Value,
    places: &Located,
    problems: &mut Vec<Problem>,
) {
    let version = value.pointer("/ignition/version").and_then(Value::as_str).unwrap_or_default();
    let known = SCHEMAS.iter().zip(0..=newest(os));
    let Some((schema, minor)) = known.clone().find(|(schema, _)| schema.version == version) else {
        let known: Vec<&str> = known.map(|(schema, _)| schema.version).collect();
        let system = if os == OperatingSystem::Flatcar { "Flatcar" } else { "Fedora CoreOS" };
        let message = format!(
            "unsupported config version: ignition.version is one of {} for {system}",
            known.join(", ")
        );
        problems.push(at(file, places, "/ignition/version", message));
        return;
    };
    let before = problems.len();
    // Butane's YAML has other names for the keys; the deeper place is that of the name which is there.
    let place = |pointer: &str| places.find(pointer).max(places.find(&butane::snake(pointer)));
    check_schema_at(&schema.compiled, file, value, place, "", problems);
    let is_typed = problems.len() == before;
    let mut unknown = Vec::new();
    unknown_keys(&schema.source, &schema.source, value, "", &mut unknown);
    for pointer in unknown {
        let key = pointer.rsplit('/').next().unwrap_or_default();
        let message = format!("Unused key {key}: Ignition {version} has none of this name here");
        problems.push(placed(file, places, &pointer, message));
    }
    if is_typed {
        let dialect = Dialect { minor, is_flatcar: os == OperatingSystem::Flatcar };
        let found = rules::check(value, dialect);
        problems.extend(found.into_iter().map(|(pointer, message)| placed(file, places, &pointer, message)));
    }
}

/// At a pointer of the JSON, in the JSON or in the YAML that it was made of.
fn placed(file: &ConfigFile, places: &Located, pointer: &str, message: String) -> Problem {
    let of_yaml = butane::snake(pointer).replace("/contents/source", "/contents/inline");
    let pointers = [pointer.to_owned(), butane::snake(pointer), of_yaml];
    // The deepest place is the one of the right spelling; the others end at a value around it.
    let deepest = pointers.into_iter().max_by_key(|pointer| places.find(pointer)).unwrap_or_default();
    at(file, places, &deepest, message)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_in_butanes_yaml_have_their_place_in_the_yaml() {
        let yaml = "variant: flatcar\nversion: 1.0.0\nstorage:\n  files:\n    - path: /a\n      mode: 0644\n      contents:\n        \
                    compression: xz\n        inline: a\n  disks:\n    - device: /dev/a\n      partitions:\n        - number: 1\n          \
                    type_guid: x\nsystemd:\n  units:\n    - name: a.service\n      contents: |\n        [Unit\n";
        let file = ConfigFile { name: "config.bu".to_owned(), contents: yaml.to_owned(), mode: 0o600 };
        let mut config = Config { files: vec![file] };
        let problems = transpiled(OperatingSystem::Flatcar, &mut config).unwrap_err();
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let expected = [
            "config.bu:8:22: invalid compression method",
            "config.bu:19:9: invalid unit content: unable to find end of section",
            "config.bu:14:22: doesn't match the form \"01234567-89AB-CDEF-EDCB-A98765432101\"",
        ];
        assert_eq!(said, expected);
    }
}
