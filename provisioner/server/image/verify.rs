//! From a declaration to an image that is what it says. Reads whole files: call it where blocking is allowed.

use super::{
    cache::{HashCache, Stamp},
    format::{HEAD, detect, foreign},
};
use crate::inventory::{DeclaredSha256, ImageDeclaration, ImageSource, RecordName, RelativePath, Sha256Hex};
use provisioner_wire::{
    ids::hex,
    order::{Image, ImageFormat},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// `Display` names the image, the file and both values.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("image {image}: {path}: {error}")]
    Io { image: RecordName, path: PathBuf, error: io::Error },
    #[error("image {image}: {path} is {found}, declared is {declared}")]
    Format { image: RecordName, path: PathBuf, found: String, declared: ImageFormat },
    #[error("image {image}: {path} has {found} bytes, declared are {declared}")]
    Size { image: RecordName, path: PathBuf, found: u64, declared: u64 },
    #[error("image {image}: the SHA-256 of {path} is {found}, declared is {declared}")]
    Sha256 { image: RecordName, path: PathBuf, found: String, declared: Sha256Hex },
    #[error("image {image}: {path} does not begin with a SHA-256 (64 hexadecimal digits)")]
    HashFile { image: RecordName, path: PathBuf },
    #[error("image {image}: an image from a URL needs its size and its SHA-256 in the declaration")]
    Undeclared { image: RecordName },
    #[error("image {image}: {path} leads out of the images folder")]
    Outside { image: RecordName, path: PathBuf },
}

/// An image whose bytes are the declared ones; for a URL, whose hash the agent will hold it to. Only
/// [`Images::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedImage {
    image: Image,
    file: Option<PathBuf>,
}

impl VerifiedImage {
    /// What the agent is told: a URL as declared, or the path `/images/SHA256` of this server.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The file to serve; none where the agent fetches it elsewhere.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// The images folder and what was found good in it.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    cache: HashCache,
    by_sha256: BTreeMap<String, PathBuf>,
}

impl Images {
    /// `folder` holds the files; hashes are remembered in `data_dir`.
    pub fn new(folder: &Path, data_dir: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            cache: HashCache::open(data_dir.join("image-hashes.json")),
            by_sha256: BTreeMap::new(),
        }
    }

    /// The file behind `/images/SHA256`; only what was verified.
    pub fn file_of(&self, sha256: &str) -> Option<&Path> {
        self.by_sha256.get(sha256).map(PathBuf::as_path)
    }

    /// Checks one image. A file is read whole where it has changed since it was last.
    pub fn verify(&mut self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        match &declared.source {
            ImageSource::Url(url) => {
                let (Some(size), DeclaredSha256::Known(sha256)) = (declared.size, &declared.sha256) else {
                    return Err(ImageError::Undeclared { image: declared.name.clone() });
                };
                let image = wire(declared, url.as_str().to_owned(), sha256.as_str(), size.0);
                Ok(VerifiedImage { image, file: None })
            }
            ImageSource::File(path) => self.verify_file(declared, path),
        }
    }

    fn verify_file(
        &mut self,
        declared: &ImageDeclaration,
        path: &RelativePath,
    ) -> Result<VerifiedImage, ImageError> {
        let name = || declared.name.clone();
        let path = self.inside(declared, path)?;
        let failed = |error| ImageError::Io { image: name(), path: path.clone(), error };
        let mut file = File::open(&path).map_err(failed)?;
        let stamp = Stamp::from(&file.metadata().map_err(failed)?);
        let mut head = Vec::with_capacity(HEAD);
        file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
        let found = foreign(&head).map_or_else(|| detect(&head).to_string(), str::to_owned);
        if found != declared.format.to_string() {
            return Err(ImageError::Format { image: name(), path, found, declared: declared.format });
        }
        if let Some(size) = declared.size.filter(|size| size.0 != stamp.size) {
            return Err(ImageError::Size { image: name(), path, found: stamp.size, declared: size.0 });
        }
        let expected = self.declared_sha256(declared)?;
        let sha256 = match self.cache.get(&path, &stamp) {
            Some(known) => known.to_owned(),
            None => {
                let sha256 = hash(&head, file).map_err(failed)?;
                let stored = self.cache.put(&path, stamp.clone(), sha256.clone());
                if let Err(error) = stored {
                    tracing::warn!(image = %declared.name, %error, "the image's hash cannot be remembered");
                }
                sha256
            }
        };
        if sha256 != expected.as_str() {
            return Err(ImageError::Sha256 { image: name(), path, found: sha256, declared: expected });
        }
        let image = wire(declared, format!("/images/{sha256}"), &sha256, stamp.size);
        self.by_sha256.insert(sha256, path.clone());
        Ok(VerifiedImage { image, file: Some(path) })
    }

    /// The file's real path, which no symbolic link may lead out of the folder.
    fn inside(&self, declared: &ImageDeclaration, path: &RelativePath) -> Result<PathBuf, ImageError> {
        let wanted = self.folder.join(path.as_str());
        let failed = |error| ImageError::Io { image: declared.name.clone(), path: wanted.clone(), error };
        let real = wanted.canonicalize().map_err(failed)?;
        let folder = self.folder.canonicalize().map_err(failed)?;
        if real.starts_with(&folder) {
            Ok(real)
        } else {
            Err(ImageError::Outside { image: declared.name.clone(), path: wanted })
        }
    }

    fn declared_sha256(&self, declared: &ImageDeclaration) -> Result<Sha256Hex, ImageError> {
        match &declared.sha256 {
            DeclaredSha256::Known(sha256) => Ok(sha256.clone()),
            DeclaredSha256::In { file } => {
                let path = self.inside(declared, file)?;
                let image = || declared.name.clone();
                let text = std::fs::read_to_string(&path).map_err(|error| ImageError::Io {
                    image: image(),
                    path: path.clone(),
                    error,
                })?;
                let word = text.split_whitespace().next().unwrap_or_default();
                word.parse().map_err(|_| ImageError::HashFile { image: image(), path })
            }
        }
    }
}

fn wire(declared: &ImageDeclaration, url: String, sha256: &str, size_bytes: u64) -> Image {
    // A raw image's own hash and size are those of its disk.
    let raw = declared.format == ImageFormat::Raw;
    let raw_sha256 = declared.raw_sha256.as_ref().map(|hash| hash.as_str().to_owned());
    Image {
        name: declared.name.to_string(),
        url,
        format: declared.format,
        sha256: sha256.to_owned(),
        size_bytes,
        raw_sha256: raw_sha256.or_else(|| raw.then(|| sha256.to_owned())),
        raw_size_bytes: declared.raw_size.map(|size| size.0).or_else(|| raw.then_some(size_bytes)),
    }
}

/// SHA-256 of `head` and the rest of `file`.
fn hash(head: &[u8], mut file: File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    hasher.update(head);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => hasher.update(bytes),
            _ => return Ok(hex(&hasher.finalize())),
        }
    }
}
