//! `Range` headers with any text, of files of any length.

use provisioner::http::boot_files::{Range, range};

/// The first eight bytes are the file's length, the rest is the header. And all of it as a header, for a small file.
pub fn run(data: &[u8]) {
    check(&String::from_utf8_lossy(data), 1000);
    if let Some((length, text)) = data.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
        check(&String::from_utf8_lossy(text), length);
    }
}

fn check(text: &str, length: usize) {
    if let Range::Part(from, to) = range(text, length) {
        assert!(from < to || length == 0, "{from} to {to} is empty: it has no last byte to name");
        assert!(to <= length, "{from} to {to} leaves a file of {length}");
    }
}
