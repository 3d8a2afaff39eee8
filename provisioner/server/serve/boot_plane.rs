//! DHCP and TFTP, joined to the store and the engine.

use super::{
    House, boot_plane6,
    directory::Declared,
    grub,
    hearing::Ear,
    lease_journal::{Journal, kept},
};
use crate::{
    dhcp::{
        self,
        boot_server::{self, BootServer},
        bootfile::Serving,
        config::DhcpConfig,
        patience::Patient,
        server::Server,
        sockets,
        subnet::Subnet,
    },
    http::{App, boot_files::BootFiles},
    tftp::{self, Files},
};
use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};
use tokio::{net::UdpSocket, task::JoinSet};

/// Starts what the configuration asks for.
pub async fn start(
    parts: &mut JoinSet<Result<()>>,
    house: &House,
    app: &App,
    ear: Arc<Ear>,
    files: &BootFiles,
    plain: SocketAddr,
    secure: SocketAddr,
) -> Result<()> {
    if let Some(tftp) = &house.config.tftp {
        more_files();
        let four = house.config.dhcp.iter().flat_map(|dhcp| &dhcp.subnets).map(|s| s.network.into());
        let networks: Vec<_> = four.chain(boot_plane6::networks(&house.config)).collect();
        for listen in boot_plane6::and_over_ipv6(tftp.listen, &house.config)? {
            let socket = UdpSocket::bind(listen).await.with_context(|| format!("TFTP on {listen}"))?;
            let files = Files::new(files.files()).with(grub::Configs::new(app));
            let (settings, ear) = (tftp.settings(networks.iter().copied()), ear.clone());
            parts.spawn(async move { tftp::serve(socket, settings, files, ear).await.context("TFTP") });
        }
    }
    let http = &house.config.http;
    let https = http.firmware_tls.then(|| http.tls_url(secure.port()));
    let directory = Arc::new(Declared::open(house, https).await?);
    boot_plane6::start(parts, house, files, plain, (directory.clone(), ear.clone())).await?;
    let file_names: BTreeSet<String> = files.files().map(|(name, _)| name).collect();
    for config in house.config.dhcp.iter().filter(|one| one.is_on()) {
        let subnets = config.subnets()?;
        let serving = Serving {
            server: sockets::address_on(&config.interface, &subnets)?,
            http: house.config.http.plain_url(plain.port()),
            files: file_names.clone(),
        };
        dhcp4(parts, house, config, subnets, serving, (directory.clone(), ear.clone())).await?;
    }
    Ok(())
}

/// A TFTP transfer holds a port, and the usual limit of 1,024 open files is not enough for a rack that boots at once.
fn more_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// Starts what one interface needs.
async fn dhcp4(
    parts: &mut JoinSet<Result<()>>,
    house: &House,
    config: &DhcpConfig,
    subnets: Vec<Subnet>,
    serving: Serving,
    (directory, ear): (Arc<Declared>, Arc<Ear>),
) -> Result<()> {
    let socket = sockets::bind(&config.interface)?;
    let asked = sockets::bind_port(&config.interface, boot_server::PORT)?;
    let boot_server = BootServer::new(subnets.clone(), serving.clone(), directory.clone(), ear.clone());
    let clock = house.clock.clone();
    parts.spawn(async move {
        boot_server.serve(asked, clock).await;
        bail!("the boot server of port 4011 has ended")
    });
    let mut kept = kept(&house.db).await?;
    kept.retain(|record| subnets.iter().any(|subnet| subnet.network.contains(&record.address())));
    let journal = Arc::new(Patient::new(Journal(house.db.clone())));
    let server = Server::new(subnets, serving, &kept, directory, journal, ear);
    let interface = config.interface.clone();
    // One that advertises on a link is enough.
    if !house.config.dhcp6.iter().any(|six| six.interface == interface && six.advertise) {
        parts.spawn(async move {
            dhcp::advertise::serve(interface).await;
            bail!("router advertisements have ended")
        });
    }
    let clock = house.clock.clone();
    parts.spawn(async move {
        sockets::serve(socket, server, clock).await;
        bail!("the DHCP server has ended")
    });
    Ok(())
}
