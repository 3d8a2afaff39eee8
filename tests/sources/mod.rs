//! Images that are not in the images folder: fetched from mirrors that lie and from a real registry.

mod addresses;
mod custody;
mod intake;
mod liar;
mod mirrors;
mod rebinding;
mod registry;
mod room;
mod server;

use provisioner::{
    image::{
        ImageError, Images, VerifiedImage,
        source::config::{FetchConfig, RegistryConfig},
    },
    inventory::{ImageDeclaration, from_json},
};
use provisioner_wire::ids::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, path::PathBuf};

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes that do not repeat within a block.
fn contents(length: usize) -> Vec<u8> {
    (0u32..).take(length).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// A server's images, kept in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
    images: Images,
}

impl Site {
    /// May fetch from loopback, where the tests' servers are.
    fn new() -> Self {
        Self::with("allow = [\"127.0.0.0/8\", \"::1/128\"]", &[])
    }

    fn with(fetch: &str, registries: &[RegistryConfig]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = images(folder.path(), fetch, registries);
        Self { folder, images }
    }

    /// As after a restart.
    fn again(self) -> Self {
        let images = images(self.folder.path(), "allow = [\"127.0.0.0/8\"]", &[]);
        Self { images, ..self }
    }

    async fn ready(&self, spec: Value) -> Result<VerifiedImage, ImageError> {
        self.images.ready(&declaration(spec)).await
    }

    /// What is kept of fetched files, by name.
    fn fetched(&self) -> Vec<(String, u64)> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("fetched")) else { return Vec::new() };
        let entries = entries.map(|e| e.unwrap()).filter(|e| e.metadata().unwrap().is_file());
        let mut all: Vec<_> =
            entries.map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().len())).collect();
        all.sort();
        all
    }

    fn part(&self, sha256: &str) -> PathBuf {
        self.folder.path().join("fetched").join(format!("{sha256}.part"))
    }
}

fn images(folder: &std::path::Path, fetch: &str, registries: &[RegistryConfig]) -> Images {
    // As `serve` has it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fetch: FetchConfig = toml::from_str(fetch).unwrap();
    let fetcher = fetch.fetcher(registries, folder).unwrap();
    Images::keeping(folder, folder).unwrap().fetching(fetcher)
}

fn declaration(spec: Value) -> ImageDeclaration {
    let mut whole = json!({"name": "i", "format": "raw"});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    from_json(&whole).unwrap()
}
