//! What an image's declaration says.

use super::{
    oci_reference::OciReference,
    signature::SignaturePolicy,
    values::{BadValue, HttpUrl, Line, RecordName, RelativePath, Sha256Hex, Sha512Hex, Size},
};
use provisioner_wire::order::ImageFormat;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;

/// A file in `hardware/images/`, or the body of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDeclaration {
    pub name: RecordName,
    pub source: ImageSource,
    /// Must be what the file's first bytes show.
    pub format: ImageFormat,
    /// Where else the file of a URL is, in the order to be tried. The hash decides, not the place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<HttpUrl>,
    /// SHA-256 of the file as it is (compressed, where it is). Only an artifact of a registry may leave it to its digest.
    #[serde(default, skip_serializing_if = "DeclaredSha256::is_absent")]
    pub sha256: DeclaredSha256,
    /// Which one of a registry's index: `amd64` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<Line>,
    /// SHA-512 of the same file, held to as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<Sha512Hex>,
    /// Who must have signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignaturePolicy>,
    /// Size of that file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// SHA-256 of the raw disk bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_sha256: Option<Sha256Hex>,
    /// Bytes of the raw disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_size: Option<Size>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// Below the server's images folder; served by the server.
    File(RelativePath),
    /// Fetched by the server from there, or from a mirror.
    Url(HttpUrl),
    /// Fetched by the server from a registry: the layer that is a disk.
    Oci(OciReference),
}

/// A SHA-256 in the declaration, or the name of a file in the images folder that holds it (as `sha256sum` writes it):
/// for images that are built on the spot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum DeclaredSha256 {
    Known(Sha256Hex),
    In {
        file: RelativePath,
    },
    /// Nothing is said.
    #[default]
    Absent,
}

impl DeclaredSha256 {
    fn is_absent(&self) -> bool {
        *self == Self::Absent
    }
}

// By hand, because serde's `untagged` would lose the reason and the place of a mistake.
impl<'de> Deserialize<'de> for DeclaredSha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct In {
            file: RelativePath,
        }
        struct Reader;
        impl<'de> de::Visitor<'de> for Reader {
            type Value = DeclaredSha256;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 hexadecimal digits or {file: NAME}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DeclaredSha256, E> {
                text.parse().map(DeclaredSha256::Known).map_err(|error: BadValue| E::custom(error))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<DeclaredSha256, A::Error> {
                let In { file } = In::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(DeclaredSha256::In { file })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
