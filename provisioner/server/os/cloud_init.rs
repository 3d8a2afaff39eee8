//! A NoCloud seed: `user-data`, `vendor-data`, `meta-data` and `network-config`, checked with cloud-init's own JSON schemas.
//! Other files are let through, because cloud-init does not read them; but for one whose name is nearly one of these.

use super::{
    document::{at, check_schema, parse_octal},
    near::or_near,
};
use crate::inventory::{Located, Problem};
use jsonschema::Validator;
use provisioner_wire::order::{Config, ConfigFile};
use serde_json::Value;
use std::sync::LazyLock;

const FILES: [&str; 4] = ["user-data", "vendor-data", "meta-data", "network-config"];
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

/// Every key that the network schema names anywhere, and netplan's that are near one of them.
static NETWORK_KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut names = ["mode", "stp", "on-link", "from", "type", "table", "scope"].map(str::to_owned).to_vec();
    let schema: Value = serde_json::from_str(NETWORK).unwrap_or_default();
    let mut left = vec![&schema];
    while let Some(part) = left.pop() {
        let properties = part.get("properties").and_then(Value::as_object);
        names.extend(properties.into_iter().flat_map(|map| map.keys().cloned()));
        left.extend(part.as_object().into_iter().flat_map(|map| map.values()));
        left.extend(part.as_array().into_iter().flatten());
    }
    names
});

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
            // Empty, it is as good as none.
            "vendor-data" if file.contents.trim().is_empty() => {}
            "vendor-data" => user_data(file, problems),
            "meta-data" => meta_data(file, problems),
            "network-config" => network_config(file, problems),
            name => {
                let said = or_near(String::new(), name.split('.').next().unwrap_or(name), &FILES);
                if !said.is_empty() {
                    problems.push(Problem::new(name, format!("cloud-init reads no file of this name{said}")));
                }
            }
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
    // PyYAML has 0644 as a number, octal.
    let Some((value, places)) = parse_octal(file, problems) else { return };
    let mut say = |pointer: &str, message: &str| problems.push(at(file, &places, pointer, message));
    match value.get("instance-id") {
        Some(Value::String(id)) if id.trim().is_empty() || id.contains(char::is_control) => {
            say("/instance-id", "instance-id is not one line of text");
        }
        Some(Value::String(_)) => {}
        Some(_) => say("/instance-id", "instance-id is not a text"),
        None => say("", "there is no instance-id"),
    }
    for key in ["local-hostname", "hostname"] {
        let Some(name) = value.get(key) else { continue };
        let good = name.as_str().is_some_and(|name| name.split('.').all(provisioner_wire::ids::is_label));
        if !good {
            say(&format!("/{key}"), &format!("{key} is not a host name"));
        }
    }
    if let Some(from) = value.get("seedfrom")
        && !from.as_str().is_some_and(is_seed)
    {
        say("/seedfrom", "seedfrom is not an http://, https:// or file:// URL with a slash at its end");
    }
    let known = ["instance-id", "local-hostname", "seedfrom", "public-keys", "dsmode"];
    for key in value.as_object().into_iter().flat_map(|map| map.keys()) {
        let said = or_near(String::new(), key, &known);
        if !said.is_empty() && !known.contains(&key.as_str()) && key != "hostname" {
            say(&format!("/{key}"), &format!("cloud-init reads no {key}{said}"));
        }
    }
}

/// cloud-init puts the names of the files right behind it.
fn is_seed(from: &str) -> bool {
    ["http://", "https://", "file://"].iter().any(|begin| from.starts_with(begin)) && from.ends_with('/')
}

fn network_config(file: &ConfigFile, problems: &mut Vec<Problem>) {
    let Some((value, places)) = parse_octal(file, problems) else { return };
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
    for group in ["ethernets", "bonds", "bridges", "vlans"] {
        for (name, device) in inner.get(group).and_then(Value::as_object).into_iter().flatten() {
            near_keys(file, device, &places, &format!("{around}/{group}/{name}"), problems);
        }
    }
}

/// The schema lets any key through, for there are renderers that know more of them; but not one that is nearly its own.
fn near_keys(file: &ConfigFile, value: &Value, places: &Located, pointer: &str, problems: &mut Vec<Problem>) {
    let known: Vec<&str> = NETWORK_KEYS.iter().map(String::as_str).collect();
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let here = format!("{pointer}/{key}");
                let said = or_near(String::new(), key, &known);
                if !known.contains(&key.as_str()) && !said.is_empty() {
                    problems.push(at(file, places, &here, format!("cloud-init knows no {key}{said}")));
                }
                near_keys(file, value, places, &here, problems);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                near_keys(file, item, places, &format!("{pointer}/{index}"), problems);
            }
        }
        _ => {}
    }
}
