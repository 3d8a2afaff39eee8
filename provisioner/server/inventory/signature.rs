//! Who must have signed an image, as its declaration says, and which images the site takes only with a signature.

use super::{
    image::ImageDeclaration,
    values::{BadValue, HttpUrl, RecordName, RelativePath, shown},
};
use minisign_verify::PublicKey;
use p256::{ecdsa::VerifyingKey, pkcs8::DecodePublicKey};
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Longest signature, payload or root that stands in a declaration or a file: real ones have a few kilobytes.
pub const GIVEN_MAX: usize = 512 << 10;

/// `signature:` of an image. Whatever it is, the declared hashes are held to as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignaturePolicy {
    Minisign(Minisign),
    Cosign(Cosign),
    Tuf(Tuf),
}

/// `minisign -S` of the file as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minisign {
    pub public_key: MinisignKey,
    /// What minisign writes as `FILE.minisig`.
    pub signature: Given,
}

/// A signature by a key, checked without asking anybody: `cosign sign-blob --key` of the file, or with `payload`
/// `cosign sign --key` of the manifest that the image comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosign {
    pub key: CosignKey,
    /// Base64, as cosign writes it. None: the registry's own `sha256-….sig` is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Given>,
    /// The "simple signing" document that the signature is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Given>,
}

/// A target of a TUF repository has the file's length and hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuf {
    pub repository: TufRepository,
    /// The first `root.json` that is trusted; later ones are followed from there, and remembered.
    pub root: Given,
    /// Path of the target in the repository.
    pub target: String,
}

/// Where `timestamp.json` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TufRepository {
    /// A folder below the images folder.
    Folder(RelativePath),
    Url(HttpUrl),
}

/// A text that stands in the declaration, or in a file below the images folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    File(RelativePath),
    Text(String),
}

/// A minisign public key: the line that begins with `RW`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MinisignKey(String);

/// An ECDSA P-256 public key in PEM, as `cosign generate-key-pair` writes `cosign.pub`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CosignKey(String);

impl MinisignKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CosignKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MinisignKey {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let key = text.trim();
        PublicKey::from_base64(key).map(|_| Self(key.to_owned())).map_err(|_| {
            BadValue::new(format!(
                "{} is no minisign public key: give the second line of minisign.pub, which begins with RW",
                shown(text)
            ))
        })
    }
}

impl FromStr for CosignKey {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        VerifyingKey::from_public_key_pem(text.trim()).map(|_| Self(text.trim().to_owned())).map_err(|e| {
            BadValue::new(format!(
                "this is no ECDSA P-256 public key in PEM ({e}): give what cosign.pub holds"
            ))
        })
    }
}

impl TryFrom<String> for MinisignKey {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl TryFrom<String> for CosignKey {
    type Error = BadValue;

    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<MinisignKey> for String {
    fn from(key: MinisignKey) -> Self {
        key.0
    }
}

impl From<CosignKey> for String {
    fn from(key: CosignKey) -> Self {
        key.0
    }
}

/// The images that the site takes only with a signature: `none`, `all`, or a list of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SignaturesRequired {
    #[default]
    None,
    All,
    Named(BTreeSet<RecordName>),
}

impl SignaturesRequired {
    pub fn of(&self, image: &RecordName) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Named(names) => names.contains(image),
        }
    }

    /// What is to be done about an image without the signature that the site wants.
    pub fn complaint(&self, image: &ImageDeclaration) -> Option<String> {
        (image.signature.is_none() && self.of(&image.name)).then(|| {
            format!(
                "this site takes the image {} only with a signature ([signatures] in the server's configuration): \
                 declare signature: {{minisign: …}}, {{cosign: …}} or {{tuf: …}}",
                image.name
            )
        })
    }
}

// By hand, because serde's `untagged` would lose the reason of a mistake.
impl<'de> Deserialize<'de> for SignaturesRequired {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = SignaturesRequired;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"all\" or a list of images' names")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SignaturesRequired, E> {
                match text {
                    "none" => Ok(SignaturesRequired::None),
                    "all" => Ok(SignaturesRequired::All),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<SignaturesRequired, A::Error> {
                let mut names = BTreeSet::new();
                while let Some(name) = list.next_element()? {
                    names.insert(name);
                }
                Ok(SignaturesRequired::Named(names))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    fn image(signature: Option<serde_json::Value>) -> Result<ImageDeclaration, serde_json::Error> {
        let mut spec =
            json!({"name": "i", "source": {"file": "i"}, "format": "raw", "sha256": "ab".repeat(32)});
        if let Some(signature) = signature {
            spec["signature"] = signature;
        }
        serde_json::from_value(spec)
    }

    #[test]
    fn a_policy_is_read_with_good_keys_only() {
        let minisign =
            |key: &str| json!({"minisign": {"public_key": key, "signature": {"file": "i.minisig"}}});
        let read = image(Some(minisign(KEY))).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap()["signature"], minisign(KEY));
        for (bad, expected) in [
            (minisign("RWnope"), "second line of minisign.pub"),
            (json!({"cosign": {"key": "-----BEGIN PUBLIC KEY-----"}}), "no ECDSA P-256"),
            (json!({"gpg": {}}), "unknown variant"),
            (json!({"minisign": {"public_key": KEY, "signature": {"file": "../x"}}}), "../x"),
        ] {
            let error = image(Some(bad)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_site_says_which_images_need_one() {
        let unsigned = image(None).unwrap();
        let read = |value: serde_json::Value| serde_json::from_value::<SignaturesRequired>(value);
        assert_eq!(read(json!("none")).unwrap().complaint(&unsigned), None);
        assert!(read(json!("all")).unwrap().complaint(&unsigned).unwrap().contains("image i only"));
        assert!(read(json!(["i", "j"])).unwrap().complaint(&unsigned).is_some());
        assert_eq!(read(json!(["j"])).unwrap().complaint(&unsigned), None);
        assert!(read(json!("some")).unwrap_err().to_string().contains("\"all\" or a list"));
        let minisign = json!({"minisign": {"public_key": KEY, "signature": {"text": "x"}}});
        assert_eq!(SignaturesRequired::All.complaint(&image(Some(minisign)).unwrap()), None);
    }
}
