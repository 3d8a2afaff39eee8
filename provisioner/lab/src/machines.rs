//! Machines with a BMC each: libvirt's domains behind the Redfish emulator.

use crate::{
    libvirt::{Domain, Libvirt},
    sushy::Sushy,
    vm,
};
use anyhow::Result;
use provisioner_wire::{Mac, report::Firmware};
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// What a declaration of the machine needs to say, and where its files are.
#[derive(Debug, Clone)]
pub struct LabMachine {
    pub name: String,
    pub firmware: Firmware,
    pub uuid: Uuid,
    pub serial: String,
    pub mac: Mac,
    pub disk_serial: String,
    /// Its address on the lab's network, for a reservation.
    pub address: Ipv4Addr,
    /// Its Redfish system.
    pub bmc: String,
    pub disk: PathBuf,
    pub serial_log: PathBuf,
}

/// libvirt and the emulator; both end when this is dropped, and with them the machines.
#[derive(Debug)]
pub struct RedfishMachines {
    // Dropped first: it talks to libvirt.
    sushy: Sushy,
    libvirt: Libvirt,
    machines: Vec<LabMachine>,
}

/// The disk of a machine where nothing else is said.
pub const DISK_BYTES: u64 = 4 << 30;

impl RedfishMachines {
    /// Starts both. `python` is the virtual environment that holds sushy-tools; files go to `folder`.
    pub fn start(python: &Path, folder: &Path) -> Result<Self> {
        let libvirt = Libvirt::start(folder)?;
        let sushy = Sushy::start(python, folder)?;
        Ok(Self { sushy, libvirt, machines: Vec::new() })
    }

    /// A new machine: off, an empty disk, network first in its boot order.
    pub fn add(&mut self, name: &str, firmware: Firmware, memory_mib: u32, cpus: u32) -> Result<LabMachine> {
        let domain = Domain {
            name: name.to_owned(),
            firmware,
            uuid: vm::uuid_of(name),
            serial: format!("SN-{name}"),
            mac: vm::mac_of(name),
            disk_bytes: DISK_BYTES,
            disk_serial: vm::disk_serial_of(name),
            memory_mib,
            cpus,
        };
        self.libvirt.define(&domain)?;
        let host = u8::try_from(self.machines.len()).unwrap_or(u8::MAX).saturating_add(11);
        let machine = LabMachine {
            name: name.to_owned(),
            firmware,
            uuid: domain.uuid,
            serial: domain.serial,
            mac: domain.mac,
            disk_serial: domain.disk_serial,
            address: Ipv4Addr::new(10, 88, 0, host),
            bmc: Sushy::url(domain.uuid),
            disk: self.libvirt.disk(name),
            serial_log: self.libvirt.serial_log(name),
        };
        self.machines.push(machine.clone());
        Ok(machine)
    }

    pub fn machines(&self) -> &[LabMachine] {
        &self.machines
    }

    /// Logs of libvirtd and of the emulator.
    pub fn logs(&self) -> [&Path; 2] {
        [self.libvirt.log(), self.sushy.log()]
    }
}
