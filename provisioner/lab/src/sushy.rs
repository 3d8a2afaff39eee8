//! sushy-tools' Redfish emulator: a BMC for each of libvirt's machines. It knows no true "once": a boot override stays
//! until it is changed. For that there is our own simulator.

use crate::{libvirt, namespace, process::Daemon};
use anyhow::{Context, Result};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use uuid::Uuid;

const PORT: u16 = 8000;

/// A running emulator.
#[derive(Debug)]
pub struct Sushy {
    daemon: Daemon,
}

impl Sushy {
    /// Starts the emulator of the virtual environment `python` in front of the running libvirtd.
    pub fn start(python: &Path, folder: &Path) -> Result<Self> {
        let state = folder.join("sushy");
        fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
        let config = folder.join("sushy.conf");
        fs::write(&config, configuration(&state)).with_context(|| config.display().to_string())?;
        let program: PathBuf = python.join("bin/sushy-emulator");
        let mut command = Command::new(&program);
        command.arg("--config").arg(&config);
        let mut daemon = Daemon::start("sushy-emulator", &mut command, &folder.join("logs/sushy.log"))?;
        let address = (namespace::ADDRESS, PORT);
        daemon.wait_ready(Duration::from_secs(60), || TcpStream::connect(address).is_ok())?;
        Ok(Self { daemon })
    }

    pub fn log(&self) -> &Path {
        self.daemon.log()
    }

    /// The Redfish system of the machine with this UUID.
    pub fn url(uuid: Uuid) -> String {
        format!("http://{}:{PORT}/redfish/v1/Systems/{uuid}", namespace::ADDRESS)
    }
}

/// A change of the boot mode makes the machine's loader and variable store anew from these; code and variables must fit
/// together, and libvirt wants a path for a BIOS too.
fn configuration(state: &Path) -> String {
    format!(
        "SUSHY_EMULATOR_LISTEN_IP = '{}'
SUSHY_EMULATOR_LISTEN_PORT = {PORT}
SUSHY_EMULATOR_AUTH_FILE = None
SUSHY_EMULATOR_LIBVIRT_URI = '{}'
SUSHY_EMULATOR_STORAGE_POOL = 'default'
SUSHY_EMULATOR_STATE_DIR = '{}'
SUSHY_EMULATOR_SECURE_BOOT_DISABLED_NVRAM = '/usr/share/OVMF/OVMF_VARS_4M.fd'
SUSHY_EMULATOR_BOOT_LOADER_MAP = {{'UEFI': {{'x86_64': '/usr/share/OVMF/OVMF_CODE_4M.fd'}}, 'Legacy': {{'x86_64': '/usr/share/seabios/bios-256k.bin'}}}}
",
        namespace::ADDRESS,
        libvirt::URI,
        state.display()
    )
}
