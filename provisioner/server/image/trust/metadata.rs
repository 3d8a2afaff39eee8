//! PURE. TUF metadata as documents: read, and held to the signatures of a role (specification 1.0, §4 and §5).

use super::{
    key::{TufKey, sha512, short},
    tuf::TufError,
};
use crate::machine::Time;
use olpc_cjson::CanonicalFormatter;
use provisioner_wire::chunks::Sha;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A document whose signatures were held to a role's keys.
#[derive(Debug, Clone)]
pub(super) struct Signed<T> {
    pub file: String,
    pub version: u64,
    expires: Time,
    expires_text: String,
    pub body: T,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Root {
    #[serde(default)]
    pub consistent_snapshot: bool,
    pub keys: BTreeMap<String, TufKey>,
    pub roles: BTreeMap<String, Role>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Role {
    pub keyids: Vec<String>,
    pub threshold: u32,
}

/// Of `timestamp.json` and `snapshot.json`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Index {
    pub meta: BTreeMap<String, Meta>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Meta {
    pub version: u64,
    pub length: Option<u64>,
    #[serde(default)]
    pub hashes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Targets {
    pub targets: BTreeMap<String, Target>,
    pub delegations: Option<Delegations>,
}

/// What a target's file must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Target {
    pub length: u64,
    /// By algorithm, hexadecimal.
    pub hashes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Delegations {
    pub keys: BTreeMap<String, TufKey>,
    #[serde(default)]
    pub roles: Vec<Delegated>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Delegated {
    pub name: String,
    #[serde(flatten)]
    pub role: Role,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    path_hash_prefixes: Vec<String>,
    #[serde(default)]
    pub terminating: bool,
}

#[derive(Deserialize)]
struct Envelope {
    signatures: Vec<Signature>,
    signed: Value,
}

#[derive(Deserialize)]
struct Signature {
    keyid: String,
    #[serde(default)]
    sig: String,
}

#[derive(Deserialize)]
struct Common {
    _type: String,
    spec_version: String,
    version: u64,
    expires: String,
}

/// Reads a document of `kind` ("root", …) whose signatures must be those of each of `roles` with its keys.
pub(super) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    file: &str,
    kind: &str,
    roles: &[(&Role, &BTreeMap<String, TufKey>)],
) -> Result<Signed<T>, TufError> {
    let malformed = |what: String| TufError::Malformed { file: file.to_owned(), what };
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
    let message = canonical(&envelope.signed).map_err(|e| malformed(e.to_string()))?;
    for (role, keys) in roles {
        hold(&envelope.signatures, &message, file, role, keys)?;
    }
    let common = Common::deserialize(&envelope.signed).map_err(|e| malformed(e.to_string()))?;
    if common._type != kind || !common.spec_version.starts_with("1.") {
        let what = format!("it is \"{}\" of specification {}", common._type, common.spec_version);
        return Err(malformed(what));
    }
    let expires = OffsetDateTime::parse(&common.expires, &Rfc3339)
        .map_err(|e| malformed(format!("expires {:?}: {e}", common.expires)))?;
    let milliseconds = i64::try_from(expires.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let body = T::deserialize(&envelope.signed).map_err(|e| malformed(e.to_string()))?;
    let (file, version) = (file.to_owned(), common.version);
    Ok(Signed { file, version, expires: Time(milliseconds), expires_text: common.expires, body })
}

/// What the signatures are of (canonical JSON).
pub(super) fn canonical(signed: &Value) -> Result<Vec<u8>, serde_json::Error> {
    let mut message = Vec::new();
    signed.serialize(&mut serde_json::Serializer::with_formatter(&mut message, CanonicalFormatter::new()))?;
    Ok(message)
}

/// As many different keys of the role have signed as its threshold says.
fn hold(
    signatures: &[Signature],
    message: &[u8],
    file: &str,
    role: &Role,
    keys: &BTreeMap<String, TufKey>,
) -> Result<(), TufError> {
    let good = signatures.iter().filter(|s| role.keyids.contains(&s.keyid)).filter_map(|s| {
        let key = keys.get(&s.keyid)?;
        key.signed(message, &s.sig).then(|| key.public())
    });
    let (have, need) = (good.collect::<BTreeSet<_>>().len(), role.threshold.max(1));
    if u32::try_from(have).is_ok_and(|have| have >= need) {
        return Ok(());
    }
    let keys = role.keyids.iter().map(|id| short(id)).collect::<Vec<_>>().join(", ");
    Err(TufError::Signatures { file: file.to_owned(), have, need, keys })
}

impl<T> Signed<T> {
    /// Not expired at `now`; when it will be.
    pub(super) fn fresh(&self, now: Time) -> Result<Time, TufError> {
        if now.0 < self.expires.0 {
            return Ok(self.expires);
        }
        Err(TufError::Expired { file: self.file.clone(), expires: self.expires_text.clone() })
    }
}

impl Root {
    pub(super) fn role(&self, name: &str) -> Result<(&Role, &BTreeMap<String, TufKey>), TufError> {
        let role = self.roles.get(name).ok_or_else(|| TufError::Malformed {
            file: "root.json".to_owned(),
            what: format!("it has no role {name}"),
        })?;
        Ok((role, &self.keys))
    }
}

impl Index {
    pub(super) fn of(&self, file: &str, name: &str) -> Result<&Meta, TufError> {
        self.meta.get(name).ok_or_else(|| TufError::Malformed {
            file: file.to_owned(),
            what: format!("it does not name {name}"),
        })
    }
}

impl Meta {
    /// The bytes of `file` are those that were named.
    pub(super) fn holds(&self, file: &str, bytes: &[u8]) -> Result<(), TufError> {
        let right_length = self.length.is_none_or(|length| length == bytes.len() as u64);
        let right = self.hashes.iter().all(|(algorithm, hash)| match algorithm.as_str() {
            "sha256" => Sha::of(bytes).to_string() == hash.to_ascii_lowercase(),
            "sha512" => sha512(bytes) == hash.to_ascii_lowercase(),
            _ => true,
        });
        if right && right_length { Ok(()) } else { Err(TufError::Mixed { file: file.to_owned() }) }
    }
}

impl Delegated {
    /// Whether this role may speak of `path` (§4.5).
    pub(super) fn covers(&self, path: &str) -> bool {
        let hash = Sha::of(path.as_bytes()).to_string();
        self.paths.iter().any(|pattern| matches(pattern, path))
            || self.path_hash_prefixes.iter().any(|p| !p.is_empty() && hash.starts_with(p.as_str()))
    }
}

/// Shell patterns with `*` and `?`, neither of which stands for a `/`.
fn matches(pattern: &str, path: &str) -> bool {
    let (patterns, parts) = (pattern.split('/').collect::<Vec<_>>(), path.split('/').collect::<Vec<_>>());
    patterns.len() == parts.len() && patterns.iter().zip(parts).all(|(p, part)| part_matches(p, part))
}

fn part_matches(pattern: &str, part: &str) -> bool {
    // Without a recursion that a long pattern could drive: where the last star may still take one more.
    let (pattern, part) = (pattern.chars().collect::<Vec<_>>(), part.chars().collect::<Vec<_>>());
    let (mut p, mut at, mut star) = (0, 0, None);
    while at < part.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, at));
                p += 1;
            }
            Some(c) if *c == '?' || part.get(at) == Some(c) => (p, at) = (p + 1, at + 1),
            _ => match star {
                Some((back, from)) => {
                    star = Some((back, from + 1));
                    (p, at) = (back + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_their_folder() {
        for (pattern, path, yes) in [
            ("images/*.img", "images/a.img", true),
            ("images/*.img", "images/x/a.img", false),
            ("*", "images/a.img", false),
            ("a?c*", "abcdef", true),
            ("*a*b", "xxaxxbxb", true),
            ("*a*b", "xxaxxbx", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, path), yes, "{pattern} {path}");
        }
        assert!(!part_matches(&"*a".repeat(500), &"a".repeat(400)));
    }

    #[test]
    fn one_key_under_two_ids_signs_once() {
        use ring::signature::{Ed25519KeyPair, KeyPair};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let hex = provisioner_wire::ids::hex;
        let key: TufKey = serde_json::from_value(
            serde_json::json!({"scheme": "ed25519", "keyval": {"public": hex(pair.public_key().as_ref())}}),
        )
        .unwrap();
        let keys = BTreeMap::from([("a".to_owned(), key.clone()), ("b".to_owned(), key)]);
        let sig = hex(pair.sign(b"m").as_ref());
        let signatures = ["a", "b", "a"].map(|id| Signature { keyid: id.to_owned(), sig: sig.clone() });
        let role = |threshold| Role { keyids: vec!["a".into(), "b".into()], threshold };
        hold(&signatures, b"m", "f", &role(1), &keys).unwrap();
        hold(&signatures, b"m", "f", &role(0), &keys).unwrap();
        let error = hold(&signatures, b"m", "f", &role(2), &keys).unwrap_err().to_string();
        assert!(error.contains("1 of 2"), "{error}");
        assert!(hold(&[], b"m", "f", &role(0), &keys).is_err());
        assert!(hold(&signatures, b"n", "f", &role(1), &keys).is_err());
    }
}
