//! Pieces on the disk, `FOLDER/ab/abcd…`, each held to its name whenever it is read: nothing on a rack's disk is trusted.

use super::index::Index;
use provisioner_wire::chunks::Sha;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    index: Mutex<Index>,
}

impl Shelf {
    /// What an earlier run has left, as far as there is room, the newest first to stay.
    pub(super) fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut found = Vec::new();
        for sub in fs::read_dir(folder)? {
            let sub = sub?;
            if !sub.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(sub.path())? {
                let (file, about) = file.and_then(|f| f.metadata().map(|m| (f.path(), m)))?;
                match file.file_name().and_then(|name| Sha::from_hex(name.to_str()?)) {
                    Some(piece) => found.push((about.modified()?, piece, about.len())),
                    // A piece that was being written.
                    None => fs::remove_file(&file)?,
                }
            }
        }
        found.sort();
        let shelf = Self { folder: folder.to_owned(), index: Mutex::new(Index::new(limit)) };
        for (_, piece, size) in found {
            let gone = shelf.index().put(piece, size);
            shelf.remove_files(&gone);
        }
        Ok(shelf)
    }

    /// Pieces and bytes.
    pub(super) fn holds(&self) -> (usize, u64) {
        let index = self.index();
        (index.len(), index.bytes())
    }

    /// The size of a piece that should be there.
    pub(super) fn size(&self, piece: &Sha) -> Option<u64> {
        self.index().touch(piece)
    }

    /// Its bytes, if they still are what the name says; else it is gone. Blocks.
    pub(super) fn read(&self, piece: &Sha) -> Option<Vec<u8>> {
        let path = self.path(piece);
        match fs::read(&path) {
            Ok(bytes) if Sha::of(&bytes) == *piece => return Some(bytes),
            Ok(_) => tracing::warn!(file = %path.display(), "not the bytes of its name: fetched anew"),
            Err(error) => tracing::warn!(file = %path.display(), "{error}: fetched anew"),
        }
        self.index().remove(piece);
        self.remove_files(&[*piece]);
        None
    }

    /// Keeps bytes that were held to `piece`. Blocks.
    pub(super) fn keep(&self, piece: Sha, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(&piece);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        let mut aside = tempfile::NamedTempFile::new_in(folder)?;
        aside.write_all(bytes)?;
        aside.persist(&path).map_err(|e| e.error)?;
        let gone = self.index().put(piece, bytes.len() as u64);
        self.remove_files(&gone);
        Ok(())
    }

    fn path(&self, piece: &Sha) -> PathBuf {
        let name = piece.to_string();
        self.folder.join(name.get(..2).unwrap_or_default()).join(name)
    }

    fn remove_files(&self, pieces: &[Sha]) {
        for piece in pieces {
            let path = self.path(piece);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(file = %path.display(), "cannot be removed: {error}");
                }
                _ => {}
            }
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
