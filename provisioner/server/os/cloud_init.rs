//! A NoCloud seed: `user-data`, `meta-data`, `network-config`, checked with cloud-init's own JSON schemas. Other files
//! are let through; cloud-init does not read them.

use super::document::{at, check_schema, parse, parse_octal};
use crate::inventory::{Located, Problem};
use jsonschema::Validator;
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::Value;
use std::sync::LazyLock;

const USER_DATA: &str = include_str!("schemas/cloud-init/schema-cloud-config-v1.json");
const NETWORK: &str = include_str!("schemas/cloud-init/schema-network-config-v2.json");

static USER_DATA_SCHEMA: LazyLock<Result<Validator, String>> = LazyLock::new(|| compile(USER_DATA));
/// One entry of `users`, by itself: a list of them may hold other things too, and "none of these" says little.
static USER_SCHEMA: LazyLock<Result<Validator, String>> = LazyLock::new(|| {
    let mut schema: Value = serde_json::from_str(USER_DATA).map_err(|error| error.to_string())?;
    if let Some(root) = schema.as_object_mut() {
        root.retain(|key, _| matches!(key.as_str(), "$schema" | "$defs"));
        root.insert("allOf".to_owned(), serde_json::json!([{ "$ref": "#/$defs/users_groups.user" }]));
    }
    build(&schema)
});
static NETWORK_SCHEMA: LazyLock<Result<Validator, String>> = LazyLock::new(|| compile(NETWORK));

fn compile(schema: &str) -> Result<Validator, String> {
    let mut schema: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    // The network schema is "either the config or {network: the config}". Checked against that, every mistake would
    // only read "neither of both"; so the config itself is checked.
    if let Some(root) = schema.as_object_mut()
        && root.remove("oneOf").is_some()
    {
        root.insert("$ref".to_owned(), "#/$defs/network_config_version2".into());
    }
    build(&schema)
}

/// cloud-init does not hold anyone to `format: uri` and its like.
fn build(schema: &Value) -> Result<Validator, String> {
    jsonschema::options().should_validate_formats(false).build(schema).map_err(|error| error.to_string())
}

pub(super) fn validate(config: &Config, problems: &mut Vec<Problem>) {
    for name in ["user-data", "meta-data"] {
        if !config.files.iter().any(|file| file.name == name) {
            problems.push(Problem::new(name, "a NoCloud seed needs this file"));
        }
    }
    for file in &config.files {
        match file.name.as_str() {
            "user-data" => user_data(file, problems),
            "meta-data" => meta_data(file, problems),
            "network-config" => network_config(file, problems),
            "vendor-data" => {
                parse(file, problems);
            }
            _ => {}
        }
    }
}

pub(super) fn user_data(file: &ConfigFile, problems: &mut Vec<Problem>) {
    if file.contents.lines().next().map(str::trim_end) != Some("#cloud-config") {
        problems.push(Problem::new(
            format!("{}:1:1", file.name),
            "the first line is not #cloud-config, so cloud-init would not read the rest",
        ));
        return;
    }
    // PyYAML has 0644 as a number, octal.
    if let Some((value, places)) = parse_octal(file, problems) {
        check_schema(&USER_DATA_SCHEMA, file, &value, &places, "", problems);
    }
}

/// Keys that another system reads as cloud-init does, from its own file. Its users are mappings.
pub(super) fn shared(file: &ConfigFile, value: &Value, places: &Located, problems: &mut Vec<Problem>) {
    let mut rest = value.clone();
    let users = rest.as_object_mut().and_then(|map| map.remove("users"));
    check_schema(&USER_DATA_SCHEMA, file, &rest, places, "", problems);
    match users {
        Some(Value::Array(users)) => {
            for (index, user) in users.iter().enumerate() {
                check_schema(&USER_SCHEMA, file, user, places, &format!("/users/{index}"), problems);
            }
        }
        Some(_) => problems.push(at(file, places, "/users", "users is a list of mappings")),
        None => {}
    }
}

fn meta_data(file: &ConfigFile, problems: &mut Vec<Problem>) {
    let Some((value, places)) = parse(file, problems) else { return };
    match value.get("instance-id") {
        Some(Value::String(id)) if !id.is_empty() => {}
        Some(_) => problems.push(at(file, &places, "/instance-id", "instance-id is not a text")),
        None => problems.push(at(file, &places, "", "there is no instance-id")),
    }
    if let Some(name) = value.get("local-hostname") {
        let good = name.as_str().is_some_and(|name| name.split('.').all(provisioner_wire::ids::is_label));
        if !good {
            problems.push(at(file, &places, "/local-hostname", "local-hostname is not a host name"));
        }
    }
}

fn network_config(file: &ConfigFile, problems: &mut Vec<Problem>) {
    let Some((value, places)) = parse(file, problems) else { return };
    // With and without `network:` around it; cloud-init reads both.
    let (around, inner) = match value.get("network") {
        Some(inner) => ("/network", inner),
        None => ("", &value),
    };
    if inner.get("version") != Some(&Value::from(2)) {
        let pointer = format!("{around}/version");
        problems.push(at(file, &places, &pointer, "the network config's version is not 2"));
        return;
    }
    check_schema(&NETWORK_SCHEMA, file, inner, &places, around, problems);
}
