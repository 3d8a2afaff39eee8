//! Where one server is measured: a network namespace for it, one for its clients, and a veth pair between.

use anyhow::{Context, Result, bail};
use provisioner_lab::process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{ffi::OsStr, fs::File, net::Ipv4Addr, os::fd::AsFd, process::Command, thread};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The clients' interface has an address only so that a relay can be played from it.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 2);
pub const NETWORK: &str = "10.88.0.0/16";
pub const POOL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 88, 8, 0), Ipv4Addr::new(10, 88, 254, 255)];
/// The server's interface.
pub const INTERFACE: &str = "s0";

/// Gone with the lab's namespace that it was made in.
#[derive(Debug)]
pub struct Place {
    name: String,
}

impl Place {
    pub fn make(name: &str) -> Result<Self> {
        let this = Self { name: name.to_owned() };
        let (server, clients) = (this.server(), this.clients());
        for line in [
            format!("netns add {server}"),
            format!("netns add {clients}"),
            format!("link add s0 netns {server} type veth peer name c0 netns {clients}"),
            format!("-n {server} link set lo up"),
            format!("-n {server} addr add {SERVER}/16 dev s0"),
            format!("-n {server} link set s0 up"),
            format!("-n {clients} addr add {RELAY}/16 dev c0"),
            format!("-n {clients} link set lo up"),
            format!("-n {clients} link set c0 up"),
            // Where a broadcast goes.
            format!("-n {clients} route add default dev c0"),
        ] {
            process::run("ip", line.split(' '))?;
        }
        Ok(this)
    }

    /// Takes every address of `network` for the clients' own, so that each of many machines speaks from its lease.
    pub fn own(&self, network: &str) -> Result<()> {
        let line = format!("-n {} route add local {network} dev lo", self.clients());
        process::run("ip", line.split(' ')).map(|_| ())
    }

    fn server(&self) -> String {
        format!("{}-server", self.name)
    }

    fn clients(&self) -> String {
        format!("{}-clients", self.name)
    }

    /// `program` where the server is.
    pub fn for_server(&self, program: impl AsRef<OsStr>) -> Command {
        inside(&self.server(), program)
    }

    /// `program` where the clients are.
    pub fn for_clients(&self, program: impl AsRef<OsStr>) -> Command {
        inside(&self.clients(), program)
    }

    /// Runs `work` where the clients are: what it opens stays there.
    pub fn among_clients<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = format!("/run/netns/{}", self.clients());
        let namespace = File::open(&file).with_context(|| file.clone())?;
        let entered = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("the clients' namespace")?;
                work()
            });
            thread.join()
        });
        match entered {
            Ok(done) => done,
            Err(_) => bail!("the clients' thread ended badly"),
        }
    }
}

fn inside(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}
