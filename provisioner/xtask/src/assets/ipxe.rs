//! iPXE out of the pinned Debian package, of a newer release than this machine's: the older one cannot boot a UEFI
//! machine's own disk. Nothing is installed.

use super::fingerprint::{self, Fingerprint, sha256};
use crate::{console::Done, project::Project};
use anyhow::{Context, Result, bail};
use provisioner_lab::process;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    package: Package,
    file: Vec<Pin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: String,
    suite: String,
    version: String,
    sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    /// The name firmware asks for.
    name: String,
    /// In the package.
    path: PathBuf,
    sha256: String,
}

/// Fills `folder` with what `ipxe/pins.toml` names.
pub fn make(project: &Project, folder: &Path, cache: &Path) -> Result<Done> {
    let file = project.root.join("ipxe/pins.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("{}: cannot be read", file.display()))?;
    let pins: Pins = toml::from_str(&text).with_context(|| file.display().to_string())?;
    let fingerprint = Fingerprint::default().text(&text).end();
    let what = format!("{} files of {} {}", pins.file.len(), pins.package.name, pins.package.version);
    if fingerprint::fits(folder, &fingerprint)
        && pins.file.iter().all(|pin| check(&folder.join(&pin.name), &pin.sha256).is_ok())
    {
        return Ok(Done::Kept(what));
    }
    let work = cache.join("ipxe");
    let _ = fs::remove_dir_all(&work);
    let package = download(&pins.package, &work)?;
    check(&package, &pins.package.sha256)?;
    let tree = work.join("tree");
    process::run("dpkg", ["-x".as_ref(), package.as_os_str(), tree.as_os_str()])?;
    fingerprint::forget(folder);
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for pin in &pins.file {
        let from = tree.join(&pin.path);
        check(&from, &pin.sha256)?;
        fs::copy(&from, folder.join(&pin.name)).with_context(|| from.display().to_string())?;
    }
    fingerprint::keep(folder, &fingerprint)?;
    let _ = fs::remove_dir_all(&work);
    Ok(Done::Made(what))
}

fn check(file: &Path, wanted: &str) -> Result<()> {
    let (found, _) = sha256(file)?;
    if found != wanted {
        bail!("{}: SHA-256 is {found}, ipxe/pins.toml says {wanted}", file.display());
    }
    Ok(())
}

/// Through an apt with lists and cache of its own, from the mirror that this machine's apt uses.
fn download(package: &Package, work: &Path) -> Result<PathBuf> {
    for folder in ["lists/partial", "cache/archives/partial", "parts"] {
        let folder = work.join(folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    let place = work.display();
    let source = format!(
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {} main\n",
        mirror()?,
        package.suite
    );
    let config = format!(
        "Dir::Etc::SourceList \"{place}/sources.list\";\nDir::Etc::SourceParts \"{place}/parts\";\n\
         Dir::State::Lists \"{place}/lists\";\nDir::Cache \"{place}/cache\";\nAPT::Sandbox::User \"root\";\n"
    );
    fs::write(work.join("sources.list"), source).context("sources.list")?;
    fs::write(work.join("apt.conf"), config).context("apt.conf")?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-q").args(arguments).env("APT_CONFIG", work.join("apt.conf")).current_dir(work);
        process::output(&mut command)
    };
    apt(&["update"])?;
    let wanted = format!("{}={}", package.name, package.version);
    apt(&["download", &wanted]).with_context(|| {
        format!("{} has no {wanted} any more? ipxe/README.md says how to move the pins", package.suite)
    })?;
    find_package(work)
}

/// The only package file in `folder`.
pub fn find_package(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("{}: no package was downloaded", folder.display()))
}

/// Base URL of the Debian mirror that this machine is set up with. A fresh machine has no package lists yet.
fn mirror() -> Result<String> {
    if let Some(mirror) = listed_mirror()? {
        return Ok(mirror);
    }
    process::run("apt-get", ["-q", "update"])?;
    listed_mirror()?.context("this machine's apt has no Debian mirror; is /etc/apt/sources.list set up?")
}

fn listed_mirror() -> Result<Option<String>> {
    let format = "$(ORIGIN)|$(REPO_URI)";
    let all = process::run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"])?;
    Ok(all.lines().find_map(|line| line.strip_prefix("Debian|")).map(str::to_owned))
}
