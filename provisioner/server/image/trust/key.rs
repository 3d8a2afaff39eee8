//! Public keys as TUF and cosign write them, and whether a signature is theirs.

use base64::{Engine, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{
        Signature, VerifyingKey,
        signature::{Verifier, hazmat::PrehashVerifier},
    },
    pkcs8::{DecodePublicKey, EncodePublicKey},
};
use provisioner_wire::{
    chunks::Sha,
    ids::{hex, hex_into},
};
use ring::signature::{ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use rsa::pkcs1::EncodeRsaPublicKey;
use serde::Deserialize;

/// A key in TUF metadata (specification §4.2).
#[derive(Debug, Clone, Deserialize)]
pub(super) struct TufKey {
    scheme: String,
    keyval: KeyValue,
}

#[derive(Debug, Clone, Deserialize)]
struct KeyValue {
    public: String,
}

impl TufKey {
    /// The key itself: two ids of one key are still one signer.
    pub(super) fn public(&self) -> &str {
        self.keyval.public.trim()
    }

    /// Whether `signature` (hexadecimal) is one of this key over `message`. A scheme that is not known here has none.
    pub(super) fn signed(&self, message: &[u8], signature: &str) -> bool {
        let Some(signature) = from_hex(signature) else { return false };
        let pem = self.public();
        match self.scheme.as_str() {
            "ed25519" => from_hex(pem)
                .is_some_and(|key| UnparsedPublicKey::new(&ED25519, key).verify(message, &signature).is_ok()),
            "ecdsa-sha2-nistp256" => {
                let key = VerifyingKey::from_public_key_pem(pem);
                let signature = Signature::from_der(&signature);
                matches!((key, signature), (Ok(key), Ok(s)) if key.verify(message, &s).is_ok())
            }
            "rsassa-pss-sha256" => {
                let key = rsa::RsaPublicKey::from_public_key_pem(pem).ok();
                let der = key.and_then(|key| key.to_pkcs1_der().ok());
                der.is_some_and(|der| {
                    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, der.as_bytes());
                    key.verify(message, &signature).is_ok()
                })
            }
            _ => false,
        }
    }
}

/// cosign's: ECDSA P-256, signatures as base64 of DER.
#[derive(Debug, Clone)]
pub(super) struct P256(VerifyingKey);

impl P256 {
    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        VerifyingKey::from_public_key_pem(pem.trim()).ok().map(Self)
    }

    /// SHA-256 of the key's DER, as `openssl pkey -pubin -outform DER | sha256sum` shows it.
    pub(super) fn id(&self) -> String {
        self.0.to_public_key_der().map(|der| Sha::of(der.as_bytes()).to_string()).unwrap_or_default()
    }

    pub(super) fn signed(&self, message: &[u8], signature: &str) -> bool {
        decoded(signature).is_some_and(|s| self.0.verify(message, &s).is_ok())
    }

    /// [`P256::signed`] of the message with this SHA-256, which may be longer than memory.
    pub(super) fn signed_sha256(&self, sha256: &Sha, signature: &str) -> bool {
        decoded(signature).is_some_and(|s| self.0.verify_prehash(&sha256.0, &s).is_ok())
    }
}

fn decoded(signature: &str) -> Option<Signature> {
    let compact: String = signature.split_whitespace().collect();
    Signature::from_der(&STANDARD.decode(compact).ok()?).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; text.len() / 2];
    (text.len() <= 1 << 16).then(|| hex_into(text, &mut bytes))?.map(|()| bytes)
}

/// For messages: enough of a hash to find it.
pub(super) fn short(id: &str) -> String {
    id.chars().take(16).collect()
}

/// SHA-512 of `bytes`, hexadecimal.
pub(super) fn sha512(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex(&sha2::Sha512::digest(bytes))
}
