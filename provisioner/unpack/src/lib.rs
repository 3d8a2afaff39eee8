//! Unpacks a stream. The declared format must be the one the first bytes show; whatever follows the last frame is an
//! error, for a truncated or appended file must never pass as the whole.

pub mod hashing;
pub mod limit;
pub mod zeros;

use liblzma::stream::{CONCATENATED, Stream};
use provisioner_wire::order::ImageFormat;
use std::io::{self, BufRead, Read};

/// Memory that an xz file may ask for; `xz -9` needs 65 MiB.
const XZ_MEMORY_MAX: u64 = 256 << 20;
/// `zstd --long=27`, the most that zstd's own command line takes unasked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the image is declared as {declared} but its first bytes are {found}'s")]
    Other { declared: ImageFormat, found: ImageFormat },
    #[error("the image is declared as {declared} but does not begin like one")]
    Unknown { declared: ImageFormat },
    #[error("the image is empty")]
    Empty,
    #[error("a qcow2 image cannot be streamed: it must be a file in the server's images folder")]
    Qcow2,
}

/// Reads raw disk bytes out of `input`, which is `declared`.
pub fn unpack<'a, R: BufRead + Send + 'a>(
    mut input: R,
    declared: ImageFormat,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    check_format(input.fill_buf()?, declared).map_err(io::Error::other)?;
    Ok(match declared {
        ImageFormat::Raw => Box::new(input),
        ImageFormat::Qcow2 => return Err(io::Error::other(FormatError::Qcow2)),
        ImageFormat::Bz2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        ImageFormat::Gz => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        ImageFormat::Xz => {
            let stream = Stream::new_stream_decoder(XZ_MEMORY_MAX, CONCATENATED).map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        ImageFormat::Zst => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

fn check_format(start: &[u8], declared: ImageFormat) -> Result<(), FormatError> {
    if start.is_empty() {
        return Err(FormatError::Empty);
    }
    match magic(start) {
        Some(found) if found == declared => Ok(()),
        Some(found) => Err(FormatError::Other { declared, found }),
        None if declared == ImageFormat::Raw => Ok(()),
        None => Err(FormatError::Unknown { declared }),
    }
}

/// RFC 1952 §2.3.1, the .xz file format §2.1.1.1, RFC 8878 §3.1.1 and §3.1.2 (skippable frames).
fn magic(start: &[u8]) -> Option<ImageFormat> {
    match start {
        [0x1f, 0x8b, ..] => Some(ImageFormat::Gz),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(ImageFormat::Xz),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(ImageFormat::Bz2),
        [b'Q', b'F', b'I', 0xfb, ..] => Some(ImageFormat::Qcow2),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(ImageFormat::Zst),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Write};

    fn packed(data: &[u8], format: ImageFormat) -> Vec<u8> {
        match format {
            ImageFormat::Raw => data.to_vec(),
            ImageFormat::Gz => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
            ImageFormat::Xz => {
                let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 1);
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
            ImageFormat::Zst => zstd::encode_all(data, 1).unwrap(),
            ImageFormat::Bz2 => {
                let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                writer.write_all(data).unwrap();
                writer.finish().unwrap()
            }
            ImageFormat::Qcow2 => [b"QFI\xfb", data].concat(),
        }
    }

    fn unpacked(bytes: &[u8], format: ImageFormat) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unpack(BufReader::with_capacity(4096, bytes), format)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn sample() -> Vec<u8> {
        (0..50_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
    }

    const PACKED: [ImageFormat; 4] = [ImageFormat::Gz, ImageFormat::Xz, ImageFormat::Zst, ImageFormat::Bz2];

    #[test]
    fn every_format_comes_back_also_in_several_members() {
        let data = sample();
        assert_eq!(unpacked(&data, ImageFormat::Raw).unwrap(), data);
        for format in PACKED {
            assert_eq!(unpacked(&packed(&data, format), format).unwrap(), data, "{format}");
            let (first, second) = data.split_at(data.len() / 3);
            let both = [packed(first, format), packed(second, format)].concat();
            assert_eq!(unpacked(&both, format).unwrap(), data, "{format}, two members");
        }
    }

    #[test]
    fn cut_short_appended_or_flipped_is_an_error() {
        let data = sample();
        for format in PACKED {
            let whole = packed(&data, format);
            for cut in [1, 7, 20, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
                assert!(unpacked(&whole[..cut], format).is_err(), "{format} cut at {cut} of {}", whole.len());
            }
            let appended = [whole.as_slice(), b"garbage"].concat();
            assert!(unpacked(&appended, format).is_err(), "{format} with a tail");
        }
        for format in [ImageFormat::Gz, ImageFormat::Xz, ImageFormat::Bz2] {
            let mut whole = packed(&data, format);
            let middle = whole.len() / 2;
            whole[middle] ^= 0x10;
            assert!(unpacked(&whole, format).is_err(), "{format} with a flipped bit");
        }
    }

    #[test]
    fn the_declared_format_must_be_the_real_one() {
        let data = sample();
        let all = [&[ImageFormat::Raw][..], &PACKED].concat();
        for real in all.clone() {
            for declared in all.clone() {
                let result = unpacked(&packed(&data, real), declared);
                assert_eq!(result.is_ok(), real == declared, "{real} declared as {declared}");
            }
        }
        let qcow2 = unpacked(&packed(&data, ImageFormat::Qcow2), ImageFormat::Qcow2);
        assert!(qcow2.unwrap_err().to_string().contains("cannot be streamed"));
        assert!(unpacked(b"", ImageFormat::Raw).unwrap_err().to_string().contains("empty"));
    }
}
