//! `bench boot`: power-on to Ready, with the share of each phase, one BIOS and one UEFI machine at once.

use super::{Output, Row};
use crate::{
    assets::Image,
    lab::{self, Mix, report::Report},
    project::Project,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use provisioner_lab::{BootOrder, Namespace, Vm, VmSpec, accelerator::Accelerator, namespace::Role, process};
use provisioner_wire::report::Firmware;
use std::{fs, path::Path, process::ExitCode};

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    output: Output,
    /// What the machines become.
    #[arg(long, value_enum, default_value_t = Image::Debian)]
    image: Image,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    if Namespace::role() != Role::Inside {
        lab::prepare(&project, &[options.image], true)?;
        return lab::enter(&project, false);
    }
    let lab = lab::Options {
        os: None,
        machines: 2,
        firmware: Mix::Mixed,
        image: options.image,
        json: None,
        keep: false,
        release: true,
    };
    let report = lab::run(&project, &lab)?;
    report.print();
    if !report.all_ready() {
        bail!("not every machine became Ready: there is nothing to measure");
    }
    let direct = direct(&project, options.image)?;
    options.output.put(&rows(options.image, &report, &direct))?;
    Ok(ExitCode::SUCCESS)
}

/// Seconds from power-on to the end of the first boot of a disk that has the image already: what no provisioning could
/// beat. BIOS and UEFI at once, as in the lab.
fn direct(project: &Project, image: Image) -> Result<Vec<(Firmware, f64)>> {
    let folder = lab::folder()?.join("direct");
    let marker = match image {
        Image::Tiny | Image::Installer => "TINY-DONE",
        Image::Debian => "DEBIAN-UP",
    };
    let mut started = Vec::new();
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let mut spec = VmSpec::new(&format!("direct-{firmware:?}").to_lowercase(), firmware, &folder);
        spec.boot = BootOrder::Disk;
        spec.disk = spec.folder.join("disk.raw");
        fs::create_dir_all(&spec.folder).with_context(|| spec.folder.display().to_string())?;
        unpack(&project.assets().image(image.name()), &spec.disk)?;
        started.push((firmware, spec));
    }
    let mut running = Vec::new();
    for (firmware, spec) in started {
        running.push((firmware, Vm::start(spec)?));
    }
    std::thread::scope(|scope| {
        let waits: Vec<_> = running
            .iter_mut()
            .map(|(firmware, vm)| {
                let firmware = *firmware;
                scope.spawn(move || (firmware, vm.wait_for(marker, Accelerator::here().patience(120))))
            })
            .collect();
        waits
            .into_iter()
            .map(|wait| match wait.join() {
                Ok((firmware, after)) => Ok((firmware, after?.as_secs_f64())),
                Err(_) => bail!("waiting for a machine ended badly"),
            })
            .collect()
    })
}

fn unpack(packed: &Path, raw: &Path) -> Result<()> {
    process::run(
        "zstd",
        ["-dqf".as_ref(), "--sparse".as_ref(), packed.as_os_str(), "-o".as_ref(), raw.as_os_str()],
    )?;
    Ok(())
}

fn rows(image: Image, report: &Report, direct: &[(Firmware, f64)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for machine in &report.machines {
        let firmware = if machine.firmware == Firmware::Uefi { "UEFI" } else { "BIOS" };
        let theirs = direct.iter().find(|(of, _)| *of == machine.firmware).map(|(_, seconds)| *seconds);
        let work = format!("power-on to Ready, {}", image.name());
        if let Some(ready) = machine.seconds.ready {
            rows.push(Row {
                work: work.clone(),
                cell: format!("{firmware}, whole"),
                unit: "s",
                ours: ready,
                // The same image on the disk before power-on, booted with no provisioning at all.
                peer: "direct",
                theirs,
                ratio: theirs.map(|t| t / ready),
            });
        }
        let mut before = 0.0;
        for (phase, at) in machine.seconds.named() {
            let Some(at) = at else { continue };
            rows.push(Row {
                work: work.clone(),
                cell: format!("{firmware}, to {phase}"),
                unit: "s",
                ours: at - before,
                peer: "none",
                theirs: None,
                ratio: None,
            });
            before = at;
        }
    }
    rows
}
