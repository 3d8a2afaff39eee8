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
    sync::Arc,
    time::Duration,
};
use tokio::sync::RwLock;

/// How old the directory's memory of what is declared may be.
const DIRECTORY_AGE: Duration = Duration::from_millis(500);
/// How long a packet waits for what is declared to be read anew; then what was declared before is its answer.
const READ_LIMIT: Duration = Duration::from_secs(1);
/// After a reading that failed the next one waits for so long.
const READ_PAUSE: Duration = Duration::from_secs(2);

/// What is declared, remembered for a moment: DHCP asks for each packet.
pub struct Declared {
    db: Db,
    clock: Clock,
    discovery: bool,
    /// Base URL of the TLS listener.
    https: String,
    memory: RwLock<Memory>,
}

struct Memory {
    /// When it is to be read anew.
    fresh_until: Time,
    machines: HashMap<Mac, (MachineName, Option<Ipv4Addr>)>,
    /// Of machines whose answers are declared.
    particulars: HashMap<Mac, Arc<Particulars>>,
    /// Of machines that boot otherwise than usual.
    boots_by: HashMap<Mac, BootBy>,
    reserved: Arc<HashSet<Ipv4Addr>>,
}

impl Declared {
    /// Reads what is declared: without it every machine would be taken for an unknown one. `https`: base URL of the TLS
    /// listener as machines reach it.
    pub async fn open(house: &House, https: String) -> Result<Self, StoreError> {
        let memory = RwLock::new(read(&house.db, house.clock.now()).await?);
        let (db, clock) = (house.db.clone(), house.clock.clone());
        Ok(Self { db, clock, discovery: house.config.discovery, https, memory })
    }

    async fn fresh(&self) -> tokio::sync::RwLockReadGuard<'_, Memory> {
        let now = self.clock.now();
        // A clock that was set back must not make it fresh for ever.
        let is_fresh = |m: &Memory| now < m.fresh_until && m.fresh_until <= now + READ_PAUSE;
        {
            let memory = self.memory.read().await;
            if is_fresh(&memory) {
                return memory;
            }
        }
        let mut memory = self.memory.write().await;
        if !is_fresh(&memory) {
            // What was declared a moment ago is a better answer than none.
            let again = now + READ_PAUSE;
            match tokio::time::timeout(READ_LIMIT, read(&self.db, now)).await {
                Ok(Ok(read)) => *memory = read,
                Ok(Err(error)) => {
                    tracing::error!("DHCP: what is declared cannot be read: {error}");
                    memory.fresh_until = again;
                }
                Err(_) => {
                    tracing::error!("DHCP: what is declared is not read in {} s", READ_LIMIT.as_secs());
                    memory.fresh_until = again;
                }
            }
        }
        memory.downgrade()
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
    Ok(Memory { fresh_until: now + DIRECTORY_AGE, machines, particulars, boots_by, reserved })
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
