//! What file system a partition has, and its label, from its super block alone.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// Enough for btrfs, whose super block is the farthest from the start.
const START_BYTES: usize = 0x1_1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
}

impl FileSystem {
    /// As `mount(2)` wants it.
    pub fn kernel_name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub kind: FileSystem,
    pub label: String,
}

pub(super) fn probe_file(device: &Path) -> Option<Found> {
    let file = File::open(device).ok()?;
    let mut start = vec![0; START_BYTES];
    // A tiny partition is shorter; what is missing stays zero.
    let mut filled = 0;
    while let Some(room) = start.get_mut(filled..).filter(|r| !r.is_empty()) {
        match file.read_at(room, filled as u64) {
            Ok(0) | Err(_) => break,
            Ok(count) => filled += count,
        }
    }
    probe(&start)
}

fn probe(start: &[u8]) -> Option<Found> {
    let is = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|s| s.starts_with(magic));
    let label = |at: usize, length: usize| {
        let bytes = start.get(at..at + length).unwrap_or_default();
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).trim_end().to_owned()
    };
    let found = |kind, at, length| Some(Found { kind, label: label(at, length) });
    if is(0x438, &[0x53, 0xef]) {
        return found(FileSystem::Ext4, 0x478, 16);
    }
    if is(0, b"XFSB") {
        return found(FileSystem::Xfs, 108, 12);
    }
    if is(0x1_0040, b"_BHRfS_M") {
        return found(FileSystem::Btrfs, 0x1_012b, 256);
    }
    // FAT32 has its label after the longer parameter block; FAT12 and FAT16 before.
    if is(510, &[0x55, 0xaa]) && is(82, b"FAT32") {
        return found(FileSystem::Vfat, 71, 11);
    }
    if is(510, &[0x55, 0xaa]) && is(54, b"FAT") {
        return found(FileSystem::Vfat, 43, 11);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The real tools make the file systems; where one is not installed, its row is skipped.
    #[test]
    fn labels_that_real_tools_wrote_are_read() {
        for (tool, arguments, kind) in [
            ("mkfs.ext4", &["-q", "-F", "-L", "root-fs"][..], FileSystem::Ext4),
            ("mkfs.xfs", &["-q", "-f", "-L", "root-fs"], FileSystem::Xfs),
            ("mkfs.btrfs", &["-q", "-f", "-L", "root-fs"], FileSystem::Btrfs),
            ("mkfs.vfat", &["-F", "32", "-n", "root-fs"], FileSystem::Vfat),
            ("mkfs.vfat", &["-F", "16", "-n", "root-fs"], FileSystem::Vfat),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(320 << 20).unwrap();
            match Command::new(tool).args(arguments).arg(file.path()).output() {
                Ok(output) if output.status.success() => {}
                _ => continue,
            }
            let found = probe_file(file.path()).unwrap();
            assert_eq!((found.kind, found.label.to_lowercase().as_str()), (kind, "root-fs"), "{tool}");
        }
        assert_eq!(probe(&[0; 100]), None);
    }
}
