//! How a disk is wiped: what a profile asks for, what the agent has done, and the certificate that the server signs.

use crate::{Generation, MachineName, report::DiskIdentity};
use serde::{Deserialize, Serialize};

/// What a profile asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WipeMethod {
    /// Clears partition tables and file-system signatures.
    #[default]
    Metadata,
    /// Discards the whole disk, then checks by reading that it is zero; overwrites what is not.
    Discard,
    Overwrite,
    /// The strongest that the drive offers, down to overwriting: nothing is readable through its interface afterwards
    /// (NIST SP 800-88 "clear" or better).
    Clear,
    /// Only what the drive itself does to all of its cells (NIST SP 800-88 "purge"); a drive that can do none of it is
    /// an error.
    Purge,
}

/// What was done to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// NVMe Sanitize, block erase.
    NvmeSanitizeBlock,
    /// NVMe Sanitize, crypto erase.
    NvmeSanitizeCrypto,
    /// NVMe Format with cryptographic erase.
    NvmeFormatCrypto,
    /// NVMe Format with user data erase.
    NvmeFormatErase,
    /// ATA enhanced security erase.
    AtaEnhancedErase,
    /// ATA security erase.
    AtaErase,
    Discard,
    Overwrite,
    Metadata,
}

impl Means {
    /// As NIST SP 800-88 has it; a disk whose metadata alone was cleared is neither.
    pub fn is_purge(self) -> bool {
        matches!(
            self,
            Self::NvmeSanitizeBlock
                | Self::NvmeSanitizeCrypto
                | Self::NvmeFormatCrypto
                | Self::NvmeFormatErase
                | Self::AtaEnhancedErase
        )
    }
}

impl std::fmt::Display for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NvmeSanitizeBlock => "NVMe sanitize (block erase)",
            Self::NvmeSanitizeCrypto => "NVMe sanitize (crypto erase)",
            Self::NvmeFormatCrypto => "NVMe format (crypto erase)",
            Self::NvmeFormatErase => "NVMe format (user data erase)",
            Self::AtaEnhancedErase => "ATA enhanced security erase",
            Self::AtaErase => "ATA security erase",
            Self::Discard => "discard",
            Self::Overwrite => "overwrite",
            Self::Metadata => "metadata",
        })
    }
}

/// Something stronger that was not done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    pub means: Means,
    pub why: String,
}

/// What was read before the wipe and after it, at the same random places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    pub places: u32,
    pub bytes_each: u32,
    /// Places that had something else than zeros before.
    pub with_data_before: u32,
    /// Of those, places that read as zero now.
    pub zero_now: u32,
    /// Of those, places that read as something else than before, but not as zero: after a crypto erase.
    pub changed_now: u32,
}

/// One disk, as the agent has wiped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiped {
    pub disk: DiskIdentity,
    pub model: Option<String>,
    pub asked: WipeMethod,
    pub done: Means,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    pub sampled: Sampled,
    pub seconds: u64,
}

/// What the server vouches for: that the machine's agent, which held the licence for this disk, has reported this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Always [`CERTIFICATE`].
    pub kind: String,
    pub machine: MachineName,
    pub generation: Generation,
    pub workflow: uuid::Uuid,
    /// SMBIOS serial of the machine.
    pub machine_serial: Option<String>,
    pub wiped: Wiped,
    /// As the server's clock has it: when the licence was spent, and when the agent's report came.
    pub begun_ms: Option<i64>,
    pub ended_ms: i64,
}

/// [`Certificate::kind`].
pub const CERTIFICATE: &str = "provisioner-wipe-certificate-v1";

/// As it is stored and handed out: the signature is over `certificate`'s very bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCertificate {
    /// JSON of a [`Certificate`], as text.
    pub certificate: String,
    /// Ed25519, 128 hexadecimal digits.
    pub signature: String,
    /// Ed25519, 64 hexadecimal digits.
    pub public_key: String,
}
