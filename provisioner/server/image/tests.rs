//! Declared images against files.

use super::*;
use serde_json::json;

fn declared(format: &str, sha256: &serde_json::Value, size: Option<u64>) -> ImageDeclaration {
    let mut spec = json!({"name": "i", "source": {"file": "i.img"}, "format": format, "sha256": sha256});
    if let Some(size) = size {
        spec["size"] = json!(size);
    }
    serde_json::from_value(spec).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    use sha2::Digest;
    provisioner_wire::ids::hex(&sha2::Sha256::digest(bytes))
}

#[tokio::test]
async fn a_file_is_what_was_declared_or_it_is_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let images = Images::new(folder.path());
    let bytes = [0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3];
    let file = folder.path().join("i.img");
    std::fs::write(&file, bytes).unwrap();
    let good = json!(hash(&bytes));
    let image = images.verified(&declared("zst", &good, None)).await.unwrap();
    assert_eq!((image.wire().size_bytes, image.file()), (7, Some(&*file)));
    for (format, sha256, size, expected) in [
        ("zst", json!("0".repeat(64)), None, "has SHA-256"),
        ("gz", good.clone(), None, "declared as gz"),
        ("raw", good.clone(), None, "declared as raw"),
        ("zst", good.clone(), Some(8), "7 bytes, declared are 8"),
        ("zst", json!({"file": "nowhere"}), None, "nowhere"),
    ] {
        let error = images.verified(&declared(format, &sha256, size)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Changed on the disk: what was known does not count any more.
    std::fs::write(&file, [0x28, 0xb5, 0x2f, 0xfd, 9]).unwrap();
    assert!(images.verified(&declared("zst", &good, None)).await.is_err());
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(matches!(images.verified(&declared("zst", &good, None)).await, Err(ImageError::NotAFile { .. })));
}
