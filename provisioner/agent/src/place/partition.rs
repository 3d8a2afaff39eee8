//! Which partition a place means.

use super::{PlaceError, seed, superblock};
use crate::{disk::table, hardware};
use provisioner_wire::{order::PartitionSelector, report::Disk};
use std::{fs::File, os::unix::fs::FileExt, path::Path, time::Duration};

/// How long the kernel's names for the partitions may take after the table was written.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// All that a selector can ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Candidate {
    name: String,
    number: u32,
    label: Option<String>,
    part_label: Option<String>,
    type_guid: Option<uuid::Uuid>,
}

/// The kernel's name of the one partition that `wanted` names.
pub(super) fn choose(root: &Path, disk: &Disk, wanted: &PartitionSelector) -> Result<String, PlaceError> {
    let mut candidates = candidates(root, disk);
    for _ in 1..LOOKS {
        if candidates.iter().any(|c| fits(c, wanted)) {
            break;
        }
        std::thread::sleep(BETWEEN_LOOKS);
        candidates = self::candidates(root, disk);
    }
    let mut fitting = candidates.iter().filter(|c| fits(c, wanted));
    let seen = || candidates.iter().map(describe).collect::<Vec<_>>().join("; ");
    let disk = || disk.name.clone();
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.name.clone()),
        (Some(_), Some(_)) => Err(PlaceError::Several { disk: disk(), wanted: wanted.clone(), seen: seen() }),
        (None, _) => Err(PlaceError::NoPartition { disk: disk(), wanted: wanted.clone(), seen: seen() }),
    }
}

/// Whether the image has brought a file system of this label; it is not waited for.
pub(super) fn is_there(root: &Path, disk: &Disk, label: &str) -> bool {
    let wanted = PartitionSelector::New(label.to_owned());
    candidates(root, disk).iter().any(|c| fits(c, &wanted) && c.part_label.as_deref() != Some(seed::NAME))
}

fn fits(candidate: &Candidate, wanted: &PartitionSelector) -> bool {
    match wanted {
        // FAT knows no small letters.
        PartitionSelector::Label(label) | PartitionSelector::New(label) => {
            candidate.label.as_ref().is_some_and(|l| l == label || l.eq_ignore_ascii_case(label))
        }
        PartitionSelector::PartLabel(label) => candidate.part_label.as_ref() == Some(label),
        PartitionSelector::TypeGuid(guid) => candidate.type_guid == Some(*guid),
        PartitionSelector::Number(number) => candidate.number == *number,
    }
}

fn candidates(root: &Path, disk: &Disk) -> Vec<Candidate> {
    let table = File::open(root.join("dev").join(&disk.name)).ok().and_then(|device| {
        table::read(disk.logical_sector_bytes.max(512), |buffer, at| device.read_exact_at(buffer, at)).ok()?
    });
    let entries = table.map(|t| t.partitions()).unwrap_or_default();
    hardware::partitions(root, &disk.name)
        .into_iter()
        .filter(|kernel| root.join("dev").join(&kernel.name).exists())
        .map(|kernel| {
            let entry = entries.iter().find(|e| e.number == kernel.number);
            Candidate {
                label: superblock::probe_file(&root.join("dev").join(&kernel.name)).map(|f| f.label),
                part_label: entry.map(|e| e.name.clone()),
                type_guid: entry.map(|e| e.type_guid),
                number: kernel.number,
                name: kernel.name,
            }
        })
        .collect()
}

fn describe(candidate: &Candidate) -> String {
    let Candidate { name, number, label, part_label, type_guid } = candidate;
    let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty()).unwrap_or_else(|| "-".into());
    let guid = type_guid.map_or_else(|| "-".into(), |g| g.to_string());
    format!("{name} number {number} label {} part-label {} type {guid}", text(label), text(part_label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fake::gpt_image;

    #[test]
    fn every_selector_finds_its_partition_or_says_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("dev")).unwrap();
        std::fs::write(at("dev/vda"), gpt_image(8 << 20, gpt::disk::LogicalBlockSize::Lb512, 3)).unwrap();
        for n in 1..=3 {
            let folder = at(&format!("sys/block/vda/vda{n}"));
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in [("partition", n.to_string()), ("start", "8".into()), ("size", "8".into())] {
                std::fs::write(folder.join(file), text).unwrap();
            }
            let mut start = vec![0; 4096];
            start[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
            start[0x478..0x47c].copy_from_slice(format!("fs-{}", n.min(2)).as_bytes());
            std::fs::write(at(&format!("dev/vda{n}")), start).unwrap();
        }
        let disk = Disk { name: "vda".into(), logical_sector_bytes: 512, ..Disk::default() };
        let choose = |wanted| choose(root.path(), &disk, &wanted);
        assert_eq!(choose(PartitionSelector::Number(3)).unwrap(), "vda3");
        assert_eq!(choose(PartitionSelector::Label("FS-1".into())).unwrap(), "vda1");
        assert_eq!(choose(PartitionSelector::PartLabel("part1".into())).unwrap(), "vda2");
        let linux = uuid::Uuid::parse_str("0fc63daf-8483-4772-8e79-3d69d8477de4").unwrap();
        let error = choose(PartitionSelector::TypeGuid(linux)).unwrap_err().to_string();
        assert!(error.contains("more than one") && error.contains("vda2 number 2 label fs-2"), "{error}");
    }
}
