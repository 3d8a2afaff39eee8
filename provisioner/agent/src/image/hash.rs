//! Hashes what is read through it.

use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use twox_hash::XxHash3_128;

/// Tells whether the bytes that come back from a disk are those that went to it. Against accidents, not attackers
/// (those are held off by the SHA-256 of the file as served), and many times as fast as SHA-256 on a processor without
/// instructions for it.
#[derive(Clone, Default)]
pub struct Fingerprint(XxHash3_128);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({:032x})", self.0.finish_128())
    }
}

impl Fingerprint {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub fn finish(&self) -> u128 {
        self.0.finish_128()
    }
}

/// True where the processor has instructions for SHA-256, so that hashing a whole disk costs nothing to speak of.
pub fn sha256_is_cheap() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("sha");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// SHA-256 of all bytes that went through.
#[derive(Debug)]
pub struct Hashing<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Hashing<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, digest: Sha256::new() }
    }

    /// 64 hexadecimal digits.
    pub fn finish(self) -> String {
        hex(&self.digest.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_what_was_read() {
        let mut reader = Hashing::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
