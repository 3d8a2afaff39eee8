//! DHCPv6 from any UDP payload to the whole answer.

use super::ready;
use provisioner::{
    dhcp::{
        Directory, JournalError, Who,
        v6::{
            self, Heard, Hearing, LeaseJournal, LeaseRecord,
            config::Dhcp6Config,
            intake::scan,
            server::{Packet, Server, Serving6},
            subnet::Served,
        },
    },
    machine::Time,
};
use provisioner_wire::Mac;
use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    sync::Arc,
};
use uuid::Uuid;

const NOW: Time = Time(1_700_000_000_000);
const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1);
const PEER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe01, 0x0203);
const RESERVED: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 7);
/// What an Ethernet frame carries of a UDP payload over IPv6, and the envelopes that relays may add.
const ANSWER_MAX: usize = 4096;
const RELAY_REPLY: u8 = 13;
const CONFIG: &str = "interface = \"s0\"\n[[subnets]]\nnetwork = \"fd88::/64\"\npool = [\"fd88::100\", \"fd88::103\"]\n\
    dns = [\"fd88::1\"]\n";

struct House;

impl Directory for House {
    async fn who(&self, mac: Mac) -> Who {
        let name = "node-1".parse().ok().filter(|_| mac.0[5].is_multiple_of(4));
        name.map_or(Who::Unknown { netboot: true }, |name| Who::Known { name, address: None, netboot: true })
    }

    async fn reserved(&self) -> Arc<HashSet<Ipv4Addr>> {
        Arc::default()
    }
}

impl v6::Directory for House {
    async fn by_uuid(&self, uuid: Uuid) -> Option<Mac> {
        uuid.as_bytes()[0].is_multiple_of(2).then_some(Mac([0x52, 0x54, 0, 1, 2, 4]))
    }

    async fn reservation(&self, mac: Mac) -> Option<Ipv6Addr> {
        mac.0[5].is_multiple_of(4).then_some(RESERVED)
    }

    async fn reserved6(&self) -> Arc<HashSet<Ipv6Addr>> {
        Arc::new(HashSet::from([RESERVED]))
    }
}

impl LeaseJournal for House {
    async fn commit(&self, _: &[LeaseRecord]) -> Result<(), JournalError> {
        Ok(())
    }
}

impl Hearing for House {
    fn heard6(&self, heard: Heard) {
        assert!(!heard.line().contains(char::is_control), "{:?}", heard.line());
    }

    fn malformed6(&self, _: &(dyn std::error::Error + Send + Sync)) {}
}

fn server() -> Server<House, House, House> {
    let config: Dhcp6Config = toml::from_str(CONFIG).unwrap();
    let serving = Serving6 {
        duid: vec![0, 4, 0xaa, 0xbb, 0xcc, 0xdd],
        address: SERVER,
        http: "http://[fd88::1]:8080".to_owned(),
        files: ["snponly.efi", "ipxe-arm64.efi"].into_iter().map(str::to_owned).collect(),
    };
    let house = Arc::new(House);
    Server::new(Served::new(0, &config).unwrap(), serving, &[], house.clone(), house.clone(), house)
}

/// The bytes as they are, as the options of a SOLICIT, and as those of a REQUEST to this server. Each twice, so that the
/// second meets the lease of the first.
pub fn run(data: &[u8]) {
    let mut server = server();
    let client = [0, 1, 0, 10, 0, 3, 0, 1, 0x52, 0x54, 0, 1, 2, data.last().copied().unwrap_or_default()];
    let solicit = [&[1, 1, 2, 3][..], &client, data].concat();
    let request = [&[3, 1, 2, 3][..], &client, &[0, 2, 0, 6, 0, 4, 0xaa, 0xbb, 0xcc, 0xdd], data].concat();
    for bytes in [data, data, &solicit, &solicit, &request, &request] {
        for unicast in [false, true] {
            let from = SocketAddrV6::new(PEER, 546, 0, 2);
            let replies = ready(server.answer(&[Packet { bytes: bytes.to_vec(), from, unicast }], NOW));
            assert!(replies.len() <= 1, "one packet, {} answers", replies.len());
            replies.iter().for_each(|reply| check(&reply.bytes));
        }
    }
}

fn check(answer: &[u8]) {
    assert!(answer.len() <= ANSWER_MAX, "{} bytes", answer.len());
    let head = if answer[0] == RELAY_REPLY { 34 } else { 4 };
    assert!(scan(&answer[head..]).is_ok(), "the answer's own options cannot be read");
}
