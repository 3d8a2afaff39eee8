//! Debian's minisign signs; what it has not signed, or not this way, is refused.

use super::Site;
use serde_json::{Value, json};

fn site() -> Site {
    let site = Site::new(b"the disk's bytes");
    site.run("minisign -G -W -p minisign.pub -s minisign.key");
    site.run("minisign -S -W -s minisign.key -m i.img -t images-2026");
    site
}

fn key(site: &Site, file: &str) -> String {
    site.read(file).lines().nth(1).unwrap().to_owned()
}

fn policy(key: &str) -> Value {
    json!({"minisign": {"public_key": key, "signature": {"file": "i.img.minisig"}}})
}

#[test]
fn what_minisign_signed_is_an_image() {
    let site = site();
    let image = site.verify(&policy(&key(&site, "minisign.pub"))).unwrap();
    assert_eq!(image.sha256(), site.fetched().sha256);
    let text = json!({"minisign": {"public_key": key(&site, "minisign.pub"),
        "signature": {"text": site.read("i.img.minisig")}}});
    site.verify(&text).unwrap();
}

#[test]
fn another_key_is_named_with_the_declared_one() {
    let site = site();
    site.run("minisign -G -W -p other.pub -s other.key");
    let told = site.refusal(&policy(&key(&site, "other.pub")));
    let id = |file: &str| {
        // "untrusted comment: minisign public key 0123456789ABCDEF"
        site.read(file).lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert!(told.contains("signature.minisign.signature: it is by the key"), "{told}");
    assert!(told.contains(&format!("declared key {}", id("other.pub"))), "{told}");
    assert!(told.contains(&format!("by the key {}", id("minisign.pub"))), "{told}");
}

#[test]
fn a_changed_file_signature_or_comment_is_refused() {
    let site = site();
    let policy = policy(&key(&site, "minisign.pub"));
    let good = site.read("i.img.minisig");
    site.write("i.img", b"the disk's other bytes");
    assert!(site.refusal(&policy).contains("not of this file"));
    site.write("i.img", b"the disk's bytes");
    site.verify(&policy).unwrap();
    site.write("i.img.minisig", good.replace("images-2026", "images-2027"));
    assert!(site.refusal(&policy).contains("not of this file"));
    site.write("i.img.minisig", good.lines().next().unwrap());
    assert!(site.refusal(&policy).contains("no minisign signature"));
    std::fs::remove_file(site.path().join("i.img.minisig")).unwrap();
    assert!(site.refusal(&policy).contains("i.img.minisig: No such file"));
    site.run("minisign -S -l -W -s minisign.key -m i.img");
    assert!(site.refusal(&policy).contains("without -l"));
}
