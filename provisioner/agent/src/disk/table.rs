//! The GUID partition table: read, checked, and moved to a disk larger than its image. UEFI 2.10 §5.3.
//!
//! Own code, because the `gpt` crate numbers partitions anew when it writes (Debian's cloud images have 1, 14 and 15)
//! and panics on entries that are not 128 bytes long.

use std::io;

/// Where LBA 1 must have it.
const SIGNATURE: &[u8] = b"EFI PART";
const HEADER_BYTES_MIN: usize = 92;
const ENTRIES_BYTES_MAX: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("reading the partition table: {0}")]
    Io(#[from] io::Error),
    #[error("the partition table is damaged: {0}")]
    Damaged(&'static str),
    #[error("the image is made for disks with {image}-byte sectors, but this disk has {disk}-byte sectors")]
    Sector { image: u32, disk: u32 },
    #[error("there is no room for another partition: {0}")]
    NoRoom(&'static str),
    #[error("partition {number} ends beyond what a disk of {size_bytes} bytes can hold")]
    TooSmall { number: u32, size_bytes: u64 },
}

/// One entry in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// 1-based place in the table.
    pub number: u32,
    pub type_guid: uuid::Uuid,
    pub name: String,
    pub first_lba: u64,
    /// Inclusive.
    pub last_lba: u64,
}

/// A checked primary table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    sector: u64,
    header: Vec<u8>,
    entries: Vec<u8>,
    entry_bytes: usize,
}

/// A table with one more partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    pub partition: Partition,
    /// The entries beside [`Moved::primary`].
    pub primary_entries: (u64, Vec<u8>),
    pub tables: Moved,
}

/// The bytes of a table that was moved, each with its offset on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    pub primary: (u64, Vec<u8>),
    pub backup_entries: (u64, Vec<u8>),
    pub backup: (u64, Vec<u8>),
}

/// Reads the primary table through `read(buffer, offset)`. `None` where there is none at all.
pub fn read(
    sector: u32,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
) -> Result<Option<Gpt>, TableError> {
    let lba = u64::from(sector);
    let mut header = vec![0; sector as usize];
    read(&mut header, lba)?;
    if !header.starts_with(SIGNATURE) {
        let other = if sector == 512 { 4096 } else { 512 };
        let mut start = vec![0; 8192];
        read(&mut start, 0)?;
        let elsewhere = start.get(other..).is_some_and(|s| s.starts_with(SIGNATURE));
        return if elsewhere {
            Err(TableError::Sector { image: other as u32, disk: sector })
        } else {
            Ok(None)
        };
    }
    let length = u32_at(&header, 12) as usize;
    if !(HEADER_BYTES_MIN..=header.len()).contains(&length) {
        return Err(TableError::Damaged("the header's length"));
    }
    header.truncate(length);
    if header_crc(&header) != u32_at(&header, 16) || u64_at(&header, 24) != 1 {
        return Err(TableError::Damaged("the header's checksum or place"));
    }
    let (count, entry_bytes) = (u32_at(&header, 80) as usize, u32_at(&header, 84) as usize);
    let bytes = count.checked_mul(entry_bytes).filter(|b| *b <= ENTRIES_BYTES_MAX);
    let (Some(bytes), true) = (bytes, entry_bytes >= 128 && entry_bytes.is_multiple_of(8)) else {
        return Err(TableError::Damaged("the size of the entries"));
    };
    let first = u64_at(&header, 72);
    if !(2..=2048).contains(&first) {
        return Err(TableError::Damaged("the place of the entries"));
    }
    let mut entries = vec![0; bytes.next_multiple_of(sector as usize)];
    read(&mut entries, first * lba)?;
    entries.truncate(bytes);
    if crc32fast::hash(&entries) != u32_at(&header, 88) {
        return Err(TableError::Damaged("the entries' checksum"));
    }
    Ok(Some(Gpt { sector: lba, header, entries, entry_bytes }))
}

impl Gpt {
    pub fn partitions(&self) -> Vec<Partition> {
        let entries = self.entries.chunks_exact(self.entry_bytes).zip(1..);
        entries.filter_map(|(entry, number)| partition(entry, number)).collect()
    }

    /// Last LBA of the disk that this table was made for.
    pub fn alternate_lba(&self) -> u64 {
        u64_at(&self.header, 32)
    }

    /// The same table for a disk of `size_bytes`: the backup at its very end, all that lies between usable.
    pub fn moved(&self, size_bytes: u64) -> Result<Moved, TableError> {
        let last = (size_bytes / self.sector).saturating_sub(1);
        let entries_lbas = (self.entries.len() as u64).div_ceil(self.sector);
        let backup_entries_lba = last.saturating_sub(entries_lbas);
        let last_usable = backup_entries_lba.saturating_sub(1);
        if let Some(p) = self.partitions().iter().find(|p| p.last_lba > last_usable) {
            return Err(TableError::TooSmall { number: p.number, size_bytes });
        }
        let mut primary = self.header.clone();
        put(&mut primary, 32, last);
        put(&mut primary, 48, last_usable);
        let mut backup = primary.clone();
        put(&mut backup, 24, last);
        put(&mut backup, 32, 1);
        put(&mut backup, 72, backup_entries_lba);
        Ok(Moved {
            primary: (self.sector, self.sealed(primary)),
            backup_entries: (backup_entries_lba * self.sector, self.entries.clone()),
            backup: (last * self.sector, self.sealed(backup)),
        })
    }

    /// The same table with one more partition of `bytes`, as far behind as there is room, aligned to 1 MiB. Every other
    /// partition stays what it is.
    pub fn with(
        &self,
        type_guid: uuid::Uuid,
        name: &str,
        bytes: u64,
        disk_bytes: u64,
    ) -> Result<Added, TableError> {
        let aligned = (1 << 20) / self.sector;
        let here = self.moved(disk_bytes)?;
        let end = (u64_at(&here.primary.1, 48) + 1) / aligned * aligned;
        let first_lba = end.checked_sub(bytes.div_ceil(self.sector)).map(|lba| lba / aligned * aligned);
        let taken = self.partitions().iter().map(|p| p.last_lba).max().unwrap_or(0);
        let first_lba = first_lba.filter(|first| *first > taken.max(u64_at(&self.header, 40)));
        let first_lba =
            first_lba.ok_or(TableError::NoRoom("the last partition reaches to the disk's end"))?;
        let mut larger = self.clone();
        // Behind the last one in use: a gap may be an operating system's own, for later.
        let used = self.partitions().iter().map(|p| p.number).max().unwrap_or(0);
        let mut entries = larger.entries.chunks_exact_mut(self.entry_bytes).zip(1..);
        let slot = entries.nth(used as usize);
        let (entry, number) = slot.ok_or(TableError::NoRoom("the last entry of the table is in use"))?;
        let last_lba = end - 1;
        let fields = [
            (0, type_guid.to_bytes_le().to_vec()),
            (16, uuid::Uuid::new_v4().to_bytes_le().to_vec()),
            (32, first_lba.to_le_bytes().to_vec()),
            (40, last_lba.to_le_bytes().to_vec()),
            (56, name.encode_utf16().take(35).flat_map(u16::to_le_bytes).collect()),
        ];
        for (at, value) in fields {
            if let Some(place) = entry.get_mut(at..at + value.len()) {
                place.copy_from_slice(&value);
            }
        }
        let crc = crc32fast::hash(&larger.entries).to_le_bytes();
        if let Some(place) = larger.header.get_mut(88..92) {
            place.copy_from_slice(&crc);
        }
        let mut padded = larger.entries.clone();
        padded.resize(padded.len().next_multiple_of(usize::try_from(self.sector).unwrap_or(512)), 0);
        Ok(Added {
            partition: Partition { number, type_guid, name: name.to_owned(), first_lba, last_lba },
            primary_entries: (u64_at(&self.header, 72) * self.sector, padded),
            tables: larger.moved(disk_bytes)?,
        })
    }

    /// With its checksum, as one whole sector.
    fn sealed(&self, mut header: Vec<u8>) -> Vec<u8> {
        let crc = header_crc(&header).to_le_bytes();
        if let Some(place) = header.get_mut(16..20) {
            place.copy_from_slice(&crc);
        }
        header.resize(usize::try_from(self.sector).unwrap_or(512), 0);
        header
    }
}

/// Makes a protective MBR, which covers the disk that the image was made for, cover this one. Anything else
/// (a hybrid, a real MBR) stays as it is.
pub fn stretch_protective_mbr(first_sector: &mut [u8], old_last_lba: u64, new_last_lba: u64) {
    let is_protective = first_sector.get(510..512) == Some(&[0x55, 0xaa])
        && first_sector.get(450) == Some(&0xee)
        && u64::from(u32_at(first_sector, 454)) == 1
        && u64::from(u32_at(first_sector, 458)) == old_last_lba;
    if let (true, Some(size)) = (is_protective, first_sector.get_mut(458..462)) {
        size.copy_from_slice(&u32::try_from(new_last_lba).unwrap_or(u32::MAX).to_le_bytes());
    }
}

fn partition(entry: &[u8], number: u32) -> Option<Partition> {
    let type_guid = uuid::Uuid::from_slice_le(entry.get(..16)?).ok()?;
    if type_guid.is_nil() {
        return None;
    }
    let units: Vec<u16> =
        entry.get(56..128)?.as_chunks().0.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let name = units.split(|unit| *unit == 0).next().unwrap_or_default();
    Some(Partition {
        number,
        type_guid,
        name: String::from_utf16_lossy(name),
        first_lba: u64_at(entry, 32),
        last_lba: u64_at(entry, 40),
    })
}

/// The checksum is made with its own field as zero.
fn header_crc(header: &[u8]) -> u32 {
    let mut bytes = header.to_vec();
    if let Some(field) = bytes.get_mut(16..20) {
        field.fill(0);
    }
    crc32fast::hash(&bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fake::gpt_image;
    use proptest::prelude::*;

    fn reader(image: &[u8]) -> impl FnMut(&mut [u8], u64) -> io::Result<()> {
        |buffer, at| {
            let from = image.get(at as usize..).and_then(|i| i.get(..buffer.len()));
            buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    /// Applies a move to `image`, enlarged to `size`.
    fn enlarged(image: &[u8], sector: u32, size: usize) -> Vec<u8> {
        let gpt = read(sector, reader(image)).unwrap().unwrap();
        let moved = gpt.moved(size as u64).unwrap();
        let mut disk = image.to_vec();
        disk.resize(size, 0);
        stretch_protective_mbr(&mut disk, gpt.alternate_lba(), size as u64 / u64::from(sector) - 1);
        for (at, bytes) in [moved.primary, moved.backup_entries, moved.backup] {
            disk[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        }
        disk
    }

    #[test]
    fn a_moved_table_is_whole_at_both_ends_to_another_reader() {
        for (sector, block) in
            [(512, gpt::disk::LogicalBlockSize::Lb512), (4096, gpt::disk::LogicalBlockSize::Lb4096)]
        {
            let image = gpt_image(8 << 20, block, 3);
            let disk = enlarged(&image, sector, 32 << 20);
            let config = gpt::GptConfig::new().only_valid_headers(true).logical_block_size(block);
            let opened = config.open_from_device(std::io::Cursor::new(disk.clone())).unwrap();
            assert_eq!(opened.backup_header().unwrap().current_lba, (32 << 20) / u64::from(sector) - 1);
            assert_eq!(opened.partitions().get(&1).unwrap().name, "part0");
            let ours = read(sector, reader(&disk)).unwrap().unwrap();
            let same: Vec<_> =
                ours.partitions().into_iter().map(|p| (p.number, p.name, p.last_lba)).collect();
            let theirs: Vec<_> =
                opened.partitions().iter().map(|(n, p)| (*n, p.name.clone(), p.last_lba)).collect();
            assert_eq!(same, theirs);
        }
    }

    #[test]
    fn the_wrong_sector_size_and_a_small_disk_are_named() {
        let image = gpt_image(8 << 20, gpt::disk::LogicalBlockSize::Lb512, 2);
        let error = read(4096, reader(&image)).unwrap_err().to_string();
        assert!(error.contains("512-byte sectors, but this disk has 4096"), "{error}");
        let gpt = read(512, reader(&image)).unwrap().unwrap();
        assert!(gpt.moved(2 << 20).unwrap_err().to_string().contains("ends beyond"));
        assert_eq!(read(512, reader(&vec![0; 1 << 20])).unwrap(), None);
    }

    #[test]
    fn any_changed_byte_of_header_or_entries_is_damage() {
        let image = gpt_image(8 << 20, gpt::disk::LogicalBlockSize::Lb512, 2);
        for at in (512..512 + 92).chain(1024..1024 + 256) {
            let mut bad = image.clone();
            bad[at] ^= 1;
            assert!(!matches!(read(512, reader(&bad)), Ok(Some(_))), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 16_384), at in 0usize..100) {
            bytes[512..520].copy_from_slice(SIGNATURE);
            bytes[512 + at] = 0;
            let length = 92u32.to_le_bytes();
            bytes[512 + 12..512 + 16].copy_from_slice(&length);
            let crc = header_crc(&bytes[512..512 + 92]).to_le_bytes();
            bytes[528..532].copy_from_slice(&crc);
            if let Ok(Some(gpt)) = read(512, reader(&bytes)) {
                let _ = (gpt.partitions(), gpt.moved(1 << 30));
            }
        }
    }
}
