//! The file of a declared image, held to its declaration. It is read once, and again when it has changed.

use super::{
    ImageError, Images, VerifiedImage,
    cache::{Contents, HashCache, Stamp},
    io_error, name,
    source::{Fetched, Local},
    verify,
};
use crate::inventory::{DeclaredSha256, ImageDeclaration, ImageSource, RelativePath};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

impl Images {
    /// Held to its declaration by [`verify`]. Reads a file once, and again when it has changed; fetches nothing.
    pub async fn verified(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        if let ImageSource::File(path) = &declared.source {
            let path = self.inside(declared, path)?;
            let sha256 = self.declared_sha256(declared, None)?;
            let local = Local { path, sha256: None, manifest_digest: None, signatures: Vec::new() };
            return self.file(declared, local, sha256).await;
        }
        let local = self.fetcher.as_ref().and_then(|fetcher| fetcher.local(declared));
        let local = local.ok_or_else(|| ImageError::NotFetched { image: name(declared) })?;
        let sha256 = self.declared_sha256(declared, local.sha256.as_deref())?;
        self.file(declared, local, sha256).await
    }

    async fn file(
        &self,
        declared: &ImageDeclaration,
        local: Local,
        sha256: String,
    ) -> Result<VerifiedImage, ImageError> {
        let path = local.path.as_path();
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
            manifest_digest: local.manifest_digest,
            signatures: local.signatures,
        };
        // The digest of a container disk's layer says nothing of the file in it but that it is the one.
        let sha256 = if sha256.is_empty() { fetched.sha256.clone() } else { sha256 };
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
    pub(super) fn inside(
        &self,
        declared: &ImageDeclaration,
        path: &RelativePath,
    ) -> Result<PathBuf, ImageError> {
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

    pub(super) fn known(&self) -> std::sync::MutexGuard<'_, HashCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `source`: what the source itself names, whose word counts where the declaration is silent. Empty where neither
    /// says anything: of a file inside a layer that was checked as a whole.
    pub(super) fn declared_sha256(
        &self,
        declared: &ImageDeclaration,
        source: Option<&str>,
    ) -> Result<String, ImageError> {
        match &declared.sha256 {
            DeclaredSha256::Known(sha256) => Ok(sha256.as_str().to_owned()),
            DeclaredSha256::Absent => Ok(source.unwrap_or_default().to_owned()),
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
