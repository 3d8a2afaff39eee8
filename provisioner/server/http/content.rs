//! What the routes need of the rooms that know hardware, profiles, images, rendering and keys. `serve` brings the
//! real ones; tests bring their own.

use super::error::Problem;
use crate::{
    image::progress::Taken,
    inventory::ImageDeclaration,
    machine::{Machine, Time},
    store::declared::Kind,
};
use provisioner_wire::{Mac, chunks::Sha, order::Config, wipe::SignedCertificate};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin};
use utoipa::ToSchema;

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything declared, as stored.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    pub machines: Vec<Value>,
    pub profiles: Vec<Value>,
    pub images: Vec<Value>,
    pub clusters: Vec<Value>,
}

/// One change to what is declared.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    Put { kind: Kind, name: &'a str, spec: Value },
    Delete { kind: Kind, name: &'a str },
}

/// A change that was found good.
#[derive(Debug)]
pub struct Checked {
    /// To be stored: normalised, without any secret.
    pub spec: Value,
    /// Secrets taken out of it, by field name, to be sealed.
    pub secrets: Vec<(String, SecretString)>,
}

/// What the API shows and the store indexes of one machine's hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub macs: Vec<Mac>,
    pub uuid: Option<uuid::Uuid>,
    /// The BMC's URL.
    pub bmc: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub profile: Option<String>,
}

/// A rendered config and what is kept of the token in it.
#[derive(Debug)]
pub struct Rendered {
    pub config: Config,
    /// SHA-256 of the token, hexadecimal.
    pub token_hash: String,
    pub token_expires: Time,
    /// SHA-256 of the rendered files, hexadecimal.
    pub config_hash: String,
}

/// Why there is no config now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrendered {
    /// The issuer of its token does not answer; asked again later it may.
    Later(String),
    /// Needs a person.
    Never(String),
}

impl From<String> for Unrendered {
    fn from(reason: String) -> Self {
        Self::Never(reason)
    }
}

impl From<&str> for Unrendered {
    fn from(reason: &str) -> Self {
        Self::Never(reason.to_owned())
    }
}

/// What an image was taken apart into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Manifest,
    Chunk,
}

/// An image as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImageState {
    #[serde(flatten)]
    pub taken: Taken,
    /// All of that for a person: `fetching, 34 %, 12 MB/s, about 3 min`.
    pub said: String,
    /// The digest that a registry's tag was pinned to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    /// Bytes of the disk, and of its chunks as they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packed_bytes: Option<u64>,
}

/// What a reading of all chunks has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImageCheck {
    pub chunks: u64,
    pub bytes: u64,
    /// Chunks that were missing or other than their name, and were made again.
    pub damaged: Vec<String>,
}

/// What nobody needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImagesRemoved {
    /// Nothing was removed: these would be.
    pub dry_run: bool,
    pub manifests: u64,
    pub chunks: u64,
    /// Fetched files.
    pub files: u64,
    pub bytes: u64,
}

pub trait Content: Send + Sync + 'static {
    /// Checks all that would be declared after `change`; every problem, not only the first.
    fn check(&self, declared: &Declared, change: Change<'_>) -> Result<Checked, Vec<Problem>>;

    /// Reads a stored machine record.
    fn facts(&self, spec: &Value) -> Facts;

    /// Renders everything for `machine` with a dummy token. The profile to use, or what is wrong.
    fn preflight<'a>(
        &'a self,
        machine: &'a Machine,
        profile: Option<&'a str>,
    ) -> Answer<'a, Result<String, Vec<Problem>>>;

    /// The config for the live claim of `machine`, at `now`. The same claim gets the same token, so that a retry of
    /// the agent is not a second mint.
    fn render<'a>(&'a self, machine: &'a Machine, now: Time) -> Answer<'a, Result<Rendered, Unrendered>>;

    /// The config as it would be rendered now, with [`super::boot::REDACTED`] for its token. Nothing is minted.
    fn preview<'a>(&'a self, machine: &'a Machine) -> Answer<'a, Result<Config, String>> {
        Box::pin(async move { Err(format!("nothing is rendered for {}", machine.name)) })
    }

    /// The file with this SHA-256, of a declared image or a running workflow's.
    fn image_file<'a>(&'a self, sha256: &'a str) -> Answer<'a, Option<PathBuf>>;

    /// The file of a manifest or a chunk with this SHA-256, which may not be there.
    fn piece(&self, piece: Piece, sha256: &Sha) -> Option<PathBuf>;

    /// How far this image is, for a person; `None` where nobody has to wait for it.
    fn image_waits(&self, _declared: &ImageDeclaration) -> Option<String> {
        None
    }

    /// How far the declared image of this name is.
    fn image_state<'a>(&'a self, name: &'a str) -> Answer<'a, Result<ImageState, String>> {
        Box::pin(async move { Err(format!("nothing is known of image {name}")) })
    }

    /// Reads its chunks again; what is damaged is made again from the original.
    fn verify_image<'a>(&'a self, name: &'a str) -> Answer<'a, Result<ImageCheck, String>> {
        Box::pin(async move { Err(format!("image {name} is not taken in")) })
    }

    /// Removes what neither a declaration nor a running workflow names, or with `dry_run` says what that is.
    fn collect_images(&self, dry_run: bool) -> Answer<'_, Result<ImagesRemoved, String>> {
        Box::pin(async move { Ok(ImagesRemoved { dry_run, ..ImagesRemoved::default() }) })
    }

    /// What a disk of `disk_bytes` with the image of this manifest answers to a challenge.
    fn read_back<'a>(
        &'a self,
        root: Sha,
        nonce: provisioner_wire::read_back::Nonce,
        disk_bytes: u64,
    ) -> Answer<'a, Result<String, String>> {
        Box::pin(async move {
            Err(format!("{root}: no chunks for a disk of {disk_bytes} bytes ({})", nonce.len()))
        })
    }

    /// Signs a wipe certificate with the site's key.
    fn certify(&self, certificate: String) -> Result<SignedCertificate, String> {
        Err(format!("no key to sign with: {certificate}"))
    }

    /// Seals a secret for the store, bound to its owner (a machine, `cluster/NAME`) and the field.
    fn seal(&self, owner: &str, field: &str, secret: &SecretString) -> Result<Vec<u8>, String>;
}
