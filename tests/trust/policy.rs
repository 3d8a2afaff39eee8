//! What the site wants of every image; and that nothing else than [`verify`] leads to an image.

use super::Site;
use crate::content::repository;
use provisioner::{image::verify::verify, inventory::SignaturesRequired};
use std::{fs, path::Path};

#[test]
fn an_image_without_the_signature_that_the_site_wants_is_refused() {
    let mut site = Site::new(b"disk");
    let judged = |site: &Site| {
        let (fetched, declared) = (site.fetched(), site.declared(None));
        verify(&fetched, &declared, &fetched.sha256, &site.trust()).map(|_| ()).map_err(|e| e.to_string())
    };
    judged(&site).unwrap();
    site.required = serde_json::from_value(serde_json::json!(["j"])).unwrap();
    judged(&site).unwrap();
    for required in [SignaturesRequired::All, serde_json::from_value(serde_json::json!(["i"])).unwrap()] {
        site.required = required;
        let told = judged(&site).unwrap_err();
        assert!(told.starts_with("image i: signature: this site takes the image i only"), "{told}");
    }
}

#[test]
fn a_wrong_sha512_is_told_with_both() {
    let site = Site::new(b"disk");
    let fetched = site.fetched();
    let mut declared = site.declared(None);
    declared.sha512 = Some(fetched.sha512.parse().unwrap());
    verify(&fetched, &declared, &fetched.sha256, &site.trust()).unwrap();
    declared.sha512 = Some("0".repeat(128).parse().unwrap());
    let told = verify(&fetched, &declared, &fetched.sha256, &site.trust()).unwrap_err().to_string();
    assert!(told.contains(&fetched.sha512) && told.contains(&"0".repeat(128)), "{told}");
}

/// The struct's fields are private to its file, so that only its file could make one; and in it there is one place.
#[test]
fn a_verified_image_has_one_maker() {
    let server = repository().join("provisioner/server");
    let mut makers = Vec::new();
    walk(&server, &mut |file, text| {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let made = code.filter(|l| {
            l.contains("VerifiedImage {")
                && !l.contains("struct ")
                && !l.contains("impl ")
                && !l.contains("->")
        });
        makers.extend(made.map(|line| format!("{}: {}", file.display(), line.trim())));
    });
    let own = server.join("image/verify.rs");
    assert_eq!(makers, [format!("{}: VerifiedImage {{ image, file }}", own.display())]);
    let text = fs::read_to_string(&own).unwrap();
    let fields = text.split("pub struct VerifiedImage {").nth(1).unwrap().split('}').next().unwrap();
    assert!(!fields.contains("pub"), "a field of VerifiedImage can be set from outside:{fields}");
    // Chunks are made of nothing else.
    let chunks = fs::read_to_string(server.join("image/chunks.rs")).unwrap();
    let public = chunks.lines().filter(|line| line.trim_start().starts_with("pub fn take_in"));
    assert_eq!(public.collect::<Vec<_>>().len(), 1);
    assert!(chunks.contains("pub fn take_in(&self, image: &VerifiedImage,"));
}

fn walk(folder: &Path, see: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, see);
        } else if path.extension().is_some_and(|e| e == "rs") {
            see(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
