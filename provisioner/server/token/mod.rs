//! Bootstrap credentials. PURE: types here, the issuers beside it.
//!
//! In: one claim and a profile's token policy. Out: at most one token for it, of which only the hash is kept.

pub mod bootstrap;
pub mod builtin;
pub mod csr;
mod issued;
pub mod k3s;
pub mod kubeconfig;
mod plain;
pub mod talos;

pub use issued::{Grant, Issued};
pub use plain::{BadHash, HashedToken, PlainToken};

use crate::machine::Time;
use provisioner_wire::{Generation, MachineName};
use std::time::Duration;

/// The claim a token is minted for.
#[derive(Debug, Clone, Copy)]
pub struct MintRequest<'a> {
    pub machine: &'a MachineName,
    pub generation: Generation,
    /// [`provisioner_wire::BootId::hash`] of the boot id that won the claim.
    pub boot_hash: &'a str,
    /// How long it lives from now.
    pub ttl: Duration,
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
