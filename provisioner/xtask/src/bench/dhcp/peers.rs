//! The servers that are measured, each with its leases on disk, no ping before an offer, and no line in its log for each
//! packet.

use super::super::place::{INTERFACE, NETWORK, POOL, Place, SERVER};
use crate::project::Project;
use anyhow::{Context, Result};
use provisioner_lab::process::Daemon;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Ours,
    Kea,
    Dnsmasq,
    Isc,
}

impl Server {
    pub const ALL: [Self; 4] = [Self::Ours, Self::Kea, Self::Dnsmasq, Self::Isc];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Kea => "kea",
            Self::Dnsmasq => "dnsmasq",
            Self::Isc => "isc-dhcp-server",
        }
    }

    /// Starts it in the server's half of `place`; its files are below `folder`. `program`: ours.
    pub fn start(self, project: &Project, program: &Path, place: &Place, folder: &Path) -> Result<Daemon> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut command = match self {
            Self::Ours => ours(project, program, place, folder)?,
            Self::Kea => kea(place, folder)?,
            Self::Dnsmasq => dnsmasq(place, folder),
            Self::Isc => isc(place, folder)?,
        };
        Daemon::start(self.name(), &mut command, &folder.join("log"))
    }
}

fn put(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, text).with_context(|| format!("{}: cannot be written", file.display()))?;
    Ok(file)
}

fn ours(project: &Project, program: &Path, place: &Place, folder: &Path) -> Result<Command> {
    // Nothing is booted: what machines would boot has only to be there.
    for name in ["undionly.kpxe", "vmlinuz", "initramfs.img"] {
        put(folder, name, name)?;
    }
    let [from, to] = POOL;
    let config = format!(
        "data_dir = \"data\"\ntemplates_dir = {:?}\ndiscovery = false\n\n[http]\nlisten = \"{SERVER}:8080\"\n\
         tls_listen = \"{SERVER}:8443\"\npublic_host = \"{SERVER}\"\n\n[[dhcp]]\ninterface = \"{INTERFACE}\"\n\
         limits = {{ unknown_per_port = 0, unknown_per_relay = 0, unknown_per_second = 0 }}\n\n\
         [[dhcp.subnets]]\nnetwork = \"{NETWORK}\"\npools = [[\"{from}\", \"{to}\"]]\nrouter = \"{SERVER}\"\n\
         dns = [\"{SERVER}\"]\n\n[boot]\nipxe_dir = \".\"\nkernel = \"vmlinuz\"\ninitramfs = \"initramfs.img\"\n",
        project.root.join("templates").display().to_string()
    );
    let config = put(folder, "server.toml", &config)?;
    let mut command = place.for_server(program);
    command.arg("serve").arg("--config").arg(config).env("PROVISIONER_LOG", "warn");
    Ok(command)
}

fn kea(place: &Place, folder: &Path) -> Result<Command> {
    let [from, to] = POOL;
    let leases = folder.join("leases.csv");
    let config = format!(
        r#"{{"Dhcp4": {{
            "interfaces-config": {{"interfaces": ["{INTERFACE}"]}},
            "lease-database": {{"type": "memfile", "persist": true, "name": {leases:?}}},
            "valid-lifetime": 3600,
            "subnet4": [{{"id": 1, "subnet": "{NETWORK}", "pools": [{{"pool": "{from} - {to}"}}],
                "option-data": [{{"name": "routers", "data": "{SERVER}"}},
                    {{"name": "domain-name-servers", "data": "{SERVER}"}}]}}],
            "loggers": [{{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{{"output": "stderr"}}]}}]
        }}}}"#
    );
    let config = put(folder, "kea.json", &config)?;
    let mut command = place.for_server("kea-dhcp4");
    command.arg("-c").arg(config);
    for variable in ["KEA_LOCKFILE_DIR", "KEA_PIDFILE_DIR", "KEA_DHCP_DATA_DIR"] {
        command.env(variable, folder);
    }
    Ok(command)
}

fn dnsmasq(place: &Place, folder: &Path) -> Command {
    let [from, to] = POOL;
    let mut command = place.for_server("dnsmasq");
    command.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping", "--quiet-dhcp"]);
    command.args(["--bind-interfaces", "--user=root", "--log-facility=/dev/null", "--dhcp-lease-max=100000"]);
    command.arg(format!("--interface={INTERFACE}"));
    command.arg(format!("--dhcp-range={from},{to},255.255.0.0,3600"));
    command.arg(format!("--dhcp-leasefile={}", folder.join("leases").display()));
    command.arg(format!("--pid-file={}", folder.join("pid").display()));
    command
}

fn isc(place: &Place, folder: &Path) -> Result<Command> {
    let [from, to] = POOL;
    let config = format!(
        "default-lease-time 3600; max-lease-time 3600; ping-check false; authoritative;\n\
         subnet 10.88.0.0 netmask 255.255.0.0 {{ range {from} {to}; option routers {SERVER}; \
         option domain-name-servers {SERVER}; }}\n"
    );
    let (config, leases) = (put(folder, "dhcpd.conf", &config)?, put(folder, "leases", "")?);
    let mut command = place.for_server("dhcpd");
    command.args(["-4", "-f", "-q", "--no-pid", "-cf"]).arg(config).arg("-lf").arg(leases).arg(INTERFACE);
    Ok(command)
}
