//! `cargo xtask test`: everything that must hold, in parts, with the time each took.

use crate::{
    assets::{self, Flavour, Image, SecureBoot},
    console::say,
    packages,
    project::Project,
    tools,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{
    env,
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

#[derive(Debug, Clone, Copy, Args)]
pub struct Options {
    /// Leave out what boots machines.
    #[arg(long, visible_alias = "fast")]
    no_vm: bool,
}

/// Names of tests that boot machines or open namespaces, in any package.
const VM_TESTS: &str = "test(/(^|::)vm(_|::)/)";
const RUNNER: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

struct Part {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// Runs all parts, also after one has failed; their table; success only where all passed.
pub fn main(options: Options) -> Result<ExitCode> {
    let project = Project::here()?;
    let mut parts = Vec::new();
    let mut part = |name, work: &dyn Fn(&Project) -> Result<()>| {
        say(&format!("\n== {name}"));
        let began = Instant::now();
        let done = work(&project);
        if let Err(error) = &done {
            say(&format!("{name} failed: {error:#}"));
        }
        parts.push(Part { name, took: began.elapsed(), passed: done.is_ok() });
    };
    part("packages and tools", &install);
    part("formatting", &|p| cargo(p, &["fmt", "--all", "--check"]));
    part("clippy", &|p| {
        cargo(p, &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    part("licences, bans, sources", &deny);
    part("unused dependencies", &machete);
    part("tests", &|p| nextest(p, &["--locked", "--workspace"], &[]));
    if !options.no_vm {
        part("boot assets", &|p| make_assets(p));
        part("tests on real firmware", &vm_tests);
        part("lab: BIOS and UEFI to Ready", &|_| own(&["lab", "--image", "debian"]));
        part("lab: Ignition, from the network", &|_| own(&["lab", "--os", "ignition"]));
        part("lab: cloud-init, by its URL", &|_| {
            own(&["lab", "--os", "cloud-init-url", "--machines", "1", "--firmware", "uefi"])
        });
    }
    Ok(summary(&parts))
}

fn summary(parts: &[Part]) -> ExitCode {
    say("");
    for part in parts {
        let seconds = part.took.as_secs();
        let word = if part.passed { "passed" } else { "FAILED" };
        say(&format!("{word}  {:>3} min {:02} s  {}", seconds / 60, seconds % 60, part.name));
    }
    let total: Duration = parts.iter().map(|part| part.took).sum();
    let failed = parts.iter().filter(|part| !part.passed).count();
    say(&format!("in all {} min {:02} s", total.as_secs() / 60, total.as_secs() % 60));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn install(project: &Project) -> Result<()> {
    packages::ensure(packages::TESTS)?;
    packages::ensure(packages::ASSETS)?;
    packages::ensure(packages::LAB)?;
    packages::ensure(packages::SECURE_BOOT)?;
    packages::ensure(packages::COREOS_INSTALLER)?;
    for tool in [tools::DENY, tools::MACHETE, tools::NEXTEST] {
        tools::cargo_tool(project, tool)?;
    }
    tools::python(project).map(|_| ())
}

fn make_assets(project: &Project) -> Result<()> {
    let images = [Image::Tiny, Image::Debian];
    assets::make(project, Flavour::Cloud, &images, Some(&SecureBoot::default())).map(|_| ())
}

/// cargo-deny looks at every target's crates; a build has fetched only those of its own.
fn deny(project: &Project) -> Result<()> {
    cargo(project, &["fetch", "--locked", "--quiet"])?;
    let mut command = Command::new(tools::cargo_tool(project, tools::DENY)?);
    command.args(["--offline", "--workspace", "--locked", "check", "--hide-inclusion-graph"]);
    command.args(["bans", "licenses", "sources"]);
    pass(command.current_dir(&project.root))
}

fn machete(project: &Project) -> Result<()> {
    let mut command = Command::new(tools::cargo_tool(project, tools::MACHETE)?);
    pass(command.current_dir(&project.root))
}

/// Each test in a lab namespace of its own, by cargo's target runner; the lab's patience is for a busy machine, so they
/// may share the cores.
fn vm_tests(project: &Project) -> Result<()> {
    let runner = format!("{} namespace --", program()?.display());
    let environment = [
        (RUNNER, OsString::from(runner)),
        ("PROVISIONER_ASSETS", project.assets().root().as_os_str().to_owned()),
        ("PROVISIONER_PYTHON", tools::python(project)?.into_os_string()),
        (
            "PROVISIONER_COREOS_INSTALLER",
            tools::cargo_tool(project, tools::COREOS_INSTALLER)?.into_os_string(),
        ),
    ];
    let threads =
        std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)).to_string();
    let arguments =
        ["--locked", "--workspace", "--run-ignored", "only", "-E", VM_TESTS, "--test-threads", &threads];
    nextest(project, &arguments, &environment)
}

fn nextest(project: &Project, arguments: &[&str], environment: &[(&str, OsString)]) -> Result<()> {
    let mut command = Command::new(tools::cargo_tool(project, tools::NEXTEST)?);
    command.args(["nextest", "run", "--no-fail-fast"]).args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    pass(command.current_dir(&project.root))
}

fn cargo(project: &Project, arguments: &[&str]) -> Result<()> {
    pass(Command::new("cargo").args(arguments).current_dir(&project.root))
}

/// Where this program is. A build of the workspace may have replaced it meanwhile; the kernel says so in its name.
fn program() -> Result<PathBuf> {
    let path = env::current_exe().context("own program")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map(PathBuf::from).unwrap_or(path.clone()))
}

/// This program with other arguments.
fn own(arguments: &[&str]) -> Result<()> {
    pass(Command::new(program()?).args(arguments))
}

/// Runs it with its output shown.
fn pass(command: &mut Command) -> Result<()> {
    let shown = provisioner_lab::process::words(command);
    let status = command
        .stdin(std::process::Stdio::null())
        .status()
        .with_context(|| format!("{shown}: cannot be started"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}
