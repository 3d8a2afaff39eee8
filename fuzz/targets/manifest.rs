//! A manifest that is accepted is consistent in itself, and is the one way to write what it says.

use provisioner_wire::chunks::{Manifest, Sha};

const MAGIC: &[u8; 24] = b"provisioner-manifest-1\0\n";
/// Length, packed hash, raw hash.
const ENTRY: usize = 68;

/// The bytes as they are; and as entries under a head that fits them: else few inputs would come past it.
pub fn run(data: &[u8]) {
    check(data);
    let entries = data.len() / ENTRY;
    let last = data.last().copied().unwrap_or_default();
    let chunk_bytes = 4096u32 << (last % 15);
    let raw_bytes = (entries as u64 * u64::from(chunk_bytes)).saturating_sub(u64::from(last));
    let head = [&MAGIC[..], &raw_bytes.to_le_bytes(), &chunk_bytes.to_le_bytes()].concat();
    check(&[&head, &data[..entries * ENTRY]].concat());
}

fn check(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    assert_eq!(manifest.to_bytes(), data, "two ways to write one manifest");
    assert_eq!(manifest.root(), Sha::of(data));
    let mut end = 0;
    for (number, chunk) in manifest.chunks.iter().enumerate() {
        let (at, length) = manifest.place(number);
        assert_eq!(at, end, "a gap before chunk {number}");
        assert!(length > 0 && length <= manifest.chunk_bytes as usize, "chunk {number} of {length} bytes");
        end = at + length as u64;
        // What an agent makes room for before it fetches.
        let packed = chunk.map_or(0, |chunk| chunk.packed_bytes);
        assert!(packed <= manifest.chunk_bytes + manifest.chunk_bytes / 8 + 64, "{packed} packed bytes");
    }
    assert_eq!(end, manifest.raw_bytes, "the chunks are not the disk");
}
