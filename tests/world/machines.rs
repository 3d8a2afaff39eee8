//! What stands in the racks of the world: a machine with its power, its firmware that always tries the network first,
//! its disk, and whatever program runs on it.

use provisioner::machine::MachineId;
use provisioner_wire::{
    BootId, Generation,
    order::LicenceId,
    report::{Disk, DiskIdentity, HardwareReport},
};

#[derive(Debug, Clone)]
pub struct Rack {
    pub id: MachineId,
    pub running: Running,
    /// Counts the power cycles: a message of an earlier boot is recognised by it.
    pub boot: u64,
    pub disk: Content,
    /// How often a Ready machine network-booted.
    pub ready_netboots: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Running {
    Off,
    /// Asks for a boot script; so many requests have gone unanswered.
    Firmware {
        asked: u32,
    },
    Agent(Agent),
    /// The operating system's own, from the network.
    Installer(Installer),
    Node {
        generation: Generation,
        token: Option<String>,
    },
    /// A node that must fetch its config first.
    Fetching {
        generation: Generation,
        url: BootId,
    },
    /// No bootable disk.
    Stuck,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    pub boot_id: BootId,
    pub key: String,
    pub claimed: Option<Generation>,
    pub doing: Doing,
    /// Requests without an answer in a row.
    pub unheard: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Installer {
    pub generation: Generation,
    /// What its config's URL is made of.
    pub url: BootId,
    pub licence: LicenceId,
    /// Once it has its config: with this token, and so many writes are left.
    pub config: Option<(String, u32)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Doing {
    Idle,
    /// The licence was granted; so many writes are left.
    Writing {
        left: u32,
        licence: LicenceId,
        wipe: bool,
        /// Takes hours; between two writes the server is told that the agent is at work.
        slow: bool,
    },
    /// Everything is written: the server asks what the disk holds, and `asked` once it has.
    Proving {
        licence: LicenceId,
        asked: bool,
    },
    /// The disk does not hold what was written; said until heard.
    Failing,
    /// Has the config for the disk, with this token.
    Placing {
        token: String,
    },
    /// Has what leads to the config.
    Pointing {
        url: BootId,
    },
    /// A step has ended; said until heard.
    Telling {
        step: provisioner_wire::order::Step,
        then: Then,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Ask,
    Reboot,
    PowerOff,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// Whose system it is and whether the whole of it is there; `None`: nothing, or half of something.
    pub bootable: Option<Generation>,
    pub token: Option<String>,
    pub url: Option<BootId>,
    pub writes: u64,
    /// It has acknowledged a write of this boot and dropped it.
    pub lied: bool,
}

impl Rack {
    pub fn disk_identity(&self) -> DiskIdentity {
        self.report().disks[0].identity()
    }

    pub fn report(&self) -> HardwareReport {
        let disk = Disk {
            name: "vda".into(),
            serial: Some(format!("DISK-{}", self.id)),
            size_bytes: 4 << 30,
            ..Disk::default()
        };
        HardwareReport { disks: vec![disk], ..HardwareReport::default() }
    }
}
