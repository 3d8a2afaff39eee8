//! PURE. The packet that answers: request and decision in, bytes and where to send them out.

use super::{
    bootfile::{BootFile, Lead},
    intake::{Request, code},
    lease::Decision,
    options::{OptionList, OptionSet, addresses, is_wanted},
    packet::{self, Header},
    quirks,
    subnet::Subnet,
};
use dhcproto::v4::MessageType;
use provisioner_wire::MachineName;
use std::net::{Ipv4Addr, SocketAddrV4};

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
    /// Option 12, for who asks for it.
    pub name: Option<&'a MachineName>,
    /// Options of the machine itself: before the subnet's.
    pub own: &'a OptionSet,
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
        let (kind, yiaddr, ciaddr) = match self.decision {
            Decision::Offer(ip) => (MessageType::Offer, ip, Ipv4Addr::UNSPECIFIED),
            Decision::Ack(ip) => (MessageType::Ack, ip, request.ciaddr),
            Decision::Inform => (MessageType::Ack, Ipv4Addr::UNSPECIFIED, request.ciaddr),
            Decision::Nak(_) => (MessageType::Nak, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED),
            Decision::Silent(_) | Decision::Conflict(_) => return None,
        };
        let nak = kind == MessageType::Nak;
        let boot = self.boot.filter(|_| !nak);
        // RFC 2131 §4.3.2: a relay must broadcast a NAK, because the client's address is wrong.
        let flags =
            if nak && !request.giaddr.is_unspecified() { request.flags | 0x8000 } else { request.flags };
        let siaddr = if boot.is_some() { self.tftp } else { Ipv4Addr::UNSPECIFIED };
        let file = boot.filter(|b| b.lead != Lead::Ask).map_or("", |b| b.file.as_str());
        let header = Header { ciaddr, yiaddr, siaddr, flags, file };
        let bytes = packet::bytes(request, &header, self.options(kind, boot));
        Some(Reply { bytes, to: self.destination(nak) })
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

    fn options(&self, kind: MessageType, boot: Option<&BootFile>) -> OptionList {
        let mut options = exchange(self.request, kind, self.identifier);
        if let Decision::Nak(reason) = self.decision {
            options.put(56, reason);
            return options;
        }
        if self.decision != Decision::Inform {
            self.lease_times(&mut options);
        }
        self.network(&mut options);
        if let Some(boot) = boot {
            boot_options(boot, self.request, self.tftp, &mut options);
        }
        options
    }

    /// RFC 2131 §4.4.5: T1 at a half, T2 at seven eighths.
    fn lease_times(&self, options: &mut OptionList) {
        let lease = u32::try_from(self.subnet.lease.as_secs()).unwrap_or(u32::MAX);
        options.put(51, lease.to_be_bytes());
        options.put(58, (lease / 2).to_be_bytes());
        options.put(59, (lease - lease / 8).to_be_bytes());
    }

    /// The subnet's word, then what is declared for the machine, each where it is wanted.
    fn network(&self, options: &mut OptionList) {
        let network = self.subnet.network;
        options.put(1, network.netmask().octets());
        options.put(3, addresses(self.subnet.router.as_slice()));
        options.put(6, addresses(&self.subnet.dns));
        let listed = self.request.raw(code::PARAMETERS);
        let name = self.name.map(|name| (12, name.to_string().into_bytes()));
        let declared = self.subnet.options.iter().chain(self.own).map(|(code, value)| (*code, value.clone()));
        for (code, value) in name.into_iter().chain(declared).filter(|(code, _)| is_wanted(*code, listed)) {
            options.put(code, value);
        }
        // What follows from the mask comes last, where it is the first to give way.
        options.put(28, network.broadcast().octets());
    }
}

/// The options that every answer has.
pub(super) fn exchange(request: &Request, kind: MessageType, identifier: Ipv4Addr) -> OptionList {
    let mut options = OptionList::default();
    options.put(code::MESSAGE_TYPE, [u8::from(kind)]);
    options.put(code::SERVER_ID, identifier.octets());
    // RFC 6842 §3: also in a NAK.
    options.put(code::CLIENT_ID, request.raw(code::CLIENT_ID).unwrap_or_default());
    options
}

/// The boot part of an answer.
pub(super) fn boot_options(boot: &BootFile, request: &Request, tftp: Ipv4Addr, options: &mut OptionList) {
    options.put(quirks::VENDOR, boot.lead.vendor_options());
    if boot.no_proxy {
        options.put(code::IPXE, [176, 1, 1]);
    }
    // RFC 4578 §2.3: echoed, where it is one.
    options.put(
        code::MACHINE_UUID,
        request.raw(code::MACHINE_UUID).filter(|u| u.len() == 17).unwrap_or_default(),
    );
    options.put(code::VENDOR_CLASS, boot.class.unwrap_or_default());
    if boot.lead == Lead::Ask {
        return;
    }
    options.put(67, boot.file.as_str());
    if !boot.file.contains("://") {
        options.put(66, tftp.to_string());
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
