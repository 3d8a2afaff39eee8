//! Images as declared → images that may be written. In: a declaration, the images folder. Out: a [`VerifiedImage`],
//! whose only maker is [`Images::verified`]: nothing else can be named in an order to write, or become chunks.

mod cache;
pub mod chunks;
mod format;
mod qcow2;
pub mod read_back;
mod verify;

use crate::inventory::{DeclaredSha256, ImageDeclaration, ImageSource, RelativePath};
use cache::{Contents, HashCache, Stamp};
use chunks::{ChunkStore, TakeInError, Whole};
use provisioner_wire::{
    chunks::{Chunks, Sha},
    order::{Image, ImageFormat},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

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
}

/// An image whose bytes are those that were declared (for a local file), or will be held to it by the agent (a URL).
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

    fn in_chunks(mut self, root: Sha) -> Self {
        self.image.chunks = Some(Chunks { root: root.to_string(), base: CHUNKS_BASE.to_owned() });
        self
    }

    /// Where this server has it; `None` for a URL.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// The images folder and what is known of its files.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    known: Mutex<HashCache>,
    /// None: agents get images whole.
    chunks: Option<Arc<ChunkStore>>,
    /// One image is taken in at a time: that uses all cores.
    taking_in: tokio::sync::Mutex<()>,
}

impl Images {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            known: Mutex::default(),
            chunks: None,
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

    pub fn chunks(&self) -> Option<&Arc<ChunkStore>> {
        self.chunks.as_ref()
    }

    /// [`Images::verified`], and taken apart where this server has the file: what an order to write names. Takes as
    /// long as reading and packing the image, the first time.
    pub async fn ready(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        let verified = self.verified(declared).await?;
        let (Some(store), Some(path)) = (&self.chunks, verified.file.clone()) else { return Ok(verified) };
        let _one = self.taking_in.lock().await;
        let (store, image) = (Arc::clone(store), verified.image.clone());
        let failed = |source| ImageError::TakeIn { image: name(declared), path: path.clone(), source };
        let known = store.root_of(&image.sha256, image.format);
        let root = match known {
            Some(root) => root,
            None => take_in(store, path.clone(), image).await.map_err(failed)?,
        };
        Ok(verified.in_chunks(root))
    }

    /// The only way to a [`VerifiedImage`]. Reads a file once, and again when it has changed.
    pub async fn verified(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        match &declared.source {
            ImageSource::Url(url) => {
                let (Some(size), DeclaredSha256::Known(sha256)) = (declared.size, &declared.sha256) else {
                    return Err(ImageError::Incomplete { image: name(declared) });
                };
                Ok(verified(declared, url.as_str().to_owned(), sha256.as_str().to_owned(), size.0, None))
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
        if contents.detected != declared.format.to_string() {
            let seen = contents.detected;
            return Err(ImageError::Format { image: name(declared), declared: declared.format, seen });
        }
        if contents.sha256 != sha256 {
            return Err(ImageError::Sha256 {
                image: name(declared),
                declared: sha256,
                seen: contents.sha256,
            });
        }
        let url = format!("/images/{sha256}");
        Ok(verified(declared, url, sha256, stamp.size, Some(path.to_owned())))
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
async fn take_in(store: Arc<ChunkStore>, path: PathBuf, image: Image) -> Result<Sha, TakeInError> {
    tracing::info!(image = image.name, path = %path.display(), "taking the image in");
    let work = move || {
        let whole = Whole {
            path: &path,
            format: image.format,
            sha256: &image.sha256,
            raw_sha256: image.raw_sha256.as_deref(),
            raw_bytes: image.raw_size_bytes,
        };
        let root = store.take_in(&whole, &AtomicU64::new(0))?;
        tracing::info!(image = image.name, %root, "the image is taken in");
        Ok(root)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(TakeInError::Io { path: PathBuf::new(), source: io::Error::other(e) }))
}

fn verified(
    declared: &ImageDeclaration,
    url: String,
    sha256: String,
    size_bytes: u64,
    file: Option<PathBuf>,
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
    VerifiedImage { image, file }
}

fn name(declared: &ImageDeclaration) -> String {
    declared.name.as_str().to_owned()
}

fn io_error(declared: &ImageDeclaration, path: &Path, source: io::Error) -> ImageError {
    ImageError::Io { image: name(declared), path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
