//! PURE. Which format a file's first bytes show.

use provisioner_wire::order::ImageFormat;

/// Bytes to hand to [`detect`].
pub const HEAD: usize = 8;

/// The format by magic numbers; anything that is no known archive is raw.
pub fn detect(head: &[u8]) -> ImageFormat {
    match head {
        [0x1f, 0x8b, ..] => ImageFormat::Gz,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ImageFormat::Xz,
        // A frame (RFC 8878 §3.1.1), or a skippable frame in front (§3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => ImageFormat::Zst,
        _ => ImageFormat::Raw,
    }
}

/// What looks raw but must not be written as it is: disk formats and archives that no agent unpacks.
pub(super) fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'Q', b'F', b'I', 0xfb, ..] => Some("qcow2"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [b'K', b'D', b'M', b'V', ..] => Some("VMDK"),
        [b'c', b'o', b'n', b'e', b'c', b't', b'i', b'x'] | [b'v', b'h', b'd', b'x', b'f', ..] => Some("VHD"),
        [b'P', b'K', 3, 4, ..] => Some("zip"),
        _ => None,
    }
}
