//! The site's key for wipe certificates: Ed25519, derived from the keyring, so that it needs no keeping of its own.

use crate::secret::Keyring;
use provisioner_wire::{ids::hex, wipe::SignedCertificate};
use ring::signature::{Ed25519KeyPair, KeyPair};

const PURPOSE: &str = "wipe certificates";

pub fn sign(keyring: &Keyring, certificate: String) -> Result<SignedCertificate, String> {
    let seed = keyring.derive(PURPOSE);
    let key = Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
        .map_err(|e| format!("the key for wipe certificates: {e}"))?;
    let signature = hex(key.sign(certificate.as_bytes()).as_ref());
    Ok(SignedCertificate { certificate, signature, public_key: hex(key.public_key().as_ref()) })
}
