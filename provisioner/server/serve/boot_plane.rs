//! DHCP and TFTP, joined to the store, and what the routes ask of them.

use super::{
    House, boot_plane6,
    directory::Declared,
    grub,
    hearing::{Counters, Ear, HEARD_MAX, Line, count},
    lease_journal::{Journal, kept},
    recorder::{Recorder, made_for},
    what_if::what_if,
};
use crate::{
    clock::Clock,
    dhcp::{
        self,
        boot_server::{self, BootServer},
        bootfile::Serving,
        config::DhcpConfig,
        limits::Guard,
        patience::Patient,
        rogue::WatchConfig,
        server::Server,
        sockets,
        subnet::Subnet,
        watch::Watch,
    },
    http::{
        App,
        boot_files::BootFiles,
        boot_plane::{BootPlane, Counts, Exchange, Fetched, Question},
        content::Answer,
    },
    store::Db,
    tftp::{self, Files},
};
use anyhow::{Context, Result, bail};
use provisioner_wire::Mac;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinSet,
};

/// One interface that is served.
pub struct Net {
    pub config: DhcpConfig,
    pub subnets: Vec<Subnet>,
    pub serving: Serving,
}

/// Everything that DHCP and TFTP answer from, and what they hear.
pub struct Plane {
    pub db: Db,
    pub clock: Clock,
    pub nets: Vec<Net>,
    pub directory: Arc<Declared>,
    ear: Arc<Ear>,
    counters: Arc<Counters>,
    changed: watch::Sender<u64>,
    /// In whose name other DHCP servers are asked.
    probe: Mac,
}

impl Plane {
    /// With what is told to its recorder.
    pub async fn open(
        house: &House,
        files: &BootFiles,
        plain: SocketAddr,
        secure: SocketAddr,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Line>)> {
        let file_names: BTreeSet<String> = files.files().map(|(name, _)| name).collect();
        let mut nets = Vec::new();
        for config in house.config.dhcp.iter().filter(|one| one.is_on()) {
            let subnets = config.subnets()?;
            let serving = Serving {
                server: sockets::address_on(&config.interface, &subnets)?,
                http: house.config.http.plain_url(plain.port()),
                files: file_names.clone(),
            };
            nets.push(Net { config: config.clone(), subnets, serving });
        }
        let (told, telling) = mpsc::channel(HEARD_MAX);
        let counters = Arc::new(Counters::default());
        let ear = Arc::new(Ear {
            told,
            counters: counters.clone(),
            clock: house.clock.clone(),
            made_for: made_for(files.files()),
            ours: nets.iter().map(|net| net.serving.server).collect(),
        });
        let http = &house.config.http;
        let https = http.firmware_tls.then(|| http.tls_url(secure.port()));
        let directory = Arc::new(Declared::open(house, https).await?);
        let (db, clock) = (house.db.clone(), house.clock.clone());
        let (changed, probe) = (watch::Sender::new(0), probe_mac()?);
        Ok((Arc::new(Self { db, clock, nets, directory, ear, counters, changed, probe }), telling))
    }

    /// Starts what the configuration asks for.
    pub async fn start(
        &self,
        parts: &mut JoinSet<Result<()>>,
        house: &House,
        app: &App,
        files: &BootFiles,
        (telling, plain): (mpsc::Receiver<Line>, SocketAddr),
    ) -> Result<()> {
        let watching = WatchConfig::joined(self.nets.iter().map(|net| &net.config.watch));
        let (db, clock, counters) = (self.db.clone(), self.clock.clone(), self.counters.clone());
        let recorder = Recorder::new(db, clock, counters, watching, self.probe, self.changed.clone());
        let recorder = recorder.await?;
        parts.spawn(async move { recorder.run(telling).await });
        if let Some(tftp) = &house.config.tftp {
            more_files();
            let four = self.nets.iter().flat_map(|net| &net.subnets).map(|s| s.network.into());
            let networks: Vec<_> = four.chain(boot_plane6::networks(&house.config)).collect();
            for listen in boot_plane6::and_over_ipv6(tftp.listen, &house.config)? {
                let socket = UdpSocket::bind(listen).await.with_context(|| format!("TFTP on {listen}"))?;
                let files = Files::new(files.files()).with(grub::Configs::new(app));
                let (settings, ear) = (tftp.settings(networks.iter().copied()), self.ear.clone());
                parts.spawn(async move { tftp::serve(socket, settings, files, ear).await.context("TFTP") });
            }
        }
        let heard = (self.directory.clone(), self.ear.clone());
        boot_plane6::start(parts, house, files, plain, heard).await?;
        for net in &self.nets {
            self.dhcp4(parts, net).await?;
            self.watch(parts, net);
        }
        Ok(())
    }

    /// Starts what one interface needs.
    async fn dhcp4(&self, parts: &mut JoinSet<Result<()>>, net: &Net) -> Result<()> {
        let (subnets, serving) = (net.subnets.clone(), net.serving.clone());
        let (directory, ear) = (self.directory.clone(), self.ear.clone());
        let interface = net.config.interface.clone();
        let socket = sockets::bind(&interface)?;
        let asked = sockets::bind_port(&interface, boot_server::PORT)?;
        let boot_server = BootServer::new(subnets.clone(), serving.clone(), directory.clone(), ear.clone());
        let clock = self.clock.clone();
        parts.spawn(async move {
            boot_server.serve(asked, clock).await;
            bail!("the boot server of port 4011 has ended")
        });
        let mut kept = kept(&self.db).await?;
        kept.retain(|record| subnets.iter().any(|subnet| subnet.network.contains(&record.address())));
        let journal = Arc::new(Patient::new(Journal(self.db.clone())));
        let server = Server::new(subnets, serving, &kept, directory, journal, ear);
        let server = server.guarded(Guard::new(net.config.limits, self.probe));
        parts.spawn(async move {
            dhcp::advertise::serve(interface).await;
            bail!("router advertisements have ended")
        });
        let clock = self.clock.clone();
        parts.spawn(async move {
            sockets::serve(socket, server, clock).await;
            bail!("the DHCP server has ended")
        });
        Ok(())
    }

    /// Watching needs a right that serving does not (`CAP_NET_RAW`): without it the server serves, and says so.
    fn watch(&self, parts: &mut JoinSet<Result<()>>, net: &Net) {
        let every = u64::from(net.config.watch.probe_seconds);
        let watch = Watch {
            interface: net.config.interface.clone(),
            ours: self.ear.ours.clone(),
            probe: self.probe,
            every: (every > 0).then(|| Duration::from_secs(every)),
            clock: self.clock.clone(),
        };
        let ear = self.ear.clone();
        parts.spawn(async move {
            if let Err(error) = watch.serve(ear).await {
                tracing::warn!("other DHCP servers are only seen by machines that choose them: {error}");
            }
            std::future::pending().await
        });
    }
}

/// A TFTP transfer holds a port, and the usual limit of 1,024 open files is not enough for a rack that boots at once.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// Locally administered, unicast, and no two servers have the same.
fn probe_mac() -> Result<Mac> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random numbers from the system"))?;
    let [first, rest @ ..] = bytes;
    let [b, c, d, e, f] = rest;
    Ok(Mac([first & 0xfc | 0x02, b, c, d, e, f]))
}

impl BootPlane for Plane {
    fn fetched(&self, fetched: Fetched) {
        self.ear.fetched(fetched);
    }

    fn counts(&self) -> Counts {
        Counts {
            packets: self.counters.of(count::PACKETS),
            malformed: self.counters.of(count::MALFORMED),
            unanswered: self.counters.of(count::UNANSWERED),
            transfers: self.counters.of(count::TRANSFERS),
            fetches: self.counters.of(count::FETCHES),
            unkept: self.counters.of(count::UNKEPT),
            images: Default::default(),
        }
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn what_if<'a>(&'a self, question: &'a Question) -> Answer<'a, Result<Vec<Exchange>, String>> {
        Box::pin(what_if(self, question))
    }
}
