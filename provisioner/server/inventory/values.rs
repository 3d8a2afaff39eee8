//! The small values that declarations are made of. Each is checked where it is parsed, so that a stored one is always
//! good, and each is written back as the text it was read from.

use provisioner_wire::Mac;
use serde::{Deserialize, Deserializer, Serialize};
use std::{
    fmt,
    path::{Component, Path},
    str::FromStr,
    time::Duration,
};

/// Why a value is refused. `Display` is fit for an operator and quotes at most 80 characters of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(String);

impl BadValue {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    format!("{cut:?}")
}

/// A newtype over `String` that is only made by its check, and reads and writes itself as that text.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadValue;
            fn from_str(text: &str) -> Result<Self, BadValue> {
                $check(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadValue;
            fn try_from(text: String) -> Result<Self, BadValue> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// Name of a profile, an image, a template or a role: 1 to 63 of a-z, 0-9 and '-', like a DNS label.
    RecordName,
    record_name
);
text_type!(
    /// One line of 1 to 256 printable characters without leading or trailing space: a serial, a WWN, a model.
    Line,
    line
);
text_type!(
    /// One word of a kernel command line, `name` or `name=value`: printable ASCII without white space, quotes and what boot
    /// scripts take for their own, so that it can neither end the line nor become two words or another value.
    KernelArgument,
    kernel_argument
);
text_type!(
    /// A path below a folder of ours: relative, no `..`, no empty or hidden trick.
    RelativePath,
    relative_path
);
text_type!(
    /// An absolute directory inside a written file system, without `..`.
    AbsoluteDirectory,
    absolute_directory
);
text_type!(
    /// 64 lower-case hexadecimal digits.
    Sha256Hex,
    sha256_hex
);
text_type!(
    /// 128 lower-case hexadecimal digits.
    Sha512Hex,
    sha512_hex
);
text_type!(
    /// `http://` or `https://` URL without user name or password in it.
    HttpUrl,
    http_url
);
text_type!(
    /// Name of an environment variable.
    EnvName,
    env_name
);

fn record_name(text: &str) -> Result<String, BadValue> {
    if provisioner_wire::ids::is_label(text) {
        return Ok(text.to_owned());
    }
    Err(BadValue::new(format!(
        "{} is not a name (1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit)",
        shown(text)
    )))
}

fn line(text: &str) -> Result<String, BadValue> {
    if text.is_empty() || provisioner_wire::report::clean(text) != text {
        return Err(BadValue::new(format!(
            "{} is not one line of 1 to 256 printable characters without space at its ends",
            shown(text)
        )));
    }
    Ok(text.to_owned())
}

fn kernel_argument(text: &str) -> Result<String, BadValue> {
    // `${…}` would be expanded by iPXE, and `#`, `|` and `&` are its own: a value must stay the value it is.
    let good =
        |c: char| c.is_ascii_graphic() && !matches!(c, '$' | '"' | '\'' | '`' | '\\' | '#' | '|' | '&');
    if let Some(bad) = text.chars().find(|c| !good(*c)) {
        return Err(BadValue::new(format!(
            "kernel argument {} holds {bad:?}; only printable ASCII without spaces, new lines, quotes, backslashes and \
             $ # | & can stand in a boot script",
            shown(text)
        )));
    }
    if text.is_empty() || text.len() > 512 {
        return Err(BadValue::new("a kernel argument has 1 to 512 characters"));
    }
    Ok(text.to_owned())
}

fn relative_path(text: &str) -> Result<String, BadValue> {
    let plain = Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    if text.is_empty() || !plain || text.chars().any(char::is_control) {
        return Err(BadValue::new(format!("{} is not a relative path without '..'", shown(text))));
    }
    Ok(text.to_owned())
}

fn absolute_directory(text: &str) -> Result<String, BadValue> {
    let good = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
    if !text.starts_with('/') || !Path::new(text).components().all(good) || text.chars().any(char::is_control)
    {
        return Err(BadValue::new(format!("{} is not an absolute directory without '..'", shown(text))));
    }
    Ok(text.to_owned())
}

fn sha256_hex(text: &str) -> Result<String, BadValue> {
    let mut bytes = [0; 32];
    provisioner_wire::ids::hex_into(text, &mut bytes)
        .map(|()| text.to_ascii_lowercase())
        .ok_or_else(|| BadValue::new(format!("{} is not a SHA-256 (64 hexadecimal digits)", shown(text))))
}

fn sha512_hex(text: &str) -> Result<String, BadValue> {
    let mut bytes = [0; 64];
    provisioner_wire::ids::hex_into(text, &mut bytes)
        .map(|()| text.to_ascii_lowercase())
        .ok_or_else(|| BadValue::new(format!("{} is not a SHA-512 (128 hexadecimal digits)", shown(text))))
}

fn http_url(text: &str) -> Result<String, BadValue> {
    let url = reqwest::Url::parse(text)
        .map_err(|error| BadValue::new(format!("{} is not a URL: {error}", shown(text))))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(BadValue::new(format!("{} is not an http:// or https:// URL", shown(text))));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted: what stands there is a secret.
        return Err(BadValue::new("the URL holds a user name or password; they have their own keys"));
    }
    Ok(text.to_owned())
}

fn env_name(text: &str) -> Result<String, BadValue> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() || !text.chars().all(good) || text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(BadValue::new(format!("{} is not the name of an environment variable", shown(text))));
    }
    Ok(text.to_owned())
}

/// A number of bytes, written with a unit: `20GiB`, `500GB`, `512MiB`, `1073741824`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

impl FromStr for Size {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let wrong = || BadValue::new(format!("{} is not a size (like 20GiB, 500GB or bytes)", shown(text)));
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, factor)| text.strip_suffix(name).map(|rest| (rest.trim_end(), *factor)))
            .unwrap_or((text, 1));
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match exact {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl serde::de::Visitor<'_> for Reader {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size (like 20GiB, 500GB or a number of bytes)")
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A span of time, written `90s`, `15m`, `1h`; one second to seven days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

impl Period {
    pub const fn minutes(minutes: u64) -> Self {
        Self(Duration::from_secs(minutes * 60))
    }

    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        parse_span(text).filter(|span| (1..=7 * 86_400).contains(&span.as_secs())).map(Self).ok_or_else(
            || BadValue::new(format!("{} is not a time like 90s, 15m or 1h (1s to 7 days)", shown(text))),
        )
    }
}

impl TryFrom<String> for Period {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        span_text(period.0)
    }
}

/// How long a token lives, from when it is minted: one minute to two hours; one hour where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ttl(Duration);

impl Ttl {
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self(Duration::from_secs(3600))
    }
}

impl FromStr for Ttl {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        parse_span(text).filter(|span| (60..=7200).contains(&span.as_secs())).map(Self).ok_or_else(|| {
            BadValue::new(format!("{} is not a token's life (1m to 2h, like 1h or 30m)", shown(text)))
        })
    }
}

impl TryFrom<String> for Ttl {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<Ttl> for String {
    fn from(ttl: Ttl) -> Self {
        span_text(ttl.0)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&span_text(self.0))
    }
}

/// Reads a whole number with `s`, `m`, `h` or `d`.
fn parse_span(text: &str) -> Option<Duration> {
    let (digits, seconds) = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|digits| (digits, seconds)))?;
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// What [`parse_span`] reads, in the largest unit that is exact.
fn span_text(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A MAC that one NIC can own.
pub(crate) fn unicast<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mac, D::Error> {
    let mac = Mac::deserialize(deserializer)?;
    if mac.is_unicast() {
        return Ok(mac);
    }
    Err(serde::de::Error::custom(provisioner_wire::ids::IdError::MacNotUnicast(mac)))
}
