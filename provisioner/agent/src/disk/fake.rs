//! A disk in memory that records, fails and lies. For tests.

use super::{device::Device, wipe_choice::Abilities};
use provisioner_wire::wipe::Means;
use std::{io, time::Duration};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// From operation number n on (writes, zeroings, flushes, counted from 0), everything fails: the disk is gone.
    GoneAt(usize),
    /// Operation number n fails, once.
    FailAt(usize),
    /// Writes are acknowledged and dropped.
    DropWrites,
    /// Writes to the body are dropped, from that byte on.
    DropFrom(u64),
    /// Discards are refused.
    NoDiscard,
    /// Discards are acknowledged and dropped.
    DiscardLies,
    /// The drive refuses to erase itself.
    EraseFails,
    /// The drive says that it has erased itself.
    EraseLies,
    /// From that byte on to the last MiB, one bit of what is read is turned.
    ReadsWrong(u64),
    /// Each operation takes so many milliseconds.
    Slow(u64),
    /// From operation number n on, writes are refused: the drive has gone read-only, as worn-out flash does.
    ReadOnlyAt(usize),
    /// Writes from that byte on land at the beginning again: a drive that claims to be larger than it is.
    WrapsAt(u64),
}

#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub bytes: Vec<u8>,
    pub sector: u32,
    pub faults: Vec<Fault>,
    pub operations: usize,
    /// Whether a flush was the last thing that changed the disk.
    pub flushed: bool,
    /// It is an error to begin a read-back before a flush.
    pub must_be_flushed: bool,
    /// What the drive can do to itself.
    pub can: Vec<Means>,
    /// Called after each operation that changed the disk.
    pub watch: Option<fn(&Fake)>,
}

impl Fake {
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            sector: 512,
            faults: Vec::new(),
            operations: 0,
            flushed: false,
            must_be_flushed: true,
            can: Vec::new(),
            watch: None,
        }
    }

    pub(crate) fn with(mut self, faults: &[Fault]) -> Self {
        self.faults = faults.to_vec();
        self
    }

    fn operate(&mut self) -> io::Result<()> {
        let n = self.operations;
        self.operations += 1;
        for fault in &self.faults {
            if let Fault::Slow(milliseconds) = fault {
                std::thread::sleep(Duration::from_millis(*milliseconds));
            }
        }
        let hit = self.faults.iter().any(|f| match f {
            Fault::GoneAt(at) => n >= *at,
            Fault::FailAt(at) => n == *at,
            Fault::ReadOnlyAt(at) => n >= *at,
            _ => false,
        });
        if hit { Err(io::Error::other("the disk failed")) } else { Ok(()) }
    }

    fn wrapped(&self, offset: u64) -> u64 {
        let wraps =
            self.faults.iter().find_map(|f| if let Fault::WrapsAt(at) = f { Some(*at) } else { None });
        wraps.map_or(offset, |at| offset % at)
    }

    fn is_gone(&self) -> bool {
        self.faults.iter().any(|f| matches!(f, Fault::GoneAt(at) if self.operations > *at))
    }

    fn place(&mut self, offset: u64, length: usize) -> io::Result<&mut [u8]> {
        let sector = u64::from(self.sector);
        assert!(offset.is_multiple_of(sector) && (length as u64).is_multiple_of(sector), "unaligned");
        let start = usize::try_from(offset).unwrap();
        self.bytes.get_mut(start..start + length).ok_or_else(|| io::ErrorKind::StorageFull.into())
    }
}

impl Device for Fake {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if self.is_gone() {
            return Err(io::Error::other("the disk is gone"));
        }
        let length = buffer.len();
        let from = self.wrapped(offset);
        buffer.copy_from_slice(self.place(from, length)?);
        let body = self.size() - (1 << 20);
        let wrong =
            self.faults.iter().any(|f| matches!(f, Fault::ReadsWrong(at) if offset >= *at && offset < body));
        if let (true, Some(byte)) = (wrong, buffer.first_mut()) {
            *byte ^= 1;
        }
        Ok(())
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.operate()?;
        self.flushed = false;
        let dropped = self.faults.iter().any(|f| match f {
            Fault::DropWrites => true,
            Fault::DropFrom(from) => offset >= *from,
            _ => false,
        });
        let to = self.wrapped(offset);
        let place = self.place(to, data.len())?;
        if !dropped {
            place.copy_from_slice(data);
        }
        if let Some(watch) = self.watch {
            watch(self);
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        if self.faults.contains(&Fault::NoDiscard) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.operate()?;
        let lies = self.faults.contains(&Fault::DiscardLies);
        let place = self.place(offset, usize::try_from(length).unwrap())?;
        if !lies {
            place.fill(0);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.operate()?;
        self.flushed = true;
        Ok(())
    }

    fn drop_cache(&mut self) -> io::Result<()> {
        if self.must_be_flushed && !self.flushed {
            return Err(io::Error::other("read back before it was flushed"));
        }
        Ok(())
    }

    fn abilities(&mut self) -> Abilities {
        Abilities { can: self.can.clone(), cannot: Vec::new() }
    }

    fn erase(&mut self, means: Means) -> io::Result<()> {
        self.operate()?;
        if self.faults.contains(&Fault::EraseFails) {
            return Err(io::Error::other("the drive refused it"));
        }
        if !self.faults.contains(&Fault::EraseLies) {
            let crypto = matches!(means, Means::NvmeFormatCrypto | Means::NvmeSanitizeCrypto);
            self.bytes.fill(if crypto { 0x5a } else { 0 });
        }
        Ok(())
    }

    fn reread_table(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk image with a protective MBR and so many partitions of 1 MiB and known contents.
pub(crate) fn gpt_image(size: usize, block: gpt::disk::LogicalBlockSize, partitions: usize) -> Vec<u8> {
    let mut device = io::Cursor::new(vec![0; size]);
    let lbas = u32::try_from(size as u64 / block.as_u64() - 1).unwrap();
    gpt::mbr::ProtectiveMBR::with_lb_size(lbas).overwrite_lba0(&mut device).unwrap();
    let config = gpt::GptConfig::new().writable(true).logical_block_size(block);
    let mut disk = config.create_from_device(device, None).unwrap();
    for n in 0..partitions {
        let align = (1 << 20) / block.as_u64();
        disk.add_partition(&format!("part{n}"), 1 << 20, gpt::partition_types::LINUX_FS, 0, Some(align))
            .unwrap();
    }
    let starts: Vec<u64> = disk.partitions().values().map(|p| p.first_lba * block.as_u64()).collect();
    let mut bytes = disk.write().unwrap().into_inner();
    for (n, start) in starts.iter().enumerate() {
        let start = usize::try_from(*start).unwrap();
        let seed = u32::try_from(n).unwrap() + 1;
        for (at, byte) in bytes[start..start + (600 << 10)].iter_mut().enumerate() {
            *byte = (u32::try_from(at).unwrap().wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8;
        }
    }
    bytes
}
