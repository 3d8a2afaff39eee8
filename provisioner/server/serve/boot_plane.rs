//! DHCP and TFTP, joined to the store and the engine.

use super::{
    House, boot_plane6,
    directory::Declared,
    hearing::{Ear, HEARD_MAX, Recorder},
    lease_journal::{Journal, kept},
};
use crate::{
    dhcp::{self, bootfile::Serving, server::Server, sockets, subnet::Subnet},
    http::boot_files::BootFiles,
    tftp::{self, Files},
    workflow::Engine,
};
use anyhow::{Context, Result, bail};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet};

/// Starts what the configuration asks for.
pub async fn start(
    parts: &mut JoinSet<Result<()>>,
    house: &House,
    engine: &Engine,
    files: &BootFiles,
    plain: SocketAddr,
) -> Result<()> {
    if house.config.tftp.is_none() && house.config.dhcp.is_none() && house.config.dhcp6.is_empty() {
        // Nobody would speak to the recorder: it would end at once, and the server with it.
        return Ok(());
    }
    let (told, telling) = mpsc::channel(HEARD_MAX);
    let recorder = Recorder { engine: engine.clone(), db: house.db.clone() };
    parts.spawn(async move { recorder.run(telling).await });
    let ear = Arc::new(Ear { told });
    if let Some(tftp) = &house.config.tftp {
        for listen in boot_plane6::and_over_ipv6(tftp.listen, &house.config)? {
            let socket = UdpSocket::bind(listen).await.with_context(|| format!("TFTP on {listen}"))?;
            let (files, ear) = (Files::new(files.files()), ear.clone());
            parts.spawn(async move { tftp::socket::serve(socket, files, ear).await.context("TFTP") });
        }
    }
    let directory = Arc::new(Declared::new(house));
    boot_plane6::start(parts, house, files, plain, (directory.clone(), ear.clone())).await?;
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
        let journal = Arc::new(Journal(house.db.clone()));
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
    }
    Ok(())
}
