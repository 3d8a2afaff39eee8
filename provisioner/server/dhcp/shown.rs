//! PURE. A packet for a person: header fields, then every option in the order it stands, with its name and its value.

use provisioner_wire::{ids::hex, report::clean_to};
use std::net::Ipv4Addr;

const HEADER: usize = 240;
/// Characters of one value.
const VALUE_MAX: usize = 300;

/// One header field or option. `code` is the field's name or the option's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub code: String,
    pub name: &'static str,
    pub value: String,
    pub bytes: Vec<u8>,
}

/// Everything a packet says. What is cut off in the middle ends the list.
pub fn shown(packet: &[u8]) -> Vec<Shown> {
    let mut all = Vec::new();
    for (code, name, range, how) in FIELDS {
        let Some(bytes) = packet.get(range.clone()) else { return all };
        let value = how(bytes);
        let says = bytes.iter().any(|byte| *byte != 0);
        if says {
            all.push(Shown { code: (*code).to_owned(), name, value, bytes: trimmed(bytes).to_vec() });
        }
    }
    let mut rest = packet.get(HEADER..).unwrap_or_default();
    while let [code, tail @ ..] = rest {
        match code {
            0 => rest = tail,
            255 => break,
            code => {
                let [length, tail @ ..] = tail else { break };
                let Some(bytes) = tail.get(..usize::from(*length)) else { break };
                let (name, how) = option(*code);
                all.push(Shown { code: code.to_string(), name, value: how(bytes), bytes: bytes.to_vec() });
                rest = tail.get(usize::from(*length)..).unwrap_or_default();
            }
        }
    }
    all
}

type How = fn(&[u8]) -> String;

const FIELDS: &[(&str, &str, std::ops::Range<usize>, How)] = &[
    ("xid", "transaction", 4..8, hex),
    ("secs", "seconds since the client began", 8..10, number),
    ("flags", "0x8000: broadcast", 10..12, hex),
    ("ciaddr", "the client's own address", 12..16, addresses),
    ("yiaddr", "the address given", 16..20, addresses),
    ("siaddr", "next server", 20..24, addresses),
    ("giaddr", "relay", 24..28, addresses),
    ("chaddr", "hardware address", 28..34, mac),
    ("sname", "server name", 44..108, text),
    ("file", "boot file", 108..236, text),
];

/// Name and way of writing of an option.
fn option(code: u8) -> (&'static str, How) {
    match code {
        1 => ("subnet mask", addresses),
        3 => ("routers", addresses),
        6 => ("name servers", addresses),
        7 => ("log servers", addresses),
        12 => ("host name", text),
        15 => ("domain", text),
        26 => ("MTU", number),
        28 => ("broadcast address", addresses),
        42 => ("NTP servers", addresses),
        43 => ("vendor options", hex),
        50 => ("requested address", addresses),
        51 => ("lease time, s", number),
        52 => ("overload", number),
        53 => ("message", message),
        54 => ("server identifier", addresses),
        55 => ("parameters wanted", list),
        56 => ("message text", text),
        57 => ("largest packet", number),
        58 => ("renewal time, s", number),
        59 => ("rebinding time, s", number),
        60 => ("vendor class", text),
        61 => ("client identifier", hex),
        66 => ("TFTP server", text),
        67 => ("boot file", text),
        77 => ("user class", text),
        82 => ("relay information", hex),
        93 => ("architecture", number),
        94 => ("network interface", hex),
        97 => ("machine UUID", hex),
        108 => ("IPv6 only, s", number),
        119 => ("search domains", hex),
        121 => ("routes", hex),
        175 => ("iPXE", hex),
        _ => ("option", hex),
    }
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    if bytes.len() < 60 {
        return bytes;
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    bytes.get(..end).unwrap_or(bytes)
}

fn text(bytes: &[u8]) -> String {
    clean_to(String::from_utf8_lossy(bytes).trim_end_matches('\0'), VALUE_MAX)
}

fn number(bytes: &[u8]) -> String {
    if bytes.is_empty() || bytes.len() > 4 {
        return hex(bytes);
    }
    bytes.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte)).to_string()
}

fn addresses(bytes: &[u8]) -> String {
    let (addresses, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || addresses.is_empty() {
        return hex(bytes);
    }
    addresses.iter().map(|a| Ipv4Addr::from(*a).to_string()).collect::<Vec<_>>().join(", ")
}

fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn list(bytes: &[u8]) -> String {
    bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")
}

fn message(bytes: &[u8]) -> String {
    let name = match bytes {
        [1] => "discover",
        [2] => "offer",
        [3] => "request",
        [4] => "decline",
        [5] => "ack",
        [6] => "nak",
        [7] => "release",
        [8] => "inform",
        other => return hex(other),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{super::intake::tests::packet, *};
    use proptest::prelude::*;

    #[test]
    fn every_option_is_named_in_its_order() {
        let bytes = packet(
            [0x52, 0x54, 0, 1, 2, 3],
            &[(53, &[2]), (54, &[10, 88, 0, 1]), (51, &[0, 0, 14, 16]), (67, b"a.efi\x1b"), (224, &[1])],
        );
        let all: Vec<_> =
            shown(&bytes).into_iter().map(|s| format!("{} {}={}", s.code, s.name, s.value)).collect();
        assert_eq!(
            all,
            [
                "xid transaction=deadbeef",
                "chaddr hardware address=52:54:00:01:02:03",
                "53 message=offer",
                "54 server identifier=10.88.0.1",
                "51 lease time, s=3600",
                "67 boot file=a.efi",
                "224 option=01",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = shown(&bytes);
        }
    }
}
