//! PURE. A file as it goes over the wire, block after block: as it is, or in netascii.

use bytes::Bytes;

/// RFC 1350 §1: how a file is sent. The third mode, mail, is refused where requests are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Octet,
    /// Lines end in CR LF, and a CR that ends no line is CR NUL (RFC 764, as RFC 1350 takes it over).
    Netascii,
}

/// Where in the file a block begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    at: usize,
    /// The second byte of a pair whose first was the last of the block before.
    owed: Option<u8>,
}

#[derive(Debug)]
pub struct Source {
    data: Bytes,
    mode: Mode,
    length: usize,
}

impl Source {
    pub fn new(data: Bytes, mode: Mode) -> Self {
        let pairs = match mode {
            Mode::Octet => 0,
            Mode::Netascii => data.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count(),
        };
        Self { length: data.len() + pairs, data, mode }
    }

    /// Bytes as sent: the exact answer to RFC 2349's tsize, in both modes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Moves `cursor` behind the block of `size` bytes that begins there.
    pub fn pass(&self, cursor: &mut Cursor, size: usize) {
        match self.mode {
            Mode::Octet => cursor.at = cursor.at.saturating_add(size).min(self.data.len()),
            Mode::Netascii => self.block(cursor, size, &mut Vec::new()),
        }
    }

    /// Appends the block of `size` bytes that begins at `cursor` (fewer at the end), and moves `cursor` behind it.
    pub fn block(&self, cursor: &mut Cursor, size: usize, out: &mut Vec<u8>) {
        let rest = self.data.get(cursor.at..).unwrap_or_default();
        if self.mode == Mode::Octet {
            let block = rest.get(..size).unwrap_or(rest);
            out.extend_from_slice(block);
            cursor.at += block.len();
            return;
        }
        let full = out.len() + size;
        let mut rest = rest.iter();
        while out.len() < full {
            if let Some(second) = cursor.owed.take() {
                out.push(second);
                continue;
            }
            let Some(byte) = rest.next() else { break };
            cursor.at += 1;
            match byte {
                b'\n' => {
                    out.push(b'\r');
                    cursor.owed = Some(b'\n');
                }
                b'\r' => {
                    out.push(b'\r');
                    cursor.owed = Some(0);
                }
                other => out.push(*other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(data: &[u8], mode: Mode, size: usize) -> Vec<u8> {
        let source = Source::new(Bytes::copy_from_slice(data), mode);
        let (mut cursor, mut all) = (Cursor::default(), Vec::new());
        loop {
            let before = all.len();
            source.block(&mut cursor, size, &mut all);
            if all.len() - before < size {
                assert_eq!(all.len(), source.length());
                return all;
            }
        }
    }

    #[test]
    fn rfc1350_netascii_pairs_may_stand_across_the_edge_of_a_block() {
        for size in 1..=12 {
            assert_eq!(sent(b"ab\ncd\re\n", Mode::Netascii, size), b"ab\r\ncd\r\0e\r\n", "{size}");
            assert_eq!(sent(b"\n\n\r\n", Mode::Netascii, size), b"\r\n\r\n\r\0\r\n", "{size}");
            assert_eq!(sent(b"ab\ncd\re\n", Mode::Octet, size), b"ab\ncd\re\n", "{size}");
        }
        assert_eq!(sent(b"", Mode::Netascii, 8), b"");
    }

    proptest! {
        #[test]
        fn netascii_can_be_undone(data in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0), any::<u8>()], 0..200), size in 1usize..40) {
            let mut undone = Vec::new();
            let mut bytes = sent(&data, Mode::Netascii, size).into_iter();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\r' => undone.push(match bytes.next() {
                        Some(b'\n') => b'\n',
                        Some(0) => b'\r',
                        other => panic!("CR {other:?}"),
                    }),
                    other => undone.push(other),
                }
            }
            prop_assert_eq!(undone, data);
        }
    }
}
