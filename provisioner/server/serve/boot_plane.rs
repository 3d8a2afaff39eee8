//! DHCP and TFTP, joined to the store and the engine.

use super::{
    House,
    directory::Declared,
    hearing::{Ear, HEARD_MAX, Recorder},
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
    http::boot_files::BootFiles,
    tftp::{self, Files},
    workflow::Engine,
};
use anyhow::{Context, Result, bail};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};

/// Starts what the configuration asks for.
pub async fn start(
    parts: &mut JoinSet<Result<()>>,
    house: &House,
    engine: &Engine,
    files: &BootFiles,
    plain: SocketAddr,
    secure: SocketAddr,
) -> Result<()> {
    if house.config.tftp.is_none() && house.config.dhcp.iter().all(|one| !one.is_on()) {
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
        let networks = house.config.dhcp.iter().flat_map(|dhcp| &dhcp.subnets).map(|s| s.network.into());
        let (settings, files, ear) = (tftp.settings(networks), Files::new(files.files()), ear.clone());
        parts.spawn(async move { tftp::serve(socket, settings, files, ear).await.context("TFTP") });
    }
    let directory = Arc::new(Declared::open(house, house.config.http.tls_url(secure.port())).await?);
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
    parts.spawn(async move {
        dhcp::advertise::serve(interface).await;
        bail!("router advertisements have ended")
    });
    let clock = house.clock.clone();
    parts.spawn(async move {
        sockets::serve(socket, server, clock).await;
        bail!("the DHCP server has ended")
    });
    Ok(())
}
