//! The parallel writer on disks that fail, lie and lose power.

use super::*;
use crate::disk::fake::{Fake, Fault, gpt_image};
use gpt::disk::LogicalBlockSize::{Lb512, Lb4096};
use proptest::prelude::*;
use std::{collections::HashMap, sync::atomic::AtomicBool};

const DISK: usize = 24 << 20;
const CHUNK: u32 = 64 << 10;

/// A server in memory.
struct Shelf {
    manifest: Manifest,
    packed: HashMap<Sha, Vec<u8>>,
    /// How many chunks are given before it gives none.
    patience: AtomicUsize,
    given: AtomicUsize,
    stopped: AtomicBool,
}

impl Shelf {
    fn of(raw: &[u8]) -> Self {
        let mut packed = HashMap::new();
        let chunks = raw.chunks(CHUNK as usize).map(|piece| {
            (!is_zero(piece)).then(|| {
                let bytes = zstd::bulk::compress(piece, 1).unwrap();
                let name = Sha::of(&bytes);
                let packed_bytes = u32::try_from(bytes.len()).unwrap();
                packed.insert(name, bytes);
                Chunk { packed: name, packed_bytes, raw: Sha::of(piece) }
            })
        });
        let manifest = Manifest { raw_bytes: raw.len() as u64, chunk_bytes: CHUNK, chunks: chunks.collect() };
        Self {
            manifest,
            packed,
            patience: AtomicUsize::new(usize::MAX),
            given: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    fn giving(self, chunks: usize) -> Self {
        Self { patience: AtomicUsize::new(chunks), ..self }
    }
}

impl Fetch for Shelf {
    fn packed(&self, chunk: &Chunk, into: &mut Vec<u8>) -> Result<(), ImageError> {
        if self.given.fetch_add(1, Ordering::SeqCst) >= self.patience.load(Ordering::SeqCst) {
            return Err(ImageError::Fetch(io::Error::other("the server is gone")));
        }
        into.clone_from(&self.packed[&chunk.packed]);
        Ok(())
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

fn write(disk: &mut Fake, shelf: &Shelf, resume: bool) -> Result<Written, WriteError> {
    let how = How { pace: Pace::new(2, 8), most_workers: 8, resume, read_back: true };
    write_chunks(disk, &shelf.manifest, how, &|_| (), shelf, Box::new(|_| Ok(())))
}

fn old_system() -> Vec<u8> {
    gpt_image(DISK, Lb512, 2)
}

fn could_boot(disk: &[u8]) -> bool {
    let marks = |at: usize| disk[at..].starts_with(b"EFI PART");
    disk[510..512] == [0x55, 0xaa]
        || marks(512)
        || marks(4096)
        || marks(disk.len() - 512)
        || marks(disk.len() - 4096)
}

#[test]
fn the_image_is_there_and_the_table_fits_the_disk() {
    let image = gpt_image(12 << 20, Lb512, 7);
    let shelf = Shelf::of(&image);
    assert!(shelf.manifest.chunks.contains(&None), "a hole is to be tried, too");
    for faults in [vec![], vec![Fault::NoDiscard]] {
        let mut disk = Fake::of(old_system()).with(&faults);
        let written = write(&mut disk, &shelf, false).unwrap();
        assert_eq!((written.raw_bytes, written.kept_chunks), (image.len() as u64, 0));
        assert_eq!(disk.bytes[1 << 20..image.len()], image[1 << 20..]);
        let config = gpt::GptConfig::new().only_valid_headers(true);
        let table = config.open_from_device(io::Cursor::new(disk.bytes)).unwrap();
        assert_eq!(table.partitions().len(), 7);
    }
}

#[test]
fn an_image_as_large_as_the_disk_is_byte_identical_also_with_odd_ends() {
    for size in [DISK, DISK - 512 * 5] {
        let image = gpt_image(size, Lb512, 9);
        let mut disk = Fake::of(vec![7; size]);
        write(&mut disk, &Shelf::of(&image), false).unwrap();
        assert!(disk.bytes == image, "{size}");
    }
}

#[test]
fn sectors_of_4096_bytes_and_odd_lengths_work() {
    let mut disk = Fake { sector: 4096, ..Fake::of(vec![7; DISK]) };
    write(&mut disk, &Shelf::of(&gpt_image(12 << 20, Lb4096, 3)), false).unwrap();
    let error = write(&mut disk, &Shelf::of(&gpt_image(12 << 20, Lb512, 3)), false).unwrap_err().to_string();
    assert!(error.contains("512-byte sectors"), "{error}");
    assert!(!could_boot(&disk.bytes));
    for length in [1, 100, 1 << 20, (1 << 20) + 1, (9 << 20) + 777] {
        let raw = vec![3; length];
        let mut disk = Fake { sector: 4096, ..Fake::of(vec![7; DISK]) };
        write(&mut disk, &Shelf::of(&raw), false).unwrap();
        assert!(disk.bytes[..length] == raw, "{length}");
        let rest = &disk.bytes[length..length.next_multiple_of(4096)];
        assert!(rest.iter().all(|b| *b == 0 || length < 1 << 20), "{length}");
    }
}

#[test]
fn a_second_boot_fetches_only_what_is_not_there() {
    let image = gpt_image(DISK, Lb512, 9);
    let mut disk = Fake::of(old_system());
    write(&mut disk, &Shelf::of(&image).giving(60), false).unwrap_err();
    assert!(!could_boot(&disk.bytes));
    let shelf = Shelf::of(&image);
    let written = write(&mut disk, &shelf, true).unwrap();
    assert!(disk.bytes == image);
    assert!(written.kept_chunks >= 30, "{} kept", written.kept_chunks);
    let data = shelf.manifest.chunks.iter().flatten().count();
    assert_eq!(shelf.given.load(Ordering::SeqCst), data - written.kept_chunks);
    // Without a word of the server that it may resume, nothing that is there counts.
    let shelf = Shelf::of(&image);
    assert_eq!(write(&mut disk, &shelf, false).unwrap().kept_chunks, 0);
    assert_eq!(shelf.given.load(Ordering::SeqCst), data);
}

#[test]
fn a_damaged_chunk_and_a_lost_server_leave_no_table() {
    let image = gpt_image(12 << 20, Lb512, 7);
    let mut bad = Shelf::of(&image);
    let third = bad.manifest.chunks.iter().flatten().nth(30).unwrap().packed;
    bad.packed.insert(third, zstd::bulk::compress(&[1; 100], 1).unwrap());
    let shelves = [(bad, "unpacks to 100 bytes"), (Shelf::of(&image).giving(20), "the server is gone")];
    for (shelf, expected) in shelves {
        let mut disk = Fake::of(old_system());
        let error = write(&mut disk, &shelf, false).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!could_boot(&disk.bytes) && shelf.stopped.load(Ordering::SeqCst));
    }
    let error = write(&mut Fake::of(vec![0; 8 << 20]), &Shelf::of(&image), false).unwrap_err().to_string();
    assert!(error.contains("too small"), "{error}");
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let image = gpt_image(12 << 20, Lb512, 7);
    for fault in [Fault::DropFrom(3 << 20), Fault::DropWrites, Fault::DiscardLies] {
        let mut disk = Fake::of(vec![7; DISK]).with(&[fault]);
        let done = write(&mut disk, &Shelf::of(&image), false);
        let found = matches!(done, Err(WriteError::ReadBack { .. } | WriteError::NotCleared { .. }));
        assert!(found, "{fault:?}: {done:?}");
    }
}

/// Never a disk that could boot, whatever operation it was that failed.
#[test]
fn a_failure_anywhere_clears_the_table_again() {
    let image = gpt_image(8 << 20, Lb512, 3);
    let shelf = Shelf::of(&image);
    let mut whole = Fake::of(old_system());
    write(&mut whole, &shelf, false).unwrap();
    for n in 0..whole.operations {
        let mut disk = Fake::of(old_system()).with(&[Fault::FailAt(n)]);
        let done = write(&mut disk, &shelf, false);
        assert!(done.is_err() && !could_boot(&disk.bytes), "operation {n}: {done:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Power is lost at any operation, and once more; the third boot ends with the image, to the last byte.
    #[test]
    fn it_resumes_from_wherever_power_was_lost(first in 1usize..150, second in 1usize..150) {
        let image = gpt_image(DISK, Lb512, 5);
        let mut disk = Fake::of(old_system());
        for gone in [first, second] {
            disk.operations = 0;
            disk.faults = vec![Fault::GoneAt(gone)];
            if write(&mut disk, &Shelf::of(&image), true).is_err() && gone >= 2 && could_boot(&disk.bytes) {
                // Lost among the last writes of all: everything that would boot was verified.
                let body = 1 << 20..DISK - (1 << 20);
                prop_assert!(disk.bytes[body.clone()] == image[body], "{gone}");
            }
        }
        disk.faults.clear();
        let shelf = Shelf::of(&image);
        let written = write(&mut disk, &shelf, true).unwrap();
        prop_assert!(disk.bytes == image);
        let data = shelf.manifest.chunks.iter().flatten().count();
        prop_assert_eq!(shelf.given.load(Ordering::SeqCst) + written.kept_chunks, data);
    }
}
