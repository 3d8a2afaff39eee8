//! TFTP, read-only, from a map of names: no file system is reachable. [`transfer`] is the protocol as a function of
//! (state, packet or silence, time); [`port_each`] and [`port_shared`] have the sockets and the clock.
//!
//! In: read requests. Out: the bytes of a known name, and one [`Transferred`] per transfer for the timeline.

mod admission;
pub mod config;
mod desk;
mod lane;
mod port;
mod port_each;
mod port_shared;
pub mod request;
pub mod round_trip;
pub mod source;
pub mod transfer;
#[cfg(test)]
mod transfer_tests;

use bytes::Bytes;
use config::Settings;
use desk::Desk;
use futures_util::future::BoxFuture;
use std::{collections::BTreeMap, fmt, io, net::SocketAddr, sync::Arc};
use tokio::net::UdpSocket;

/// Serves `files` on `socket` for ever. An error is one of the socket itself.
pub async fn serve(
    socket: UdpSocket,
    settings: Settings,
    files: Files,
    hearing: Arc<dyn Hearing>,
) -> io::Result<()> {
    let (socket, single_port) = (socket.into_std()?, settings.single_port);
    let desk = Desk::new(settings, files, hearing);
    if single_port { port_shared::serve(socket, desk).await } else { port_each::serve(socket, desk).await }
}

/// Answers names that mean something else to each machine: GRUB under Secure Boot reads one fixed path, whichever machine
/// it runs on.
pub trait Named: Send + Sync + 'static {
    /// What `name` (without leading slashes) is to `peer`. `None`: there is no such file, and the client is told so at
    /// once.
    fn read<'a>(&'a self, peer: SocketAddr, name: &'a str) -> BoxFuture<'a, Option<Bytes>>;
}

/// Everything that can be fetched: a map of names and, beside it, what is made for each machine. Cheap to clone.
#[derive(Clone, Default)]
pub struct Files {
    fixed: Arc<BTreeMap<String, Bytes>>,
    named: Option<Arc<dyn Named>>,
}

impl Files {
    pub fn new(files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        Self { fixed: Arc::new(files.into_iter().collect()), named: None }
    }

    /// Asks `named` for every name that is not in the map.
    #[must_use]
    pub fn with(self, named: impl Named) -> Self {
        Self { named: Some(Arc::new(named)), ..self }
    }

    /// The file that `peer` means: leading slashes do not matter (shim asks for `//grubx64.efi`), case does. There is no
    /// folder to leave: a name is a key, never a path.
    pub async fn open(&self, peer: SocketAddr, name: &str) -> Option<Bytes> {
        let name = name.trim_start_matches('/');
        match (self.fixed.get(name), &self.named) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(named)) => named.read(peer, name).await,
            (None, None) => None,
        }
    }

    /// The names that all machines share.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fixed.keys().map(String::as_str)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("names", &self.fixed.keys()).finish_non_exhaustive()
    }
}

/// How one transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub peer: SocketAddr,
    pub file: String,
    /// Of the whole file.
    pub bytes: usize,
    /// Of them, what the client has acknowledged.
    pub acknowledged: usize,
    /// As negotiated; 0 where no transfer began.
    pub block_size: usize,
    /// The client has said anything after its request.
    pub heard: bool,
    pub retransmits: u32,
    pub milliseconds: u64,
    pub end: End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Complete,
    /// Broken off, and why. Mostly by the client: much firmware asks for the size first and ends with error 8.
    Aborted(String),
    /// The client went silent.
    Silent,
    Refused(&'static str),
}

/// Where the ends of transfers are told.
pub trait Hearing: Send + Sync + 'static {
    fn transferred(&self, transferred: Transferred);
}
