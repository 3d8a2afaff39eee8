//! A partition table with any bytes: what is accepted stays on its disk when it is moved.

use flate2::Crc;
use provisioner_agent::disk::table::{read, stretch_protective_mbr};
use std::io;

/// The bytes as the beginning of a disk, with the checksums they have and with right ones, in both sector sizes.
pub fn run(data: &[u8]) {
    for sector in [512usize, 4096] {
        // Small inputs still have their entries behind the header where sectors are large.
        let mut disk = data.to_vec();
        if sector == 4096 {
            disk = [vec![0; 4096 - 512], disk].concat();
        }
        check(&disk, sector);
        if seal(&mut disk, sector).is_some() {
            check(&disk, sector);
        }
    }
}

/// Puts the right checksums where the header at LBA 1 says that they belong.
fn seal(disk: &mut [u8], sector: usize) -> Option<()> {
    let word =
        |disk: &[u8], at: usize| Some(u32::from_le_bytes(*disk.get(sector + at..)?.first_chunk()?) as usize);
    disk.get_mut(sector..sector + 8)?.copy_from_slice(b"EFI PART");
    let (length, count, size) = (word(disk, 12)?, word(disk, 80)?, word(disk, 84)?);
    let from = word(disk, 72)?.checked_mul(sector)?;
    let entries = disk.get(from..from.checked_add(count.checked_mul(size)?)?)?;
    let sum = crc(entries).to_le_bytes();
    disk.get_mut(sector + 88..sector + 92)?.copy_from_slice(&sum);
    disk.get_mut(sector + 16..sector + 20)?.fill(0);
    let sum = crc(disk.get(sector..sector.checked_add(length)?)?).to_le_bytes();
    disk.get_mut(sector + 16..sector + 20)?.copy_from_slice(&sum);
    Some(())
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn check(disk: &[u8], sector: usize) {
    let reader = |buffer: &mut [u8], at: u64| {
        let from = usize::try_from(at).ok().and_then(|at| disk.get(at..)?.get(..buffer.len()));
        buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    };
    let Ok(Some(gpt)) = read(sector as u32, reader) else { return };
    for partition in gpt.partitions() {
        assert!(partition.number > 0, "partitions are counted from 1");
        assert!(partition.name.chars().count() <= 36, "{:?}", partition.name);
    }
    for size in [1 << 20, 8 << 20, (8 << 30) + 512 * 7, u64::MAX / 4096 * 4096] {
        let Ok(moved) = gpt.moved(size) else { continue };
        for (at, bytes) in [&moved.primary, &moved.backup_entries, &moved.backup] {
            let end = at.checked_add(bytes.len() as u64).expect("beyond any disk");
            assert!(end <= size, "{at} to {end} on a disk of {size}");
        }
        let before = moved.backup_entries.0 + moved.backup_entries.1.len() as u64;
        assert!(before <= moved.backup.0, "the backup's entries reach into its header");
        let last = gpt.partitions().iter().map(|p| p.last_lba).max().unwrap_or_default();
        let entries = moved.backup_entries.0 / sector as u64;
        assert!(last < entries, "a partition to {last} reaches into the backup at {entries}");
        stretch_protective_mbr(
            &mut disk[..sector.min(disk.len())].to_vec(),
            gpt.alternate_lba(),
            size / sector as u64 - 1,
        );
    }
}
