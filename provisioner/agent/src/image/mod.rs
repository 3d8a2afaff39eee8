//! From a URL to raw disk bytes: fetch, hash and unpack overlap in threads of their own; whoever calls gets the raw
//! bytes in large aligned blocks, in order, and at the end the proof of what they were.

pub mod chunks;
pub mod hash;
mod pipe;
pub mod source;

use crate::disk::buffer::{Aligned, BLOCK_BYTES};
use hash::Fingerprint;
use pipe::PipeReader;
use provisioner_unpack::{hashing::Hashing, limit::Limited, unpack as unpacked};
use provisioner_wire::order::{Image, ImageFormat};
use source::{Source, SourceError};
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
};

const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 16;
const BLOCKS_AHEAD: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("fetching: {0}")]
    Fetch(io::Error),
    #[error("{url}: its SHA-256 is {is}, but the image is declared with {declared}")]
    Hash { url: String, is: String, declared: String },
    #[error("{url}: the {format} stream is damaged after {at} raw bytes: {error}")]
    Unpack { url: String, format: ImageFormat, at: u64, error: io::Error },
    #[error("{url}: unpacked it has {is} bytes, but the image is declared with {declared}")]
    RawSize { url: String, is: u64, declared: u64 },
    #[error("{url}: {what}")]
    Manifest { url: String, what: String },
    #[error("chunk {number} of the image is damaged: {what}")]
    Chunk { number: usize, what: String },
    /// The taker of blocks failed; it knows why.
    #[error("called off")]
    Stopped,
}

/// What was streamed, all checks of the file and of its length passed. The raw bytes' own SHA-256, where declared, is
/// checked when they are read back from the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streamed {
    pub raw_bytes: u64,
    /// Of the raw bytes.
    pub fingerprint: u128,
}

/// Streams `image` into `take`, which gets blocks of [`BLOCK_BYTES`] (the last one shorter) and their offset. At most
/// `most` raw bytes. An error of `take` stops everything and comes back as it is; only an `Ok` at the end means that
/// the bytes were the declared ones, so nothing that `take` did may count before.
pub fn stream<E: From<ImageError>>(
    image: &Image,
    source: Source,
    most: u64,
    mut take: impl FnMut(&Aligned, u64) -> Result<(), E>,
) -> Result<Streamed, E> {
    let stop = source.stop_flag();
    std::thread::scope(|scope| {
        let (chunks, fetched) = sync_channel(CHUNKS_AHEAD);
        let (blocks, unpacked) = sync_channel::<Aligned>(BLOCKS_AHEAD);
        let (give_back, spare) = channel();
        let fetcher = scope.spawn(move || fetch(source, &chunks));
        let unpacker = scope.spawn(move || unpack(image, most, fetched, &blocks, &spare));
        let taken = take_all(unpacked, &give_back, &mut take);
        if taken.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let unpacked = unpacker.join().unwrap_or(Err(ImageError::Stopped));
        if unpacked.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let fetched = fetcher.join().unwrap_or(Err(ImageError::Stopped));
        taken?;
        Ok(judge(image, fetched, unpacked)?)
    })
}

/// The cause is the first stage that failed by itself, not one that ended because its neighbour did.
fn judge(
    image: &Image,
    fetched: Result<String, ImageError>,
    unpacked: Result<Streamed, ImageError>,
) -> Result<Streamed, ImageError> {
    let url = || image.url.clone();
    match (fetched, unpacked) {
        (Err(error), Err(ImageError::Stopped)) => Err(error),
        (Err(ImageError::Stopped), Err(error)) | (Ok(_), Err(error)) => Err(error),
        (Err(error), _) => Err(error),
        (Ok(is), Ok(_)) if !is.eq_ignore_ascii_case(&image.sha256) => {
            Err(ImageError::Hash { url: url(), is, declared: image.sha256.clone() })
        }
        (Ok(_), Ok(raw)) => {
            if let Some(declared) = image.raw_size_bytes.filter(|d| *d != raw.raw_bytes) {
                return Err(ImageError::RawSize { url: url(), is: raw.raw_bytes, declared });
            }
            Ok(raw)
        }
    }
}

/// Fetches to the end; returns the SHA-256 of the file as served.
fn fetch(source: Source, chunks: &SyncSender<Vec<u8>>) -> Result<String, ImageError> {
    let mut reader = Hashing::new(source);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let count = (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        if count.map_err(fetch_error)? == 0 {
            return Ok(reader.finish());
        }
        chunks.send(chunk).map_err(|_| ImageError::Stopped)?;
    }
}

fn fetch_error(error: io::Error) -> ImageError {
    let stopped = error.get_ref().and_then(|e| e.downcast_ref()) == Some(&SourceError::Stopped);
    if stopped { ImageError::Stopped } else { ImageError::Fetch(error) }
}

/// Unpacks into blocks. A fetch that failed looks like the end of the file here, which a packed format calls an error
/// and `judge` overrides by the fetch's own.
fn unpack(
    image: &Image,
    most: u64,
    fetched: Receiver<Vec<u8>>,
    blocks: &SyncSender<Aligned>,
    spare: &Receiver<Aligned>,
) -> Result<Streamed, ImageError> {
    let damaged = |at, error| ImageError::Unpack { url: image.url.clone(), format: image.format, at, error };
    let most = image.raw_size_bytes.unwrap_or(most).min(most);
    let mut reader =
        Limited::new(unpacked(PipeReader::new(fetched), image.format).map_err(|e| damaged(0, e))?, most);
    let (mut fingerprint, mut at) = (Fingerprint::default(), 0);
    loop {
        let mut block = spare.try_recv().unwrap_or_else(|_| Aligned::new(BLOCK_BYTES));
        block.fill_from(&mut reader).map_err(|e| damaged(at, e))?;
        if block.bytes().is_empty() {
            return Ok(Streamed { raw_bytes: at, fingerprint: fingerprint.finish() });
        }
        fingerprint.update(block.bytes());
        at += block.bytes().len() as u64;
        blocks.send(block).map_err(|_| ImageError::Stopped)?;
    }
}

fn take_all<E>(
    unpacked: Receiver<Aligned>,
    give_back: &Sender<Aligned>,
    take: &mut impl FnMut(&Aligned, u64) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = 0;
    for block in unpacked {
        take(&block, at)?;
        at += block.bytes().len() as u64;
        let _ = give_back.send(block);
    }
    Ok(())
}

/// A flag that nobody sets, for a fetch that is never called off.
pub fn never() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}
