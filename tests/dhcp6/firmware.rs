//! Captured DHCPv6 packets of real firmware and the exact answers to them, and every recorded packet replayed.
//! `UPDATE_GOLDEN=1` writes the answers anew; read the difference before you commit it.

use super::house::{Answer, House, INFORMATION, PEER, message};
use crate::dhcp::captures::{all, fixtures, frames};
use provisioner::dhcp::v6::intake::{Request, scan};
use provisioner_wire::ids::hex;
use std::{fmt::Write, fs};

const HTTP_X64: &str = "http://[fd88::1]:8080/boot/files/snponly.efi";
const HTTP_ARM64: &str = "http://[fd88::1]:8080/boot/files/ipxe-arm64.efi";
/// Name of the capture, the boot file.
const FIRMWARE: [(&str, &str); 6] = [
    ("aavmf-arm64.dhcpv6-http", HTTP_ARM64),
    ("aavmf-arm64.dhcpv6-pxe", "tftp://[fd88::1]/ipxe-arm64.efi"),
    ("ovmf-x64-ipxe-rom.dhcpv6-pxe", "tftp://[fd88::1]/snponly.efi"),
    ("ovmf-x64-uuid.dhcpv6-pxe", "tftp://[fd88::1]/snponly.efi"),
    ("ovmf-x64.dhcpv6-http", HTTP_X64),
    ("ovmf-x64.dhcpv6-pxe", "tftp://[fd88::1]/snponly.efi"),
];

fn payload(name: &str) -> Vec<u8> {
    fs::read(fixtures("firmware-captures/payloads").join(format!("{name}.type1.bin"))).unwrap()
}

/// The answer, readable and whole: an option a line, then all bytes.
fn shown(answer: &Answer) -> String {
    let mut text = format!("head {}\n", hex(&answer.0[..4]));
    for (code, value) in scan(&answer.0[4..]).unwrap() {
        let printable = value.len() > 4 && value.iter().all(u8::is_ascii_graphic);
        let value = if printable { String::from_utf8_lossy(value).into_owned() } else { hex(value) };
        writeln!(text, "option {code} {value}").unwrap();
    }
    writeln!(text, "bytes {}", hex(&answer.0)).unwrap();
    text
}

#[tokio::test]
async fn captured_firmware_gets_the_golden_answers() {
    let mut wrong = Vec::new();
    for (name, file) in FIRMWARE {
        let mut house = House::new([]);
        let answer = house.say(&payload(name)).await.unwrap();
        assert_eq!(answer.text(59).as_deref(), Some(file), "{name}");
        assert_eq!(answer.value(16).is_some(), name.ends_with("http"), "{name}");
        let golden = fixtures("golden-dhcp6").join(format!("{name}.txt"));
        let shown = shown(&answer);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(&golden, &shown).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != shown {
            wrong.push(format!("{}:\n{shown}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_byte_order_of_real_firmwares_duid_uuid() {
    let request = Request::read(&payload("ovmf-x64-uuid.dhcpv6-pxe"), PEER).unwrap();
    let client = provisioner::dhcp::v6::client::of(&request);
    assert_eq!(client.uuid.unwrap().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
}

/// Destination port and payload of an Ethernet frame with UDP over IPv6, no extension headers.
fn udp6(frame: &[u8]) -> Option<(u16, &[u8])> {
    let ip = frame.get(14..).filter(|_| frame.get(12..14) == Some(&[0x86, 0xdd]))?;
    let udp = ip.get(40..).filter(|_| ip.get(6) == Some(&17))?;
    Some((u16::from_be_bytes([*udp.get(2)?, *udp.get(3)?]), udp.get(8..)?))
}

#[tokio::test]
async fn every_recorded_packet_is_replayed_without_a_panic() {
    let (mut house, mut read, mut answered) = (House::new([]), 0, 0);
    for file in all() {
        for frame in frames(&file) {
            let payload = udp6(&frame).filter(|(port, _)| *port == 547).map(|(_, payload)| payload);
            // The frame itself, and every tail of it, are bytes from the network, too.
            for bytes in payload.into_iter().chain((0..frame.len().min(100)).map(|n| &frame[n..])) {
                let _ = Request::read(bytes, PEER);
                house.say(bytes).await;
            }
            if let Some(payload) = payload {
                read += usize::from(Request::read(payload, PEER).is_ok());
                answered += usize::from(house.say(payload).await.is_some());
            }
        }
    }
    assert!(read >= 10 && answered >= 5, "{answered} of {read}");
}

#[tokio::test]
async fn mutated_firmware_packets_never_panic() {
    let mut house = House::new([]);
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let payloads = FIRMWARE.map(|(name, _)| payload(name));
    for round in 0..20_000 {
        let mut bytes = payloads[round % payloads.len()].clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(bytes.len() - random() as usize % bytes.len() * usize::from(random() % 3 == 0));
        if random() % 4 == 0 {
            bytes = super::house::relayed(PEER, PEER, &[], &bytes);
        }
        house.say(&bytes).await;
    }
    assert!(house.say(&message(INFORMATION, &[])).await.is_some() && !house.malformed().is_empty());
}
