//! What machines boot: iPXE's binaries, the agent's kernel and initramfs. Read once at start; TFTP and HTTP serve the
//! same map, so that a name offered by one is never missing from the other.

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;
use provisioner_wire::ids::hex;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

pub const KERNEL: &str = "vmlinuz";
pub const INITRAMFS: &str = "initramfs.img";
pub const SIGNED_AGENT: &str = "agent.efi";
/// The names that firmware is given and that shim asks for.
pub const SHIM: [&str; 2] = ["shimx64.efi", "grubx64.efi"];
/// What `dhcp/bootfile` may name, where it is there; a test holds the two lists together.
pub const IPXE: [&str; 10] = [
    "undionly.kpxe",
    "ipxe.pxe",
    "snponly.efi",
    "ipxe.efi",
    "snponly-arm64.efi",
    "ipxe-arm64.efi",
    "ipxe-i386.efi",
    "ipxe-arm32.efi",
    "ipxe-riscv64.efi",
    "ipxe-loong64.efi",
];

/// Beside the kernel, as sha256sum writes it.
const SUMS: &str = "SHA256SUMS";

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("boot file {}: {source} (made by `cargo xtask boot-assets`)", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("boot file {}: its SHA-256 is {found}, and {SUMS} beside it says {expected}: make the boot assets anew", path.display())]
    Changed { path: PathBuf, found: String, expected: String },
}

/// The files by name, with their ETags.
#[derive(Clone)]
pub struct BootFiles {
    files: Arc<BTreeMap<String, (Bytes, HeaderValue)>>,
}

impl std::fmt::Debug for BootFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.files.keys()).finish()
    }
}

impl BootFiles {
    /// Kernel, initramfs and at least one iPXE binary must be there.
    pub fn load(ipxe: &FilePath, kernel: &FilePath, initramfs: &FilePath) -> Result<Self, LoadError> {
        let mut files = BTreeMap::new();
        for name in IPXE {
            let path = ipxe.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => insert(&mut files, name, bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::debug!(file = %path.display(), "missing: machines that need it cannot boot from here");
                }
                Err(source) => return Err(LoadError::Read { path, source }),
            }
        }
        if files.is_empty() {
            let source = io::ErrorKind::NotFound.into();
            return Err(LoadError::Read { path: ipxe.join("*"), source });
        }
        tracing::info!(folder = %ipxe.display(), files = ?files.keys(), "iPXE");
        for (name, path) in [(KERNEL, kernel), (INITRAMFS, initramfs)] {
            let bytes = read(path)?;
            check(path, &bytes)?;
            insert(&mut files, name, bytes);
        }
        Ok(Self { files: Arc::new(files) })
    }

    /// Adds [`SIGNED_AGENT`]: kernel and initramfs as one signed file.
    pub fn with_signed_agent(self, path: &FilePath) -> Result<Self, LoadError> {
        self.with(&[(SIGNED_AGENT, path.to_owned())])
    }

    /// Adds Debian's signed shim and GRUB.
    pub fn with_shim(self, folder: &FilePath) -> Result<Self, LoadError> {
        self.with(&SHIM.map(|name| (name, folder.join(name))))
    }

    fn with(self, more: &[(&str, PathBuf)]) -> Result<Self, LoadError> {
        let mut files = Arc::unwrap_or_clone(self.files);
        for (name, path) in more {
            let bytes = read(path)?;
            insert(&mut files, name, bytes);
        }
        Ok(Self { files: Arc::new(files) })
    }

    pub fn files(&self) -> impl Iterator<Item = (String, Bytes)> + '_ {
        self.files.iter().map(|(name, (bytes, _))| (name.clone(), bytes.clone()))
    }

    /// `GET|HEAD /boot/files/{name}`. Firmware wants an exact Content-Length on both, and no redirect.
    pub fn router(&self) -> Router {
        Router::new().route("/boot/files/{name}", get(file)).with_state(self.clone())
    }
}

fn read(path: &FilePath) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// Holds a file to the line that [`SUMS`] in its folder has for it; a file of no line is not held to anything.
fn check(path: &FilePath, bytes: &[u8]) -> Result<(), LoadError> {
    let sums = std::fs::read_to_string(path.with_file_name(SUMS)).unwrap_or_default();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let expected = sums.lines().find_map(|line| line.split_once("  ").filter(|(_, n)| *n == name));
    let found = hex(&Sha256::digest(bytes));
    match expected {
        Some((expected, _)) if expected != found => {
            Err(LoadError::Changed { path: path.to_owned(), found, expected: expected.to_owned() })
        }
        _ => Ok(()),
    }
}

fn insert(files: &mut BTreeMap<String, (Bytes, HeaderValue)>, name: &str, bytes: Vec<u8>) {
    let etag = format!("\"{}\"", hex(&Sha256::digest(&bytes)));
    let etag = HeaderValue::from_str(&etag).unwrap_or(HeaderValue::from_static("\"\""));
    files.insert(name.to_owned(), (bytes.into(), etag));
}

async fn file(
    State(files): State<BootFiles>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let Some((bytes, etag)) = files.files.get(&name) else {
        return (StatusCode::NOT_FOUND, "no such boot file\n").into_response();
    };
    let kind = if name.ends_with(".efi") { "application/efi" } else { "application/octet-stream" };
    let common = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, etag.clone()),
    ];
    let unchanged = headers.get(header::IF_RANGE).is_none_or(|wanted| wanted == etag);
    let asked = headers.get(header::RANGE).and_then(|v| v.to_str().ok()).filter(|_| unchanged);
    match asked.map_or(Range::Whole, |text| range(text, bytes.len())) {
        Range::Whole => (common, bytes.clone()).into_response(),
        Range::Part(from, to) => {
            let part = bytes.slice(from..to);
            let place = format!("bytes {from}-{}/{}", to - 1, bytes.len());
            (StatusCode::PARTIAL_CONTENT, common, [(header::CONTENT_RANGE, place)], part).into_response()
        }
        Range::Outside => {
            let place = format!("bytes */{}", bytes.len());
            (StatusCode::RANGE_NOT_SATISFIABLE, common, [(header::CONTENT_RANGE, place)]).into_response()
        }
    }
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Range {
    Whole,
    /// From, to (exclusive).
    Part(usize, usize),
    Outside,
}

/// One range of RFC 9110 §14.1.2. Several, other units and nonsense are ignored, as the RFC allows.
pub fn range(text: &str, length: usize) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|r| r.trim().split_once('-')) else {
        return Range::Whole;
    };
    let number = |digits: &str| {
        let digits = digits.trim();
        (!digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()))
            .then(|| digits.parse::<usize>().unwrap_or(usize::MAX))
    };
    match (first.trim().is_empty(), number(first), number(last), last.trim().is_empty()) {
        (true, _, Some(0), _) => Range::Outside,
        (true, _, Some(suffix), _) => Range::Part(length.saturating_sub(suffix), length),
        (_, Some(from), _, true) if from < length => Range::Part(from, length),
        (_, Some(from), Some(to), _) if from <= to && from < length => {
            Range::Part(from, to.saturating_add(1).min(length))
        }
        (_, Some(from), Some(to), _) if from > to => Range::Whole,
        (_, Some(from), _, _) if from >= length => Range::Outside,
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_kernel_or_initramfs_that_was_changed_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["snponly.efi", KERNEL, INITRAMFS] {
            std::fs::write(at(name), name).unwrap();
        }
        let load = || BootFiles::load(folder.path(), &at(KERNEL), &at(INITRAMFS));
        load().unwrap();
        let right = hex(&Sha256::digest(INITRAMFS));
        std::fs::write(at(SUMS), format!("{right}  {INITRAMFS}\n")).unwrap();
        load().unwrap();
        std::fs::write(at(INITRAMFS), "another").unwrap();
        let refused = load().unwrap_err().to_string();
        assert!(refused.contains("initramfs.img: its SHA-256 is") && refused.contains(&right), "{refused}");
    }

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes=0-99", Range::Part(0, 100)),
            ("bytes=900-", Range::Part(900, 1000)),
            ("bytes=-10", Range::Part(990, 1000)),
            ("bytes=-2000", Range::Part(0, 1000)),
            ("bytes=999-99999999999999999999999", Range::Part(999, 1000)),
            ("bytes=1000-", Range::Outside),
            ("bytes=5-4", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("lines=1-2", Range::Whole),
            ("bytes=", Range::Whole),
            ("bytes=-", Range::Whole),
        ] {
            assert_eq!(range(text, 1000), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_range_leaves_the_file(text in "(bytes=)?[0-9,\\- ]{0,30}|.*", length in 0usize..5000) {
            if let Range::Part(from, to) = range(&text, length) {
                prop_assert!(from <= to && to <= length);
            }
        }
    }
}
