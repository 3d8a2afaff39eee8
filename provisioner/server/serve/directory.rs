//! What is declared, as DHCP asks for it.

use super::House;
use crate::{
    clock::Clock,
    dhcp::{Directory, Who, v6},
    inventory::{Hardware, identity::canonical},
    machine::Time,
    store::{self, Db, StoreError},
};
use provisioner_wire::{Mac, MachineName};
use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};
use tokio::sync::RwLock;
use uuid::Uuid;

/// How old the directory's memory of what is declared may be.
const DIRECTORY_AGE: Duration = Duration::from_millis(500);

/// What is declared, remembered for a moment: DHCP asks for each packet.
pub struct Declared {
    db: Db,
    clock: Clock,
    discovery: bool,
    memory: RwLock<Memory>,
}

#[derive(Default)]
struct Memory {
    read: Option<Time>,
    machines: HashMap<Mac, (MachineName, Option<Ipv4Addr>)>,
    reserved: Arc<HashSet<Ipv4Addr>>,
    v6: Memory6,
}

#[derive(Default)]
struct Memory6 {
    /// By UUID in its canonical byte order, the first MAC of the one machine that has it.
    uuids: HashMap<Uuid, Option<Mac>>,
    addresses: HashMap<Mac, Ipv6Addr>,
    reserved: Arc<HashSet<Ipv6Addr>>,
}

impl Declared {
    pub fn new(house: &House) -> Self {
        Self {
            db: house.db.clone(),
            clock: house.clock.clone(),
            discovery: house.config.discovery,
            memory: RwLock::default(),
        }
    }

    async fn fresh(&self) -> tokio::sync::RwLockReadGuard<'_, Memory> {
        let now = self.clock.now();
        let is_fresh = |m: &Memory| m.read.is_some_and(|read| now.since(read) < DIRECTORY_AGE && read <= now);
        {
            let memory = self.memory.read().await;
            if is_fresh(&memory) {
                return memory;
            }
        }
        let mut memory = self.memory.write().await;
        if !is_fresh(&memory) {
            match self.read(now).await {
                Ok(read) => *memory = read,
                // What was declared a moment ago is a better answer than none.
                Err(error) => tracing::error!("DHCP: what is declared cannot be read: {error}"),
            }
        }
        memory.downgrade()
    }

    async fn read(&self, now: Time) -> Result<Memory, StoreError> {
        let mut tx = self.db.read().await?;
        let all: Vec<Hardware> = store::declared::all(&mut tx, store::declared::Kind::Machine).await?;
        let mut machines = HashMap::new();
        for hardware in &all {
            for nic in &hardware.nics {
                machines.insert(nic.mac, (hardware.name.clone(), nic.address.map(|net| net.addr())));
            }
        }
        let reserved = Arc::new(machines.values().filter_map(|(_, address)| *address).collect());
        Ok(Memory { read: Some(now), machines, reserved, v6: Memory6::of(&all) })
    }
}

impl Memory6 {
    fn of(all: &[Hardware]) -> Self {
        let mut uuids = HashMap::new();
        for hardware in all {
            // I13: a UUID that two machines have is nobody's.
            let mac = hardware.primary_nic().map(|nic| nic.mac);
            if let Some(uuid) = hardware.uuid {
                uuids.entry(canonical(uuid)).and_modify(|both| *both = None).or_insert(mac);
            }
        }
        let nics = all.iter().flat_map(|hardware| &hardware.nics);
        let addresses: HashMap<_, _> = nics.filter_map(|nic| Some((nic.mac, nic.address6?.addr()))).collect();
        let reserved = Arc::new(addresses.values().copied().collect());
        Self { uuids, addresses, reserved }
    }
}

impl v6::Directory for Declared {
    async fn by_uuid(&self, uuid: Uuid) -> Option<Mac> {
        self.fresh().await.v6.uuids.get(&canonical(uuid)).copied().flatten()
    }

    async fn reservation(&self, mac: Mac) -> Option<Ipv6Addr> {
        self.fresh().await.v6.addresses.get(&mac).copied()
    }

    async fn reserved6(&self) -> Arc<HashSet<Ipv6Addr>> {
        self.fresh().await.v6.reserved.clone()
    }
}

impl Directory for Declared {
    async fn who(&self, mac: Mac) -> Who {
        match self.fresh().await.machines.get(&mac) {
            Some((name, address)) => Who::Known { name: name.clone(), address: *address, netboot: true },
            None => Who::Unknown { netboot: self.discovery },
        }
    }

    async fn reserved(&self) -> Arc<HashSet<Ipv4Addr>> {
        self.fresh().await.reserved.clone()
    }
}
