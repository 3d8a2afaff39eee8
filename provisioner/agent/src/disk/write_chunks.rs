//! Writes an image chunk by chunk, many at a time: each worker fetches, checks, unpacks and writes through a handle of
//! its own. The same fence as for a stream stands around it: the ends of the disk come last, and any failure clears
//! them (I8).

use super::{
    buffer::Aligned,
    crew::Crew,
    device::{Device, make_zero},
    held::{END_BYTES, Ends},
    pace::Pace,
    write::{WriteError, Written, fenced, finish},
};
use crate::image::{ImageError, chunks::Fetch, hash::Fingerprint};
use provisioner_unpack::zeros::is_zero;
use provisioner_wire::chunks::{Chunk, Manifest, Sha};
use std::{
    io,
    ops::Range,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Longest hole that one worker zeroes at a time.
const HOLE_BYTES_MAX: u64 = 256 << 20;

/// Between two looks at how fast it goes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How an image is written.
#[derive(Debug, Clone)]
pub struct How {
    /// How many workers to begin with, and how many there may be.
    pub pace: Pace,
    pub most_workers: usize,
    /// Part of it may be on the disk already: what has the right hash is not fetched again.
    pub resume: bool,
    /// Read every byte back, before the proof.
    pub read_back: bool,
}

/// Shows somebody else that the disk has what was written; called when all but the ends is on the medium.
pub type Prove<'a> = dyn FnOnce(&mut dyn Device) -> Result<(), WriteError> + 'a;

/// Writes, reads back where that is wanted, and proves. `progress` hears bytes written plus bytes read back, from any
/// thread. The licence must be spent before.
pub fn write_chunks(
    device: &mut dyn Device,
    manifest: &Manifest,
    how: How,
    progress: &(dyn Fn(u64) + Sync),
    fetch: &dyn Fetch,
    prove: Box<Prove<'_>>,
) -> Result<Written, WriteError> {
    if device.size() < manifest.raw_bytes {
        return Err(WriteError::TooSmall { size: device.size(), need: manifest.raw_bytes });
    }
    fenced(device, |device| {
        let (size, sector) = (device.size(), device.sector());
        let writer = Writer::new(device, manifest, how, progress, fetch);
        writer.first_chunk()?;
        lock(&writer.ends).check_table(sector, size)?;
        writer.all(&writer.work(), Writer::bring)?;
        lock(&writer.device).flush().map_err(|error| WriteError::Io { what: "flushing the image", error })?;
        if writer.how.read_back {
            writer.all(&writer.body(), Writer::read_back)?;
        }
        prove(&mut **lock(&writer.device))?;
        let kept = writer.kept.load(Ordering::Relaxed);
        let mut ends = writer.ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        finish(device, &mut ends)?;
        Ok(Written { raw_bytes: manifest.raw_bytes, read_back_sha256: None, kept_chunks: kept })
    })
}

/// One thing for a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Work {
    Chunk(usize),
    /// Raw bytes between the ends that must read as zero.
    Hole(Range<u64>),
}

struct Writer<'a> {
    device: Mutex<&'a mut dyn Device>,
    manifest: &'a Manifest,
    how: How,
    progress: &'a (dyn Fn(u64) + Sync),
    fetch: &'a dyn Fetch,
    ends: Mutex<Ends>,
    tail_start: u64,
    sector: usize,
    /// Of what of each chunk lies between the ends, as it was written.
    fingerprints: Vec<OnceLock<u128>>,
    done: AtomicU64,
    /// Bytes of chunks that were dealt with: what the pace is measured by. Holes cost next to nothing.
    moved: AtomicU64,
    /// Chunks that were on the disk already.
    kept: AtomicUsize,
}

type Act<'a> = fn(&mut Hands<'_, 'a>, &Work) -> Result<(), WriteError>;

/// What one worker works with.
struct Hands<'w, 'a> {
    own: Option<Box<dyn Device>>,
    writer: &'w Writer<'a>,
    packed: Vec<u8>,
    raw: Aligned,
    unpacker: zstd::bulk::Decompressor<'static>,
}

impl<'a> Writer<'a> {
    fn new(
        device: &'a mut dyn Device,
        manifest: &'a Manifest,
        how: How,
        progress: &'a (dyn Fn(u64) + Sync),
        fetch: &'a dyn Fetch,
    ) -> Self {
        let ends = Ends::of_disk(device.size());
        Self {
            manifest,
            how,
            progress,
            fetch,
            tail_start: ends.tail_start(),
            ends: Mutex::new(ends),
            sector: device.sector() as usize,
            fingerprints: manifest.chunks.iter().map(|_| OnceLock::new()).collect(),
            device: Mutex::new(device),
            done: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            kept: AtomicUsize::new(0),
        }
    }

    /// Before anything else is written: its partition table may not fit the disk.
    fn first_chunk(&self) -> Result<(), WriteError> {
        match self.manifest.chunks.first() {
            Some(Some(_)) => self.hands()?.bring(&Work::Chunk(0)),
            _ => Ok(()),
        }
    }

    /// What is left to bring to the disk, in the order of the disk.
    fn work(&self) -> Vec<Work> {
        let mut work = Vec::new();
        for (number, chunk) in self.manifest.chunks.iter().enumerate() {
            match chunk {
                Some(_) if number == 0 => {}
                Some(_) => work.push(Work::Chunk(number)),
                None => self.add_hole(&mut work, self.between_ends(number)),
            }
        }
        work
    }

    /// Everything between the ends, to be read back.
    fn body(&self) -> Vec<Work> {
        let mut work = Vec::new();
        for (number, chunk) in self.manifest.chunks.iter().enumerate() {
            match chunk {
                Some(_) => work.push(Work::Chunk(number)),
                None => self.add_hole(&mut work, self.between_ends(number)),
            }
        }
        work
    }

    fn add_hole(&self, work: &mut Vec<Work>, hole: Range<u64>) {
        match work.last_mut() {
            _ if hole.is_empty() => {}
            Some(Work::Hole(last)) if last.end == hole.start && last.end - last.start < HOLE_BYTES_MAX => {
                last.end = hole.end;
            }
            _ => work.push(Work::Hole(hole)),
        }
    }

    fn between_ends(&self, number: usize) -> Range<u64> {
        let (at, length) = self.manifest.place(number);
        let start = at.clamp(END_BYTES, self.tail_start.max(END_BYTES));
        start..(at + length as u64).clamp(start, self.tail_start.max(start))
    }

    /// Does `work` with as many workers as is best at the time; the first failure stops them, and is the one told.
    fn all(&self, work: &[Work], act: Act<'a>) -> Result<(), WriteError> {
        let crew = Crew::of(self.how.pace.active(), work.len().min(self.how.most_workers).max(1));
        std::thread::scope(|scope| {
            for number in 0..crew.most {
                let crew = &crew;
                scope.spawn(move || {
                    if let Err(error) = self.one_worker(number, crew, work, act) {
                        crew.fail(error);
                        self.fetch.stop();
                    }
                    crew.leave();
                });
            }
            self.pace(&crew);
        });
        crew.failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn one_worker(&self, number: usize, crew: &Crew, work: &[Work], act: Act<'a>) -> Result<(), WriteError> {
        // A worker that is never called holds no memory.
        let mut hands = None;
        while crew.is_called(number) {
            let Some(one) = work.get(crew.next.fetch_add(1, Ordering::Relaxed)) else {
                crew.finish();
                break;
            };
            match &mut hands {
                Some(hands) => act(hands, one)?,
                none => act(none.insert(self.hands()?), one)?,
            }
        }
        Ok(())
    }

    /// Looks how fast it goes, and calls more workers or fewer, until all work is given out.
    fn pace(&self, crew: &Crew) {
        let mut pace = self.how.pace.clone();
        let look = || (Instant::now(), self.moved.load(Ordering::Relaxed), self.fetch.troubles());
        let mut last = look();
        while crew.wait(LOOK_EVERY) {
            let now = look();
            let seconds = now.0.duration_since(last.0).as_secs_f64().max(0.001);
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let rate = now.1.saturating_sub(last.1) as f64 / seconds;
            crew.call(pace.measured(rate, now.2.saturating_sub(last.2)));
            last = now;
        }
    }

    fn bring(hands: &mut Hands<'_, 'a>, work: &Work) -> Result<(), WriteError> {
        hands.bring(work)
    }

    fn read_back(hands: &mut Hands<'_, 'a>, work: &Work) -> Result<(), WriteError> {
        hands.read_back(work)
    }

    fn hands(&self) -> Result<Hands<'_, 'a>, WriteError> {
        let own = match lock(&self.device).share() {
            Ok(own) => Some(own),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => None,
            Err(error) => return Err(WriteError::Io { what: "opening the disk once more", error }),
        };
        let unpacker = zstd::bulk::Decompressor::new()
            .map_err(|error| WriteError::Io { what: "starting to unpack", error })?;
        let raw = Aligned::new(self.manifest.chunk_bytes as usize);
        Ok(Hands { own, writer: self, packed: Vec::new(), raw, unpacker })
    }

    fn advance(&self, bytes: u64) {
        (self.progress)(self.done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }
}

impl Hands<'_, '_> {
    fn bring(&mut self, work: &Work) -> Result<(), WriteError> {
        match work {
            Work::Chunk(number) => {
                let Some(Some(chunk)) = self.writer.manifest.chunks.get(*number) else { return Ok(()) };
                self.bring_chunk(*number, chunk)?;
                self.writer.moved.fetch_add(self.raw.bytes().len() as u64, Ordering::Relaxed);
                self.writer.advance(self.writer.manifest.place(*number).1 as u64);
            }
            Work::Hole(hole) => {
                let length = (hole.end - hole.start).next_multiple_of(self.writer.sector as u64);
                self.on_device(|device, _| make_zero(device, hole.start, length))
                    .map_err(|error| WriteError::Io { what: "zeroing a hole of the image", error })?;
                self.writer.advance(length);
            }
        }
        Ok(())
    }

    fn bring_chunk(&mut self, number: usize, chunk: &Chunk) -> Result<(), WriteError> {
        let (at, length) = self.writer.manifest.place(number);
        let body = self.writer.between_ends(number);
        let whole = body == (at..at + length as u64);
        if whole && self.writer.how.resume && self.is_there(at, length, chunk)? {
            self.writer.kept.fetch_add(1, Ordering::Relaxed);
        } else {
            self.writer.fetch.packed(chunk, &mut self.packed)?;
            self.unpack(number, length)?;
            if !whole {
                lock(&self.writer.ends).keep(self.raw.bytes(), at);
            }
            self.write(at, &body)?;
        }
        if !self.writer.how.read_back {
            return Ok(());
        }
        let kept = self.part(at, &body);
        if let Some(fingerprint) = self.writer.fingerprints.get(number) {
            let _ = fingerprint.set(Fingerprint::of(kept));
        }
        Ok(())
    }

    /// True where the disk has the chunk; it is in `raw` then.
    fn is_there(&mut self, at: u64, length: usize, chunk: &Chunk) -> Result<bool, WriteError> {
        self.read(at, length).map_err(|error| WriteError::Io { what: "looking what is there", error })?;
        Ok(Sha::of(self.raw.bytes()) == chunk.raw)
    }

    /// Into `raw`, exactly `length` bytes.
    fn unpack(&mut self, number: usize, length: usize) -> Result<(), WriteError> {
        let room = self.raw.room().get_mut(..length).unwrap_or_default();
        let damaged = |what: String| ImageError::Chunk { number, what };
        let is = self
            .unpacker
            .decompress_to_buffer(&self.packed, room)
            .map_err(|error| damaged(error.to_string()))?;
        if is != length {
            return Err(damaged(format!("it unpacks to {is} bytes, not to {length}")).into());
        }
        self.raw.set_length(length);
        Ok(())
    }

    /// What of `raw`, which begins at `at`, lies in `body`.
    fn part(&self, at: u64, body: &Range<u64>) -> &[u8] {
        let within = |to: u64| usize::try_from(to.saturating_sub(at)).unwrap_or(0);
        self.raw.bytes().get(within(body.start)..within(body.end)).unwrap_or_default()
    }

    fn write(&mut self, at: u64, body: &Range<u64>) -> Result<(), WriteError> {
        if body.is_empty() {
            return Ok(());
        }
        let sector = self.writer.sector;
        let length = self.raw.bytes().len();
        let padded = length.next_multiple_of(sector);
        if padded != length {
            // The image ends inside a sector: the rest of that sector is zero.
            if let Some(rest) = self.raw.room().get_mut(length..padded) {
                rest.fill(0);
            }
            self.raw.set_length(padded);
        }
        let end = body.start + (body.end - body.start).next_multiple_of(sector as u64);
        let written =
            self.on_device(|device, hands| device.write_at(hands.part(at, &(body.start..end)), body.start));
        self.raw.set_length(length);
        written.map_err(|error| WriteError::Io { what: "writing the image", error })
    }

    fn read_back(&mut self, work: &Work) -> Result<(), WriteError> {
        let io = |error| WriteError::Io { what: "reading the image back", error };
        match work {
            Work::Chunk(number) => {
                let body = self.writer.between_ends(*number);
                let length = usize::try_from(body.end - body.start).unwrap_or(0);
                if length > 0 {
                    self.read(body.start, length).map_err(io)?;
                    let written = self.writer.fingerprints.get(*number).and_then(OnceLock::get);
                    if written != Some(&Fingerprint::of(self.raw.bytes())) {
                        return Err(WriteError::ReadBack { what: "the image" });
                    }
                }
                self.writer.moved.fetch_add(length as u64, Ordering::Relaxed);
                self.writer.advance(length as u64);
            }
            Work::Hole(hole) => {
                let step = u64::from(self.writer.manifest.chunk_bytes);
                let mut at = hole.start;
                while at < hole.end {
                    let length = usize::try_from((hole.end - at).min(step)).unwrap_or(0);
                    self.read(at, length).map_err(io)?;
                    if !is_zero(self.raw.bytes()) {
                        return Err(WriteError::ReadBack { what: "a hole of the image" });
                    }
                    at += length as u64;
                    self.writer.advance(length as u64);
                }
            }
        }
        Ok(())
    }

    /// Reads `length` bytes at `at` into `raw`.
    fn read(&mut self, at: u64, length: usize) -> io::Result<()> {
        let whole = length.next_multiple_of(self.writer.sector);
        let mut raw = std::mem::replace(&mut self.raw, Aligned::new(0));
        let read =
            self.on_device(|device, _| device.read_at(raw.room().get_mut(..whole).unwrap_or_default(), at));
        raw.set_length(length);
        self.raw = raw;
        read
    }

    /// On the worker's own handle, or in turn on the one that all share.
    fn on_device<T>(&mut self, act: impl FnOnce(&mut dyn Device, &Self) -> io::Result<T>) -> io::Result<T> {
        match self.own.take() {
            Some(mut own) => {
                let done = act(&mut *own, self);
                self.own = Some(own);
                done
            }
            None => act(&mut **lock(&self.writer.device), self),
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "write_chunks_tests.rs"]
mod tests;
