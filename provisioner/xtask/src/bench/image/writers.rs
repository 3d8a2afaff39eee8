//! The writers, each as one shell line, and what one of them has used.

use super::{SERVED, made::Image};
use anyhow::{Context, Result};
use provisioner_lab::process;
use std::{path::Path, process::Command};

#[derive(Debug)]
pub struct Writer {
    pub name: String,
    pub peer: &'static str,
    /// `$T` is the target.
    line: String,
    /// Leaves the whole image on the target.
    pub whole: bool,
}

#[derive(Debug, Clone)]
pub struct Used {
    pub seconds: f64,
    /// Of all its processes.
    pub processor: f64,
    /// Of the largest of its processes.
    pub peak_mib: f64,
}

pub fn all(ours: &Path, coreos: &Path, image: &Image) -> Vec<Writer> {
    let dd = "dd of=$T bs=4M iflag=fullblock oflag=direct conv=fsync,notrunc status=none";
    let curl = |name: &str| format!("curl -sf {SERVED}/{name}");
    let agent = |how| format!("{} {SERVED} {} $T {how}", ours.display(), image.root);
    let data = image.data_file();
    let row = |name: &str, peer, line: String, whole| Writer { name: name.to_owned(), peer, line, whole };
    vec![
        row("ours", "itself", agent("sampled"), true),
        row("ours, full read-back", "ours full", agent("full"), true),
        row("curl|dd", "curl|dd", format!("{} | {dd}", curl("image.raw")), true),
        row("curl|gunzip|dd", "gunzip", format!("{} | gunzip -c | {dd}", curl("image.raw.gz")), true),
        row("curl|zstd -d|dd", "zstd", format!("{} | zstd -dcq | {dd}", curl("image.raw.zst")), true),
        row(
            "coreos-installer",
            "coreos-installer",
            format!(
                "{} install --insecure --offline --image-file {} $T",
                coreos.display(),
                image.folder.join("image.raw.gz").display()
            ),
            false,
        ),
        // What Tinkerbell's image2disk, Ironic's agent and their like do: one stream that is unpacked, hashed and
        // written through the page cache in one thread, then synced.
        row(
            "single stream",
            "single stream",
            format!(
                "{} | tee >(sha256sum >/dev/null) | zstd -dcq | dd of=$T bs=1M iflag=fullblock conv=fsync,notrunc status=none",
                curl("image.raw.zst")
            ),
            true,
        ),
        // The limit: the image's data alone, from memory, written by one process with direct I/O.
        row("raw-write", "raw-write", format!("{dd} if={}", data.display()), false),
    ]
}

impl Writer {
    /// On the first so many processors.
    pub fn run(&self, target: &Path, cores: usize) -> Result<Used> {
        let last = cores.saturating_sub(1);
        let line = format!("set -eo pipefail; T={}; {}; sync $T", target.display(), self.line);
        let report = tempfile::NamedTempFile::new().context("a file for the figures")?;
        let mut command = Command::new("taskset");
        command.args(["-c", &format!("0-{last}"), "/usr/bin/time", "-f", "%e %U %S %M", "-o"]);
        command.arg(report.path()).args(["bash", "-c", &line]);
        process::output(&mut command).with_context(|| self.name.clone())?;
        let text = std::fs::read_to_string(report.path()).context("the figures")?;
        let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [seconds, user, system, kib] = figures[..] else { anyhow::bail!("{}: {text}", self.name) };
        Ok(Used { seconds, processor: user + system, peak_mib: kib / 1024.0 })
    }
}
