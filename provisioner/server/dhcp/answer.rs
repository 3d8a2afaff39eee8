//! PURE. The packet that answers: request and decision in, bytes and where to send them out.

use super::{
    bootfile::BootFile,
    intake::{Request, code},
    lease::Decision,
    subnet::Subnet,
};
use dhcproto::{
    Encodable,
    v4::{DhcpOption, DhcpOptions, Flags, Message, MessageType, Opcode, UnknownOption},
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// RFC 951: shorter ones are dropped by old relays and ROMs.
const SIZE_MIN: usize = 300;
/// What every client can take (RFC 2131 §2): 576 bytes less IPv4 and UDP headers.
const SIZE_PLAIN: usize = 548;
/// What an Ethernet frame carries. EDK2 says 65280 in its requests and cannot take it.
const SIZE_MAX: usize = 1472;
/// The `file` field with its closing zero.
const FILE_MAX: usize = 127;
const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

/// What an answer says.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub request: &'a Request,
    pub decision: Decision,
    pub subnet: &'a Subnet,
    /// The server identifier: this server's address, or what the relay wants in its place (RFC 5107).
    pub identifier: Ipv4Addr,
    /// Where TFTP listens.
    pub tftp: Ipv4Addr,
    pub boot: Option<&'a BootFile>,
}

/// A packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub to: SocketAddrV4,
}

impl Answer<'_> {
    /// `None` where the decision is silence.
    pub fn packet(&self) -> Option<Reply> {
        let request = self.request;
        let (kind, given, own) = match self.decision {
            Decision::Offer(ip) => (MessageType::Offer, ip, Ipv4Addr::UNSPECIFIED),
            Decision::Ack(ip) => (MessageType::Ack, ip, request.ciaddr),
            Decision::Inform => (MessageType::Ack, Ipv4Addr::UNSPECIFIED, request.ciaddr),
            Decision::Nak(_) => (MessageType::Nak, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED),
            Decision::Silent(_) | Decision::Conflict(_) => return None,
        };
        let nak = kind == MessageType::Nak;
        let boot = self.boot.filter(|_| !nak);
        let next = if boot.is_some() { self.tftp } else { Ipv4Addr::UNSPECIFIED };
        let mut message = Message::new_with_id(request.xid, own, given, next, request.giaddr, &request.mac.0);
        // RFC 2131 §4.3.2: a relay must broadcast a NAK, because the client's address is wrong.
        let flags =
            if nak && !request.giaddr.is_unspecified() { request.flags | 0x8000 } else { request.flags };
        message.set_opcode(Opcode::BootReply).set_flags(Flags::new(flags));
        if let Some(boot) = boot.filter(|b| b.file.len() <= FILE_MAX) {
            // U-Boot reads only this field, iPXE and UEFI only option 67.
            message.set_fname(boot.file.as_bytes());
        }
        message.set_opts(self.options(kind, boot));
        Some(Reply { bytes: self.encode(message)?, to: self.destination(nak) })
    }

    /// RFC 2131 §4.1. A client without an address and without the broadcast flag wants unicast to an address that it
    /// cannot yet answer ARP for: it gets a broadcast, which it hears as well.
    fn destination(&self, nak: bool) -> SocketAddrV4 {
        let Request { giaddr, ciaddr, .. } = self.request;
        if !giaddr.is_unspecified() {
            SocketAddrV4::new(*giaddr, SERVER_PORT)
        } else if !ciaddr.is_unspecified() && !nak {
            SocketAddrV4::new(*ciaddr, CLIENT_PORT)
        } else {
            SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
        }
    }

    fn options(&self, kind: MessageType, boot: Option<&BootFile>) -> DhcpOptions {
        let mut options = DhcpOptions::new();
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ServerIdentifier(self.identifier));
        // RFC 6842 §3: also in a NAK.
        if let Some(id) = self.request.raw(code::CLIENT_ID).filter(|id| !id.is_empty()) {
            options.insert(DhcpOption::ClientIdentifier(id.to_vec()));
        }
        if let Decision::Nak(reason) = self.decision {
            options.insert(DhcpOption::Message(reason.to_owned()));
            return options;
        }
        if self.decision != Decision::Inform {
            self.lease_times(&mut options);
        }
        self.network(&mut options);
        if let Some(boot) = boot {
            self.boot(boot, &mut options);
        }
        options
    }

    /// RFC 2131 §4.4.5: T1 at a half, T2 at seven eighths.
    fn lease_times(&self, options: &mut DhcpOptions) {
        let lease = u32::try_from(self.subnet.lease.as_secs()).unwrap_or(u32::MAX);
        options.insert(DhcpOption::AddressLeaseTime(lease));
        options.insert(DhcpOption::Renewal(lease / 2));
        options.insert(DhcpOption::Rebinding(lease - lease / 8));
    }

    fn network(&self, options: &mut DhcpOptions) {
        let network = self.subnet.network;
        options.insert(DhcpOption::SubnetMask(network.netmask()));
        options.insert(DhcpOption::BroadcastAddr(network.broadcast()));
        if let Some(router) = self.subnet.router {
            options.insert(DhcpOption::Router(vec![router]));
        }
        if !self.subnet.dns.is_empty() {
            options.insert(DhcpOption::DomainNameServer(self.subnet.dns.clone()));
        }
    }

    fn boot(&self, boot: &BootFile, options: &mut DhcpOptions) {
        let mut raw = |code: u8, value: &[u8]| {
            options.insert(DhcpOption::Unknown(UnknownOption::new(code.into(), value.to_vec())));
        };
        if boot.skip_discovery {
            raw(43, &[6, 1, 8, 255]);
        }
        if boot.no_proxy {
            raw(code::IPXE, &[176, 1, 1]);
        }
        // RFC 4578 §2.3: echoed, where it is one.
        if let Some(uuid) = self.request.raw(code::MACHINE_UUID).filter(|u| u.len() == 17) {
            raw(code::MACHINE_UUID, uuid);
        }
        if let Some(class) = boot.class {
            options.insert(DhcpOption::ClassIdentifier(class.as_bytes().to_vec()));
        }
        if !boot.file.contains("://") {
            options.insert(DhcpOption::TFTPServerName(self.tftp.to_string().into_bytes()));
        }
        options.insert(DhcpOption::BootfileName(boot.file.clone().into_bytes()));
    }

    fn encode(&self, mut message: Message) -> Option<Vec<u8>> {
        let relay = self.request.raw(code::RELAY);
        let room = self.request.number(code::MAX_SIZE).map_or(SIZE_PLAIN, usize::from);
        // The client's number counts IPv4 and UDP headers, too; one below the minimum is a mistake.
        let room = room.saturating_sub(28).clamp(SIZE_PLAIN, SIZE_MAX);
        let mut bytes = with_relay(message.to_vec().ok()?, relay);
        if bytes.len() > room {
            // Said twice or seldom wanted: the server is in siaddr, the broadcast follows from the mask.
            for code in [66u8, 28] {
                message.opts_mut().remove(code.into());
            }
            bytes = with_relay(message.to_vec().ok()?, relay);
        }
        if bytes.len() < SIZE_MIN {
            bytes.resize(SIZE_MIN, 0);
        }
        Some(bytes)
    }
}

/// RFC 3046 §2.2: the relay's information comes back byte for byte, and last. dhcproto would sort its sub-options.
fn with_relay(mut bytes: Vec<u8>, relay: Option<&[u8]>) -> Vec<u8> {
    let Some(relay) = relay.filter(|r| !r.is_empty()) else { return bytes };
    if bytes.last() == Some(&255) {
        bytes.pop();
    }
    for part in relay.chunks(255) {
        bytes.push(code::RELAY);
        bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(part);
    }
    bytes.push(255);
    bytes
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
