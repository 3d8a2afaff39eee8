//! DHCPv4: who asks ([`client`]), what address ([`lease`]), what boot file ([`bootfile`]), and the packet that says so
//! ([`answer`]). [`intake`] stands before all of it; [`server`] joins them for a batch of packets; [`sockets`] has the
//! socket.
//!
//! In: packets, and three traits that `serve` fills: what is declared, where leases are kept, where it is told. Out:
//! packets, [`LeaseRecord`]s before any acknowledgement, one [`Heard`] per packet for the machine's timeline.

pub mod advertise;
pub mod answer;
pub mod boot_server;
pub mod bootfile;
pub mod client;
pub mod config;
pub mod heard;
pub mod intake;
pub mod lease;
pub mod limits;
pub mod neighbour;
pub mod options;
pub mod packet;
pub mod patience;
pub mod proxy;
pub mod quirks;
pub mod road;
pub mod rogue;
pub mod server;
pub mod shown;
pub mod sockets;
pub mod subnet;
pub mod v6;
pub mod watch;

pub use heard::{Details, Heard, Hearing, Said, Told};

use crate::{inventory::Quirks, machine::Time};
use options::OptionSet;
use provisioner_wire::{Mac, MachineName};
use road::Road;
use std::{collections::HashSet, future::Future, net::Ipv4Addr, sync::Arc};

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

/// What a machine's record and its profile say of DHCP answers to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Particulars {
    pub options: OptionSet,
    pub quirks: Quirks,
}

/// The declared machines. Asked for each packet: answer from memory.
pub trait Directory: Send + Sync + 'static {
    fn who(&self, mac: Mac) -> impl Future<Output = Who> + Send;

    /// By what the owner of `mac` boots.
    fn road(&self, _mac: Mac) -> impl Future<Output = Road> + Send {
        std::future::ready(Road::Ipxe)
    }

    /// What is declared of the answers to `mac`.
    fn particulars(&self, _mac: Mac) -> impl Future<Output = Arc<Particulars>> + Send {
        std::future::ready(Arc::default())
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
