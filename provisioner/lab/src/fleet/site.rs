//! A site for a fleet: every machine declared, without BMCs (the fleet powers itself on), and a server's configuration.

use super::mac;
use crate::process;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

/// Of 1 MiB of zeros.
const IMAGE_SHA256: &str = "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58";
const PROFILE: &str = "name: fleet\nimage: fleet\nos: cloud-init\ntemplate: tiny\nrole: worker\n\
    disk: {min_size: 8MiB}\nplace: {partition: {number: 1}, directory: /seed}\n\
    token: {ttl: 30m}\nready: {deadline: 10m}\n";
/// About what iPXE's are.
const BOOT_FILE_BYTES: usize = 80_000;
/// Commands at once.
const HANDS: usize = 4;

/// What the site is made of.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    pub machines: u16,
    pub interface: &'a str,
    pub server: Ipv4Addr,
    pub network: &'a str,
    pub pool: [Ipv4Addr; 2],
    /// The project's `templates`.
    pub templates: &'a Path,
}

#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    machines: u16,
    server: Ipv4Addr,
}

impl Site {
    /// Writes it all below `folder`.
    pub fn write(folder: &Path, plan: &Plan<'_>) -> Result<Self> {
        let mut machines = String::new();
        for n in 0..plan.machines {
            let mac = mac(n);
            machines += &format!("---\nname: fleet-{n}\nnics:\n  - mac: {mac}\nprofile: fleet\n");
        }
        let image =
            format!("name: fleet\nsource: {{file: fleet.raw}}\nformat: raw\nsha256: {IMAGE_SHA256}\n");
        let Plan { interface, server, network, pool: [from, to], templates, .. } = plan;
        let config = format!(
            "data_dir = \"data\"\nhardware_dir = \"hardware\"\ntemplates_dir = {:?}\nimages_dir = \"images\"\n\n\
             [http]\nlisten = \"{server}:8080\"\ntls_listen = \"{server}:8443\"\npublic_host = \"{server}\"\n\n\
             [tftp]\nlisten = \"{server}:69\"\n\n[[dhcp]]\ninterface = \"{interface}\"\n\n[[dhcp.subnets]]\n\
             network = \"{network}\"\npools = [[\"{from}\", \"{to}\"]]\n\n[boot]\nipxe_dir = \"boot\"\n\
             kernel = \"boot/vmlinuz\"\ninitramfs = \"boot/initramfs.img\"\n",
            templates.display().to_string()
        );
        for (name, bytes) in [
            ("hardware/machines/all.yaml", machines.as_bytes()),
            ("hardware/profiles/all.yaml", PROFILE.as_bytes()),
            ("hardware/images/all.yaml", image.as_bytes()),
            ("images/fleet.raw", &vec![0; 1 << 20]),
            ("boot/undionly.kpxe", &vec![7; BOOT_FILE_BYTES]),
            ("boot/vmlinuz", b"kernel"),
            ("boot/initramfs.img", b"initramfs"),
            ("server.toml", config.as_bytes()),
        ] {
            let file = folder.join(name);
            let parent = file.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&file, bytes))
                .with_context(|| format!("{}: cannot be written", file.display()))?;
        }
        Ok(Self { folder: folder.to_owned(), machines: plan.machines, server: plan.server })
    }

    /// `program` as the site's server.
    pub fn serving(&self, mut program: Command) -> Command {
        program.arg("serve").arg("--config").arg(self.folder.join("server.toml"));
        program
    }

    /// `program` as an operator's command line.
    pub fn operating(&self, mut program: Command, arguments: &[&str]) -> Command {
        let data = self.folder.join("data");
        program.args(["--server", &format!("https://{}:8443", self.server), "--output", "json"]);
        program.arg("--ca-file").arg(data.join("ca.pem")).arg("--token-file").arg(data.join("admin-token"));
        program.args(arguments);
        program
    }

    /// The server's command line gets an answer.
    pub fn answers(&self, program: &(dyn Fn() -> Command + Sync)) -> bool {
        process::output(&mut self.operating(program(), &["machine", "list"])).is_ok()
    }

    /// Asks for a workflow of every machine, and waits until each may boot its agent.
    pub fn provision_all(&self, program: &(dyn Fn() -> Command + Sync)) -> Result<()> {
        let next = AtomicU16::new(0);
        let ask = || -> Result<()> {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= self.machines {
                    return Ok(());
                }
                let arguments = ["provision", &format!("fleet-{n}")];
                process::output(&mut self.operating(program(), &arguments))?;
            }
        };
        thread::scope(|scope| {
            let hands: Vec<_> = (0..HANDS).map(|_| scope.spawn(ask)).collect();
            hands.into_iter().try_for_each(|hand| match hand.join() {
                Ok(done) => done,
                Err(_) => bail!("a hand ended badly"),
            })
        })?;
        let all = format!("{} machines", self.machines);
        process::until(std::time::Duration::from_secs(120), || {
            let list = process::output(&mut self.operating(program(), &["machine", "list"]))?;
            Ok((list.matches("powering").count() >= usize::from(self.machines)).then_some(()))
        })?
        .with_context(|| format!("{all}: not all wait to be powered on after 120 s"))
    }
}
