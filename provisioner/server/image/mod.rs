//! Images as declared → images that may be written. In: a declaration, the images folder. Out: a [`VerifiedImage`],
//! whose only maker is [`verify`]: nothing else can be named in an order to write, or become chunks.

pub mod bounds;
mod cache;
mod chunk_files;
pub mod chunks;
mod collect;
pub mod custody;
mod file;
pub mod format;
pub mod intake;
pub mod pace;
pub mod progress;
pub mod qcow2;
pub mod read_back;
pub mod source;
pub mod trust;
pub mod verify;

pub use collect::Removed;
pub use verify::VerifiedImage;

use crate::{
    inventory::{ImageDeclaration, ImageSource},
    machine::Time,
};
use bounds::Bounds;
use cache::HashCache;
use chunks::{Checked, ChunkStore, TakeInError};
use custody::{Custody, ForWorkflow, TellsNeeds};
use progress::{Phase, Progress, Taken};
use provisioner_wire::{chunks::Sha, order::ImageFormat};
use source::{Fetcher, NotFetched};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
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
    #[error("image {image}: it is not fetched yet")]
    NotFetched { image: String },
    #[error("image {image}: {source}")]
    Fetch { image: String, source: NotFetched },
    #[error("image {image}: this server fetches no images")]
    NoFetcher { image: String },
    #[error("image {image}: the file has SHA-512 {seen}, declared is {declared}")]
    Sha512 { image: String, declared: String, seen: String },
    #[error("image {image}: {source}")]
    Signature { image: String, source: trust::Distrust },
}

impl ImageError {
    /// Trying again later cannot help without somebody changing something.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => source.is_lasting(),
            Self::NotFetched { .. } => false,
            _ => true,
        }
    }

    /// The folder of fetched images is full.
    pub fn lacks_room(&self) -> bool {
        matches!(self, Self::Fetch { source, .. } if source.full().is_some())
    }
}

/// The images folder and what is known of its files.
pub struct Images {
    folder: PathBuf,
    known: Mutex<HashCache>,
    /// None: agents get images whole.
    chunks: Option<Arc<ChunkStore>>,
    /// None: only files of the folder.
    fetcher: Option<Fetcher>,
    /// By name, of those that were asked for since the start.
    progress: Mutex<BTreeMap<String, (ImageDeclaration, Progress)>>,
    trust: Arc<Trust>,
    /// One image is taken in at a time: that uses all cores.
    taking_in: tokio::sync::Mutex<()>,
    custody: Arc<Custody>,
    /// Asked when there is no room for an image.
    needs: OnceLock<Box<dyn TellsNeeds>>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Images {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            known: Mutex::default(),
            chunks: None,
            fetcher: None,
            progress: Mutex::default(),
            trust: Arc::new(Trust::timeless(folder)),
            taking_in: Default::default(),
            custody: Arc::default(),
            needs: OnceLock::new(),
        }
    }

    /// [`Images::new`] that keeps in `data_dir` what it has read, so that a start does not read every image again, and
    /// the chunks of the images.
    pub fn keeping(folder: &Path, data_dir: &Path) -> Result<Self, TakeInError> {
        Self::keeping_within(folder, data_dir, Bounds::default())
    }

    /// [`Images::keeping`], and no disk is larger than `bounds` say.
    pub fn keeping_within(folder: &Path, data_dir: &Path, bounds: Bounds) -> Result<Self, TakeInError> {
        let known = HashCache::open(data_dir.join("image-hashes.json"));
        let chunks = Some(Arc::new(ChunkStore::open(data_dir, bounds)?));
        Ok(Self { known: Mutex::new(known), chunks, ..Self::new(folder) })
    }

    /// The site's own policy in place of none.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust: Arc::new(trust), ..self }
    }

    /// Brings images here that are not in the folder.
    #[must_use]
    pub fn fetching(self, fetcher: Fetcher) -> Self {
        Self { fetcher: Some(fetcher), ..self }
    }

    pub fn fetcher(&self) -> Option<&Fetcher> {
        self.fetcher.as_ref()
    }

    /// How far the image is, as it is declared here. One that was declared otherwise before has not begun.
    pub fn taken(&self, declared: &ImageDeclaration) -> Taken {
        let all = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(declared.name.as_str()).filter(|(of, _)| of == declared);
        known.map(|(_, progress)| progress.now()).unwrap_or_default()
    }

    fn progress(&self, declared: &ImageDeclaration) -> Progress {
        let mut all = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(declared.name.as_str()) {
            Some((of, progress)) if of == declared => progress.clone(),
            _ => {
                let progress = Progress::default();
                all.insert(name(declared), (declared.clone(), progress.clone()));
                progress
            }
        }
    }

    /// Looks at all that is going on; called about once a second, it makes the rates in [`Images::taken`].
    pub fn look(&self, now: Time) {
        for (_, progress) in self.progress.lock().unwrap_or_else(PoisonError::into_inner).values() {
            progress.look(now);
        }
    }

    pub fn chunks(&self) -> Option<&Arc<ChunkStore>> {
        self.chunks.as_ref()
    }

    /// Fetched, [`Images::verified`], and taken apart: what an order to write names. Takes as long as fetching, reading
    /// and packing the image, the first time; how far it is, [`Images::taken`] tells.
    pub async fn ready(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        let _in_work = self.custody.in_work(declared).await;
        let progress = self.progress(declared);
        let turn = progress.turn();
        let _turn = turn.lock().await;
        let done = self.make_ready(declared, &progress).await;
        match &done {
            Ok(image) => progress.ready(image.root().map(|root| root.to_string())),
            Err(error) => progress.failed(error.to_string()),
        }
        done
    }

    /// [`Images::ready`] for a workflow: no collection takes the image away until the store has the workflow's target, or
    /// the workflow is over.
    pub async fn ready_for(
        &self,
        workflow: ForWorkflow,
        declared: &ImageDeclaration,
    ) -> Result<VerifiedImage, ImageError> {
        let _in_work = self.custody.in_work(declared).await;
        self.custody.hold(workflow, declared).await;
        let image = self.ready(declared).await?;
        self.custody.held_is(workflow, image.wire());
        Ok(image)
    }

    /// [`Images::here`], held as by [`Images::ready_for`].
    pub async fn here_for(
        &self,
        workflow: ForWorkflow,
        declared: &ImageDeclaration,
    ) -> Result<VerifiedImage, ImageError> {
        let _in_work = self.custody.in_work(declared).await;
        self.custody.hold(workflow, declared).await;
        let image = self.here(declared).await?;
        self.custody.held_is(workflow, image.wire());
        Ok(image)
    }

    async fn make_ready(
        &self,
        declared: &ImageDeclaration,
        progress: &Progress,
    ) -> Result<VerifiedImage, ImageError> {
        self.fetch(declared, progress).await?;
        if let Some(image) = self.ready_already(declared).await? {
            return Ok(image);
        }
        progress.enter(Phase::Waiting, None);
        let _one = self.taking_in.lock().await;
        progress.enter(Phase::Checking, None);
        let verified = self.verified(declared).await?;
        let (Some(store), Some(path)) = (&self.chunks, verified.file()) else { return Ok(verified) };
        let failed = |source| ImageError::TakeIn { image: name(declared), path: path.to_owned(), source };
        let known = store.root_of(verified.sha256(), declared.format);
        let root = match known {
            Some(root) => root,
            None => {
                progress.enter(Phase::TakingIn, verified.image().raw_size_bytes);
                take_in(Arc::clone(store), verified.clone(), progress.clone()).await.map_err(failed)?
            }
        };
        Ok(verified.in_chunks(root))
    }

    /// What was read and taken apart before need not wait for others that are.
    async fn ready_already(&self, declared: &ImageDeclaration) -> Result<Option<VerifiedImage>, ImageError> {
        if !self.is_read(declared) {
            return Ok(None);
        }
        let verified = self.verified(declared).await?;
        let Some(store) = &self.chunks else { return Ok(Some(verified)) };
        Ok(store.root_of(verified.sha256(), declared.format).map(|root| verified.in_chunks(root)))
    }

    /// Whether [`Images::verified`] need not read the file.
    fn is_read(&self, declared: &ImageDeclaration) -> bool {
        let path = match &declared.source {
            ImageSource::File(path) => self.inside(declared, path).ok(),
            _ => self.fetcher.as_ref().and_then(|fetcher| fetcher.local(declared)).map(|local| local.path),
        };
        path.is_some_and(|path| self.known_hash(&path).is_some())
    }

    async fn fetch(&self, declared: &ImageDeclaration, progress: &Progress) -> Result<(), ImageError> {
        if matches!(declared.source, ImageSource::File(_)) {
            return Ok(());
        }
        let image = || name(declared);
        let fetcher = self.fetcher.as_ref().ok_or_else(|| ImageError::NoFetcher { image: image() })?;
        let mut fetched = fetcher.fetch(declared, progress, &self.custody).await;
        if fetched.as_ref().is_err_and(|error| error.full().is_some()) && self.make_room(declared).await {
            fetched = fetcher.fetch(declared, progress, &self.custody).await;
        }
        if fetched.as_ref().is_err_and(|error| error.full().is_some()) {
            // Half of it would only be in the way of others.
            fetcher.give_back(declared);
        }
        fetched.map_err(|source| ImageError::Fetch { image: image(), source })
    }

    /// Fetched and [`Images::verified`]: a kernel, which is served as it is.
    pub async fn here(&self, declared: &ImageDeclaration) -> Result<VerifiedImage, ImageError> {
        let _in_work = self.custody.in_work(declared).await;
        let progress = self.progress(declared);
        let turn = progress.turn();
        let _turn = turn.lock().await;
        let done = match self.fetch(declared, &progress).await {
            Ok(()) => self.verified(declared).await,
            Err(error) => Err(error),
        };
        match &done {
            Ok(_) => progress.ready(None),
            Err(error) => progress.failed(error.to_string()),
        }
        done
    }

    /// Reads an image's chunks again, and makes those anew that are not what their name says.
    pub async fn recheck(&self, declared: &ImageDeclaration) -> Result<Checked, ImageError> {
        let _in_work = self.custody.in_work(declared).await;
        let verified = self.ready(declared).await?;
        let (Some(store), Some(root)) = (self.chunks.clone(), verified.root()) else {
            return Err(ImageError::NotFetched { image: name(declared) });
        };
        let reader = Arc::clone(&store);
        let io = |source| io_error(declared, Path::new("chunks"), source);
        let checked = tokio::task::spawn_blocking(move || reader.check(&root)).await;
        let checked = checked.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(io)?;
        if !checked.damaged.is_empty() {
            tracing::warn!(image = %declared.name, damaged = checked.damaged.len(), "chunks were damaged: made again");
            let _one = self.taking_in.lock().await;
            let path = verified.file().unwrap_or(Path::new("")).to_owned();
            let failed = |source| ImageError::TakeIn { image: name(declared), path, source };
            take_in(store, verified, self.progress(declared)).await.map_err(failed)?;
            self.progress(declared).ready(Some(root.to_string()));
        }
        Ok(checked)
    }
}

/// Blocks a thread of its own, for as long as it takes.
async fn take_in(
    store: Arc<ChunkStore>,
    image: VerifiedImage,
    progress: Progress,
) -> Result<Sha, TakeInError> {
    let work = move || {
        let name = &image.image().name;
        tracing::info!(image = name, "taking the image in");
        let root = store.take_in(&image, progress.done())?;
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
