//! The server's own tokens, in kubeadm's format `[a-z0-9]{6}.[a-z0-9]{16}` (about 113 bits).
//!
//! A token is derived from the keyring and the claim, not drawn: minting twice for one claim gives the same token, so a
//! crash between minting and delivery neither loses one nor makes a second.

use super::{HashedToken, MintRequest, Minted, PlainToken, TokenError, TokenRefusal};
use crate::machine::Time;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// What [`crate::secret::Keyring::derive`] is asked for.
pub const PURPOSE: &str = "builtin tokens";

const SYMBOLS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID: usize = 6;
const SECRET: usize = 16;

/// The token of this claim. `key` is derived from the keyring for [`PURPOSE`].
pub fn mint(key: &[u8; 32], request: &MintRequest<'_>, now: Time) -> Result<Minted, TokenError> {
    let derivation = Hkdf::<Sha256>::new(Some(request.boot_hash.as_bytes()), key);
    let info = format!("{}|{}", request.machine, request.generation);
    let mut text = Zeroizing::new(String::with_capacity(ID + 1 + SECRET));
    for round in 0..8u8 {
        let mut block = Zeroizing::new([0; 64]);
        derivation
            .expand_multi_info(&[info.as_bytes(), &[round]], block.as_mut())
            .map_err(|_| TokenError::Derivation)?;
        for symbol in block.iter().filter_map(|byte| symbol(*byte)) {
            if text.len() == ID {
                text.push('.');
            }
            if text.len() < ID + 1 + SECRET {
                text.push(symbol);
            }
        }
        if text.len() == ID + 1 + SECRET {
            let token = PlainToken::new(text.as_str());
            return Ok(Minted { hash: token.hash(), expires: now + request.ttl, token });
        }
    }
    Err(TokenError::Derivation)
}

/// A token of the right form that opens nothing, for rendering without delivering.
pub fn dummy() -> PlainToken {
    PlainToken::new("dryrun.0000000000000000")
}

/// One of 36 symbols without bias: bytes from 252 on are thrown away.
fn symbol(byte: u8) -> Option<char> {
    let index = (byte < 252).then_some(usize::from(byte % 36))?;
    SYMBOLS.get(index).map(|symbol| char::from(*symbol))
}

/// Whether `text` has the form of a token.
pub fn is_well_formed(text: &str) -> bool {
    let good = |part: &str, length| part.len() == length && part.bytes().all(|c| SYMBOLS.contains(&c));
    text.split_once('.').is_some_and(|(id, secret)| good(id, ID) && good(secret, SECRET))
}

/// Whether `presented` is the live token behind `stored`. Constant time in the token.
pub fn check(
    presented: &PlainToken,
    stored: &HashedToken,
    expires: Time,
    now: Time,
) -> Result<(), TokenRefusal> {
    if !is_well_formed(presented.reveal()) || !stored.is_of(presented) {
        return Err(TokenRefusal::Wrong);
    }
    if now >= expires {
        return Err(TokenRefusal::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use provisioner_wire::{Generation, MachineName};
    use std::collections::{HashMap, HashSet};

    fn minted(key: u8, machine: &str, generation: u64, boot: &str) -> Minted {
        let machine: MachineName = machine.parse().unwrap();
        let request = MintRequest {
            machine: &machine,
            generation: Generation(generation),
            boot_hash: boot,
            ttl: std::time::Duration::from_secs(3600),
        };
        mint(&[key; 32], &request, Time(1000)).unwrap()
    }

    #[test]
    fn one_claim_one_token_and_every_other_claim_another() {
        let claims =
            [(1, "a", 1, "b"), (2, "a", 1, "b"), (1, "c", 1, "b"), (1, "a", 2, "b"), (1, "a", 1, "d")];
        let mut seen = HashSet::new();
        for (key, machine, generation, boot) in claims {
            let once = minted(key, machine, generation, boot);
            let again = minted(key, machine, generation, boot);
            assert_eq!(once.token.reveal(), again.token.reveal());
            assert!(seen.insert(once.hash));
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_and_no_other_ever() {
        let Minted { token, hash, expires } = minted(1, "a", 1, "b");
        assert_eq!(expires, Time(3_601_000));
        assert_eq!(check(&token, &hash, expires, Time(3_600_999)), Ok(()));
        assert_eq!(check(&token, &hash, expires, expires), Err(TokenRefusal::Expired));
        assert_eq!(check(&dummy(), &hash, expires, Time(0)), Err(TokenRefusal::Wrong));
        assert_eq!(check(&PlainToken::new(""), &hash, expires, Time(0)), Err(TokenRefusal::Wrong));
        assert!(is_well_formed(dummy().reveal()));
    }

    #[test]
    fn every_symbol_is_about_as_likely() {
        let mut counts: HashMap<char, u32> = HashMap::new();
        for generation in 0..2000 {
            for symbol in minted(3, "a", generation, "b").token.reveal().chars().filter(|c| *c != '.') {
                *counts.entry(symbol).or_default() += 1;
            }
        }
        // 44,000 draws over 36 symbols: mean 1222, standard deviation 34.
        assert_eq!(counts.len(), 36);
        assert!(counts.values().all(|n| (1000..1450).contains(n)), "{counts:?}");
    }

    proptest! {
        #[test]
        fn the_form_always_holds(key: u8, generation: u64, boot in "[0-9a-f]{0,64}") {
            prop_assert!(is_well_formed(minted(key, "a", generation, &boot).token.reveal()));
        }

        #[test]
        fn no_text_makes_the_check_panic(text in ".*") {
            let hash = dummy().hash();
            prop_assert!(check(&PlainToken::new(text), &hash, Time(2), Time(1)).is_err());
        }
    }
}
