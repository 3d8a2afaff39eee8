//! PURE. Who asks over IPv6: the same firmware and programs as over IPv4, told by other options, and the traces of its
//! identity that a message carries.

use super::intake::{Request, code, pieces};
use crate::dhcp::client::{Architecture, Client, Program, in_class_text};
use provisioner_wire::Mac;
use std::net::Ipv6Addr;
use uuid::Uuid;

/// The number of Intel at IANA: the vendor class of PXE and of UEFI HTTP Boot stands under it (UEFI 2.10 §24.3.3).
pub const INTEL: u32 = 343;
const ETHERNET: u16 = 1;

/// The program and platform that sent `request`.
pub fn of(request: &Request) -> Client {
    let class = vendor_class(request);
    let user = pieces(request.raw(code::USER_CLASS).unwrap_or_default());
    let program = if user.contains(&&b"provisioner"[..]) {
        Program::Ipxe { ours: true, http: true }
    } else if user.contains(&&b"iPXE"[..]) {
        // It has no list of features here; an iPXE that can do IPv6 and not HTTP is not built by anyone.
        Program::Ipxe { ours: false, http: true }
    } else if class.starts_with(b"PXEClient") {
        Program::Pxe
    } else if class.starts_with(b"HTTPClient") {
        Program::Http
    } else {
        Program::System
    };
    let ipxe = matches!(program, Program::Ipxe { .. });
    Client {
        program,
        architectures: architectures(request, class),
        uuid: duid_uuid(request.duid()).map(|[network, smbios]| if ipxe { network } else { smbios }),
        vendor_class: class.iter().take(64).map(|c| printable(*c)).collect(),
    }
}

/// The first piece of option 16, whoever's number is before it: EDK2 and iPXE say 343, others 0.
fn vendor_class(request: &Request) -> &[u8] {
    let after_number = request.raw(code::VENDOR_CLASS).and_then(|value| value.get(4..));
    after_number.map(pieces).and_then(|pieces| pieces.first().copied()).unwrap_or_default()
}

fn architectures(request: &Request, class: &[u8]) -> Vec<Architecture> {
    let (pairs, _) = request.raw(code::ARCHITECTURE).unwrap_or_default().as_chunks::<2>();
    let listed: Vec<_> = pairs.iter().map(|pair| Architecture(u16::from_be_bytes(*pair))).collect();
    if listed.is_empty() { in_class_text(class).into_iter().collect() } else { listed }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
}

/// What a message shows of the machine and interface that sent it. Nothing of it is proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// The interface on the client's link: as its relay saw it (RFC 6939), else in its link-local address (EUI-64).
    pub link: Option<Mac>,
    /// The MAC inside the client identifier: of some interface of the machine, or of the one its disk was cloned from.
    pub duid: Option<Mac>,
    /// A client identifier made of the SMBIOS UUID, read both ways: EDK2 writes SMBIOS byte order, iPXE network order.
    pub uuids: Vec<Uuid>,
}

impl Traces {
    pub fn of(request: &Request) -> Self {
        let relayed = request.relays.last().and_then(|relay| ethernet(relay.link_layer.as_deref()?));
        Self {
            link: relayed.or_else(|| eui64(request.peer)),
            duid: duid_mac(request.duid()),
            uuids: duid_uuid(request.duid()).into_iter().flatten().collect(),
        }
    }
}

/// A hardware type and an address: of Ethernet, and one that a machine can own.
fn ethernet(bytes: &[u8]) -> Option<Mac> {
    let (kind, mac) = bytes.split_first_chunk::<2>()?;
    let mac = Mac(mac.try_into().ok()?);
    (u16::from_be_bytes(*kind) == ETHERNET && mac.is_unicast()).then_some(mac)
}

/// The MAC in a link-local address (RFC 4291 appendix A, backwards). Addresses made at random (RFC 7217, RFC 8981) do not look like it.
pub fn eui64(address: Ipv6Addr) -> Option<Mac> {
    let octets = address.octets();
    let [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] = octets else { return None };
    let mac = Mac([a ^ 2, b, c, d, e, f]);
    mac.is_unicast().then_some(mac)
}

/// DUID-LLT and DUID-LL (RFC 8415 §11.2, §11.4).
fn duid_mac(duid: &[u8]) -> Option<Mac> {
    match duid {
        [0, 1, k0, k1, _, _, _, _, mac @ ..] | [0, 3, k0, k1, mac @ ..] => {
            ethernet(&[&[*k0, *k1], mac].concat())
        }
        _ => None,
    }
}

/// DUID-UUID (RFC 6355): in network order, and as SMBIOS stores it. `None` also where it says nothing.
fn duid_uuid(duid: &[u8]) -> Option<[Uuid; 2]> {
    let [0, 4, uuid @ ..] = duid else { return None };
    let bytes: [u8; 16] = uuid.try_into().ok()?;
    let says_something = bytes != [0; 16] && bytes != [0xff; 16];
    says_something.then(|| [Uuid::from_bytes(bytes), Uuid::from_bytes_le(bytes)])
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
