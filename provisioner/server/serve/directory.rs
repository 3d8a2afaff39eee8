//! What is declared, as DHCP asks for it.

use super::House;
use crate::{
    clock::Clock,
    dhcp::{Directory, Particulars, Who, options::encoded, road::Road},
    inventory::{BootBy, Hardware, Profile},
    machine::Time,
    store::{self, Db, StoreError},
};
use provisioner_wire::{Mac, MachineName};
use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Mutex;

/// How old the directory's memory of what is declared may be.
const DIRECTORY_AGE: Duration = Duration::from_millis(500);
/// How old it may be while it is being read anew.
const DIRECTORY_AGE_MAX: Duration = Duration::from_secs(1);
/// How long a packet waits for it to be read anew; then what was declared before is its answer.
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
    https: String,
}

struct Source {
    db: Db,
    memory: RwLock<Arc<Memory>>,
    /// When a reading failed.
    tried: RwLock<Option<Time>>,
}

struct Memory {
    read: Time,
    machines: HashMap<Mac, (MachineName, Option<Ipv4Addr>)>,
    /// Of machines whose answers are declared.
    particulars: HashMap<Mac, Arc<Particulars>>,
    /// Of machines that boot otherwise than usual.
    boots_by: HashMap<Mac, BootBy>,
    reserved: Arc<HashSet<Ipv4Addr>>,
}

impl Memory {
    fn is_younger(&self, age: Duration, now: Time) -> bool {
        now.since(self.read) < age && self.read <= now
    }
}

impl Declared {
    /// Reads what is declared: without it every machine would be taken for an unknown one. `https`: base URL of the TLS
    /// listener as machines reach it.
    pub async fn open(house: &House, https: String) -> Result<Self, StoreError> {
        let first = read(&house.db, house.clock.now()).await?;
        let (memory, tried) = (RwLock::new(Arc::new(first)), RwLock::default());
        Ok(Self {
            source: Arc::new(Source { db: house.db.clone(), memory, tried }),
            reading: Arc::default(),
            clock: house.clock.clone(),
            discovery: house.config.discovery,
            https,
        })
    }

    /// What was declared [`DIRECTORY_AGE`] ago or later; where that is to be read first, up to [`DIRECTORY_AGE_MAX`]: no
    /// packet of a storm waits for the reading of a thousand machines.
    async fn fresh(&self) -> Arc<Memory> {
        let now = self.clock.now();
        let memory = self.source.memory();
        if memory.is_younger(DIRECTORY_AGE, now) || self.source.has_failed(now) {
            return memory;
        }
        if memory.is_younger(DIRECTORY_AGE_MAX, now) {
            if let Ok(reading) = self.reading.clone().try_lock_owned() {
                let source = self.source.clone();
                tokio::spawn(async move {
                    source.renew(now).await;
                    drop(reading);
                });
            }
            return memory;
        }
        let _reading = self.reading.lock().await;
        if !self.source.memory().is_younger(DIRECTORY_AGE, now) && !self.source.has_failed(now) {
            self.source.renew(now).await;
        }
        self.source.memory()
    }
}

impl Source {
    fn memory(&self) -> Arc<Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_failed(&self, now: Time) -> bool {
        let tried = *self.tried.read().unwrap_or_else(PoisonError::into_inner);
        tried.is_some_and(|tried| now.since(tried) < READ_PAUSE && tried <= now)
    }

    async fn renew(&self, now: Time) {
        let why = match tokio::time::timeout(READ_LIMIT, read(&self.db, now)).await {
            Ok(Ok(read)) => {
                *self.memory.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {} s", READ_LIMIT.as_secs()),
        };
        // What was declared a moment ago is a better answer than none.
        tracing::error!("DHCP: what is declared cannot be read: {why}");
        *self.tried.write().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

async fn read(db: &Db, now: Time) -> Result<Memory, StoreError> {
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
    Ok(Memory { read: now, machines, particulars, boots_by, reserved })
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
