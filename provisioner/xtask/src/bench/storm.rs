//! `bench storm`: a thousand machines powered on at once against the real server: DHCP, TFTP, boot script, claim. There
//! is no peer for it: what counts is that none is lost, how long the last takes, and the server's memory.

use super::{
    Output, Row,
    place::{INTERFACE, NETWORK, Place, SERVER},
    release_server,
    usage::{peak_mib, processor_seconds},
};
use crate::{console::say, lab, packages, project::Project};
use anyhow::{Context, Result, bail};
use clap::Args;
use provisioner_lab::{
    Namespace,
    fleet::{self, Plan, Site, Times, quantile},
    namespace::Role,
    process::Daemon,
};
use std::{fs, net::Ipv4Addr, path::PathBuf, process::ExitCode, time::Duration};

/// What the machines may be leased.
const LEASED: &str = "10.88.8.0/21";
const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 88, 8, 0), Ipv4Addr::new(10, 88, 15, 255)];
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    output: Output,
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=2000))]
    machines: u16,
    /// Measure this server program; the default builds one as it is released.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    if Namespace::role() != Role::Inside {
        packages::ensure(packages::LAB)?;
        if options.program.is_none() {
            release_server(&project)?;
        }
        return lab::enter(&project, false);
    }
    fs::create_dir_all("/run/netns").context("/run/netns")?;
    let place = Place::make("storm")?;
    place.own(LEASED)?;
    let folder = lab::folder()?.join("storm");
    let templates = project.root.join("templates");
    let plan = Plan {
        machines: options.machines,
        interface: INTERFACE,
        server: SERVER,
        network: NETWORK,
        pool: POOL,
        templates: &templates,
    };
    let site = Site::write(&folder, &plan)?;
    let program = options.program.clone().unwrap_or_else(|| project.target.join("release/provisioner"));
    let program = || place.for_server(&program);
    let mut server = Daemon::start("provisioner serve", &mut site.serving(program()), &folder.join("log"))?;
    server.wait_ready(READY_WITHIN, || site.answers(&program))?;
    say(&format!("{} machines are declared; asking for a workflow of each", options.machines));
    site.provision_all(&program)?;
    let before = processor_seconds(&mut server)?;
    say("power on");
    let ended = place.among_clients(|| fleet::boot(options.machines, "c0"))?;
    let cpu = processor_seconds(&mut server)? - before;
    let (came, lost): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
    let came: Vec<Times> = came.into_iter().flatten().collect();
    let mut rows = rows(options.machines, &came);
    rows.push(row(options.machines, "lost", "machines", lost.len() as f64));
    rows.push(row(options.machines, "server, processor", "s", cpu));
    rows.push(row(options.machines, "server, highest resident", "MiB", peak_mib(&mut server)?));
    options.output.put(&rows)?;
    if let Some(Err(first)) = lost.into_iter().next() {
        bail!("machines were lost; the first: {first:#}");
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(machines: u16, came: &[Times]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut step = |name: &str, of: fn(&Times) -> f64| {
        for (who, share) in [("half", 0.5), ("99 %", 0.99), ("all", 1.0)] {
            rows.push(row(machines, &format!("{who} have their {name}"), "s", quantile(came, share, of)));
        }
    };
    step("address", |t| t.address);
    step("iPXE", |t| t.tftp);
    step("script", |t| t.script);
    step("claim", |t| t.claim);
    let again: u32 = came.iter().map(|t| t.asked_again).sum();
    rows.push(row(machines, "asked again", "packets", f64::from(again)));
    rows
}

fn row(machines: u16, cell: &str, unit: &'static str, ours: f64) -> Row {
    let work = format!("{machines} machines at once");
    Row { work, cell: cell.to_owned(), unit, ours, peer: "none", theirs: None, ratio: None }
}
