//! A declared image against the file that is there.

use provisioner::{
    image::{ImageError, Images, VerifiedImage},
    inventory::{ImageDeclaration, from_json},
};
use provisioner_wire::{ids::hex, order::ImageFormat};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{fs, path::Path};

fn declaration(change: Value) -> ImageDeclaration {
    let mut spec =
        json!({"name": "i", "source": {"file": "i.img"}, "format": "raw", "sha256": sha256(b"disk")});
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    from_json(&spec).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn folder_with(bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("i.img"), bytes).unwrap();
    folder
}

fn verify(folder: &Path, change: Value) -> Result<VerifiedImage, ImageError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(Images::keeping(folder, folder).unwrap().verified(&declaration(change)))
}

#[test]
fn a_good_file_is_served_under_its_hash() {
    let folder = folder_with(b"disk");
    let verified = verify(folder.path(), json!({"size": 4})).unwrap();
    let image = verified.wire();
    assert_eq!((image.url.as_str(), image.size_bytes), (&*format!("/images/{}", sha256(b"disk")), 4));
    assert_eq!((&image.raw_sha256, image.raw_size_bytes), (&Some(sha256(b"disk")), Some(4)));
    assert_eq!(fs::read(verified.file().unwrap()).unwrap(), b"disk");
    // The hash in a file beside it, as sha256sum writes it.
    fs::write(folder.path().join("i.sum"), format!("{}  i.img\n", sha256(b"disk"))).unwrap();
    verify(folder.path(), json!({"sha256": {"file": "i.sum"}})).unwrap();
}

#[test]
fn what_is_not_as_declared_is_refused_with_both_values() {
    let folder = folder_with(b"disk");
    let cases = [
        (json!({"size": 5}), "4 bytes, declared are 5"),
        (json!({"sha256": sha256(b"other")}), "declared is"),
        (json!({"format": "zst"}), "declared as zst"),
        (json!({"source": {"file": "gone.img"}}), "No such file"),
        (json!({"sha256": {"file": "i.img"}}), "holds no SHA-256"),
        (json!({"source": {"url": "http://x/i"}}), "not fetched yet"),
    ];
    for (change, message) in cases {
        let error = verify(folder.path(), change).unwrap_err().to_string();
        assert!(error.starts_with("image i: ") && error.contains(message), "{error}");
    }
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link.img")).unwrap();
    let error = verify(folder.path(), json!({"source": {"file": "link.img"}})).unwrap_err();
    assert!(matches!(error, ImageError::Outside { .. }), "{error}");
    for (bytes, format, found) in [
        (&b"QFI\xfb...."[..], "raw", "qcow2"),
        (b"BZh91AY&", "raw", "bz2"),
        (b"\x1f\x8b\x08.....", "raw", "gz"),
        (b"\xfd7zXZ\0..", "zst", "xz"),
    ] {
        let folder = folder_with(bytes);
        let error = verify(folder.path(), json!({"format": format})).unwrap_err().to_string();
        assert!(error.contains(&format!("declared as {format}")) && error.ends_with(found), "{error}");
    }
    let zst = folder_with(b"\x28\xb5\x2f\xfd....");
    let sum = sha256(b"\x28\xb5\x2f\xfd....");
    let verified = verify(zst.path(), json!({"format": "zst", "sha256": sum})).unwrap();
    assert_eq!((verified.wire().format, verified.wire().raw_size_bytes), (ImageFormat::Zst, None));
}

#[test]
fn a_file_that_changes_after_it_was_hashed_is_read_again() {
    let folder = folder_with(b"disk");
    verify(folder.path(), json!({})).unwrap();
    assert!(folder.path().join("image-hashes.json").exists());
    verify(folder.path(), json!({})).unwrap();
    fs::write(folder.path().join("i.img"), b"evil").unwrap();
    assert!(matches!(verify(folder.path(), json!({})).unwrap_err(), ImageError::Sha256 { .. }));
    // A damaged cache is an empty one.
    fs::write(folder.path().join("image-hashes.json"), b"{").unwrap();
    fs::write(folder.path().join("i.img"), b"disk").unwrap();
    verify(folder.path(), json!({})).unwrap();
}
