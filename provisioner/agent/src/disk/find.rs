//! From the identity in a licence to the kernel's name of this boot: exactly one disk, or an error that lists what is there.

use provisioner_wire::report::{Disk, DiskIdentity};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    #[error("a disk of {size_bytes} bytes without serial and WWN cannot be told from another; seen: {seen}")]
    Uncertain { size_bytes: u64, seen: String },
    #[error("no disk is {wanted}; seen: {seen}")]
    None { wanted: DiskIdentity, seen: String },
    #[error("more than one disk is {wanted}; seen: {seen}")]
    Several { wanted: DiskIdentity, seen: String },
    #[error("disk {wanted} (/dev/{name}) is {why}; seen: {seen}")]
    Refused { wanted: DiskIdentity, name: String, why: &'static str, seen: String },
}

/// The disk that is `wanted`, fit for writing.
pub fn find<'a>(disks: &'a [Disk], wanted: &DiskIdentity) -> Result<&'a Disk, FindError> {
    let seen = || list(disks);
    if !wanted.is_certain() {
        return Err(FindError::Uncertain { size_bytes: wanted.size_bytes, seen: seen() });
    }
    let mut matching = disks.iter().filter(|disk| disk.identity() == *wanted);
    let Some(disk) = matching.next() else {
        return Err(FindError::None { wanted: wanted.clone(), seen: seen() });
    };
    if matching.next().is_some() {
        return Err(FindError::Several { wanted: wanted.clone(), seen: seen() });
    }
    let refused =
        |why| FindError::Refused { wanted: wanted.clone(), name: disk.name.clone(), why, seen: seen() };
    match disk {
        Disk { read_only: true, .. } => Err(refused("read-only")),
        Disk { removable: true, .. } => Err(refused("removable")),
        Disk { in_use: true, .. } => Err(refused("in use (mounted, swap, or part of a set)")),
        _ => Ok(disk),
    }
}

fn list(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "no disk at all".into();
    }
    let lines: Vec<String> = disks.iter().map(|d| format!("{} = {}", d.name, d.identity())).collect();
    lines.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk(name: &str, serial: Option<&str>, size_bytes: u64) -> Disk {
        Disk { name: name.into(), serial: serial.map(Into::into), size_bytes, ..Disk::default() }
    }

    #[test]
    fn exactly_one_or_an_error_with_the_list() {
        let disks = [disk("vda", Some("a"), 10), disk("vdb", Some("b"), 10), disk("vdc", None, 10)];
        assert_eq!(find(&disks, &disks[1].identity()).unwrap().name, "vdb");
        for (wanted, part) in [
            (disk("", Some("c"), 10).identity(), "no disk is c (10 bytes); seen: vda = a (10 bytes), vdb"),
            (disk("", Some("a"), 11).identity(), "no disk is a (11 bytes)"),
            (disk("", None, 10).identity(), "cannot be told from another"),
        ] {
            let error = find(&disks, &wanted).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let twins = [disk("sda", Some("a"), 10), disk("sdb", Some("a"), 10)];
        assert!(find(&twins, &twins[0].identity()).unwrap_err().to_string().contains("more than one"));
    }

    proptest! {
        /// A disk that must not be written is never chosen, whatever else is there.
        #[test]
        fn never_a_disk_that_is_not_to_be_written(
            flags in proptest::collection::vec((0u8..3, any::<bool>(), any::<bool>(), any::<bool>()), 0..8),
            wanted in 0u8..3,
        ) {
            let disks: Vec<Disk> = flags.iter().enumerate().map(|(n, (serial, read_only, removable, in_use))| Disk {
                read_only: *read_only, removable: *removable, in_use: *in_use,
                ..disk(&format!("sd{n}"), Some(&serial.to_string()), 1)
            }).collect();
            if let Ok(found) = find(&disks, &disk("", Some(&wanted.to_string()), 1).identity()) {
                prop_assert!(!found.read_only && !found.removable && !found.in_use);
                prop_assert_eq!(found.serial.clone().unwrap(), wanted.to_string());
            }
        }
    }
}
