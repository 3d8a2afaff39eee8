//! The channel between one agent and the server, made of the agent's fresh X25519 key and the server's lasting one.
//!
//! The boot script pins the server's public key on the kernel command line. Both sides derive the same secret from
//! (own private key, other's public key, boot id); from it come
//! - a proof in the claim, so that a public key seen on the wire is of no use to anyone else,
//! - an `authorization` value for each later request, an HMAC over method, path and body. It is no defence against
//!   replay, and needs none: every agent request is idempotent within its generation,
//! - the key that seals a machine's config (XChaCha20-Poly1305).
//!
//! The server stores nothing but the agent's public key, so a restart loses no session.

use crate::{
    BootId,
    ids::{hex, hex_into},
};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Name of the request header that carries `<boot id hash>:<hmac>`.
pub const AUTHORIZATION: &str = "x-provisioner-authorization";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    #[error("not an X25519 public key (64 hexadecimal digits)")]
    PublicKey,
    #[error("the other side's public key is a degenerate point")]
    Degenerate,
    #[error("the sealed message is damaged or for another key")]
    Sealed,
    #[error("no random numbers from the system")]
    Random,
}

/// A private X25519 key. `Debug` hides it; the memory is wiped on drop.
pub struct PrivateKey(StaticSecret);

impl PrivateKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// A fresh key from the system's random source.
    pub fn generate() -> Result<Self, ChannelError> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(bytes.as_mut()).map_err(|_| ChannelError::Random)?;
        Ok(Self::from_bytes(*bytes))
    }

    /// The public half, 64 hexadecimal digits.
    pub fn public(&self) -> String {
        hex(PublicKey::from(&self.0).as_bytes())
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

/// One side of the channel. Both sides hold the same keys.
pub struct Channel {
    session: String,
    /// As long as SHA-256's block, so that HMAC takes it as it is.
    authentication: Zeroizing<[u8; 64]>,
    sealing: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({}…)", self.session.get(..8).unwrap_or_default())
    }
}

impl Channel {
    /// `boot_hash` is [`BootId::hash`]; `theirs` is the other side's public key.
    pub fn new(mine: &PrivateKey, theirs: &str, boot_hash: &str) -> Result<Self, ChannelError> {
        let mut bytes = [0; 32];
        hex_into(theirs, &mut bytes).ok_or(ChannelError::PublicKey)?;
        let shared = mine.0.diffie_hellman(&PublicKey::from(bytes));
        if !shared.was_contributory() {
            return Err(ChannelError::Degenerate);
        }
        let derived = Hkdf::<Sha256>::new(Some(boot_hash.as_bytes()), shared.as_bytes());
        let mut channel = Self {
            session: boot_hash.to_owned(),
            authentication: Zeroizing::new([0; 64]),
            sealing: Zeroizing::new([0; 32]),
        };
        // Both are far below HKDF's limit of 255 blocks, so expand cannot fail.
        let failed = |_| ChannelError::PublicKey;
        derived
            .expand(b"provisioner agent authentication v1", channel.authentication.as_mut())
            .map_err(failed)?;
        derived.expand(b"provisioner config sealing v1", channel.sealing.as_mut()).map_err(failed)?;
        Ok(channel)
    }

    /// The claim's proof of the private key.
    pub fn proof(&self, boot_id: &BootId) -> String {
        self.hmac(&[b"claim", boot_id.reveal().as_bytes()])
    }

    pub fn proof_holds(&self, boot_id: &BootId, proof: &str) -> bool {
        same(&self.proof(boot_id), proof)
    }

    /// Value of [`AUTHORIZATION`] for one request.
    pub fn authorization(&self, method: &str, path: &str, body: &[u8]) -> String {
        format!("{}:{}", self.session, self.request_hmac(method, path, body))
    }

    /// Checks the part of an [`AUTHORIZATION`] value after the colon.
    pub fn authorizes(&self, hmac: &str, method: &str, path: &str, body: &[u8]) -> bool {
        same(&self.request_hmac(method, path, body), hmac)
    }

    /// Seals `text` for the other side; hexadecimal nonce and ciphertext. `context` must be the same at both ends.
    pub fn seal(&self, text: &[u8], context: &str) -> Result<String, ChannelError> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|_| ChannelError::Random)?;
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: text, aad: context.as_bytes() })
            .map_err(|_| ChannelError::Sealed)?;
        Ok(hex(&nonce) + &hex(&sealed))
    }

    /// Opens what [`Channel::seal`] made.
    pub fn open(&self, sealed: &str, context: &str) -> Result<Zeroizing<Vec<u8>>, ChannelError> {
        let (nonce_text, rest) = sealed.split_at_checked(48).ok_or(ChannelError::Sealed)?;
        let mut nonce = [0; 24];
        hex_into(nonce_text, &mut nonce).ok_or(ChannelError::Sealed)?;
        let mut bytes = vec![0; rest.len() / 2];
        hex_into(rest, &mut bytes).ok_or(ChannelError::Sealed)?;
        let opened = self
            .cipher()
            .decrypt(&XNonce::from(nonce), Payload { msg: &bytes, aad: context.as_bytes() })
            .map_err(|_| ChannelError::Sealed)?;
        Ok(Zeroizing::new(opened))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&Key::from(*self.sealing))
    }

    fn request_hmac(&self, method: &str, path: &str, body: &[u8]) -> String {
        self.hmac(&[b"request", method.as_bytes(), path.as_bytes(), &Sha256::digest(body)])
    }

    /// HMAC-SHA-256 over the parts, each with its length before it.
    fn hmac(&self, parts: &[&[u8]]) -> String {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new(&(*self.authentication).into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        hex(&mac.finalize().into_bytes())
    }
}

/// Splits an [`AUTHORIZATION`] value into boot id hash and HMAC.
pub fn split_authorization(value: &str) -> Option<(&str, &str)> {
    value.split_once(':').filter(|(hash, hmac)| hash.len() == 64 && hmac.len() == 64)
}

/// What the config is sealed under: machine and generation, so that no answer can stand for another.
pub fn config_context(machine: &crate::MachineName, generation: crate::Generation) -> String {
    format!("config|{machine}|{generation}")
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel, BootId) {
        let boot = BootId::from_bytes([9; 16]);
        let (server, agent) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        let at_server = Channel::new(&server, &agent.public(), &boot.hash()).unwrap();
        let at_agent = Channel::new(&agent, &server.public(), &boot.hash()).unwrap();
        (at_server, at_agent, boot)
    }

    #[test]
    fn both_sides_agree_and_a_third_key_does_not() {
        let (server, agent, boot) = pair();
        assert!(server.proof_holds(&boot, &agent.proof(&boot)));
        let thief = Channel::new(
            &PrivateKey::from_bytes([3; 32]),
            &PrivateKey::from_bytes([1; 32]).public(),
            &boot.hash(),
        )
        .unwrap();
        assert!(!server.proof_holds(&boot, &thief.proof(&boot)));
        let sealed = server.seal(b"token", "config|a|1").unwrap();
        assert_eq!(agent.open(&sealed, "config|a|1").unwrap().as_slice(), b"token");
        assert_eq!(agent.open(&sealed, "config|a|2").err(), Some(ChannelError::Sealed));
        assert_eq!(thief.open(&sealed, "config|a|1").err(), Some(ChannelError::Sealed));
        assert!(!sealed.contains(&hex(b"token")));
    }

    #[test]
    fn a_request_is_bound_to_its_method_path_and_body() {
        let (server, agent, _) = pair();
        let value = agent.authorization("POST", "/agent/v1/order", b"{}");
        let (_, hmac) = split_authorization(&value).unwrap();
        assert!(server.authorizes(hmac, "POST", "/agent/v1/order", b"{}"));
        assert!(!server.authorizes(hmac, "POST", "/agent/v1/order", b"{ }"));
        assert!(!server.authorizes(hmac, "POST", "/agent/v1/result", b"{}"));
        assert!(!server.authorizes("", "POST", "/agent/v1/order", b"{}"));
    }

    #[test]
    fn a_degenerate_key_and_damaged_boxes_are_refused() {
        let key = PrivateKey::from_bytes([1; 32]);
        assert_eq!(Channel::new(&key, &"00".repeat(32), "x").err(), Some(ChannelError::Degenerate));
        assert_eq!(Channel::new(&key, "zz", "x").err(), Some(ChannelError::PublicKey));
        let (server, ..) = pair();
        for damaged in ["", "00", &"é".repeat(40), &"00".repeat(24), &"0".repeat(49)] {
            assert_eq!(server.open(damaged, "c").err(), Some(ChannelError::Sealed), "{damaged}");
        }
    }
}
