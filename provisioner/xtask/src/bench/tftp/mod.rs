//! `bench tftp`: how fast files are sent, beside tftpd-hpa, atftpd, dnsmasq and the server of the tftpd crate, by one
//! client program, with the same files, taking turns.

mod client;
mod servers;

use super::{Output, Row};
use crate::{code_of, console::say, project::Project};
use anyhow::{Context, Result};
use clap::Args;
use client::Fetch;
use provisioner_lab::{
    Namespace,
    namespace::Role,
    relay::{self, Link},
};
use servers::Server;
use std::{
    env,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    time::Duration,
};
use tokio::{net::UdpSocket, runtime::Runtime, task::JoinHandle};

#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    output: Output,
    /// One run of each cell instead of three, and no more than 50 clients.
    #[arg(long)]
    quick: bool,
}

/// The files by name (names that our server knows as boot files) and size.
const FILES: [(&str, usize); 4] =
    [("initramfs.img", 32 << 20), ("vmlinuz", 8 << 20), ("ipxe.efi", 1 << 20), ("snponly.efi", 256 << 10)];
/// Ten milliseconds for a round trip, and one packet of two hundred lost.
const BAD: Link = Link { delay: Duration::from_millis(5), loss: 50, seed: 1 };
const DELAYED: Link = Link { loss: 0, ..BAD };

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Cell {
    clients: usize,
    block: usize,
    window: u16,
    link: Option<Link>,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let project = Project::here()?;
    if Namespace::role() != Role::Inside {
        servers::prepare(&project)?;
        let program = env::current_exe().context("own program")?.into_os_string();
        let command: Vec<OsString> = std::iter::once(program).chain(env::args_os().skip(1)).collect();
        return Ok(code_of(Namespace::run(&command)?));
    }
    let folder = tempfile::tempdir().context("a folder for the servers")?;
    let files = folder.path().join("files");
    let contents = make(&files)?;
    let [.., (name, size)] = FILES;
    let probe = Fetch {
        server: SocketAddr::from((Ipv4Addr::LOCALHOST, 69)),
        name,
        contents: contents.get(..size).unwrap_or_default(),
        block: 1468,
        window: 1,
    };
    let servers = servers::start(&project, &files, folder.path(), probe)?;
    let runtime = Runtime::new().context("the relay's runtime")?;
    let mut rows = Vec::new();
    for cell in cells(options.quick) {
        let rounds = if options.quick { 1 } else { 3 };
        rows.extend(measure(cell, &servers, &contents, rounds, &runtime)?);
    }
    options.output.put(&rows)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the files, each the beginning of the same bytes; the bytes of the longest.
fn make(folder: &Path) -> Result<Vec<u8>> {
    let longest = FILES.iter().map(|(_, size)| *size).max().unwrap_or_default();
    let contents: Vec<u8> =
        (0u32..).take(longest).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, size) in FILES {
        let path = folder.join(name);
        let part = contents.get(..size).unwrap_or_default();
        fs::write(&path, part).with_context(|| path.display().to_string())?;
    }
    // Servers that serve only what everybody may read.
    process_readable(folder)?;
    Ok(contents)
}

fn process_readable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for folder in folder.ancestors().take(2) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
            .with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

fn cells(quick: bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    let crowds: &[usize] = if quick { &[1, 50] } else { &[1, 50, 500] };
    for &clients in crowds {
        for block in [512, 1468, 8192] {
            for window in [1, 16] {
                cells.push(Cell { clients, block, window, link: None });
            }
        }
        for link in [DELAYED, BAD] {
            for window in [1, 16] {
                cells.push(Cell { clients, block: 1468, window, link: Some(link) });
            }
        }
    }
    cells
}

impl Cell {
    /// Large enough to be measured, small enough to end soon.
    fn file(&self) -> (&'static str, usize) {
        let [large, medium, small, tiny] = FILES;
        match (self.clients, self.window, self.block, self.link) {
            (1, 1, 512, None) => medium,
            (1, _, _, None) => large,
            (1, 16, _, Some(_)) | (50, _, _, None) => small,
            _ => tiny,
        }
    }

    fn words(&self) -> String {
        let link = match self.link {
            None => "",
            Some(link) if link.loss == 0 => ", 10 ms",
            Some(_) => ", 10 ms, 0.5 % lost",
        };
        format!(
            "{} × {} KiB, blksize {}, window {}{link}",
            self.clients,
            self.file().1 >> 10,
            self.block,
            self.window
        )
    }

    /// MB/s of all clients together.
    fn run(&self, server: SocketAddr, contents: &[u8]) -> Result<f64> {
        let (name, size) = self.file();
        let contents = contents.get(..size).unwrap_or_default();
        let fetch = Fetch { server, name, contents, block: self.block, window: self.window };
        let seconds = client::storm(fetch, self.clients)?;
        Ok((size * self.clients) as f64 / 1e6 / seconds)
    }
}

/// Every server in turn, `rounds` times; the medians side by side.
fn measure(
    cell: Cell,
    servers: &[Server],
    contents: &[u8],
    rounds: usize,
    runtime: &Runtime,
) -> Result<Vec<Row>> {
    let taking_part: Vec<&Server> = servers.iter().filter(|s| s.windows || cell.window == 1).collect();
    let mut speeds: Vec<Vec<f64>> = vec![Vec::new(); taking_part.len()];
    for round in 0..rounds {
        for turn in 0..taking_part.len() {
            let at = (turn + round) % taking_part.len();
            let (Some(server), Some(speeds)) = (taking_part.get(at), speeds.get_mut(at)) else { continue };
            let (address, relay) = through(cell.link, server.address, runtime)?;
            match cell.run(address, contents) {
                Ok(speed) => speeds.push(speed),
                // A server that fails is slower than any other.
                Err(error) => {
                    say(&format!("{}: {}: {error:#}", cell.words(), server.name));
                    speeds.push(0.0);
                }
            }
            if let Some(relay) = relay {
                relay.abort();
            }
        }
    }
    let medians: Vec<f64> = speeds.into_iter().map(median).collect();
    let ours = medians.first().copied().unwrap_or_default();
    let rows = taking_part.iter().zip(medians).skip(1).map(|(server, theirs)| Row {
        work: "TFTP".to_owned(),
        cell: cell.words(),
        unit: "MB/s",
        ours,
        peer: server.name,
        theirs: Some(theirs),
        ratio: (theirs > 0.0).then(|| ours / theirs),
    });
    let rows: Vec<Row> = rows.collect();
    for row in &rows {
        let ratio = row.ratio.map_or_else(|| "failed".to_owned(), |ratio| format!("{ratio:.2}"));
        say(&format!(
            "{:58} {:8.2} {:10} {:8.2}  {ratio}",
            row.cell,
            row.ours,
            row.peer,
            row.theirs.unwrap_or(0.0)
        ));
    }
    Ok(rows)
}

/// Where to ask `server` over `link`.
fn through(
    link: Option<Link>,
    server: SocketAddr,
    runtime: &Runtime,
) -> Result<(SocketAddr, Option<JoinHandle<std::io::Result<()>>>)> {
    let Some(link) = link else { return Ok((server, None)) };
    let front = runtime.block_on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).context("the relay's port")?;
    let address = front.local_addr().context("the relay's port")?;
    Ok((address, Some(runtime.spawn(relay::relay(front, server, link)))))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
