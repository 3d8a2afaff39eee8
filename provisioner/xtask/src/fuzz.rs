//! `cargo xtask fuzz TARGET|all --seconds N`: libFuzzer with the address sanitizer on the targets in `fuzz/`. The tests run
//! the same targets for a few seconds with a mutator of their own; this is the long run.

use crate::{console::say, project::Project, tools};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

#[derive(Debug, Args)]
pub struct Options {
    /// A target, or `all` one after another.
    target: String,
    /// Of each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Runs them; an error names the first that failed. libFuzzer prints the input, and keeps it in `fuzz/artifacts`.
pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    let folder = project.root.join("fuzz");
    let all = targets(&folder)?;
    let wanted: Vec<_> = all.iter().filter(|t| options.target == "all" || options.target == **t).collect();
    if wanted.is_empty() {
        bail!("no fuzz target {}; there are {} and all", options.target, all.join(", "));
    }
    for target in wanted {
        say(&format!("== fuzz {target}, {} s", options.seconds));
        run(&project, &folder, target, options.seconds).with_context(|| format!("fuzz target {target}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Each target has its seeds in a folder of its name.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let seeds = folder.join("seeds");
    let entries = fs::read_dir(&seeds).with_context(|| seeds.display().to_string())?;
    let folders = entries.filter_map(|entry| entry.ok().filter(|e| e.path().is_dir()));
    let mut names: Vec<_> = folders.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn run(project: &Project, folder: &Path, target: &str, seconds: u32) -> Result<()> {
    let tool = tools::cargo_tool(project, tools::FUZZ)?;
    // What libFuzzer finds on the way is kept for the next run; only the seeds are checked in.
    let corpus = project.target.join("fuzz-corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
    let mut command = Command::new(tool);
    command.args(["run", target]).arg(&corpus).arg(folder.join("seeds").join(target));
    command.args(["--", "-max_len=4096", "-timeout=10"]).arg(format!("-max_total_time={seconds}"));
    // Sanitizers are an unstable option of rustc; the toolchain stays the pinned one.
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", project.target.join("fuzz"));
    let status = command.current_dir(&project.root).stdin(Stdio::null()).status().context("cargo-fuzz")?;
    if !status.success() {
        bail!("{status}; the input that failed is in {}", folder.join("artifacts").join(target).display());
    }
    Ok(())
}
