//! `cargo xtask`: the lab, the tests, the benches, and what machines boot.

mod assets;
mod bench;
mod console;
mod lab;
mod packages;
mod project;
mod test;
mod tools;

use anyhow::Result;
use assets::{Flavour, Image, SecureBoot};
use clap::{Parser, Subcommand};
use project::Project;
use provisioner_lab::namespace::{Namespace, Role};
use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make what machines boot: iPXE, the agent's kernel and initramfs, the images.
    BootAssets {
        /// Which of Debian's kernels the agent runs on.
        #[arg(long, value_enum, default_value_t = Flavour::Cloud)]
        kernel: Flavour,
        /// Only these images; none: all.
        #[arg(long, value_enum)]
        image: Vec<Image>,
        /// Also what Secure Boot needs: the site's own keys (made once), iPXE and the agent signed with them, the files to
        /// enrol; and Debian's signed shim and GRUB.
        #[arg(long)]
        secure_boot: bool,
        /// Where the site's keys are kept; default: with the other assets.
        #[arg(long, requires = "secure_boot")]
        keys: Option<PathBuf>,
        /// The signed agent listens to this server only: the key that `provisioner trust` prints.
        #[arg(long, requires = "secure_boot")]
        server_key: Option<String>,
    },
    /// Provision blank virtual machines to Ready: real firmware, real server, real BMC protocol.
    Lab(lab::Options),
    /// Everything that must hold: formatting, lints, licences, tests, and machines to Ready on real firmware.
    Test(test::Options),
    /// Measure beside a peer in the same run.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Run a command in a lab's namespaces: bridge br0 with 10.88.0.1, gone when the command ends.
    Namespace {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Namespace::role() {
        Role::Init => be_init(),
        Role::Outside | Role::Inside => run(Cli::parse().command),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// PID 1 of a namespace: its arguments are the command to run inside.
fn be_init() -> Result<ExitCode> {
    let command: Vec<OsString> = env::args_os().skip(1).collect();
    Ok(ExitCode::from(Namespace::be_init(&command)?))
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::BootAssets { kernel, image, secure_boot, keys, server_key } => {
            let images = if image.is_empty() { vec![Image::Tiny, Image::Debian] } else { image };
            let wish = secure_boot.then_some(SecureBoot { keys, server_key });
            assets::make(&Project::here()?, kernel, &images, wish.as_ref())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Lab(options) => lab::main(&options),
        Command::Test(options) => test::main(options),
        Command::Bench(bench) => bench::main(&bench),
        Command::Namespace { command } => Ok(code_of(Namespace::run(&command)?)),
    }
}

/// Its own exit code, and 1 for one that a signal ended.
fn code_of(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
