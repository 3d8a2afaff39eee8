//! What the machine is, read from the kernel's `/sys` and `/proc` below a root that tests replace by a made tree.
//! Nothing here fails: what cannot be read is absent from the report.

mod board;
mod disks;
mod nics;

pub use disks::{disks, partitions};

use provisioner_wire::{Mac, report::HardwareReport};
use std::path::{Path, PathBuf};

/// The whole report, cleaned. `boot_mac` comes from the kernel command line.
pub fn inspect(root: &Path, boot_mac: Option<Mac>) -> HardwareReport {
    HardwareReport {
        dmi: board::dmi(root),
        firmware: board::firmware(root),
        secure_boot: board::secure_boot(root),
        cpu: board::cpu(root),
        memory_bytes: board::memory_bytes(root),
        disks: disks(root),
        nics: nics::nics(root),
        boot_mac,
    }
    .cleaned()
}

/// A small text file without the white space around it; `None` where missing, unreadable or empty.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text =
        String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    (!text.is_empty()).then_some(text)
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.parse().ok()
}

fn flag(path: impl AsRef<Path>) -> bool {
    number(path) == Some(1)
}

/// Names in a folder, sorted; none where there is no such folder.
fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Where a symbolic link ends: the last component only.
fn link_name(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_link(path).ok()?.file_name()?.to_str().map(str::to_owned)
}

fn resolved(path: impl AsRef<Path>) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}
