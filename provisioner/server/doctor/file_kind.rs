//! What a boot file is made for, by its first bytes: a PE program names its machine (PE format, "Machine Types").

use super::sign::Platform;

/// `None`: not a program that firmware loads (a script, an initramfs; a kernel, which iPXE or GRUB loads).
pub fn made_for(name: &str, bytes: &[u8]) -> Option<Platform> {
    if let Some(machine) = pe_machine(bytes).filter(|_| name.contains(".efi")) {
        return match machine {
            0x014c => Some(Platform::UefiX86),
            0x8664 => Some(Platform::UefiX64),
            0x01c0 | 0x01c2 | 0x01c4 => Some(Platform::UefiArm32),
            0xaa64 => Some(Platform::UefiArm64),
            0x5064 => Some(Platform::UefiRiscv64),
            0x6264 => Some(Platform::UefiLoong64),
            _ => None,
        };
    }
    // A BIOS network boot program is bare code: only its name tells.
    let bios = [".kpxe", ".kkpxe", ".pxe", ".0"].iter().any(|end| name.ends_with(end));
    bios.then_some(Platform::Bios)
}

fn pe_machine(bytes: &[u8]) -> Option<u16> {
    if bytes.get(..2)? != b"MZ" {
        return None;
    }
    let at = usize::try_from(u32::from_le_bytes(bytes.get(0x3c..0x40)?.try_into().ok()?)).ok()?;
    let header = bytes.get(at..at.checked_add(6)?)?;
    let [b'P', b'E', 0, 0, low, high] = header else { return None };
    Some(u16::from_le_bytes([*low, *high]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pe(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 0x86];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn the_header_counts_and_not_the_name() {
        for (name, bytes, platform) in [
            ("snponly.efi", pe(0x8664), Some(Platform::UefiX64)),
            ("snponly.efi", pe(0xaa64), Some(Platform::UefiArm64)),
            ("x.efi", pe(0x014c), Some(Platform::UefiX86)),
            ("x.efi", pe(0x5064), Some(Platform::UefiRiscv64)),
            ("x.efi", pe(0x6264), Some(Platform::UefiLoong64)),
            ("x.efi", pe(0x9999), None),
            ("undionly.kpxe", vec![0xea; 10], Some(Platform::Bios)),
            ("vmlinuz", pe(0x8664), None),
            ("initramfs.img", vec![0x1f, 0x8b], None),
            ("x.efi", b"MZ".to_vec(), None),
        ] {
            assert_eq!(made_for(name, &bytes), platform, "{name}");
        }
        let mut far = pe(0x8664);
        far[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(made_for("x.efi", &far), None);
    }
}
