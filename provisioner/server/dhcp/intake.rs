//! PURE. From bytes to a [`Request`], or why not. The guard before dhcproto: it panics on a long `hlen` and stops
//! silently at the first option it does not like, so every option is found here, and one bad option never hides another.

use dhcproto::{
    Decodable, Decoder,
    v4::{self, MessageType},
};
use provisioner_wire::Mac;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// The fixed header and the cookie (RFC 2131 §2).
const HEADER: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// RFC 1542 §4.1.1: more relays than this is a loop.
const HOPS_MAX: u8 = 16;

/// Codes that are looked at in requests.
pub mod code {
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MAX_SIZE: u8 = 57;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const USER_CLASS: u8 = 77;
    pub const RELAY: u8 = 82;
    pub const ARCHITECTURE: u8 = 93;
    pub const UNDI: u8 = 94;
    pub const MACHINE_UUID: u8 = 97;
    pub const IPXE: u8 = 175;
}

/// Why a packet is not a request that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("shorter than a DHCP header")]
    Short,
    #[error("not a request (op is not 1)")]
    NotARequest,
    #[error("no DHCP magic cookie")]
    Cookie,
    #[error("a hardware address longer than its field")]
    HardwareLength,
    #[error("not an Ethernet address")]
    NotEthernet,
    #[error("a MAC that no machine can own")]
    NotUnicast,
    #[error("went through 16 relays or more")]
    Hops,
    #[error("no DHCP message type (plain BOOTP, or the option is broken)")]
    NoMessageType,
    #[error("a message that a server does not get")]
    Message,
    #[error("relay information without a relay")]
    RelayInformation,
}

/// A request, with every option as raw bytes: split ones joined (RFC 3396), overloaded fields read (option 52).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub message: MessageType,
    pub xid: u32,
    pub secs: u16,
    pub flags: u16,
    pub hops: u8,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub mac: Mac,
    options: BTreeMap<u8, Vec<u8>>,
}

impl Request {
    /// Reads one UDP payload.
    pub fn read(packet: &[u8]) -> Result<Self, Malformed> {
        Self::read_on(packet, false)
    }

    /// Reads one UDP payload. `trusts`: relay information is taken from a packet that no relay has passed.
    pub fn read_on(packet: &[u8], trusts: bool) -> Result<Self, Malformed> {
        let header = guard(packet)?;
        let mac = Mac(header.chaddr().try_into().map_err(|_| Malformed::NotEthernet)?);
        if !mac.is_unicast() {
            return Err(Malformed::NotUnicast);
        }
        let options = options(packet);
        let message = match options.get(&code::MESSAGE_TYPE).map(Vec::as_slice) {
            Some([number]) => MessageType::from(*number),
            _ => return Err(Malformed::NoMessageType),
        };
        if !matches!(
            message,
            MessageType::Discover
                | MessageType::Request
                | MessageType::Decline
                | MessageType::Release
                | MessageType::Inform
        ) {
            return Err(Malformed::Message);
        }
        // RFC 3046 §2.1: the relay that put it there also put its address into giaddr.
        if !trusts && header.giaddr().is_unspecified() && options.contains_key(&code::RELAY) {
            return Err(Malformed::RelayInformation);
        }
        Ok(Self {
            message,
            xid: header.xid(),
            secs: header.secs(),
            flags: header.flags().into(),
            hops: header.hops(),
            ciaddr: header.ciaddr(),
            giaddr: header.giaddr(),
            mac,
            options,
        })
    }

    /// The option as it came, its parts joined.
    pub fn raw(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// An option of exactly one IPv4 address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.raw(code)?.try_into().ok()?;
        Some(bytes.into())
    }

    /// An option of exactly one 16-bit number.
    pub fn number(&self, code: u8) -> Option<u16> {
        let bytes: [u8; 2] = self.raw(code)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    pub fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Sub-option 5 of the relay's information: the subnet to take an address of (RFC 3527).
    pub fn link_selection(&self) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = sub_option(self.raw(code::RELAY)?, 5)?.try_into().ok()?;
        Some(bytes.into())
    }

    /// Sub-option 11: the address that the client is to know as its server (RFC 5107), because it passes the relay.
    pub fn server_id_override(&self) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = sub_option(self.raw(code::RELAY)?, 11)?.try_into().ok()?;
        Some(bytes.into())
    }

    /// The message's name in RFC 2131, lower case.
    pub fn message_name(&self) -> &'static str {
        match self.message {
            MessageType::Discover => "discover",
            MessageType::Request => "request",
            MessageType::Decline => "decline",
            MessageType::Release => "release",
            MessageType::Inform => "inform",
            _ => "other",
        }
    }
}

/// The value of sub-option `wanted` inside an encapsulating option (82, 175, 43).
pub fn sub_option(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = bytes;
    while let [code, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        rest = tail.get(usize::from(*length)..)?;
    }
    None
}

/// Checks the header until dhcproto can read it without a panic, and lets it.
fn guard(packet: &[u8]) -> Result<v4::Message, Malformed> {
    let header = packet.get(..HEADER).ok_or(Malformed::Short)?;
    let [op, htype, hlen, hops, ..] = header else { return Err(Malformed::Short) };
    if *op != 1 {
        return Err(Malformed::NotARequest);
    }
    if header.get(236..HEADER) != Some(&COOKIE) {
        return Err(Malformed::Cookie);
    }
    if *hlen > 16 {
        return Err(Malformed::HardwareLength);
    }
    if *htype != 1 || *hlen != 6 {
        return Err(Malformed::NotEthernet);
    }
    if *hops >= HOPS_MAX {
        return Err(Malformed::Hops);
    }
    v4::Message::decode(&mut Decoder::new(header)).map_err(|_| Malformed::Short)
}

/// All options: of the options field, then of `file`, then of `sname` where option 52 says so (RFC 2132 §9.3).
fn options(packet: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found = BTreeMap::new();
    scan(packet.get(HEADER..).unwrap_or_default(), &mut found);
    let overload = match found.get(&code::OVERLOAD).map(Vec::as_slice) {
        Some([bits @ 1..=3]) => *bits,
        _ => 0,
    };
    for (bit, field) in [(1, FILE), (2, SNAME)] {
        if overload & bit != 0 {
            scan(packet.get(field).unwrap_or_default(), &mut found);
        }
    }
    found
}

/// Adds the options of one field. Same codes are joined in the order they come (RFC 3396 §5). A length that runs past
/// the field ends it: what follows cannot be told from data.
fn scan(field: &[u8], into: &mut BTreeMap<u8, Vec<u8>>) {
    let mut rest = field;
    while let [code, tail @ ..] = rest {
        match code {
            0 => rest = tail,
            255 => return,
            code => {
                let [length, tail @ ..] = tail else { return };
                let Some(value) = tail.get(..usize::from(*length)) else { return };
                into.entry(*code).or_default().extend_from_slice(value);
                rest = tail.get(usize::from(*length)..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet of `mac` with these options.
    pub fn packet(mac: [u8; 6], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        bytes[28..34].copy_from_slice(&mac);
        bytes[236..].copy_from_slice(&COOKIE);
        for (code, value) in options {
            bytes.extend_from_slice(&[*code, value.len() as u8]);
            bytes.extend_from_slice(value);
        }
        bytes.push(255);
        bytes
    }

    pub const MAC: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn read(options: &[(u8, &[u8])]) -> Request {
        Request::read(&packet(MAC, options)).unwrap()
    }

    #[test]
    fn headers_that_must_be_refused() {
        let good = packet(MAC, &[(53, &[1])]);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Request::read(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 2), Malformed::NotARequest, "our own answers, looping");
        assert_eq!(with(1, 0), Malformed::NotEthernet);
        assert_eq!(with(2, 17), Malformed::HardwareLength);
        assert_eq!(with(2, 16), Malformed::NotEthernet);
        assert_eq!(with(3, 16), Malformed::Hops);
        assert_eq!(with(236, 0), Malformed::Cookie);
        assert_eq!(with(28, 0x53), Malformed::NotUnicast);
        assert_eq!(with(242, 2), Malformed::Message, "an offer is for clients");
        assert_eq!(Request::read(&good[..239]), Err(Malformed::Short));
        assert_eq!(Request::read(&packet(MAC, &[])), Err(Malformed::NoMessageType));
        assert_eq!(Request::read(&packet(MAC, &[(53, &[])])), Err(Malformed::NoMessageType));
        assert_eq!(
            Request::read(&packet(MAC, &[(53, &[1]), (82, &[1, 0])])),
            Err(Malformed::RelayInformation)
        );
    }

    #[test]
    fn a_bad_option_never_hides_another() {
        // Wrong lengths of 50 and 57, a latin-1 host name, an empty 80: dhcproto stops at each of them.
        let request = read(&[
            (53, &[1]),
            (50, &[1, 2, 3]),
            (57, &[1]),
            (12, &[0xe9]),
            (80, &[1]),
            (94, &[1]),
            (93, &[0, 7]),
        ]);
        assert_eq!(request.address(code::REQUESTED_ADDRESS), None);
        assert_eq!(request.number(code::MAX_SIZE), None);
        assert_eq!(request.raw(code::ARCHITECTURE), Some(&[0, 7][..]));
    }

    #[test]
    fn rfc3396_split_options_are_joined_even_apart() {
        let request = read(&[(53, &[1]), (60, b"PXE"), (12, b"x"), (60, b"Client")]);
        assert_eq!(request.raw(code::VENDOR_CLASS), Some(&b"PXEClient"[..]));
    }

    #[test]
    fn rfc2132_overloaded_fields_are_read_file_first() {
        let mut bytes = packet(MAC, &[(53, &[1]), (52, &[3])]);
        bytes[FILE][..6].copy_from_slice(&[60, 3, b'P', b'X', b'E', 255]);
        bytes[SNAME][..9].copy_from_slice(&[60, 6, b'C', b'l', b'i', b'e', b'n', b't', 255]);
        assert_eq!(Request::read(&bytes).unwrap().raw(60), Some(&b"PXEClient"[..]));
        bytes[HEADER + 5] = 9;
        assert_eq!(Request::read(&bytes).unwrap().raw(60), None, "an overload of 9 means nothing");
    }

    #[test]
    fn an_option_that_runs_past_the_end_ends_the_scan_and_keeps_the_rest() {
        let mut bytes = packet(MAC, &[(53, &[1]), (93, &[0, 7])]);
        bytes.pop();
        bytes.extend_from_slice(&[60, 200, b'P']);
        let request = Request::read(&bytes).unwrap();
        assert_eq!((request.raw(93), request.raw(60)), (Some(&[0, 7][..]), None));
    }

    #[test]
    fn relay_sub_options_are_found() {
        let mut bytes =
            packet(MAC, &[(53, &[1]), (82, &[1, 2, 9, 9, 5, 4, 10, 0, 0, 0, 11, 4, 10, 0, 0, 1])]);
        bytes[24..28].copy_from_slice(&[10, 9, 0, 1]);
        let request = Request::read(&bytes).unwrap();
        assert_eq!(request.link_selection(), Some(Ipv4Addr::new(10, 0, 0, 0)));
        assert_eq!(request.server_id_override(), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(sub_option(&[5, 9, 1], 5), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = Request::read(&bytes);
        }

        #[test]
        fn no_options_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = packet(MAC, &[(53, &[1])]);
            bytes.pop();
            bytes.extend_from_slice(&tail);
            if let Ok(request) = Request::read(&bytes) {
                let _ = (request.link_selection(), request.server_id_override());
            }
        }
    }
}
