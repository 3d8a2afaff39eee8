//! PURE. The bytes of an answer: header, options, relay information (RFC 2131 §2).

use super::{
    intake::{Request, code},
    options::{OptionList, split},
};
use std::net::Ipv4Addr;

/// RFC 951: shorter ones are dropped by old relays and ROMs.
const SIZE_MIN: usize = 300;
/// What every client can take (RFC 2131 §2): 576 bytes less IPv4 and UDP headers.
const SIZE_PLAIN: usize = 548;
/// What an Ethernet frame carries. EDK2 says 65280 in its requests and cannot take it.
const SIZE_MAX: usize = 1472;
/// The `file` field with its closing zero.
const FILE_MAX: usize = 127;
const FILE: usize = 108;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const END: u8 = 255;

/// Without these a client takes no address or boots nothing; what else does not fit is left out.
const NEEDED: [u8; 13] = [1, 3, 6, 43, 51, 53, 54, 56, 60, 61, 67, 97, 175];

/// The header's fields that are not echoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub flags: u16,
    /// Left empty where it is too long for the field.
    pub file: &'a str,
}

/// The whole UDP payload.
pub fn bytes(request: &Request, header: &Header<'_>, options: OptionList) -> Vec<u8> {
    let mut options = options.in_order_of(request.raw(code::PARAMETERS).unwrap_or_default());
    let relay = request.raw(code::RELAY).map(|relay| split(code::RELAY, relay)).unwrap_or_default();
    // The client's number counts IPv4 and UDP headers, too; one below the minimum is a mistake.
    let room = request.number(code::MAX_SIZE).map_or(SIZE_PLAIN, usize::from);
    let room = room.saturating_sub(28).clamp(SIZE_PLAIN, SIZE_MAX);
    let mut packet = head(request, header);
    let fits = |list: &OptionList| packet.len() + list.bytes().len() + relay.len() < room;
    while !fits(&options) && options.drop_last(&NEEDED) {}
    packet.extend(options.bytes());
    // RFC 3046 §2.2: the relay's information comes back byte for byte, and last.
    packet.extend(relay);
    packet.push(END);
    if packet.len() < SIZE_MIN {
        packet.resize(SIZE_MIN, 0);
    }
    packet
}

fn head(request: &Request, header: &Header<'_>) -> Vec<u8> {
    let mut packet = vec![2, 1, 6, 0];
    packet.extend(request.xid.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(header.flags.to_be_bytes());
    for address in [header.ciaddr, header.yiaddr, header.siaddr, request.giaddr] {
        packet.extend(address.octets());
    }
    packet.extend(request.mac.0);
    packet.resize(FILE, 0);
    if header.file.len() <= FILE_MAX {
        // U-Boot reads only this field, iPXE and UEFI only option 67.
        packet.extend(header.file.bytes());
    }
    packet.resize(FILE + FILE_MAX + 1, 0);
    packet.extend(COOKIE);
    packet
}
