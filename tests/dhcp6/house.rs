//! A DHCPv6 server in memory: declared machines, a journal that can fail, and ears; and messages by hand.

use provisioner::{
    dhcp::{
        Directory, JournalError, Who,
        v6::{
            self, Heard, Hearing, LeaseJournal, LeaseRecord,
            answer::Reply,
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
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use uuid::Uuid;

pub const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1);
pub const NOW: Time = Time(1_700_000_000_000);
pub const DUID: &[u8] = &[0, 4, 0xaa, 0xbb, 0xcc, 0xdd];
pub const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
/// The link-local address of [`MAC`].
pub const PEER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe01, 0x0203);
/// The identifier of [`MAC`].
pub const CLIENT_ID: &[u8] = &[0, 3, 0, 1, 0x52, 0x54, 0, 1, 2, 3];

pub fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, last)
}

/// A machine that boots, with its name, reservation and UUID.
#[derive(Clone)]
pub struct Declared {
    pub name: &'static str,
    pub address: Option<Ipv6Addr>,
    pub uuid: Option<Uuid>,
}

/// Machines by MAC; any other is unknown and may boot (discovery on).
#[derive(Default)]
pub struct Machines(pub HashMap<Mac, Declared>);

impl Directory for Machines {
    async fn who(&self, mac: Mac) -> Who {
        match self.0.get(&mac) {
            Some(d) => Who::Known { name: d.name.parse().unwrap(), address: None, netboot: true },
            None => Who::Unknown { netboot: true },
        }
    }

    async fn reserved(&self) -> Arc<HashSet<Ipv4Addr>> {
        Arc::default()
    }
}

impl v6::Directory for Machines {
    async fn by_uuid(&self, uuid: Uuid) -> Option<Mac> {
        self.0.iter().find(|(_, d)| d.uuid == Some(uuid)).map(|(mac, _)| *mac)
    }

    async fn reservation(&self, mac: Mac) -> Option<Ipv6Addr> {
        self.0.get(&mac)?.address
    }

    async fn reserved6(&self) -> Arc<HashSet<Ipv6Addr>> {
        Arc::new(self.0.values().filter_map(|d| d.address).collect())
    }
}

#[derive(Default)]
pub struct Journal {
    pub records: Mutex<Vec<LeaseRecord>>,
    pub broken: AtomicBool,
}

impl LeaseJournal for Journal {
    async fn commit(&self, records: &[LeaseRecord]) -> Result<(), JournalError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(JournalError("the disk is full".to_owned()));
        }
        self.records.lock().unwrap().extend_from_slice(records);
        Ok(())
    }
}

#[derive(Default)]
pub struct Ear {
    pub heard: Mutex<Vec<Heard>>,
    pub malformed: Mutex<Vec<String>>,
}

impl Hearing for Ear {
    fn heard6(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
    }

    fn malformed6(&self, why: &(dyn std::error::Error + Send + Sync)) {
        self.malformed.lock().unwrap().push(why.to_string());
    }
}

pub struct House {
    pub server: Server<Machines, Journal, Ear>,
    pub journal: Arc<Journal>,
    pub ear: Arc<Ear>,
}

pub const STATEFUL: &str = "interface = \"s0\"\n[[subnets]]\nnetwork = \"fd88::/64\"\n\
    pool = [\"fd88::100\", \"fd88::1ff\"]\ndns = [\"fd88::1\"]\n[[subnets]]\nnetwork = \"fd99::/64\"\n\
    pool = [\"fd99::100\", \"fd99::1ff\"]\n";
pub const STATELESS: &str = "interface = \"s0\"\nmode = \"stateless\"\naddress = \"fd88::1\"\n";

pub fn served(config: &str) -> Served {
    Served::new(0, &toml::from_str::<Dhcp6Config>(config).unwrap()).unwrap()
}

pub fn serving() -> Serving6 {
    let files = ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"];
    Serving6 {
        duid: DUID.to_vec(),
        address: SERVER,
        http: "http://[fd88::1]:8080".to_owned(),
        files: files.into_iter().map(str::to_owned).collect(),
    }
}

impl House {
    pub fn new(machines: impl IntoIterator<Item = (Mac, Declared)>) -> Self {
        Self::with(STATEFUL, machines, &[])
    }

    pub fn with(
        config: &str,
        machines: impl IntoIterator<Item = (Mac, Declared)>,
        kept: &[LeaseRecord],
    ) -> Self {
        let directory = Arc::new(Machines(machines.into_iter().collect()));
        let (journal, ear) = (Arc::new(Journal::default()), Arc::new(Ear::default()));
        let server = Server::new(served(config), serving(), kept, directory, journal.clone(), ear.clone());
        Self { server, journal, ear }
    }

    pub async fn send(&mut self, bytes: &[u8], from: Ipv6Addr, unicast: bool) -> Option<Reply> {
        let packet = Packet { bytes: bytes.to_vec(), from: SocketAddrV6::new(from, 546, 0, 2), unicast };
        let replies = self.server.answer(&[packet], NOW).await;
        assert!(replies.len() <= 1);
        replies.into_iter().next()
    }

    /// By multicast, of the machine at [`PEER`].
    pub async fn say(&mut self, bytes: &[u8]) -> Option<Answer> {
        self.send(bytes, PEER, false).await.map(|reply| Answer(reply.bytes))
    }

    pub fn malformed(&self) -> Vec<String> {
        self.ear.malformed.lock().unwrap().clone()
    }

    pub fn last_heard(&self) -> String {
        self.ear.heard.lock().unwrap().last().unwrap().line()
    }
}

pub const SOLICIT: u8 = 1;
pub const ADVERTISE: u8 = 2;
pub const REQUEST: u8 = 3;
pub const CONFIRM: u8 = 4;
pub const RENEW: u8 = 5;
pub const REBIND: u8 = 6;
pub const REPLY: u8 = 7;
pub const RELEASE: u8 = 8;
pub const DECLINE: u8 = 9;
pub const INFORMATION: u8 = 11;

/// One option.
pub fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

/// A message of type `kind`.
pub fn message(kind: u8, options: &[Vec<u8>]) -> Vec<u8> {
    [&[kind, 1, 2, 3][..], &options.concat()].concat()
}

pub fn client_id() -> Vec<u8> {
    option(1, CLIENT_ID)
}

pub fn server_id() -> Vec<u8> {
    option(2, DUID)
}

/// An IA_NA with these addresses.
pub fn ia(addresses: &[Ipv6Addr]) -> Vec<u8> {
    let inside = addresses.iter().map(|ip| option(5, &[&ip.octets()[..], &[0; 8]].concat()));
    option(3, &[&[0, 0, 0, 7][..], &[0; 8], &inside.collect::<Vec<_>>().concat()].concat())
}

/// Vendor class, architecture and what is asked for, as EDK2 sends them.
pub fn uefi(class: &str, architecture: u16) -> Vec<u8> {
    let text = format!("{class}:Arch:{architecture:05}:UNDI:003000");
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    let class = option(16, &[&343u32.to_be_bytes()[..], &length, text.as_bytes()].concat());
    [option(6, &[0, 59, 0, 60, 0, 23]), option(61, &architecture.to_be_bytes()), class].concat()
}

/// A relay's envelope.
pub fn relayed(link: Ipv6Addr, peer: Ipv6Addr, more: &[Vec<u8>], inner: &[u8]) -> Vec<u8> {
    let header = [&[12, 0][..], &link.octets(), &peer.octets()].concat();
    [header, more.concat(), option(9, inner)].concat()
}

/// An answer to a client.
pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn kind(&self) -> u8 {
        self.0[0]
    }

    pub fn value(&self, code: u16) -> Option<&[u8]> {
        scan(&self.0[4..]).unwrap().into_iter().find(|(c, _)| *c == code).map(|(_, value)| value)
    }

    pub fn text(&self, code: u16) -> Option<String> {
        self.value(code).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// Status of the whole answer.
    pub fn status(&self) -> Option<u16> {
        self.value(13).map(|v| u16::from_be_bytes([v[0], v[1]]))
    }

    /// Each address of the first IA_NA with its valid lifetime.
    pub fn addresses(&self) -> Vec<(Ipv6Addr, u32)> {
        let inside = self.value(3).and_then(|value| value.get(12..)).unwrap_or_default();
        let addresses = scan(inside).unwrap().into_iter().filter(|(code, _)| *code == 5);
        let read = |value: &[u8]| {
            let octets: [u8; 16] = value[..16].try_into().unwrap();
            (Ipv6Addr::from(octets), u32::from_be_bytes(value[20..24].try_into().unwrap()))
        };
        addresses.map(|(_, value)| read(value)).collect()
    }

    pub fn address(&self) -> Option<Ipv6Addr> {
        self.addresses().into_iter().find(|(_, valid)| *valid > 0).map(|(ip, _)| ip)
    }

    /// Status inside the first IA_NA.
    pub fn ia_status(&self) -> Option<u16> {
        let inside = self.value(3)?.get(12..)?;
        let found = scan(inside).unwrap().into_iter().find(|(code, _)| *code == 13);
        found.map(|(_, v)| u16::from_be_bytes([v[0], v[1]]))
    }
}

/// SOLICIT, ADVERTISE, REQUEST, REPLY: the address.
pub async fn lease(house: &mut House) -> Ipv6Addr {
    let offered = house.say(&message(SOLICIT, &[client_id(), ia(&[])])).await.unwrap();
    assert_eq!(offered.kind(), ADVERTISE);
    let wish = offered.address().unwrap();
    let bound = house.say(&message(REQUEST, &[client_id(), server_id(), ia(&[wish])])).await.unwrap();
    assert_eq!(bound.kind(), REPLY);
    bound.address().unwrap()
}
