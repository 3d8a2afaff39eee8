//! Fingerprints of what is written and read back.

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

    pub fn of(bytes: &[u8]) -> u128 {
        XxHash3_128::oneshot(bytes)
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
