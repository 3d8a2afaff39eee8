//! A value as text that its reader takes for that value and nothing else.

use base64::{Engine, engine::general_purpose::STANDARD};
use minijinja::{Error, ErrorKind, Value, value::ValueKind};
use serde_json::{Number, Value as Json};

/// Longest key, in characters, that YAML's readers look for without a `?` before it is 1,024 with its quotes.
const SIMPLE_KEY_MAX: usize = 1000;

/// JSON on one line, which YAML 1.1 and 1.2 both read as the same value wherever a flow value may stand. Only a very long
/// key stands as no JSON has it.
pub(super) fn yaml(value: &Value) -> Result<String, Error> {
    Ok(yaml_value(&tree(value)?))
}

fn yaml_value(value: &Json) -> String {
    match value {
        Json::Null | Json::Bool(_) => value.to_string(),
        Json::Number(number) => yaml_number(number),
        Json::String(text) => yaml_text(text),
        Json::Array(items) => format!("[{}]", items.iter().map(yaml_value).collect::<Vec<_>>().join(",")),
        Json::Object(map) => {
            let entry = |(key, value): (&String, &Json)| match yaml_text(key) {
                long if long.chars().count() > SIMPLE_KEY_MAX => format!("? {long} : {}", yaml_value(value)),
                key => format!("{key}:{}", yaml_value(value)),
            };
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(","))
        }
    }
}

/// A document in block style, as `indent` levels below the left edge; every text is quoted.
pub(crate) fn yaml_document(value: &Json, indent: usize) -> String {
    let edge = "  ".repeat(indent);
    let below = |value: &Json| match value {
        Json::Object(map) if !map.is_empty() => format!("\n{}", yaml_document(value, indent + 1)),
        Json::Array(items) if !items.is_empty() => format!("\n{}", yaml_document(value, indent + 1)),
        other => format!(" {}\n", yaml_value(other)),
    };
    match value {
        Json::Object(map) if !map.is_empty() => {
            let entry = |(key, value): (&String, &Json)| match yaml_key(key) {
                long if long.chars().count() > SIMPLE_KEY_MAX => {
                    format!("{edge}? {long}\n{edge}:{}", below(value))
                }
                key => format!("{edge}{key}:{}", below(value)),
            };
            map.iter().map(entry).collect()
        }
        Json::Array(items) if !items.is_empty() => {
            // The first line of what is in an item stands beside its dash.
            let item = |item: &Json| format!("{edge}- {}\n", yaml_document(item, indent + 1).trim());
            items.iter().map(item).collect()
        }
        other => format!("{edge}{}\n", yaml_value(other)),
    }
}

/// A name of letters and digits stands without quotes, if no reader takes it for something else.
fn yaml_key(key: &str) -> String {
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain =
        key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(|c| c.is_ascii_alphanumeric());
    if plain && !words.contains(&&*key.to_ascii_lowercase()) { key.to_owned() } else { yaml_text(key) }
}

fn yaml_text(text: &str) -> String {
    escape_odd(&Json::from(text).to_string())
}

/// JSON without the characters that YAML's readers refuse unescaped, or take for line ends: the same JSON, and YAML.
pub(crate) fn escape_odd(json: &str) -> String {
    let odd = |c: char| {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if odd(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// `1e21` is a text in YAML 1.1: a number has a point there, and its exponent a sign.
fn yaml_number(number: &Number) -> String {
    let text = number.to_string();
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let point = if mantissa.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['-', '+']) { "" } else { "+" };
    format!("{mantissa}{point}e{sign}{exponent}")
}

pub(super) fn json(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let text = serde_json::to_string(value).map_err(|_| bad("the value cannot be written as JSON"))?;
    Ok(escape_odd(&text))
}

fn tree(value: &Value) -> Result<Json, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    // Not by way of text: reading a number again may change its last digit.
    serde_json::to_value(value).map_err(|_| bad("the value cannot be written as JSON"))
}

fn bad(message: &'static str) -> Error {
    Error::new(ErrorKind::BadSerialization, message)
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

/// Text that comes out of Go's template engine as it went in.
pub(super) fn go_template(value: &Value) -> Result<String, Error> {
    plain(value).map(|text| text.replace("{{", r#"{{"{{"}}"#))
}

/// A list of kernel arguments as one command line. What would be two words there, or end the line, is an error.
pub(super) fn command_line(value: &Value) -> Result<String, Error> {
    let wrong = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    if value.kind() != ValueKind::Seq {
        return Err(wrong(format!(
            "a command line is made of a list of arguments, not of a {}",
            value.kind()
        )));
    }
    let word = |item: Value| {
        let text = plain(&item)?;
        let fine = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '`' | '\\' | '$');
        match text.chars().find(|c| !fine(*c)) {
            None if !text.is_empty() => Ok(text),
            None => Err(wrong("a kernel argument is not empty".to_owned())),
            Some(c) => Err(wrong(format!("a kernel argument is one word, without {c:?}"))),
        }
    };
    Ok(value.try_iter()?.map(word).collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// A TOML value on one line. TOML has no null.
pub(super) fn toml(value: &Value) -> Result<String, Error> {
    toml_value(&tree(value)?)
}

fn toml_value(value: &Json) -> Result<String, Error> {
    let wrong = |message: &'static str| Error::new(ErrorKind::InvalidOperation, message);
    match value {
        Json::Null => Err(wrong("TOML has no null")),
        Json::Number(number) if number.is_u64() && !number.is_i64() => {
            Err(wrong("TOML has no whole number above 9223372036854775807"))
        }
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
