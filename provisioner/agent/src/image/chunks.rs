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
        atomic::{AtomicBool, AtomicUsize, Ordering},
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
    patience: Patience,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    troubles: Arc<AtomicUsize>,
}

impl Served {
    /// `base`: absolute, as in [`Chunks::base`].
    pub fn new(http: ureq::Agent, base: String, patience: Patience, log: Arc<Log>) -> Self {
        Self { http, base, patience, log, stop: super::never(), troubles: Arc::default() }
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
        self.fetch(&url, size, &root, &mut bytes)?;
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
        let url = format!("{}/chunks/{}", self.base, chunk.packed);
        self.fetch(&url, u64::from(chunk.packed_bytes), &chunk.packed, into)
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn troubles(&self) -> usize {
        self.troubles.load(Ordering::Relaxed)
    }
}
