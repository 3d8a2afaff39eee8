//! A reader over the chunks that another thread sends; the end of the sender is the end of the stream.

use std::{
    io::{self, BufRead, Read},
    sync::mpsc::Receiver,
};

#[derive(Debug)]
pub(super) struct PipeReader {
    chunks: Receiver<Vec<u8>>,
    current: Vec<u8>,
    used: usize,
}

impl PipeReader {
    pub(super) fn new(chunks: Receiver<Vec<u8>>) -> Self {
        Self { chunks, current: Vec::new(), used: 0 }
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.used >= self.current.len() {
            let Ok(next) = self.chunks.recv() else { return Ok(&[]) };
            (self.current, self.used) = (next, 0);
        }
        Ok(self.current.get(self.used..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.used += count;
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
