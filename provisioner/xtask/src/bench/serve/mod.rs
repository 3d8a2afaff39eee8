//! `bench serve`: how fast image chunks are served, beside nginx with sendfile, by one client program, from the same files,
//! taking turns.

mod client;
mod servers;

use super::{Output, Row, release_server};
use crate::{console::say, packages, project::Project};
use anyhow::{Context, Result};
use clap::Args;
use client::Crowd;
use servers::Server;
use std::{fs, path::PathBuf, process::ExitCode};

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    output: Output,
    /// One run of each cell instead of five, and a quarter of the requests.
    #[arg(long)]
    quick: bool,
    /// Runs of each cell; the median counts.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Measure this server program; the default builds one as it is released.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The server's `[fleet] memory`.
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    memory: String,
}

/// Images by name and size. One stays in the server's memory, one does not; both are in the kernel's.
const IMAGES: [(&str, usize); 2] = [("64 MiB", 64 << 20), ("512 MiB", 512 << 20)];
const CROWDS: [usize; 3] = [1, 32, 256];
/// Of one cell, by all clients together.
const REQUESTS: usize = 4096;

/// What one run of one cell has shown.
#[derive(Debug, Clone, Copy)]
struct Seen {
    megabytes_per_second: f64,
    /// Of the server.
    processor_seconds: f64,
    p99_milliseconds: f64,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    packages::ensure(packages::BENCH_SERVE)?;
    if options.program.is_none() {
        release_server(&project)?;
    }
    let program = options.program.clone().unwrap_or_else(|| project.target.join("release/provisioner"));
    let parent = project.target.join("tmp");
    fs::create_dir_all(&parent).with_context(|| parent.display().to_string())?;
    let folder = tempfile::tempdir_in(&parent).context("a folder for the servers")?;
    let rounds = options.rounds.unwrap_or(if options.quick { 1 } else { 5 }).max(1);
    let requests = if options.quick { REQUESTS / 4 } else { REQUESTS };
    let mut rows = Vec::new();
    for (name, bytes) in IMAGES {
        let folder = folder.path().join(name.replace(' ', "-"));
        say(&format!("an image of {name} is made and taken in"));
        let mut servers = servers::start(&project, &program, &options.memory, &folder, bytes)?;
        let chunks = servers::chunks(&folder)?;
        for clients in CROWDS {
            let crowd = Crowd { clients, requests, chunks: &chunks };
            // Once for each, unmeasured: the files are in the kernel's memory then.
            let mut seen = [Vec::new(), Vec::new()];
            for server in &mut servers {
                server.run(&Crowd { requests: chunks.len().max(clients), ..crowd })?;
            }
            for _ in 0..rounds {
                for (server, seen) in servers.iter_mut().zip(&mut seen) {
                    seen.push(server.run(&crowd)?);
                }
            }
            let [ours, theirs] = seen.map(|all| median(&all));
            rows.extend(rows_of(&format!("{clients} × chunks of {name}"), ours, theirs));
        }
        let [ours, theirs] = &mut servers;
        let (ours, theirs) = (ours.peak_mib()?, theirs.peak_mib()?);
        rows.push(row(
            &format!("chunks of {name}"),
            "highest resident",
            "MiB",
            (ours, theirs),
            theirs / ours,
        ));
    }
    options.output.put(&rows)?;
    Ok(ExitCode::SUCCESS)
}

impl Server {
    fn run(&mut self, crowd: &Crowd<'_>) -> Result<Seen> {
        let before = self.processor_seconds()?;
        let done = crowd.fetch(self.address)?;
        Ok(Seen {
            megabytes_per_second: done.bytes as f64 / 1e6 / done.seconds,
            processor_seconds: self.processor_seconds()? - before,
            p99_milliseconds: done.p99.as_secs_f64() * 1e3,
        })
    }
}

fn median(all: &[Seen]) -> Seen {
    let of = |what: fn(&Seen) -> f64| {
        let mut values: Vec<f64> = all.iter().map(what).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Seen {
        megabytes_per_second: of(|s| s.megabytes_per_second),
        processor_seconds: of(|s| s.processor_seconds),
        p99_milliseconds: of(|s| s.p99_milliseconds),
    }
}

fn rows_of(work: &str, ours: Seen, theirs: Seen) -> [Row; 3] {
    let pair = |what: fn(&Seen) -> f64| (what(&ours), what(&theirs));
    let (speed, cpu, late) =
        (pair(|s| s.megabytes_per_second), pair(|s| s.processor_seconds), pair(|s| s.p99_milliseconds));
    [
        row(work, "speed", "MB/s", speed, speed.0 / speed.1),
        row(work, "processor", "s", cpu, cpu.1 / cpu.0),
        row(work, "p99", "ms", late, late.1 / late.0),
    ]
}

fn row(work: &str, cell: &str, unit: &'static str, (ours, theirs): (f64, f64), ratio: f64) -> Row {
    let (work, cell) = (work.to_owned(), cell.to_owned());
    Row { work, cell, unit, ours, peer: "nginx", theirs: Some(theirs), ratio: Some(ratio) }
}
