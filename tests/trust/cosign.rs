//! Signatures in cosign's form, made by openssl: base64 of an ECDSA P-256 signature in DER over SHA-256, which is what
//! `cosign sign-blob --key` prints and `cosign sign --key` puts into the registry. The cosign program itself is in no
//! package that is to be had here.

use super::Site;
use provisioner::image::source::RegistrySignature;
use serde_json::{Value, json};

const DIGEST: &str = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b";

fn site() -> Site {
    let site = Site::new(b"the disk's bytes");
    for name in ["cosign", "other"] {
        site.run(&format!("openssl ecparam -name prime256v1 -genkey -noout -out {name}.key"));
        site.run(&format!("openssl ec -in {name}.key -pubout -out {name}.pub"));
    }
    site
}

/// What `sign-blob` prints.
fn sign(site: &Site, key: &str, file: &str) -> String {
    site.run(&format!("openssl dgst -sha256 -sign {key}.key -out {file}.der {file}"));
    site.run(&format!("openssl base64 -A -in {file}.der -out {file}.sig"));
    site.read(&format!("{file}.sig"))
}

fn payload(kind: &str, digest: &str) -> String {
    json!({"critical": {"identity": {"docker-reference": "registry.example/os"},
        "image": {"docker-manifest-digest": digest}, "type": kind}, "optional": null})
    .to_string()
}

#[test]
fn a_signed_blob_is_an_image_and_no_other() {
    let site = site();
    sign(&site, "cosign", "i.img");
    let policy = |name: &str| json!({"cosign": {"key": site.read(&format!("{name}.pub")), "signature": {"file": "i.img.sig"}}});
    site.verify(&policy("cosign")).unwrap();
    let told = site.refusal(&policy("other"));
    // As openssl tells it: openssl pkey -pubin -outform DER | sha256sum
    site.run("openssl pkey -pubin -in other.pub -outform DER -out other.der");
    let der = std::fs::read(site.path().join("other.der")).unwrap();
    let id = provisioner_wire::chunks::Sha::of(&der);
    assert!(told.contains("signature.cosign.signature: it is not of this file"), "{told}");
    assert!(told.contains(&format!("declared key {id}")), "{told}");
    site.write("i.img", b"the disk's other bytes");
    site.refusal(&policy("cosign"));
    site.write("i.img.sig", "!");
    site.refusal(&policy("cosign"));
    assert!(site.refusal(&json!({"cosign": {"key": site.read("cosign.pub")}})).contains("there is none"));
}

#[test]
fn a_signed_manifest_is_an_image_by_its_digest() {
    let site = site();
    let by = |payload: &str, key: &str| {
        site.write("payload", payload);
        RegistrySignature { signature: sign(&site, key, "payload"), payload: payload.as_bytes().to_vec() }
    };
    let kind = "cosign container image signature";
    let (good, other) = (payload(kind, DIGEST), payload(kind, &DIGEST.replace("6b", "6c")));
    let policy = json!({"cosign": {"key": site.read("cosign.pub")}});
    let judged = |signatures: Vec<RegistrySignature>, digest: Option<&str>, policy: &Value| {
        let mut fetched = site.fetched();
        (fetched.signatures, fetched.manifest_digest) = (signatures, digest.map(str::to_owned));
        site.verify_fetched(&fetched, policy).map(|_| ()).map_err(|e| e.to_string())
    };
    let refused = |signatures, expected: &str| {
        let told = judged(signatures, Some(DIGEST), &policy).unwrap_err();
        assert!(told.starts_with("image i: signature.cosign") && told.contains(expected), "{told}");
    };
    judged(vec![by(&good, "cosign")], Some(DIGEST), &policy).unwrap();
    // One of several is enough, wherever it stands.
    judged(vec![by(&good, "other"), by(&other, "cosign"), by(&good, "cosign")], Some(DIGEST), &policy)
        .unwrap();
    refused(vec![by(&other, "cosign")], &format!("the image is {DIGEST}"));
    refused(vec![by(&good, "other")], "not of its payload by this key");
    refused(vec![by(&payload("atomic container signature", DIGEST), "cosign")], "atomic");
    refused(vec![by("{}", "cosign")], "no simple signing document");
    refused(vec![], "there is none");
    let mut swapped = by(&good, "cosign");
    swapped.payload = other.into_bytes();
    refused(vec![swapped], "not of its payload");
    let told = judged(vec![by(&good, "cosign")], None, &policy).unwrap_err();
    assert!(told.contains("does not come from a registry"), "{told}");
    // The same, carried by hand to a server without the registry.
    let carried = by(&good, "cosign");
    site.write("payload", &good);
    let offline = json!({"cosign": {"key": site.read("cosign.pub"), "payload": {"file": "payload"},
        "signature": {"text": carried.signature}}});
    judged(vec![], Some(DIGEST), &offline).unwrap();
}
