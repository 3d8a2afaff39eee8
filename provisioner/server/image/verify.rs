//! The only way to a [`VerifiedImage`]: a file that was read whole, held to all that its declaration says. Blocks.

use super::{
    CHUNKS_BASE, ImageError,
    cache::Contents,
    format::{HEAD, detect},
    name,
    source::Fetched,
    trust::Trust,
};
use crate::inventory::ImageDeclaration;
use provisioner_wire::{
    chunks::{Chunks, Sha},
    ids::hex,
    order::{Image, ImageFormat},
};
use sha2::{Digest, Sha256, Sha512};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// An image whose bytes are those that were declared, signed by whom the declaration and the site want; or, without a
/// file here, one that the agent will hold to its declared hash. Its fields are private and only this file makes one:
///
/// ```compile_fail
/// let forged = provisioner::image::VerifiedImage { image: todo!(), file: None };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedImage {
    image: Image,
    file: Option<PathBuf>,
}

impl VerifiedImage {
    /// As the agent is told.
    pub fn wire(&self) -> Image {
        self.image.clone()
    }

    pub fn sha256(&self) -> &str {
        &self.image.sha256
    }

    /// Of the manifest, where it was taken in.
    pub fn root(&self) -> Option<Sha> {
        Sha::from_hex(&self.image.chunks.as_ref()?.root)
    }

    /// Where this server has it; `None` for a URL.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn in_chunks(mut self, root: Sha) -> Self {
        let base = CHUNKS_BASE.to_owned();
        self.image.chunks = Some(Chunks { root: root.to_string(), base, caches: Vec::new() });
        self
    }
}

/// Holds `fetched` to its declaration: size, format, `sha256` (the declared one, wherever it stood), SHA-512, signature.
pub fn verify(
    fetched: &Fetched,
    declared: &ImageDeclaration,
    sha256: &str,
    trust: &Trust,
) -> Result<VerifiedImage, ImageError> {
    let image = || name(declared);
    if let Some(size) = declared.size.filter(|size| size.0 != fetched.size) {
        return Err(ImageError::Size { image: image(), declared: size.0, seen: fetched.size });
    }
    if fetched.detected != declared.format.to_string() {
        let seen = fetched.detected.clone();
        return Err(ImageError::Format { image: image(), declared: declared.format, seen });
    }
    if fetched.sha256 != sha256 {
        let (declared, seen) = (sha256.to_owned(), fetched.sha256.clone());
        return Err(ImageError::Sha256 { image: image(), declared, seen });
    }
    if let Some(sha512) = declared.sha512.as_ref().filter(|sha512| sha512.as_str() != fetched.sha512) {
        let (declared, seen) = (sha512.to_string(), fetched.sha512.clone());
        return Err(ImageError::Sha512 { image: image(), declared, seen });
    }
    trust.judge(declared, fetched).map_err(|source| ImageError::Signature { image: image(), source })?;
    let url = format!("/images/{sha256}");
    Ok(made(declared, url, sha256.to_owned(), fetched.size, fetched.path.clone()))
}

fn made(
    declared: &ImageDeclaration,
    url: String,
    sha256: String,
    size_bytes: u64,
    file: PathBuf,
) -> VerifiedImage {
    // A raw image's own hash and size are those of its disk.
    let raw = declared.format == ImageFormat::Raw;
    let own_sha256 = raw.then(|| sha256.clone());
    let raw_sha256 = declared.raw_sha256.as_ref().map(|s| s.as_str().to_owned());
    let image = Image {
        name: name(declared),
        url,
        format: declared.format,
        sha256,
        size_bytes,
        raw_sha256: raw_sha256.or(own_sha256),
        raw_size_bytes: declared.raw_size.map(|s| s.0).or(raw.then_some(size_bytes)),
        chunks: None,
    };
    let file = Some(file);
    VerifiedImage { image, file }
}

/// Reads a whole file: what it is and its hashes.
pub(super) fn read(path: &Path) -> io::Result<Contents> {
    let mut file = File::open(path)?;
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let (mut sha256, mut sha512) = (Sha256::new(), Sha512::new());
    let mut hash = |bytes: &[u8]| {
        sha256.update(bytes);
        sha512.update(bytes);
    };
    hash(&head);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => hash(bytes),
            _ => break,
        }
    }
    let (sha256, sha512) = (hex(&sha256.finalize()), hex(&sha512.finalize()));
    Ok(Contents { sha256, sha512, detected: detect(&head).to_owned() })
}
