//! Writes an image so that the disk can boot only when all of it is there: both ends of the disk are cleared first and
//! kept back; the body is written, flushed and read back; the ends come last. Any failure clears them again (I8).

use super::{
    buffer::{Aligned, BLOCK_BYTES},
    device::{Device, make_zero, reread_patiently},
    held::{END_BYTES, Ends},
    table::TableError,
};
use crate::{
    image::{
        ImageError, Streamed,
        hash::{Fingerprint, sha256_is_cheap},
    },
    server::ServerError,
};
use provisioner_unpack::zeros::is_zero;
use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use std::io;

/// Zeros are looked for in pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("{0}")]
    Image(#[from] ImageError),
    #[error("{0}")]
    Table(#[from] TableError),
    #[error("the disk has {size} bytes, too small for {need}")]
    TooSmall { size: u64, need: u64 },
    #[error("unpacked its SHA-256 is {is}, but the image is declared with {declared}")]
    RawHash { is: String, declared: String },
    #[error("the disk did not keep what was written: {what} reads back differently")]
    ReadBack { what: &'static str },
    #[error("the server's question what the disk holds is not understood")]
    Challenge,
    #[error("what was read back is not accepted: {0}")]
    Server(#[from] ServerError),
    #[error("{first}; and then the partition table could not be cleared: {second}")]
    NotCleared { first: Box<WriteError>, second: Box<WriteError> },
}

/// Everything verified, on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub raw_bytes: u64,
    /// SHA-256 of the image's raw bytes as they were read back, before the partition table was fitted to the disk.
    /// Absent where none was declared and the processor would take long for it.
    pub read_back_sha256: Option<String>,
    /// Chunks that an earlier boot had written and that were not fetched again.
    pub kept_chunks: usize,
}

/// Takes one block and its offset.
pub type Take<'a> = dyn FnMut(&Aligned, u64) -> Result<(), WriteError> + 'a;

/// Writes what `pour` gives; `pour` gets the most bytes that fit, and returns only when every check of the source has
/// passed. `raw_sha256` is the declared hash of the raw bytes, checked on what is read back. `progress` hears bytes
/// written plus bytes read back. The licence must be spent before.
pub fn write_image(
    device: &mut dyn Device,
    raw_sha256: Option<&str>,
    progress: &mut dyn FnMut(u64),
    pour: impl FnOnce(u64, &mut Take<'_>) -> Result<Streamed, WriteError>,
) -> Result<Written, WriteError> {
    fenced(device, |device| write_all(device, raw_sha256, progress, pour))
}

/// Runs `write` on a disk whose ends were cleared, and clears them again where it fails: whatever it leaves behind
/// then, no firmware finds a system.
pub(super) fn fenced(
    device: &mut dyn Device,
    write: impl FnOnce(&mut dyn Device) -> Result<Written, WriteError>,
) -> Result<Written, WriteError> {
    if device.size() < 4 * END_BYTES {
        return Err(WriteError::TooSmall { size: device.size(), need: 4 * END_BYTES });
    }
    let written = clear_ends(device).and_then(|()| write(device));
    written.map_err(|first| match clear_ends(device) {
        Ok(()) => first,
        Err(second) => WriteError::NotCleared { first: Box::new(first), second: Box::new(second) },
    })
}

fn write_all(
    device: &mut dyn Device,
    raw_sha256: Option<&str>,
    progress: &mut dyn FnMut(u64),
    pour: impl FnOnce(u64, &mut Take<'_>) -> Result<Streamed, WriteError>,
) -> Result<Written, WriteError> {
    let (size, sector) = (device.size(), device.sector());
    let mut body = Body { ends: Ends::of_disk(size), device, hole: 0..0 };
    let streamed = pour(size, &mut |block, at| {
        body.take(block, at)?;
        if at == 0 {
            body.ends.check_table(sector, size)?;
        }
        progress(at + block.bytes().len() as u64);
        Ok(())
    })?;
    body.fill_hole()?;
    let Body { mut ends, .. } = body;
    device.flush().map_err(|error| WriteError::Io { what: "flushing the image", error })?;
    let mut seen = Seen::new(raw_sha256.is_some() || sha256_is_cheap());
    read_back(device, &ends, streamed.raw_bytes, &mut seen, progress)?;
    let read_back_sha256 = seen.judge(streamed.fingerprint, raw_sha256)?;
    finish(device, &mut ends)?;
    Ok(Written { raw_bytes: streamed.raw_bytes, read_back_sha256, kept_chunks: 0 })
}

/// With everything between them verified: fits the partition table to the disk and writes the ends.
pub(super) fn finish(device: &mut dyn Device, ends: &mut Ends) -> Result<(), WriteError> {
    ends.fit_table(device.sector(), device.size())?;
    ends.write(device).map_err(|error| WriteError::Io { what: "writing the partition table", error })?;
    let kept = ends.are_on(device);
    if !kept.map_err(|error| WriteError::Io { what: "reading the partition table back", error })? {
        return Err(WriteError::ReadBack { what: "the partition table" });
    }
    reread_patiently(device)
        .map_err(|error| WriteError::Io { what: "making the kernel read the partition table", error })
}

/// Clears both ends and checks that they are: after this no firmware finds a system on the disk.
pub fn clear_ends(device: &mut dyn Device) -> Result<(), WriteError> {
    let io = |what| move |error| WriteError::Io { what, error };
    let zeros = Ends::of_disk(device.size());
    device.write_at(zeros.head(), 0).map_err(io("clearing the start of the disk"))?;
    device.write_at(zeros.tail(), zeros.tail_start()).map_err(io("clearing the end of the disk"))?;
    device.flush().map_err(io("flushing the cleared ends"))?;
    if !zeros.are_on(device).map_err(io("reading the cleared ends"))? {
        return Err(WriteError::ReadBack { what: "a cleared end" });
    }
    // The kernel may hold on to a partition that is gone; the table is read again at the end in any case.
    let _ = device.reread_table();
    Ok(())
}

/// What lies between the ends, on its way to the disk.
struct Body<'d> {
    device: &'d mut dyn Device,
    ends: Ends,
    /// Zeros not yet brought to the disk, as one growing range.
    hole: std::ops::Range<u64>,
}

impl Body<'_> {
    fn take(&mut self, block: &Aligned, at: u64) -> Result<(), WriteError> {
        let size = self.device.size();
        let end = at + block.bytes().len() as u64;
        if end > size {
            return Err(WriteError::TooSmall { size, need: end });
        }
        let (body, at) = self.ends.keep(block.bytes(), at);
        self.write_runs(body, at)
    }

    /// Splits into runs of zero and other pieces; writes the latter.
    fn write_runs(&mut self, body: &[u8], at: u64) -> Result<(), WriteError> {
        let mut run = 0..0;
        for piece in body.chunks(PIECE_BYTES) {
            let next = run.end + piece.len();
            if is_zero(piece) {
                self.write_run(body.get(run.clone()).unwrap_or_default(), at + run.start as u64)?;
                self.grow_hole(at + run.end as u64, piece.len() as u64)?;
                run = next..next;
            } else {
                run.end = next;
            }
        }
        self.write_run(body.get(run.clone()).unwrap_or_default(), at + run.start as u64)
    }

    fn write_run(&mut self, run: &[u8], at: u64) -> Result<(), WriteError> {
        if run.is_empty() {
            return Ok(());
        }
        self.fill_hole()?;
        let io = |error| WriteError::Io { what: "writing the image", error };
        let sector = self.device.sector() as usize;
        if run.len().is_multiple_of(sector) {
            return self.device.write_at(run, at).map_err(io);
        }
        let mut padded = run.to_vec();
        padded.resize(run.len().next_multiple_of(sector), 0);
        self.device.write_at(&padded, at).map_err(io)
    }

    fn grow_hole(&mut self, at: u64, length: u64) -> Result<(), WriteError> {
        if self.hole.end != at {
            self.fill_hole()?;
            self.hole = at..at;
        }
        self.hole.end = at + length;
        Ok(())
    }

    fn fill_hole(&mut self) -> Result<(), WriteError> {
        let hole = std::mem::take(&mut self.hole);
        if hole.is_empty() {
            return Ok(());
        }
        let length = (hole.end - hole.start).next_multiple_of(u64::from(self.device.sector()));
        make_zero(self.device, hole.start, length)
            .map_err(|error| WriteError::Io { what: "zeroing a hole of the image", error })
    }
}

/// What was read back, hashed.
struct Seen {
    fingerprint: Fingerprint,
    sha256: Option<Sha256>,
}

impl Seen {
    fn new(with_sha256: bool) -> Self {
        Self { fingerprint: Fingerprint::default(), sha256: with_sha256.then(Sha256::new) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.fingerprint.update(bytes);
        if let Some(digest) = &mut self.sha256 {
            digest.update(bytes);
        }
    }

    /// The SHA-256, where it was made, when all is as it was written and as it was declared.
    fn judge(self, written: u128, declared: Option<&str>) -> Result<Option<String>, WriteError> {
        if self.fingerprint.finish() != written {
            return Err(WriteError::ReadBack { what: "the image" });
        }
        let is = self.sha256.map(|digest| hex(&digest.finalize()));
        match (is, declared) {
            (Some(is), Some(declared)) if !is.eq_ignore_ascii_case(declared) => {
                Err(WriteError::RawHash { is, declared: declared.to_owned() })
            }
            (is, _) => Ok(is),
        }
    }
}

/// Shows `seen` the image's `raw_bytes` bytes: the body from the disk, the ends as they are about to be written.
fn read_back(
    device: &mut dyn Device,
    ends: &Ends,
    raw_bytes: u64,
    seen: &mut Seen,
    progress: &mut dyn FnMut(u64),
) -> Result<(), WriteError> {
    let upto = |bytes: &[u8], start: u64| {
        usize::try_from(raw_bytes.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len())
    };
    seen.update(ends.head().get(..upto(ends.head(), 0)).unwrap_or_default());
    let mut buffer = Aligned::new(BLOCK_BYTES);
    let mut at = END_BYTES;
    let end = ends.tail_start().min(raw_bytes);
    let sector = u64::from(device.sector());
    while at < end {
        let want = (end - at).min(BLOCK_BYTES as u64);
        let read = usize::try_from(want.next_multiple_of(sector)).unwrap_or(BLOCK_BYTES);
        let room = buffer.room().get_mut(..read).unwrap_or_default();
        device.read_at(room, at).map_err(|error| WriteError::Io { what: "reading the image back", error })?;
        seen.update(room.get(..usize::try_from(want).unwrap_or(0)).unwrap_or_default());
        at += want;
        progress(raw_bytes + at);
    }
    seen.update(ends.tail().get(..upto(ends.tail(), ends.tail_start())).unwrap_or_default());
    Ok(())
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
