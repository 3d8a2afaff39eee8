//! cosign with a key, asked of nobody: `cosign sign-blob --key` of a file, and `cosign sign --key` of a manifest in a
//! registry, whose "simple signing" document names the manifest's digest.

use super::{Distrust, key::P256};
use crate::{image::source::Fetched, inventory::signature::Cosign};
use provisioner_wire::chunks::Sha;
use serde::Deserialize;

const PLACE: &str = "cosign";
/// What cosign writes as the document's type.
const TYPE: &str = "cosign container image signature";

/// The "simple signing" document.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// One signature and, where it is of a manifest, its document.
pub(super) struct Shown<'a> {
    pub signature: &'a str,
    pub payload: Option<&'a [u8]>,
}

pub(super) fn check(policy: &Cosign, shown: &[Shown<'_>], fetched: &Fetched) -> Result<(), Distrust> {
    let wrong = |place: &str, what: &str, todo: &str| {
        Distrust::new(format!("{PLACE}.{place}"), what.to_owned(), todo)
    };
    let key = P256::from_pem(policy.key.as_str()).ok_or_else(|| {
        wrong("key", "this is no ECDSA P-256 public key in PEM", "give what cosign.pub holds")
    })?;
    let mut last = wrong(
        "signature",
        "there is none",
        "declare signature: {file: …} (cosign sign-blob), or take the image from a registry where it is signed",
    );
    for one in shown {
        let tried = match one.payload {
            None => blob(&key, one.signature, fetched),
            Some(payload) => manifest(&key, one.signature, payload, fetched),
        };
        match tried {
            Ok(()) => return Ok(()),
            Err(distrust) => last = distrust,
        }
    }
    Err(last.by(&key.id()))
}

fn blob(key: &P256, signature: &str, fetched: &Fetched) -> Result<(), Distrust> {
    let sha256 = Sha::from_hex(&fetched.sha256);
    if sha256.is_some_and(|sha256| key.signed_sha256(&sha256, signature)) {
        return Ok(());
    }
    Err(Distrust::new(
        format!("{PLACE}.signature"),
        "it is not of this file by this key".to_owned(),
        "sign the file as it is declared (cosign sign-blob --key cosign.key FILE), or declare the key that signed it",
    ))
}

fn manifest(key: &P256, signature: &str, payload: &[u8], fetched: &Fetched) -> Result<(), Distrust> {
    let wrong = |place: &str, what: String, todo: &str| Distrust::new(format!("{PLACE}.{place}"), what, todo);
    let digest = fetched.manifest_digest.as_ref().ok_or_else(|| {
        wrong(
            "payload",
            "it signs a registry's manifest, and the image does not come from a registry".to_owned(),
            "leave payload out and give the signature of cosign sign-blob, or declare an OCI source",
        )
    })?;
    if !key.signed(payload, signature) {
        let todo = "sign the manifest with this key (cosign sign --key cosign.key), or declare the key that signed it";
        return Err(wrong("signature", "it is not of its payload by this key".to_owned(), todo));
    }
    // Read only now: nothing unsigned is looked into.
    let read: Payload = serde_json::from_slice(payload).map_err(|e| {
        wrong("payload", format!("it is no simple signing document: {e}"), "sign with cosign")
    })?;
    if read.critical.kind != TYPE {
        let what = format!("it is a {:?}", read.critical.kind);
        return Err(wrong("payload", what, "sign with cosign"));
    }
    if read.critical.image.digest != *digest {
        let what = format!("it signs the manifest {}, the image is {digest}", read.critical.image.digest);
        return Err(wrong("payload", what, "sign this manifest, or declare the signed one's digest"));
    }
    Ok(())
}
