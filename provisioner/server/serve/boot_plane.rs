//! DHCP and TFTP, joined to the store and the engine.

use super::{
    House,
    directory::Declared,
    grub,
    hearing::Ear,
    lease_journal::{Journal, kept},
};
use crate::{
    dhcp::{self, bootfile::Serving, server::Server, sockets, subnet::Subnet},
    http::{App, boot_files::BootFiles},
    tftp::{self, Files},
};
use anyhow::{Context, Result, bail};
use std::{net::SocketAddr, sync::Arc};
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
        let socket =
            UdpSocket::bind(tftp.listen).await.with_context(|| format!("TFTP on {}", tftp.listen))?;
        let (files, ear) = (Files::new(files.files()).with(grub::Configs::new(app)), ear.clone());
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
        let directory = Arc::new(Declared::new(house, house.config.http.tls_url(secure.port())));
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
