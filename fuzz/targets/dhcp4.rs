//! DHCPv4 from any UDP payload to the whole answer.

use super::ready;
use provisioner::{
    dhcp::{
        Directory, Heard, Hearing, JournalError, LeaseJournal, LeaseRecord, Who,
        bootfile::Serving,
        config::SubnetConfig,
        intake::{Malformed, Request, code},
        server::Server,
        subnet::Subnet,
    },
    machine::Time,
};
use provisioner_wire::Mac;
use std::{collections::HashSet, net::Ipv4Addr, sync::Arc};

const NOW: Time = Time(1_700_000_000_000);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
/// What an Ethernet frame carries.
const ANSWER_MAX: usize = 1472;
const HEADER: usize = 240;

struct House;

impl Directory for House {
    async fn who(&self, mac: Mac) -> Who {
        // Every fourth machine is declared, so that any input meets both kinds.
        let known = mac.0[5].is_multiple_of(4);
        let name = "node-1".parse().ok().filter(|_| known);
        name.map_or(Who::Unknown { netboot: true }, |name| Who::Known {
            name,
            address: Some(Ipv4Addr::new(10, 88, 0, 7)),
            netboot: true,
        })
    }

    async fn reserved(&self) -> Arc<HashSet<Ipv4Addr>> {
        Arc::new(HashSet::from([Ipv4Addr::new(10, 88, 0, 7)]))
    }
}

impl LeaseJournal for House {
    async fn commit(&self, _: &[LeaseRecord]) -> Result<(), JournalError> {
        Ok(())
    }
}

impl Hearing for House {
    fn heard(&self, heard: Heard) {
        // What goes into a timeline and onto a terminal is one line of text.
        assert!(!heard.line().contains(char::is_control), "{:?}", heard.line());
    }

    fn malformed(&self, _: Malformed) {}
}

fn server() -> Server<House, House, House> {
    let near = SubnetConfig {
        pools: vec![[Ipv4Addr::new(10, 88, 0, 100), Ipv4Addr::new(10, 88, 0, 109)]],
        router: Some(Ipv4Addr::new(10, 88, 0, 254)),
        ..SubnetConfig::of("10.88.0.0/24".parse().unwrap())
    };
    let far = SubnetConfig {
        pools: vec![[Ipv4Addr::new(10, 99, 0, 10), Ipv4Addr::new(10, 99, 0, 11)]],
        ..SubnetConfig::of("10.99.0.0/16".parse().unwrap())
    };
    let files = ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"];
    let serving = Serving {
        server: SERVER,
        http: "http://10.88.0.1:8080".to_owned(),
        files: files.into_iter().map(str::to_owned).collect(),
    };
    let house = Arc::new(House);
    Server::new(Subnet::all(&[near, far]).unwrap(), serving, &[], house.clone(), house.clone(), house)
}

/// The bytes as they are, and as the options of a good header: else few inputs would come past the header. Each twice, so
/// that the second meets the lease of the first.
pub fn run(data: &[u8]) {
    let mut server = server();
    let under_a_good_header = [&good_header(data)[..], data].concat();
    for packet in [data, data, &under_a_good_header, &under_a_good_header] {
        let replies = ready(server.answer(&[packet.to_vec()], NOW));
        assert!(replies.len() <= 1, "one packet, {} answers", replies.len());
        let request = Request::read(packet);
        for reply in replies {
            check(&reply.bytes, request.as_ref().expect("an answer to what is no request"));
        }
    }
}

/// Everything else of it is taken from the data, too.
fn good_header(data: &[u8]) -> Vec<u8> {
    let byte = |n: usize| data.get(data.len().wrapping_sub(n + 1)).copied().unwrap_or_default();
    let mut header = vec![0; HEADER];
    header[..4].copy_from_slice(&[1, 1, 6, byte(0) % 16]);
    header[10] = byte(1);
    header[12..16].copy_from_slice(&[10 * (byte(2) % 2), 88, 0, byte(3)]);
    header[24..28].copy_from_slice(&[10 * (byte(4) % 2), 99, 0, byte(5)]);
    header[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, byte(6)]);
    header[236..].copy_from_slice(&[99, 130, 83, 99]);
    header
}

fn check(answer: &[u8], request: &Request) {
    assert!((300..=ANSWER_MAX).contains(&answer.len()), "{} bytes", answer.len());
    assert_eq!(answer[0], 2);
    assert_eq!(answer[4..8], request.xid.to_be_bytes());
    assert_eq!(answer[28..34], request.mac.0);
    let options = options(answer).expect("the answer's own options cannot be read");
    assert!(options.iter().any(|(code, _)| *code == code::MESSAGE_TYPE), "an answer without its type");
    if let Some(relay) = request.raw(code::RELAY).filter(|r| !r.is_empty()) {
        let mut echoed = Vec::new();
        for (_, part) in options.iter().filter(|(code, _)| *code == code::RELAY) {
            echoed.extend_from_slice(part);
        }
        // RFC 3046 §2.2 lets a server leave it out where there is no room, but never change it.
        assert!(echoed.is_empty() || echoed == relay, "the relay's information was changed");
        let last = options.last().map(|(code, _)| *code);
        assert!(echoed.is_empty() || last == Some(code::RELAY), "the relay's information is not last");
    }
}

/// Every option of the answer; none where a length runs out of it or there is no end.
fn options(answer: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let (mut rest, mut found) = (answer.get(HEADER..)?, Vec::new());
    loop {
        match rest {
            [255, ..] => return Some(found),
            [0, tail @ ..] => rest = tail,
            [code, length, tail @ ..] => {
                found.push((*code, tail.get(..usize::from(*length))?));
                rest = tail.get(usize::from(*length)..)?;
            }
            _ => return None,
        }
    }
}
