//! A real block device; a regular file works too, for tests and for images in the making.

use super::{
    buffer::{ALIGNMENT, Aligned, BLOCK_BYTES},
    device::Device,
    drive::Drive,
    ioctl,
    wipe_choice::Abilities,
};
use provisioner_wire::wipe::Means;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// Open for reading and writing, exclusively: the kernel refuses a block device that is mounted or part of a set.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    size: u64,
    sector: u32,
    is_block: bool,
    drive: Drive,
    /// Made when it is first needed.
    bounce: Option<Aligned>,
}

impl BlockDevice {
    pub fn open(path: &Path, sector: u32) -> io::Result<Self> {
        let is_block = std::fs::metadata(path)?.file_type().is_block_device();
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let exclusive = OFlags::EXCL.bits().cast_signed();
        let mut file = if is_block {
            // Direct: the read-back must come from the drive, not from memory. Not every driver can.
            let direct = OFlags::DIRECT.bits().cast_signed();
            options.clone().custom_flags(exclusive | direct).open(path).or_else(|error| {
                match error.kind() {
                    io::ErrorKind::InvalidInput => options.custom_flags(exclusive).open(path),
                    _ => Err(error),
                }
            })?
        } else {
            options.open(path)?
        };
        let size = file.seek(SeekFrom::End(0))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { file, size, sector, is_block, drive: Drive::of(&name), bounce: None })
    }
}

impl Device for BlockDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if !self.is_block || is_aligned(buffer) {
            return self.file.read_exact_at(buffer, offset);
        }
        let mut at = offset;
        for part in buffer.chunks_mut(BLOCK_BYTES) {
            let bounce = self.bounce.get_or_insert_with(|| Aligned::new(BLOCK_BYTES));
            let room = bounce.room().get_mut(..part.len()).unwrap_or_default();
            self.file.read_exact_at(room, at)?;
            part.copy_from_slice(room);
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        // A regular file would grow; a disk does not.
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.size) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "beyond the end of the disk"));
        }
        if !self.is_block || is_aligned(data) {
            return self.file.write_all_at(data, offset);
        }
        let mut at = offset;
        for part in data.chunks(BLOCK_BYTES) {
            let bounce = self.bounce.get_or_insert_with(|| Aligned::new(BLOCK_BYTES));
            bounce.copy_from(part);
            self.file.write_all_at(bounce.bytes(), at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        // For a block device the kernel turns this into "write zeroes, unmap allowed, no fallback": after success the
        // range reads as zero, or the call fails (block/fops.c, blkdev_fallocate).
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, how, offset, length)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        if self.is_block { Ok(ioctl::drop_cached_pages(&self.file)?) } else { Ok(()) }
    }

    fn abilities(&mut self) -> Abilities {
        if self.is_block { self.drive.abilities(&self.file) } else { Abilities::default() }
    }

    fn erase(&mut self, means: Means) -> io::Result<()> {
        self.drive.erase(&self.file, means)?;
        self.drop_cache()
    }

    fn share(&self) -> io::Result<Box<dyn Device>> {
        Ok(Box::new(Self { file: self.file.try_clone()?, bounce: None, ..*self }))
    }

    fn reread_table(&mut self) -> io::Result<()> {
        if self.is_block {
            ioctl::drop_cached_pages(&self.file)?;
            ioctl::reread_partition_table(&self.file)?;
        }
        Ok(())
    }
}

fn is_aligned(bytes: &[u8]) -> bool {
    (bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT)
}
