//! What is told of each packet: who asked what, through which relay, and what was answered. `serve` keeps it for
//! `provisioner explain`.

use super::{
    Who, bootfile,
    client::Client,
    intake::{self, Request, code},
    rogue::Foreign,
};
use crate::machine::Time;
use provisioner_wire::{Mac, MachineName, ids::hex, report::clean};
use std::{fmt, net::Ipv4Addr};

/// Bytes of an option that are kept of a client's free text.
const TEXT_MAX: usize = 64;

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
    pub details: Details,
    pub said: Said,
}

/// What else of a request tells clients apart or shows why one is stuck.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Where it came to: 67, or 4011 for a boot server's port.
    pub port: u16,
    pub xid: u32,
    /// Seconds that the client has been asking, by its own count.
    pub secs: u16,
    /// The address it has (`ciaddr`) or asks for (option 50).
    pub address: Option<Ipv4Addr>,
    /// Option 54: the server that it has chosen.
    pub server: Option<Ipv4Addr>,
    /// Option 77, as text.
    pub user_class: Option<String>,
    /// Option 61, hexadecimal.
    pub client_id: Option<String>,
    /// Option 94: type and version of the network driver, hexadecimal.
    pub undi: Option<String>,
    /// Option 55.
    pub parameters: Vec<u8>,
    /// Option 57.
    pub max_size: Option<u16>,
}

impl Details {
    pub fn of(request: &Request) -> Self {
        let raw = |code| request.raw(code).filter(|bytes| !bytes.is_empty());
        let cut = |bytes: &[u8]| hex(bytes.get(..TEXT_MAX).unwrap_or(bytes));
        let has = Some(request.ciaddr).filter(|ip| !ip.is_unspecified());
        Self {
            port: 67,
            xid: request.xid,
            secs: request.secs,
            address: has.or_else(|| request.address(code::REQUESTED_ADDRESS)),
            server: request.address(code::SERVER_ID),
            user_class: raw(code::USER_CLASS).map(user_class),
            client_id: raw(code::CLIENT_ID).map(cut),
            undi: raw(code::UNDI).map(cut),
            parameters: raw(code::PARAMETERS).unwrap_or_default().to_vec(),
            max_size: request.number(code::MAX_SIZE),
        }
    }
}

/// iPXE sends its class bare, RFC 3004 wants a length before it.
fn user_class(bytes: &[u8]) -> String {
    let bare = match bytes.split_first() {
        Some((length, text)) if usize::from(*length) == text.len() => text,
        _ => bytes,
    };
    clean(&String::from_utf8_lossy(bare.get(..TEXT_MAX).unwrap_or(bare)))
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
    /// A boot file and no address: as proxyDHCP on port 67, or as the boot server on port 4011.
    Boot {
        port: u16,
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
    /// Its firmware is declared to be told on port 4011, which it will ask.
    Ask,
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
    /// A sign of another DHCP server.
    fn foreign(&self, foreign: Foreign) {
        drop(foreign);
    }
}

impl Heard {
    /// What is told of one request and its answer.
    pub fn new(at: Time, request: &Request, client: Client, who: &Who, said: Said) -> Self {
        Self {
            at,
            mac: request.mac,
            machine: who.name().cloned(),
            message: request.message_name(),
            client,
            relay: request.giaddr,
            details: Details::of(request),
            said,
        }
    }

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
            Self::Boot { port, boot } => write!(f, "told on port {port} without an address: {boot}"),
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
            Self::Ask => f.write_str("it is to ask port 4011"),
            Self::None => f.write_str("no boot file"),
            Self::Missing(why) => write!(f, "no boot file: {why}"),
        }
    }
}
