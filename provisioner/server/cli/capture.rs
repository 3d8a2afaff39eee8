//! DHCP requests out of a capture file (pcap or pcapng, Ethernet, IPv4).

use pcap_file::{
    DataLink, PcapError,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};
use provisioner_wire::ids::hex;
use serde::Serialize;
use std::{fs::File, io::Read, net::Ipv4Addr, path::Path};

/// The first bytes of a pcapng file: a section header block.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// A capture is read whole.
const FILE_MAX: u64 = 64 << 20;

/// One request, as the API takes it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Captured {
    port: u16,
    from: Ipv4Addr,
    /// The UDP payload, hexadecimal.
    bytes: String,
}

/// Every packet to port 67 or 4011 in the file, in its order.
pub fn requests(file: &Path) -> Result<Vec<Captured>, String> {
    let wrong = |what: String| format!("{}: {what}", file.display());
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|e| wrong(e.to_string()))?;
    opened.take(FILE_MAX).read_to_end(&mut bytes).map_err(|e| wrong(e.to_string()))?;
    let frames = frames(&bytes).map_err(|e| wrong(e.to_string()))?;
    let found: Vec<_> = frames.iter().filter_map(|frame| request(frame)).collect();
    if found.is_empty() {
        return Err(wrong(format!("none of its {} Ethernet frames is a DHCP request", frames.len())));
    }
    Ok(found)
}

fn frames(bytes: &[u8]) -> Result<Vec<Vec<u8>>, PcapError> {
    let mut frames = Vec::new();
    if !bytes.starts_with(&PCAPNG) {
        let mut reader = PcapReader::new(bytes)?;
        if reader.header().datalink != DataLink::ETHERNET {
            return Ok(frames);
        }
        while let Some(packet) = reader.next_packet() {
            match packet {
                Ok(packet) => frames.push(packet.data.into_owned()),
                // A capture that was cut off is good up to there.
                Err(PcapError::IncompleteBuffer) => break,
                Err(error) => return Err(error),
            }
        }
        return Ok(frames);
    }
    let mut reader = PcapNgReader::new(bytes)?;
    while let Some(block) = reader.next_block() {
        match block {
            Ok(Block::EnhancedPacket(packet)) => frames.push(packet.data.into_owned()),
            Ok(Block::SimplePacket(packet)) => frames.push(packet.data.into_owned()),
            Ok(_) => {}
            Err(PcapError::IncompleteBuffer) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(frames)
}

/// Ethernet, any VLAN tags, IPv4, UDP.
fn request(frame: &[u8]) -> Option<Captured> {
    let mut rest = frame.get(12..)?;
    while let [0x81, 0x00, _, _, tail @ ..] | [0x88, 0xa8, _, _, tail @ ..] = rest {
        rest = tail;
    }
    let [0x08, 0x00, packet @ ..] = rest else { return None };
    let [version, ..] = packet else { return None };
    let header = usize::from(version & 0x0f) * 4;
    if version >> 4 != 4 || header < 20 || packet.get(9) != Some(&17) {
        return None;
    }
    let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let udp = packet.get(header..)?;
    let number = |at: usize| Some(u16::from_be_bytes(udp.get(at..at + 2)?.try_into().ok()?));
    let (port, length) = (number(2)?, usize::from(number(4)?));
    let payload = udp.get(8..length.min(udp.len()))?;
    // Answers of a server to a relay go to port 67, too.
    let asks = matches!(port, 67 | 4011) && payload.first() == Some(&1);
    asks.then(|| Captured { port, from: from.into(), bytes: hex(payload) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixtures() -> Vec<std::path::PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "pcap" || e == "pcapng" || e == "cap") {
                    found.push(path);
                }
            }
        }
        found
    }

    #[test]
    fn every_capture_is_read_or_refused_with_its_name() {
        let (mut read, mut refused) = (0, 0);
        for file in fixtures() {
            match requests(&file) {
                Ok(found) => {
                    assert!(found.iter().all(|one| one.bytes.len() >= 2 && one.bytes.starts_with("01")));
                    read += 1;
                }
                Err(what) => {
                    assert!(what.starts_with(&file.display().to_string()), "{what}");
                    refused += 1;
                }
            }
        }
        assert!(read >= 5, "{read} read, {refused} refused");
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for length in 0..64 {
            let _ = request(&vec![0x45; length]);
            let _ = frames(&vec![0x0a; length]);
        }
        let file = fixtures().into_iter().find(|f| requests(f).is_ok()).unwrap();
        let bytes = std::fs::read(file).unwrap();
        for length in (0..bytes.len()).step_by(7) {
            let _ = frames(&bytes[..length]);
        }
    }
}
