//! PURE. DHCP and proxyDHCP servers that are not this one: what their answers say, and the question that brings them
//! out. [`super::watch`] has the sockets.

use super::intake::sub_option;
use crate::machine::Time;
use provisioner_wire::{Mac, report::clean};
use serde::{Deserialize, Deserializer, de::Error};
use std::{fmt, net::Ipv4Addr};

const CLIENT_PORT: u16 = 68;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Header of DHCP with its cookie.
const HEADER: usize = 240;
const TEXT_MAX: usize = 127;

/// `[dhcp.watch]`: looking for other DHCP servers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Between two questions that bring other servers out; 0 asks none and only listens.
    pub probe_seconds: u32,
    /// A server that was heard blocks unattended wipes for so long after it was heard last; 0 never blocks.
    pub block_minutes: u32,
    /// Servers that belong here: in proxy mode the site's own.
    pub allow: Vec<Friend>,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { probe_seconds: 300, block_minutes: 15, allow: Vec::new() }
    }
}

impl WatchConfig {
    /// Of several interfaces: who is allowed on one is allowed, and the longest block counts.
    pub fn joined<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let none = Self { probe_seconds: 0, block_minutes: 0, allow: Vec::new() };
        all.fold(none, |mut sum, one| {
            sum.block_minutes = sum.block_minutes.max(one.block_minutes);
            sum.allow.extend_from_slice(&one.allow);
            sum
        })
    }
}

/// A server that is allowed, by its address or by its MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Friend {
    Address(Ipv4Addr),
    Mac(Mac),
}

impl<'de> Deserialize<'de> for Friend {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let address = text.parse().map(Self::Address).ok();
        let friend = address.or_else(|| text.parse().map(Self::Mac).ok());
        friend
            .ok_or_else(|| D::Error::custom(format!("{text:?} is neither an IPv4 address nor a MAC address")))
    }
}

/// What a server gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Addresses.
    Dhcp,
    /// Boot files beside another server's addresses.
    Proxy,
    /// Not known: only a choice of it was heard.
    Unknown,
}

/// How it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It answered a machine.
    Answer,
    /// It answered our question.
    Probe,
    /// A machine has chosen it (option 54 of a REQUEST).
    Request,
}

/// One sign of another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub at: Time,
    pub server: Ipv4Addr,
    /// Who sent the frame: the server, or the relay before it.
    pub mac: Option<Mac>,
    pub kind: Kind,
    pub boot_file: Option<String>,
    /// Whom it answered.
    pub client: Mac,
    pub how: How,
}

impl Foreign {
    /// Whether the configuration knows it as one that belongs here.
    pub fn is_allowed(&self, allow: &[Friend]) -> bool {
        allow.iter().any(|friend| match friend {
            Friend::Address(address) => *address == self.server,
            Friend::Mac(mac) => Some(*mac) == self.mac,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dhcp => "dhcp",
            Self::Proxy => "proxy",
            Self::Unknown => "unknown",
        })
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "answer",
            Self::Probe => "probe",
            Self::Request => "request",
        })
    }
}

/// An answer of any DHCP server in an Ethernet frame to a client's port. `None`: something else, or broken.
pub fn read_frame(frame: &[u8], probe: Mac, at: Time) -> Option<Foreign> {
    let source = Mac(frame.get(6..12)?.try_into().ok()?);
    let (ethertype, packet) = frame.get(12..)?.split_first_chunk::<2>()?;
    if *ethertype != [0x08, 0x00] {
        return None;
    }
    let [version, ..] = packet else { return None };
    let header = usize::from(version & 0x0f) * 4;
    if version >> 4 != 4 || header < 20 || packet.get(9) != Some(&17) {
        return None;
    }
    // A later fragment has no UDP header; an answer of DHCP has no need of fragments.
    let fragment = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?);
    if fragment & 0x3fff != 0 {
        return None;
    }
    let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let udp = packet.get(header..)?;
    let port = u16::from_be_bytes(udp.get(2..4)?.try_into().ok()?);
    if port != CLIENT_PORT {
        return None;
    }
    let length = usize::from(u16::from_be_bytes(udp.get(4..6)?.try_into().ok()?));
    let payload = udp.get(8..length.min(udp.len()))?;
    let answer = read_answer(payload)?;
    Some(Foreign {
        at,
        server: answer.server.unwrap_or(from.into()),
        mac: Some(source),
        kind: answer.kind,
        boot_file: answer.boot_file,
        client: answer.client,
        how: if answer.client == probe { How::Probe } else { How::Answer },
    })
}

struct Answer {
    server: Option<Ipv4Addr>,
    kind: Kind,
    boot_file: Option<String>,
    client: Mac,
}

fn read_answer(payload: &[u8]) -> Option<Answer> {
    let [2, 1, 6, ..] = payload else { return None };
    if payload.get(236..HEADER)? != COOKIE {
        return None;
    }
    let options = payload.get(HEADER..)?;
    let option = |code| sub_option(without_pads(options), code);
    // OFFER, ACK, NAK.
    if !matches!(option(53), Some([2 | 5 | 6])) {
        return None;
    }
    let given: [u8; 4] = payload.get(16..20)?.try_into().ok()?;
    let proxy = given == [0; 4] && option(60).is_some_and(|class| class.starts_with(b"PXEClient"));
    let server: Option<[u8; 4]> = option(54).and_then(|ip| ip.try_into().ok());
    let field = payload.get(108..236).and_then(|f| f.split(|byte| *byte == 0).next());
    let file = option(67).filter(|f| !f.is_empty()).or(field.filter(|f| !f.is_empty()));
    let text = |bytes: &[u8]| clean(&String::from_utf8_lossy(bytes.get(..TEXT_MAX).unwrap_or(bytes)));
    Some(Answer {
        server: server.map(Ipv4Addr::from),
        kind: if proxy { Kind::Proxy } else { Kind::Dhcp },
        boot_file: file.map(text).filter(|f| !f.is_empty()),
        client: Mac(payload.get(28..34)?.try_into().ok()?),
    })
}

/// Options without the zeros before the first one; inside they are rare, and then the rest is not read.
fn without_pads(options: &[u8]) -> &[u8] {
    let pads = options.iter().take_while(|byte| **byte == 0).count();
    options.get(pads..).unwrap_or_default()
}

/// A DISCOVER that every DHCP and proxyDHCP server answers: it looks like an x64 UEFI ROM. It asks for the answer by
/// broadcast, so that it is heard without an address, and nothing is ever requested.
pub fn probe(mac: Mac, xid: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    let mut put = |at: usize, what: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + what.len()) {
            place.copy_from_slice(what);
        }
    };
    put(0, &[1, 1, 6, 0]);
    put(4, &xid.to_be_bytes());
    put(10, &[0x80, 0]);
    put(28, &mac.0);
    put(236, &COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        bytes.extend_from_slice(&[code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        bytes.extend_from_slice(value);
    };
    option(53, &[1]);
    option(55, &[1, 3, 43, 54, 60, 66, 67, 97]);
    option(57, &[0x05, 0xc0]);
    option(60, b"PXEClient:Arch:00007:UNDI:003016");
    option(77, b"provisioner-probe");
    option(93, &[0, 7]);
    option(94, &[1, 3, 16]);
    let mut uuid = [0; 17];
    if let Some(place) = uuid.get_mut(11..) {
        place.copy_from_slice(&mac.0);
    }
    option(97, &uuid);
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// One instruction of the kernel's packet filter: code, jump if true, jump if false, operand.
pub type Instruction = (u16, u8, u8, u32);

/// Lets IPv4 UDP to port 68 pass that came in on the interface with this index: nothing else wakes the watch, however
/// much is served.
pub fn filter(interface: u32) -> [Instruction; 12] {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const EQUAL: u16 = 0x15;
    const ANY_BIT: u16 = 0x45;
    const HEADER_LENGTH: u16 = 0xb1;
    const LOAD_HALF_AFTER: u16 = 0x48;
    const RETURN: u16 = 0x06;
    // SKF_AD_OFF + SKF_AD_IFINDEX of linux/filter.h.
    const INTERFACE: u32 = 0xffff_f008;
    [
        (LOAD_WORD, 0, 0, INTERFACE),
        (EQUAL, 0, 9, interface),
        (LOAD_HALF, 0, 0, 12),
        (EQUAL, 0, 7, 0x0800),
        (LOAD_BYTE, 0, 0, 23),
        (EQUAL, 0, 5, 17),
        (LOAD_HALF, 0, 0, 20),
        (ANY_BIT, 3, 0, 0x1fff),
        (HEADER_LENGTH, 0, 0, 14),
        (LOAD_HALF_AFTER, 0, 0, 16),
        (EQUAL, 0, 0, 68),
        (RETURN, 0, 0, 0xffff),
    ]
}

#[cfg(test)]
mod tests {
    use super::{super::intake::Request, *};
    use proptest::prelude::*;

    const PROBE: Mac = Mac([2, 1, 2, 3, 4, 5]);
    const EVIL: Mac = Mac([0x52, 0x54, 0, 0x66, 0x66, 0x66]);

    fn answer(kind: u8, given: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut dhcp = vec![0; HEADER];
        dhcp[..4].copy_from_slice(&[2, 1, 6, 0]);
        dhcp[16..20].copy_from_slice(&given);
        dhcp[28..34].copy_from_slice(&PROBE.0);
        dhcp[236..].copy_from_slice(&COOKIE);
        dhcp.extend_from_slice(&[53, 1, kind]);
        for (code, value) in options {
            dhcp.extend_from_slice(&[*code, value.len() as u8]);
            dhcp.extend_from_slice(value);
        }
        dhcp.push(255);
        let udp_length = (dhcp.len() as u16 + 8).to_be_bytes();
        let udp = [&[0, 67, 0, 68][..], &udp_length, &[0, 0], &dhcp].concat();
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 88, 0, 66, 255, 255, 255, 255];
        ip.extend_from_slice(&udp);
        [&[0xff; 6][..], &EVIL.0, &[8, 0], &ip].concat()
    }

    #[test]
    fn answers_of_others_are_read() {
        let id: (u8, &[u8]) = (54, &[10, 88, 0, 67]);
        let class: (u8, &[u8]) = (60, b"PXEClient");
        let file: (u8, &[u8]) = (67, b"evil.efi");
        for (kind, given, options, server, is, boot) in [
            (2, [10, 88, 0, 99], &[id, file][..], [10, 88, 0, 67], Kind::Dhcp, Some("evil.efi")),
            (2, [0; 4], &[id, class, file], [10, 88, 0, 67], Kind::Proxy, Some("evil.efi")),
            (5, [10, 88, 0, 99], &[], [10, 88, 0, 66], Kind::Dhcp, None),
            (6, [0; 4], &[id], [10, 88, 0, 67], Kind::Dhcp, None),
        ] {
            let seen = read_frame(&answer(kind, given, options), PROBE, Time(1)).unwrap();
            assert_eq!((seen.server, seen.kind), (Ipv4Addr::from(server), is));
            assert_eq!((seen.boot_file.as_deref(), seen.mac, seen.how), (boot, Some(EVIL), How::Probe));
            assert_eq!(read_frame(&answer(kind, given, options), EVIL, Time(1)).unwrap().how, How::Answer);
        }
        assert_eq!(
            read_frame(&answer(1, [0; 4], &[id]), PROBE, Time(1)),
            None,
            "a DISCOVER is nobody's answer"
        );
        let good = answer(2, [10, 88, 0, 99], &[id]);
        for (at, byte) in [(12, 0x86), (14, 0x65), (23, 6), (36, 1), (42, 1), (21, 3)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(read_frame(&bad, PROBE, Time(1)), None, "{at}");
        }
        for length in 0..good.len() - 5 {
            assert!(read_frame(&good[..length], PROBE, Time(1)).is_none_or(|f| f.kind == Kind::Dhcp));
        }
    }

    #[test]
    fn the_probe_is_a_request_of_a_boot_rom() {
        let request = Request::read(&probe(PROBE, 7)).unwrap();
        assert_eq!((request.mac, request.xid, request.wants_broadcast()), (PROBE, 7, true));
        let client = super::super::client::Client::of(&request);
        assert_eq!(client.program, super::super::client::Program::Pxe);
        assert!(client.uuid.is_some());
    }

    #[test]
    fn friends_are_known_by_address_or_mac() {
        let config: WatchConfig = toml::from_str("allow = [\"10.88.0.67\", \"52:54:00:77:77:77\"]").unwrap();
        assert_eq!((config.probe_seconds, config.block_minutes), (300, 15));
        let seen = read_frame(&answer(2, [0; 4], &[(54, &[10, 88, 0, 67])]), PROBE, Time(1)).unwrap();
        assert!(seen.is_allowed(&config.allow));
        let other = Foreign { server: Ipv4Addr::LOCALHOST, ..seen };
        assert!(!other.is_allowed(&config.allow));
        assert!(
            Foreign { mac: Some(Mac([0x52, 0x54, 0, 0x77, 0x77, 0x77])), ..other }.is_allowed(&config.allow)
        );
        let error = toml::from_str::<WatchConfig>("allow = [\"router\"]").unwrap_err().to_string();
        assert!(error.contains("\"router\" is neither"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_frame(&bytes, PROBE, Time(0));
            let mut frame = answer(2, [1; 4], &[]);
            frame.truncate(frame.len() - 1);
            frame.extend_from_slice(&bytes);
            let _ = read_frame(&frame, PROBE, Time(0));
        }
    }
}
