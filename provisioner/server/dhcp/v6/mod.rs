//! DHCPv6 for machines that boot from the network (RFC 8415, RFC 5970): who asks ([`client`]), whether the message may
//! be answered at all ([`validate`]), what address ([`lease`]), and the packet that says so ([`answer`]). [`intake`]
//! stands before all of it; [`server`] joins them for a batch of packets; [`sockets`] has the sockets.
//!
//! What a machine boots is decided where DHCPv4 decides it: [`super::bootfile`].
//!
//! In: packets, and the traits that `serve` fills. Out: packets, [`LeaseRecord`]s before any promise of an address, one
//! [`Heard`] per packet for the machine's timeline.

pub mod answer;
pub mod client;
pub mod config;
pub mod intake;
pub mod lease;
pub mod relay;
pub mod server;
pub mod sockets;
pub mod subnet;
pub mod validate;

use super::{JournalError, Told, client::Client};
use crate::machine::Time;
use lease::Owner;
use provisioner_wire::{Mac, MachineName};
use std::{collections::HashSet, fmt, future::Future, net::Ipv6Addr, sync::Arc};
use uuid::Uuid;

/// The declared machines, as DHCPv6 asks for them beside [`super::Directory::who`]. Asked for each packet: answer from
/// memory.
pub trait Directory: super::Directory {
    /// A declared MAC of the one machine with this SMBIOS UUID; none where two have it, or where it is a filler.
    fn by_uuid(&self, uuid: Uuid) -> impl Future<Output = Option<Mac>> + Send;

    /// The reservation of the interface with this MAC.
    fn reservation(&self, mac: Mac) -> impl Future<Output = Option<Ipv6Addr>> + Send;

    /// Every address that is some machine's reservation: none is given to another, even inside a pool.
    fn reserved6(&self) -> impl Future<Output = Arc<HashSet<Ipv6Addr>>> + Send;
}

/// What must be kept of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseRecord {
    /// `ip` belongs to `owner` until `expires`; replaces what was kept of `ip`.
    Bound { ip: Ipv6Addr, owner: Owner, duid: Vec<u8>, machine: Option<MachineName>, expires: Time },
    /// `owner` no longer has `ip`.
    Ended { ip: Ipv6Addr, owner: Owner },
    /// `owner` found `ip` in use by another host: given to nobody until then.
    Declined { ip: Ipv6Addr, owner: Owner, until: Time },
}

impl LeaseRecord {
    pub fn ip(&self) -> Ipv6Addr {
        match self {
            Self::Bound { ip, .. } | Self::Ended { ip, .. } | Self::Declined { ip, .. } => *ip,
        }
    }
}

/// Where leases are kept. An address is never promised in a REPLY before its record is committed.
pub trait LeaseJournal: Send + Sync + 'static {
    /// Keeps all of `records`, in their order, or none.
    fn commit(&self, records: &[LeaseRecord]) -> impl Future<Output = Result<(), JournalError>> + Send;
}

/// One message and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub at: Time,
    /// The MAC that it was known by, where it showed one.
    pub mac: Option<Mac>,
    /// The client identifier as it came.
    pub duid: Vec<u8>,
    pub machine: Option<MachineName>,
    /// The message's name in RFC 8415, lower case: `solicit`, `information-request`, …
    pub message: &'static str,
    pub client: Client,
    /// The relay closest to the client.
    pub relay: Option<Ipv6Addr>,
    pub said: Said,
    /// Its MAC is one machine's and its identifier another's: it was answered by its MAC.
    pub conflict: Option<MachineName>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// `ip` is none in an answer to who asked for information only.
    Advertise {
        ip: Option<Ipv6Addr>,
        boot: Told,
    },
    Reply {
        ip: Option<Ipv6Addr>,
        boot: Told,
    },
    /// An answer that says that there is no address, and why.
    NoAddress {
        reason: &'static str,
    },
    /// A reply that says no: its status.
    Status {
        status: &'static str,
    },
    /// No answer, for this reason.
    Nothing {
        reason: &'static str,
    },
    /// The client found its address in use.
    AddressConflict {
        ip: Ipv6Addr,
    },
}

/// Where packets are told. Must not block.
pub trait Hearing: Send + Sync + 'static {
    fn heard6(&self, heard: Heard);
    /// A packet that is no message of a client, or breaks a rule of RFC 8415 §16.
    fn malformed6(&self, why: &(dyn std::error::Error + Send + Sync));
}

impl Heard {
    /// For a person: `dhcpv6 solicit from x64 UEFI PXE; advertised fd88::100, boot file tftp://[fd88::1]/snponly.efi`.
    pub fn line(&self) -> String {
        let relay = self.relay.map(|ip| format!(" by relay {ip}")).unwrap_or_default();
        let conflict = self.conflict.as_ref().map(|other| {
            format!("; its identifier is that of {other}, it was answered by its MAC (a cloned disk?)")
        });
        format!(
            "dhcpv6 {} from {}{relay}; {}{}",
            self.message,
            self.client,
            self.said,
            conflict.unwrap_or_default()
        )
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = |ip: &Option<Ipv6Addr>| ip.map_or("no address".to_owned(), |ip| ip.to_string());
        match self {
            Self::Advertise { ip, boot } => write!(f, "advertised {}, {boot}", address(ip)),
            Self::Reply { ip, boot } => write!(f, "replied {}, {boot}", address(ip)),
            Self::NoAddress { reason } => write!(f, "answered without an address: {reason}"),
            Self::Status { status } => write!(f, "replied {status}"),
            Self::Nothing { reason } => write!(f, "not answered: {reason}"),
            Self::AddressConflict { ip } => write!(f, "it found {ip} in use by another host"),
        }
    }
}
