//! PURE. URLs as Ignition takes them: read by the rules of Go's `net/url`, the schemes of the config's version, `data:` as
//! its reader reads it; and the form of hashes.

use super::data;
use std::borrow::Cow;

const UNREADABLE: &str = "unable to parse url";

/// What the rules need of a URL.
pub(super) struct Url<'a> {
    pub(super) scheme: String,
    /// What follows the scheme where no slash does, without the query.
    opaque: &'a str,
    query: &'a str,
}

/// `None` where Go's `url.Parse` has an error.
pub(super) fn parse(text: &str) -> Option<Url<'_>> {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) || !escapes_are_whole(fragment) {
        return None;
    }
    let (scheme, rest) = scheme(text)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme: scheme.to_ascii_lowercase(), opaque: "", query };
    let mut path = rest;
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            url.opaque = rest;
            return Some(url);
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return None;
        }
    } else if let Some(after) = rest.strip_prefix("//")
        && (!scheme.is_empty() || !after.starts_with('/'))
    {
        let end = after.find('/').unwrap_or(after.len());
        let (authority, below) = after.split_at(end);
        if !is_authority(authority) {
            return None;
        }
        path = below;
    }
    escapes_are_whole(path).then_some(url)
}

/// The scheme, which may be none, and what follows its colon.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')));
    match end {
        Some(0) if text.starts_with(':') => None,
        Some(end) if text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let (name, rest) = text.split_at(end);
            Some(rest.strip_prefix(':').map_or(("", text), |rest| (name, rest)))
        }
        _ => Some(("", text)),
    }
}

/// Two hexadecimal digits after each `%`.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| matches!(after.as_bytes(), [a, b, ..] if is_hex(*a) && is_hex(*b)))
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn is_authority(authority: &str) -> bool {
    let Some((user, host)) = authority.rsplit_once('@') else { return is_host(authority) };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    user.chars().all(allowed) && escapes_are_whole(user) && is_host(host)
}

fn is_host(host: &str) -> bool {
    if host.starts_with('[') {
        let Some((address, port)) = host.rsplit_once(']') else { return false };
        return match address.split_once("%25") {
            Some((address, zone)) => is_port(port) && host_part(address) && zone_part(zone),
            None => is_port(port) && host_part(address),
        };
    }
    let port = host.rfind(':').and_then(|at| host.get(at..)).unwrap_or_default();
    is_port(port) && host_part(host)
}

fn is_port(port: &str) -> bool {
    port.is_empty() || port.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
}

fn is_host_letter(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"".contains(c)
}

/// An escape in a host is one of a byte that is no ASCII, or of `%` itself.
fn host_part(text: &str) -> bool {
    let escaped =
        |after: &str| after.starts_with("25") || after.starts_with(|c: char| !('0'..='7').contains(&c));
    escapes_are_whole(text)
        && text.split('%').skip(1).all(escaped)
        && text.chars().all(|c| c == '%' || is_host_letter(c))
}

fn zone_part(text: &str) -> bool {
    let escaped = |after: &str| {
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| {
            byte == b'%' || byte == b' ' || (byte < 0x80 && is_host_letter(char::from(byte)))
        })
    };
    escapes_are_whole(text)
        && text.split('%').skip(1).all(escaped)
        && text.chars().all(|c| c == '%' || is_host_letter(c))
}

/// Ignition's words of why it takes nothing from `text`. `minor` is of the config's version; `oem` says whether the
/// system has the scheme of Flatcar's own partition.
pub(super) fn check(text: &str, minor: u32, oem: bool) -> Result<(), Cow<'static, str>> {
    if text.is_empty() {
        return Ok(());
    }
    let url = parse(text).ok_or(UNREADABLE)?;
    match &*url.scheme {
        "http" | "https" | "tftp" => Ok(()),
        "gs" if minor >= 2 => Ok(()),
        "oem" if oem => Ok(()),
        "s3" => url.version_id(),
        "arn" if minor >= 4 => url.arn().and_then(|()| url.version_id()),
        "data" => data::check(text),
        _ => Err("invalid url scheme".into()),
    }
}

/// Ignition's words of what is wrong with a URL that must be HTTP's; `other` are those for another scheme.
pub(super) fn check_http(text: &str, other: &'static str) -> Result<(), &'static str> {
    match &*parse(text).ok_or(UNREADABLE)?.scheme {
        "http" | "https" => Ok(()),
        _ => Err(other),
    }
}

impl Url<'_> {
    /// A version that is named must not be empty.
    fn version_id(&self) -> Result<(), Cow<'static, str>> {
        let pairs = self.query.split('&').filter(|pair| !pair.contains(';'));
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        match pairs.find(|(key, value)| *key == "versionId" && escapes_are_whole(value)) {
            Some((_, "")) => Err("invalid S3 object VersionId".into()),
            _ => Ok(()),
        }
    }

    fn arn(&self) -> Result<(), Cow<'static, str>> {
        // arn:partition:service:region:account:resource
        let mut parts = self.opaque.splitn(5, ':').skip(1);
        let (service, resource) = (parts.next(), parts.nth(2));
        let slashes = self.opaque.matches('/').count();
        match (service, resource) {
            (Some("s3"), Some(resource))
                if slashes >= if resource.starts_with("accesspoint/") { 2 } else { 1 } =>
            {
                Ok(())
            }
            _ => Err("invalid S3 ARN format".into()),
        }
    }
}

/// Ignition's words of what is wrong with a `FUNCTION-SUM`.
pub(super) fn check_hash(hash: &str, minor: u32) -> Result<(), &'static str> {
    let (function, sum) = hash.split_once('-').ok_or("malformed hash specifier")?;
    let digits = match function {
        "sha512" => 128,
        "sha256" if minor >= 1 => 64,
        _ => return Err("unrecognized hash function"),
    };
    if sum.len() == digits { Ok(()) } else { Err("incorrect size for hash sum") }
}
