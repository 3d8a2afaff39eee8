//! PURE. A token in clear and its hash: types that keep one from being printed, serialised or stored as the other.

use provisioner_wire::ids::{hex, hex_into};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A bootstrap or API token in clear. No `Serialize`, no `Display`, no SQL; `Debug` hides it; wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PlainToken(String);

impl PlainToken {
    /// Takes a token from a request or an issuer.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub fn hash(&self) -> HashedToken {
        HashedToken(hex(&Sha256::digest(self.0.as_bytes())))
    }
}

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainToken(…)")
    }
}

/// SHA-256 of a token, 64 hexadecimal digits: what is stored. Tokens have 113 random bits and more, so no slow hash is
/// needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HashedToken(String);

impl HashedToken {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `token` is the one that was hashed; in constant time.
    pub fn is_of(&self, token: &PlainToken) -> bool {
        self.0.as_bytes().ct_eq(token.hash().0.as_bytes()).into()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token's SHA-256 (64 hexadecimal digits)")]
pub struct BadHash;

impl TryFrom<String> for HashedToken {
    type Error = BadHash;
    fn try_from(text: String) -> Result<Self, BadHash> {
        hex_into(&text, &mut [0; 32]).ok_or(BadHash)?;
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl From<HashedToken> for String {
    fn from(hash: HashedToken) -> Self {
        hash.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_and_never_shown() {
        let token = PlainToken::new("abcdef.0123456789abcdef");
        assert!(token.hash().is_of(&token) && !token.hash().is_of(&PlainToken::new("x")));
        let printed = format!("{token:?} {:?}", token.hash());
        assert!(!printed.contains("0123456789abcdef"), "{printed}");
        let json = serde_json::to_string(&token.hash()).unwrap();
        assert_eq!(serde_json::from_str::<HashedToken>(&json).unwrap(), token.hash());
        assert!(serde_json::from_str::<HashedToken>("\"abc\"").is_err());
    }
}
