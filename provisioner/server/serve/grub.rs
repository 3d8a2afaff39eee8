//! What TFTP is asked by GRUB, answered by `http`'s decision: two rooms that do not know each other.

use crate::{
    http::{App, grub},
    tftp::Named,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// A request that is sent again gets the answer that was made for the first: another would have another boot id, and
/// GRUB may take either.
const REMEMBERED: Duration = Duration::from_secs(10);
/// More at once than ever boot by shim.
const REMEMBERED_MAX: usize = 4096;

/// GRUB's configurations, each for the machine that asks.
pub struct Configs {
    app: App,
    given: Mutex<HashMap<SocketAddr, (Instant, Option<Bytes>)>>,
}

impl Configs {
    pub fn new(app: &App) -> Self {
        Self { app: app.clone(), given: Mutex::default() }
    }

    async fn config(&self, peer: SocketAddr) -> Option<Bytes> {
        let mut given = self.given.lock().await;
        given.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        if let Some((_, text)) = given.get(&peer) {
            return text.clone();
        }
        let made = grub::config(&self.app, peer.ip().to_canonical()).await;
        let text = made.unwrap_or_else(|error| {
            tracing::error!(%peer, "no GRUB configuration: {error:?}");
            None
        });
        let text = text.map(Bytes::from);
        if given.len() < REMEMBERED_MAX {
            given.insert(peer, (Instant::now(), text.clone()));
        }
        text
    }
}

impl Named for Configs {
    fn read<'a>(&'a self, peer: SocketAddr, name: &'a str) -> BoxFuture<'a, Option<Bytes>> {
        Box::pin(async move { if name == grub::CONFIG { self.config(peer).await } else { None } })
    }
}
