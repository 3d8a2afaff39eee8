//! A value as text that its reader takes for that value and nothing else.

use base64::{Engine, engine::general_purpose::STANDARD};
use minijinja::{Error, ErrorKind, Value, value::ValueKind};

/// JSON on one line, which YAML 1.1 and 1.2 both read as the same value wherever a flow value may stand.
pub(super) fn yaml(value: &Value) -> Result<String, Error> {
    let json = json(value)?;
    // PyYAML refuses these unescaped, or takes them for line ends.
    let odd = |c: char| {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if odd(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    Ok(text)
}

pub(super) fn json(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    serde_json::to_string(value)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "the value cannot be written as JSON"))
}

/// One word of a POSIX shell.
pub(super) fn shell(value: &Value) -> Result<String, Error> {
    let text = plain(value)?;
    if text.contains('\0') {
        return Err(Error::new(ErrorKind::InvalidOperation, "a shell word cannot hold a zero byte"));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// The text itself, of what has one.
pub(super) fn plain(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number | ValueKind::Bool => Ok(value.to_string()),
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        kind => Err(Error::new(ErrorKind::InvalidOperation, format!("a {kind} has no text"))),
    }
}

/// Standard base64 with padding.
pub(super) fn base64(value: &Value) -> Result<String, Error> {
    plain(value).map(|text| STANDARD.encode(text))
}

/// A TOML value on one line. TOML has no null.
pub(super) fn toml(value: &Value) -> Result<String, Error> {
    let value: serde_json::Value = serde_json::from_str(&json(value)?)
        .map_err(|_| Error::new(ErrorKind::BadSerialization, "the value cannot be written as TOML"))?;
    toml_value(&value)
}

fn toml_value(value: &serde_json::Value) -> Result<String, Error> {
    use serde_json::Value as Json;
    match value {
        Json::Null => Err(Error::new(ErrorKind::InvalidOperation, "TOML has no null")),
        Json::Bool(_) | Json::Number(_) => Ok(value.to_string()),
        // JSON's escapes are TOML's; it only leaves U+007F as it is.
        Json::String(_) => Ok(value.to_string().replace('\u{7f}', "\\u007f")),
        Json::Array(items) => {
            let items: Result<Vec<String>, Error> = items.iter().map(toml_value).collect();
            Ok(format!("[{}]", items?.join(", ")))
        }
        Json::Object(map) => {
            let entry = |(key, value): (&String, &Json)| {
                Ok(format!("{} = {}", toml_value(&Json::String(key.clone()))?, toml_value(value)?))
            };
            let entries: Result<Vec<String>, Error> = map.iter().map(entry).collect();
            Ok(format!("{{{}}}", entries?.join(", ")))
        }
    }
}
