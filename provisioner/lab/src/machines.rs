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

/// Who a machine is: what its declaration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub firmware: Firmware,
    pub uuid: Uuid,
    pub serial: String,
    pub mac: Mac,
    /// Its address on the lab's network, for a reservation.
    pub address: Ipv4Addr,
}

impl Identity {
    /// The `index`-th machine of the lab, counted from 1; 1 and 2 as BIOS and UEFI are those of the sample data centre. A
    /// lab has at most 100.
    pub fn sample(index: u8, firmware: Firmware) -> Self {
        let word = if firmware == Firmware::Uefi { "uefi" } else { "bios" };
        let name = format!("lab-{word}-{}", index.div_ceil(2));
        Self {
            uuid: Uuid::from_u128(0x8800_0000_0000_4000_8000_0000_0000_0000 | u128::from(index)),
            serial: name.to_uppercase(),
            name,
            firmware,
            mac: Mac([0x52, 0x54, 0x00, 0x88, 0x00, index]),
            address: Ipv4Addr::new(10, 88, 0, index.saturating_add(10)),
        }
    }

    /// The same machine under another name.
    pub fn renamed(self, name: &str) -> Self {
        Self { name: name.to_owned(), serial: name.to_uppercase(), ..self }
    }

    /// Its Redfish system at the emulator.
    pub fn bmc(&self) -> String {
        Sushy::url(self.uuid)
    }
}

/// A machine that is there.
#[derive(Debug, Clone)]
pub struct LabMachine {
    pub identity: Identity,
    pub disk_serial: String,
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
    pub fn add(&mut self, identity: &Identity, memory_mib: u32, cpus: u32) -> Result<LabMachine> {
        let name = &identity.name;
        let disk_serial = vm::disk_serial_of(name);
        self.libvirt.define(&Domain {
            name: name.clone(),
            firmware: identity.firmware,
            uuid: identity.uuid,
            serial: identity.serial.clone(),
            mac: identity.mac,
            disk_bytes: DISK_BYTES,
            disk_serial: disk_serial.clone(),
            memory_mib,
            cpus,
        })?;
        let machine = LabMachine {
            identity: identity.clone(),
            disk_serial,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_are_the_sample_data_centre() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hardware/machines");
        for (index, firmware) in [(1, Firmware::Bios), (2, Firmware::Uefi)] {
            let one = Identity::sample(index, firmware);
            let text = std::fs::read_to_string(folder.join(format!("{}.yaml", one.name))).unwrap();
            for value in [
                &one.name,
                &one.uuid.to_string(),
                &one.serial,
                &one.mac.to_string(),
                &one.bmc(),
                &one.address.to_string(),
            ] {
                assert!(text.contains(value.as_str()), "{value} is not in\n{text}");
            }
        }
        let names: Vec<String> = (1..=4u8)
            .map(|i| Identity::sample(i, if i % 2 == 1 { Firmware::Bios } else { Firmware::Uefi }).name)
            .collect();
        assert_eq!(names, ["lab-bios-1", "lab-uefi-1", "lab-bios-2", "lab-uefi-2"]);
    }
}
