//! Brings images to this server, and knows which are here.

use super::{
    FetchError, RegistrySignature, container_disk,
    download::{Wanted, fetch},
    oci::{Access, Disk, Registry, RegistryError, dressed},
};
use crate::{
    image::progress::{Phase, Progress},
    inventory::{DeclaredSha256, ImageDeclaration, ImageSource, OciReference, SignaturePolicy},
    reach::Client,
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How much may be fetched, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One file.
    pub largest: u64,
    /// All of them together.
    pub cache: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { largest: 64 << 30, cache: 256 << 30 }
    }
}

/// Why an image is not here.
#[derive(Debug, thiserror::Error)]
pub enum NotFetched {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "the cache of fetched images has {used} of at most {limit} bytes, and {wanted} more do not fit: remove an image, \
         or raise fetch.cache_limit"
    )]
    Full { used: u64, limit: u64, wanted: u64 },
}

impl NotFetched {
    /// Trying again later cannot help without somebody changing something.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_lasting(),
            Self::Registry(error) => error.is_lasting(),
            Self::Io { .. } => false,
            Self::Full { .. } => true,
        }
    }
}

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    pub path: PathBuf,
    /// Of the file, where the source itself names it.
    pub sha256: Option<String>,
    pub manifest_digest: Option<String>,
    pub signatures: Vec<RegistrySignature>,
}

/// What a registry's reference has come to. A tag is asked for once: from then on it is this digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pin {
    reference: OciReference,
    architecture: String,
    manifest: String,
    /// Hexadecimal.
    layer: String,
    layer_bytes: u64,
    /// The disk is a file in that layer.
    inside: bool,
    signatures: Vec<RegistrySignature>,
}

#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    folder: PathBuf,
    limits: Limits,
    registries: BTreeMap<String, Access>,
    open: Access,
    /// One fetch of a thing at a time, whatever images are declared from it.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Fetcher {
    /// Keeps what it fetches in `folder`. `registries`: by host, those that are spoken to otherwise than anonymously
    /// over TLS.
    pub fn new(client: Client, folder: &Path, limits: Limits, registries: BTreeMap<String, Access>) -> Self {
        Self {
            client,
            folder: folder.to_owned(),
            limits,
            registries,
            open: Access::default(),
            busy: Mutex::default(),
        }
    }

    /// The image, where it is here whole. `None` also for a file of the images folder.
    pub fn local(&self, declared: &ImageDeclaration) -> Option<Local> {
        match (&declared.source, &declared.sha256) {
            (ImageSource::Url(_), DeclaredSha256::Known(sha256)) => {
                let path = self.folder.join(sha256.as_str());
                let here = Local { path, sha256: None, manifest_digest: None, signatures: Vec::new() };
                Some(here).filter(|here| here.path.is_file())
            }
            (ImageSource::Oci(reference), _) => {
                let pin = self.pin(declared, reference)?;
                let here = Local {
                    path: self.path_of(&pin),
                    sha256: (!pin.inside).then(|| pin.layer.clone()),
                    manifest_digest: Some(pin.manifest),
                    signatures: pin.signatures,
                };
                Some(here).filter(|here| here.path.is_file())
            }
            _ => None,
        }
    }

    /// The manifest's digest that the image's tag was pinned to.
    pub fn pinned(&self, declared: &ImageDeclaration) -> Option<String> {
        let ImageSource::Oci(reference) = &declared.source else { return None };
        self.pin(declared, reference).map(|pin| pin.manifest)
    }

    fn path_of(&self, pin: &Pin) -> PathBuf {
        self.folder.join(if pin.inside { format!("{}.disk", pin.layer) } else { pin.layer.clone() })
    }

    fn pin_file(&self, declared: &ImageDeclaration) -> PathBuf {
        self.folder.join("pins").join(format!("{}.json", declared.name))
    }

    /// Of this very reference: another one is asked for anew.
    fn pin(&self, declared: &ImageDeclaration, reference: &OciReference) -> Option<Pin> {
        let bytes = fs::read(self.pin_file(declared)).ok()?;
        let pin: Pin = serde_json::from_slice(&bytes).ok()?;
        (pin.reference == *reference && pin.architecture == architecture(declared)).then_some(pin)
    }

    /// Fetches what is not here. Cut at any moment, the next call goes on.
    pub async fn fetch(&self, declared: &ImageDeclaration, progress: &Progress) -> Result<(), NotFetched> {
        let one = self.turn(declared);
        let _alone = one.lock().await;
        let signed = |here: &Local| !wants_signatures(declared) || !here.signatures.is_empty();
        if self.local(declared).as_ref().is_some_and(signed) {
            return Ok(());
        }
        match (&declared.source, &declared.sha256) {
            (ImageSource::Url(url), DeclaredSha256::Known(sha256)) => {
                let urls = std::iter::once(url).chain(&declared.mirrors);
                let wanted = Wanted {
                    urls: urls.filter_map(|url| Url::parse(url.as_str()).ok()).collect(),
                    sha256: sha256.as_str().to_owned(),
                    size: declared.size.map(|size| size.0),
                    largest: self.limits.largest,
                };
                let to = self.folder.join(sha256.as_str());
                self.room(wanted.size.unwrap_or(0), &to)?;
                fetch(&self.client, &wanted, &to, progress, dressed(None)).await?;
            }
            (ImageSource::Oci(reference), _) => self.fetch_artifact(declared, reference, progress).await?,
            _ => {}
        }
        Ok(())
    }

    fn turn(&self, declared: &ImageDeclaration) -> Arc<tokio::sync::Mutex<()>> {
        let what = match (&declared.source, &declared.sha256) {
            (ImageSource::Url(_), DeclaredSha256::Known(sha256)) => sha256.to_string(),
            (ImageSource::Oci(reference), _) => format!("{reference} {}", architecture(declared)),
            _ => String::new(),
        };
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default().clone()
    }

    async fn fetch_artifact(
        &self,
        declared: &ImageDeclaration,
        reference: &OciReference,
        progress: &Progress,
    ) -> Result<(), NotFetched> {
        progress.enter(Phase::Fetching, None);
        let access = self.registries.get(reference.registry()).unwrap_or(&self.open);
        let registry = Registry::new(&self.client, access, reference);
        let pin = match self.pin(declared, reference) {
            Some(pin) if pin.signatures.is_empty() && wants_signatures(declared) => {
                // Declared anew with a policy: the digest stays what it was.
                let signatures = signatures(declared, &registry, &pin.manifest).await?;
                let pin = Pin { signatures, ..pin };
                self.keep(declared, &pin)?;
                pin
            }
            Some(pin) => pin,
            None => {
                let pin = self.resolve(declared, reference, &registry).await?;
                self.keep(declared, &pin)?;
                pin
            }
        };
        if self.path_of(&pin).is_file() {
            return Ok(());
        }
        let to = self.folder.join(&pin.layer);
        self.room(pin.layer_bytes, &to)?;
        // The pass is of this repository: asked for with the manifest, as the pin may be old.
        registry.manifest(&pin.manifest).await?;
        let wanted = Wanted {
            urls: vec![registry.blob_url(&format!("sha256:{}", pin.layer))?],
            sha256: pin.layer.clone(),
            size: Some(pin.layer_bytes),
            largest: self.limits.largest,
        };
        fetch(&self.client, &wanted, &to, progress, dressed(registry.pass().await)).await?;
        if pin.inside {
            self.take_out(&to, &self.path_of(&pin), progress).await?;
        }
        Ok(())
    }

    async fn take_out(&self, layer: &Path, disk: &Path, progress: &Progress) -> Result<(), NotFetched> {
        progress.enter(Phase::Checking, None);
        let (layer, part, largest) =
            (layer.to_owned(), disk.with_extension("disk-part"), self.limits.largest);
        let (from, to) = (layer.clone(), part.clone());
        let done = tokio::task::spawn_blocking(move || container_disk::extract(&from, &to, largest)).await;
        let done = done.unwrap_or_else(|e| Err(io::Error::other(e)));
        done.map_err(|source| NotFetched::Io { path: layer.clone(), source })?;
        let io = |source| NotFetched::Io { path: disk.to_owned(), source };
        fs::rename(&part, disk).and_then(|()| fs::remove_file(&layer)).map_err(io)
    }

    async fn resolve(
        &self,
        declared: &ImageDeclaration,
        reference: &OciReference,
        registry: &Registry<'_>,
    ) -> Result<Pin, RegistryError> {
        let architecture = architecture(declared);
        let (manifest, digest) = registry.manifest_for(reference.wanted(), &architecture).await?;
        let (layer, inside) = match registry.disk(&manifest)? {
            Disk::Layer(layer) => (layer, false),
            Disk::Inside(layer) => (layer, true),
        };
        let hash = layer.digest.strip_prefix("sha256:").filter(|h| h.len() == 64).map(str::to_owned);
        let hash = hash.filter(|h| h.bytes().all(|c| c.is_ascii_hexdigit()));
        let hash = hash.ok_or_else(|| RegistryError::Layers {
            reference: reference.to_string(),
            what: format!("its layer's digest {:?} is no SHA-256", layer.digest),
        })?;
        Ok(Pin {
            reference: reference.clone(),
            architecture,
            signatures: signatures(declared, registry, &digest).await?,
            manifest: digest,
            layer: hash,
            layer_bytes: layer.size,
            inside,
        })
    }

    fn keep(&self, declared: &ImageDeclaration, pin: &Pin) -> Result<(), NotFetched> {
        let path = self.pin_file(declared);
        let io = |source| NotFetched::Io { path: path.clone(), source };
        let bytes = serde_json::to_vec_pretty(pin).map_err(|e| io(e.into()))?;
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(io)?;
        let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        io::Write::write_all(&mut aside, &bytes).and_then(|()| aside.as_file().sync_all()).map_err(io)?;
        aside.persist(&path).map(|_| ()).map_err(|e| io(e.error))
    }

    /// Whether `wanted` bytes more than there are fit; what is there of `to` already is not more.
    fn room(&self, wanted: u64, to: &Path) -> Result<(), NotFetched> {
        let limit = self.limits.cache;
        let files = self.files().map_err(|source| NotFetched::Io { path: self.folder.clone(), source })?;
        let part = to.with_extension("part");
        let used = files.iter().filter(|(path, _)| *path != part).map(|(_, size)| size).sum::<u64>();
        if used.saturating_add(wanted) > limit {
            return Err(NotFetched::Full { used, limit, wanted });
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() {
                files.push((entry.path(), about.len()));
            }
        }
        Ok(files)
    }

    /// Files that no declaration needs, with their bytes; removed unless it is only asked. What was begun more than a day
    /// ago and never finished is needed by nobody, too.
    pub fn collect(&self, declared: &[ImageDeclaration], only_asked: bool) -> io::Result<(usize, u64)> {
        let needed: HashSet<PathBuf> = declared.iter().flat_map(|d| self.needed(d)).collect();
        let (mut count, mut bytes) = (0, 0);
        for (path, size) in self.files()? {
            let part = path.extension().is_some_and(|e| e == "part" || e == "disk-part");
            let wanted = needed.contains(&path) || needed.contains(&path.with_extension(""));
            if wanted && !(part && is_old(&path)) {
                continue;
            }
            if !only_asked {
                fs::remove_file(&path)?;
            }
            count += 1;
            bytes += size;
        }
        Ok((count, bytes))
    }

    fn needed(&self, declared: &ImageDeclaration) -> Vec<PathBuf> {
        match (&declared.source, &declared.sha256) {
            (ImageSource::Url(_), DeclaredSha256::Known(sha256)) => vec![self.folder.join(sha256.as_str())],
            (ImageSource::Oci(reference), _) => {
                let pin = self.pin(declared, reference);
                pin.map(|pin| vec![self.folder.join(&pin.layer), self.path_of(&pin)]).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }
}

fn is_old(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|about| about.modified()).ok();
    modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > Duration::from_secs(86_400))
}

fn architecture(declared: &ImageDeclaration) -> String {
    declared.architecture.as_ref().map_or("amd64", |a| a.as_str()).to_owned()
}

/// Whether the declaration leaves it to the registry to have cosign's signatures.
fn wants_signatures(declared: &ImageDeclaration) -> bool {
    matches!(&declared.signature, Some(SignaturePolicy::Cosign(cosign)) if cosign.signature.is_none())
}

/// Those that cosign keeps beside an artifact, where the declaration asks for them.
async fn signatures(
    declared: &ImageDeclaration,
    registry: &Registry<'_>,
    digest: &str,
) -> Result<Vec<RegistrySignature>, RegistryError> {
    const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
    if !wants_signatures(declared) {
        return Ok(Vec::new());
    }
    let (manifest, _) = registry.manifest(&format!("{}.sig", digest.replace(':', "-"))).await?;
    let mut found = Vec::new();
    for layer in manifest.layers.iter().take(16) {
        let Some(signature) = layer.annotations.get(SIGNATURE) else { continue };
        let payload = registry.blob(&layer.digest).await?;
        found.push(RegistrySignature { payload, signature: signature.clone() });
    }
    Ok(found)
}
