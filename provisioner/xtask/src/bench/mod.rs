//! `cargo xtask bench NAME --json FILE`: measurements, each beside another of the same run. A row's ratio is above 1 where
//! ours is better.

mod boot;
mod dhcp;
mod image;
mod place;
mod serve;
mod storm;
mod tftp;
mod usage;

use crate::{console::say, project::Project};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use provisioner_lab::process;
use serde::Serialize;
use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Power-on to Ready, with the share of each phase, one BIOS and one UEFI machine at once.
    Boot(boot::Options),
    /// DHCP beside Kea, dnsmasq and isc-dhcp-server: highest rates, latency, a storm of 10,000 clients.
    Dhcp(dhcp::Options),
    /// An image from a web server to a disk, beside curl and dd, coreos-installer, and a single stream.
    Image(image::Options),
    /// Image chunks by HTTP, beside nginx with sendfile.
    Serve(serve::Options),
    /// A thousand machines powered on at once: DHCP, TFTP, boot script, claim.
    Storm(storm::Options),
    /// Files by TFTP, beside tftpd-hpa, atftpd, dnsmasq and the tftpd crate's server.
    Tftp(tftp::Options),
}

pub fn main(bench: &Bench) -> Result<ExitCode> {
    match bench {
        Bench::Boot(options) => boot::main(options),
        Bench::Dhcp(options) => dhcp::main(options),
        Bench::Image(options) => image::main(options),
        Bench::Serve(options) => serve::main(options),
        Bench::Storm(options) => storm::main(options),
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

/// Builds the server as it is released: nothing else is worth measuring.
pub fn release_server(project: &Project) -> Result<()> {
    say("building the server");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "--release", "-p", "provisioner", "--bin", "provisioner"]);
    process::output(cargo.current_dir(&project.root)).map(|_| ())
}
