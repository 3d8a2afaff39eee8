//! The disk inside a container disk: the one file below `disk/` of a layer that is a tar archive (KubeVirt's form).
//! Blocks.

use super::ledger::Full;
use flate2::bufread::MultiGzDecoder;
use provisioner_unpack::limit::Limited;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Component, Path},
};

/// Of an archive around its disk: heads, and small files beside it.
const FRAME: u64 = 64 << 20;

/// Writes the disk in `layer` to `to`. Nothing else of the archive reaches the file system. `room` is asked before the
/// disk has so many bytes. No more than `largest` bytes are unpacked, of whatever in the archive.
pub fn extract(
    layer: &Path,
    to: &Path,
    largest: u64,
    mut room: impl FnMut(u64) -> Result<(), Full>,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(Limited::new(plain(layer)?, largest.saturating_add(FRAME)));
    let mut found: Option<String> = None;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if !entry.header().entry_type().is_file() || !is_disk(&path) {
            continue;
        }
        if let Some(first) = found {
            return Err(io::Error::other(format!("it has two disks: {first} and {}", path.display())));
        }
        let mut out = File::create(to)?;
        let mut part = (&mut entry).take(largest.saturating_add(1));
        let (mut buffer, mut written) = (vec![0; 1 << 20], 0);
        loop {
            let count = part.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            written += count as u64;
            if written > largest {
                return Err(io::Error::other(format!("{} is larger than {largest} bytes", path.display())));
            }
            room(written).map_err(io::Error::other)?;
            out.write_all(bytes)?;
        }
        out.flush()?;
        out.sync_all()?;
        found = Some(path.display().to_string());
    }
    found.map(|_| ()).ok_or_else(|| io::Error::other("the layer has no file below disk/"))
}

/// `disk/NAME`, wherever the archive says that it begins.
fn is_disk(path: &Path) -> bool {
    let mut parts = path.components().filter(|c| !matches!(c, Component::CurDir | Component::RootDir));
    parts.next() == Some(Component::Normal("disk".as_ref()))
        && matches!(parts.next(), Some(Component::Normal(_)))
        && parts.next().is_none()
}

fn plain(layer: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(layer)?);
    let head = file.fill_buf()?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(file))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else {
        Box::new(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(files: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let mut archive = tar::Builder::new(tempfile::NamedTempFile::new().unwrap());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn the_one_disk_is_taken_out_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("disk");
        let good = layer(&[("etc/passwd", b"no"), ("disk/node.raw", b"the disk")]);
        let extract = |layer: &Path, to: &Path, largest| extract(layer, to, largest, |_| Ok(()));
        extract(good.path(), &to, 100).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"the disk");
        assert!(extract(good.path(), &to, 3).unwrap_err().to_string().contains("larger than 3"));
        let two = layer(&[("disk/a", b"a"), ("disk/b", b"b")]);
        assert!(extract(two.path(), &to, 100).unwrap_err().to_string().contains("two disks"));
        let none = layer(&[("disk/deep/a", b"a"), ("x", b"b")]);
        assert!(extract(none.path(), &to, 100).unwrap_err().to_string().contains("no file below disk/"));
    }

    #[test]
    fn room_is_asked_for_before_it_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (to, good) = (folder.path().join("disk"), layer(&[("disk/node.raw", &[7; 3 << 20])]));
        let full = || Full { used: 1, limit: 1, wanted: 1, reserved: 0 };
        let room = |bytes| if bytes > 1 << 20 { Err(full()) } else { Ok(()) };
        let error = extract(good.path(), &to, 1 << 30, room).unwrap_err();
        assert_eq!(error.get_ref().unwrap().downcast_ref(), Some(&full()));
        let written = std::fs::metadata(&to).unwrap().len();
        assert!((1..=1 << 20).contains(&written), "{written}");
    }

    #[test]
    fn what_lies_beside_the_disk_is_no_endless_work() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive =
            tar::Builder::new(zstd::Encoder::new(tempfile::NamedTempFile::new().unwrap(), 1).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(1 << 30);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, "lib/zeros", io::repeat(0).take(1 << 30)).unwrap();
        let bomb = archive.into_inner().unwrap().finish().unwrap();
        let error = extract(bomb.path(), &folder.path().join("disk"), 1 << 20, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }
}
