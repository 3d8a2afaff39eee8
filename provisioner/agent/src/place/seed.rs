//! A new partition at the end of the disk with the config in it: a small FAT, as NoCloud's `CIDATA`.
//!
//! The file system is made whole in memory and written into room that no partition has; only then do the tables name it,
//! the backup first, so that at every moment one of them is whole (UEFI 2.10 §5.3.2). A power cut leaves the disk
//! without the partition or with all of it; the agent that boots next writes both ends anew in any case. FAT by a crate, with all files in its root directory: that part of it passes
//! fsck.fat and mtools.

use crate::disk::{
    block::BlockDevice,
    device::{Device, reread_patiently},
    table::{self, Partition, TableError},
};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions, format_volume};
use provisioner_wire::{order::Config, report::Disk};
use std::{
    io::{self, Cursor, Write},
    path::Path,
};

/// The partition's name in the table: one that we made may be made anew.
pub(super) const NAME: &str = "provisioner-seed";
/// Microsoft basic data: what cloud-init and every desktop take for a FAT.
const BASIC_DATA: uuid::Uuid = uuid::Uuid::from_u128(0xebd0a0a2_b9e5_4433_87c0_68b6b72699c7);

#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("{0}")]
    Table(#[from] TableError),
    #[error(
        "the disk has no GUID partition table; without one, place the config on a partition of the image"
    )]
    NoTable,
    #[error("its directory is /, not {0}")]
    Directory(String),
    #[error("the files do not fit: {0}")]
    Fat(io::Error),
    #[error("writing: {0}")]
    Io(#[from] io::Error),
}

/// Makes it, or makes one of ours anew. Its number in the table.
pub(super) fn make(
    device: &Path,
    disk: &Disk,
    label: &str,
    directory: &str,
    config: &Config,
) -> Result<u32, SeedError> {
    if directory != "/" {
        return Err(SeedError::Directory(directory.to_owned()));
    }
    let mut device = BlockDevice::open(device, disk.logical_sector_bytes.max(512))?;
    let made = write(&mut device, label, config)?;
    // A kernel that still holds the old table harms nobody: the machine reboots next.
    let _ = reread_patiently(&mut device);
    Ok(made)
}

fn write(device: &mut dyn Device, label: &str, config: &Config) -> Result<u32, SeedError> {
    let (sector, size) = (device.sector(), device.size());
    let gpt = table::read(sector, |buffer, at| device.read_at(buffer, at))?.ok_or(SeedError::NoTable)?;
    let fat = file_system(sector, label, config).map_err(SeedError::Fat)?;
    let before = gpt.partitions().into_iter().find(|p| p.name == NAME);
    if let Some(Partition { number, first_lba, .. }) = before {
        device.write_at(&fat, first_lba * u64::from(sector))?;
        device.flush()?;
        return Ok(number);
    }
    let added = gpt.with(BASIC_DATA, NAME, fat.len() as u64, size)?;
    device.write_at(&fat, added.partition.first_lba * u64::from(sector))?;
    device.flush()?;
    let tables = added.tables;
    // The entries are whole sectors at both places.
    let mut entries = tables.backup_entries.1;
    entries.resize(entries.len().next_multiple_of(sector as usize), 0);
    device.write_at(&entries, tables.backup_entries.0)?;
    device.write_at(&tables.backup.1, tables.backup.0)?;
    device.flush()?;
    device.write_at(&added.primary_entries.1, added.primary_entries.0)?;
    device.write_at(&tables.primary.1, tables.primary.0)?;
    device.flush()?;
    Ok(added.partition.number)
}

/// A FAT16 with the files in its root: as small as FAT16 can be with these sectors.
fn file_system(sector: u32, label: &str, config: &Config) -> io::Result<Vec<u8>> {
    let bytes = if sector > 512 { 32 << 20 } else { 8 << 20 };
    let mut image = Cursor::new(vec![0; bytes]);
    let mut padded = [b' '; 11];
    for (place, letter) in padded.iter_mut().zip(label.bytes()) {
        *place = letter;
    }
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat16)
        .bytes_per_sector(u16::try_from(sector).unwrap_or(512))
        .bytes_per_cluster(sector)
        .volume_label(padded);
    format_volume(&mut image, options)?;
    let files = FileSystem::new(&mut image, FsOptions::new())?;
    for file in &config.files {
        let mut made = files.root_dir().create_file(&file.name)?;
        made.write_all(file.contents.as_bytes())?;
        made.flush()?;
    }
    files.unmount()?;
    Ok(image.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fake::{Fake, Fault, gpt_image};
    use provisioner_wire::order::ConfigFile;
    use std::process::Command;

    const MIB: usize = 1 << 20;

    fn config(text: &str) -> Config {
        let file = |name: &str, contents: String| ConfigFile { name: name.into(), contents, mode: 0o600 };
        let files = vec![
            file("user-data", format!("#cloud-config\n# {text}\n{}", "x".repeat(5000))),
            file("meta-data", "instance-id: a\n".into()),
            file("network-config", "version: 2\n".into()),
        ];
        Config { files }
    }

    fn disk(sector: u32) -> Fake {
        let block = match sector {
            512 => gpt::disk::LogicalBlockSize::Lb512,
            _ => gpt::disk::LogicalBlockSize::Lb4096,
        };
        let mut image = gpt_image(8 * MIB, block, 2);
        image.resize(96 * MIB, 0);
        Fake { sector, ..Fake::of(image) }
    }

    /// The partitions that another reader sees, whichever table is whole; and the bytes of ours.
    fn seen(disk: &Fake) -> (Vec<String>, Option<Vec<u8>>) {
        let block = match disk.sector {
            512 => gpt::disk::LogicalBlockSize::Lb512,
            _ => gpt::disk::LogicalBlockSize::Lb4096,
        };
        let config = gpt::GptConfig::new().only_valid_headers(false).logical_block_size(block);
        // As UEFI does: where the primary's checksums are wrong, the backup is the table.
        let opened = config.clone().open_from_device(Cursor::new(disk.bytes.clone())).or_else(|_| {
            let mut bytes = disk.bytes.clone();
            bytes[disk.sector as usize..2 * disk.sector as usize].fill(0);
            config.open_from_device(Cursor::new(bytes))
        });
        let opened = opened.unwrap();
        let names = opened.partitions().values().map(|p| p.name.clone()).collect();
        let ours = opened.partitions().values().find(|p| p.name == NAME).map(|p| {
            let at = |lba: u64| usize::try_from(lba * u64::from(disk.sector)).unwrap();
            disk.bytes[at(p.first_lba)..at(p.last_lba + 1)].to_vec()
        });
        (names, ours)
    }

    /// As mtools reads it; fsck.fat must have nothing to say.
    fn read_by_mtools(fat: &[u8], name: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fat");
        std::fs::write(&file, fat).unwrap();
        let fsck = Command::new("fsck.fat").arg("-n").arg(&file).output().unwrap();
        assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
        let typed = Command::new("mtype").arg("-i").arg(&file).arg(format!("::{name}")).output().unwrap();
        assert!(typed.status.success(), "{}", String::from_utf8_lossy(&typed.stderr));
        String::from_utf8(typed.stdout).unwrap()
    }

    #[test]
    fn other_tools_read_what_was_written_with_either_sector() {
        for sector in [512, 4096] {
            let mut disk = disk(sector);
            let before = seen(&disk).0;
            let number = write(&mut disk, "CIDATA", &config("one")).unwrap();
            assert_eq!(number, 3);
            let (names, fat) = seen(&disk);
            assert_eq!(names, [before.as_slice(), &[NAME.to_owned()]].concat());
            let fat = fat.unwrap();
            for file in config("one").files {
                assert_eq!(read_by_mtools(&fat, &file.name), file.contents, "{sector}: {}", file.name);
            }
            let label = Command::new("mlabel").args(["-V"]).output();
            assert!(label.is_ok(), "mtools");
            assert_eq!(&fat[43..54], b"CIDATA     ");
            // Once more: the same partition, with what is new.
            assert_eq!(write(&mut disk, "CIDATA", &config("two")).unwrap(), 3);
            let (again, fat) = seen(&disk);
            assert_eq!(again, names);
            assert!(read_by_mtools(&fat.unwrap(), "user-data").contains("# two"));
        }
    }

    #[test]
    fn after_a_power_cut_the_partition_is_all_there_or_not_at_all() {
        let mut whole = disk(512);
        write(&mut whole, "CIDATA", &config("cut")).unwrap();
        let operations = whole.operations;
        let (mut without, mut with) = (0, 0);
        for at in 0..operations {
            let mut disk = disk(512).with(&[Fault::GoneAt(at)]);
            write(&mut disk, "CIDATA", &config("cut")).unwrap_err();
            match seen(&disk) {
                (names, None) => {
                    assert_eq!(names.len(), 2, "at operation {at}");
                    without += 1;
                }
                (_, Some(fat)) => {
                    assert_eq!(read_by_mtools(&fat, "user-data"), config("cut").files[0].contents);
                    with += 1;
                }
            }
        }
        assert!(without > 3 && with > 0, "{without} without, {with} with");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let error = write(&mut Fake::of(vec![0; 96 * MIB]), "CIDATA", &config("x")).unwrap_err().to_string();
        assert!(error.contains("no GUID partition table"), "{error}");
        let image = gpt_image(8 * MIB, gpt::disk::LogicalBlockSize::Lb512, 2);
        let full = write(&mut Fake::of(image), "CIDATA", &config("x")).unwrap_err().to_string();
        assert!(full.contains("no room"), "{full}");
        let large = Config {
            files: vec![ConfigFile { name: "user-data".into(), contents: "x".repeat(9 * MIB), mode: 0o600 }],
        };
        let error = write(&mut disk(512), "CIDATA", &large).unwrap_err().to_string();
        assert!(error.contains("do not fit"), "{error}");
    }
}
