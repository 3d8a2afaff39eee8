//! A stand-in for an operating system that installs itself from the network: Debian's kernel, and an initramfs with the
//! real Ignition of Debian's package in it.

use super::{
    fingerprint::{self, Fingerprint, sha256},
    initramfs::{self, Program},
    kernel::Tree,
};
use crate::{
    console::{self, Done},
    packages,
};
use anyhow::{Context, Result};
use std::{fs, path::Path};

const INIT: &str = include_str!("installer/init");
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4", "af_packet"];
/// In the package, which has it for dracut.
const IGNITION: &str = "usr/lib/dracut/modules.d/30ignition/ignition";
const ZSTD: &str = "/usr/bin/zstd";

/// Writes `installer.vmlinuz` and `installer.img` into `folder`, each with its SHA-256 beside it.
pub fn make(tree: &Tree, folder: &Path, cache: &Path) -> Result<Done> {
    let (kernel, image) = (folder.join("installer.vmlinuz"), folder.join("installer.img"));
    let fingerprint = Fingerprint::default()
        .text("1")
        .text(&tree.version)
        .text(INIT)
        .text(&packages::candidate("ignition")?)
        .file(Path::new(ZSTD))?
        .end();
    let size =
        || fs::metadata(&image).map(|m| console::mib(m.len())).with_context(|| image.display().to_string());
    if fingerprint::fits(&image, &fingerprint) && kernel.exists() {
        return Ok(Done::Kept(size()?));
    }
    fingerprint::forget(&image);
    let unpacked = cache.join("ignition");
    packages::unpack(&["ignition"], &unpacked)?;
    let ignition = unpacked.join(IGNITION);
    let programs =
        [Program { file: &ignition, to: "bin/ignition" }, Program { file: Path::new(ZSTD), to: "bin/zstd" }];
    let packed = initramfs::pack_with(tree, INIT.as_bytes(), MODULES, &programs)?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::copy(tree.vmlinuz(), &kernel).with_context(|| tree.vmlinuz().display().to_string())?;
    fingerprint::write_whole(&image, &packed)?;
    for file in [&kernel, &image] {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let sum = folder.join(format!("{name}.sha256"));
        fingerprint::write_whole(&sum, format!("{}  {name}\n", sha256(file)?.0).as_bytes())?;
    }
    fingerprint::keep(&image, &fingerprint)?;
    Ok(Done::Made(size()?))
}
