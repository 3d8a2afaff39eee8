//! Which format a file shows, and what comes out of it under any declared one: bounded, or an error.

use provisioner::image::format::{HEAD, detect};
use provisioner_unpack::{limit::Limited, unpack};
use provisioner_wire::order::ImageFormat;
use std::io::Read;

const FORMATS: [ImageFormat; 5] =
    [ImageFormat::Raw, ImageFormat::Gz, ImageFormat::Xz, ImageFormat::Zst, ImageFormat::Bz2];
/// A small input must not become a large disk.
const RAW_MAX: u64 = 256 << 10;

pub fn run(data: &[u8]) {
    let shown = detect(data);
    assert_eq!(shown, detect(&data[..data.len().min(HEAD)]), "more than the head decides");
    for format in FORMATS {
        let Ok(raw) = unpack(data, format) else { continue };
        // What nothing was declared for is not refused here; the server compares before.
        if format != ImageFormat::Raw && shown != "raw" {
            assert_eq!(shown, format.to_string(), "unpacked as another format than it shows");
        }
        let mut bytes = Vec::new();
        let whole = Limited::new(raw, RAW_MAX).read_to_end(&mut bytes);
        assert!(bytes.len() as u64 <= RAW_MAX, "{} bytes", bytes.len());
        if format == ImageFormat::Raw && whole.is_ok() {
            assert_eq!(bytes, data);
        }
    }
}
