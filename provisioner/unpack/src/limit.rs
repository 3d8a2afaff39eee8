//! Refuses a stream that grows past its bound, so that a small file cannot unpack into an endless disk.

use std::io::{self, Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the unpacked image is larger than {most} bytes")]
pub struct TooLarge {
    pub most: u64,
}

/// Passes at most `most` bytes; one more is [`TooLarge`].
#[derive(Debug)]
pub struct Limited<R> {
    inner: R,
    most: u64,
    left: u64,
}

impl<R: Read> Limited<R> {
    pub fn new(inner: R, most: u64) -> Self {
        Self { inner, most, left: most }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte past the bound is asked for, to tell an exact fit from an overflow.
        let ask = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(buffer.get_mut(..ask).unwrap_or_default())?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other(TooLarge { most: self.most }))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_fit_passes_and_one_byte_more_does_not() {
        let read = |most| io::copy(&mut Limited::new(&[7; 100][..], most), &mut io::sink());
        assert_eq!(read(100).unwrap(), 100);
        assert_eq!(read(99).unwrap_err().to_string(), "the unpacked image is larger than 99 bytes");
    }
}
