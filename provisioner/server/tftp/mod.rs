//! TFTP, read-only, from a map of names: no file system is reachable. [`transfer`] is the protocol as a function of
//! (state, packet or silence, time); [`socket`] has the sockets and the clock.
//!
//! In: read requests. Out: the bytes of a known name, and one [`Transferred`] per transfer for the timeline.

pub mod request;
pub mod socket;
pub mod transfer;

use bytes::Bytes;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// Everything that can be fetched, by name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Files(Arc<BTreeMap<String, Bytes>>);

impl Files {
    pub fn new(files: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        Self(Arc::new(files.into_iter().collect()))
    }

    /// The file a client means: leading slashes do not matter, case does. A name that would leave a folder is no name.
    pub fn open(&self, name: &str) -> Option<Bytes> {
        self.0.get(name.trim_start_matches('/')).cloned()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
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
    /// The client ended it: most firmware asks for the size first and breaks off with error 8.
    Aborted(String),
    /// The client went silent.
    Silent,
    Refused(&'static str),
}

/// Where the ends of transfers are told.
pub trait Hearing: Send + Sync + 'static {
    fn transferred(&self, transferred: Transferred);
}
