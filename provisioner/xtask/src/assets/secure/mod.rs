//! `cargo xtask boot-assets --secure-boot`: what machines boot with Secure Boot enforced, on two roads. With the site's own
//! keys: signed iPXE, the agent as one signed image, the files to enrol. With the keys that machines are sold with: Debian's
//! signed shim and GRUB.

mod keys;
mod shim;
mod sign;
mod variables;

use super::{disk::Loader, fingerprint::sha256, image, kernel::Tree};
use crate::{console, packages, project::Project};
use anyhow::{Context, Result};
use keys::Keys;
use provisioner_lab::Assets;
use sign::Unified;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The programs of `ipxe/pins.toml` that firmware with Secure Boot starts; the rest is copied as it is.
const SIGNED_IPXE: [&str; 2] = ["snponly.efi", "ipxe.efi"];

/// What `--secure-boot` is told.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Where the site's keys are kept.
    pub keys: Option<PathBuf>,
    /// `provisioner trust` prints it: the only server that the signed agent listens to.
    pub server_key: Option<String>,
}

/// Makes both roads. `tree`: the kernel that the tiny image runs on; the agent's kernel and initramfs are there already.
pub fn make(project: &Project, assets: &Assets, tree: &Tree, wish: &Wish) -> Result<()> {
    packages::ensure(packages::SECURE_BOOT)?;
    let folder = assets.secure_boot();
    let mut made = None;
    console::step("Secure Boot keys", || {
        let (keys, done) = keys::make(wish.keys.as_deref().unwrap_or(&folder.join("keys")))?;
        made = Some(keys);
        Ok(done)
    })?;
    let keys: Keys = made.context("no keys")?;
    for name in SIGNED_IPXE {
        let (from, to) = (assets.ipxe().join(name), assets.signed_ipxe().join(name));
        console::step(&format!("signed {name}"), || sign::signed(&keys, &from, &to))?;
    }
    copy_the_rest(&assets.ipxe(), &assets.signed_ipxe())?;
    let initramfs = pinned(assets, wish.server_key.as_deref())?;
    let parts = Unified { kernel: &assets.kernel(), initramfs: &initramfs, command_line: None };
    console::step("signed agent", || sign::unified(&keys, &parts, &assets.signed_agent()))?;
    console::step("EFI variables with the keys", || {
        variables::make(project, &keys, &assets.own_key_variables())
    })?;
    console::step("Debian's signed shim and GRUB", || {
        shim::make(&assets.shim(), &assets.root().join("cache"))
    })?;
    images(assets, tree, &keys)
}

/// Firmware without Secure Boot is served from the same folder.
fn copy_the_rest(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let file = entry.with_context(|| from.display().to_string())?.path();
        let Some(name) = file.file_name() else { continue };
        let signed = SIGNED_IPXE.iter().any(|signed| name.to_string_lossy().starts_with(signed));
        let target = to.join(name);
        let same = || Some(sha256(&file).ok()?.0 == sha256(&target).ok()?.0);
        if !signed && same() != Some(true) {
            fs::copy(&file, &target).with_context(|| target.display().to_string())?;
        }
    }
    Ok(())
}

/// The agent's initramfs, followed by the server's key where there is one: kernels unpack archives that stand one behind
/// the other.
fn pinned(assets: &Assets, server_key: Option<&str>) -> Result<PathBuf> {
    let Some(key) = server_key else { return Ok(assets.initramfs()) };
    anyhow::ensure!(
        key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit()),
        "--server-key {key:?}: 64 hexadecimal digits, as `provisioner trust` prints them"
    );
    let mut archive = super::cpio::Archive::default();
    archive.folder("etc");
    archive.file("etc/provisioner-server-key", false, key.as_bytes());
    let file = assets.secure_boot().join("initramfs.img");
    let mut bytes = fs::read(assets.initramfs()).context("the agent's initramfs")?;
    // An archive begins at a multiple of four.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(archive.end());
    super::fingerprint::write_whole(&file, &bytes)?;
    Ok(file)
}

/// The tiny image, once for each road: its disk must boot with Secure Boot enforced, too.
fn images(assets: &Assets, tree: &Tree, keys: &Keys) -> Result<()> {
    let (shim, grub) = (assets.shim().join(shim::SHIM), assets.shim().join(shim::DISK_GRUB));
    console::step("image tiny-shim", || {
        image::tiny("tiny-shim", tree, &assets.images(), &Loader::Shim { shim: &shim, grub: &grub })
    })?;
    let join = |kernel: &Path, initramfs: &Path, command_line: &str, to: &Path| {
        let parts = Unified { kernel, initramfs, command_line: Some(command_line) };
        sign::unified(keys, &parts, to).map(|_| ())
    };
    let certificate = keys.certificate("db");
    console::step("image tiny-signed", || {
        let loader = Loader::Unified { join: &join, signer: &certificate };
        image::tiny("tiny-signed", tree, &assets.images(), &loader)
    })
}
