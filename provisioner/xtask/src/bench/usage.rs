//! What a running server has used of the machine.

use anyhow::{Context, Result};
use provisioner_lab::process::Daemon;
use std::fs;

/// Processor time that a server has used, with its children's; seconds.
pub fn processor_seconds(daemon: &mut Daemon) -> Result<f64> {
    daemon.must_run()?;
    processor_of(daemon.id())
}

/// The same of one process.
pub fn processor_of(id: u32) -> Result<f64> {
    let file = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    // After the name in parentheses, which may hold anything: utime and stime are the 12th and 13th.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// The highest resident size that it has had; MiB.
pub fn peak_mib(daemon: &mut Daemon) -> Result<f64> {
    daemon.must_run()?;
    peak_of(daemon.id())
}

/// The same of one process.
pub fn peak_of(id: u32) -> Result<f64> {
    let file = format!("/proc/{id}/status");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).with_context(|| file.clone())?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().with_context(|| file.clone())?;
    Ok(kib / 1024.0)
}
