//! The folder of fetched files and its [`Ledger`]: nothing is written there, renamed or removed past it.

use super::ledger::{Full, Ledger, STEP};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Cheap to clone; all clones are of one folder.
#[derive(Debug, Clone)]
pub struct Room {
    folder: PathBuf,
    ledger: Arc<Mutex<Ledger>>,
}

impl Room {
    /// Of at most `limit` bytes.
    pub fn new(folder: &Path, limit: u64) -> Self {
        Self { folder: folder.to_owned(), ledger: Arc::new(Mutex::new(Ledger::new(limit))) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of the room for a file that is written now. `None` where somebody writes it already.
    pub fn share(&self, path: &Path) -> io::Result<Option<Share>> {
        let mut ledger = self.ledger();
        ledger.seen(self.files()?);
        let is_mine = ledger.begin(path);
        Ok(is_mine.then(|| Share { room: self.clone(), path: path.to_owned(), granted: 0 }))
    }

    /// False for a file that is being written, which stays, and for one that is gone.
    pub fn remove(&self, path: &Path, only_asked: bool) -> io::Result<bool> {
        let mut ledger = self.ledger();
        if ledger.is_in_flight(path) {
            return Ok(false);
        }
        if only_asked {
            return Ok(true);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(()) => {
                ledger.end(path, None);
                Ok(true)
            }
        }
    }

    /// All files that are there, with their bytes.
    pub fn files(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(about) if about.is_file() => files.push((entry.path(), about.len())),
                // Renamed since it was listed.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(files)
    }
}

/// What is reserved for one file while it is written. Dropped, what is not used is given back.
#[derive(Debug)]
pub struct Share {
    room: Room,
    path: PathBuf,
    granted: u64,
}

impl Share {
    /// Before the file has `bytes`. `all`: as many as it will have, where somebody answers for that: they are reserved at
    /// once, otherwise a [`STEP`] at a time.
    pub fn reach(&mut self, bytes: u64, all: Option<u64>) -> Result<(), Full> {
        if bytes > self.granted {
            let (need, want) = match all {
                Some(all) => (bytes.max(all), bytes.max(all)),
                None => (bytes, bytes.saturating_add(STEP)),
            };
            self.granted = self.room.ledger().grow(&self.path, need, want)?;
        }
        Ok(())
    }

    /// Whether the file could have so many bytes as it is now; nothing is reserved.
    pub fn could_reach(&self, bytes: u64) -> Result<(), Full> {
        self.room.ledger().fits(&self.path, bytes)
    }

    /// The file was cut off to `bytes`.
    pub fn back_to(&mut self, bytes: u64) {
        self.room.ledger().shrink(&self.path, bytes);
        self.granted = self.granted.min(bytes);
    }

    /// The file is whole: it is renamed to `to`.
    pub fn seal(self, to: &Path) -> io::Result<()> {
        let bytes = fs::metadata(&self.path)?.len();
        let mut ledger = self.room.ledger();
        fs::rename(&self.path, to)?;
        ledger.end(&self.path, Some((to, bytes)));
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut ledger = self.room.ledger();
        if ledger.is_in_flight(&self.path) {
            let bytes = fs::metadata(&self.path).map(|about| about.len()).ok();
            ledger.end(&self.path, bytes.map(|bytes| (self.path.as_path(), bytes)));
        }
    }
}
