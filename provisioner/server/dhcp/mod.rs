//! DHCPv4: who asks ([`client`]), what address ([`lease`]), what boot file ([`bootfile`]), and the packet that says so
//! ([`answer`]). [`intake`] stands before all of it; [`server`] joins them for a batch of packets; [`sockets`] has the
//! socket.
//!
//! In: packets, and three traits that `serve` fills: what is declared, where leases are kept, where it is told. Out:
//! packets, [`LeaseRecord`]s before any acknowledgement, one [`Heard`] per packet for the machine's timeline.

pub mod advertise;
pub mod answer;
pub mod bootfile;
pub mod client;
pub mod config;
pub mod intake;
pub mod lease;
pub mod options;
pub mod road;
pub mod server;
pub mod sockets;
pub mod subnet;

use crate::machine::Time;
use client::Client;
use provisioner_wire::{Mac, MachineName};
use road::Road;
use std::{collections::HashSet, fmt, future::Future, net::Ipv4Addr, sync::Arc};

/// What is declared of the owner of a MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// `address`: its reservation. `netboot`: boot options are given.
    Known { name: MachineName, address: Option<Ipv4Addr>, netboot: bool },
    /// `netboot` is false where discovery is off: an address, and no boot file.
    Unknown { netboot: bool },
}

impl Who {
    pub fn name(&self) -> Option<&MachineName> {
        match self {
            Self::Known { name, .. } => Some(name),
            Self::Unknown { .. } => None,
        }
    }

    pub fn reservation(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Known { address, .. } => *address,
            Self::Unknown { .. } => None,
        }
    }

    pub fn netboot(&self) -> bool {
        match self {
            Self::Known { netboot, .. } | Self::Unknown { netboot } => *netboot,
        }
    }
}

/// The declared machines. Asked for each packet: answer from memory.
pub trait Directory: Send + Sync + 'static {
    fn who(&self, mac: Mac) -> impl Future<Output = Who> + Send;

    /// By what the owner of `mac` boots.
    fn road(&self, _mac: Mac) -> impl Future<Output = Road> + Send {
        std::future::ready(Road::Ipxe)
    }

    /// Every address that is some machine's reservation: none is given to another, even inside a pool.
    fn reserved(&self) -> impl Future<Output = Arc<HashSet<Ipv4Addr>>> + Send;
}

/// What must be kept of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseRecord {
    /// `ip` belongs to `mac` until `expires`; replaces what was kept of `ip`.
    Bound {
        ip: Ipv4Addr,
        mac: Mac,
        /// Option 61 as it came.
        client_id: Option<Vec<u8>>,
        machine: Option<MachineName>,
        expires: Time,
    },
    /// `mac` no longer has `ip`.
    Ended { ip: Ipv4Addr, mac: Mac },
    /// `mac` found `ip` in use by another host: given to nobody until then.
    Declined { ip: Ipv4Addr, mac: Mac, until: Time },
}

impl LeaseRecord {
    pub fn address(&self) -> Ipv4Addr {
        match self {
            Self::Bound { ip, .. } | Self::Ended { ip, .. } | Self::Declined { ip, .. } => *ip,
        }
    }
}

/// Why leases could not be kept. The client is not answered, and asks again.
#[derive(Debug, thiserror::Error)]
#[error("leases cannot be kept: {0}")]
pub struct JournalError(pub String);

/// Where leases are kept. An address is never handed out before its record is committed.
pub trait LeaseJournal: Send + Sync + 'static {
    /// Keeps all of `records`, in their order, or none. One call has all of a batch of packets: one transaction.
    fn commit(&self, records: &[LeaseRecord]) -> impl Future<Output = Result<(), JournalError>> + Send;
}

/// One packet and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub at: Time,
    pub mac: Mac,
    pub machine: Option<MachineName>,
    /// The packet's name in RFC 2131, lower case: `discover`, `request`, …
    pub message: &'static str,
    pub client: Client,
    /// The relay it came through, or 0.0.0.0.
    pub relay: Ipv4Addr,
    pub said: Said,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Offer {
        ip: Ipv4Addr,
        boot: Told,
    },
    Ack {
        ip: Ipv4Addr,
        boot: Told,
    },
    Nak {
        reason: &'static str,
    },
    /// No answer, for this reason.
    Nothing {
        reason: &'static str,
    },
    /// The client found its address in use.
    AddressConflict {
        ip: Ipv4Addr,
    },
}

/// The boot part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    File(String),
    /// It was not a client that boots from the network, or it may not.
    None,
    /// It wanted a boot file and there is none for it; why.
    Missing(bootfile::NoBoot),
}

/// Where packets are told. Must not block.
pub trait Hearing: Send + Sync + 'static {
    fn heard(&self, heard: Heard);
    /// A packet that is no DHCP request, or not one for us.
    fn malformed(&self, why: intake::Malformed);
}

impl Heard {
    /// For a person: `discover from x64 UEFI PXE; offered 10.88.0.12, boot file snponly.efi`.
    pub fn line(&self) -> String {
        let relay =
            if self.relay.is_unspecified() { String::new() } else { format!(" by relay {}", self.relay) };
        format!("{} from {}{relay}; {}", self.message, self.client, self.said)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer { ip, boot } => write!(f, "offered {ip}, {boot}"),
            Self::Ack { ip, boot } => write!(f, "acknowledged {ip}, {boot}"),
            Self::Nak { reason } => write!(f, "refused: {reason}"),
            Self::Nothing { reason } => write!(f, "not answered: {reason}"),
            Self::AddressConflict { ip } => write!(f, "it found {ip} in use by another host"),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "boot file {file}"),
            Self::None => f.write_str("no boot file"),
            Self::Missing(why) => write!(f, "no boot file: {why}"),
        }
    }
}
