//! Reads `templates/machine-config` from disk.

use crate::render::{RenderError, Templates};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{folder}/{error}")]
    Template { folder: PathBuf, error: RenderError },
}

/// Every set below `folder`. Files that do not end in `.j2` are left alone.
pub fn read_templates(folder: &Path) -> Result<Templates, ReadError> {
    let mut files = Vec::new();
    for set in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        for path in entries(&set)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "j2")) {
            let source =
                fs::read_to_string(&path).map_err(|error| ReadError::Io { path: path.clone(), error })?;
            let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            files.push((name, source));
        }
    }
    Templates::new(files).map_err(|error| ReadError::Template { folder: folder.to_owned(), error })
}

/// Paths in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let list =
        || -> io::Result<Vec<PathBuf>> { fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    let mut paths = list().map_err(|error| ReadError::Io { path: folder.to_owned(), error })?;
    paths.sort();
    Ok(paths)
}
