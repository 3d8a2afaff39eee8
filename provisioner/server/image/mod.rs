//! Images as declared → images that may be written. In: a declaration, the images folder. Out: a [`VerifiedImage`],
//! whose only maker is [`verify`]: nothing else can be named in an order to write, or become chunks.

mod cache;
pub mod chunks;
mod format;
mod qcow2;
pub mod source;
pub mod trust;
pub mod verify;

pub use verify::VerifiedImage;

use crate::inventory::{DeclaredSha256, ImageDeclaration, ImageSource, RelativePath};
use cache::{Contents, HashCache, Stamp};
use chunks::{ChunkStore, TakeInError};
use provisioner_wire::{chunks::Sha, order::ImageFormat};
use source::Fetched;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};
use trust::Trust;

/// Below it the HTTP server has `manifests/` and `chunks/`.
pub const CHUNKS_BASE: &str = "/images";

/// Why an image may not be written, for an operator.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("image {image}: {path}: {source}")]
    Io { image: String, path: PathBuf, source: io::Error },
    #[error("image {image}: {path} is no regular file")]
    NotAFile { image: String, path: PathBuf },
    #[error("image {image}: {path} holds no SHA-256 (64 hexadecimal digits at its beginning)")]
    NoSha256 { image: String, path: PathBuf },
    #[error("image {image}: the file has SHA-256 {seen}, declared is {declared}")]
    Sha256 { image: String, declared: String, seen: String },
    #[error("image {image}: the file has {seen} bytes, declared are {declared}")]
    Size { image: String, declared: u64, seen: u64 },
    #[error("image {image}: declared as {declared}, the file's first bytes say {seen}")]
    Format { image: String, declared: ImageFormat, seen: String },
    #[error("image {image}: {path} leads out of the images folder")]
    Outside { image: String, path: PathBuf },
    #[error("image {image}: taking {path} apart: {source}")]
    TakeIn { image: String, path: PathBuf, source: TakeInError },
    #[error("image {image}: a URL needs its sha256 and size declared")]
    Incomplete { image: String },
    #[error("image {image}: the file has SHA-512 {seen}, declared is {declared}")]
    Sha512 { image: String, declared: String, seen: String },
    #[error("image {image}: {source}")]
    Signature { image: String, source: trust::Distrust },
    #[error(
        "image {image}: source.url: agents fetch it themselves, so that this server cannot check a signature or a \
         SHA-512; put the file into the images folder and declare source: {{file: …}}"
    )]
    Unseen { image: String },
}

/// The images folder and what is known of its files.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    known: Mutex<HashCache>,
    /// None: agents get images whole.
    chunks: Option<Arc<ChunkStore>>,
    trust: Arc<Trust>,
    /// One image is taken in at a time: that uses all cores.
    taking_in: tokio::sync::Mutex<()>,
}

impl Images {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            known: Mutex::default(),
            chunks: None,
            trust: Arc::new(Trust::timeless(folder)),
            taking_in: Default::default(),
        }
    }

    /// [`Images::new`] that keeps in `data_dir` what it has read, so that a start does not read every image again, and
    /// the chunks of the images.
    pub fn keeping(folder: &Path, data_dir: &Path) -> Result<Self, TakeInError> {
        let known = HashCache::open(data_dir.join("image-hashes.json"));
        let chunks = Some(Arc::new(ChunkStore::open(data_dir)?));
        Ok(Self { known: Mutex::new(known), chunks, ..Self::new(folder) })
    }

    /// The site's own policy in place of none.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust: Arc::new(trust), ..self }
    }

    pub fn chunks(&self) -> Option<&Arc<ChunkStore>> {
        self.chunks.as_ref()
    }

    /// [`Images::verified`], and taken apart where this server has the file: what an order to write names. Takes as
    /// long as reading and packing the image, the first time.
    pub async fn ready(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        let verified = self.verified(declared).await?;
        let (Some(store), Some(path)) = (&self.chunks, verified.file()) else { return Ok(verified) };
        let _one = self.taking_in.lock().await;
        let failed = |source| ImageError::TakeIn { image: name(declared), path: path.to_owned(), source };
        let known = store.root_of(verified.sha256(), declared.format);
        let root = match known {
            Some(root) => root,
            None => take_in(Arc::clone(store), verified.clone()).await.map_err(failed)?,
        };
        Ok(verified.in_chunks(root))
    }

    /// Held to its declaration by [`verify`]. Reads a file once, and again when it has changed.
    pub async fn verified(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        match &declared.source {
            ImageSource::Url(url) => {
                let (Some(size), DeclaredSha256::Known(sha256)) = (declared.size, &declared.sha256) else {
                    return Err(ImageError::Incomplete { image: name(declared) });
                };
                verify::streamed(declared, url.as_str(), sha256.as_str(), size.0, &self.trust)
            }
            ImageSource::File(path) => {
                let path = self.inside(declared, path)?;
                let sha256 = self.declared_sha256(declared)?;
                self.file(declared, &path, sha256).await
            }
        }
    }

    async fn file(
        &self,
        declared: &ImageDeclaration,
        path: &Path,
        sha256: String,
    ) -> Result<VerifiedImage, ImageError> {
        let stamp = self.stamp(declared, path)?;
        if let Some(size) = declared.size.filter(|size| size.0 != stamp.size) {
            return Err(ImageError::Size { image: name(declared), declared: size.0, seen: stamp.size });
        }
        let contents = self.contents(declared, path, stamp.clone()).await?;
        let fetched = Fetched {
            path: path.to_owned(),
            sha256: contents.sha256,
            sha512: contents.sha512,
            size: stamp.size,
            detected: contents.detected,
            manifest_digest: None,
            signatures: Vec::new(),
        };
        let (owned, trust) = (declared.clone(), Arc::clone(&self.trust));
        tokio::task::spawn_blocking(move || verify::verify(&fetched, &owned, &sha256, &trust))
            .await
            .unwrap_or_else(|e| Err(io_error(declared, path, io::Error::other(e))))
    }

    fn stamp(&self, declared: &ImageDeclaration, path: &Path) -> Result<Stamp, ImageError> {
        let about = fs::metadata(path).map_err(|source| io_error(declared, path, source))?;
        if !about.is_file() {
            return Err(ImageError::NotAFile { image: name(declared), path: path.to_owned() });
        }
        Ok(Stamp::from(&about))
    }

    /// The real path, which no symbolic link may lead out of the images folder.
    fn inside(&self, declared: &ImageDeclaration, path: &RelativePath) -> Result<PathBuf, ImageError> {
        let wanted = self.folder.join(path.as_str());
        let real = |path: &Path| path.canonicalize().map_err(|source| io_error(declared, path, source));
        let (found, folder) = (real(&wanted)?, real(&self.folder)?);
        if found.starts_with(folder) {
            return Ok(found);
        }
        Err(ImageError::Outside { image: name(declared), path: wanted })
    }

    async fn contents(
        &self,
        declared: &ImageDeclaration,
        path: &Path,
        stamp: Stamp,
    ) -> Result<Contents, ImageError> {
        if let Some(known) = self.known().get(path, &stamp) {
            return Ok(known.clone());
        }
        let owned = path.to_owned();
        let contents = tokio::task::spawn_blocking(move || verify::read(&owned))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)))
            .map_err(|source| io_error(declared, path, source))?;
        if let Err(error) = self.known().put(path, stamp, contents.clone()) {
            tracing::warn!(image = %declared.name, %error, "the image's hash cannot be remembered");
        }
        Ok(contents)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declared_sha256(&self, declared: &ImageDeclaration) -> Result<String, ImageError> {
        match &declared.sha256 {
            DeclaredSha256::Known(sha256) => Ok(sha256.as_str().to_owned()),
            DeclaredSha256::In { file } => {
                let path = self.inside(declared, file)?;
                let text = fs::read_to_string(&path).map_err(|e| io_error(declared, &path, e))?;
                let word = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
                let digits = word.len() == 64 && word.bytes().all(|c| c.is_ascii_hexdigit());
                if digits { Ok(word) } else { Err(ImageError::NoSha256 { image: name(declared), path }) }
            }
        }
    }
}

/// Blocks a thread of its own, for as long as it takes.
async fn take_in(store: Arc<ChunkStore>, image: VerifiedImage) -> Result<Sha, TakeInError> {
    let work = move || {
        let name = &image.image().name;
        tracing::info!(image = name, "taking the image in");
        let root = store.take_in(&image, &AtomicU64::new(0))?;
        tracing::info!(image = name, %root, "the image is taken in");
        Ok(root)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(TakeInError::Io { path: PathBuf::new(), source: io::Error::other(e) }))
}

fn name(declared: &ImageDeclaration) -> String {
    declared.name.as_str().to_owned()
}

fn io_error(declared: &ImageDeclaration, path: &Path, source: io::Error) -> ImageError {
    ImageError::Io { image: name(declared), path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
