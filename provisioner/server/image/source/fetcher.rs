//! Brings images to this server, and knows which are here.

use super::{
    FetchError, Full, RegistrySignature, container_disk,
    download::{Wanted, fetch},
    oci::{Access, Disk, Registry, RegistryError, dressed},
    pin::{Pin, Pins, architecture, wants_signatures},
    room::Room,
};
use crate::{
    image::{
        custody::{Custody, Keep},
        progress::{Phase, Progress},
    },
    inventory::{DeclaredSha256, ImageDeclaration, ImageSource, OciReference},
    reach::Client,
};
use reqwest::Url;
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
}

impl NotFetched {
    /// Trying again later cannot help without somebody changing something.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_lasting(),
            Self::Registry(error) => error.is_lasting(),
            Self::Io { .. } => false,
        }
    }

    /// There was no room for it.
    pub fn full(&self) -> Option<&Full> {
        match self {
            Self::Fetch(FetchError::Full(full)) => Some(full),
            _ => None,
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

/// Held by whoever fetches a thing.
type Turn = tokio::sync::OwnedMutexGuard<()>;

#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    folder: PathBuf,
    pins: Pins,
    room: Room,
    /// No file is larger.
    largest: u64,
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
            pins: Pins::new(&folder.join("pins")),
            room: Room::new(folder, limits.cache),
            largest: limits.largest,
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
            (ImageSource::Oci(_), _) => {
                let pin = self.pins.get(declared)?;
                let here = Local {
                    path: pin.path(&self.folder),
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
        self.pins.get(declared).map(|pin| pin.manifest)
    }

    /// Fetches what is not here. Cut at any moment, the next call goes on. What is begun for it stays, as long as
    /// `custody` knows that it is in work.
    pub async fn fetch(
        &self,
        declared: &ImageDeclaration,
        progress: &Progress,
        custody: &Custody,
    ) -> Result<(), NotFetched> {
        let turn = Arc::new(self.turn(declared).lock_owned().await);
        let signed = |here: &Local| !wants_signatures(declared) || !here.signatures.is_empty();
        if self.local(declared).as_ref().is_some_and(signed) {
            return Ok(());
        }
        progress.enter(Phase::Fetching, None);
        match (&declared.source, &declared.sha256) {
            (ImageSource::Url(url), DeclaredSha256::Known(sha256)) => {
                let urls = std::iter::once(url).chain(&declared.mirrors);
                let wanted = Wanted {
                    urls: urls.filter_map(|url| Url::parse(url.as_str()).ok()).collect(),
                    sha256: sha256.as_str().to_owned(),
                    size: declared.size.map(|size| size.0),
                    largest: self.largest,
                };
                let to = self.folder.join(sha256.as_str());
                fetch(&self.client, &wanted, (&to, &self.room), progress, dressed(None)).await?;
            }
            (ImageSource::Oci(reference), _) => {
                self.fetch_artifact(declared, reference, progress, (custody, &turn)).await?;
            }
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
        (custody, turn): (&Custody, &Arc<Turn>),
    ) -> Result<(), NotFetched> {
        let access = self.registries.get(reference.registry()).unwrap_or(&self.open);
        let registry = Registry::new(&self.client, access, reference);
        let pin = match self.pins.get(declared) {
            Some(pin) if pin.signatures.is_empty() && wants_signatures(declared) => {
                // Declared anew with a policy: the digest stays what it was.
                let signatures = signatures(declared, &registry, &pin.manifest).await?;
                self.keep(declared, Pin { signatures, ..pin }, custody).await?
            }
            Some(pin) => pin,
            None => {
                let pin = self.resolve(declared, reference, &registry).await?;
                self.keep(declared, pin, custody).await?
            }
        };
        if pin.path(&self.folder).is_file() {
            return Ok(());
        }
        let layer = self.folder.join(&pin.layer);
        // The pass is of this repository: asked for with the manifest, as the pin may be old.
        registry.manifest(&pin.manifest).await?;
        let wanted = Wanted {
            urls: vec![registry.blob_url(&format!("sha256:{}", pin.layer))?],
            sha256: pin.layer.clone(),
            size: Some(pin.layer_bytes),
            largest: self.largest,
        };
        // After a cut between both steps the layer is here already.
        if !layer.is_file() {
            let pass = dressed(registry.pass().await);
            fetch(&self.client, &wanted, (&layer, &self.room), progress, pass).await?;
        }
        if pin.inside {
            self.take_out(layer, pin.path(&self.folder), progress, Arc::clone(turn)).await?;
        }
        Ok(())
    }

    /// Not while a collection runs, which has asked what belongs to the image before.
    async fn keep(
        &self,
        declared: &ImageDeclaration,
        pin: Pin,
        custody: &Custody,
    ) -> Result<Pin, NotFetched> {
        let _changing = custody.changing().await;
        self.pins.keep(declared, &pin).map(|()| pin)
    }

    /// Goes on to its end also when nobody waits for it any more, and keeps its turn until then.
    async fn take_out(
        &self,
        layer: PathBuf,
        disk: PathBuf,
        progress: &Progress,
        turn: Arc<Turn>,
    ) -> Result<(), NotFetched> {
        progress.enter(Phase::Checking, None);
        let (room, largest) = (self.room.clone(), self.largest);
        let work = move || {
            let _turn = turn;
            take_out(&room, &layer, &disk, largest)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|e| Err(NotFetched::Io { path: PathBuf::new(), source: io::Error::other(e) }))
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

    /// Removes files that belong to nothing in `keep`, unless it is only asked; how many, and their bytes. What was
    /// begun more than a day ago and never finished goes, too. `hash_of` knows what files with other names than their
    /// hash hold; of whom nobody knows it, stays while a workflow may have it.
    pub(in crate::image) fn collect(
        &self,
        keep: &Keep,
        hash_of: impl Fn(&Path) -> Option<String>,
        begun: Begun<'_>,
        only_asked: bool,
    ) -> io::Result<(usize, u64)> {
        let needed: HashSet<PathBuf> = keep.declared.iter().flat_map(|d| self.needed(d)).collect();
        let bytes_of: HashSet<&str> = keep.images.iter().map(|image| image.sha256.as_str()).collect();
        let spared: Vec<PathBuf> = match begun {
            Begun::Stays => Vec::new(),
            Begun::OnlyOf(declared) => self.needed(declared),
        };
        let (mut count, mut bytes) = (0, 0);
        for (path, size) in self.room.files()? {
            let whole = path.with_extension("");
            let stays = if is_part(&path) {
                let spared = begun == Begun::Stays || spared.contains(&whole);
                spared && needed.contains(&whole) && !is_old(&path)
            } else {
                let hash = name_as_hash(&path).or_else(|| hash_of(&path));
                let has = hash.map_or(!bytes_of.is_empty(), |hash| bytes_of.contains(hash.as_str()));
                has || needed.contains(&path)
            };
            if !stays && self.room.remove(&path, only_asked)? {
                count += 1;
                bytes += size;
            }
        }
        Ok((count, bytes))
    }

    fn needed(&self, declared: &ImageDeclaration) -> Vec<PathBuf> {
        match (&declared.source, &declared.sha256) {
            (ImageSource::Url(_), DeclaredSha256::Known(sha256)) => vec![self.folder.join(sha256.as_str())],
            (ImageSource::Oci(_), _) => {
                let pin = self.pins.get(declared);
                pin.map(|pin| vec![self.folder.join(&pin.layer), pin.path(&self.folder)]).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Removes what was begun for an image that there is no room for; also a layer whose disk does not fit beside it.
    pub(in crate::image) fn give_back(&self, declared: &ImageDeclaration) {
        if self.local(declared).is_some() {
            return;
        }
        for path in self.needed(declared).into_iter().flat_map(|path| [path.with_extension("part"), path]) {
            if let Err(error) = self.room.remove(&path, false) {
                tracing::warn!(image = %declared.name, %error, "what was begun of it cannot be removed");
            }
        }
    }
}

/// What a collection does with files that are begun, wanted and not being fetched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Begun<'a> {
    /// They are gone on with some time.
    Stays,
    /// There is no room for them: only what belongs to this image stays.
    OnlyOf(&'a ImageDeclaration),
}

fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "part" || e == "disk-part")
}

/// What a file whose name is a hash was checked to hold.
fn name_as_hash(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    (name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit())).then(|| name.to_owned())
}

fn is_old(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|about| about.modified()).ok();
    modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > Duration::from_secs(86_400))
}

/// Takes the disk out of its layer, which goes then. Blocks.
fn take_out(room: &Room, layer: &Path, disk: &Path, largest: u64) -> Result<(), NotFetched> {
    let part = disk.with_extension("disk-part");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| NotFetched::Io { path, source }
    };
    let share = room.share(&part).map_err(io(&part))?;
    let mut share = share.ok_or_else(|| FetchError::Taken(part.clone()))?;
    let out = container_disk::extract(layer, &part, largest, |bytes| share.reach(bytes, None));
    if let Err(source) = out {
        // It is begun anew the next time: nothing of it is kept.
        let _ = fs::remove_file(&part);
        let full = source.get_ref().and_then(|inner| inner.downcast_ref::<Full>()).cloned();
        return Err(full.map_or_else(|| io(layer)(source), |full| FetchError::Full(full).into()));
    }
    share.seal(disk).map_err(io(disk))?;
    room.remove(layer, false).map(|_| ()).map_err(io(layer))
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
