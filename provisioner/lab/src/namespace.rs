//! One lab = one set of network, PID and mount namespaces. When the process that opened it ends, by Ctrl-C, SIGKILL or
//! itself, the kernel ends every process inside and drops bridge, taps and mounts: there is no clean-up code to fail.
//! Two labs with the same addresses run at the same time.
//!
//! The chain: caller → `setpriv --pdeathsig KILL` → `unshare --kill-child` → PID 1 (this program again, [`Namespace::role`])
//! → the worker (this program again). The caller's death kills unshare, unshare's death kills PID 1, and PID 1's death
//! is the end of the namespace. PID 1 does nothing but reap, so the worker keeps the default meaning of each signal.

use crate::process;
use anyhow::{Context, Result, bail};
use rustix::process::{WaitOptions, wait};
use std::{
    env,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Child, Command, ExitStatus},
};

const ROLE: &str = "PROVISIONER_NAMESPACE";
/// What the host may have of these is hidden from the lab, and the lab's from the host and from other labs.
const PRIVATE: [&str; 5] =
    ["/run", "/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"];

/// The lab's bridge, inside.
pub const BRIDGE: &str = "br0";
/// The bridge's own address, where the server and the BMCs listen.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// The same over IPv6.
pub const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1);

/// Which part of the chain this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Not in a lab.
    Outside,
    /// PID 1: call [`Namespace::be_init`].
    Init,
    /// In a lab: bridge and addresses are there.
    Inside,
}

/// The way into a lab.
#[derive(Debug, Clone, Copy)]
pub struct Namespace;

impl Namespace {
    pub fn role() -> Role {
        match env::var(ROLE).as_deref() {
            Ok("init") => Role::Init,
            Ok("inside") => Role::Inside,
            _ => Role::Outside,
        }
    }

    /// Runs `command` in a lab of its own, with this program (whose main must look at [`Namespace::role`] first and call
    /// [`Namespace::be_init`] with its arguments) as PID 1. Needs root.
    pub fn run(command: &[OsString]) -> Result<ExitStatus> {
        Self::spawn(command, &[])?.wait().context("waiting for the namespace")
    }

    /// As [`Namespace::run`], with more environment and without waiting. Must be called by a thread that lives as long as the lab.
    pub fn spawn(command: &[OsString], environment: &[(&str, OsString)]) -> Result<Child> {
        if !rustix::process::geteuid().is_root() {
            bail!("the lab makes network namespaces and tap devices: run it as root");
        }
        // The program may be rebuilt while it runs; /proc/self/exe is still this one, but names the wrong process inside.
        let program = env::current_exe().context("own program")?;
        let mut chain = Command::new("setpriv");
        chain.args(["--pdeathsig", "KILL", "unshare", "--net", "--pid", "--mount", "--fork"]);
        chain.args(["--kill-child", "--mount-proc"]).arg(program).args(command).env(ROLE, "init");
        chain.envs(environment.iter().map(|(name, value)| (name, value)));
        chain.spawn().context("setpriv (package util-linux) cannot be started")
    }

    /// PID 1's whole life: network and private mounts, then `command` (program and arguments), reaping what else ends.
    /// The exit code is the command's.
    pub fn be_init(command: &[OsString]) -> Result<u8> {
        let [program, arguments @ ..] = command else { bail!("nothing to run in the namespace") };
        prepare_mounts()?;
        prepare_network()?;
        let worker = Command::new(program)
            .args(arguments)
            .env(ROLE, "inside")
            .spawn()
            .with_context(|| format!("{}: cannot be started", Path::new(program).display()))?;
        let worker = worker.id().cast_signed();
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == worker => {
                    let by_signal = status.terminating_signal().map(|signal| 128 + signal);
                    let code = status.exit_status().or(by_signal).unwrap_or(1);
                    return Ok(u8::try_from(code).unwrap_or(1));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => bail!("waiting for the worker: {error}"),
            }
        }
    }
}

/// PID 1 of the namespace that `chain` opened, as seen from outside, for `nsenter`; none while it is not there.
pub fn init_of(chain: &Child) -> Option<u32> {
    let children = format!("/proc/{0}/task/{0}/children", chain.id());
    fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
}

fn prepare_mounts() -> Result<()> {
    for folder in PRIVATE.iter().filter(|folder| Path::new(folder).is_dir()) {
        process::run("mount", ["-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder])?;
    }
    // The old one shows the host's interfaces under /sys/class/net.
    process::run("mount", ["-t", "sysfs", "sysfs", "/sys"])?;
    Ok(())
}

/// The bridge with a veth port: without any port that is up it has no carrier, and DHCP servers and IPv6 misbehave until
/// the first VM comes. No route and no way out: nothing can leave.
fn prepare_network() -> Result<()> {
    let v4 = format!("{ADDRESS}/24");
    for line in [
        "link set lo up",
        "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        "link add br0-p type veth peer name br0-q",
        // Else the port takes the same fe80 address as the bridge.
        "link set br0-p addrgenmode none",
        "link set br0-q addrgenmode none",
        "link set br0-p master br0 up",
        "link set br0-q up",
        // Pinned: it would change as taps come and go.
        "link set br0 address 02:88:00:00:00:01 up",
        &format!("addr add {v4} dev br0"),
        &format!("addr add {ADDRESS6}/64 dev br0 nodad"),
    ] {
        process::run("ip", line.split(' '))?;
    }
    Ok(())
}

/// The script with which QEMU puts its tap on the bridge. Written to `folder`.
pub fn tap_script(folder: &Path) -> Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join("tap-up");
    fs::write(&file, format!("#!/bin/sh\nexec ip link set \"$1\" master {BRIDGE} up\n"))
        .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("{}: cannot be written", file.display()))?;
    Ok(file)
}
