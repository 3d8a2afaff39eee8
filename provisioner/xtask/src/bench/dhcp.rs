//! `bench dhcp`: four-packet exchanges of ours and of three other servers, by turns in one run. Each has its leases on
//! disk and a network namespace of its own.

mod flush;
mod generator;
mod peers;
mod perfdhcp;
mod search;

use super::{
    Output, Row,
    place::Place,
    release_server,
    usage::{peak_mib, processor_seconds},
};
use crate::{console::say, lab, packages, project::Project};
use anyhow::{Context, Result};
use clap::Args;
use generator::{Load, quantile};
use peers::Server;
use provisioner_lab::{Namespace, namespace::Role, process::Daemon};
use search::Trial;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Different clients of the searches; each server's leases are renewed by turns.
const CLIENTS: u32 = 20_000;
/// Different clients of the storm, within one second, and the number of the first.
const STORM: u32 = 10_000;
const STORM_FIRST: u32 = 1 << 20;
/// Exchanges a second at which latency is measured, where the server can do as many.
const CALM: [u32; 3] = [100, 1000, 5000];
/// A storm is only shown to servers of which there is hope.
const READY_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    output: Output,
    /// One round of short trials: for a look, not for a record.
    #[arg(long)]
    quick: bool,
    /// Only ours and Kea.
    #[arg(long)]
    kea_only: bool,
    /// Measure this server program; the default builds one as it is released.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// One server where it is measured.
struct Measured {
    server: Server,
    place: Place,
    daemon: Daemon,
    /// By work and cell, one value a round.
    values: BTreeMap<(&'static str, String, &'static str), Vec<f64>>,
    start: [u32; 2],
    /// Of the calm cells with acknowledgements: what the disk alone took. Of our server only.
    flushes: BTreeMap<String, Vec<f64>>,
}

/// Works that are measured.
const BROADCAST: &str = "DHCP, broadcast clients";
const RELAYED: &str = "DHCP, perfdhcp by a relay";
const STORMED: &str = "DHCP, 10,000 clients in 1 s";
const CALMLY: &str = "DHCP, latency";
const SIZE: &str = "DHCP, memory";
const QUANTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];
const EXCHANGES: &str = "exchanges/s";
const MICROSECONDS: &str = "µs/exchange";

pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    if Namespace::role() != Role::Inside {
        packages::ensure(packages::BENCH_DHCP)?;
        if options.program.is_none() {
            release_server(&project)?;
        }
        return lab::enter(&project, false);
    }
    fs::create_dir_all("/run/netns").context("/run/netns")?;
    let servers = Server::ALL.iter().filter(|s| !options.kea_only || matches!(s, Server::Ours | Server::Kea));
    let program = options.program.clone().unwrap_or_else(|| project.target.join("release/provisioner"));
    let mut measured =
        servers.map(|server| start(&project, &program, *server)).collect::<Result<Vec<_>>>()?;
    let (rounds, seconds) = if options.quick { (1, 1) } else { (3, 3) };
    for round in 0..rounds {
        for one in &mut measured {
            say(&format!("round {} of {rounds}: {}", round + 1, one.server.name()));
            one.broadcast(seconds).with_context(|| one.server.name())?;
            one.relayed(seconds).with_context(|| one.server.name())?;
            one.calm().with_context(|| one.server.name())?;
            one.storm(round).with_context(|| one.server.name())?;
        }
    }
    for one in &mut measured {
        let memory = peak_mib(&mut one.daemon)?;
        one.note(SIZE, "highest resident", "MiB", memory);
    }
    options.output.put(&rows(&measured))?;
    Ok(ExitCode::SUCCESS)
}

fn start(project: &Project, program: &Path, server: Server) -> Result<Measured> {
    let name = server.name();
    let place = Place::make(name)?;
    let mut daemon = server.start(project, program, &place, &lab::folder()?.join(name))?;
    let probe = Load { rate: 10, exchanges: 1, clients: 1, first: 0 };
    daemon.wait_ready(READY_WITHIN, || generator::run(&place, probe).is_ok_and(|o| o.lost() == 0))?;
    Ok(Measured {
        server,
        place,
        daemon,
        values: BTreeMap::new(),
        start: [500, 500],
        flushes: BTreeMap::new(),
    })
}

impl Measured {
    fn note(&mut self, work: &'static str, cell: impl Into<String>, unit: &'static str, value: f64) {
        self.values.entry((work, cell.into(), unit)).or_default().push(value);
    }

    /// The highest rate with clients on the link.
    fn broadcast(&mut self, seconds: u32) -> Result<()> {
        let (place, daemon) = (&self.place, &mut self.daemon);
        let [start, _] = self.start;
        let best = search::highest(start, |rate| {
            let before = processor_seconds(daemon)?;
            let load = Load { rate, exchanges: rate * seconds, clients: CLIENTS, first: 0 };
            let done = generator::run(place, load)?;
            let cpu = (processor_seconds(daemon)? - before) * 1e6 / f64::from(done.completed.max(1));
            let lost = f64::from(done.lost()) / f64::from(done.begun);
            Ok(told(Trial { asked: rate, rate: done.rate * (1.0 - lost), lost, cpu }))
        })?;
        self.found(BROADCAST, best, 0);
        Ok(())
    }

    /// The highest rate by a relay.
    fn relayed(&mut self, seconds: u32) -> Result<()> {
        let (place, daemon) = (&self.place, &mut self.daemon);
        let [_, start] = self.start;
        let best = search::highest(start, |rate| {
            let before = processor_seconds(daemon)?;
            let done = perfdhcp::run(place, rate, seconds, CLIENTS)?;
            let cpu = (processor_seconds(daemon)? - before) * 1e6 / done.completed.max(1.0);
            let completed = done.completed / f64::from(seconds);
            Ok(told(Trial { asked: rate, rate: completed, lost: done.lost, cpu }))
        })?;
        self.found(RELAYED, best, 1);
        Ok(())
    }

    fn found(&mut self, work: &'static str, best: Option<Trial>, generator: usize) {
        let (rate, cpu) = best.map_or((0.0, None), |b| (b.rate, Some(b.cpu)));
        self.note(work, "under 1 % loss", EXCHANGES, rate);
        if let Some(cpu) = cpu {
            self.note(work, "processor", MICROSECONDS, cpu);
        }
        if let (Some(start), Some(best)) = (self.start.get_mut(generator), best) {
            // The next round begins a little below.
            *start = best.asked - best.asked / 5;
        }
    }

    /// How long answers take while the server has time.
    fn calm(&mut self) -> Result<()> {
        let highest = self.start.iter().copied().min().unwrap_or(0);
        for rate in CALM.into_iter().filter(|rate| *rate <= highest) {
            let load = Load { rate, exchanges: rate * 3, clients: CLIENTS, first: 0 };
            let done = generator::run(&self.place, load)?;
            self.latency(CALMLY, &format!("{rate}/s, "), &done);
            if matches!(self.server, Server::Ours) {
                let times = flush::times(&lab::folder()?, rate, rate.min(1000))?;
                for (name, share) in QUANTILES {
                    let cell = format!("{rate}/s, ack {name}");
                    self.flushes.entry(cell).or_default().extend(quantile(&times, share));
                }
            }
        }
        Ok(())
    }

    fn latency(&mut self, work: &'static str, cell: &str, done: &generator::Outcome) {
        for (answer, values) in [("offer", &done.offers), ("ack", &done.acks)] {
            for (name, share) in QUANTILES {
                if let Some(value) = quantile(values, share) {
                    self.note(work, format!("{cell}{answer} {name}"), "ms", value);
                }
            }
        }
    }

    /// Clients that were never seen before, all within one second.
    fn storm(&mut self, round: u32) -> Result<()> {
        let load = Load { rate: STORM, exchanges: STORM, clients: STORM, first: STORM_FIRST + round * STORM };
        let done = generator::run(&self.place, load)?;
        self.note(STORMED, "lost at the first try", "clients", f64::from(done.lost()));
        self.latency(STORMED, "", &done);
        // What is still queued must not fall into the next measurement.
        std::thread::sleep(Duration::from_secs(1));
        self.daemon.must_run()
    }
}

fn told(trial: Trial) -> Trial {
    let Trial { asked, rate, lost, cpu } = trial;
    say(&format!("  {asked:6}/s: {rate:8.0}/s, {:5.2} % lost, {cpu:4.0} µs", lost * 100.0));
    trial
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5).unwrap_or_default()
}

/// Ours beside each of the others, each the median of its rounds.
fn rows(measured: &[Measured]) -> Vec<Row> {
    let Some((ours, others)) = measured.split_first() else { return Vec::new() };
    let mut rows = Vec::new();
    for (key @ (work, cell, unit), values) in &ours.values {
        let own = median(values);
        for other in others {
            let theirs = other.values.get(key).map(|v| median(v));
            let more_is_better = *unit == EXCHANGES;
            let ratio = theirs.map(|t| if more_is_better { own / t } else { t / own });
            let ratio = ratio.filter(|r| r.is_finite());
            let (work, cell, peer) = ((*work).to_owned(), cell.clone(), other.server.name());
            rows.push(Row { work, cell, unit, ours: own, peer, theirs, ratio });
        }
        if let Some(flush) = ours.flushes.get(cell).map(|times| median(times)) {
            let (work, cell, peer) = ((*work).to_owned(), cell.clone(), "the disk's flush");
            rows.push(Row {
                work,
                cell,
                unit,
                ours: own,
                peer,
                theirs: Some(flush),
                ratio: Some(flush / own),
            });
        }
    }
    rows
}
