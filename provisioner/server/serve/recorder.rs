//! Writes down what the [`super::hearing`] heard: bounded in rows, and in rows a second, so that a storm of packets is
//! not a storm of writes. One transaction takes all that was heard meanwhile.

use super::{
    hearing::{Counters, Line, Whose, count},
    signs,
};
use crate::{
    clock::Clock,
    dhcp::{
        limits::Bucket,
        rogue::{Foreign, How, WatchConfig},
        v6::client::eui64,
    },
    doctor::Sign,
    machine::{MachineId, Time},
    store::{self, Db, StoreError, Tx},
};
use anyhow::Result;
use provisioner_wire::{Mac, machine::Phase};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};
use tokio::sync::{mpsc, watch};

/// Lines of one transaction.
const BATCH_MAX: usize = 512;
/// Between two transactions: a boot is slower than this, and a disk is not.
const PAUSE: Duration = Duration::from_millis(200);
/// Signs of one MAC: a whole boot at once, then one a second.
const OF_ONE: (u32, u32) = (1, 60);
/// Signs of all unknown MACs.
const OF_UNKNOWN: (u32, u32) = (50, 1000);
/// MACs and addresses that are remembered.
const REMEMBERED_MAX: usize = 65_536;
/// Between two clearings of the whole table.
const TRIM_EVERY: Duration = Duration::from_secs(60);
/// A foreign server that answers much is written down this often.
const FOREIGN_EVERY: Duration = Duration::from_secs(5);

/// How many signs of one MAC were too fast to be kept.
struct Pace {
    bucket: Bucket,
    unkept: u64,
}

pub struct Recorder {
    db: Db,
    clock: Clock,
    counters: Arc<Counters>,
    watch: WatchConfig,
    /// Our own question's MAC.
    probe: Mac,
    /// Tells that a foreign server was written down.
    changed: watch::Sender<u64>,
    by_address: HashMap<IpAddr, Mac>,
    paces: HashMap<Mac, Pace>,
    unknown: Bucket,
    foreign: HashMap<Ipv4Addr, (Foreign, i64, Time)>,
    trimmed: Time,
}

impl Recorder {
    /// With the addresses of the leases that are kept.
    pub async fn new(
        db: Db,
        clock: Clock,
        counters: Arc<Counters>,
        watch: WatchConfig,
        probe: Mac,
        changed: watch::Sender<u64>,
    ) -> Result<Self, StoreError> {
        let leases = store::leases::all(&mut db.read().await?).await?;
        let owner = |lease: store::leases::Row| Some((lease.ip.parse().ok()?, lease.mac.parse().ok()?));
        let by_address = leases.into_iter().filter_map(owner).collect();
        let unknown = Bucket::new(OF_UNKNOWN.0, OF_UNKNOWN.1, clock.now());
        let (paces, foreign, trimmed) = (HashMap::new(), HashMap::new(), Time(0));
        Ok(Self { db, clock, counters, watch, probe, changed, by_address, paces, unknown, foreign, trimmed })
    }

    /// Until nobody can tell anything any more.
    pub async fn run(mut self, mut telling: mpsc::Receiver<Line>) -> Result<()> {
        let mut lines = Vec::new();
        while telling.recv_many(&mut lines, BATCH_MAX).await > 0 {
            let batch = std::mem::take(&mut lines);
            if let Err(error) = self.write(batch).await {
                tracing::warn!("lines of the timeline were lost: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn write(&mut self, lines: Vec<Line>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut signs: Vec<(Mac, Time, Sign)> = Vec::new();
        for line in lines {
            match line {
                Line::Sign { whose, at, sign, address } => {
                    let Some(mac) = self.mac(whose, address) else { continue };
                    signs.push((mac, at, *sign));
                }
                Line::Foreign(foreign) => signs.extend(self.foreign(foreign)),
            }
        }
        let mut tx = self.db.write().await?;
        self.signs(&mut tx, signs, now).await?;
        let told = self.servers(&mut tx, now).await?;
        if now.since(self.trimmed) >= TRIM_EVERY {
            store::heard::trim_all(&mut tx, now).await?;
            self.trimmed = now;
        }
        tx.commit().await?;
        if told {
            self.changed.send_modify(|number| *number += 1);
        }
        Ok(())
    }

    /// Whose sign it is; learns who has which address.
    fn mac(&mut self, whose: Whose, address: Option<IpAddr>) -> Option<Mac> {
        match whose {
            Whose::Mac(mac) => {
                if let Some(ip) = address
                    && self.by_address.len() < REMEMBERED_MAX
                {
                    self.by_address.insert(ip, mac);
                }
                Some(mac)
            }
            Whose::Address(ip) => self.by_address.get(&ip).copied().or_else(|| match ip {
                // EDK2 fetches by TFTP from its link-local address.
                IpAddr::V6(ip) => eui64(ip),
                IpAddr::V4(_) => None,
            }),
        }
    }

    async fn signs(
        &mut self,
        tx: &mut Tx,
        signs: Vec<(Mac, Time, Sign)>,
        now: Time,
    ) -> Result<(), StoreError> {
        let mut owners: HashMap<Mac, (Option<MachineId>, bool)> = HashMap::new();
        let mut written = HashSet::new();
        for (mac, at, sign) in signs {
            let (machine, known) = match owners.get(&mac) {
                Some(owner) => *owner,
                None => {
                    let machine = store::machines::by_mac(tx, mac).await?;
                    // Anyone can have a machine discovered: it counts as unknown.
                    let known = machine.as_ref().is_some_and(|m| m.phase != Phase::Discovered);
                    *owners.entry(mac).or_insert((machine.map(|m| m.id), known))
                }
            };
            for sign in self.paced(mac, known, sign, now) {
                let text = serde_json::to_string(&sign).map_err(|source| StoreError::Row {
                    table: "heard",
                    key: mac.to_string(),
                    source,
                })?;
                store::heard::put(tx, mac, known, at, &text).await?;
                if let Some(id) = machine {
                    let what = format!("{} {sign}", sign.kind());
                    store::events::append_heard(tx, id, what, at).await?;
                }
                written.insert(mac);
            }
        }
        store::heard::trim(tx, written).await
    }

    /// The sign where it may be kept, after a word about those that were not.
    fn paced(&mut self, mac: Mac, known: bool, sign: Sign, now: Time) -> Vec<Sign> {
        if self.paces.len() >= REMEMBERED_MAX {
            self.paces.clear();
        }
        let fresh = || Pace { bucket: Bucket::new(OF_ONE.0, OF_ONE.1, now), unkept: 0 };
        let pace = self.paces.entry(mac).or_insert_with(fresh);
        if !(pace.bucket.take(now) && (known || self.unknown.take(now))) {
            pace.unkept += 1;
            self.counters.add(count::UNKEPT, "too fast");
            return Vec::new();
        }
        let unkept = std::mem::take(&mut pace.unkept);
        let before = (unkept > 0).then_some(Sign::Unkept { count: unkept });
        before.into_iter().chain([sign]).collect()
    }

    /// Remembers the server; its sign for the machine that it concerns.
    fn foreign(&mut self, foreign: Foreign) -> Option<(Mac, Time, Sign)> {
        let allowed = foreign.is_allowed(&self.watch.allow)
            || self
                .foreign
                .get(&foreign.server)
                .is_some_and(|(known, ..)| known.is_allowed(&self.watch.allow));
        let concerns = (!allowed && foreign.client != self.probe)
            .then(|| (foreign.client, foreign.at, signs::foreign(&foreign)));
        if self.foreign.len() >= REMEMBERED_MAX {
            self.foreign.clear();
        }
        match self.foreign.get_mut(&foreign.server) {
            Some((known, times, _)) => {
                *times += 1;
                let (mac, file) = (foreign.mac.or(known.mac), foreign.boot_file.clone());
                let kind = if foreign.how == How::Request { known.kind } else { foreign.kind };
                let boot_file = file.or_else(|| known.boot_file.take());
                *known = Foreign { mac, boot_file, kind, ..foreign };
            }
            None => {
                if !allowed {
                    let (server, file) = (foreign.server, foreign.boot_file.as_deref().unwrap_or_default());
                    let mac = foreign.mac.map(|m| m.to_string()).unwrap_or_default();
                    tracing::warn!(%server, mac, file, "another DHCP server is on the network");
                }
                self.foreign.insert(foreign.server, (foreign, 1, Time(0)));
            }
        }
        concerns
    }

    /// Writes the servers that were heard since they were written last. Whether there was one that is not allowed.
    async fn servers(&mut self, tx: &mut Tx, now: Time) -> Result<bool, StoreError> {
        let mut told = false;
        for (foreign, times, written) in self.foreign.values_mut() {
            if *times == 0 || now.since(*written) < FOREIGN_EVERY {
                continue;
            }
            let allowed = foreign.is_allowed(&self.watch.allow);
            let blocks = Duration::from_secs(60 * u64::from(self.watch.block_minutes));
            let blocks_until = if allowed || blocks.is_zero() { Time(0) } else { foreign.at + blocks };
            let row = store::foreign_servers::Row {
                ip: foreign.server.to_string(),
                mac: foreign.mac.map(|mac| mac.to_string()),
                kind: foreign.kind.to_string(),
                boot_file: foreign.boot_file.clone(),
                heard_by: foreign.how.to_string(),
                first_at: foreign.at.0,
                last_at: foreign.at.0,
                times: *times,
                blocks_until: blocks_until.0,
            };
            store::foreign_servers::put(tx, &row).await?;
            (*times, *written) = (0, now);
            told |= !allowed;
        }
        Ok(told)
    }
}

/// What each boot file is made for.
pub fn made_for(
    files: impl Iterator<Item = (String, bytes::Bytes)>,
) -> HashMap<String, crate::doctor::sign::Platform> {
    let kinds: BTreeMap<_, _> = files
        .filter_map(|(name, bytes)| Some((name.clone(), crate::doctor::file_kind::made_for(&name, &bytes)?)))
        .collect();
    kinds.into_iter().collect()
}
