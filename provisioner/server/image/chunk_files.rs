//! The folders of the chunk store: how its files are read, kept and listed, and how those go that nobody wants.

use super::chunks::{ChunkStore, TakeInError};
use provisioner_wire::chunks::{Manifest, ManifestError, Sha};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::OwnedRwLockWriteGuard;

/// No image is taken in, nor its chunks read for a check.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held, not read")] OwnedRwLockWriteGuard<()>);

/// What a collection has removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub manifests: usize,
    pub chunks: usize,
    pub bytes: u64,
}

impl ChunkStore {
    /// As long as it is held, no image is taken in. `None` while one is.
    pub fn alone(&self) -> Option<Alone> {
        Arc::clone(&self.collecting).try_write_owned().ok().map(Alone)
    }

    /// Removes every manifest that `wanted` does not want, and every chunk that no manifest names; or with `only_asked`
    /// only counts them. What is wanted is to be found out under the guard.
    pub fn collect(
        &self,
        _alone: &Alone,
        only_asked: bool,
        wanted: impl Fn(&Sha) -> bool,
    ) -> Result<Collected, TakeInError> {
        let remove = |path: &Path| if only_asked { Ok(()) } else { fs::remove_file(path).map_err(at(path)) };
        let (mut removed, mut named) = (Collected::default(), HashSet::new());
        for path in files(&self.manifests)? {
            let root = path.file_name().and_then(|n| Sha::from_hex(n.to_str()?));
            let manifest = root.filter(&wanted).and_then(|root| read_manifest(&path, &root).ok());
            match manifest {
                Some(manifest) => named.extend(manifest.chunks.into_iter().flatten().map(|c| c.packed)),
                None => {
                    remove(&path)?;
                    removed.manifests += 1;
                }
            }
        }
        for folder in folders(&self.chunks)? {
            for path in files(&folder)? {
                let name = path.file_name().and_then(|n| Sha::from_hex(n.to_str()?));
                if name.is_none_or(|name| !named.contains(&name)) {
                    removed.bytes += fs::metadata(&path).map_or(0, |m| m.len());
                    remove(&path)?;
                    removed.chunks += 1;
                }
            }
        }
        Ok(removed)
    }
}

pub(super) fn read_manifest(path: &Path, root: &Sha) -> io::Result<Manifest> {
    let bytes = fs::read(path)?;
    if Sha::of(&bytes) != *root {
        return Err(io::Error::other("the manifest's bytes are not those of its name"));
    }
    Manifest::parse(&bytes).map_err(|e: ManifestError| io::Error::other(e))
}

/// Written aside, brought to the medium, renamed.
pub(super) fn keep(path: &Path, bytes: &[u8]) -> Result<(), TakeInError> {
    let folder = path.parent().unwrap_or(path);
    let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(at(folder))?;
    aside.write_all(bytes).and_then(|()| aside.as_file().sync_all()).map_err(at(path))?;
    aside.persist(path).map_err(|e| at(path)(e.error))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(at(folder))
}

pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, TakeInError> {
    entries(folder, fs::FileType::is_file)
}

pub(super) fn folders(folder: &Path) -> Result<Vec<PathBuf>, TakeInError> {
    entries(folder, fs::FileType::is_dir)
}

fn entries(folder: &Path, kind: fn(&fs::FileType) -> bool) -> Result<Vec<PathBuf>, TakeInError> {
    let read = || {
        fs::read_dir(folder)?
            .map(|entry| entry.and_then(|e| Ok((e.file_type()?, e.path()))))
            .collect::<io::Result<Vec<_>>>()
    };
    let all = read().map_err(at(folder))?;
    Ok(all.into_iter().filter(|(is, _)| kind(is)).map(|(_, path)| path).collect())
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> TakeInError + use<> {
    let path = path.to_owned();
    move |source| TakeInError::Io { path, source }
}
