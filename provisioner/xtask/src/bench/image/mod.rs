//! `bench image`: an image from a web server to a disk, by the agent's writer and by what peers use, in one run, by turns,
//! on so many processors. The same nginx serves all of them. Needs root: the disk is a loop device.

mod made;
mod writers;

use super::{Output, Row};
use crate::{console::say, packages, project::Project, tools};
use anyhow::{Context, Result, bail};
use clap::Args;
use made::Image;
use provisioner_lab::process::{self, Daemon};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};
use writers::{Used, Writer};

/// Where nginx serves the image.
const SERVED: &str = "http://127.0.0.1:8099";

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    output: Output,
    /// One round, on four processors only.
    #[arg(long)]
    quick: bool,
    /// Rounds; each figure is the best of them: other work on the machine only ever makes one slower.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Writers by name, with commas; none: all.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    packages::ensure(packages::BENCH_IMAGE)?;
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let coreos = match wanted("coreos-installer") {
        true => tools::cargo_tool(&project, tools::COREOS_INSTALLER)?,
        false => PathBuf::new(),
    };
    let writer = our_writer(&project)?;
    let image = Image::make(&project)?;
    let _server = serve(&project, &image)?;
    let writers: Vec<Writer> =
        writers::all(&writer, &coreos, &image).into_iter().filter(|writer| wanted(&writer.name)).collect();
    let (rounds, cores) = if options.quick { (1, vec![4]) } else { (options.rounds, vec![1, 2, 4]) };
    let mut rows = Vec::new();
    for target in [Target::on_disk(&project)?, Target::in_memory()?] {
        for cores in &cores {
            say(&format!("{} on {cores} processors", target.name));
            rows.extend(measure(&writers, &target, &image, *cores, rounds)?);
        }
    }
    options.output.put(&rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Built as it is released.
fn our_writer(project: &Project) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "-p",
        "provisioner-agent",
        "--example",
        "write",
    ]);
    process::output(cargo.current_dir(&project.root))?;
    Ok(project.target.join("release/examples/write"))
}

fn serve(project: &Project, image: &Image) -> Result<Daemon> {
    let folder = project.target.join("bench-image");
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off;\nworker_processes auto;\nuser root;\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 512; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;\n\
         server {{ listen 127.0.0.1:8099; root {:?}; }} }}\n",
        image.folder
    );
    fs::write(&config, text).with_context(|| config.display().to_string())?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).arg("-c").arg(&config).args(["-e", "stderr"]);
    let mut daemon = Daemon::start("nginx", &mut command, &folder.join("nginx.log"))?.with_workers();
    let url = format!("{SERVED}/manifests/{}", image.root);
    daemon.wait_ready(Duration::from_secs(20), || process::run("curl", ["-sfI", &url]).is_ok())?;
    Ok(daemon)
}

/// A loop device, taken away in the end.
struct Target {
    name: &'static str,
    file: PathBuf,
    device: PathBuf,
}

impl Target {
    fn on_disk(project: &Project) -> Result<Self> {
        Self::of("loop on the disk", project.target.join("bench-image/target.raw"))
    }

    fn in_memory() -> Result<Self> {
        Self::of("loop on tmpfs", Path::new("/dev/shm").join("provisioner-bench-target.raw"))
    }

    fn of(name: &'static str, file: PathBuf) -> Result<Self> {
        let _ = fs::remove_file(&file);
        let made = fs::File::create(&file).and_then(|f| f.set_len(made::RAW_BYTES + (64 << 20)));
        made.with_context(|| file.display().to_string())?;
        let shown = file.display().to_string();
        // Direct: what is written is on the file's own disk, not in this machine's memory twice.
        let direct = process::run("losetup", ["--find", "--show", "--partscan", "--direct-io=on", &shown]);
        let device = direct.or_else(|_| process::run("losetup", ["--find", "--show", &shown]))?;
        Ok(Self { name, device: PathBuf::from(device.trim()), file })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = process::run("losetup", ["-d".as_ref(), self.device.as_os_str()]);
        let _ = fs::remove_file(&self.file);
    }
}

fn measure(
    writers: &[Writer],
    target: &Target,
    image: &Image,
    cores: usize,
    rounds: usize,
) -> Result<Vec<Row>> {
    let mut best: Vec<Option<Used>> = writers.iter().map(|_| None).collect();
    for _ in 0..rounds {
        for (writer, best) in writers.iter().zip(&mut best) {
            // The blocks of the file behind the loop device are there for each of them, or for none.
            process::run("blkdiscard", ["-f".as_ref(), target.device.as_os_str()])?;
            let used = writer.run(&target.device, cores)?;
            say(&format!(
                "  {:24} {:6.2} s  cpu {:6.2} s  {:4.0} MiB",
                writer.name, used.seconds, used.processor, used.peak_mib
            ));
            if writer.whole {
                image.is_on(&target.device).with_context(|| writer.name.clone())?;
            }
            if best.as_ref().is_none_or(|b| used.seconds < b.seconds) {
                *best = Some(used);
            }
        }
    }
    let of = |name: &str| {
        let found = writers.iter().position(|writer| writer.name == name);
        found.and_then(|n| best.get(n)?.as_ref())
    };
    let Some(ours) = of("ours") else { bail!("nothing to compare: leave `ours` in") };
    let cell = format!("{}, {cores} cores", target.name);
    let mut rows = Vec::new();
    for (writer, used) in writers.iter().zip(&best) {
        let Some(used) = used else { continue };
        rows.push(Row {
            work: format!("4 GiB image, {}", writer.name),
            cell: cell.clone(),
            unit: "s",
            ours: ours.seconds,
            peer: writer.peer,
            theirs: Some(used.seconds),
            ratio: Some(used.seconds / ours.seconds),
        });
        for (what, unit, value) in [
            ("data", "MB/s", image.data_bytes as f64 / 1e6 / used.seconds),
            ("processor", "s", used.processor),
            ("peak", "MiB", used.peak_mib),
        ] {
            rows.push(Row {
                work: format!("{what}, {}", writer.name),
                cell: cell.clone(),
                unit,
                ours: value,
                peer: "none",
                theirs: None,
                ratio: None,
            });
        }
    }
    Ok(rows)
}
