//! PURE. Butane's YAML as Ignition's JSON, for the parts that need no file of the host: names of keys, `inline` contents
//! as `data:` URLs, the version. What it cannot express is left in place for [`super::ignition`] to refuse.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

/// Variant, its versions, and the Ignition that each becomes (from Butane's `specs.md`).
const VERSIONS: [(&str, &str, &str); 10] = [
    ("flatcar", "1.0.0", "3.3.0"),
    ("flatcar", "1.1.0", "3.4.0"),
    ("fcos", "1.0.0", "3.0.0"),
    ("fcos", "1.1.0", "3.1.0"),
    ("fcos", "1.2.0", "3.2.0"),
    ("fcos", "1.3.0", "3.2.0"),
    ("fcos", "1.4.0", "3.3.0"),
    ("fcos", "1.5.0", "3.4.0"),
    ("fcos", "1.6.0", "3.5.0"),
    ("fcos", "1.7.0", "3.6.0"),
];

/// Keys that only Butane has, and what to write instead.
const REFUSED: [(&str, &str); 6] = [
    ("with_mount_unit", "write the mount unit below systemd.units"),
    ("local", "write the contents as inline"),
    ("contents_local", "write the unit as contents"),
    ("ssh_authorized_keys_local", "write the keys as ssh_authorized_keys"),
    ("trees", "write each file below storage.files"),
    ("boot_device", "write the disks below storage"),
];

/// The Ignition config, or the JSON pointer of what is wrong, with a message.
pub(super) fn to_ignition(config: &Value, variant: &str) -> Result<Value, (String, String)> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("variant") != variant {
        return Err(("/variant".to_owned(), format!("variant is not {variant}, this operating system's")));
    }
    let version = VERSIONS.iter().find(|(name, version, _)| *name == variant && *version == text("version"));
    let Some((_, _, ignition)) = version else {
        let known: Vec<&str> = VERSIONS.iter().filter(|(v, ..)| *v == variant).map(|(_, v, _)| *v).collect();
        return Err(("/version".to_owned(), format!("version of {variant} is one of {}", known.join(", "))));
    };
    let mut out = Map::new();
    for (key, value) in config.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "variant" | "version") {
            out.insert(camel(key), converted(value, &format!("/{key}"))?);
        }
    }
    let metadata = out.entry("ignition").or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.insert("version".to_owned(), (*ignition).into());
    }
    Ok(Value::Object(out))
}

fn converted(value: &Value, at: &str) -> Result<Value, (String, String)> {
    match value {
        Value::Array(items) => {
            let items = items.iter().enumerate().map(|(i, item)| converted(item, &format!("{at}/{i}")));
            items.collect::<Result<_, _>>().map(Value::Array)
        }
        Value::Object(map) => object(map, at),
        other => Ok(other.clone()),
    }
}

fn object(map: &Map<String, Value>, at: &str) -> Result<Value, (String, String)> {
    let mut out = Map::new();
    for (key, value) in map {
        let here = format!("{at}/{key}");
        if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| refused == key) {
            return Err((here, format!("{key} is not taken here: {instead}")));
        }
        let (key, value) = match (key.as_str(), value) {
            ("inline", Value::String(text)) => ("source".to_owned(), data_url(text).into()),
            ("inline", _) => return Err((here, "inline is not a text".to_owned())),
            _ => (camel(key), converted(value, &here)?),
        };
        if out.insert(key, value).is_some() {
            return Err((here, "source and inline are mutually exclusive".to_owned()));
        }
    }
    Ok(Value::Object(out))
}

/// RFC 2397. Base64, so that no character of the text is one of the URL.
pub(super) fn data_url(text: &str) -> String {
    format!("data:;base64,{}", STANDARD.encode(text))
}

/// `size_mib` → `sizeMiB`, `wipe_table` → `wipeTable`.
fn camel(key: &str) -> String {
    let mut parts = key.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        match (part, letters.next()) {
            ("mib", _) => name.push_str("MiB"),
            (_, Some(first)) => {
                name.push(first.to_ascii_uppercase());
                name.push_str(letters.as_str());
            }
            (_, None) => {}
        }
    }
    name
}

/// The way back, for places in the YAML.
pub(super) fn snake(pointer: &str) -> String {
    let mut out = String::with_capacity(pointer.len() + 4);
    for c in pointer.replace("MiB", "Mib").chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
