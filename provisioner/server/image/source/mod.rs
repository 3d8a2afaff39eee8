//! Where images come from. In: a declaration. Out: a file on this server, which proves nothing yet: a [`Fetched`].

pub mod config;
mod container_disk;
mod download;
mod fetcher;
pub mod ledger;
mod oci;
mod pin;
mod room;

pub use download::FetchError;
pub(super) use fetcher::Begun;
pub use fetcher::{Fetcher, Limits, Local, NotFetched};
pub use ledger::Full;
pub use oci::Access;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A file that was read whole, and what was seen of it. Only [`super::verify::verify`] makes an image of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub path: PathBuf,
    /// Hexadecimal.
    pub sha256: String,
    /// Hexadecimal.
    pub sha512: String,
    pub size: u64,
    /// Name of the format that its first bytes show.
    pub detected: String,
    /// Of the manifest it came from, `sha256:…`, where it is from a registry.
    pub manifest_digest: Option<String>,
    /// That the registry has of that manifest.
    pub signatures: Vec<RegistrySignature>,
}

/// A layer of a registry's `sha256-….sig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySignature {
    pub payload: Vec<u8>,
    /// Base64, its annotation `dev.cosignproject.cosign/signature`.
    pub signature: String,
}
