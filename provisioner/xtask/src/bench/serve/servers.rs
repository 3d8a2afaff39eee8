//! The servers: ours as it is released, which takes an image apart, and nginx with sendfile on the same chunks.

use crate::{bench::usage, project::Project};
use anyhow::{Context, Result};
use provisioner_lab::process::{self, Daemon};
use provisioner_wire::chunks::Sha;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

const READY_WITHIN: Duration = Duration::from_secs(120);

/// One that runs, with all its processes.
pub struct Server {
    pub address: SocketAddr,
    daemon: Daemon,
}

impl Server {
    /// Of the whole server since its start.
    pub fn processor_seconds(&mut self) -> Result<f64> {
        let own = usage::processor_seconds(&mut self.daemon)?;
        children(self.daemon.id())?.into_iter().try_fold(own, |sum, id| Ok(sum + usage::processor_of(id)?))
    }

    pub fn peak_mib(&mut self) -> Result<f64> {
        let own = usage::peak_mib(&mut self.daemon)?;
        children(self.daemon.id())?.into_iter().try_fold(own, |sum, id| Ok(sum + usage::peak_of(id)?))
    }
}

/// nginx has workers.
fn children(of: u32) -> Result<Vec<u32>> {
    let file = format!("/proc/{of}/task/{of}/children");
    let text = fs::read_to_string(&file).with_context(|| file.clone())?;
    Ok(text.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// Ours and nginx, with an image of so many bytes that cannot be packed.
pub fn start(
    project: &Project,
    program: &Path,
    memory: &str,
    folder: &Path,
    bytes: usize,
) -> Result<[Server; 2]> {
    let ours = free_address()?;
    let config = site(project, folder, ours, memory, bytes)?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(config).env("PROVISIONER_LOG", "warn");
    let mut daemon = Daemon::start("provisioner", &mut command, &folder.join("provisioner.log"))?;
    let taken_in = folder.join("data/manifests/of");
    daemon.wait_ready(READY_WITHIN, || {
        fs::read_dir(&taken_in).is_ok_and(|mut files| files.next().is_some())
            && TcpStream::connect(ours).is_ok()
    })?;
    let ours = Server { address: ours, daemon };
    let theirs = free_address()?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(nginx(folder, theirs)?).args(["-e", "stderr"]);
    let mut daemon = Daemon::start("nginx", &mut command, &folder.join("nginx.log"))?.with_workers();
    daemon.wait_ready(READY_WITHIN, || TcpStream::connect(theirs).is_ok())?;
    Ok([ours, Server { address: theirs, daemon }])
}

/// The chunks that our server made.
pub fn chunks(folder: &Path) -> Result<Vec<Sha>> {
    let top = folder.join("data/chunks");
    let mut chunks = Vec::new();
    for sub in fs::read_dir(&top).with_context(|| top.display().to_string())? {
        let sub = sub.context("a folder of chunks")?.path();
        for file in fs::read_dir(&sub).with_context(|| sub.display().to_string())? {
            chunks.extend(Sha::from_hex(&file.context("a chunk")?.file_name().to_string_lossy()));
        }
    }
    chunks.sort_unstable();
    Ok(chunks)
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
    listener.local_addr().context("a free port")
}

/// Writes a site with one image; the server's configuration.
fn site(
    project: &Project,
    folder: &Path,
    listen: SocketAddr,
    memory: &str,
    bytes: usize,
) -> Result<std::path::PathBuf> {
    let image = noise(bytes);
    let declared =
        format!("name: noise\nsource: {{file: noise.raw}}\nformat: raw\nsha256: {}\n", Sha::of(&image));
    let config = format!(
        "data_dir = \"data\"\nhardware_dir = \"hardware\"\ntemplates_dir = {:?}\nimages_dir = \"images\"\n\
         [http]\nlisten = \"{listen}\"\ntls_listen = \"127.0.0.1:0\"\npublic_host = \"127.0.0.1\"\n\
         [boot]\nipxe_dir = \"boot\"\nkernel = \"boot/vmlinuz\"\ninitramfs = \"boot/initramfs.img\"\n\
         [fleet]\nmemory = \"{memory}\"\n",
        project.root.join("templates").display().to_string()
    );
    for (name, bytes) in [
        ("hardware/images/noise.yaml", declared.as_bytes()),
        ("images/noise.raw", &image),
        ("boot/undionly.kpxe", b"iPXE"),
        ("boot/vmlinuz", b"kernel"),
        ("boot/initramfs.img", b"initramfs"),
        ("server.toml", config.as_bytes()),
    ] {
        write(&folder.join(name), bytes)?;
    }
    Ok(folder.join("server.toml"))
}

/// As an administrator would set it up to serve files fast.
fn nginx(folder: &Path, listen: SocketAddr) -> Result<std::path::PathBuf> {
    let text = format!(
        "daemon off;\nworker_processes auto;\nuser root;\npid nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  keepalive_requests 100000000;\n\
         \x20 client_body_temp_path tmp-body;\n  proxy_temp_path tmp-proxy;\n  fastcgi_temp_path tmp-fastcgi;\n\
         \x20 uwsgi_temp_path tmp-uwsgi;\n  scgi_temp_path tmp-scgi;\n  open_file_cache max=10000;\n\
         \x20 server {{\n    listen {listen} backlog=4096;\n\
         \x20   location ~ ^/images/chunks/(?<name>(?<two>..).*)$ {{ root {}; try_files /$two/$name =404; }}\n  }}\n}}\n",
        folder.join("data/chunks").display()
    );
    let file = folder.join("nginx.conf");
    write(&file, text.as_bytes())?;
    process::run(
        "nginx",
        ["-t", "-q", "-p", &folder.display().to_string(), "-c", &file.display().to_string(), "-e", "stderr"],
    )?;
    Ok(file)
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let parent = file.parent().context("a file in a folder")?;
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(file, bytes))
        .with_context(|| file.display().to_string())
}

/// xorshift: does not pack, and is the same each time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}
