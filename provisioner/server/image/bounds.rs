//! PURE. How large a disk may come out of a file.
//!
//! A ratio alone cannot tell a bomb from an honest image: the zeros of a sparse disk pack a thousand times and more. So it
//! is the size that counts. What is declared (`raw_size`) may be as large as the site takes disks to be. What is not may
//! be as large as an ordinary disk, however well it packs; and beyond that only in proportion to its file, as a file that
//! is large itself has cost somebody something.

use crate::inventory::Size;
use serde::Deserialize;

/// More than the image of an operating system has, and a minute of work where it is all zeros.
const ORDINARY: u64 = 64 << 30;
/// Raw bytes for a byte of the file, beyond that.
const RATIO: u64 = 100;
const RAW_MAX: u64 = 1 << 40;

/// `[images]` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesConfig {
    /// No image unpacks to more, whatever is declared; default 1TiB.
    pub raw_max: Option<Size>,
}

/// Bytes of unpacked disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub raw_max: u64,
    /// Without a declared size, whatever the file's.
    pub ordinary: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { raw_max: RAW_MAX, ordinary: ORDINARY }
    }
}

impl From<&ImagesConfig> for Bounds {
    fn from(config: &ImagesConfig) -> Self {
        let usual = Self::default();
        Self { raw_max: config.raw_max.map_or(usual.raw_max, |size| size.0), ..usual }
    }
}

/// Why an image is too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    #[error("its raw_size is {raw} bytes, more than images.raw_max ({most}): raise that, if it is meant")]
    Declared { raw: u64, most: u64 },
    #[error("unpacked it has more than the {raw_size} bytes that its raw_size declares")]
    MoreThanDeclared { raw_size: u64 },
    #[error("unpacked it has more than images.raw_max ({most} bytes): raise that, if it is meant")]
    Max { most: u64 },
    #[error(
        "unpacked it has more than {most} bytes, its file has {file}: declare its raw_size, if so much is meant to come out"
    )]
    Undeclared { most: u64, file: u64 },
}

impl Bounds {
    /// What the declaration says, before anything is read.
    pub fn check(&self, raw_size: Option<u64>) -> Result<(), TooLarge> {
        match raw_size.filter(|raw| *raw > self.raw_max) {
            Some(raw) => Err(TooLarge::Declared { raw, most: self.raw_max }),
            None => Ok(()),
        }
    }

    /// As many bytes as may come out of a file of so many, and what to say when there is one more.
    pub fn most(&self, raw_size: Option<u64>, file: u64) -> (u64, TooLarge) {
        if let Some(raw_size) = raw_size {
            return (raw_size.min(self.raw_max), TooLarge::MoreThanDeclared { raw_size });
        }
        let believed = self.ordinary.max(file.saturating_mul(RATIO));
        if believed < self.raw_max {
            (believed, TooLarge::Undeclared { most: believed, file })
        } else {
            (self.raw_max, TooLarge::Max { most: self.raw_max })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn honest_images_pass_and_the_limit_says_what_to_do() {
        let bounds = Bounds::default();
        for (what, raw_size, file, most) in [
            ("Debian: 3 GiB in 350 MB", None, 350 << 20, 64 * GIB),
            ("an empty disk of 60 GiB in 2 MB", None, 2 << 20, 64 * GIB),
            ("a large one: 10 GiB", None, 10 * GIB, 1000 * GIB),
            ("one that is larger than any disk", None, 20 * GIB, 1 << 40),
            ("declared: 500 GiB of zeros in 16 MB", Some(500 * GIB), 16 << 20, 500 * GIB),
        ] {
            assert_eq!(bounds.most(raw_size, file).0, most, "{what}");
            assert_eq!(bounds.check(raw_size), Ok(()), "{what}");
        }
        let said = |raw_size, file| bounds.most(raw_size, file).1.to_string();
        assert!(said(None, 5).contains("declare its raw_size"));
        assert!(said(None, u64::MAX).contains("images.raw_max"));
        assert!(said(Some(7), 5).contains("the 7 bytes that its raw_size declares"));
        assert!(
            bounds.check(Some((1 << 40) + 1)).unwrap_err().to_string().contains("more than images.raw_max")
        );
        let small = Bounds::from(&toml::from_str::<ImagesConfig>("raw_max = \"10GiB\"").unwrap());
        assert_eq!(small.most(None, 5), (10 * GIB, TooLarge::Max { most: 10 * GIB }));
        assert!(small.check(Some(11 * GIB)).is_err());
        assert!(toml::from_str::<ImagesConfig>("raw = 1").is_err());
    }
}
