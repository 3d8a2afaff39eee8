//! Memory that direct I/O takes: aligned to a page, and a multiple of any sector long.

use std::io::{self, Read};

/// One write to the disk.
pub const BLOCK_BYTES: usize = 4 << 20;
/// Alignment that every block device accepts.
pub const ALIGNMENT: usize = 4096;

/// A page-aligned buffer of a fixed capacity with so many bytes in it.
#[derive(Debug)]
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    capacity: usize,
    length: usize,
}

impl Aligned {
    /// Empty, with room for `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, capacity, length: 0 }
    }

    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// The whole capacity, for reading into; then [`Aligned::set_length`].
    pub fn room(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.capacity).unwrap_or_default()
    }

    pub fn set_length(&mut self, length: usize) {
        self.length = length.min(self.capacity);
    }

    /// Copies `data`, at most the capacity.
    pub fn copy_from(&mut self, data: &[u8]) {
        let length = data.len().min(self.capacity);
        if let (Some(to), Some(from)) = (self.room().get_mut(..length), data.get(..length)) {
            to.copy_from_slice(from);
        }
        self.length = length;
    }

    /// Reads until full or the end of `reader`.
    pub fn fill_from(&mut self, reader: &mut impl Read) -> io::Result<()> {
        self.length = 0;
        while self.length < self.capacity {
            let from = self.start + self.length;
            let room = self.memory.get_mut(from..self.start + self.capacity).unwrap_or_default();
            match reader.read(room) {
                Ok(0) => break,
                Ok(count) => self.length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills up with zeros to a multiple of `sector`; the bytes as padded.
    pub fn padded(&self, sector: usize) -> Vec<u8> {
        let mut bytes = self.bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(sector.max(1)), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_keep_what_was_read() {
        let mut buffer = Aligned::new(8192);
        buffer.fill_from(&mut &[5u8; 10_000][..]).unwrap();
        assert_eq!(buffer.bytes(), &[5; 8192]);
        assert_eq!(buffer.bytes().as_ptr() as usize % ALIGNMENT, 0);
        buffer.fill_from(&mut &b"abc"[..]).unwrap();
        assert_eq!(buffer.padded(8), b"abc\0\0\0\0\0");
    }
}
