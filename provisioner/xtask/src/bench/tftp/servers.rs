//! The servers: ours as it is released, and its peers, each on port 69 of a loopback address of its own.

use super::client::Fetch;
use crate::project::Project;
use anyhow::{Context, Result};
use provisioner_lab::process::{self, Daemon};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

/// One that runs.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    /// RFC 7440.
    pub windows: bool,
    _daemon: Daemon,
}

/// Ours first. `files` is the folder that all of them serve.
pub fn start(project: &Project, files: &Path, folder: &Path, probe: Fetch<'_>) -> Result<Vec<Server>> {
    let program = project.target.join("release/provisioner");
    let mut ours = Command::new(program);
    ours.arg("serve").arg("--config").arg(config(project, files, folder)?);
    let peers = project.tools().join("tftp-servers/usr/sbin");
    let mut hpa = Command::new(peers.join("in.tftpd"));
    hpa.args(["--listen", "--foreground", "--secure", "--user", "root", "--address", "127.0.0.12:69"])
        .arg(files);
    let mut atftpd = Command::new(peers.join("atftpd"));
    atftpd.args(["--daemon", "--no-fork", "--user", "root.root", "--maxthread", "2000", "--logfile", "-"]);
    atftpd.args(["--port", "69", "--bind-address", "127.0.0.13"]).arg(files);
    let mut dnsmasq = Command::new("dnsmasq");
    dnsmasq.args([
        "--conf-file=/dev/null",
        "--keep-in-foreground",
        "--port=0",
        "--user=root",
        "--tftp-max=2000",
    ]);
    dnsmasq.args(["--enable-tftp", "--listen-address=127.0.0.14", "--bind-interfaces", "--log-facility=-"]);
    dnsmasq.arg(format!("--pid-file={}", folder.join("dnsmasq.pid").display()));
    dnsmasq.arg(format!("--tftp-root={}", files.display()));
    let mut tftpd = Command::new(project.tools().join("bin/tftpd"));
    tftpd.args(["-i", "127.0.0.15", "-p", "69", "-r", "-q", "-d"]).arg(files);
    [
        ("ours", 11, true, ours),
        ("tftpd-hpa", 12, false, hpa),
        ("atftpd", 13, true, atftpd),
        ("dnsmasq", 14, false, dnsmasq),
        ("tftpd", 15, true, tftpd),
    ]
    .into_iter()
    .map(|(name, host, windows, mut command)| {
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 69));
        let mut daemon = Daemon::start(name, &mut command, &folder.join(format!("{name}.log")))?;
        let probe = Fetch { server: address, ..probe };
        daemon.wait_ready(Duration::from_secs(60), || probe.run().is_ok())?;
        Ok(Server { name, address, windows, _daemon: daemon })
    })
    .collect()
}

/// The files are boot files to our server, under the names it knows.
fn config(project: &Project, files: &Path, folder: &Path) -> Result<std::path::PathBuf> {
    let text = format!(
        "data_dir = {:?}\ntemplates_dir = {:?}\n\
         [http]\nlisten = \"127.0.0.1:0\"\ntls_listen = \"127.0.0.1:0\"\npublic_host = \"127.0.0.1\"\n\
         [tftp]\nlisten = \"127.0.0.11:69\"\ntransfers_per_client = 1000\n\
         [boot]\nipxe_dir = {:?}\nkernel = {:?}\ninitramfs = {:?}\n",
        folder.join("data"),
        project.root.join("templates"),
        files,
        files.join("vmlinuz"),
        files.join("initramfs.img"),
    );
    let path = folder.join("server.toml");
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// The peers that are no package of the machine.
pub fn prepare(project: &Project) -> Result<()> {
    crate::packages::ensure(&["dnsmasq-base", "libwrap0"])?;
    // They conflict with one another, and would start.
    crate::packages::unpack(&["tftpd-hpa", "atftpd"], &project.tools().join("tftp-servers"))?;
    crate::tools::cargo_tool(project, crate::tools::TFTPD)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--locked", "-p", "provisioner", "--bin", "provisioner", "--release"]);
    process::output(cargo.current_dir(&project.root))?;
    Ok(())
}
