//! Reads an image file once: its SHA-256, and the format that its first bytes show. No sniffing tool is run on it
//! (CVE-2024-44082).

use provisioner_wire::{ids::hex, order::ImageFormat};
use sha2::{Digest, Sha256};
use std::{fs::File, io, io::Read, path::Path};

/// Hash (hexadecimal) and detected format; `None` where nothing compressed is recognised.
pub fn read(path: &Path) -> io::Result<(String, Option<ImageFormat>)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut format = None;
    let mut first = true;
    loop {
        let length = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
        if first {
            format = detect(read);
            first = false;
        }
        hasher.update(read);
    }
    Ok((hex(&hasher.finalize()), format))
}

fn detect(head: &[u8]) -> Option<ImageFormat> {
    let magics: [(&[u8], ImageFormat); 3] = [
        (&[0x1f, 0x8b], ImageFormat::Gz),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], ImageFormat::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], ImageFormat::Zst),
    ];
    magics.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, format)| *format)
}
