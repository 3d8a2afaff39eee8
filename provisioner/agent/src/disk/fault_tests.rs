//! The fault matrix of a write, on a disk that has each fault: a row a test. What the network does is in `tests/install`,
//! what power does to real firmware in `tests/vm`.

use super::{
    fake::{Fake, Fault, gpt_image},
    pace::Pace,
    prove::proof,
    write::{WriteError, Written},
    write_chunks::{How, write_chunks},
};
use crate::image::{ImageError, chunks::Fetch};
use gpt::disk::LogicalBlockSize::{Lb512, Lb4096};
use provisioner_unpack::zeros::is_zero;
use provisioner_wire::chunks::{Chunk, Manifest, Sha};
use std::collections::HashMap;

const DISK: usize = 24 << 20;
const CHUNK: u32 = 64 << 10;

struct Shelf {
    manifest: Manifest,
    packed: HashMap<Sha, Vec<u8>>,
}

impl Shelf {
    fn of(raw: &[u8]) -> Self {
        let mut packed = HashMap::new();
        let chunks = raw.chunks(CHUNK as usize).map(|piece| {
            (!is_zero(piece)).then(|| {
                let bytes = zstd::bulk::compress(piece, 1).unwrap();
                let (name, packed_bytes) = (Sha::of(&bytes), u32::try_from(bytes.len()).unwrap());
                packed.insert(name, bytes);
                Chunk { packed: name, packed_bytes, raw: Sha::of(piece) }
            })
        });
        let manifest = Manifest { raw_bytes: raw.len() as u64, chunk_bytes: CHUNK, chunks: chunks.collect() };
        Self { manifest, packed }
    }
}

impl Fetch for Shelf {
    fn packed(&self, chunk: &Chunk, into: &mut Vec<u8>) -> Result<(), ImageError> {
        into.clone_from(&self.packed[&chunk.packed]);
        Ok(())
    }

    fn stop(&self) {}
}

/// As an install does it by default: sampled, with the server's challenge. The proof comes out beside the outcome.
fn install(disk: &mut Fake, image: &[u8], nonce: [u8; 32]) -> Result<Written, WriteError> {
    let shelf = Shelf::of(image);
    let expected = {
        let mut good = Fake { sector: disk.sector, ..Fake::of(vec![0; disk.bytes.len().max(image.len())]) };
        good.bytes[..image.len()].copy_from_slice(image);
        good.flushed = true;
        proof(&mut good, &shelf.manifest, &nonce).unwrap()
    };
    let how = How { pace: Pace::new(2, 8), most_workers: 8, resume: false, read_back: false };
    write_chunks(
        disk,
        &shelf.manifest,
        how,
        &|_| (),
        &shelf,
        Box::new(|device| {
            let shown = proof(device, &shelf.manifest, &nonce)
                .map_err(|error| WriteError::Io { what: "reading what the server asks for", error })?;
            if shown == expected {
                Ok(())
            } else {
                Err(WriteError::ReadBack { what: "what the server asked for" })
            }
        }),
    )
}

fn could_boot(disk: &[u8]) -> bool {
    let marks = |at: usize| disk[at..].starts_with(b"EFI PART");
    disk[510..512] == [0x55, 0xaa] || [512, 4096, disk.len() - 512, disk.len() - 4096].into_iter().any(marks)
}

fn old_system() -> Vec<u8> {
    gpt_image(DISK, Lb512, 2)
}

fn image() -> Vec<u8> {
    gpt_image(DISK, Lb512, 9)
}

/// Fails with this text, and leaves nothing that boots.
fn refused(disk: &mut Fake, image: &[u8], why: &str) {
    let error = install(disk, image, [3; 32]).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert!(!could_boot(&disk.bytes), "{error}");
}

#[test]
fn an_honest_disk_answers_any_challenge() {
    let image = image();
    for nonce in 0..20 {
        let mut disk = Fake::of(old_system());
        install(&mut disk, &image, [nonce; 32]).unwrap();
        assert!(disk.bytes == image);
    }
}

#[test]
fn bad_sector_on_read_back() {
    refused(&mut Fake::of(old_system()).with(&[Fault::ReadsWrong(2 << 20)]), &image(), "asked for");
}

#[test]
fn writes_that_are_acknowledged_and_dropped() {
    for from in [2 << 20, 6 << 20] {
        refused(&mut Fake::of(vec![0; DISK]).with(&[Fault::DropFrom(from)]), &image(), "asked for");
    }
}

#[test]
fn a_hole_that_is_said_to_be_zeroed_and_is_not() {
    let mut disk = Fake::of(vec![7; DISK]).with(&[Fault::DiscardLies]);
    refused(&mut disk, &gpt_image(DISK, Lb512, 1), "asked for");
}

#[test]
fn a_drive_that_claims_to_be_larger_than_it_is() {
    let mut disk = Fake::of(old_system()).with(&[Fault::WrapsAt(8 << 20)]);
    let error = install(&mut disk, &image(), [3; 32]).unwrap_err();
    // Its end lies on its beginning: found before the first byte of the image, or by the challenge.
    assert!(matches!(error, WriteError::ReadBack { .. } | WriteError::NotCleared { .. }), "{error}");
}

#[test]
fn too_small_exactly_equal_and_larger() {
    let image = gpt_image(16 << 20, Lb512, 5);
    let mut small = Fake::of(vec![9; (16 << 20) - 512]);
    assert!(install(&mut small, &image, [1; 32]).unwrap_err().to_string().contains("too small"));
    assert!(small.bytes.iter().all(|b| *b == 9) && small.operations == 0, "refused before the first write");
    let mut equal = Fake::of(vec![9; 16 << 20]);
    install(&mut equal, &image, [1; 32]).unwrap();
    assert!(equal.bytes == image);
    let mut larger = Fake::of(vec![9; 20 << 20]);
    install(&mut larger, &image, [1; 32]).unwrap();
    assert!(larger.bytes[larger.bytes.len() - 512..].starts_with(b"EFI PART"), "the backup table has moved");
    assert!(larger.bytes[1 << 20..15 << 20] == image[1 << 20..15 << 20]);
}

#[test]
fn sectors_of_4096_bytes() {
    let of = |sector| Fake { sector, ..Fake::of(vec![9; DISK]) };
    let mut native = of(4096);
    let image_4096 = gpt_image(DISK, Lb4096, 5);
    install(&mut native, &image_4096, [1; 32]).unwrap();
    assert!(native.bytes == image_4096);
    refused(&mut of(4096), &image(), "made for disks with 512-byte sectors, but this disk has 4096");
    refused(
        &mut of(512),
        &gpt_image(DISK, Lb4096, 5),
        "made for disks with 4096-byte sectors, but this disk has 512",
    );
}

#[test]
fn a_disk_that_disappears() {
    let mut whole = Fake::of(old_system());
    install(&mut whole, &image(), [1; 32]).unwrap();
    for n in (0..whole.operations).step_by(7) {
        let mut disk = Fake::of(old_system()).with(&[Fault::GoneAt(n)]);
        let error = install(&mut disk, &image(), [1; 32]).unwrap_err().to_string();
        assert!(error.contains("the disk"), "{error}");
        let body = 1 << 20..DISK - (1 << 20);
        let whole_body = disk.bytes[body.clone()] == image()[body.clone()];
        let untouched = disk.bytes[body.clone()] == old_system()[body];
        assert!(!could_boot(&disk.bytes) || untouched || whole_body, "operation {n}");
    }
}

#[test]
fn a_drive_that_turns_read_only() {
    let mut disk = Fake::of(old_system()).with(&[Fault::ReadOnlyAt(20)]);
    let error = install(&mut disk, &image(), [1; 32]).unwrap_err().to_string();
    assert!(error.contains("the disk failed") && error.contains("could not be cleared"), "{error}");
    assert!(!could_boot(&disk.bytes));
}

#[test]
fn a_slow_disk_only_takes_longer() {
    let image = image();
    let mut disk = Fake::of(old_system()).with(&[Fault::Slow(2)]);
    install(&mut disk, &image, [1; 32]).unwrap();
    assert!(disk.bytes == image);
}

/// Power is lost after the image was written and before it was flushed: nothing was said to be done, for the flush comes
/// before the challenge, and the challenge before the ends.
#[test]
fn the_flush_comes_before_the_challenge_and_the_challenge_before_the_ends() {
    let mut disk = Fake::of(old_system());
    let shelf = Shelf::of(&image());
    let how = How { pace: Pace::new(2, 8), most_workers: 8, resume: false, read_back: false };
    let done = write_chunks(
        &mut disk,
        &shelf.manifest,
        how,
        &|_| (),
        &shelf,
        Box::new(|device| {
            let mut end = vec![0; 4096];
            device.read_at(&mut end, 0).unwrap();
            assert!(is_zero(&end), "an end was written before the proof");
            device.read_at(&mut end, DISK as u64 - 4096).unwrap();
            assert!(is_zero(&end), "an end was written before the proof");
            Err(WriteError::Challenge)
        }),
    );
    assert!(matches!(done, Err(WriteError::Challenge)) && !could_boot(&disk.bytes));
    // Every fake disk holds a proof to it (`must_be_flushed`); that it does is seen here.
    let mut unflushed = Fake::of(image());
    assert!(proof(&mut unflushed, &shelf.manifest, &[1; 32]).is_err());
}
