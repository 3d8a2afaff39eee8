//! Puts a config's files on the written disk: finds the partition, mounts it, writes the files, unmounts.

mod files;
mod mount;
mod partition;
mod seed;
mod superblock;

pub use mount::{KernelMounts, Mounts};
pub use seed::SeedError;
pub use superblock::FileSystem;

use crate::log::Log;
use provisioner_wire::{
    order::{Config, PartitionSelector, Place},
    report::Disk,
};
use std::{io, path::Path};

#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("no partition of /dev/{disk} is {wanted:?}; seen: {seen}")]
    NoPartition { disk: String, wanted: PartitionSelector, seen: String },
    #[error("more than one partition of /dev/{disk} is {wanted:?}; seen: {seen}")]
    Several { disk: String, wanted: PartitionSelector, seen: String },
    #[error("/dev/{partition} has no file system that can be mounted (ext4, xfs, btrfs, vfat)")]
    NoFileSystem { partition: String },
    #[error("/dev/{partition}: mounting as {file_system}: {error}")]
    Mount { partition: String, file_system: &'static str, error: io::Error },
    #[error("/dev/{partition}: {what} {path}: {error}")]
    File { partition: String, what: &'static str, path: String, error: io::Error },
    #[error("\"{name}\" is not a file name (no /, not empty, not . or ..)")]
    Name { name: String },
    #[error("/dev/{disk}: a new partition {label}: {error}")]
    Seed { disk: String, label: String, error: SeedError },
    #[error("\"{directory}\" is not an absolute directory without ..")]
    Directory { directory: String },
}

/// Places `config` on `disk`. Everything is on the medium when this returns. The files' contents appear nowhere else.
pub fn place(
    root: &Path,
    disk: &Disk,
    place: &Place,
    config: &Config,
    mounts: &dyn Mounts,
    log: &Log,
) -> Result<(), PlaceError> {
    files::check(place, config)?;
    if let PartitionSelector::New(label) = &place.partition
        && !partition::is_there(root, disk, label)
    {
        let placed = seed::make(&root.join("dev").join(&disk.name), disk, label, &place.directory, config);
        let made = placed.map_err(|error| {
            let (disk, label) = (disk.name.clone(), label.clone());
            PlaceError::Seed { disk, label, error }
        })?;
        log.say(format_args!(
            "placed {} files in partition {made} (new, {label}, FAT) of /dev/{}",
            config.files.len(),
            disk.name
        ));
        return Ok(());
    }
    let partition = partition::choose(root, disk, &place.partition)?;
    let device = root.join("dev").join(&partition);
    let file_system = superblock::probe_file(&device)
        .map(|found| found.kind)
        .ok_or_else(|| PlaceError::NoFileSystem { partition: partition.clone() })?;
    let mounted = mounts.mount(&device, file_system).map_err(|error| PlaceError::Mount {
        partition: partition.clone(),
        file_system: file_system.kernel_name(),
        error,
    })?;
    let written = files::write(&mounted, &place.directory, config);
    let unmounted = mounts.unmount(&mounted);
    written.map_err(|(what, path, error)| PlaceError::File {
        partition: partition.clone(),
        what,
        path,
        error,
    })?;
    unmounted.map_err(|error| PlaceError::File {
        partition: partition.clone(),
        what: "unmounting",
        path: mounted.display().to_string(),
        error,
    })?;
    let names: Vec<&str> = config.files.iter().map(|f| f.name.as_str()).collect();
    log.say(format_args!(
        "placed {} in {} on /dev/{partition} ({})",
        names.join(", "),
        place.directory,
        file_system.kernel_name()
    ));
    Ok(())
}
