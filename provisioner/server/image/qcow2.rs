//! The disk inside a qcow2 file, read from its beginning to its end. Nothing outside the file is ever opened: an image
//! that names a backing file or an external data file is refused (CVE-2024-32498 was one that was not).

use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, file::File, qcow2::Qcow2};
use std::{
    fs,
    io::{self, Read},
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The part of the header that every version has, and the incompatible features of version 3.
const HEAD: usize = 80;
const EXTERNAL_DATA: u64 = 1 << 2;
const DIRTY_OR_CORRUPT: u64 = 0b11;

/// Reads raw disk bytes.
pub struct Disk {
    access: FormatAccess<File>,
    at: u64,
}

impl Disk {
    /// `file` is checked before anything in it is believed.
    pub fn open(file: fs::File) -> io::Result<Self> {
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0)?;
        check(&head).map_err(io::Error::other)?;
        let image =
            guarded(|| Qcow2::<File>::builder(File::try_from(file)?).open(DenyImplicitOpenGate::default()))?;
        Ok(Self { access: FormatAccess::new(image), at: 0 })
    }

    /// Of the raw disk, as its header says: no more is ever read.
    pub fn size(&self) -> u64 {
        self.access.size()
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Disk(qcow2, {} bytes, at {})", self.access.size(), self.at)
    }
}

impl Read for Disk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.access.size().saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        if let Some(part) = buffer.get_mut(..length).filter(|part| !part.is_empty()) {
            guarded(|| self.access.read(part, self.at))?;
            self.at += length as u64;
        }
        Ok(length)
    }
}

/// imago indexes with lengths that a damaged image made up, and panics (0.2.6, seen with flipped header bytes): that
/// is an error of the image here.
fn guarded<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err(io::Error::other("the qcow2 image is damaged")))
}

/// QEMU's docs/interop/qcow2.rst, "Header".
fn check(head: &[u8; HEAD]) -> Result<(), &'static str> {
    let word = |at: usize| head.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_be_bytes(*b));
    let long = |at: usize| head.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_be_bytes(*b));
    if !head.starts_with(b"QFI\xfb") || !matches!(word(4), 2 | 3) {
        return Err("it is no qcow2 image of version 2 or 3");
    }
    if long(8) != 0 || word(16) != 0 {
        return Err("it names a backing file: flatten it (qemu-img convert) and declare that");
    }
    if word(32) != 0 {
        return Err("it is encrypted");
    }
    let features = if word(4) == 3 { long(72) } else { 0 };
    if features & EXTERNAL_DATA != 0 {
        return Err("its data is in another file: convert it (qemu-img convert) and declare that");
    }
    if features & DIRTY_OR_CORRUPT != 0 {
        return Err("it was not closed, or is marked corrupt: repair it (qemu-img check -r all)");
    }
    Ok(())
}

#[cfg(test)]
#[path = "qcow2_tests.rs"]
mod tests;
