//! DMI, firmware, CPU and memory.

use super::{names, text};
use provisioner_wire::report::{Cpu, Dmi, Firmware};
use std::path::Path;

pub(super) fn dmi(root: &Path) -> Dmi {
    let id = root.join("sys/class/dmi/id");
    Dmi {
        uuid: text(id.join("product_uuid")).map(|u| u.to_lowercase()),
        serial: text(id.join("product_serial")),
        manufacturer: text(id.join("sys_vendor")),
        product: text(id.join("product_name")),
        asset: text(id.join("chassis_asset_tag")),
    }
}

pub(super) fn firmware(root: &Path) -> Firmware {
    if root.join("sys/firmware/efi").is_dir() { Firmware::Uefi } else { Firmware::Bios }
}

/// UEFI 2.10 §3.3: the variable is one byte, after the four attribute bytes that efivarfs puts before it.
pub(super) fn secure_boot(root: &Path) -> Option<bool> {
    let variables = root.join("sys/firmware/efi/efivars");
    let name = names(&variables).into_iter().find(|n| n.starts_with("SecureBoot-"))?;
    let bytes = std::fs::read(variables.join(name)).ok()?;
    bytes.get(4).map(|byte| *byte == 1)
}

pub(super) fn cpu(root: &Path) -> Cpu {
    let info = text(root.join("proc/cpuinfo")).unwrap_or_default();
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, v)| v.trim().to_owned()))
    };
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    Cpu {
        model: field("model name").or_else(|| field("Model")).unwrap_or_default(),
        cores: u32::try_from(count).unwrap_or(u32::MAX),
        architecture: std::env::consts::ARCH.to_owned(),
    }
}

/// What the kernel manages; a little less than what is plugged in.
pub(super) fn memory_bytes(root: &Path) -> u64 {
    kibibytes(&root.join("proc/meminfo"), "MemTotal:").unwrap_or(0)
}

/// What can be used without swapping; 0 where the kernel does not say.
pub(super) fn free_memory_bytes(root: &Path) -> u64 {
    kibibytes(&root.join("proc/meminfo"), "MemAvailable:").unwrap_or(0)
}

/// The most that this process has had in memory.
pub(super) fn peak_memory_bytes() -> Option<u64> {
    kibibytes(Path::new("/proc/self/status"), "VmHWM:")
}

fn kibibytes(file: &Path, name: &str) -> Option<u64> {
    let info = text(file)?;
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))?;
    value.trim().parse::<u64>().ok()?.checked_mul(1024)
}
