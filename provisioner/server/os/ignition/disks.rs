//! PURE. Ignition's rules on disks, partitions, file systems, arrays and encrypted devices.

use super::{
    model::{Clevis, Disk, Filesystem, Luks, Partition, Raid, Storage},
    rules::{Dialect, Found, check_path, distinct, resource},
    source,
};
use std::collections::HashSet;

pub(super) fn check(storage: &Storage, dialect: Dialect, found: &mut Found) {
    distinct(storage.disks.iter().map(|disk| &*disk.device), "/storage/disks", "/device", found);
    for (index, disk) in storage.disks.iter().enumerate() {
        of_disk(disk, &format!("/storage/disks/{index}"), found);
    }
    distinct(storage.filesystems.iter().map(|f| &*f.device), "/storage/filesystems", "/device", found);
    for (index, filesystem) in storage.filesystems.iter().enumerate() {
        of_filesystem(filesystem, &format!("/storage/filesystems/{index}"), dialect, found);
    }
    distinct(storage.raid.iter().map(|raid| &*raid.name), "/storage/raid", "/name", found);
    for (index, raid) in storage.raid.iter().enumerate() {
        of_raid(raid, &format!("/storage/raid/{index}"), dialect, found);
    }
    distinct(storage.luks.iter().map(|luks| &*luks.name), "/storage/luks", "/name", found);
    for (index, luks) in storage.luks.iter().enumerate() {
        of_luks(luks, &format!("/storage/luks/{index}"), dialect, found);
    }
}

fn of_disk(disk: &Disk, here: &str, found: &mut Found) {
    let device =
        if disk.device.is_empty() { Err("disk device is required") } else { check_path(&disk.device) };
    if let Err(message) = device {
        found.push((format!("{here}/device"), message.to_owned()));
    }
    for (index, partition) in disk.partitions.iter().enumerate() {
        of_partition(partition, &format!("{here}/partitions/{index}"), found);
    }
    let partitions = &disk.partitions;
    let mut numbers = HashSet::new();
    let mut labels = HashSet::new();
    for (index, partition) in partitions.iter().enumerate() {
        let mut say = |message: &str| found.push((format!("{here}/partitions/{index}"), message.to_owned()));
        // 0 is "the next that is free".
        if partition.number != 0 && !numbers.insert(partition.number) {
            say("partition numbers collide");
        }
        if partition.label.as_ref().is_some_and(|label| !labels.insert(label)) {
            say("cannot use the same partition label twice");
        }
        if partitions.iter().take(index).any(|other| overlap(partition, other)) {
            say("partitions overlap");
        }
    }
    let gone = partitions.iter().any(|partition| partition.should_exist == Some(false));
    if gone && partitions.iter().any(|partition| partition.number == 0) {
        let message = "shouldExist is false for a partition and other partition(s) has start or size 0: give each partition \
                       its number";
        found.push((format!("{here}/partitions"), message.to_owned()));
    }
}

/// First and last MiB, where the config says both.
fn extent(partition: &Partition) -> Option<(i64, i64)> {
    let start = partition.start.filter(|start| *start != 0)?;
    // A size of 0 is "what is free".
    let end = match partition.size? {
        0 => start,
        size => start.saturating_add(size).saturating_sub(1),
    };
    Some((start, end))
}

fn overlap(one: &Partition, other: &Partition) -> bool {
    let (Some(one), Some(other)) = (extent(one), extent(other)) else { return false };
    one.0 <= other.1 && other.0 <= one.1
}

fn of_partition(partition: &Partition, here: &str, found: &mut Found) {
    let mut say = |key: &str, message: &str| found.push((format!("{here}{key}"), message.to_owned()));
    let others = partition.label.is_some()
        || !partition.guid.is_empty()
        || !partition.type_guid.is_empty()
        || partition.start.is_some()
        || partition.size.is_some();
    if partition.should_exist == Some(false) && others {
        say("", "shouldExist specified false with other options also specified");
    }
    if partition.number == 0 && partition.label.is_none() {
        say("", "a partition number >= 1 or a label must be specified");
    }
    let label = partition.label.as_deref().unwrap_or_default();
    if label.len() > 36 {
        say("/label", "partition labels may not exceed 36 characters");
    } else if label.contains(':') {
        say("/label", "partition label will be truncated to text before the colon");
    }
    for (key, guid) in [("/guid", &partition.guid), ("/typeGuid", &partition.type_guid)] {
        if !guid.is_empty() && !is_guid(guid) {
            say(key, "doesn't match the form \"01234567-89AB-CDEF-EDCB-A98765432101\"");
        }
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn of_filesystem(filesystem: &Filesystem, here: &str, dialect: Dialect, found: &mut Found) {
    let mut say = |key: &str, message: String| found.push((format!("{here}/{key}"), message));
    if let Err(message) = check_path(&filesystem.device) {
        say("device", message.to_owned());
    }
    if !filesystem.path.is_empty()
        && let Err(message) = check_path(&filesystem.path)
    {
        say("path", message.to_owned());
    }
    let Filesystem { format, label, .. } = filesystem;
    let others = [&filesystem.path, label, &filesystem.uuid].iter().any(|text| !text.is_empty())
        || filesystem.wipe_filesystem
        || !filesystem.options.is_empty()
        || !filesystem.mount_options.is_empty();
    let limit = match &**format {
        "" => {
            if others {
                let message = "format cannot be empty when path, label, uuid, wipeFilesystem, options, or mountOptions is \
                               specified";
                say("format", message.to_owned());
            }
            if !label.is_empty() {
                say("label", "filesystem must specify format if label is specified".to_owned());
            }
            return;
        }
        "ext4" => 16,
        "btrfs" => 256,
        "xfs" => 12,
        // mkswap cuts what is longer.
        "swap" => 15,
        "vfat" => 11,
        "none" if dialect.minor >= 3 => return,
        _ => return say("format", "invalid filesystem format".to_owned()),
    };
    if label.len() > limit {
        let message =
            format!("filesystem labels cannot be longer than {limit} characters when using {format}");
        say("label", message);
    }
}

fn of_raid(raid: &Raid, here: &str, dialect: Dialect, found: &mut Found) {
    let mut say = |key: &str, message: &str| found.push((format!("{here}/{key}"), message.to_owned()));
    match raid.level.as_deref() {
        Some("linear" | "raid0" | "0" | "stripe") => {
            if raid.spares != 0 {
                say("level", "spares unsupported for linear and raid0 arrays");
            }
        }
        Some("raid1" | "1" | "mirror" | "raid4" | "4" | "raid5" | "5" | "raid6" | "6" | "raid10" | "10") => {}
        None | Some("") if dialect.minor >= 3 => say("level", "raid level is required"),
        _ => say("level", "unrecognized raid level"),
    }
    if raid.devices.is_empty() {
        say("devices", "raid devices required");
    }
    for (index, device) in raid.devices.iter().enumerate() {
        if let Err(message) = check_path(device) {
            say(&format!("devices/{index}"), message);
        }
    }
    distinct(raid.devices.iter().map(String::as_str), &format!("{here}/devices"), "", found);
}

fn of_luks(luks: &Luks, here: &str, dialect: Dialect, found: &mut Found) {
    let mut say = |key: &str, message: &str| found.push((format!("{here}/{key}"), message.to_owned()));
    if luks.name.contains('/') {
        say("name", "device names cannot contain slashes");
    }
    // LUKS2 has room for no more.
    if luks.label.len() > 47 {
        say("label", "luks device labels cannot be longer than 47 characters");
    }
    let device =
        if luks.device.is_empty() { Err("disk device is required") } else { check_path(&luks.device) };
    if let Err(message) = device {
        say("device", message);
    }
    let key_file = luks.key_file.source.as_deref().unwrap_or_default();
    if let Err(message) = source::check(key_file, dialect.minor, dialect.is_flatcar) {
        say("keyFile/source", &format!("invalid key-file source: {message}"));
    }
    if dialect.is_flatcar && luks.clevis.is_present() {
        say("clevis", "Flatcar has no clevis: write a keyFile");
    }
    resource(&luks.key_file, &format!("{here}/keyFile"), dialect, found);
    of_clevis(&luks.clevis, &format!("{here}/clevis"), dialect, found);
}

fn of_clevis(clevis: &Clevis, here: &str, dialect: Dialect, found: &mut Found) {
    let mut say = |key: &str, message: &str| found.push((format!("{here}/{key}"), message.to_owned()));
    let custom = &clevis.custom;
    if custom.is_present() {
        if clevis.tpm2 || clevis.threshold != 0 || !clevis.tang.is_empty() {
            say("custom", "cannot use custom clevis config with tpm2, tang, or threshold");
        }
        match &*custom.pin {
            "tpm2" | "tang" | "sss" => {}
            "trustee" if dialect.minor >= 6 => {}
            "" if dialect.minor >= 3 => say("custom/pin", "missing required custom clevis pin"),
            _ => say("custom/pin", "unsupported clevis pin"),
        }
        if custom.config.is_empty() {
            say("custom/config", "missing required custom clevis config");
        }
    }
    for (index, tang) in clevis.tang.iter().enumerate() {
        if let Err(message) = source::check_http(&tang.url, "invalid url scheme") {
            say(&format!("tang/{index}/url"), message);
        }
        if tang.thumbprint.is_empty() {
            say(&format!("tang/{index}/thumbprint"), "thumbprint is required");
        }
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(&tang.advertisement).is_ok();
        if dialect.minor >= 4 && !tang.advertisement.is_empty() && !is_json() {
            say(&format!("tang/{index}/advertisement"), "advertisement is not valid JSON");
        }
    }
    distinct(clevis.tang.iter().map(|tang| &*tang.url), &format!("{here}/tang"), "/url", found);
}
