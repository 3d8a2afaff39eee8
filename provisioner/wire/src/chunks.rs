//! Images in pieces: the raw disk cut into chunks of one size, each packed by itself, so that an agent fetches, checks
//! and writes many at a time. The manifest names them all; who knows the manifest's hash knows the whole disk.

use crate::ids::{hex, hex_into};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Raw bytes of every chunk but the last.
pub const CHUNK_BYTES: u32 = 1 << 20;
/// More than any image has: 16 TiB in chunks of [`CHUNK_BYTES`].
const CHUNKS_MAX: u64 = 16 << 20;
const MAGIC: &[u8; 24] = b"provisioner-manifest-1\0\n";
const HEAD_BYTES: usize = MAGIC.len() + 12;
const ENTRY_BYTES: usize = 4 + 32 + 32;

/// SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha(pub [u8; 32]);

impl Sha {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        (text.len() == 64).then(|| hex_into(text, &mut bytes))?.map(|()| Self(bytes))
    }
}

impl std::fmt::Display for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for Sha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Where an agent gets the chunks of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// SHA-256 of the manifest's bytes, 64 hexadecimal digits.
    pub root: String,
    /// Below it: `manifests/ROOT` and `chunks/SHA256`. Absolute, or a path below the server's base URL.
    pub base: String,
    /// Bases of the same kind that are asked before it, in their order: caches near the machine. None is trusted:
    /// what they send is held to its hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<String>,
}

/// One chunk that is not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Of the packed bytes: its name, and what is checked before it is unpacked.
    pub packed: Sha,
    pub packed_bytes: u32,
    /// Of the raw bytes: tells whether a disk has it already.
    pub raw: Sha,
}

/// All chunks of one image, in their order; `None` is a chunk of zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub raw_bytes: u64,
    pub chunk_bytes: u32,
    pub chunks: Vec<Option<Chunk>>,
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("these are not the bytes of a manifest")]
    Magic,
    #[error("its chunks of {chunk_bytes} bytes are not a power of two between 4 KiB and 64 MiB")]
    ChunkSize { chunk_bytes: u32 },
    #[error("a disk of {raw_bytes} bytes is too large")]
    TooLarge { raw_bytes: u64 },
    #[error("it has {is} bytes where {should} follow from the size of its disk")]
    Length { is: usize, should: usize },
    #[error("chunk {number} is said to have {packed_bytes} packed bytes")]
    Packed { number: usize, packed_bytes: u32 },
    #[error("chunk {number} is a hole with a hash")]
    Hole { number: usize },
}

impl Manifest {
    /// The offset of chunk `number` and its length in raw bytes.
    pub fn place(&self, number: usize) -> (u64, usize) {
        let at = number as u64 * u64::from(self.chunk_bytes);
        let left = self.raw_bytes.saturating_sub(at).min(u64::from(self.chunk_bytes));
        (at, usize::try_from(left).unwrap_or(0))
    }

    /// The one way to write it: the same chunks give the same bytes, and so the same root.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.chunks.len() * ENTRY_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.raw_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.chunk_bytes.to_le_bytes());
        for chunk in &self.chunks {
            match chunk {
                Some(chunk) => {
                    bytes.extend_from_slice(&chunk.packed_bytes.to_le_bytes());
                    bytes.extend_from_slice(&chunk.packed.0);
                    bytes.extend_from_slice(&chunk.raw.0);
                }
                None => bytes.extend_from_slice(&[0; ENTRY_BYTES]),
            }
        }
        bytes
    }

    /// Reads any bytes; what it accepts is consistent in itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or(ManifestError::Magic)?;
        let (raw, rest) = rest.split_first_chunk().ok_or(ManifestError::Magic)?;
        let (size, entries) = rest.split_first_chunk().ok_or(ManifestError::Magic)?;
        let (raw_bytes, chunk_bytes) = (u64::from_le_bytes(*raw), u32::from_le_bytes(*size));
        if !chunk_bytes.is_power_of_two() || !(4096..=64 << 20).contains(&chunk_bytes) {
            return Err(ManifestError::ChunkSize { chunk_bytes });
        }
        let count = raw_bytes.div_ceil(u64::from(chunk_bytes));
        if count > CHUNKS_MAX {
            return Err(ManifestError::TooLarge { raw_bytes });
        }
        let count = usize::try_from(count).map_err(|_| ManifestError::TooLarge { raw_bytes })?;
        let should = HEAD_BYTES + count * ENTRY_BYTES;
        if bytes.len() != should {
            return Err(ManifestError::Length { is: bytes.len(), should });
        }
        let numbered = entries.as_chunks::<ENTRY_BYTES>().0.iter().enumerate();
        let chunks = numbered.map(|(number, entry)| entry_of(number, entry, chunk_bytes));
        Ok(Self { raw_bytes, chunk_bytes, chunks: chunks.collect::<Result<_, _>>()? })
    }

    /// SHA-256 of [`Manifest::to_bytes`].
    pub fn root(&self) -> Sha {
        Sha::of(&self.to_bytes())
    }
}

fn entry_of(
    number: usize,
    entry: &[u8; ENTRY_BYTES],
    chunk_bytes: u32,
) -> Result<Option<Chunk>, ManifestError> {
    let (length, hashes) = entry.split_first_chunk().ok_or(ManifestError::Magic)?;
    let (packed, raw) = hashes.split_first_chunk().ok_or(ManifestError::Magic)?;
    let packed_bytes = u32::from_le_bytes(*length);
    if packed_bytes == 0 {
        return if hashes.iter().all(|b| *b == 0) { Ok(None) } else { Err(ManifestError::Hole { number }) };
    }
    // What cannot be packed grows by a frame's head and block heads, never by an eighth.
    if packed_bytes > chunk_bytes + chunk_bytes / 8 + 64 {
        return Err(ManifestError::Packed { number, packed_bytes });
    }
    let raw = raw.first_chunk().ok_or(ManifestError::Magic)?;
    Ok(Some(Chunk { packed: Sha(*packed), packed_bytes, raw: Sha(*raw) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Manifest {
        let chunk =
            |n: u8| Chunk { packed: Sha([n; 32]), packed_bytes: 100 + u32::from(n), raw: Sha([n + 1; 32]) };
        Manifest {
            raw_bytes: 3 * 4096 + 5,
            chunk_bytes: 4096,
            chunks: vec![Some(chunk(1)), None, Some(chunk(3)), None],
        }
    }

    #[test]
    fn it_comes_back_and_its_root_is_its_hash() {
        let manifest = sample();
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::parse(&bytes).as_ref(), Ok(&manifest));
        assert_eq!(manifest.root(), Sha::of(&bytes));
        assert_eq!([0, 2, 3].map(|n| manifest.place(n)), [(0, 4096), (8192, 4096), (12288, 5)]);
        assert_eq!(Sha::from_hex(&manifest.root().to_string()), Some(manifest.root()));
    }

    #[test]
    fn what_is_not_consistent_is_refused() {
        let good = sample().to_bytes();
        let with = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            Manifest::parse(&bad).unwrap_err().to_string()
        };
        assert!(with(0, b"P").contains("not the bytes"));
        assert!(with(24, &u64::MAX.to_le_bytes()).contains("too large"));
        assert!(with(24, &1u64.to_le_bytes()).contains("where 104 follow"));
        assert!(with(32, &5000u32.to_le_bytes()).contains("power of two"));
        assert!(with(36, &1_000_000u32.to_le_bytes()).contains("chunk 0 is said to have 1000000"));
        assert!(with(36 + ENTRY_BYTES + 4, &[1]).contains("chunk 1 is a hole"));
        assert!(Manifest::parse(&good[..good.len() - 1]).is_err());
        assert!(Manifest::parse(&[good.as_slice(), b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(tail in proptest::collection::vec(any::<u8>(), 0..400), real: bool) {
            let bytes = if real { [MAGIC.as_slice(), &tail].concat() } else { tail };
            if let Ok(manifest) = Manifest::parse(&bytes) {
                prop_assert_eq!(manifest.to_bytes(), bytes);
            }
        }
    }
}
