//! Debian's shim, signed by Microsoft, and its GRUB, signed by Debian: taken out of their packages, never installed.

use crate::assets::{fingerprint, ipxe::find_package};
use crate::console::Done;
use crate::packages;
use anyhow::{Context, Result};
use provisioner_lab::process;
use std::{fs, path::Path, process::Command};

/// By TFTP; the name firmware is given.
pub const SHIM: &str = "shimx64.efi";
/// On a disk, beside the shim.
pub const DISK_GRUB: &str = "grub-disk.efi";

/// Package, file in it, name here. `grubx64.efi` is the name that shim asks for; by network it is the GRUB that speaks TFTP.
const FILES: [(&str, &str, &str); 3] = [
    ("shim-signed", "usr/lib/shim/shimx64.efi.signed", SHIM),
    ("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed", "grubx64.efi"),
    ("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", DISK_GRUB),
];

/// Fills `folder`. Newest packages, for shim's revocations follow Debian's security updates.
pub fn make(folder: &Path, cache: &Path) -> Result<Done> {
    let mut versions = Vec::new();
    for package in ["shim-signed", "grub-efi-amd64-signed"] {
        versions.push(format!("{package} {}", packages::candidate(package)?));
    }
    let fingerprint = versions.join(", ");
    if fingerprint::fits(folder, &fingerprint) && FILES.iter().all(|(.., name)| folder.join(name).exists()) {
        return Ok(Done::Kept(fingerprint));
    }
    fingerprint::forget(folder);
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (package, path, name) in FILES {
        let work = cache.join("signed");
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
        let mut download = Command::new("apt-get");
        download.args(["-q", "-o", "APT::Sandbox::User=root", "download", package]).current_dir(&work);
        process::output(&mut download)?;
        let tree = work.join("tree");
        process::run("dpkg", ["-x".as_ref(), find_package(&work)?.as_os_str(), tree.as_os_str()])?;
        let from = tree.join(path);
        fs::copy(&from, folder.join(name)).with_context(|| from.display().to_string())?;
        fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    }
    fingerprint::keep(folder, &fingerprint)?;
    Ok(Done::Made(fingerprint))
}
