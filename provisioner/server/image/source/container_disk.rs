//! The disk inside a container disk: the one file below `disk/` of a layer that is a tar archive (KubeVirt's form).
//! Blocks.

use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Component, Path},
};

/// Writes the disk in `layer` to `to`. Nothing else of the archive reaches the file system.
pub fn extract(layer: &Path, to: &Path, largest: u64) -> io::Result<()> {
    let mut archive = tar::Archive::new(plain(layer)?);
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
        let written = io::copy(&mut (&mut entry).take(largest.saturating_add(1)), &mut out)?;
        if written > largest {
            return Err(io::Error::other(format!("{} is larger than {largest} bytes", path.display())));
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
        extract(good.path(), &to, 100).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"the disk");
        assert!(extract(good.path(), &to, 3).unwrap_err().to_string().contains("larger than 3"));
        let two = layer(&[("disk/a", b"a"), ("disk/b", b"b")]);
        assert!(extract(two.path(), &to, 100).unwrap_err().to_string().contains("two disks"));
        let none = layer(&[("disk/deep/a", b"a"), ("x", b"b")]);
        assert!(extract(none.path(), &to, 100).unwrap_err().to_string().contains("no file below disk/"));
    }
}
