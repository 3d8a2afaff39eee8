//! One thing heard of a machine, as it is kept. Texts of the network are cleaned before they come here.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};
use uuid::Uuid;

/// What was heard. The names of the fields are kept in the store: rename none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "sign", rename_all = "kebab-case")]
pub enum Sign {
    /// A DHCP packet and its answer.
    Dhcp(Box<Packet>),
    /// A TFTP transfer that has ended.
    Transfer(Transfer),
    /// A request for a boot file by HTTP.
    Fetch(Fetch),
    /// Another server's answer to this machine was heard, or the machine has chosen another server.
    Foreign(Foreign),
    /// A boot script was served.
    Script { boots: Boots },
    /// The BMC is told to do something, or has answered.
    Bmc { what: String, outcome: Outcome },
    /// The agent spoke: it claimed, or ended a step.
    Agent { what: String },
    /// The workflow cannot go on: rendering, choosing disks, a deadline.
    Refused { what: String },
    /// Whatever else belongs into the timeline.
    Note { what: String },
    /// Signs of this kind came faster than they are kept.
    Unkept { count: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Name of RFC 2131 or RFC 8415, lower case.
    pub message: String,
    /// The port it was sent to: 67, 4011 for a boot server's, or 547 over IPv6.
    pub port: u16,
    pub program: Program,
    /// Who asks, for a person: `x64 UEFI PXE`.
    pub who: String,
    /// Option 93, or the number in the vendor class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vendor_class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undi: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u16>,
    #[serde(default)]
    pub xid: u32,
    #[serde(default)]
    pub secs: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<IpAddr>,
    /// What it has or asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Option 54.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Ipv4Addr>,
    pub answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    Pxe,
    HttpBoot,
    Ipxe,
    System,
}

/// What a boot file is made for, and what a firmware is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    Bios,
    UefiX86,
    UefiX64,
    UefiArm32,
    UefiArm64,
    UefiRiscv64,
    UefiLoong64,
}

/// The answer. Over IPv6 an ADVERTISE is the offer and a REPLY the acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "kebab-case")]
pub enum Answer {
    /// `ip` is absent in a proxy's offer.
    Offer {
        ip: Option<IpAddr>,
        boot: Boot,
    },
    Ack {
        ip: Option<IpAddr>,
        boot: Boot,
    },
    Nak {
        reason: String,
    },
    Nothing {
        reason: String,
    },
    /// Over IPv6 who gets no address is told so (RFC 8415 §18.3.9).
    NoAddress {
        reason: String,
    },
    Conflict {
        ip: IpAddr,
    },
    /// A word without an address (RFC 8415 §21.13), as after a release.
    Status {
        status: String,
    },
}

/// The boot part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    File(String),
    /// It is to ask on port 4011.
    Ask,
    /// It does not boot from the network, or may not.
    None,
    /// It wanted a file and got none; why.
    Missing(String),
    /// Its own iPXE loads itself again and again.
    Loop,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub file: String,
    /// What the file is made for; absent where it is not a program that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<Platform>,
    pub bytes: u64,
    /// Of them, acknowledged by the client.
    pub acknowledged: u64,
    pub block_size: u64,
    /// The client has acknowledged the options, or a block.
    #[serde(default)]
    pub agreed: bool,
    pub retransmits: u32,
    pub milliseconds: u64,
    pub end: End,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    Complete,
    /// By the client, with its text; most firmware asks for the size first and breaks off.
    Aborted(String),
    /// The client went silent.
    Silent,
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    pub method: String,
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<Platform>,
    pub status: u16,
    /// Of the answer's body, taken by the client's system; all of them where `whole`.
    pub bytes: u64,
    pub whole: bool,
    pub agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    pub server: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `chosen`: by a REQUEST of the machine with that server's identifier; otherwise its answer was heard.
    pub chosen: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boots {
    Agent,
    Disk,
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Begun,
    Done,
    Failed(String),
}

/// DHCPv6 servers' (RFC 8415 §7.2).
pub const PORT_V6: u16 = 547;

impl Packet {
    /// It boots from the network: a boot ROM, UEFI HTTP Boot, or iPXE.
    pub fn boots(&self) -> bool {
        self.program != Program::System
    }

    pub fn is_v6(&self) -> bool {
        self.port == PORT_V6
    }

    pub fn is_firmware(&self) -> bool {
        matches!(self.program, Program::Pxe | Program::HttpBoot)
    }

    /// The boot file it was told.
    pub fn file(&self) -> Option<&str> {
        match &self.answer {
            Answer::Offer { boot: Boot::File(file), .. } | Answer::Ack { boot: Boot::File(file), .. } => {
                Some(file)
            }
            _ => None,
        }
    }

    pub fn boot(&self) -> Option<&Boot> {
        match &self.answer {
            Answer::Offer { boot, .. } | Answer::Ack { boot, .. } => Some(boot),
            _ => None,
        }
    }
}

impl Platform {
    pub fn is_uefi(self) -> bool {
        self != Self::Bios
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bios => "x86 BIOS",
            Self::UefiX86 => "x86 UEFI",
            Self::UefiX64 => "x64 UEFI",
            Self::UefiArm32 => "arm32 UEFI",
            Self::UefiArm64 => "arm64 UEFI",
            Self::UefiRiscv64 => "RISC-V 64 UEFI",
            Self::UefiLoong64 => "LoongArch 64 UEFI",
        })
    }
}

impl Sign {
    /// One word for the timeline.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dhcp(packet) if packet.is_v6() => "dhcpv6",
            Self::Dhcp(_) => "dhcp",
            Self::Transfer(_) => "tftp",
            Self::Fetch(_) => "http",
            Self::Foreign(_) => "foreign-server",
            Self::Script { .. } => "script",
            Self::Bmc { .. } => "bmc",
            Self::Agent { .. } => "agent",
            Self::Refused { .. } => "refused",
            Self::Note { .. } => "note",
            Self::Unkept { .. } => "unkept",
        }
    }
}

/// For a person, in one line.
impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dhcp(packet) => packet.fmt(f),
            Self::Transfer(transfer) => transfer.fmt(f),
            Self::Fetch(fetch) => fetch.fmt(f),
            Self::Foreign(foreign) => foreign.fmt(f),
            Self::Script { boots: Boots::Agent } => f.write_str("boot script served: the agent"),
            Self::Script { boots: Boots::Disk } => f.write_str("boot script served: its own disk"),
            Self::Script { boots: Boots::Nothing } => {
                f.write_str("boot script served: nothing for this machine")
            }
            Self::Bmc { what, outcome: Outcome::Begun } => write!(f, "{what} begins"),
            Self::Bmc { what, outcome: Outcome::Done } => write!(f, "{what} done"),
            Self::Bmc { what, outcome: Outcome::Failed(reason) } => write!(f, "{what} failed: {reason}"),
            Self::Agent { what } | Self::Refused { what } | Self::Note { what } => f.write_str(what),
            Self::Unkept { count } => write!(f, "{count} more, faster than they are kept"),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.message, self.who)?;
        if self.port != 67 && !self.is_v6() {
            write!(f, " on port {}", self.port)?;
        }
        if let Some(relay) = self.relay {
            write!(f, " by relay {relay}")?;
        }
        let boot = |boot: &Boot| match boot {
            Boot::File(file) => format!("boot file {file}"),
            Boot::Ask => "it is to ask on port 4011".to_owned(),
            Boot::None => "no boot file".to_owned(),
            Boot::Missing(why) => format!("no boot file: {why}"),
            Boot::Loop => {
                "no boot file: the firmware's iPXE cannot do HTTP and loads itself again and again".to_owned()
            }
        };
        let ip = |ip: &Option<IpAddr>| ip.map_or_else(|| "no address".to_owned(), |ip| ip.to_string());
        match &self.answer {
            Answer::Offer { ip: None, boot: b } | Answer::Ack { ip: None, boot: b } if !self.is_v6() => {
                write!(f, "; told on port {} without an address: {}", self.port, boot(b))
            }
            Answer::Offer { ip: given, boot: b } => {
                let word = if self.is_v6() { "advertised" } else { "offered" };
                write!(f, "; {word} {}, {}", ip(given), boot(b))
            }
            Answer::Ack { ip: given, boot: b } => {
                let word = if self.is_v6() { "replied" } else { "acknowledged" };
                write!(f, "; {word} {}, {}", ip(given), boot(b))
            }
            Answer::Nak { reason } => write!(f, "; refused: {reason}"),
            Answer::Nothing { reason } => write!(f, "; not answered: {reason}"),
            Answer::NoAddress { reason } => write!(f, "; told that there is no address for it: {reason}"),
            Answer::Conflict { ip } => write!(f, "; it found {ip} in use by another host"),
            Answer::Status { status } => write!(f, "; told: {status}"),
        }
    }
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, bytes, acknowledged, block_size, retransmits, milliseconds, .. } = self;
        match &self.end {
            End::Complete => {
                write!(f, "{file}: {bytes} bytes in {milliseconds} ms, {retransmits} sent again")
            }
            End::Aborted(why) => write!(f, "{file}: ended by the client ({why})"),
            End::Silent => write!(
                f,
                "{file}: the client went silent after {acknowledged} of {bytes} bytes (blocks of {block_size}, {retransmits} sent again)"
            ),
            End::Refused(why) => write!(f, "{file}: refused ({why})"),
        }
    }
}

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, status, bytes, whole, agent, .. } = self;
        let cut = if *whole { "" } else { ", broken off by the client" };
        write!(f, "{method} {path}: {status}, {bytes} bytes{cut}")?;
        if agent.is_empty() { Ok(()) } else { write!(f, " ({agent})") }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another DHCP server, {}", self.server)?;
        if let Some(mac) = &self.mac {
            write!(f, " ({mac})")?;
        }
        f.write_str(if self.chosen { ", was chosen by the machine" } else { ", answered the machine" })?;
        match &self.file {
            Some(file) => write!(f, " with boot file {file}"),
            None => Ok(()),
        }
    }
}
