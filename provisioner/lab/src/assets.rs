//! Where `cargo xtask boot-assets` puts what machines boot.

use anyhow::{Result, bail};
use provisioner_wire::report::Firmware;
use std::path::{Path, PathBuf};

/// A folder of boot assets.
#[derive(Debug, Clone)]
pub struct Assets {
    root: PathBuf,
}

impl Assets {
    /// The folder at `root`, there or not.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// For tests: the folder in `PROVISIONER_ASSETS`, with everything in it.
    pub fn from_environment() -> Result<Self> {
        let Some(root) = std::env::var_os("PROVISIONER_ASSETS") else {
            bail!("PROVISIONER_ASSETS is not set; run the VM tests by `cargo xtask test`");
        };
        let assets = Self::at(root);
        for file in [assets.kernel(), assets.initramfs(), assets.image("tiny")] {
            if !file.exists() {
                bail!("{} is missing; `cargo xtask boot-assets` makes it", file.display());
            }
        }
        Ok(assets)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// iPXE binaries by the name firmware asks for.
    pub fn ipxe(&self) -> PathBuf {
        self.root.join("ipxe")
    }

    pub fn kernel(&self) -> PathBuf {
        self.root.join("agent/vmlinuz")
    }

    pub fn initramfs(&self) -> PathBuf {
        self.root.join("agent/initramfs.img")
    }

    /// What is made for Secure Boot.
    pub fn secure_boot(&self) -> PathBuf {
        self.root.join("secure-boot")
    }

    /// As [`Self::ipxe`], signed with the site's own keys.
    pub fn signed_ipxe(&self) -> PathBuf {
        self.secure_boot().join("ipxe")
    }

    /// The agent's kernel and initramfs as one signed image.
    pub fn signed_agent(&self) -> PathBuf {
        self.secure_boot().join("agent.efi")
    }

    /// OVMF's variables with the site's own keys enrolled and Secure Boot on.
    pub fn own_key_variables(&self) -> PathBuf {
        self.secure_boot().join("ovmf-variables.fd")
    }

    /// Debian's signed shim and GRUB by the names that firmware and shim ask for.
    pub fn shim(&self) -> PathBuf {
        self.root.join("shim")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// A compressed disk image, `debian` or `tiny`.
    pub fn image(&self, name: &str) -> PathBuf {
        self.images().join(format!("{name}.raw.zst"))
    }
}

/// OVMF's code and its variable store, as Debian's package has them; none for BIOS, which QEMU brings itself.
pub fn ovmf(firmware: Firmware) -> Option<(&'static Path, &'static Path)> {
    match firmware {
        Firmware::Bios => None,
        Firmware::Uefi => {
            Some((Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path::new("/usr/share/OVMF/OVMF_VARS_4M.fd")))
        }
    }
}
