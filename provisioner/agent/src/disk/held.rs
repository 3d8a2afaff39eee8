//! The two ends of a disk that decide whether it can boot, kept in memory until everything between them is verified.
//!
//! The first MiB has boot sector, primary table and the classic boot loaders. The last MiB has the backup table, and
//! firmware (EDK2 among it) boots from that alone when the primary is missing; so it is held back too.

use super::{
    device::Device,
    table::{self, TableError},
};
use std::io;

/// Length of each end.
pub(super) use provisioner_wire::read_back::END_BYTES;
/// Boot sector, primary header and the first entries: written last of all.
const SPARK_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_start: u64,
}

impl Ends {
    /// All zero, for a disk of `size` bytes, which is at least twice [`END_BYTES`].
    pub(super) fn of_disk(size: u64) -> Self {
        let zeros = || vec![0; usize::try_from(END_BYTES).unwrap_or(0)];
        Self { head: zeros(), tail: zeros(), tail_start: size.saturating_sub(END_BYTES) }
    }

    /// Keeps what of `data` at `offset` lies in an end; returns the rest with its offset.
    pub(super) fn keep<'a>(&mut self, data: &'a [u8], offset: u64) -> (&'a [u8], u64) {
        let in_head = usize::try_from(END_BYTES.saturating_sub(offset)).unwrap_or(0).min(data.len());
        let (head, rest) = data.split_at(in_head);
        overlay(&mut self.head, head, offset);
        let body_start = offset + in_head as u64;
        let in_body = usize::try_from(self.tail_start.saturating_sub(body_start)).unwrap_or(usize::MAX);
        let (body, tail) = rest.split_at(in_body.min(rest.len()));
        overlay(&mut self.tail, tail, (body_start + body.len() as u64).saturating_sub(self.tail_start));
        (body, body_start)
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    pub(super) fn tail_start(&self) -> u64 {
        self.tail_start
    }

    /// Refuses an image whose table cannot work on this disk. Called as soon as the head is there.
    pub(super) fn check_table(&self, sector: u32, size: u64) -> Result<(), TableError> {
        match self.table(sector)? {
            Some(gpt) => gpt.moved(size).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Moves the image's backup table to the end of the disk.
    pub(super) fn fit_table(&mut self, sector: u32, size: u64) -> Result<(), TableError> {
        let Some(gpt) = self.table(sector)? else { return Ok(()) };
        let last_lba = (size / u64::from(sector)).saturating_sub(1);
        if gpt.alternate_lba() == last_lba {
            return Ok(());
        }
        let moved = gpt.moved(size)?;
        table::stretch_protective_mbr(&mut self.head, gpt.alternate_lba(), last_lba);
        overlay(&mut self.head, &moved.primary.1, moved.primary.0);
        for (at, bytes) in [moved.backup_entries, moved.backup] {
            overlay(&mut self.tail, &bytes, at.saturating_sub(self.tail_start));
        }
        Ok(())
    }

    fn table(&self, sector: u32) -> Result<Option<table::Gpt>, TableError> {
        table::read(sector, |buffer, at| {
            let from = usize::try_from(at).ok().and_then(|at| self.head.get(at..)?.get(..buffer.len()));
            buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    /// The tail, the head from its far end, and last of all the sectors without which nothing boots; each on the
    /// medium before the next.
    pub(super) fn write(&self, device: &mut dyn Device) -> io::Result<()> {
        device.write_at(&self.tail, self.tail_start)?;
        let (spark, rest) = self.head.split_at(SPARK_BYTES.min(self.head.len()));
        device.write_at(rest, spark.len() as u64)?;
        device.flush()?;
        device.write_at(spark, 0)?;
        device.flush()
    }

    /// True where the disk reads back as both ends are.
    pub(super) fn are_on(&self, device: &mut dyn Device) -> io::Result<bool> {
        let mut seen = super::buffer::Aligned::new(self.head.len());
        device.read_at(seen.room(), 0)?;
        let head_is_there = seen.room() == self.head;
        device.read_at(seen.room(), self.tail_start)?;
        Ok(head_is_there && seen.room() == self.tail)
    }
}

fn overlay(under: &mut [u8], bytes: &[u8], at: u64) {
    let place = usize::try_from(at).ok().and_then(|at| under.get_mut(at..at + bytes.len()));
    if let Some(place) = place {
        place.copy_from_slice(bytes);
    }
}
