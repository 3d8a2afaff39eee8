//! The writer on disks that fail, lie and lose power.

use super::*;
use crate::disk::fake::{Fake, Fault, gpt_image};
use gpt::disk::LogicalBlockSize::{Lb512, Lb4096};
use proptest::prelude::*;

const DISK: usize = 24 << 20;

/// Pours bytes from memory, as a source that has verified them.
fn pour(image: &[u8]) -> impl FnOnce(u64, &mut Take<'_>) -> Result<Streamed, WriteError> {
    let image = image.to_vec();
    move |_, take| {
        let mut block = Aligned::new(BLOCK_BYTES);
        for (n, piece) in image.chunks(BLOCK_BYTES).enumerate() {
            block.copy_from(piece);
            take(&block, (n * BLOCK_BYTES) as u64)?;
        }
        let mut fingerprint = Fingerprint::default();
        fingerprint.update(&image);
        Ok(Streamed { raw_bytes: image.len() as u64, fingerprint: fingerprint.finish() })
    }
}

fn image() -> Vec<u8> {
    gpt_image(12 << 20, Lb512, 7)
}

/// An old system that would boot: valid GPT at both ends.
fn old_system() -> Vec<u8> {
    gpt_image(DISK, Lb512, 2)
}

/// What a firmware could find: a boot signature, or a table at either end.
fn could_boot(disk: &[u8]) -> bool {
    let marks = |at: usize| disk[at..].starts_with(b"EFI PART");
    disk[510..512] == [0x55, 0xaa]
        || marks(512)
        || marks(4096)
        || marks(disk.len() - 512)
        || marks(disk.len() - 4096)
}

fn write(disk: &mut Fake, image: &[u8]) -> Result<Written, WriteError> {
    write_image(disk, Some(&hex(&Sha256::digest(image))), &mut |_| (), pour(image))
}

#[test]
fn the_image_is_there_and_the_table_fits_the_disk() {
    let image = image();
    for faults in [vec![], vec![Fault::NoDiscard]] {
        let mut disk = Fake::of(old_system()).with(&faults);
        let written = write(&mut disk, &image).unwrap();
        assert_eq!(written.read_back_sha256, Some(hex(&Sha256::digest(&image))));
        assert_eq!(disk.bytes[1 << 20..image.len()], image[1 << 20..]);
        let config = gpt::GptConfig::new().only_valid_headers(true);
        let table = config.open_from_device(std::io::Cursor::new(disk.bytes)).unwrap();
        assert_eq!(table.partitions().len(), 7);
    }
}

#[test]
fn an_image_as_large_as_the_disk_is_byte_identical() {
    let image = gpt_image(DISK, Lb512, 9);
    let mut disk = Fake::of(old_system());
    write(&mut disk, &image).unwrap();
    assert!(disk.bytes == image);
}

#[test]
fn sectors_of_4096_bytes_and_odd_lengths_work() {
    let mut disk = Fake { sector: 4096, ..Fake::of(vec![7; DISK]) };
    write(&mut disk, &gpt_image(12 << 20, Lb4096, 3)).unwrap();
    let error = write(&mut disk, &image()).unwrap_err().to_string();
    assert!(error.contains("512-byte sectors"), "{error}");
    assert!(!could_boot(&disk.bytes));
    for length in [100, 1 << 20, (1 << 20) + 1, (9 << 20) + 777] {
        let raw = vec![3; length];
        let mut disk = Fake { sector: 4096, ..Fake::of(vec![7; DISK]) };
        write(&mut disk, &raw).unwrap();
        assert_eq!(disk.bytes[..length], raw);
    }
}

#[test]
fn too_large_an_image_is_refused_and_leaves_no_table() {
    let mut disk = Fake::of(old_system());
    let error = write(&mut disk, &vec![1; DISK + 512]).unwrap_err();
    assert!(matches!(error, WriteError::TooSmall { .. }), "{error}");
    assert!(!could_boot(&disk.bytes));
    let mut small = Fake::of(vec![0; 2 << 20]);
    assert!(matches!(write(&mut small, b"x"), Err(WriteError::TooSmall { .. })));
}

/// Power fails (the disk is gone) after each operation in turn. Until the last operation but one, no firmware may find
/// anything to boot, new or half; before the clearing is done, the old system may still be whole.
#[test]
fn power_lost_at_any_operation_never_leaves_a_bootable_half() {
    for image in [image(), gpt_image(DISK, Lb512, 9)] {
        let mut whole = Fake::of(old_system());
        write(&mut whole, &image).unwrap();
        let operations = whole.operations;
        assert!(operations > 15, "{operations}");
        for n in 0..operations {
            let mut disk = Fake::of(old_system()).with(&[Fault::GoneAt(n)]);
            assert!(write(&mut disk, &image).is_err(), "{n}");
            let body_is_old =
                disk.bytes[1 << 20..DISK - (1 << 20)] == old_system()[1 << 20..DISK - (1 << 20)];
            let all_is_new = disk.bytes[4096..] == whole.bytes[4096..];
            // The backup table is written with the ends, when the body is verified.
            let body_is_new = disk.bytes[1 << 20..DISK - (1 << 20)] == whole.bytes[1 << 20..DISK - (1 << 20)];
            assert!(
                !could_boot(&disk.bytes) || body_is_old || all_is_new || (body_is_new && n + 4 >= operations),
                "operation {n} of {operations}"
            );
        }
    }
}

/// The head and the tail are zero on the disk whenever the body changes.
#[test]
fn the_ends_stay_clear_while_the_body_is_written() {
    fn watch(disk: &Fake) {
        let body_began = disk.operations > 3;
        let last = disk.bytes[1 << 20..11 << 20] == image()[1 << 20..11 << 20];
        assert!(!body_began || last || !could_boot(&disk.bytes));
    }
    let mut disk = Fake { watch: Some(watch), ..Fake::of(old_system()) };
    write(&mut disk, &image()).unwrap();
}

#[test]
fn a_single_failure_anywhere_clears_the_table_again() {
    let image = image();
    let mut whole = Fake::of(old_system());
    write(&mut whole, &image).unwrap();
    for n in 0..whole.operations {
        let mut disk = Fake::of(old_system()).with(&[Fault::FailAt(n)]);
        let error = write(&mut disk, &image).unwrap_err().to_string();
        assert!(error.contains("the disk failed"), "{error}");
        assert!(!could_boot(&disk.bytes), "operation {n}: {error}");
    }
}

#[test]
fn a_disk_that_drops_writes_is_found_out() {
    let mut disk = Fake::of(old_system()).with(&[Fault::DropWrites]);
    assert!(matches!(write(&mut disk, &image()), Err(WriteError::NotCleared { .. })));
    let mut disk = Fake::of(vec![0; DISK]).with(&[Fault::DropFrom(3 << 20)]);
    let error = write(&mut disk, &image()).unwrap_err().to_string();
    assert!(error.contains("the image reads back differently"), "{error}");
    assert!(!could_boot(&disk.bytes));
}

#[test]
fn the_declared_hash_of_the_raw_bytes_must_hold() {
    let mut disk = Fake::of(old_system());
    let error = write_image(&mut disk, Some(&"00".repeat(32)), &mut |_| (), pour(&image())).unwrap_err();
    assert!(error.to_string().contains("unpacked its SHA-256 is"), "{error}");
    assert!(!could_boot(&disk.bytes));
}

#[test]
fn a_source_that_fails_at_its_end_leaves_no_table() {
    let mut disk = Fake::of(old_system());
    let result = write_image(&mut disk, None, &mut |_| (), |most, take| {
        pour(&image())(most, take)?;
        Err(WriteError::Image(ImageError::Stopped))
    });
    assert!(result.is_err() && !could_boot(&disk.bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any pattern of zeros and data on any old contents ends byte-identical.
    #[test]
    fn any_image_ends_byte_identical(
        pieces in proptest::collection::vec((any::<u8>(), 1usize..900_000), 1..12),
        discard: bool,
    ) {
        let raw: Vec<u8> = pieces.iter().flat_map(|(byte, length)| {
            vec![if byte % 2 == 0 { 0 } else { *byte }; *length]
        }).collect();
        let mut disk = Fake::of(vec![0xee; DISK]);
        if !discard { disk = disk.with(&[Fault::NoDiscard]); }
        write(&mut disk, &raw).unwrap();
        prop_assert!(disk.bytes[..raw.len()] == raw);
    }
}
