//! The chunk store: images taken apart once, so that agents can fetch, check and write many pieces at a time.
//!
//! ```text
//! DATA/chunks/ab/abcd…       one packed chunk, named by its SHA-256; chunks that images share are there once
//! DATA/manifests/ROOT        what chunks an image has; there only when all of them are on the medium
//! DATA/manifests/of/SHA256.FORMAT   the root of the image file with that hash
//! ```

use super::{
    VerifiedImage,
    bounds::{Bounds, TooLarge},
    chunk_files::{at, keep, read_manifest},
    qcow2::Disk,
};
use provisioner_unpack::{
    hashing::Hashing,
    limit::{self, Limited},
    unpack,
    zeros::is_zero,
};
use provisioner_wire::{
    chunks::{CHUNK_BYTES, Chunk, Manifest, Sha},
    ids::hex,
    order::ImageFormat,
};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};
use tokio::sync::RwLock;

/// zstd's default: packs as fast as most disks read, and a higher one gains a tenth.
const LEVEL: i32 = 3;
/// Raw chunks between the one that unpacks and those that pack.
const AHEAD: usize = 16;

/// Why an image could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum TakeInError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("its file is not on this server")]
    Elsewhere,
    #[error("its bytes have SHA-256 {is}: the file was changed while it was read")]
    Changed { is: String },
    #[error("the {format} stream is damaged after {at} raw bytes: {source}")]
    Damaged { format: ImageFormat, at: u64, source: io::Error },
    #[error("unpacked its SHA-256 is {is}, declared is {declared}")]
    RawSha256 { is: String, declared: String },
    #[error("unpacked it has {is} bytes, declared are {declared}")]
    RawSize { is: u64, declared: u64 },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// What of a verified image is needed to take it apart.
#[derive(Debug, Clone)]
struct Whole<'a> {
    path: &'a Path,
    format: ImageFormat,
    /// Of the file as it is.
    sha256: &'a str,
    raw_sha256: Option<&'a str>,
    raw_bytes: Option<u64>,
    /// Of the file as it is.
    file_bytes: u64,
}

/// What a reading of all chunks of an image has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    pub chunks: u64,
    /// As they are kept.
    pub bytes: u64,
    pub damaged: Vec<String>,
}

#[derive(Debug)]
pub struct ChunkStore {
    pub(super) chunks: PathBuf,
    pub(super) manifests: PathBuf,
    bounds: Bounds,
    /// Images are taken in beside each other; while something is collected, none is.
    pub(super) collecting: Arc<RwLock<()>>,
}

impl ChunkStore {
    /// Below `data_dir`. Chunks that no manifest names are of an image that was not taken in to its end: removed.
    pub fn open(data_dir: &Path, bounds: Bounds) -> Result<Self, TakeInError> {
        let store = Self {
            bounds,
            chunks: data_dir.join("chunks"),
            manifests: data_dir.join("manifests"),
            collecting: Arc::default(),
        };
        for folder in [&store.chunks, &store.manifests.join("of")] {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        if let Some(alone) = store.alone() {
            store.collect(&alone, false, |_| true)?;
        }
        Ok(store)
    }

    pub fn manifest_file(&self, root: &Sha) -> PathBuf {
        self.manifests.join(root.to_string())
    }

    pub fn chunk_file(&self, packed: &Sha) -> PathBuf {
        let name = packed.to_string();
        self.chunks.join(name.get(..2).unwrap_or_default()).join(&name)
    }

    /// The root of an image that was taken in before.
    pub fn root_of(&self, sha256: &str, format: ImageFormat) -> Option<Sha> {
        let root = fs::read_to_string(self.index_file(sha256, format)).ok()?;
        Sha::from_hex(root.trim()).filter(|root| self.manifest_file(root).is_file())
    }

    fn index_file(&self, sha256: &str, format: ImageFormat) -> PathBuf {
        self.manifests.join("of").join(format!("{sha256}.{format}"))
    }

    /// Takes `image` apart, on all cores; `done` counts raw bytes. Only when every check has passed is there a
    /// manifest. Blocks.
    pub fn take_in(&self, image: &VerifiedImage, done: &AtomicU64) -> Result<Sha, TakeInError> {
        let path = image.file().ok_or(TakeInError::Elsewhere)?;
        let image = image.image();
        let whole = Whole {
            path,
            format: image.format,
            sha256: &image.sha256,
            raw_sha256: image.raw_sha256.as_deref(),
            raw_bytes: image.raw_size_bytes,
            file_bytes: image.size_bytes,
        };
        self.take_in_whole(&whole, done)
    }

    fn take_in_whole(&self, whole: &Whole<'_>, done: &AtomicU64) -> Result<Sha, TakeInError> {
        let _shared = self.collecting.blocking_read();
        let manifest = self.take_apart(whole, done)?;
        let root = manifest.root();
        // The chunks first, all at once: a manifest must never name what a power cut can still take away.
        let folder = File::open(&self.chunks).map_err(at(&self.chunks))?;
        rustix::fs::syncfs(&folder).map_err(|e| at(&self.chunks)(e.into()))?;
        keep(&self.manifest_file(&root), &manifest.to_bytes())?;
        keep(&self.index_file(whole.sha256, whole.format), root.to_string().as_bytes())?;
        Ok(root)
    }

    /// The file's own hash is checked in the same reading, where that goes from its beginning to its end.
    fn take_apart(&self, whole: &Whole<'_>, done: &AtomicU64) -> Result<Manifest, TakeInError> {
        self.bounds.check(whole.raw_bytes)?;
        let (most, too_large) = self.bounds.most(whole.raw_bytes, whole.file_bytes);
        let damaged = |source| TakeInError::Damaged { format: whole.format, at: 0, source };
        let file = File::open(whole.path).map_err(at(whole.path))?;
        if whole.format == ImageFormat::Qcow2 {
            hashed(Hashing::new(&file), whole)?;
            let disk = Disk::open(file).map_err(damaged)?;
            // It says so itself: nothing has to be unpacked to see it.
            if disk.size() > most {
                return Err(too_large.into());
            }
            return self.pack(Limited::new(disk, most), whole, done);
        }
        let mut file = BufReader::with_capacity(1 << 20, Hashing::new(file));
        let manifest = {
            let raw = unpack(&mut file, whole.format).map_err(damaged)?;
            self.pack(Limited::new(raw, most), whole, done).map_err(|error| match error {
                TakeInError::Damaged { source, .. } if is_too_large(&source) => too_large.into(),
                error => error,
            })?
        };
        hashed(file.into_inner(), whole)?;
        Ok(manifest)
    }

    /// Packs what `raw` gives, on all cores.
    fn pack(&self, raw: impl Read, whole: &Whole<'_>, done: &AtomicU64) -> Result<Manifest, TakeInError> {
        let (entries, failed, stop) = (Mutex::new(Vec::new()), Mutex::new(None), AtomicBool::new(false));
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (give, take) = sync_channel::<(usize, Vec<u8>)>(AHEAD);
        let take = Mutex::new(take);
        let raw = std::thread::scope(|scope| {
            // Dropped at the end of this closure: the workers then know that nothing more comes.
            let give = give;
            let (take, entries, failed, stop) = (&take, &entries, &failed, &stop);
            for _ in 0..workers {
                scope.spawn(move || {
                    if let Err(error) = self.pack_all(take, entries) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        stop.store(true, Ordering::Relaxed);
                        // Whoever unpacks may be waiting for room: it must come to see that it is over.
                        while take.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok() {}
                    }
                });
            }
            cut(raw, whole, &give, stop, done)
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let raw = raw?;
        judge(whole, &raw)?;
        let mut numbered = entries.into_inner().unwrap_or_else(PoisonError::into_inner);
        numbered.sort_by_key(|(number, _)| *number);
        let chunks = numbered.into_iter().map(|(_, chunk)| chunk).collect();
        Ok(Manifest { raw_bytes: raw.bytes, chunk_bytes: CHUNK_BYTES, chunks })
    }

    fn pack_all(
        &self,
        take: &Mutex<Receiver<(usize, Vec<u8>)>>,
        entries: &Mutex<Vec<(usize, Option<Chunk>)>>,
    ) -> Result<(), TakeInError> {
        let mut packer = zstd::bulk::Compressor::new(LEVEL).map_err(|source| self.io(source))?;
        let mut packed = Vec::with_capacity(zstd::zstd_safe::compress_bound(CHUNK_BYTES as usize));
        loop {
            let next = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((number, raw)) = next else { return Ok(()) };
            let chunk = if is_zero(&raw) {
                None
            } else {
                packed.clear();
                packer.compress_to_buffer(&raw, &mut packed).map_err(|source| self.io(source))?;
                let name = Sha::of(&packed);
                self.keep_chunk(&name, &packed)?;
                let packed_bytes = u32::try_from(packed.len()).unwrap_or(u32::MAX);
                Some(Chunk { packed: name, packed_bytes, raw: Sha::of(&raw) })
            };
            entries.lock().unwrap_or_else(PoisonError::into_inner).push((number, chunk));
        }
    }

    fn io(&self, source: io::Error) -> TakeInError {
        TakeInError::Io { path: self.chunks.clone(), source }
    }

    /// Written aside and renamed, so that a name never stands for half of its bytes.
    fn keep_chunk(&self, name: &Sha, packed: &[u8]) -> Result<(), TakeInError> {
        let path = self.chunk_file(name);
        if path.is_file() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.chunks);
        fs::create_dir_all(folder).map_err(at(folder))?;
        let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(at(folder))?;
        aside.write_all(packed).map_err(at(&path))?;
        aside.persist(&path).map(|_| ()).map_err(|e| at(&path)(e.error))
    }

    /// Reads every chunk of an image; the names of those that are missing or other than their name, which are removed.
    /// Blocks.
    pub fn check(&self, root: &Sha) -> io::Result<Checked> {
        let _shared = self.collecting.blocking_read();
        let mut checked = Checked::default();
        let mut seen = HashSet::new();
        for chunk in self.manifest(root)?.chunks.into_iter().flatten() {
            if !seen.insert(chunk.packed) {
                continue;
            }
            let path = self.chunk_file(&chunk.packed);
            let read = fs::read(&path);
            checked.chunks += 1;
            checked.bytes += u64::from(chunk.packed_bytes);
            if !read.as_ref().is_ok_and(|bytes| Sha::of(bytes) == chunk.packed) {
                checked.damaged.push(chunk.packed.to_string());
                if read.is_ok() {
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(checked)
    }

    /// Reads and checks a manifest that is kept.
    pub fn manifest(&self, root: &Sha) -> io::Result<Manifest> {
        read_manifest(&self.manifest_file(root), root)
    }
}

fn is_too_large(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<limit::TooLarge>())
}

/// What came out of the file.
struct Raw {
    bytes: u64,
    sha256: Option<String>,
}

/// Reads the rest and holds the whole to its declared hash.
fn hashed<R: Read>(mut file: Hashing<R>, whole: &Whole<'_>) -> Result<(), TakeInError> {
    io::copy(&mut file, &mut io::sink()).map_err(at(whole.path))?;
    let is = file.finish();
    if is == whole.sha256 { Ok(()) } else { Err(TakeInError::Changed { is }) }
}

/// Gives `reader` in chunks, in their order, to whoever packs.
fn cut(
    mut reader: impl Read,
    whole: &Whole<'_>,
    give: &SyncSender<(usize, Vec<u8>)>,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> Result<Raw, TakeInError> {
    let damaged = |at, source| TakeInError::Damaged { format: whole.format, at, source };
    let mut digest = whole.raw_sha256.map(|_| Sha256::new());
    let mut bytes = 0;
    for number in 0.. {
        let mut raw = Vec::with_capacity(CHUNK_BYTES as usize);
        (&mut reader).take(u64::from(CHUNK_BYTES)).read_to_end(&mut raw).map_err(|e| damaged(bytes, e))?;
        if raw.is_empty() || stop.load(Ordering::Relaxed) {
            break;
        }
        if let Some(digest) = &mut digest {
            digest.update(&raw);
        }
        bytes += raw.len() as u64;
        done.store(bytes, Ordering::Relaxed);
        if give.send((number, raw)).is_err() {
            break;
        }
    }
    Ok(Raw { bytes, sha256: digest.map(|d| hex(&d.finalize())) })
}

fn judge(whole: &Whole<'_>, raw: &Raw) -> Result<(), TakeInError> {
    if let Some(declared) = whole.raw_bytes.filter(|declared| *declared != raw.bytes) {
        return Err(TakeInError::RawSize { is: raw.bytes, declared });
    }
    match (&raw.sha256, whole.raw_sha256) {
        (Some(is), Some(declared)) if is != declared => {
            Err(TakeInError::RawSha256 { is: is.clone(), declared: declared.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
