//! DHCPv6 and what it needs beside it: the listeners that machines reach over IPv6, and router advertisements.

use super::{House, directory::Declared, hearing::Ear, lease_journal6};
use crate::{
    config::Config,
    dhcp::{
        advertise::{self, Advertised},
        v6::{
            config::Mode,
            server::{Server, Serving6},
            sockets::{self, Sockets, address_on},
            subnet::Served,
        },
    },
    http::{self, App, Settings, boot_files::BootFiles, listen::Bound, script, script6, short_way::ShortWay},
};
use anyhow::{Context, Result, bail};
use axum::Router;
use ipnet::{IpNet, Ipv6Net};
use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
};
use tokio::{sync::watch, task::JoinSet};

/// What the server identifier is derived from the keyring for: servers with one key and one store are one server.
const SERVER_IDENTIFIER: &str = "DHCPv6 server identifier";

/// Each served interface with this server's address there.
fn links(config: &Config) -> Result<Vec<(&Served, Ipv6Addr)>> {
    config.dhcp6.iter().map(|served| Ok((served, address_on(served)?))).collect()
}

/// Where DHCPv6 has its clients: the subnets, and where none is named, what is around this server's address.
pub fn networks(config: &Config) -> impl Iterator<Item = IpNet> + '_ {
    config.dhcp6.iter().flat_map(|served| {
        let around = served.address.filter(|_| served.subnets.is_empty());
        let around = around.and_then(|address| Ipv6Net::new(address, 64).ok());
        served.subnets.iter().map(|subnet| subnet.network).chain(around).map(IpNet::from)
    })
}

/// The plain listener's `routes`, whose scripts tell agents the IPv6 address that asked for them.
pub fn told_address(routes: Router, config: &Config) -> Router {
    let subnets = config.dhcp6.iter().flat_map(|served| &served.subnets);
    script6::with_address(routes, subnets.map(|subnet| subnet.network).collect())
}

/// `listen`, and the same port on each address by which machines reach this server over IPv6, unless `listen` has them.
pub fn and_over_ipv6(listen: SocketAddr, config: &Config) -> Result<Vec<SocketAddr>> {
    Ok([listen].into_iter().chain(more_over_ipv6(listen, config)?).collect())
}

fn more_over_ipv6(listen: SocketAddr, config: &Config) -> Result<BTreeSet<SocketAddr>> {
    let all = listen.is_ipv6() && listen.ip().is_unspecified();
    let wanted = links(config)?.into_iter().map(|(_, address)| SocketAddr::from((address, listen.port())));
    Ok(wanted.filter(|address| !all && *address != listen).collect())
}

/// Plain HTTP on the IPv6 addresses, with URLs of the address that was asked: a machine without IPv4 is told no IPv4 URL.
pub fn listen(
    parts: &mut JoinSet<Result<()>>,
    house: &House,
    app: &App,
    files: &BootFiles,
    plain: SocketAddr,
    stopped: &watch::Receiver<bool>,
) -> Result<()> {
    for address in more_over_ipv6(plain, &house.config)? {
        let bound = Bound::new(address)?;
        let plain_url = format!("http://{}", bound.address());
        let scripts = script::Builder::new(&plain_url).map_err(anyhow::Error::msg)?;
        let settings = Settings { plain_url, ..app.settings().clone() };
        let app = app.reached_by(settings, Box::new(move |script| scripts.text(script)));
        let routes = told_address(http::plain(&app, files.router()), &house.config);
        let ending = super::until(stopped.clone());
        let short_way = ShortWay::new(&app);
        parts.spawn(async move {
            bound.plain_with_chunks(routes, short_way, ending).await.context("plain HTTP over IPv6")
        });
    }
    Ok(())
}

/// Starts what the configuration asks for.
pub async fn start(
    parts: &mut JoinSet<Result<()>>,
    house: &House,
    files: &BootFiles,
    plain: SocketAddr,
    (directory, ear): (Arc<Declared>, Arc<Ear>),
) -> Result<()> {
    for (served, address) in links(&house.config)? {
        let identifier = house.keyring.derive(SERVER_IDENTIFIER);
        let serving = Serving6 {
            duid: duid(&*identifier),
            address,
            http: format!("http://{}", SocketAddr::from((address, plain.port()))),
            files: files.files().map(|(name, _)| name).collect(),
        };
        let sockets = Sockets::bind(&served.interface)?;
        let mut kept = lease_journal6::kept(&house.db).await?;
        kept.retain(|record| served.subnets.iter().any(|subnet| subnet.network.contains(&record.ip())));
        let journal = Arc::new(lease_journal6::Journal(house.db.clone()));
        let server = Server::new(served.clone(), serving, &kept, directory.clone(), journal, ear.clone());
        let clock = house.clock.clone();
        parts.spawn(async move {
            sockets::serve(sockets, server, clock).await;
            bail!("the DHCPv6 server has ended")
        });
        if served.advertise {
            let (interface, said) = (served.interface.clone(), advertised(served, address));
            parts.spawn(async move {
                advertise::serve_as(interface, said).await;
                bail!("router advertisements have ended")
            });
        }
    }
    Ok(())
}

/// DUID-UUID (RFC 6355). Short: a long one has overrun buffers in firmware (CVE-2023-45230).
fn duid(identifier: &[u8]) -> Vec<u8> {
    let uuid = uuid::Builder::from_custom_bytes(identifier.first_chunk().copied().unwrap_or_default());
    [&[0, 4], uuid.as_uuid().as_bytes().as_slice()].concat()
}

/// Where addresses are given: ask for them, and the prefix is on this link. Else: ask for what else there is.
fn advertised(served: &Served, address: Ipv6Addr) -> Advertised {
    let stateful = served.mode == Mode::Stateful;
    let own = served.subnets.iter().map(|s| s.network).find(|n| n.contains(&address));
    Advertised { managed: stateful, other: true, on_link: own.filter(|_| stateful) }
}
