//! Reads a whole image file: what it is and its SHA-256. Blocks.

use super::{
    cache::Contents,
    format::{HEAD, detect},
};
use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

pub(super) fn read(path: &Path) -> io::Result<Contents> {
    let mut file = File::open(path)?;
    let mut head = Vec::with_capacity(HEAD);
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let mut hasher = Sha256::new();
    hasher.update(&head);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => hasher.update(bytes),
            _ => break,
        }
    }
    Ok(Contents { sha256: hex(&hasher.finalize()), detected: detect(&head).to_owned() })
}
