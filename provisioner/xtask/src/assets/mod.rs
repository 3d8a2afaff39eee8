//! `cargo xtask boot-assets`: everything that machines boot, made from Debian's packages and our agent. Each part is kept
//! until what it was made of changes.

mod cpio;
mod disk;
mod fingerprint;
mod image;
mod initramfs;
mod installer;
mod ipxe;
mod kernel;
mod modules;
mod secure;

use crate::{
    console::{self, Done},
    packages,
    project::{Project, lock},
};
use anyhow::{Context, Result};
use clap::ValueEnum;
use provisioner_lab::{Assets, process};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub use secure::Wish as SecureBoot;

/// Which of Debian's kernels the agent runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// Small; drivers of virtual machines and NVMe only.
    Cloud,
    /// Every driver Debian has.
    Generic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Image {
    /// Busybox: boots in two seconds, for tests.
    Tiny,
    /// Debian 12 with systemd, cloud-init and an SSH server.
    Debian,
    /// What installs itself from the network: a kernel, and an initramfs with the real Ignition.
    Installer,
}

impl Image {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Debian => "debian",
            Self::Installer => "installer",
        }
    }
}

/// Makes what is not there or out of date: iPXE, kernel, initramfs, the `images`; and what Secure Boot needs, where that
/// is wished for.
pub fn make(
    project: &Project,
    flavour: Flavour,
    images: &[Image],
    secure_boot: Option<&SecureBoot>,
) -> Result<Assets> {
    packages::ensure(packages::ASSETS)?;
    let assets = project.assets();
    let cache = assets.root().join("cache");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let held = lock(&cache)?;
    console::say(&format!("boot assets in {}", assets.root().display()));
    console::step("iPXE binaries", || ipxe::make(project, &assets.ipxe(), &cache))?;
    let mut trees = Vec::new();
    for wanted in kernels(flavour) {
        console::step(&format!("kernel ({})", wanted.meta()), || {
            let (tree, done) = kernel::unpack(wanted.meta(), &cache)?;
            trees.push((wanted, tree));
            Ok(done)
        })?;
    }
    let tree = |flavour: Flavour| {
        trees.iter().find(|(of, _)| *of == flavour).map(|(_, tree)| tree).context("kernel not unpacked")
    };
    let mut agent = PathBuf::new();
    console::step("agent (static)", || {
        let (built, done) = build_agent(project)?;
        agent = built;
        Ok(done)
    })?;
    console::step("agent's initramfs", || {
        initramfs::make(tree(flavour)?, flavour == Flavour::Generic, &agent, &assets)
    })?;
    for image in images {
        let name = format!("image {}", image.name());
        let folder = assets.images();
        console::step(&name, || match image {
            Image::Tiny => image::tiny("tiny", tree(Flavour::Cloud)?, &folder, &disk::Loader::SystemdBoot),
            Image::Debian => image::debian(&folder),
            Image::Installer => installer::make(tree(Flavour::Cloud)?, &folder, &cache),
        })?;
    }
    if let Some(wish) = secure_boot {
        secure::make(project, &assets, tree(Flavour::Cloud)?, wish)?;
    }
    drop(held);
    Ok(assets)
}

/// The tiny image runs on the cloud kernel whatever the agent runs on.
fn kernels(flavour: Flavour) -> Vec<Flavour> {
    if flavour == Flavour::Cloud { vec![Flavour::Cloud] } else { vec![Flavour::Cloud, flavour] }
}

impl Flavour {
    fn meta(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }
}

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The agent as one static file: it is all the userland the boot environment has, but busybox.
fn build_agent(project: &Project) -> Result<(PathBuf, Done)> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "-p", "provisioner-agent", "--profile", "agent"]);
    cargo.args(["--target", TARGET]).env("RUSTFLAGS", "-C target-feature=+crt-static");
    cargo.current_dir(&project.root);
    let file = project.target.join(TARGET).join("agent/provisioner-agent");
    let before = modified(&file);
    process::output(&mut cargo)?;
    let size = fs::metadata(&file).with_context(|| file.display().to_string())?.len();
    let same = before.is_some() && before == modified(&file);
    let what = console::mib(size);
    Ok((file, if same { Done::Kept(what) } else { Done::Made(what) }))
}

fn modified(file: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(file).and_then(|m| m.modified()).ok()
}
