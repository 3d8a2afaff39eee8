//! What is declared, as DHCP asks for it.

use super::House;
use crate::{
    clock::Clock,
    dhcp::{Directory, Particulars, Who, options::encoded, road::Road, v6},
    inventory::{BootBy, Hardware, Profile, identity::canonical},
    machine::Time,
    store::{self, Db, StoreError},
};
use provisioner_wire::{Mac, MachineName};
use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Mutex;
use uuid::Uuid;

/// How old the directory's memory of what is declared may be.
const DIRECTORY_AGE: Duration = Duration::from_millis(500);
/// How old it may be while it is being read anew.
const DIRECTORY_AGE_MAX: Duration = Duration::from_secs(1);
/// How long a packet waits for what is declared to be read anew; then what was declared before is its answer.
const READ_LIMIT: Duration = Duration::from_secs(1);
/// After a reading that failed the next one waits for so long.
const READ_PAUSE: Duration = Duration::from_secs(2);

/// What is declared, remembered for a moment: DHCP asks for each packet.
pub struct Declared {
    source: Arc<Source>,
    /// Held by the one who reads what is declared.
    reading: Arc<Mutex<()>>,
    clock: Clock,
    discovery: bool,
    /// Base URL of the TLS listener.
    https: Option<String>,
}

struct Source {
    db: Db,
    held: RwLock<Held>,
}

#[derive(Clone)]
struct Held {
    memory: Arc<Memory>,
    read: Time,
    /// When it is to be read anew.
    fresh_until: Time,
}

struct Memory {
    machines: HashMap<Mac, (MachineName, Option<Ipv4Addr>)>,
    /// Of machines whose answers are declared.
    particulars: HashMap<Mac, Arc<Particulars>>,
    /// Of machines that boot otherwise than usual.
    boots_by: HashMap<Mac, BootBy>,
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

impl Held {
    /// A clock that was set back must not make it fresh for ever.
    fn is_fresh(&self, now: Time) -> bool {
        now < self.fresh_until && self.fresh_until <= now + READ_PAUSE
    }

    fn is_of_late(&self, now: Time) -> bool {
        self.read <= now && now.since(self.read) < DIRECTORY_AGE_MAX
    }
}

impl Declared {
    /// Reads what is declared: without it every machine would be taken for an unknown one. `https`: base URL of the TLS
    /// listener as machines reach it.
    pub async fn open(house: &House, https: Option<String>) -> Result<Self, StoreError> {
        let (db, clock, now) = (house.db.clone(), house.clock.clone(), house.clock.now());
        let memory = Arc::new(read(&db).await?);
        let held = RwLock::new(Held { memory, read: now, fresh_until: now + DIRECTORY_AGE });
        let source = Arc::new(Source { db, held });
        Ok(Self { source, reading: Arc::default(), clock, discovery: house.config.discovery, https })
    }

    /// What was declared [`DIRECTORY_AGE`] ago or later; while that is being read, up to [`DIRECTORY_AGE_MAX`]: no packet
    /// of a storm waits for the reading of a thousand machines.
    async fn fresh(&self) -> Arc<Memory> {
        let now = self.clock.now();
        let held = self.source.held();
        if held.is_fresh(now) {
            return held.memory;
        }
        if let Ok(reading) = self.reading.clone().try_lock_owned() {
            let source = self.source.clone();
            tokio::spawn(async move {
                source.renew(now).await;
                drop(reading);
            });
        }
        if !held.is_of_late(now) {
            drop(self.reading.lock().await);
        }
        self.source.held().memory
    }
}

impl Source {
    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was declared a moment ago is a better answer than none: an error is told, and changes nothing.
    async fn renew(&self, now: Time) {
        let done = tokio::time::timeout(READ_LIMIT, read(&self.db)).await;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(Ok(read)) => {
                *held = Held { memory: Arc::new(read), read: now, fresh_until: now + DIRECTORY_AGE };
                return;
            }
            Ok(Err(error)) => tracing::error!("DHCP: what is declared cannot be read: {error}"),
            Err(_) => {
                tracing::error!("DHCP: what is declared is not read in {} s", READ_LIMIT.as_secs());
            }
        }
        held.fresh_until = now + READ_PAUSE;
    }
}

async fn read(db: &Db) -> Result<Memory, StoreError> {
    let mut tx = db.read().await?;
    let all: Vec<Hardware> = store::declared::all(&mut tx, store::declared::Kind::Machine).await?;
    let profiles: Vec<Profile> = store::declared::all(&mut tx, store::declared::Kind::Profile).await?;
    let (mut machines, mut boots_by) = (HashMap::new(), HashMap::new());
    let mut particulars = HashMap::new();
    for hardware in &all {
        let own = Arc::new(particulars_of(hardware, &profiles));
        for nic in &hardware.nics {
            machines.insert(nic.mac, (hardware.name.clone(), nic.address.map(|net| net.addr())));
            if *own != Particulars::default() {
                particulars.insert(nic.mac, own.clone());
            }
            if hardware.boot != BootBy::Ipxe {
                boots_by.insert(nic.mac, hardware.boot);
            }
        }
    }
    let reserved = Arc::new(machines.values().filter_map(|(_, address)| *address).collect());
    Ok(Memory { machines, particulars, boots_by, reserved, v6: Memory6::of(&all) })
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

/// The machine's own word goes before its profile's.
fn particulars_of(hardware: &Hardware, profiles: &[Profile]) -> Particulars {
    let profile = profiles.iter().find(|profile| Some(&profile.name) == hardware.profile.as_ref());
    let mut options = profile.map(|profile| encoded(&profile.dhcp)).unwrap_or_default();
    options.append(&mut encoded(&hardware.dhcp));
    Particulars { options, quirks: hardware.quirks }
}

impl Directory for Declared {
    async fn who(&self, mac: Mac) -> Who {
        match self.fresh().await.machines.get(&mac) {
            Some((name, address)) => Who::Known { name: name.clone(), address: *address, netboot: true },
            None => Who::Unknown { netboot: self.discovery },
        }
    }

    async fn road(&self, mac: Mac) -> Road {
        match self.fresh().await.boots_by.get(&mac) {
            None | Some(BootBy::Ipxe) => Road::Ipxe,
            Some(BootBy::Shim) => Road::Shim,
            Some(BootBy::Https) => Road::Https { base: self.https.clone() },
        }
    }

    async fn particulars(&self, mac: Mac) -> Arc<Particulars> {
        self.fresh().await.particulars.get(&mac).cloned().unwrap_or_default()
    }

    async fn reserved(&self) -> Arc<HashSet<Ipv4Addr>> {
        self.fresh().await.reserved.clone()
    }
}
