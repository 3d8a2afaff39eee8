//! What a drive can do to all that it holds, and having it done: NVMe (Base Specification 2.0) and ATA (ACS-4, through
//! SAT-4's ATA PASS-THROUGH). Commands are built and answers read by plain functions; [`super::ioctl`] sends them.

use super::{
    ioctl::{self, Data, NvmeCommand},
    wipe_choice::Abilities,
};
use provisioner_wire::wipe::{Means, PassedOver};
use std::{
    fs::File,
    io,
    time::{Duration, Instant},
};

mod ata;
mod nvme;

/// How a disk of this name is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drive {
    Nvme,
    Scsi,
    Other,
}

impl Drive {
    /// By its kernel name.
    pub(super) fn of(name: &str) -> Self {
        if name.starts_with("nvme") {
            Self::Nvme
        } else if name.starts_with("sd") {
            Self::Scsi
        } else {
            Self::Other
        }
    }

    pub(super) fn abilities(self, device: &File) -> Abilities {
        match self {
            Self::Nvme => nvme::abilities(device).unwrap_or_default(),
            Self::Scsi => ata::abilities(device).unwrap_or_default(),
            Self::Other => Abilities::default(),
        }
    }

    pub(super) fn erase(self, device: &File, means: Means) -> io::Result<()> {
        match self {
            Self::Nvme => nvme::erase(device, means),
            Self::Scsi => ata::erase(device, means),
            Self::Other => Err(no(means)),
        }
    }
}

fn no(means: Means) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{means}: this drive cannot"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}
