//! Images as declared → images that may be written. In: a declaration, the images folder. Out: a [`VerifiedImage`],
//! whose only maker is [`Images::verified`]: nothing else can be named in an order to write.

mod verify;

use crate::inventory::{DeclaredSha256, ImageDeclaration, ImageSource};
use provisioner_wire::order::{Image, ImageFormat};
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

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

    /// Where this server has it; `None` for a URL.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// A file as it was when its bytes were read; any difference means reading it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stamp {
    path: PathBuf,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

/// What the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    sha256: String,
    detected: Option<ImageFormat>,
}

/// The images folder and what is known of its files.
#[derive(Debug)]
pub struct Images {
    folder: PathBuf,
    known: Mutex<HashMap<Stamp, Contents>>,
}

impl Images {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: Mutex::default() }
    }

    /// The only way to a [`VerifiedImage`]. Reads a file once, and again when it has changed.
    pub async fn verified(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        let sha256 = self.declared_sha256(declared)?;
        match &declared.source {
            ImageSource::Url(url) => {
                let size = declared.size.ok_or_else(|| ImageError::Incomplete { image: name(declared) })?;
                Ok(verified(declared, url.as_str().to_owned(), sha256, size.0, None))
            }
            ImageSource::File(path) => self.file(declared, &self.folder.join(path.as_str()), sha256).await,
        }
    }

    async fn file(
        &self,
        declared: &ImageDeclaration,
        path: &Path,
        sha256: String,
    ) -> Result<VerifiedImage, ImageError> {
        let stamp = self.stamp(declared, path)?;
        if let Some(size) = declared.size.filter(|size| size.0 != stamp.bytes) {
            return Err(ImageError::Size { image: name(declared), declared: size.0, seen: stamp.bytes });
        }
        let contents = self.contents(declared, &stamp).await?;
        if contents.detected != Some(declared.format)
            && (declared.format, contents.detected) != (ImageFormat::Raw, None)
        {
            let seen = contents.detected.map_or_else(|| "none that is known".to_owned(), |f| f.to_string());
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
        Ok(verified(declared, url, sha256, stamp.bytes, Some(path.to_owned())))
    }

    fn stamp(&self, declared: &ImageDeclaration, path: &Path) -> Result<Stamp, ImageError> {
        let about = fs::metadata(path).map_err(|source| io_error(declared, path, source))?;
        if !about.is_file() {
            return Err(ImageError::NotAFile { image: name(declared), path: path.to_owned() });
        }
        Ok(Stamp {
            path: path.to_owned(),
            inode: about.ino(),
            bytes: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
        })
    }

    async fn contents(&self, declared: &ImageDeclaration, stamp: &Stamp) -> Result<Contents, ImageError> {
        if let Some(known) = self.known().get(stamp) {
            return Ok(known.clone());
        }
        let path = stamp.path.clone();
        let read = tokio::task::spawn_blocking(move || verify::read(&path)).await;
        let (sha256, detected) = read
            .unwrap_or_else(|e| Err(io::Error::other(e)))
            .map_err(|source| io_error(declared, &stamp.path, source))?;
        let contents = Contents { sha256, detected };
        self.known().insert(stamp.clone(), contents.clone());
        Ok(contents)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<Stamp, Contents>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declared_sha256(&self, declared: &ImageDeclaration) -> Result<String, ImageError> {
        match &declared.sha256 {
            DeclaredSha256::Known(sha256) => Ok(sha256.as_str().to_owned()),
            DeclaredSha256::In { file } => {
                let path = self.folder.join(file.as_str());
                let text = fs::read_to_string(&path).map_err(|e| io_error(declared, &path, e))?;
                let word = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
                let digits = word.len() == 64 && word.bytes().all(|c| c.is_ascii_hexdigit());
                if digits { Ok(word) } else { Err(ImageError::NoSha256 { image: name(declared), path }) }
            }
        }
    }
}

fn verified(
    declared: &ImageDeclaration,
    url: String,
    sha256: String,
    size_bytes: u64,
    file: Option<PathBuf>,
) -> VerifiedImage {
    let image = Image {
        name: name(declared),
        url,
        format: declared.format,
        sha256,
        size_bytes,
        raw_sha256: declared.raw_sha256.as_ref().map(|s| s.as_str().to_owned()),
        raw_size_bytes: declared.raw_size.map(|s| s.0),
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
mod tests {
    use super::*;
    use serde_json::json;

    fn declared(format: &str, sha256: &serde_json::Value, size: Option<u64>) -> ImageDeclaration {
        let mut spec = json!({"name": "i", "source": {"file": "i.img"}, "format": format, "sha256": sha256});
        if let Some(size) = size {
            spec["size"] = json!(size);
        }
        serde_json::from_value(spec).unwrap()
    }

    fn hash(bytes: &[u8]) -> String {
        use sha2::Digest;
        provisioner_wire::ids::hex(&sha2::Sha256::digest(bytes))
    }

    #[tokio::test]
    async fn a_file_is_what_was_declared_or_it_is_no_image() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::new(folder.path());
        let bytes = [0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3];
        let file = folder.path().join("i.img");
        std::fs::write(&file, bytes).unwrap();
        let good = json!(hash(&bytes));
        let image = images.verified(&declared("zst", &good, None)).await.unwrap();
        assert_eq!((image.wire().size_bytes, image.file()), (7, Some(&*file)));
        for (format, sha256, size, expected) in [
            ("zst", json!("0".repeat(64)), None, "has SHA-256"),
            ("gz", good.clone(), None, "declared as gz"),
            ("raw", good.clone(), None, "declared as raw"),
            ("zst", good.clone(), Some(8), "7 bytes, declared are 8"),
            ("zst", json!({"file": "nowhere"}), None, "nowhere"),
        ] {
            let error = images.verified(&declared(format, &sha256, size)).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // Changed on the disk: what was known does not count any more.
        std::fs::write(&file, [0x28, 0xb5, 0x2f, 0xfd, 9]).unwrap();
        assert!(images.verified(&declared("zst", &good, None)).await.is_err());
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(matches!(
            images.verified(&declared("zst", &good, None)).await,
            Err(ImageError::NotAFile { .. })
        ));
    }
}
