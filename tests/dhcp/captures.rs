//! Reads the recorded networks in `tests/fixtures`: pcap and pcapng, as far as they are needed, and never trusting a
//! length. And replays all of them: no recorded packet makes a decoder panic.

use super::house::House;
use provisioner::{dhcp::intake::Request, tftp::request::Asked};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder)
}

/// The frames of one file.
pub fn frames(file: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    match bytes.get(..4) {
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(&bytes),
        Some([0xa1, 0xb2, _, _]) => pcap(&bytes, u32::from_be_bytes),
        Some([_, _, 0xb2, 0xa1]) => pcap(&bytes, u32::from_le_bytes),
        _ => panic!("{}: not a capture", file.display()),
    }
}

fn word(bytes: &[u8], at: usize, read: fn([u8; 4]) -> u32) -> Option<usize> {
    Some(read(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn pcap(bytes: &[u8], read: fn([u8; 4]) -> u32) -> Vec<Vec<u8>> {
    let (mut at, mut found) = (24, Vec::new());
    while let Some(frame) = word(bytes, at + 8, read).and_then(|n| bytes.get(at + 16..at + 16 + n)) {
        found.push(frame.to_vec());
        at += 16 + frame.len();
    }
    found
}

fn pcapng(bytes: &[u8]) -> Vec<Vec<u8>> {
    let little = bytes.get(8..12) == Some(&[0x4d, 0x3c, 0x2b, 0x1a]);
    let read = if little { u32::from_le_bytes } else { u32::from_be_bytes };
    let (mut at, mut found) = (0, Vec::new());
    while let (Some(kind), Some(length)) = (word(bytes, at, read), word(bytes, at + 4, read)) {
        let frame = word(bytes, at + 20, read).and_then(|n| bytes.get(at + 28..at + 28 + n));
        if let (6, Some(frame)) = (kind, frame) {
            found.push(frame.to_vec());
        }
        at += length.max(12);
    }
    found
}

/// Destination port and payload of an Ethernet frame with UDP over IPv4.
pub fn udp(frame: &[u8]) -> Option<(u16, &[u8])> {
    let ip = frame.get(14..).filter(|_| frame.get(12..14) == Some(&[8, 0]))?;
    let header = usize::from(ip.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let udp = ip.get(header..total.min(ip.len())).filter(|_| ip.get(9) == Some(&17))?;
    Some((u16::from_be_bytes([*udp.get(2)?, *udp.get(3)?]), udp.get(8..)?))
}

/// Every capture of every folder.
pub fn all() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let folders = ["firmware-captures", "firmware-captures-2", "pcap-netboot", "pcap-tcpdump", "pcap-zeek"];
    let mut open: Vec<_> = folders.iter().map(|f| fixtures(f)).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "pcap" || e == "pcapng") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn every_recorded_packet_is_replayed_without_a_panic() {
    let (mut house, mut requests, mut frames_seen) = (House::new([]), 0, 0);
    let files = all();
    for file in &files {
        for frame in frames(file) {
            frames_seen += 1;
            let payload = udp(&frame).map(|(_, payload)| payload.to_vec());
            // The frame itself, and every tail of it, are bytes from the network, too.
            for bytes in
                payload.iter().map(Vec::as_slice).chain((0..frame.len().min(80)).map(|n| &frame[n..]))
            {
                requests += usize::from(Request::read(bytes).is_ok());
                let _ = Asked::read(bytes);
            }
            if let Some(payload) = payload {
                house.say(&payload).await;
            }
        }
    }
    assert!(files.len() > 50 && frames_seen > 1000 && requests > 200, "{requests} of {frames_seen}");
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
    let folder = fixtures("firmware-captures/payloads");
    let payloads: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    for round in 0..30_000 {
        let mut bytes = payloads[round % payloads.len()].clone();
        for _ in 0..=random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(bytes.len() - random() as usize % bytes.len() * usize::from(random() % 3 == 0));
        house.say(&bytes).await;
        let _ = Asked::read(&bytes);
    }
}

fn zeek(file: &str) -> Vec<Vec<u8>> {
    let frames = frames(&fixtures("pcap-zeek/testing/btest/Traces/dhcp").join(file));
    frames.iter().filter_map(|f| udp(f)).filter(|(port, _)| *port == 67).map(|(_, p)| p.to_vec()).collect()
}

#[tokio::test]
async fn a_bad_cookie_is_counted_and_the_good_packets_around_it_are_answered() {
    use provisioner::dhcp::intake::Malformed;
    let mut house = House::new([]);
    let mut answers = 0;
    for payload in zeek("dhcp_bad_cookie_option_retention.pcap") {
        answers += usize::from(house.say(&payload).await.is_some());
    }
    assert!(house.ear.malformed.lock().unwrap().contains(&Malformed::Cookie));
    assert!(answers > 0);
}

#[test]
fn a_client_id_of_hardware_type_0_is_an_opaque_text() {
    let requests: Vec<_> = zeek("hw-type0.pcap").iter().filter_map(|p| Request::read(p).ok()).collect();
    assert!(requests.iter().any(|r| r.raw(61).is_some_and(|id| id.starts_with(b"\0cisco-"))));
}
