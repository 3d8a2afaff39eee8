//! A DHCP server in memory: declared machines, a journal that can fail, and ears.

use provisioner::{
    dhcp::{
        Directory, Heard, Hearing, JournalError, LeaseJournal, LeaseRecord, Who, boot_server::BootServer,
        bootfile::Serving, config::Mode, config::SubnetConfig, intake::Malformed, server::Server,
        subnet::Subnet,
    },
    machine::Time,
};
use provisioner_wire::Mac;
use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, atomic::AtomicBool, atomic::Ordering},
};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
pub const NOW: Time = Time(1_700_000_000_000);

/// Machines by MAC; any other is unknown and may boot (discovery on).
#[derive(Default)]
pub struct Declared(pub HashMap<Mac, Who>);

impl Directory for Declared {
    async fn who(&self, mac: Mac) -> Who {
        self.0.get(&mac).cloned().unwrap_or(Who::Unknown { netboot: true })
    }

    async fn reserved(&self) -> Arc<HashSet<Ipv4Addr>> {
        Arc::new(self.0.values().filter_map(Who::reservation).collect())
    }
}

#[derive(Default)]
pub struct Journal {
    pub records: Mutex<Vec<LeaseRecord>>,
    pub broken: AtomicBool,
    pub commits: Mutex<usize>,
}

impl LeaseJournal for Journal {
    async fn commit(&self, records: &[LeaseRecord]) -> Result<(), JournalError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(JournalError("the disk is full".to_owned()));
        }
        self.records.lock().unwrap().extend_from_slice(records);
        *self.commits.lock().unwrap() += 1;
        Ok(())
    }
}

#[derive(Default)]
pub struct Ear {
    pub heard: Mutex<Vec<Heard>>,
    pub malformed: Mutex<Vec<Malformed>>,
}

impl Hearing for Ear {
    fn heard(&self, heard: Heard) {
        self.heard.lock().unwrap().push(heard);
    }

    fn malformed(&self, why: Malformed) {
        self.malformed.lock().unwrap().push(why);
    }
}

pub struct House {
    pub server: Server<Declared, Journal, Ear>,
    pub boot_server: BootServer<Declared, Ear>,
    pub journal: Arc<Journal>,
    pub ear: Arc<Ear>,
}

pub fn serving() -> Serving {
    let files = ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"];
    Serving {
        server: SERVER,
        http: "http://10.88.0.1:8080".to_owned(),
        files: files.into_iter().map(str::to_owned).collect(),
    }
}

pub fn subnets() -> Vec<Subnet> {
    let subnet = |network: &str, pool| SubnetConfig {
        pools: vec![pool],
        ..SubnetConfig::of(network.parse().unwrap())
    };
    let near = subnet("10.88.0.0/24", [Ipv4Addr::new(10, 88, 0, 100), Ipv4Addr::new(10, 88, 0, 199)]);
    let far = subnet("10.99.0.0/16", [Ipv4Addr::new(10, 99, 1, 0), Ipv4Addr::new(10, 99, 200, 255)]);
    Subnet::all(&[near, far]).unwrap()
}

impl House {
    pub fn new(machines: impl IntoIterator<Item = (Mac, Who)>) -> Self {
        Self::with(machines, &[])
    }

    /// With what the journal of an earlier house kept.
    pub fn with(machines: impl IntoIterator<Item = (Mac, Who)>, kept: &[LeaseRecord]) -> Self {
        Self::of(Declared(machines.into_iter().collect()), subnets(), kept)
    }

    /// All its subnets in one mode.
    pub fn in_mode(mode: Mode, machines: impl IntoIterator<Item = (Mac, Who)>) -> Self {
        let subnets = subnets().into_iter().map(|subnet| Subnet { mode, ..subnet }).collect();
        Self::of(Declared(machines.into_iter().collect()), subnets, &[])
    }

    pub fn of(declared: Declared, subnets: Vec<Subnet>, kept: &[LeaseRecord]) -> Self {
        let (directory, journal, ear) =
            (Arc::new(declared), Arc::<Journal>::default(), Arc::<Ear>::default());
        let boot_server = BootServer::new(subnets.clone(), serving(), directory.clone(), ear.clone());
        let server = Server::new(subnets, serving(), kept, directory, journal.clone(), ear.clone());
        Self { server, boot_server, journal, ear }
    }

    /// Port 4011.
    pub async fn ask(&self, packet: &[u8], peer: SocketAddrV4) -> Option<Vec<u8>> {
        let reply = self.boot_server.answer(packet, peer, NOW).await?;
        assert_eq!(reply.to, peer);
        Some(reply.bytes)
    }

    /// What was said last.
    pub fn said(&self) -> String {
        self.ear.heard.lock().unwrap().last().unwrap().said.to_string()
    }

    pub async fn say(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let replies = self.server.answer(&[packet.to_vec()], NOW).await;
        assert!(replies.len() <= 1);
        replies.into_iter().next().map(|r| r.bytes)
    }
}

/// A request of `mac` with these options.
pub fn packet(mac: Mac, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 240];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&mac.0[2..]);
    bytes[28..34].copy_from_slice(&mac.0);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    for (code, value) in options {
        bytes.extend_from_slice(&[*code, value.len() as u8]);
        bytes.extend_from_slice(value);
    }
    bytes.push(255);
    bytes
}

/// The value of one option of an answer.
pub fn option(answer: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = answer.get(240..)?;
    while let [code, length, tail @ ..] = rest {
        match code {
            0 => rest = &rest[1..],
            255 => return None,
            code if *code == wanted => return tail.get(..usize::from(*length)),
            _ => rest = tail.get(usize::from(*length)..)?,
        }
    }
    None
}
