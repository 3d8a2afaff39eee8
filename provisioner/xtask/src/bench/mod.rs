//! `cargo xtask bench NAME --json FILE`: measurements, each beside another of the same run. A row's ratio is above 1 where
//! ours is better.

mod boot;
mod tftp;

use crate::console::say;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::{fs, path::PathBuf, process::ExitCode};

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Power-on to Ready, with the share of each phase, one BIOS and one UEFI machine at once.
    Boot(boot::Options),
    /// Files by TFTP, beside tftpd-hpa, atftpd, dnsmasq and the tftpd crate's server.
    Tftp(tftp::Options),
}

pub fn main(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Boot(options) => boot::main(options),
        Bench::Tftp(options) => tftp::main(options),
    }
}

/// Where the rows go.
#[derive(Debug, Clone, Args)]
pub struct Output {
    /// Write the rows to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Output {
    /// Prints `rows`, and writes them to the file where one was named.
    pub fn put(&self, rows: &[Row]) -> Result<()> {
        for row in rows {
            let beside = row.theirs.map(|t| format!("{} {t:.1}", row.peer)).unwrap_or_default();
            println!("{:28} {:22} {:8.1} {}  {beside}", row.work, row.cell, row.ours, row.unit);
        }
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(rows).context("JSON")?;
            fs::write(file, text + "\n").with_context(|| format!("{}: cannot be written", file.display()))?;
            say(&format!("written: {}", file.display()));
        }
        Ok(())
    }
}

/// One measurement beside its peer's.
#[derive(Debug, Serialize)]
pub struct Row {
    pub work: String,
    pub cell: String,
    pub unit: &'static str,
    pub ours: f64,
    pub peer: &'static str,
    /// None where there is no peer for this cell.
    pub theirs: Option<f64>,
    /// Above 1 where ours is better; none where there is no peer for this cell.
    pub ratio: Option<f64>,
}
