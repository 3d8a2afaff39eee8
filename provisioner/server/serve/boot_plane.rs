//! DHCP and TFTP, joined to the store and the engine.

use super::House;
use crate::{
    clock::Clock,
    dhcp::{
        self, Directory, Heard, JournalError, LeaseJournal, LeaseRecord, Who, bootfile::Serving,
        intake::Malformed, server::Server, sockets, subnet::Subnet,
    },
    http::boot_files::BootFiles,
    inventory::Hardware,
    machine::{Event, MachineId, Time},
    store::{self, Db, StoreError, leases::Row},
    tftp::{self, End, Files, Transferred},
    workflow::Engine,
};
use anyhow::{Context, Result, bail};
use provisioner_wire::{
    Mac, MachineName,
    ids::{hex, hex_into},
};
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::{RwLock, mpsc},
    task::JoinSet,
};

/// Things heard and not yet written down; more are dropped, and that is logged.
const HEARD_MAX: usize = 4096;
/// How old the directory's memory of what is declared may be.
const DIRECTORY_AGE: Duration = Duration::from_millis(500);

/// Starts what the configuration asks for.
pub async fn start(
    parts: &mut JoinSet<Result<()>>,
    house: &House,
    engine: &Engine,
    files: &BootFiles,
    plain: SocketAddr,
) -> Result<()> {
    if house.config.tftp.is_none() && house.config.dhcp.is_none() {
        // Nobody would speak to the recorder: it would end at once, and the server with it.
        return Ok(());
    }
    let (told, telling) = mpsc::channel(HEARD_MAX);
    let recorder = Recorder { engine: engine.clone(), db: house.db.clone() };
    parts.spawn(async move { recorder.run(telling).await });
    let ear = Arc::new(Ear { told });
    if let Some(tftp) = &house.config.tftp {
        let socket =
            UdpSocket::bind(tftp.listen).await.with_context(|| format!("TFTP on {}", tftp.listen))?;
        let (files, ear) = (Files::new(files.files()), ear.clone());
        parts.spawn(async move { tftp::socket::serve(socket, files, ear).await.context("TFTP") });
    }
    if let Some(config) = &house.config.dhcp {
        let subnets = Subnet::all(&config.subnets)?;
        let server = sockets::address_on(&config.interface, &subnets)?;
        let serving = Serving {
            server,
            http: house.config.http.plain_url(plain.port()),
            files: files.files().map(|(name, _)| name).collect(),
        };
        let socket = sockets::bind(&config.interface)?;
        let kept = kept(&house.db).await?;
        let directory = Arc::new(Declared::new(house));
        let journal = Arc::new(Journal(house.db.clone()));
        let server = Server::new(subnets, serving, &kept, directory, journal, ear);
        let interface = config.interface.clone();
        parts.spawn(async move {
            dhcp::advertise::serve(interface).await;
            bail!("router advertisements have ended")
        });
        let clock = house.clock.clone();
        parts.spawn(async move {
            sockets::serve(socket, server, clock).await;
            bail!("the DHCP server has ended")
        });
    }
    Ok(())
}

/// What is declared, remembered for a moment: DHCP asks for each packet.
struct Declared {
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
}

impl Declared {
    fn new(house: &House) -> Self {
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
        Ok(Memory { read: Some(now), machines, reserved })
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

/// Leases in the store.
struct Journal(Db);

impl LeaseJournal for Journal {
    async fn commit(&self, records: &[LeaseRecord]) -> Result<(), JournalError> {
        self.keep(records).await.map_err(|e| JournalError(e.to_string()))
    }
}

const BOUND: &str = "bound";
const DECLINED: &str = "declined";

impl Journal {
    async fn keep(&self, records: &[LeaseRecord]) -> Result<(), StoreError> {
        let mut tx = self.0.write().await?;
        for record in records {
            let row = |ip: &Ipv4Addr, mac: &Mac, state: &str, expires: &Time| Row {
                ip: ip.to_string(),
                mac: mac.to_string(),
                client_id: None,
                machine: None,
                state: state.to_owned(),
                expires_at: expires.0,
            };
            match record {
                LeaseRecord::Bound { ip, mac, client_id, machine, expires } => {
                    let row = Row {
                        client_id: client_id.as_deref().map(hex),
                        machine: machine.as_ref().map(ToString::to_string),
                        ..row(ip, mac, BOUND, expires)
                    };
                    store::leases::put(&mut tx, &row).await?;
                }
                LeaseRecord::Ended { ip, mac } => {
                    store::leases::delete(&mut tx, &ip.to_string(), &mac.to_string()).await?;
                }
                LeaseRecord::Declined { ip, mac, until } => {
                    store::leases::put(&mut tx, &row(ip, mac, DECLINED, until)).await?;
                }
            }
        }
        tx.commit().await
    }
}

/// Every lease in the store. A row that cannot be read stops the start: its address might be given twice.
async fn kept(db: &Db) -> Result<Vec<LeaseRecord>> {
    let rows = store::leases::all(&mut db.read().await?).await?;
    rows.iter().map(|row| record(row).with_context(|| format!("the lease of {}", row.ip))).collect()
}

fn record(row: &Row) -> Result<LeaseRecord> {
    let (ip, mac, expires) = (row.ip.parse()?, row.mac.parse()?, Time(row.expires_at));
    if row.state == DECLINED {
        return Ok(LeaseRecord::Declined { ip, mac, until: expires });
    }
    let client_id = row.client_id.as_deref().map(|text| {
        let mut bytes = vec![0; text.len() / 2];
        hex_into(text, &mut bytes).map(|()| bytes).context("its client id is not hexadecimal")
    });
    let machine = row.machine.as_deref().map(str::parse).transpose()?;
    Ok(LeaseRecord::Bound { ip, mac, client_id: client_id.transpose()?, machine, expires })
}

/// One line for a machine's timeline.
struct Line {
    whose: Whose,
    what: String,
}

enum Whose {
    Machine(MachineName),
    /// Whoever has a lease on this address.
    Address(IpAddr),
}

/// Hears without waiting: the line goes to the [`Recorder`], or is dropped where that is behind.
struct Ear {
    told: mpsc::Sender<Line>,
}

impl Ear {
    fn tell(&self, whose: Whose, what: String) {
        if self.told.try_send(Line { whose, what }).is_err() {
            tracing::warn!("the timeline is {HEARD_MAX} lines behind; a line was dropped");
        }
    }
}

impl dhcp::Hearing for Ear {
    fn heard(&self, heard: Heard) {
        let what = format!("dhcp {}", heard.line());
        match heard.machine {
            Some(machine) => self.tell(Whose::Machine(machine), what),
            None => tracing::info!(mac = %heard.mac, "unknown machine: {what}"),
        }
    }

    fn malformed(&self, why: Malformed) {
        tracing::debug!("DHCP: ignored a packet: {why}");
    }
}

impl tftp::Hearing for Ear {
    fn transferred(&self, t: Transferred) {
        let end = match &t.end {
            End::Complete => {
                format!("{} bytes in {} ms, {} sent again", t.bytes, t.milliseconds, t.retransmits)
            }
            End::Aborted(why) => format!("ended by the client ({why})"),
            End::Silent => format!("the client went silent ({} sent again)", t.retransmits),
            End::Refused(why) => format!("refused ({why})"),
        };
        self.tell(Whose::Address(t.peer.ip()), format!("tftp {}: {end}", t.file));
    }
}

/// Writes what was heard into the timelines of the machines it is about.
struct Recorder {
    engine: Engine,
    db: Db,
}

impl Recorder {
    async fn run(self, mut telling: mpsc::Receiver<Line>) -> Result<()> {
        while let Some(line) = telling.recv().await {
            let recorded = async {
                if let Some(id) = self.machine(&line.whose).await? {
                    self.engine.record(id, &Event::Heard { what: line.what }).await?;
                }
                Ok::<_, StoreError>(())
            };
            if let Err(error) = recorded.await {
                tracing::warn!("a line of the timeline was lost: {error}");
            }
        }
        Ok(())
    }

    async fn machine(&self, whose: &Whose) -> Result<Option<MachineId>, StoreError> {
        let mut tx = self.db.read().await?;
        let name = match whose {
            Whose::Machine(name) => Some(name.clone()),
            Whose::Address(ip) => {
                let leases = store::leases::all(&mut tx).await?;
                let lease = leases.into_iter().find(|l| l.ip == ip.to_string());
                lease.and_then(|l| l.machine).and_then(|m| m.parse().ok())
            }
        };
        let Some(name) = name else { return Ok(None) };
        Ok(store::machines::by_name(&mut tx, &name).await?.map(|m| m.id))
    }
}
