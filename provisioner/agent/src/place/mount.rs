//! Mounting, behind a trait so that tests need no kernel for it.

use super::FileSystem;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    ffi::CStr,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub trait Mounts: Send + Sync {
    /// Where the file system's root now is.
    fn mount(&self, device: &Path, file_system: FileSystem) -> io::Result<PathBuf>;
    /// All is on the medium when this returns.
    fn unmount(&self, at: &Path) -> io::Result<()>;
}

/// The kernel's own.
#[derive(Debug, Clone, Copy)]
pub struct KernelMounts;

const AT: &str = "/run/place";

impl Mounts for KernelMounts {
    fn mount(&self, device: &Path, file_system: FileSystem) -> io::Result<PathBuf> {
        std::fs::create_dir_all(AT)?;
        // FAT cannot keep Unix permissions; quiet makes it ignore them instead of refusing.
        let options: Option<&CStr> = (file_system == FileSystem::Vfat).then_some(c"quiet");
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        mount(device, AT, file_system.kernel_name(), flags, options)?;
        Ok(AT.into())
    }

    fn unmount(&self, at: &Path) -> io::Result<()> {
        rustix::fs::sync();
        for _ in 0..50 {
            match unmount(at, UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(100)),
                other => return Ok(other?),
            }
        }
        Ok(unmount(at, UnmountFlags::empty())?)
    }
}
