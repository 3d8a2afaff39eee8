//! What the agent saw of the machine it runs on. Strings come from firmware and drives: they are hostile until
//! [`HardwareReport::cleaned`] has cut and bounded them, and they never grant rights.

use crate::Mac;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HardwareReport {
    pub dmi: Dmi,
    pub firmware: Firmware,
    /// `Some(true)` where the firmware enforced Secure Boot at this boot.
    pub secure_boot: Option<bool>,
    pub cpu: Cpu,
    pub memory_bytes: u64,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    /// The NIC that network-booted (`BOOTIF`).
    pub boot_mac: Option<Mac>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    #[default]
    Bios,
    Uefi,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dmi {
    /// SMBIOS system UUID, as Linux prints it.
    pub uuid: Option<String>,
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub product: Option<String>,
    pub asset: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    pub model: String,
    pub cores: u32,
    /// `x86_64`, `aarch64`.
    pub architecture: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Kernel name without `/dev/`: `vda`, `nvme0n1`. Valid for this boot only; never an identity.
    pub name: String,
    pub serial: Option<String>,
    pub wwn: Option<String>,
    pub model: Option<String>,
    pub size_bytes: u64,
    pub rotational: bool,
    pub removable: bool,
    pub read_only: bool,
    /// `nvme`, `sata`, `sas`, `virtio`, `usb`, …
    pub transport: Option<String>,
    /// Name below `/dev/disk/by-path`, where udev's rules would make one.
    pub by_path: Option<String>,
    pub logical_sector_bytes: u32,
    /// Mounted, swapped on, or a member of a RAID/LVM set that is live in the agent's kernel.
    pub in_use: bool,
    /// What on it says that it, or a part of it, belongs to more than this machine's own file systems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// One super block or record that was found on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub kind: MarkKind,
    /// Where: the disk's kernel name, or a partition's.
    pub at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MarkKind {
    /// Linux md, Intel's or DDF.
    RaidMember,
    LvmMember,
    BcacheMember,
    ZfsMember,
    /// VMFS, GFS2 or OCFS2: several machines may have it mounted now.
    ClusterFileSystem,
    /// LVM whose lock is shared between machines (sanlock, dlm).
    SharedLvm,
    /// A SCSI persistent reservation: some machine has registered with the disk.
    Reservation,
}

impl MarkKind {
    /// True where other machines may be using the disk.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::ClusterFileSystem | Self::SharedLvm | Self::Reservation)
    }

    /// As it stands in a profile's `allow`.
    pub fn word(self) -> &'static str {
        match self {
            Self::RaidMember => "raid-member",
            Self::LvmMember => "lvm-member",
            Self::BcacheMember => "bcache-member",
            Self::ZfsMember => "zfs-member",
            Self::ClusterFileSystem => "cluster-file-system",
            Self::SharedLvm => "shared-lvm",
            Self::Reservation => "reservation",
        }
    }
}

impl std::fmt::Display for MarkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RaidMember => "member of a RAID",
            Self::LvmMember => "physical volume of LVM",
            Self::BcacheMember => "part of a bcache",
            Self::ZfsMember => "member of a ZFS pool",
            Self::ClusterFileSystem => "file system of a cluster (VMFS, GFS2 or OCFS2)",
            Self::SharedLvm => "LVM shared between machines",
            Self::Reservation => "SCSI persistent reservation of some machine",
        })
    }
}

impl Disk {
    /// What names this disk for a licence: identity that survives a reboot.
    pub fn identity(&self) -> DiskIdentity {
        DiskIdentity { wwn: self.wwn.clone(), serial: self.serial.clone(), size_bytes: self.size_bytes }
    }
}

/// WWN, serial and size of one disk. Two reports of the same disk give the same identity; kernel names do not matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DiskIdentity {
    pub wwn: Option<String>,
    pub serial: Option<String>,
    pub size_bytes: u64,
}

impl DiskIdentity {
    /// True where at least one of WWN and serial is known: a size alone names no disk.
    pub fn is_certain(&self) -> bool {
        self.wwn.is_some() || self.serial.is_some()
    }
}

impl std::fmt::Display for DiskIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.wwn.as_deref().or(self.serial.as_deref()).unwrap_or("without serial");
        write!(f, "{name} ({} bytes)", self.size_bytes)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    pub name: String,
    pub mac: Mac,
    pub link: bool,
    /// Mbit/s, where the driver tells.
    pub speed_mbit: Option<u32>,
    pub driver: Option<String>,
}

/// Most entries of one list in a report.
pub const ENTRIES_MAX: usize = 512;
/// Longest string in a report, in characters.
pub const TEXT_MAX: usize = 256;

impl HardwareReport {
    /// The report with control and bidirectional characters taken out, strings cut to [`TEXT_MAX`], lists to
    /// [`ENTRIES_MAX`], empty strings made absent.
    pub fn cleaned(mut self) -> Self {
        for text in [
            &mut self.dmi.uuid,
            &mut self.dmi.serial,
            &mut self.dmi.manufacturer,
            &mut self.dmi.product,
            &mut self.dmi.asset,
        ] {
            clean_option(text);
        }
        self.cpu.model = clean(&self.cpu.model);
        self.cpu.architecture = clean(&self.cpu.architecture);
        self.disks.truncate(ENTRIES_MAX);
        for disk in &mut self.disks {
            disk.name = clean(&disk.name);
            disk.marks.truncate(ENTRIES_MAX);
            for mark in &mut disk.marks {
                mark.at = clean(&mark.at);
            }
            for text in
                [&mut disk.serial, &mut disk.wwn, &mut disk.model, &mut disk.transport, &mut disk.by_path]
            {
                clean_option(text);
            }
        }
        self.nics.truncate(ENTRIES_MAX);
        for nic in &mut self.nics {
            nic.name = clean(&nic.name);
            clean_option(&mut nic.driver);
        }
        self
    }
}

fn clean_option(text: &mut Option<String>) {
    *text = text.take().map(|t| clean(&t)).filter(|t| !t.is_empty());
}

/// One line of printable text: no control characters, no bidirectional overrides, no leading or trailing space.
pub fn clean(text: &str) -> String {
    clean_to(text, TEXT_MAX)
}

/// [`clean`] with another bound, in characters. Line breaks become spaces.
pub fn clean_to(text: &str, most: usize) -> String {
    let unsafe_mark = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let spaced = text.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c });
    let kept: String = spaced.filter(|c| !unsafe_mark(*c)).take(most).collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_report_is_cut_and_cleaned() {
        let disk = Disk {
            serial: Some("\u{1b}[31mX\r\nY\u{202e}".into()),
            wwn: Some(" \0 ".into()),
            ..Disk::default()
        };
        let report = HardwareReport { disks: vec![disk; 9000], ..HardwareReport::default() }.cleaned();
        assert_eq!(report.disks.len(), ENTRIES_MAX);
        assert_eq!(report.disks[0].serial.as_deref(), Some("[31mX  Y"));
        assert_eq!(report.disks[0].wwn, None);
    }
}
