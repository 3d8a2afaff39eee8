//! A disk as the writer sees it.

use super::wipe_choice::Abilities;
use provisioner_wire::wipe::Means;
use std::{io, time::Duration};

/// Reads and writes whole ranges; offsets and lengths are multiples of [`Device::sector`].
pub trait Device: Send {
    fn size(&self) -> u64;
    /// Logical sector, 512 or 4096.
    fn sector(&self) -> u32;
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes a range read as zero without sending zeros, by discarding it where the kernel vouches for the result.
    /// [`io::ErrorKind::Unsupported`] where it cannot; then zeros must be written.
    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()>;
    /// All that was written is on the medium when this returns, the drive's own cache included.
    fn flush(&mut self) -> io::Result<()>;
    /// What is read from now on comes from the drive, not from memory.
    fn drop_cache(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// What the drive itself can do to all that it holds. Asks the drive; a drive that answers nothing can nothing.
    fn abilities(&mut self) -> Abilities {
        Abilities::default()
    }
    /// Has the drive erase all that it holds; returns when it is done. Only what [`Device::abilities`] names.
    fn erase(&mut self, means: Means) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("{means}: this disk cannot")))
    }
    /// Another handle to the same disk, for another thread. [`io::ErrorKind::Unsupported`] where there can be only one.
    fn share(&self) -> io::Result<Box<dyn Device>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes the kernel drop its cache of the disk and read the partition table again.
    fn reread_table(&mut self) -> io::Result<()>;
}

/// Zeroes a range, by [`Device::zero`] or by writing.
pub fn make_zero(device: &mut dyn Device, offset: u64, length: u64) -> io::Result<()> {
    match device.zero(offset, length) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            write_zeros(device, offset, length, |_| ())
        }
        other => other,
    }
}

/// Writes zeros over a range; `done` hears how many bytes are behind it.
pub fn write_zeros(
    device: &mut dyn Device,
    offset: u64,
    length: u64,
    mut done: impl FnMut(u64),
) -> io::Result<()> {
    let mut zeros = super::buffer::Aligned::new(super::buffer::BLOCK_BYTES);
    zeros.set_length(super::buffer::BLOCK_BYTES);
    let mut behind = 0;
    while behind < length {
        let piece = usize::try_from(length - behind).unwrap_or(usize::MAX).min(super::buffer::BLOCK_BYTES);
        device.write_at(zeros.bytes().get(..piece).unwrap_or_default(), offset + behind)?;
        behind += piece as u64;
        done(behind);
    }
    Ok(())
}

/// The table is busy for a moment after a write, while the kernel or udev still looks at the disk.
pub fn reread_patiently(device: &mut dyn Device) -> io::Result<()> {
    let mut last = device.reread_table();
    for _ in 0..20 {
        match &last {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(100));
                last = device.reread_table();
            }
            _ => break,
        }
    }
    last
}
