//! What the machine is, read from the kernel's `/sys` and `/proc` below a root that tests replace by a made tree.
//! Nothing here fails: what cannot be read is absent from the report.

mod board;
mod disks;
mod marks;
mod nics;

pub use disks::{disks, partitions};

use provisioner_wire::{Mac, report::HardwareReport};
use std::path::{Path, PathBuf};

/// The whole report, cleaned. `boot_mac` comes from the kernel command line.
pub fn inspect(root: &Path, boot_mac: Option<Mac>) -> HardwareReport {
    HardwareReport {
        dmi: board::dmi(root),
        firmware: board::firmware(root),
        secure_boot: board::secure_boot(root),
        cpu: board::cpu(root),
        memory_bytes: board::memory_bytes(root),
        disks: disks(root),
        nics: nics::nics(root),
        boot_mac,
    }
    .cleaned()
}

/// Memory that can be used without swapping; 0 where the kernel does not say.
pub fn free_memory_bytes(root: &Path) -> u64 {
    board::free_memory_bytes(root)
}

/// The most memory that this process has had.
pub fn peak_memory_bytes() -> Option<u64> {
    board::peak_memory_bytes()
}

/// A small text file without the white space around it; `None` where missing, unreadable or empty.
fn text(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let text =
        String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
    (!text.is_empty()).then_some(text)
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.parse().ok()
}

fn flag(path: impl AsRef<Path>) -> bool {
    number(path) == Some(1)
}

/// Names in a folder, sorted; none where there is no such folder.
fn names(folder: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Where a symbolic link ends: the last component only.
fn link_name(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_link(path).ok()?.file_name()?.to_str().map(str::to_owned)
}

fn resolved(path: impl AsRef<Path>) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::boot_mac;
    use provisioner_wire::report::Firmware;

    fn put(root: &Path, path: &str, contents: &[u8]) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }

    #[test]
    fn a_whole_machine_is_read() {
        let root = tempfile::tempdir().unwrap();
        for (path, contents) in [
            ("sys/class/dmi/id/product_uuid", &b"00112233-4455-6677-8899-AABBCCDDEEFF\n"[..]),
            ("sys/class/dmi/id/product_serial", b" \n"),
            ("sys/class/dmi/id/sys_vendor", b"Dell \x1b[31mInc.\xff\n"),
            ("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\0\0\0\x01"),
            ("proc/cpuinfo", b"processor\t: 0\nmodel name\t: Xeon\n\nprocessor\t: 1\nmodel name\t: Xeon\n"),
            ("proc/meminfo", b"MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            ("sys/class/net/lo/address", b"00:00:00:00:00:00\n"),
            ("sys/class/net/br0/address", b"02:00:00:00:00:01\n"),
            ("sys/class/net/eno1/address", b"52:54:00:00:00:aa\n"),
            ("sys/class/net/eno1/carrier", b"1\n"),
            ("sys/class/net/eno1/speed", b"25000\n"),
            ("sys/class/net/eno1/device/vendor", b"0x8086\n"),
            ("sys/class/net/eno2/address", b"02:00:00:00:00:02\n"),
            ("sys/class/net/eno2/bonding_slave/perm_hwaddr", b"52:54:00:00:00:bb\n"),
            ("sys/class/net/eno2/speed", b"-1\n"),
            ("sys/class/net/eno2/device/vendor", b"0x8086\n"),
        ] {
            put(root.path(), path, contents);
        }
        let report = inspect(root.path(), boot_mac("BOOTIF=01-52-54-00-00-00-aa"));
        assert_eq!(report.dmi.uuid.as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
        assert_eq!(report.dmi.serial, None);
        assert_eq!(report.dmi.manufacturer.as_deref(), Some("Dell [31mInc.\u{fffd}"));
        assert_eq!((report.firmware, report.secure_boot), (Firmware::Uefi, Some(true)));
        assert_eq!((report.cpu.cores, report.cpu.model.as_str(), report.memory_bytes), (2, "Xeon", 16 << 20));
        let nics: Vec<_> = report.nics.iter().map(|n| (n.mac.to_string(), n.link, n.speed_mbit)).collect();
        let (a, b) = ("52:54:00:00:00:aa".to_owned(), "52:54:00:00:00:bb".to_owned());
        assert_eq!(nics, [(a, true, Some(25_000)), (b, false, None)]);
        assert_eq!(report.boot_mac, report.nics.first().map(|n| n.mac));
    }

    #[test]
    fn an_empty_tree_and_the_machine_that_runs_the_tests_are_survived() {
        let empty = inspect(tempfile::tempdir().unwrap().path(), None);
        assert_eq!((empty.disks.len(), empty.memory_bytes, empty.firmware), (0, 0, Firmware::Bios));
        let here = inspect(Path::new("/"), None);
        assert!(here.memory_bytes > 0 && here.cpu.cores > 0, "{here:?}");
    }
}
