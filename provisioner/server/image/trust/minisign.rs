//! minisign: Ed25519 over the BLAKE2b of the file, with a trusted comment.

use super::Distrust;
use crate::inventory::signature::Minisign;
use base64::{Engine, engine::general_purpose::STANDARD};
use minisign_verify::{Error, PublicKey, Signature};
use std::{fs::File, io::Read, path::Path};

const PLACE: &str = "minisign";

/// `signature` is the text of the `.minisig` file.
pub(super) fn check(policy: &Minisign, signature: &str, file: &Path) -> Result<(), Distrust> {
    let key_id = shown_id(policy.public_key.as_str());
    let wrong = |place: &str, what: String, todo: &str| {
        Distrust::new(format!("{PLACE}.{place}"), what, todo).by(&key_id)
    };
    let key = PublicKey::from_base64(policy.public_key.as_str())
        .map_err(|e| wrong("public_key", e.to_string(), "give the second line of minisign.pub"))?;
    let read = Signature::decode(signature).map_err(|e| {
        let what = format!("this is no minisign signature ({e})");
        wrong("signature", what, "give what `minisign -S` writes as FILE.minisig, all four lines")
    })?;
    let refused = |error: Error| match error {
        Error::UnexpectedKeyId => wrong(
            "signature",
            format!("it is by the key {}", shown_id(signature.lines().nth(1).unwrap_or_default())),
            "sign the file with the declared key, or declare the key that signs it",
        ),
        Error::UnsupportedLegacyMode => wrong(
            "signature",
            "it is of the old kind, which is of the whole file at once".to_owned(),
            "sign again with a minisign of 0.8 or later, without -l",
        ),
        error => wrong(
            "signature",
            format!("it is not of this file ({error})"),
            "the file or its signature was changed: get both again from who made them",
        ),
    };
    let io =
        |e: std::io::Error| wrong("signature", format!("{}: {e}", file.display()), "see the server's disk");
    let mut stream = key.verify_stream(&read).map_err(refused)?;
    let (mut opened, mut buffer) = (File::open(file).map_err(io)?, vec![0; 1 << 20]);
    loop {
        let count = opened.read(&mut buffer).map_err(io)?;
        match buffer.get(..count) {
            Some(bytes) if count > 0 => stream.update(bytes),
            _ => break,
        }
    }
    stream.finalize().map_err(refused)
}

/// As minisign shows it: eight bytes after the algorithm, the last first.
fn shown_id(base64: &str) -> String {
    let bytes = STANDARD.decode(base64.trim()).unwrap_or_default();
    let id = bytes.get(2..10).and_then(|id| id.first_chunk::<8>()).copied().unwrap_or_default();
    // As minisign writes it: without leading zeros.
    format!("{:X}", u64::from_le_bytes(id))
}
