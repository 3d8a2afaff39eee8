//! Hashes of files that have not changed since they were computed, so that a start does not read every image again.

use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What must be the same for a hash to still hold. The change time cannot be set back by the file's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    device: u64,
    pub size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl From<&Metadata> for Stamp {
    fn from(of: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            inode: of.ino(),
            device: of.dev(),
            size: of.size(),
            modified_ns: nanoseconds(of.mtime(), of.mtime_nsec()),
            changed_ns: nanoseconds(of.ctime(), of.ctime_nsec()),
        }
    }
}

/// What the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub sha256: String,
    pub sha512: String,
    /// Name of the format its first bytes show.
    pub detected: String,
}

/// Path → stamp and contents. A cache: an unreadable one is an empty one.
#[derive(Debug, Default)]
pub(super) struct HashCache {
    /// None: for this run only.
    file: Option<PathBuf>,
    known: BTreeMap<PathBuf, (Stamp, Contents)>,
}

impl HashCache {
    pub(super) fn open(file: PathBuf) -> Self {
        let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file: Some(file), known: known.unwrap_or_default() }
    }

    pub(super) fn get(&self, path: &Path, stamp: &Stamp) -> Option<&Contents> {
        self.known.get(path).filter(|(known, _)| known == stamp).map(|(_, contents)| contents)
    }

    /// Files that had these bytes when they were read, with their stamps then.
    pub(super) fn with_sha256(&self, sha256: &str) -> Vec<(PathBuf, Stamp)> {
        let same = self.known.iter().filter(|(_, (_, contents))| contents.sha256 == sha256);
        same.map(|(path, (stamp, _))| (path.clone(), stamp.clone())).collect()
    }

    pub(super) fn put(&mut self, path: &Path, stamp: Stamp, contents: Contents) -> io::Result<()> {
        self.known.insert(path.to_owned(), (stamp, contents));
        let Some(file) = &self.file else { return Ok(()) };
        let partial = file.with_extension("new");
        std::fs::write(&partial, serde_json::to_vec(&self.known)?)?;
        std::fs::rename(partial, file)
    }
}
