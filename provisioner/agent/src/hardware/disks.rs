//! Disks, with what names them across reboots, and whether something holds them.

use super::{flag, marks, names, number, resolved, text};
use provisioner_wire::report::Disk;
use std::path::Path;

/// SCSI peripheral type of CD and DVD drives.
const TYPE_CDROM: u64 = 5;

/// Every disk of real hardware with a medium in it, sorted by kernel name.
pub fn disks(root: &Path) -> Vec<Disk> {
    let block = root.join("sys/block");
    let held = held_devices(root);
    let mut disks: Vec<Disk> =
        names(&block).into_iter().filter_map(|name| disk(&block, name, &held)).collect();
    for disk in &mut disks {
        let parts = partitions(root, &disk.name).into_iter().map(|part| part.name);
        disk.marks = marks::of_disk(&root.join("dev"), &disk.name, parts);
    }
    disks
}

/// A partition as the kernel has it: its name below `/dev`, number, start and length in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPartition {
    pub name: String,
    pub number: u32,
    pub start_bytes: u64,
    pub size_bytes: u64,
}

/// The kernel's view of a disk's partition table, by number.
pub fn partitions(root: &Path, disk: &str) -> Vec<KernelPartition> {
    let folder = root.join("sys/block").join(disk);
    let mut found: Vec<KernelPartition> = names(&folder)
        .into_iter()
        .filter_map(|name| {
            let part = folder.join(&name);
            let partition = KernelPartition {
                number: u32::try_from(number(part.join("partition"))?).ok()?,
                start_bytes: number(part.join("start"))?.checked_mul(512)?,
                size_bytes: number(part.join("size"))?.checked_mul(512)?,
                name,
            };
            Some(partition)
        })
        .collect();
    found.sort_by_key(|p| p.number);
    found
}

fn disk(block: &Path, name: String, held: &[String]) -> Option<Disk> {
    let folder = block.join(&name);
    let device = folder.join("device");
    // Loop, RAM, device-mapper and md disks have no device. A hidden one is a path of an NVMe multipath disk.
    if !device.exists() || flag(folder.join("hidden")) || number(device.join("type")) == Some(TYPE_CDROM) {
        return None;
    }
    // eMMC boot and replay-protected areas, network block devices.
    if name.contains("boot") || name.contains("rpmb") || name.starts_with("nbd") || name.starts_with("fd") {
        return None;
    }
    // The kernel counts in 512-byte units whatever the drive's sectors are.
    let size_bytes = number(folder.join("size"))?.checked_mul(512).filter(|size| *size > 0)?;
    let path = resolved(&device).map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let queue = folder.join("queue");
    Some(Disk {
        serial: serial(&folder),
        wwn: wwn(&folder),
        model: text(device.join("model")),
        size_bytes,
        rotational: flag(queue.join("rotational")),
        removable: flag(folder.join("removable")),
        read_only: flag(folder.join("ro")),
        transport: transport(&name, &path).map(str::to_owned),
        by_path: by_path(&name, &path),
        logical_sector_bytes: number(queue.join("logical_block_size"))
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(512),
        in_use: in_use(&folder, &name, held),
        marks: Vec::new(),
        name,
    })
}

/// virtio beside the queue, NVMe and MMC at the device, SCSI and SATA in page 0x80 of the vital product data.
fn serial(folder: &Path) -> Option<String> {
    text(folder.join("serial")).or_else(|| text(folder.join("device/serial"))).or_else(|| {
        let page = std::fs::read(folder.join("device/vpd_pg80")).ok()?;
        let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
        let serial = page.get(4..4 + length)?;
        let text = String::from_utf8_lossy(serial).trim().to_owned();
        (!text.is_empty()).then_some(text)
    })
}

/// `0x5000c500…` for an NAA name as udev prints it, `eui.…` and `uuid.…` for NVMe. What the kernel made up from vendor and serial is no
/// world-wide name.
fn wwn(folder: &Path) -> Option<String> {
    let name = text(folder.join("wwid")).or_else(|| text(folder.join("device/wwid")))?.to_lowercase();
    match name.split_once('.') {
        Some(("naa", digits)) => Some(format!("0x{digits}")),
        Some(("eui" | "uuid", _)) => Some(name),
        _ => None,
    }
}

fn transport(name: &str, path: &str) -> Option<&'static str> {
    let has = |part: &str| path.contains(part);
    Some(match () {
        () if name.starts_with("nvme") => "nvme",
        () if name.starts_with("mmcblk") => "mmc",
        () if has("/usb") => "usb",
        () if has("/virtio") => "virtio",
        () if has("/ata") => "sata",
        () if has("/end_device-") || has("/sas_") => "sas",
        () if has("/session") => "iscsi",
        () if has("/rport-") => "fc",
        () if name.starts_with("sd") => "scsi",
        () => return None,
    })
}

/// udev's `path_id` name, for the buses where it is a plain function of the device's path.
fn by_path(name: &str, path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let pci = parts.iter().rev().find(|part| is_pci_address(part))?;
    let after = |prefix: &str| parts.iter().rev().find_map(|part| part.strip_prefix(prefix));
    match transport(name, path)? {
        "virtio" if name.starts_with("vd") => Some(format!("pci-{pci}")),
        "nvme" => name.rsplit_once('n').map(|(_, namespace)| format!("pci-{pci}-nvme-{namespace}")),
        "sata" => after("ata").map(|port| format!("pci-{pci}-ata-{port}")),
        _ => None,
    }
}

/// `0000:00:1f.2`.
fn is_pci_address(part: &str) -> bool {
    let hex = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    let Some((bus, function)) = part.rsplit_once('.') else { return false };
    let fields: Vec<&str> = bus.split(':').collect();
    matches!(fields.as_slice(), [a, b, c] if hex(a, 4) && hex(b, 2) && hex(c, 2)) && hex(function, 1)
}

/// Kernel names of everything mounted or swapped on.
fn held_devices(root: &Path) -> Vec<String> {
    let tables = [text(root.join("proc/mounts")), text(root.join("proc/swaps"))];
    let words =
        tables.iter().flatten().flat_map(|t| t.lines()).filter_map(|line| line.split_whitespace().next());
    words.filter_map(|word| word.strip_prefix("/dev/")).map(str::to_owned).collect()
}

fn in_use(folder: &Path, name: &str, held: &[String]) -> bool {
    let children = names(folder).into_iter().filter(|child| folder.join(child).join("partition").exists());
    let mut all = vec![(folder.to_owned(), name.to_owned())];
    all.extend(children.map(|child| (folder.join(&child), child)));
    all.iter().any(|(folder, name)| held.contains(name) || !names(folder.join("holders")).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Writes `files` below a fresh root, and makes `links`.
    pub(crate) fn tree(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, contents) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        for (link, target) in links {
            let link = root.path().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            fs::create_dir_all(link.parent().unwrap().join(target)).unwrap();
            std::os::unix::fs::symlink(target, link).unwrap();
        }
        root
    }

    const VIRTIO: &str = "../../devices/pci0000:00/0000:00:04.0/virtio1";
    const SATA: &str = "../../devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0";

    #[test]
    fn every_kind_of_disk_is_named_by_what_survives_a_reboot() {
        let root = tree(
            &[
                ("sys/block/vda/size", b"2097152\n"),
                ("sys/block/vda/serial", b"lab-d1"),
                ("sys/block/vda/vda1/partition", b"1\n"),
                ("sys/block/vda/vda1/start", b"2048\n"),
                ("sys/block/vda/vda1/size", b"4096\n"),
                ("sys/block/vda/queue/logical_block_size", b"512\n"),
                ("sys/block/sda/size", b"100\n"),
                ("sys/block/sda/queue/rotational", b"1\n"),
                (
                    "sys/devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/vpd_pg80",
                    b"\0\x80\0\x08 WD-1234",
                ),
                (
                    "sys/devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/wwid",
                    b"naa.50014EE2\n",
                ),
                (
                    "sys/devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/model",
                    b"WDC WD40   \n",
                ),
                ("sys/block/sr0/size", b"100\n"),
                ("sys/block/sr0/device/type", b"5\n"),
                ("sys/block/loop0/size", b"100\n"),
                ("sys/block/sdb/size", b"0\n"),
                ("sys/block/sdb/device/model", b"empty card reader\n"),
                ("sys/block/nvme0n2/size", b"8\n"),
                ("sys/block/nvme0n2/wwid", b"nvme.1234-31-32\n"),
                ("sys/block/nvme0n2/device/serial", b"S4 \n"),
                ("sys/block/nvme0n2/device/model", b"m\n"),
                ("proc/mounts", b"/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n"),
            ],
            &[("sys/block/vda/device", VIRTIO), ("sys/block/sda/device", SATA)],
        );
        let found = disks(root.path());
        let by = |name: &str| found.iter().find(|d| d.name == name).cloned();
        assert_eq!(found.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["nvme0n2", "sda", "vda"]);
        let vda = by("vda").unwrap();
        assert_eq!((vda.serial.as_deref(), vda.size_bytes, vda.in_use), (Some("lab-d1"), 1 << 30, true));
        assert_eq!(vda.transport.as_deref(), Some("virtio"));
        assert_eq!(vda.by_path.as_deref(), Some("pci-0000:00:04.0"));
        let sda = by("sda").unwrap();
        assert_eq!((sda.serial.as_deref(), sda.wwn.as_deref()), (Some("WD-1234"), Some("0x50014ee2")));
        assert_eq!(
            (sda.rotational, sda.in_use, sda.by_path.as_deref()),
            (true, false, Some("pci-0000:00:1f.2-ata-3"))
        );
        let nvme = by("nvme0n2").unwrap();
        assert_eq!((nvme.serial.as_deref(), nvme.wwn), (Some("S4"), None));
        assert_eq!(
            partitions(root.path(), "vda").first().map(|p| (p.number, p.start_bytes)),
            Some((1, 1 << 20))
        );
    }

    #[test]
    fn a_hostile_product_page_is_survived() {
        for page in [&b""[..], b"\0\x80", b"\0\x80\xff\xff", b"\0\x80\0\x04ab", b"\0\x80\0\x02\xff\xfe"] {
            let root = tree(&[("sys/block/sda/size", b"8"), ("sys/block/sda/device/vpd_pg80", page)], &[]);
            assert_eq!(disks(root.path()).len(), 1);
        }
    }
}
