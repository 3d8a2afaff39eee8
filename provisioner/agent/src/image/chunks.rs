//! Chunks from the server: the manifest, and one packed chunk after the other, each through every cut and held to its
//! hash before anybody unpacks it.

use super::{
    ImageError,
    source::{Source, SourceError},
};
use crate::{log::Log, patience::Patience};
use provisioner_wire::chunks::{Chunk, Chunks, Manifest, Sha};
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

/// Largest manifest that is read: of an image of 4 TiB.
const MANIFEST_BYTES_MAX: u64 = 320 << 20;

/// Where a writer gets its chunks. Asked from many threads.
pub trait Fetch: Sync {
    /// Puts the packed bytes of `chunk` into `into`; they have the chunk's hash.
    fn packed(&self, chunk: &Chunk, into: &mut Vec<u8>) -> Result<(), ImageError>;
    /// Ends every running fetch soon, with [`ImageError::Stopped`].
    fn stop(&self);
    /// How often a fetch had to be tried again, so far: the network or the server has too much to do.
    fn troubles(&self) -> usize {
        0
    }
}

/// The server's chunks of one image.
#[derive(Debug)]
pub struct Served {
    http: ureq::Agent,
    base: String,
    caches: Vec<Cache>,
    patience: Patience,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    troubles: Arc<AtomicUsize>,
}

/// What is asked before the server, and trusted with nothing.
#[derive(Debug)]
struct Cache {
    base: String,
    /// Failures since it last gave the right bytes.
    failures: AtomicU32,
}

/// A cache that failed so often in a row is not asked any more.
const CACHE_FAILURES_MAX: u32 = 3;

impl Served {
    /// `base`: absolute, as in [`Chunks::base`].
    pub fn new(http: ureq::Agent, base: String, patience: Patience, log: Arc<Log>) -> Self {
        Self { http, base, caches: Vec::new(), patience, log, stop: super::never(), troubles: Arc::default() }
    }

    /// Asks these bases first, in their order.
    #[must_use]
    pub fn through(mut self, caches: impl Iterator<Item = String>) -> Self {
        self.caches = caches.map(|base| Cache { base, failures: AtomicU32::new(0) }).collect();
        self
    }

    /// From the first cache that gives the right bytes; each is asked once, without patience.
    fn cached(&self, piece: &str, size: u64, hash: &Sha, into: &mut Vec<u8>) -> bool {
        let patience =
            Patience { give_up_after: std::time::Duration::ZERO, wrong_answers: 1, ..self.patience };
        let asked = self.caches.iter().filter(|c| c.failures.load(Ordering::Relaxed) < CACHE_FAILURES_MAX);
        for cache in asked {
            let url = format!("{}/{piece}", cache.base);
            let (log, stop) = (Arc::clone(&self.log), Arc::clone(&self.stop));
            into.clear();
            let read =
                Source::new(self.http.clone(), url.clone(), size, patience, log, stop).read_to_end(into);
            let trouble = match read {
                Ok(_) if Sha::of(into) == *hash => {
                    cache.failures.store(0, Ordering::Relaxed);
                    return true;
                }
                Ok(_) => "not the bytes of its hash".to_owned(),
                Err(error) => error.to_string(),
            };
            if cache.failures.fetch_add(1, Ordering::Relaxed) + 1 == CACHE_FAILURES_MAX {
                self.log.say(format_args!("the cache {} is left out from now on: {trouble}", cache.base));
            }
        }
        false
    }

    /// The manifest with the root that the server's order named.
    pub fn manifest(&self, chunks: &Chunks) -> Result<Manifest, ImageError> {
        let url = format!("{}/manifests/{}", self.base, chunks.root);
        let wrong = |what: String| ImageError::Manifest { url: url.clone(), what };
        let root = Sha::from_hex(&chunks.root).ok_or_else(|| wrong("its root is no SHA-256".into()))?;
        let size = self.size(&url)?;
        if size > MANIFEST_BYTES_MAX {
            return Err(wrong(format!("{size} bytes are more than any manifest has")));
        }
        let mut bytes = Vec::new();
        let piece = format!("manifests/{root}");
        if !self.cached(&piece, size, &root, &mut bytes) {
            self.fetch(&url, size, &root, &mut bytes)?;
        }
        Manifest::parse(&bytes).map_err(|e| wrong(e.to_string()))
    }

    /// From `HEAD`, asked until it is answered or patience ends.
    fn size(&self, url: &str) -> Result<u64, ImageError> {
        let began = std::time::Instant::now();
        let mut attempt = 0;
        loop {
            let reason = match self.http.head(url).call() {
                Ok(answer) if answer.status().is_success() => {
                    let length =
                        answer.headers().get("content-length").and_then(|v| v.to_str().ok()?.parse().ok());
                    match length {
                        Some(length) => return Ok(length),
                        None => "the answer has no Content-Length".to_owned(),
                    }
                }
                Ok(answer) => format!("status {}", answer.status()),
                Err(error) => error.to_string(),
            };
            if began.elapsed() >= self.patience.give_up_after {
                let seconds = began.elapsed().as_secs();
                let (url, at, size) = (url.to_owned(), 0, 0);
                return Err(ImageError::Fetch(io::Error::other(SourceError::Away {
                    url,
                    at,
                    size,
                    seconds,
                    reason,
                })));
            }
            crate::patience::sleep_unless(&self.stop, self.patience.pause(attempt));
            if self.stop.load(Ordering::Relaxed) {
                return Err(ImageError::Stopped);
            }
            attempt += 1;
        }
    }

    /// Bytes that are not those of the hash are fetched anew a few times: something on the way may spoil them.
    fn fetch(&self, url: &str, size: u64, hash: &Sha, into: &mut Vec<u8>) -> Result<(), ImageError> {
        for attempt in 0..self.patience.wrong_answers.max(1) {
            let source = Source::new(
                self.http.clone(),
                url.to_owned(),
                size,
                self.patience,
                Arc::clone(&self.log),
                Arc::clone(&self.stop),
            );
            into.clear();
            let mut source = source;
            let read = source.read_to_end(into).map_err(super::fetch_error);
            self.troubles.fetch_add(source.interruptions() as usize, Ordering::Relaxed);
            read?;
            if Sha::of(into) == *hash {
                return Ok(());
            }
            self.troubles.fetch_add(1, Ordering::Relaxed);
            self.log.say(format_args!("{url}: not the bytes of its hash; fetching it anew"));
            crate::patience::sleep_unless(&self.stop, self.patience.pause(attempt));
        }
        let (url, is) = (url.to_owned(), Sha::of(into).to_string());
        Err(ImageError::Hash { url, is, declared: hash.to_string() })
    }
}

impl Fetch for Served {
    fn packed(&self, chunk: &Chunk, into: &mut Vec<u8>) -> Result<(), ImageError> {
        let (piece, size) = (format!("chunks/{}", chunk.packed), u64::from(chunk.packed_bytes));
        if self.cached(&piece, size, &chunk.packed, into) {
            return Ok(());
        }
        let url = format!("{}/{piece}", self.base);
        self.fetch(&url, size, &chunk.packed, into)
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn troubles(&self) -> usize {
        self.troubles.load(Ordering::Relaxed)
    }
}
