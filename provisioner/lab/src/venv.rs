//! Python tools of the field that we test against, installed from the package index into a folder of their own.

use anyhow::{Context, bail};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The `bin` folder of a virtual environment at `at` that holds what `requirements` pins; made when it is not there,
/// made anew when the pins have changed. Safe to be called by several processes at once.
pub fn ensure(at: &Path, requirements: &Path) -> anyhow::Result<PathBuf> {
    let pins = fs::read_to_string(requirements)
        .with_context(|| format!("cannot read the pins in {}", requirements.display()))?;
    let parent = at.parent().context("a virtual environment needs a folder to be in")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let lock = at.with_extension("lock");
    let lock = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    lock.lock().context("cannot lock the virtual environment")?;
    let (stamp, bin) = (at.join("installed"), at.join("bin"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == pins) {
        return Ok(bin);
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(at).output();
    finished(made, "python3 -m venv (Debian: apt-get install python3-venv)")?;
    let installed = Command::new(bin.join("pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(requirements)
        .output();
    finished(installed, "pip install")?;
    fs::write(&stamp, pins).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(bin)
}

fn finished(output: std::io::Result<std::process::Output>, what: &str) -> anyhow::Result<()> {
    let output = output.with_context(|| format!("cannot run {what}"))?;
    if !output.status.success() {
        bail!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
