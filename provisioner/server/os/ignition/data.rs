//! PURE. `data:` URLs (RFC 2397) as Ignition's reader takes them: stricter than browsers, with its words.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};
use std::borrow::Cow;

type Said = Result<(), Cow<'static, str>>;

/// As Go's decoder, which does not look at the bits that are left over.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

const TYPES: [&str; 7] = ["text", "image", "audio", "video", "application", "message", "multipart"];

pub(super) fn check(text: &str) -> Said {
    let rest = text.strip_prefix("data:").ok_or("missing data prefix")?;
    let (is_base64, data) = header(rest)?;
    if is_base64 { base64_data(data) } else { plain(data) }
}

fn is_token(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}

/// Takes the letters of a token; the rest begins with the first other one.
fn token(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// Whether the data is base64, and the data.
fn header(text: &str) -> Result<(bool, &str), Cow<'static, str>> {
    let mut rest = if text.is_empty() || text.starts_with([';', ',']) { text } else { media_type(text)? };
    loop {
        match first(rest) {
            (Some(','), data) => return Ok((false, data)),
            (Some(';'), after) => {
                let (name, after) = token(after);
                match (name, first(after)) {
                    ("", (Some('=' | ','), _)) | (_, (None, _)) => {
                        return Err("unterminated parameter sequence".into());
                    }
                    ("base64", (Some(','), data)) => return Ok((true, data)),
                    (name, (Some(','), _)) => return Err(format!("expected base64, got {name}").into()),
                    (name, (Some('='), value)) if !name.is_empty() => rest = parameter(value)?,
                    _ => return Err("invalid character for parameter attribute".into()),
                }
            }
            (None, _) => return Err("missing comma before data".into()),
            _ => return Err("expected semicolon or comma".into()),
        }
    }
}

fn first(text: &str) -> (Option<char>, &str) {
    let mut letters = text.chars();
    (letters.next(), letters.as_str())
}

/// Reads `type/subtype`; the rest begins with `;` or `,`.
fn media_type(text: &str) -> Result<&str, Cow<'static, str>> {
    // Ignition's reader takes the letter after an x unseen: it looks for x-.
    let unseen =
        if text.starts_with(['x', 'X']) { text.chars().take(2).map(char::len_utf8).sum() } else { 0 };
    let (_, rest) = token(text.get(unseen..).unwrap_or_default());
    let name = text.strip_suffix(rest).unwrap_or_default();
    if name.is_empty() {
        return Err("invalid character after data prefix".into());
    }
    let Some(rest) = rest.strip_prefix('/') else {
        let end = rest.is_empty();
        let words = if end { "missing media type slash" } else { "invalid character for media type" };
        return Err(words.into());
    };
    let extension = name.starts_with("x-") || name.starts_with("X-");
    if !extension && !TYPES.iter().any(|known| name.starts_with(known)) {
        return Err("invalid media type".into());
    }
    let (_, rest) = token(rest);
    match rest.chars().next() {
        Some(';' | ',') => Ok(rest),
        Some(_) => Err("invalid character for media subtype".into()),
        None => Err("incomplete media type".into()),
    }
}

/// Reads a parameter's value, which may stand in quotes.
fn parameter(text: &str) -> Result<&str, Cow<'static, str>> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut escaped = false;
        for (at, c) in quoted.char_indices() {
            match c {
                _ if !c.is_ascii() => return Err("invalid character for parameter value".into()),
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return Ok(quoted.get(at + 1..).unwrap_or_default()),
                _ => {}
            }
        }
        return Err("unclosed quoted string".into());
    }
    let (value, rest) = token(text);
    match rest.chars().next() {
        Some(';' | ',') if !value.is_empty() => escapes(value).map(|()| rest),
        None => Err("missing comma before data".into()),
        Some(_) => Err("invalid character for parameter value".into()),
    }
}

fn base64_data(data: &str) -> Said {
    if !data.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')) {
        return Err("invalid data character".into());
    }
    BASE64.decode(data).map(drop).map_err(|_| "illegal base64 data".into())
}

fn plain(data: &str) -> Said {
    if !data.chars().all(|c| c.is_ascii_graphic() && !"<>#\"{}|\\^[]`".contains(c)) {
        return Err("invalid data character".into());
    }
    escapes(data)
}

fn escapes(text: &str) -> Said {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.iter().skip(at + 1).take(2);
        if digits.clone().any(|digit| !digit.is_ascii_hexdigit()) {
            return Err("rfc2396: invalid char 0x25 in unescape sequence".into());
        }
        if digits.count() < 2 {
            return Err("rfc2396: unexpected end of unescape sequence".into());
        }
    }
    Ok(())
}
