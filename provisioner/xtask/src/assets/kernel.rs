//! A Debian kernel package, unpacked and not installed.

use super::{fingerprint, ipxe::find_package};
use crate::{console::Done, packages};
use anyhow::{Context, Result};
use provisioner_lab::process;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An unpacked kernel package with its module dependencies worked out.
#[derive(Debug, Clone)]
pub struct Tree {
    pub root: PathBuf,
    /// `6.1.0-56-cloud-amd64`
    pub release: String,
    /// Of the package.
    pub version: String,
}

impl Tree {
    pub fn vmlinuz(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.release))
    }

    /// `…/lib/modules/RELEASE`
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

/// Unpacks the newest kernel of the meta package `meta` into `cache`.
pub fn unpack(meta: &str, cache: &Path) -> Result<(Tree, Done)> {
    let (package, version) = packages::kernel(meta)?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    let root = cache.join(meta);
    let tree = Tree { root: root.clone(), release, version };
    let fingerprint = format!("{package} {}", tree.version);
    if fingerprint::fits(&root, &fingerprint) {
        return Ok((tree, Done::Kept(fingerprint)));
    }
    fingerprint::forget(&root);
    let work = cache.join("download");
    for folder in [&root, &work] {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-o", "APT::Sandbox::User=root", "download", &package]).current_dir(&work);
        process::output(&mut command)
    };
    // Old lists name packages that a security update has replaced.
    download().or_else(|_| packages::apt(&["update"]).and_then(|()| download()))?;
    let file = find_package(&work)?;
    process::run("dpkg", ["-x".as_ref(), file.as_os_str(), root.as_os_str()])?;
    process::run("depmod", ["-b".as_ref(), root.as_os_str(), tree.release.as_ref()])?;
    fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    fingerprint::keep(&root, &fingerprint)?;
    Ok((tree, Done::Made(fingerprint)))
}
