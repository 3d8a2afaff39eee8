//! The server behind the cache: one fetch, held to its hash before anybody gets it; and whether the server is up.

use provisioner_wire::chunks::Sha;
use serde::Serialize;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// More than any manifest of a disk of a terabyte, or any chunk, has.
const PIECE_MAX: usize = 96 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest silence. The server itself may let a request wait for its turn.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A kept connection may be closed by the server just as it is used again, and the next one too.
const TRIES: usize = 3;

/// Why there is no such piece to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the server {url} is not reached ({reason}), and this cache does not have it")]
    Down { url: String, reason: String },
    #[error("the server {url} says {status}")]
    Refused { url: String, status: u16 },
    #[error("{url} sent other bytes than those of the hash")]
    WrongBytes { url: String },
    #[error("this cache is busy")]
    Busy,
}

/// As it is shown at `/status`.
#[derive(Debug, Clone, Serialize)]
pub(super) struct State {
    pub url: String,
    pub up: bool,
    /// Why it is not, and for how many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub down_seconds: u64,
}

#[derive(Debug)]
pub(super) struct Upstream {
    base: String,
    client: reqwest::Client,
    down: Mutex<Option<(Instant, String)>>,
}

impl Upstream {
    /// `base`: the server's plain URL.
    pub(super) fn new(base: &str) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENCE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        let base = format!("{}{}", base.trim_end_matches('/'), crate::image::CHUNKS_BASE);
        Ok(Self { base, client, down: Mutex::default() })
    }

    pub(super) fn state(&self) -> State {
        let down = self.down().clone();
        State {
            url: self.base.clone(),
            up: down.is_none(),
            down_seconds: down.as_ref().map_or(0, |(since, _)| since.elapsed().as_secs()),
            reason: down.map(|(_, reason)| reason),
        }
    }

    /// The bytes of `piece` from below `folder` (`chunks` or `manifests`), and no others.
    pub(super) async fn fetch(&self, folder: &str, piece: &Sha) -> Result<Vec<u8>, Trouble> {
        let url = format!("{}/{folder}/{piece}", self.base);
        let mut tries = 1;
        let (status, bytes) = loop {
            match self.read(&url).await {
                Ok(answer) => break answer,
                // A server that nobody reaches is not there a moment later either; the machine can ask it itself.
                Err(error) if tries == TRIES || error.is_connect() || error.is_timeout() => {
                    return Err(self.lost(url, &error));
                }
                Err(_) => tries += 1,
            }
        };
        self.found();
        if status != 200 {
            return Err(Trouble::Refused { url, status });
        }
        // The machine that asked waits meanwhile: a chunk takes half a millisecond.
        if Sha::of(&bytes) == *piece { Ok(bytes) } else { Err(Trouble::WrongBytes { url }) }
    }

    /// Status and body; a body that is longer than any piece is cut there.
    async fn read(&self, url: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
        let mut answer = self.client.get(url).send().await?;
        let status = answer.status().as_u16();
        let mut bytes = Vec::new();
        while status == 200 && bytes.len() <= PIECE_MAX {
            match answer.chunk().await? {
                Some(part) => bytes.extend_from_slice(&part),
                None => break,
            }
        }
        Ok((status, bytes))
    }

    fn lost(&self, url: String, error: &reqwest::Error) -> Trouble {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            reason = inner.to_string();
            cause = inner.source();
        }
        let mut down = self.down();
        if down.is_none() {
            tracing::warn!(upstream = self.base, "not reached: {reason}; what is here is served");
            *down = Some((Instant::now(), reason.clone()));
        }
        Trouble::Down { url, reason }
    }

    fn found(&self) {
        if let Some((since, _)) = self.down().take() {
            tracing::info!(upstream = self.base, seconds = since.elapsed().as_secs(), "reached again");
        }
    }

    fn down(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
