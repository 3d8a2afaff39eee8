//! `registry.example:5000/os/talos:v1.10@sha256:…`: where an artifact is in a registry.

use super::values::{BadValue, shown};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// With a tag, a digest, or both; then the digest counts and the tag is for people. The registry must be named: there is
/// no default that a missing word could fall to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OciReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    /// `sha256:` and 64 digits.
    digest: Option<String>,
}

impl OciReference {
    /// Host, and port where it is not the usual one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What the registry is asked for: the digest, or the tag.
    pub fn wanted(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or_default()
    }
}

impl FromStr for OciReference {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let wrong = |what: &str| BadValue::new(format!("{}: {what}", shown(text)));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        if digest.as_deref().is_some_and(|d| !is_digest(d)) {
            return Err(wrong("the digest is not sha256: and 64 hexadecimal digits"));
        }
        let (registry, path) = rest.split_once('/').ok_or_else(|| wrong("not REGISTRY/REPOSITORY:TAG"))?;
        if !is_host(registry) {
            return Err(wrong(
                "the registry's host (with a dot, a port, or localhost) stands before the first /",
            ));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(wrong("the repository is not names of a-z, 0-9, '.', '_' and '-' between slashes"));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("the tag is not 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'"));
        }
        if tag.is_none() && digest.is_none() {
            return Err(wrong("neither a tag nor a digest; \"latest\" is not assumed"));
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|d| d.len() == 64 && d.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)))
}

fn is_host(text: &str) -> bool {
    let known = text == "localhost" || text.contains(['.', ':']);
    known && text.bytes().all(|c| c.is_ascii_alphanumeric() || b".-:[]".contains(&c))
}

fn is_component(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.bytes().all(|c| good(c) || b"._-".contains(&c))
        && text.bytes().next().is_some_and(good)
        && text.bytes().last().is_some_and(good)
}

fn is_tag(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(good)
        && text.bytes().all(|c| good(c) || b".-".contains(&c))
}

impl TryFrom<String> for OciReference {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<OciReference> for String {
    fn from(reference: OciReference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_they_are_written() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, wanted) in [
            ("registry.example/talos:v1.10".to_owned(), "v1.10"),
            (format!("127.0.0.1:5000/os/flatcar/stable@{digest}"), &*digest),
            (format!("localhost/a:tag@{digest}"), &*digest),
        ] {
            let reference: OciReference = text.parse().unwrap();
            assert_eq!((reference.to_string(), reference.wanted()), (text, wanted));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_its_reason() {
        for (text, why) in [
            ("talos:v1", "not REGISTRY/REPOSITORY"),
            ("library/talos:v1", "the registry's host"),
            ("registry.example/talos", "\"latest\" is not assumed"),
            ("registry.example/Talos:v1", "the repository"),
            ("registry.example/a//b:v1", "the repository"),
            ("registry.example/../b:v1", "the repository"),
            ("registry.example/a:", "the tag"),
            ("registry.example/a:v 1", "the tag"),
            ("registry.example/a@sha256:12", "the digest"),
            ("user@registry.example/a:v1", "the digest"),
        ] {
            let refused = text.parse::<OciReference>().unwrap_err().to_string();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
