//! PURE. Which format a file's first bytes show.

/// Bytes to hand to [`detect`].
pub const HEAD: usize = 8;

/// By magic numbers: a declarable format's own name (`gz`, `xz`, `zst`, `bz2`, `qcow2`), the name of a disk format or archive that must
/// not be written as it is, or `raw` for what is none of these.
pub fn detect(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => "gz",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
        // A frame (RFC 8878 §3.1.1), or a skippable frame in front (§3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => "zst",
        [b'Q', b'F', b'I', 0xfb, ..] => "qcow2",
        [b'B', b'Z', b'h', ..] => "bz2",
        [b'K', b'D', b'M', b'V', ..] => "VMDK",
        [b'c', b'o', b'n', b'e', b'c', b't', b'i', b'x'] | [b'v', b'h', b'd', b'x', b'f', ..] => "VHD",
        [b'P', b'K', 3, 4, ..] => "zip",
        _ => "raw",
    }
}
