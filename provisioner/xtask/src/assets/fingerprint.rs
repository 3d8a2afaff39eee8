//! What a made file was made of, in one line beside it. A file whose line still fits is kept.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

/// Collects the inputs of one made file.
#[derive(Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    pub fn text(mut self, text: &str) -> Self {
        self.0.update(text.len().to_be_bytes());
        self.0.update(text);
        self
    }

    pub fn file(self, file: &Path) -> Result<Self> {
        let (hash, _) = sha256(file)?;
        Ok(self.text(&hash))
    }

    pub fn end(self) -> String {
        hexadecimal(&self.0.finalize())
    }
}

/// True where `made` is there and was made of exactly this.
pub fn fits(made: &Path, fingerprint: &str) -> bool {
    made.exists() && fs::read_to_string(beside(made)).is_ok_and(|text| text == fingerprint)
}

/// Called when `made` is complete.
pub fn keep(made: &Path, fingerprint: &str) -> Result<()> {
    let file = beside(made);
    fs::write(&file, fingerprint).with_context(|| format!("{}: cannot be written", file.display()))
}

/// Called before `made` is touched: what ends half-way is never kept.
pub fn forget(made: &Path) {
    let _ = fs::remove_file(beside(made));
}

fn beside(made: &Path) -> PathBuf {
    let mut name = made.file_name().unwrap_or_default().to_os_string();
    name.push(".made-of");
    made.with_file_name(name)
}

/// SHA-256 in hexadecimal, and the size.
pub fn sha256(file: &Path) -> Result<(String, u64)> {
    let mut source = File::open(file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = source.read(&mut buffer).with_context(|| file.display().to_string())?;
        if count == 0 {
            return Ok((hexadecimal(&hash.finalize()), size));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        size += u64::try_from(count).unwrap_or(0);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `bytes` to `file` so that another process sees all of it or the old one.
pub fn write_whole(file: &Path, bytes: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    File::create(&new)
        .and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_all()))
        .and_then(|()| fs::rename(&new, file))
        .with_context(|| format!("{}: cannot be written", file.display()))
}
