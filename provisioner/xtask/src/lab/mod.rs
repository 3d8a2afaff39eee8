//! `cargo xtask lab`: blank machines, a real server, and the way from power-on to Ready, watched.
//!
//! Outside the namespace: install, build, make assets. Inside: start everything, provision, watch, report. The inside part
//! is this program again with the same arguments.

pub mod report;
mod server;
mod site;
mod timeline;
mod watch;

use crate::{
    assets::{self, Flavour, Image},
    code_of,
    console::say,
    packages,
    project::{Project, lock},
    tools,
};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use provisioner_lab::{
    Identity, Namespace, RedfishMachines,
    accelerator::Accelerator,
    namespace::{self, Role},
    process,
};
use provisioner_wire::report::Firmware;
use report::Report;
use server::Server;
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

/// Where the inside part works.
const FOLDER: &str = "PROVISIONER_LAB_FOLDER";
const PYTHON: &str = "PROVISIONER_PYTHON";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    Bios,
    Uefi,
    /// By turns, BIOS first.
    Mixed,
}

/// An operating system's way from its config to Ready, run by its own real program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Os {
    /// cloud-init in a Debian image reads a seed that the agent has placed.
    CloudInit,
    /// The same cloud-init finds its seed on a partition that the agent has made at the end of the disk.
    CloudInitSeed,
    /// The same cloud-init fetches its seed from a one-shot URL.
    CloudInitUrl,
    /// A kernel from the network writes the tiny image; Ignition fetches and applies the config.
    Ignition,
}

impl Os {
    /// What must be built for it.
    fn images(self) -> &'static [Image] {
        match self {
            Self::CloudInit | Self::CloudInitSeed | Self::CloudInitUrl => &[Image::Debian],
            Self::Ignition => &[Image::Tiny, Image::Installer],
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How many blank machines.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub machines: u8,
    #[arg(long, value_enum, default_value_t = Mix::Mixed)]
    pub firmware: Mix,
    /// What they become.
    #[arg(long, value_enum, default_value_t = Image::Debian)]
    pub image: Image,
    /// The operating system whose first boot is to be seen; goes before `--image`.
    #[arg(long, value_enum)]
    pub os: Option<Os>,
    /// Write the result to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leave everything running until Ctrl-C, and say how to reach it.
    #[arg(long)]
    pub keep: bool,
    /// Build the server as it is released; the default builds faster and runs slower.
    #[arg(long)]
    pub release: bool,
}

impl Options {
    fn images(&self) -> &[Image] {
        match self.os {
            Some(os) => os.images(),
            None => std::slice::from_ref(&self.image),
        }
    }
}

/// The command, outside or inside.
pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    if Namespace::role() != Role::Inside {
        prepare(&project, options.images(), options.release)?;
        return enter(&project, options.keep);
    }
    let report = run(&project, options)?;
    report.print();
    if let Some(file) = &options.json {
        report.write(file)?;
    }
    if options.keep {
        say("everything is left running; Ctrl-C ends it");
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
    Ok(if report.all_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that needs the network or takes long: packages, tools, the server, the assets.
pub fn prepare(project: &Project, images: &[Image], release: bool) -> Result<()> {
    packages::ensure(packages::LAB)?;
    tools::python(project)?;
    say("building the server");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "-p", "provisioner", "--bin", "provisioner"]);
    if release {
        cargo.arg("--release");
    }
    process::output(cargo.current_dir(&project.root))?;
    assets::make(project, Flavour::Cloud, images, None)?;
    Ok(())
}

/// Runs this very command again inside a lab, in a folder of its own; ends with its exit code.
pub fn enter(project: &Project, keep: bool) -> Result<ExitCode> {
    sweep(&project.labs());
    let folder = project.labs().join(std::process::id().to_string());
    // Held as long as this process lives: what nobody holds may be swept.
    let held = lock(&folder)?;
    let program = env::current_exe().context("own program")?.into_os_string();
    let command: Vec<OsString> = std::iter::once(program).chain(env::args_os().skip(1)).collect();
    let mut chain = Namespace::spawn(
        &command,
        &[(FOLDER, folder.clone().into_os_string()), (PYTHON, tools::python(project)?.into_os_string())],
    )?;
    if keep {
        let init = process::until(Duration::from_secs(10), || Ok(namespace::init_of(&chain)))?;
        if let Some(init) = init {
            say(&format!("from another terminal: nsenter --target {init} --net --pid --mount"));
        }
    }
    let status = chain.wait().context("the lab")?;
    if status.success() {
        let _ = fs::remove_dir_all(&folder);
    } else {
        // Logs are for reading, disks are only large.
        let _ = fs::remove_dir_all(folder.join("disks"));
    }
    drop(held);
    Ok(code_of(status))
}

/// Removes the folders of labs that are over.
fn sweep(labs: &Path) {
    for folder in fs::read_dir(labs).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let free = fs::File::open(folder.join(".lock")).is_ok_and(|file| file.try_lock().is_ok());
        if free {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// The folder of the lab that this process is inside of.
pub fn folder() -> Result<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from).with_context(|| format!("{FOLDER} is not set"))
}

/// Inside: blank machines to Ready. An error is one of the lab itself; a machine that fails is in the report.
pub fn run(project: &Project, options: &Options) -> Result<Report> {
    let folder = folder()?;
    let python = env::var_os(PYTHON).map(PathBuf::from).with_context(|| format!("{PYTHON} is not set"))?;
    let identities = identities(options.machines, options.firmware);
    let mut machines = RedfishMachines::start(&python, &folder)?;
    for identity in &identities {
        machines.add(identity, memory_mib(options.image), 1)?;
    }
    let what = options.os.map_or(site::What::Image(options.image), site::What::Os);
    let site = site::write(project, &folder, &identities, what)?;
    let server = Server::start(project, &site, &folder, options.release)?;
    say(&format!("{} machines, logs in {}", identities.len(), folder.join("logs").display()));
    say(&format!(
        "server {}, BMCs {}",
        server.address(),
        identities.first().map(Identity::bmc).unwrap_or_default()
    ));
    let limit = limit(options);
    let ended = watch::provision(&server, &site.profile, &identities, limit)?;
    let rows = machines
        .machines()
        .iter()
        .zip(ended)
        .map(|(machine, ended)| report::of(machine, &ended, server.log()))
        .collect();
    Ok(Report { machines: rows })
}

fn memory_mib(image: Image) -> u32 {
    match image {
        Image::Tiny | Image::Debian | Image::Installer => 1024,
    }
}

fn identities(count: u8, mix: Mix) -> Vec<Identity> {
    let firmware = |index: u8| match mix {
        Mix::Bios => Firmware::Bios,
        Mix::Uefi => Firmware::Uefi,
        Mix::Mixed if index % 2 == 1 => Firmware::Bios,
        Mix::Mixed => Firmware::Uefi,
    };
    let one = |index: u8| {
        // Two of a kind each share a number in a mixed lab; elsewhere each has its own.
        let mut identity = Identity::sample(index, firmware(index));
        if mix != Mix::Mixed {
            identity =
                identity.renamed(&format!("lab-{}-{index}", if mix == Mix::Bios { "bios" } else { "uefi" }));
        }
        identity
    };
    (1..=count).map(one).collect()
}

/// Generous: other work may share the cores, and emulated machines share them among themselves.
fn limit(options: &Options) -> Duration {
    let debian = options.images().contains(&Image::Debian);
    let one = if debian { 150 } else { 90 };
    let rounds = u64::from(options.machines).div_ceil(2);
    Accelerator::here().patience(one * rounds)
}
