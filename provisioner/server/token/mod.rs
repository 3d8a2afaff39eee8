//! Bootstrap credentials. PURE: types here, the issuers beside it.
//!
//! In: one claim and a profile's token policy. Out: at most one token for it, of which only the hash is kept.

pub mod builtin;

pub use crate::secret::{HashedToken, PlainToken};

use crate::machine::Time;
use provisioner_wire::{Generation, MachineName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// Who mints a profile's tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerKind {
    /// This server: kubeadm's format, spent by phoning home.
    #[default]
    Builtin,
}

/// The claim a token is minted for.
#[derive(Debug, Clone, Copy)]
pub struct MintRequest<'a> {
    pub machine: &'a MachineName,
    pub generation: Generation,
    /// [`provisioner_wire::BootId::hash`] of the boot id that won the claim.
    pub boot_hash: &'a str,
    pub ttl: Ttl,
}

/// A token as it leaves its issuer. Only hash and expiry may be stored.
#[derive(Debug)]
pub struct Minted {
    pub token: PlainToken,
    pub hash: HashedToken,
    pub expires: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token could not be derived from the keyring")]
    Derivation,
}

/// Why a presented token is refused. The caller of an API is told neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    #[error("not this machine's token")]
    Wrong,
    #[error("the token has expired")]
    Expired,
}

/// How long a token lives, from when it is minted: one minute to two hours; one hour where nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ttl(Duration);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a token's life (1m to 2h, like 1h or 30m)")]
pub struct BadTtl(String);

impl Ttl {
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self(Duration::from_secs(3600))
    }
}

impl FromStr for Ttl {
    type Err = BadTtl;
    fn from_str(text: &str) -> Result<Self, BadTtl> {
        parse_span(text)
            .filter(|span| (60..=7200).contains(&span.as_secs()))
            .map(Self)
            .ok_or_else(|| BadTtl(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Ttl {
    type Error = BadTtl;
    fn try_from(text: String) -> Result<Self, BadTtl> {
        text.parse()
    }
}

impl From<Ttl> for String {
    fn from(ttl: Ttl) -> Self {
        span_text(ttl.0)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&span_text(self.0))
    }
}

/// Reads a whole number with `s`, `m`, `h` or `d`.
pub fn parse_span(text: &str) -> Option<Duration> {
    let (digits, seconds) = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|digits| (digits, seconds)))?;
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// What [`parse_span`] reads, in the largest unit that is exact.
pub fn span_text(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}
